// The stand-in itself: does it answer as the Hub is documented to?
import { test, before, after, beforeEach } from "node:test";
import assert from "node:assert/strict";
import { startHub } from "./server.mjs";
import { repositories } from "./repos.mjs";

const MISTRAL = "mistralai/Mistral-7B-v0.1";
const GATED = "meta-llama/Llama-3.1-8B";
const SMALL = "stand-in/mixed-dtypes";
const PAGE = "http://page.example";

let hub;
before(async () => {
  hub = await startHub();
});
after(() => hub.close());
beforeEach(() => hub.reset());

const get = (path, { headers = {}, ...rest } = {}) => fetch(hub.endpoint + path, { headers: { origin: PAGE, ...headers }, ...rest });
const bearer = (token) => ({ authorization: `Bearer ${token}` });
const resolve = (id, file, revision = "main") => `/${id}/resolve/${revision}/${file}`;
const range = (from, to) => ({ range: `bytes=${from}-${to}` });

async function until(condition) {
  for (const end = Date.now() + 60_000; !condition(); await new Promise((next) => setImmediate(next))) {
    assert.ok(Date.now() < end, `never came: ${condition}`);
  }
}

/** The header of a weight file, read in two steps as a client without knowledge would. */
async function readHeader(id, file) {
  const first = await get(resolve(id, file), { headers: range(0, 7) });
  const length = Number(new DataView(await first.arrayBuffer()).getBigUint64(0, true));
  const second = await get(resolve(id, file), { headers: range(8, 7 + length) });
  return { length, header: JSON.parse(await second.text()), total: Number(first.headers.get("content-range").split("/")[1]) };
}

test("descriptions have the published numbers", () => {
  const repos = Object.fromEntries(repositories().map((repo) => [repo.id, repo]));
  const facts = (id) => [repos[id].tensorCount, repos[id].storedParameters, repos[id].storedBytes];
  assert.deepEqual(facts(MISTRAL), [291, 7_241_732_096, 14_483_464_192]);
  assert.deepEqual(facts("mistralai/Mistral-7B-Instruct-v0.2"), [291, 7_241_732_096, 14_483_464_192]);
  assert.deepEqual(facts("openai-community/gpt2"), [160, 137_022_720, 548_090_880]);
  assert.deepEqual(facts("Qwen/Qwen2-7B"), [339, 7_615_616_512, 15_231_233_024]);
  assert.deepEqual(facts("Qwen/Qwen3-4B"), [398, 4_022_468_096, 8_044_936_192]);
  assert.deepEqual(facts("mistralai/Mixtral-8x7B-v0.1"), [995, 46_702_792_704, 93_405_585_408]);
  assert.deepEqual(facts(GATED), [291, 8_030_261_248, 16_060_522_496]);
  // The names, order, alignment and split are right when the files come out at their published sizes to the byte.
  const sizes = (id) => [...repos[id].files.values()].filter((file) => /^model-.*safetensors$/.test(file.path)).map((file) => file.size);
  assert.deepEqual(sizes(MISTRAL), [9_942_981_696, 4_540_516_344]);
  assert.deepEqual(sizes("mistralai/Mistral-7B-Instruct-v0.2"), [4_943_162_336, 4_999_819_336, 4_540_516_344]);
  assert.deepEqual(sizes("Qwen/Qwen2-7B"), [3_945_426_872, 3_864_726_352, 3_864_726_408, 3_556_392_240]);
  assert.deepEqual(sizes(GATED), [4_976_698_672, 4_999_802_720, 4_915_916_176, 1_168_138_808]);
  assert.equal(sizes("mistralai/Mixtral-8x7B-v0.1").length, 19);
  assert.equal(sizes("stand-in/many-shards").length, 163);
});

test("metadata: sha, files, gate, parameters", async () => {
  const answer = await get(`/api/models/${MISTRAL}`);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("access-control-allow-origin"), PAGE);
  assert.match(answer.headers.get("vary"), /Origin/);
  assert.match(answer.headers.get("access-control-expose-headers"), /X-Error-Code.*Content-Range.*X-Linked-Size/);
  const facts = await answer.json();
  assert.match(facts.sha, /^[0-9a-f]{40}$/);
  assert.equal(facts.gated, false);
  assert.deepEqual(facts.safetensors, { parameters: { BF16: 7_241_732_096 }, total: 7_241_732_096 });
  const names = facts.siblings.map((file) => file.rfilename);
  for (const name of ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "pytorch_model-00002-of-00002.bin"]) assert.ok(names.includes(name), name);

  for (const revision of ["main", facts.sha, facts.sha.slice(0, 7)]) assert.equal((await get(`/api/models/${MISTRAL}/revision/${revision}`)).status, 200);
  const wrong = await get(`/api/models/${MISTRAL}/revision/nowhere`);
  assert.deepEqual([wrong.status, wrong.headers.get("x-error-code")], [404, "RevisionNotFound"]);
  const expanded = await (await get(`/api/models/${MISTRAL}?expand=sha&expand=gated`)).json();
  assert.deepEqual(Object.keys(expanded).sort(), ["_id", "gated", "id", "sha"]);
  assert.equal((await (await get("/api/models/gpt2")).json()).id, "openai-community/gpt2");
});

test("tree and search", async () => {
  const tree = await (await get(`/api/models/${MISTRAL}/tree/main?recursive=true`)).json();
  assert.equal(tree.find((row) => row.path === "model-00001-of-00002.safetensors").size, 9_942_981_696);
  const flat = await (await get("/api/models/openai-community/gpt2/tree/main")).json();
  assert.deepEqual(flat.filter((row) => row.type === "directory").map((row) => row.path), ["onnx"]);
  const found = await (await get("/api/models?search=mistral%20instruct&limit=5")).json();
  assert.deepEqual(found.map((row) => row.id), ["mistralai/Mistral-7B-Instruct-v0.2"]);
  const two = await (await get("/api/models?search=stand-in&limit=2&sort=downloads")).json();
  assert.equal(two.length, 2);
  hub.set("search", { status: 429 });
  assert.equal((await get("/api/models?search=mistral")).status, 429);
});

test("small files: 307 to the same host", async () => {
  const step = await get(resolve(MISTRAL, "config.json"), { redirect: "manual" });
  assert.equal(step.status, 307);
  assert.match(step.headers.get("location"), /^\/api\/resolve-cache\/models\/mistralai\/Mistral-7B-v0\.1\/[0-9a-f]{40}\/config\.json/);
  assert.equal(step.headers.get("x-repo-commit"), hub.repo(MISTRAL).sha);
  const config = await (await get(resolve(MISTRAL, "config.json"))).json();
  assert.equal(config.num_key_value_heads, 8);
  assert.equal(hub.log("cdn").length, 0);
});

test("large files: 302 to the other host, which answers ranges", async () => {
  const file = "model-00001-of-00002.safetensors";
  const step = await get(resolve(MISTRAL, file), { redirect: "manual" });
  assert.equal(step.status, 302);
  assert.ok(step.headers.get("location").startsWith(`${hub.cdn}/`));
  assert.equal(step.headers.get("x-linked-size"), "9942981696");
  assert.match(step.headers.get("x-linked-etag"), /^"[0-9a-f]{64}"$/);

  const part = await get(resolve(MISTRAL, file), { headers: range(0, 99_999) });
  assert.equal(part.status, 206);
  assert.equal(part.headers.get("content-range"), "bytes 0-99999/9942981696");
  assert.equal(part.headers.get("access-control-allow-origin"), "*");
  const bytes = new Uint8Array(await part.arrayBuffer());
  assert.equal(bytes.length, 100_000);
  assert.equal(bytes[99_999], 0);
  const tail = await get(resolve(MISTRAL, file), { headers: { range: "bytes=-4" } });
  assert.equal(tail.headers.get("content-range"), "bytes 9942981692-9942981695/9942981696");
  const beyond = await get(resolve(MISTRAL, file), { headers: range(9_942_981_696, 9_942_981_700) });
  assert.deepEqual([beyond.status, beyond.headers.get("content-range")], [416, "bytes */9942981696"]);

  const unsigned = await fetch(new URL(step.headers.get("location")).href.replace(/Signature=.*/, "Signature=0"));
  assert.equal(unsigned.status, 403);
});

test("headers are sound and add up", async () => {
  let data = 0;
  let parameters = 0;
  for (const shard of [1, 2]) {
    const { length, header, total } = await readHeader(MISTRAL, `model-0000${shard}-of-00002.safetensors`);
    assert.deepEqual(header.__metadata__, { format: "pt" });
    let next = 0;
    for (const [name, entry] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      assert.equal(entry.data_offsets[0], next, name);
      next = entry.data_offsets[1];
      parameters += entry.shape.reduce((product, n) => product * n, 1);
    }
    assert.equal(8 + length + next, total);
    data += next;
  }
  assert.deepEqual([data, parameters], [14_483_464_192, 7_241_732_096]);
  assert.ok((await readHeader("stand-in/long-header", "model.safetensors")).length > 100_000);
  const mixed = await readHeader(SMALL, "model.safetensors");
  assert.equal(mixed.header["model.norm.weight"].dtype, "F32");
  assert.equal(mixed.header["lm_head.weight"].dtype, "BF16");
});

test("gated: metadata answers, files ask for a token that was let in", async () => {
  const facts = await (await get(`/api/models/${GATED}`)).json();
  assert.equal(facts.gated, "manual");
  const anonymous = await get(resolve(GATED, "config.json"));
  assert.deepEqual([anonymous.status, anonymous.headers.get("x-error-code")], [401, "GatedRepo"]);
  const outsider = await get(resolve(GATED, "config.json"), { headers: bearer("hf_bad") });
  assert.deepEqual([outsider.status, outsider.headers.get("x-error-code")], [403, "GatedRepo"]);
  const stranger = await get(resolve(GATED, "config.json"), { headers: bearer("hf_unknown") });
  assert.equal(stranger.status, 401);
  const guest = await get(resolve(GATED, "config.json"), { headers: bearer("hf_good") });
  assert.equal((await guest.json()).vocab_size, 128_256);
});

test("the other host notices a token that reaches it", async () => {
  const file = resolve(GATED, "model-00004-of-00004.safetensors");
  await (await get(file, { headers: { ...bearer("hf_good"), ...range(0, 9) } })).arrayBuffer();
  assert.equal(hub.cdnSawAuthorization, false, "fetch drops it on the way to another origin");
  const step = await get(file, { headers: bearer("hf_good"), redirect: "manual" });
  await (await fetch(step.headers.get("location"), { headers: { ...bearer("hf_good"), ...range(0, 9) } })).arrayBuffer();
  assert.equal(hub.cdnSawAuthorization, true);
});

test("missing: not told apart from private unless a token is shown", async () => {
  for (const id of ["nobody/nothing", "stand-in/private"]) {
    const anonymous = await get(`/api/models/${id}`);
    assert.deepEqual([anonymous.status, anonymous.headers.get("x-error-code")], [401, "RepoNotFound"]);
  }
  const known = await get("/api/models/nobody/nothing", { headers: bearer("hf_good") });
  assert.deepEqual([known.status, known.headers.get("x-error-code")], [404, "RepoNotFound"]);
  assert.equal((await get("/api/models/stand-in/private", { headers: bearer("hf_good") })).status, 200);
  const entry = await get(resolve(MISTRAL, "nothing.json"));
  assert.deepEqual([entry.status, entry.headers.get("x-error-code"), entry.headers.get("x-error-message")], [404, "EntryNotFound", "Entry not found"]);
});

test("preflight lets Authorization through; pages have no CORS headers", async () => {
  const asked = { "access-control-request-method": "GET", "access-control-request-headers": "authorization" };
  const preflight = await get(resolve(GATED, "config.json"), { method: "OPTIONS", headers: asked });
  assert.equal(preflight.status, 204);
  assert.match(preflight.headers.get("access-control-allow-headers"), /authorization/i);
  const page = await get(`/${MISTRAL}/blob/main/config.json`);
  assert.equal(page.headers.get("access-control-allow-origin"), null);
});

test("errors on demand, for a number of times", async () => {
  hub.set(SMALL, { status: 503, times: 2 });
  const statuses = [];
  for (let n = 0; n < 3; n++) statuses.push((await get(`/api/models/${SMALL}`)).status);
  assert.deepEqual(statuses, [503, 503, 200]);
  const limited = await get("/api/models/busy/rate-limited");
  assert.equal(limited.status, 429);
  assert.doesNotMatch(limited.headers.get("access-control-expose-headers"), /ratelimit|retry-after/i);
  hub.set(`${SMALL}:api`, { status: 429, retryAfter: 7 });
  const told = await get(`/api/models/${SMALL}`);
  assert.equal(told.headers.get("retry-after"), "7");
  assert.match(told.headers.get("access-control-expose-headers"), /retry-after/i);
  hub.set(`${SMALL}:api`, { body: '{"id": ' });
  await assert.rejects(get(`/api/models/${SMALL}`).then((answer) => answer.json()), SyntaxError);
  hub.set(`${SMALL}:config.json`, { body: "<html>" });
  assert.equal(await (await get(resolve(SMALL, "config.json"))).text(), "<html>");
});

test("bodies that break, lie or dawdle", async () => {
  const file = resolve(SMALL, "model.safetensors");
  const body = async (behaviour, headers = range(0, 99_999)) => {
    hub.set(`${SMALL}:*.safetensors`, behaviour);
    const answer = await get(file, { headers });
    let received = 0;
    try {
      for await (const chunk of answer.body) received += chunk.length;
      return { received, whole: true, answer };
    } catch {
      return { received, whole: false, answer };
    }
  };
  const cut = await body({ cutAfter: 0.5 });
  assert.deepEqual([cut.received, cut.whole], [50_000, false]);
  const short = await body({ shortBy: 1 });
  assert.deepEqual([short.received, short.whole], [99_999, false]);
  const lie = await body({ sizeOff: -7 });
  assert.equal(lie.answer.headers.get("content-range"), `bytes 0-99999/${hub.repo(SMALL).files.get("model.safetensors").size - 7}`);
  const slow = await body({ chunkBytes: 25_000, chunkDelay: 5 });
  assert.deepEqual([slow.received, slow.whole], [100_000, true]);

  // Everything at once, 2.2 GB of it: what a client that asked for a range must not read to the end.
  hub.set(`${SMALL}:*.safetensors`, { ignoreRange: true });
  const all = await get(file, { headers: range(0, 99_999) });
  assert.deepEqual([all.status, all.headers.get("content-length")], [200, String(hub.repo(SMALL).files.get("model.safetensors").size)]);
  await all.body.cancel();
  await until(() => hub.inFlight === 0);
});

test("held answers wait, and the log counts what is in flight", async () => {
  hub.set(`${SMALL}:model.safetensors`, { hold: true });
  const waiting = [1, 2, 3].map(() => get(resolve(SMALL, "model.safetensors"), { headers: range(0, 9) }));
  await until(() => hub.held === 3);
  assert.equal(hub.inFlight, 3);
  hub.release(SMALL);
  for (const answer of await Promise.all(waiting)) assert.equal((await answer.arrayBuffer()).byteLength, 10);
  await until(() => hub.inFlight === 0);
  assert.equal(hub.maxInFlight, 3);

  const stop = new AbortController();
  const abandoned = get(resolve(SMALL, "model.safetensors"), { signal: stop.signal }).catch(() => "abandoned");
  await until(() => hub.held === 1);
  stop.abort();
  assert.equal(await abandoned, "abandoned");
  await until(() => hub.inFlight === 0);
  assert.deepEqual([hub.held, hub.requests.at(-1).finished], [0, false]);
  const entry = hub.requests[0];
  assert.deepEqual([entry.kind, entry.method, entry.repo, entry.file, entry.range, entry.origin, entry.authorization], ["resolve", "GET", SMALL, "model.safetensors", "bytes=0-9", PAGE, false]);
});
