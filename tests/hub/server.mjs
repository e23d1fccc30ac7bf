// A stand-in of the Hugging Face Hub for tests: the routes, redirects, ranges, CORS headers and errors of the
// real one on two loopback ports, because the Hub and the host of its large files are two origins and a client
// that is careless about that must be caught here.
//
//   const hub = await startHub();            // {endpoint, cdn, requests, maxInFlight, set, release, close ...}
//   node tests/hub/server.mjs [port]         // by hand: prints the address and the repositories
//
// Misbehaviour is set per repository, per path or for the metadata call:
//
//   hub.set("org/name", { status: 503 })                        every answer of the repository
//   hub.set("org/name", { status: 503, times: 2 })              the first two, then as usual
//   hub.set("org/name:api", { body: "{" })                      the metadata call: an answer that is not JSON
//   hub.set("search", { hold: true })                           the search: answers when hub.release("search") is called
//   hub.set("org/name:config.json", { delay: 200 })             one file, 200 ms late
//   hub.set("org/name:*.safetensors", { chunkBytes: 1024, chunkDelay: 50 })
//   hub.set("org/name:model.safetensors", { hold: true })       answers when hub.release("org/name") is called
//   hub.holdAfter("org/name", 20)                               the same for every weight file after the first twenty
//   hub.set("org/name", null)                                   as usual again
//
// Fields: status, code, message (answer an error); retryAfter (seconds, with it, which pages may read); times; delay, hold; body (other text instead);
// chunkBytes, chunkDelay (slow); cutAfter (share of the body after which the connection breaks);
// shortBy (the body ends that many bytes before Content-Length says, then the connection breaks);
// sizeOff (the size said in Content-Range and X-Linked-Size is wrong by that much); ignoreRange (200 and everything);
// noCors. `status`, `delay` and `hold` act on the Hub, the rest where the body comes from.

import { createServer } from "node:http";
import { once } from "node:events";
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import * as catalogue from "./repos.mjs";

const EXPOSED =
  "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash";
const TREE_PAGE = 1000;
const ZEROS = Buffer.alloc(64 * 1024);

const MESSAGES = {
  401: "Invalid username or password.",
  403: "Forbidden",
  404: "Not Found",
  429: "We had to rate limit your IP. To continue using our service, create a HF account or login to your existing account, and make sure you pass a HF_TOKEN if you're using the API.",
  500: "Internal Error - We're working hard to fix this as soon as possible!",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

/** An answer that is an error; `code` becomes X-Error-Code. */
class Refusal extends Error {
  constructor(status, message, code) {
    super(message ?? MESSAGES[status] ?? "Error");
    this.status = status;
    this.code = code;
  }
}

/**
 * Start the two servers. `repos` are descriptions from repos.mjs; options: port (of the Hub; 0 takes a free one),
 * tokens ({token: [ids it opens]}), aliases ({old: "org/name"}).
 */
export async function startHub(repos = catalogue.repositories(), options = {}) {
  const hub = new Hub(repos, { tokens: catalogue.tokens, aliases: catalogue.aliases, port: 0, ...options });
  await hub.listen();
  return hub;
}

class Hub {
  #repos;
  #options;
  #rules = new Map(); // "id" or "id:path" -> behaviour
  #held = new Set(); // {id, go}
  #servers = [];
  /** Every request in the order of arrival, those of the other host among them. */
  requests = [];
  inFlight = 0;
  maxInFlight = 0;

  constructor(repos, options) {
    this.#repos = new Map(repos.map((repo) => [repo.id, repo]));
    this.#options = options;
    this.reset();
  }

  async listen() {
    for (const [at, port] of [["hub", this.#options.port], ["cdn", 0]]) {
      const server = createServer((request, response) => this.#serve(at, request, response));
      server.keepAliveTimeout = 60_000;
      this.#servers.push(server);
      server.listen(port, "127.0.0.1");
      await once(server, "listening");
    }
    const [hub, cdn] = this.#servers.map((server) => `http://127.0.0.1:${server.address().port}`);
    this.endpoint = hub;
    this.cdn = cdn;
  }

  /** Forget what happened and what was set; the behaviour that descriptions bring along stays. */
  reset() {
    this.release();
    this.requests.length = 0;
    this.maxInFlight = this.inFlight;
    this.#rules.clear();
    for (const repo of this.#repos.values()) {
      for (const [part, behaviour] of Object.entries(repo.behaviour)) this.set(part ? `${repo.id}:${part}` : repo.id, behaviour);
    }
  }

  set(target, behaviour) {
    if (behaviour) this.#rules.set(target, { ...behaviour });
    else this.#rules.delete(target);
  }

  /** Answer that many weight files of a repository, in the order of their names, and hold all others back. */
  holdAfter(id, count) {
    const weights = [...this.repo(id).files.keys()].filter((name) => name.endsWith(".safetensors")).sort();
    for (const name of weights.slice(count)) this.set(`${id}:${name}`, { hold: true });
  }

  /** Let held answers go: those of one repository, or all. */
  release(id) {
    for (const held of this.#held) {
      if (id !== undefined && held.id !== id) continue;
      this.#held.delete(held);
      held.go();
    }
  }

  repo(id) {
    return this.#repos.get(id);
  }

  get ids() {
    return [...this.#repos.keys()];
  }

  /** Answers that wait for release() just now. */
  get held() {
    return this.#held.size;
  }

  /** Whether a token ever reached (or was about to reach) the host of the large files. */
  get cdnSawAuthorization() {
    return this.requests.some((entry) => entry.at === "cdn" && entry.authorization);
  }

  /** Log entries of a kind: "api", "tree", "search", "resolve", "resolve-cache", "cdn", "page", "preflight". */
  log(kind, repo) {
    return this.requests.filter((entry) => entry.kind === kind && (repo === undefined || entry.repo === repo));
  }

  async close() {
    this.release();
    await Promise.all(
      this.#servers.map((server) => {
        const closed = once(server, "close");
        server.close();
        server.closeAllConnections();
        return closed;
      }),
    );
  }

  // -------------------------------------------------------------------------------------------------------

  async #serve(at, request, response) {
    const url = new URL(request.url, at === "hub" ? this.endpoint : this.cdn);
    const asked = request.headers["access-control-request-headers"] ?? "";
    const entry = {
      at,
      kind: "other",
      method: request.method,
      path: url.pathname,
      query: url.search,
      host: request.headers.host,
      range: request.headers.range ?? null,
      origin: request.headers.origin ?? null,
      authorization: request.headers.authorization !== undefined || /\bauthorization\b/i.test(asked),
      repo: null,
      file: null,
      status: null,
      finished: false,
    };
    this.requests.push(entry);
    this.inFlight += 1;
    this.maxInFlight = Math.max(this.maxInFlight, this.inFlight);
    let counted = true;
    const done = (finished) => {
      if (!counted) return;
      counted = false;
      this.inFlight -= 1;
      entry.finished = finished;
      entry.status = response.statusCode;
    };
    response.once("finish", () => done(true));
    response.once("close", () => done(false));
    response.on("error", () => {});

    const call = { request, response, url, entry, cors: true };
    try {
      if (at === "hub") await this.#hubRoute(call);
      else await this.#cdnRoute(call);
    } catch (error) {
      if (!(error instanceof Refusal)) console.error("stand-in:", error);
      this.#refuse(call, error instanceof Refusal ? error : new Refusal(500, String(error)));
    }
  }

  #headers({ entry, request, cors }, extra = {}) {
    const headers = { "cache-control": "no-store", ...extra };
    if (entry.at === "cdn") {
      if (cors) Object.assign(headers, { "access-control-allow-origin": "*", "access-control-expose-headers": "*" });
    } else {
      headers["x-request-id"] = `Root=1-${createHash("sha1").update(`${this.requests.length}`).digest("hex").slice(0, 24)}`;
      headers.vary = "Origin";
      if (cors && request.headers.origin !== undefined) {
        headers["access-control-allow-origin"] = request.headers.origin;
        headers["access-control-expose-headers"] = "retry-after" in headers ? `${EXPOSED},Retry-After` : EXPOSED;
        headers["access-control-max-age"] = "86400";
      }
    }
    return headers;
  }

  #send(call, status, headers, body = "") {
    const bytes = Buffer.from(body);
    call.response.writeHead(status, this.#headers(call, { "content-length": bytes.length, ...headers }));
    call.response.end(call.request.method === "HEAD" ? undefined : bytes);
  }

  #sendJson(call, value, headers = {}) {
    this.#send(call, 200, { "content-type": "application/json; charset=utf-8", ...headers }, JSON.stringify(value));
  }

  #refuse(call, { status, message, code }) {
    if (call.response.headersSent) return call.response.destroy();
    if (call.entry.at === "cdn") {
      const word = status === 416 ? "InvalidRange" : "AccessDenied";
      return this.#send(call, status, { "content-type": "application/xml", ...call.extra }, `<?xml version="1.0"?><Error><Code>${word}</Code><Message>${message}</Message></Error>`);
    }
    const headers = { "x-error-message": message, ...call.extra };
    if (code) headers["x-error-code"] = code;
    if (status === 429) headers.ratelimit = '"api";r=0;t=55'; // not among the exposed headers, as on the Hub
    const api = call.url.pathname.startsWith("/api/");
    headers["content-type"] = api ? "application/json; charset=utf-8" : "text/plain; charset=utf-8";
    this.#send(call, status, headers, api ? JSON.stringify({ error: message }) : message);
  }

  /** What was set for this repository and path; a rule with `times` wears out. */
  #behaviour(id, part, acts) {
    const merged = {};
    for (const [target, rule] of this.#rules) {
      const colon = target.indexOf(":");
      if ((colon < 0 ? target : target.slice(0, colon)) !== id) continue;
      const pattern = colon < 0 ? null : target.slice(colon + 1);
      const matches = pattern === null || pattern === part || (pattern.startsWith("*") && part.endsWith(pattern.slice(1)));
      if (!matches || !acts(rule)) continue;
      if (rule.times !== undefined) {
        if (rule.times <= 0) continue;
        rule.times -= 1;
      }
      Object.assign(merged, rule);
    }
    return merged;
  }

  /** The part of a behaviour that acts before the answer: on the Hub, never on the other host. */
  async #before(call, id, part) {
    const early = (rule) => rule.status !== undefined || rule.delay !== undefined || rule.hold || rule.noCors;
    const rule = this.#behaviour(id, part, early);
    if (rule.noCors) call.cors = false;
    if (rule.delay) await sleep(rule.delay);
    if (rule.hold) {
      await new Promise((go) => {
        const held = { id, go };
        this.#held.add(held);
        call.response.once("close", () => {
          this.#held.delete(held);
          go();
        });
      });
    }
    if (rule.retryAfter !== undefined) call.extra = { "retry-after": String(rule.retryAfter) };
    if (rule.status) throw new Refusal(rule.status, rule.message, rule.code);
  }

  // -------------------------------------------------------------------------------------------------------
  // Who may see what

  #token({ request }) {
    const header = request.headers.authorization;
    if (header === undefined) return null;
    const token = /^Bearer (\S+)$/.exec(header)?.[1];
    if (token === undefined || !(token in this.#options.tokens)) {
      throw new Refusal(401, "Invalid credentials in Authorization header");
    }
    return token;
  }

  #find(call, id, { files }) {
    const token = this.#token(call);
    const repo = this.#repos.get(id);
    const opens = token !== null && repo !== undefined && this.#options.tokens[token].includes(id);
    call.entry.repo = id;
    if (repo === undefined || (repo.private && !opens)) {
      if (token === null) throw new Refusal(401, "Invalid username or password.", "RepoNotFound");
      throw new Refusal(404, "Repository not found", "RepoNotFound");
    }
    if (files && repo.gated && !opens) {
      if (token === null) {
        throw new Refusal(401, `Access to model ${id} is restricted. You must have access to it and be authenticated to access it. Please log in.`, "GatedRepo");
      }
      throw new Refusal(403, `Access to model ${id} is restricted and you are not in the authorized list. Visit ${this.endpoint}/${id} to ask for access.`, "GatedRepo");
    }
    return repo;
  }

  #revision(repo, revision) {
    const known = revision === "main" || (/^[0-9a-f]{7,40}$/.test(revision) && repo.sha.startsWith(revision));
    if (!known) throw new Refusal(404, `Invalid rev id: ${revision}`, "RevisionNotFound");
  }

  // -------------------------------------------------------------------------------------------------------
  // The Hub

  async #hubRoute(call) {
    const { request, entry, url } = call;
    if (request.method === "OPTIONS") {
      entry.kind = "preflight";
      const allowed = { "access-control-allow-methods": "GET,HEAD,PUT,POST,DELETE,PATCH", "access-control-allow-headers": "Authorization,Content-Type,Range" };
      return this.#send(call, 204, allowed);
    }
    if (request.method !== "GET" && request.method !== "HEAD") throw new Refusal(405, "Method not allowed");

    const parts = url.pathname.split("/").slice(1).map(decodeURIComponent);
    const [first, second, third] = parts;
    if (first === "api" && second === "models" && (third === undefined || third === "")) return this.#search(call);
    if (first === "api" && second === "models") return this.#api(call, parts.slice(2));
    if (first === "api" && second === "resolve-cache" && third === "models") {
      entry.kind = "resolve-cache";
      const repo = this.#find(call, `${parts[3]}/${parts[4]}`, { files: true });
      this.#revision(repo, parts[5]);
      return this.#body(call, repo, this.#file(call, repo, parts.slice(6).join("/")));
    }

    const alias = this.#options.aliases[first];
    if (alias && second === "resolve") return this.#moved(call, `/${alias}/${parts.slice(1).join("/")}`);
    if (third === "resolve") return this.#resolve(call, `${first}/${second}`, parts[3], parts.slice(4).join("/"));

    // Pages for people: these have no CORS headers, so a script cannot read them.
    entry.kind = "page";
    call.cors = false;
    if (!this.#repos.has(`${first}/${second}`)) throw new Refusal(404, "Repository not found", "RepoNotFound");
    this.#send(call, 200, { "content-type": "text/html; charset=utf-8" }, `<!doctype html><title>${first}/${second}</title>`);
  }

  #moved(call, location) {
    this.#send(call, 307, { location: location + call.url.search, "content-type": "text/plain; charset=utf-8" }, `Temporary Redirect. Redirecting to ${location}`);
  }

  async #search(call) {
    call.entry.kind = "search";
    await this.#before(call, "search", "");
    const rule = this.#behaviour("search", "", (set) => set.body !== undefined);
    if (rule.body !== undefined) return this.#send(call, 200, { "content-type": "application/json; charset=utf-8" }, rule.body);
    const words = (call.url.searchParams.get("search") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const limit = Number(call.url.searchParams.get("limit") ?? 1000);
    const found = [...this.#repos.values()].filter((repo) => !repo.private && words.every((word) => repo.id.toLowerCase().includes(word)));
    const rows = found.slice(0, limit).map((repo) => ({ _id: repo.storageId, id: repo.id, modelId: repo.id, likes: 1, downloads: 1, private: false, gated: repo.gated, tags: ["safetensors"], pipeline_tag: "text-generation", library_name: "transformers" }));
    this.#sendJson(call, rows);
  }

  async #api(call, parts) {
    const { entry, url } = call;
    if (parts.length === 1 || ["revision", "tree"].includes(parts[1])) {
      const alias = this.#options.aliases[parts[0]];
      if (!alias) throw new Refusal(401, MESSAGES[401], "RepoNotFound");
      return this.#moved(call, `/api/models/${[alias, ...parts.slice(1)].join("/")}`);
    }
    const id = parts.slice(0, 2).join("/");
    const [verb, revision = "main", ...folder] = parts.slice(2);
    entry.kind = verb === "tree" ? "tree" : "api";
    entry.repo = id;
    await this.#before(call, id, entry.kind);
    const repo = this.#find(call, id, { files: false });
    if (verb !== undefined && verb !== "revision" && verb !== "tree") throw new Refusal(404, "Sorry, we can't find the page you are looking for.");
    this.#revision(repo, revision);

    const rule = this.#behaviour(id, entry.kind, (set) => set.body !== undefined);
    if (rule.body !== undefined) return this.#send(call, 200, { "content-type": "application/json; charset=utf-8" }, rule.body);
    if (verb === "tree") return this.#tree(call, repo, folder.join("/"));

    const blobs = url.searchParams.get("blobs") === "true";
    const facts = {
      _id: repo.storageId,
      id,
      modelId: id,
      author: id.split("/")[0],
      sha: repo.sha,
      lastModified: "2024-07-24T14:04:08.000Z",
      private: repo.private,
      gated: repo.gated,
      disabled: false,
      downloads: 1,
      likes: 1,
      library_name: "transformers",
      pipeline_tag: "text-generation",
      tags: ["transformers", ...(repo.parameters ? ["safetensors"] : []), repo.config?.model_type].filter(Boolean),
      config: repo.config && { architectures: repo.config.architectures, model_type: repo.config.model_type },
      safetensors: repo.parameters && { parameters: repo.parameters, total: repo.storedParameters },
      usedStorage: [...repo.files.values()].reduce((total, file) => total + file.size, 0),
      siblings: [...repo.files.values()].map((file) =>
        blobs ? { rfilename: file.path, size: file.size, blobId: file.oid.slice(0, 40), ...(file.large && { lfs: { sha256: file.oid, size: file.size, pointerSize: 135 } }) } : { rfilename: file.path },
      ),
    };
    const expand = [...url.searchParams.getAll("expand"), ...url.searchParams.getAll("expand[]")];
    if (expand.length === 0) return this.#sendJson(call, facts);
    const chosen = Object.fromEntries(["_id", "id", ...expand].filter((key) => facts[key] !== undefined).map((key) => [key, facts[key]]));
    this.#sendJson(call, chosen);
  }

  #tree(call, repo, folder) {
    const recursive = call.url.searchParams.get("recursive") === "true";
    const prefix = folder ? `${folder}/` : "";
    const rows = [];
    const folders = new Set();
    for (const file of repo.files.values()) {
      if (!file.path.startsWith(prefix)) continue;
      const rest = file.path.slice(prefix.length).split("/");
      for (let depth = 1; depth < rest.length; depth++) {
        const path = prefix + rest.slice(0, depth).join("/");
        if (folders.has(path) || (depth > 1 && !recursive)) continue;
        folders.add(path);
        rows.push({ type: "directory", oid: file.oid.slice(0, 40), size: 0, path });
      }
      if (rest.length > 1 && !recursive) continue;
      rows.push({ type: "file", oid: file.oid.slice(0, 40), size: file.size, path: file.path, ...(file.large && { lfs: { oid: file.oid, size: file.size, pointerSize: 135 } }) });
    }
    const from = Number(call.url.searchParams.get("cursor") ?? 0);
    const headers = {};
    if (from + TREE_PAGE < rows.length) {
      const next = new URL(call.url);
      next.searchParams.set("cursor", from + TREE_PAGE);
      headers.link = `<${next}>; rel="next"`;
    }
    this.#sendJson(call, rows.slice(from, from + TREE_PAGE), headers);
  }

  #file(call, repo, path) {
    call.entry.file = path;
    const file = repo.files.get(path);
    if (!file) throw new Refusal(404, "Entry not found", "EntryNotFound");
    return file;
  }

  async #resolve(call, id, revision, path) {
    const { entry } = call;
    entry.kind = "resolve";
    entry.repo = id;
    entry.file = path;
    await this.#before(call, id, path);
    const repo = this.#find(call, id, { files: true });
    call.extra = { "x-repo-commit": repo.sha };
    this.#revision(repo, revision);
    const file = this.#file(call, repo, path);
    if (!file.large) {
      const location = `/api/resolve-cache/models/${id}/${repo.sha}/${encodePath(path)}?etag=%22${file.oid}%22`;
      return this.#send(call, 307, { ...call.extra, location, "content-type": "text/plain; charset=utf-8", etag: `"${file.oid}"` }, `Temporary Redirect. Redirecting to ${location}`);
    }
    const { sizeOff = 0 } = this.#behaviour(id, path, (set) => set.sizeOff !== undefined);
    const location = `${this.cdn}/xet-bridge-us/${repo.storageId}/${file.oid}?response-content-disposition=inline&X-Amz-Expires=3600&X-Amz-Signature=${sign(file.oid)}`;
    const headers = {
      ...call.extra,
      location,
      "content-type": "text/plain; charset=utf-8",
      "accept-ranges": "bytes",
      "x-linked-size": file.size + sizeOff,
      "x-linked-etag": `"${file.oid}"`,
      "x-xet-hash": file.oid,
    };
    this.#send(call, 302, headers, `Found. Redirecting to ${location}`);
  }

  // -------------------------------------------------------------------------------------------------------
  // The host of the large files

  async #cdnRoute(call) {
    const { request, entry, url } = call;
    if (request.method === "OPTIONS") {
      entry.kind = "preflight";
      return this.#send(call, 200, { "access-control-allow-methods": "GET,HEAD", "access-control-allow-headers": "*" });
    }
    entry.kind = "cdn";
    const [, bucket, storage, oid] = url.pathname.split("/");
    const repo = [...this.#repos.values()].find((candidate) => candidate.storageId === storage);
    const file = repo && [...repo.files.values()].find((candidate) => candidate.oid === oid);
    if (bucket !== "xet-bridge-us" || !file || url.searchParams.get("X-Amz-Signature") !== sign(oid)) {
      throw new Refusal(403, "Access denied");
    }
    entry.repo = repo.id;
    entry.file = file.path;
    await this.#body(call, repo, file);
  }

  // -------------------------------------------------------------------------------------------------------
  // Bodies

  async #body(call, repo, file) {
    const { request, response, entry } = call;
    const shapes = ["body", "chunkBytes", "cutAfter", "shortBy", "sizeOff", "ignoreRange"];
    const rule = this.#behaviour(repo.id, file.path, (set) => shapes.some((field) => set[field] !== undefined));
    const head = rule.body === undefined ? file.head : Buffer.from(rule.body);
    const size = rule.body === undefined ? file.size : head.length;
    const saidSize = size + (rule.sizeOff ?? 0);
    const range = rule.ignoreRange ? null : parseRange(request.headers.range, size);
    const headers = { "accept-ranges": "bytes", etag: `"${file.oid}"` };
    if (entry.at === "hub") Object.assign(headers, { "x-repo-commit": repo.sha, "content-type": "text/plain; charset=utf-8" });
    else headers["content-type"] = "application/octet-stream";

    if (range === "unsatisfiable") {
      call.extra = { ...headers, "content-range": `bytes */${saidSize}` };
      delete call.extra["content-type"];
      throw new Refusal(416, "The requested range is not satisfiable");
    }
    const [from, to] = range ?? [0, size - 1];
    const length = to - from + 1;
    if (range) headers["content-range"] = `bytes ${from}-${to}/${saidSize}`;
    headers["content-length"] = length;
    response.writeHead(range ? 206 : 200, this.#headers(call, headers));
    if (request.method === "HEAD") return response.end();

    const breaks = rule.cutAfter !== undefined || rule.shortBy !== undefined;
    const end = Math.max(0, Math.min(length, Math.floor(length * (rule.cutAfter ?? 1)) - (rule.shortBy ?? 0)));
    for (let sent = 0; sent < end; ) {
      const bytes = slice(head, from + sent, Math.min(end - sent, rule.chunkBytes ?? ZEROS.length));
      if (response.destroyed) return;
      if (!response.write(bytes)) await drained(response);
      sent += bytes.length;
      if (rule.chunkDelay) await sleep(rule.chunkDelay);
    }
    if (!breaks) return response.end();
    // The front must have left before the connection goes, or the client would see nothing of it.
    response.socket?.end();
    response.destroySoon?.();
  }
}

/** Wait until more can be written, or until nobody is there to read it. */
function drained(response) {
  return new Promise((go) => {
    const over = () => {
      response.off("drain", over);
      response.off("close", over);
      go();
    };
    response.on("drain", over);
    response.on("close", over);
  });
}

/** At most `limit` bytes of a file from `offset`: what exists of it, then zeros. */
function slice(head, offset, limit) {
  if (offset < head.length) return Buffer.from(head.buffer, head.byteOffset + offset, Math.min(limit, head.length - offset));
  return ZEROS.subarray(0, Math.min(limit, ZEROS.length));
}

/** `[first, last]`, null when the whole file is meant, or "unsatisfiable". Several ranges at once mean the whole file. */
function parseRange(header, size) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  if (!match || (match[1] === "" && match[2] === "")) return null;
  if (match[1] === "") {
    const last = Number(match[2]);
    return last === 0 || size === 0 ? "unsatisfiable" : [Math.max(0, size - last), size - 1];
  }
  const from = Number(match[1]);
  const to = match[2] === "" ? size - 1 : Math.min(Number(match[2]), size - 1);
  if (match[2] !== "" && Number(match[2]) < from) return null;
  return from >= size ? "unsatisfiable" : [from, to];
}

const encodePath = (path) => path.split("/").map(encodeURIComponent).join("/");
const sign = (oid) => createHash("sha256").update(`signed ${oid}`).digest("hex");

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const hub = await startHub(undefined, { port: Number(process.argv[2] ?? 0) });
  console.log(`The stand-in of the Hub answers at ${hub.endpoint}, its large files at ${hub.cdn}\n`);
  for (const id of hub.ids) {
    const repo = hub.repo(id);
    const bytes = [...repo.files.values()].reduce((total, file) => total + file.size, 0);
    const marks = [repo.gated && "gated", repo.private && "private", ...Object.entries(repo.behaviour).map(([part, rule]) => `${part || "all"}: ${JSON.stringify(rule)}`)].filter(Boolean);
    console.log(`  ${id.padEnd(36)} ${String(repo.files.size).padStart(4)} files ${(bytes / 1e9).toFixed(2).padStart(8)} GB  ${marks.join(", ")}`);
  }
  console.log(`\nTokens: ${Object.entries(catalogue.tokens).map(([token, ids]) => `${token} (opens ${ids.join(", ") || "nothing"})`).join("; ")}`);
}
