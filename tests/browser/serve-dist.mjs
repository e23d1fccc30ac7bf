// A small static server of dist/: right content types, brotli or gzip, hashed files kept for ever.
//
//   node serve-dist.mjs [--port N] [--open]      serves until stopped, and prints the address
//   import { serveDist } from "./serve-dist.mjs" serves for a test
import { spawn, spawnSync } from "node:child_process";
import { readFile, readdir, stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import zlib from "node:zlib";

export const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".csv": "text/csv; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".wasm": "application/wasm",
};
// Trunk puts a hash of 16 hexadecimal digits into the names of what may be kept for ever.
const HASHED = /-[0-9a-f]{16}(_bg)?\.\w+$/;

const brotliCompress = promisify(zlib.brotliCompress);
const gzipCompress = promisify(zlib.gzip);

/** The bytes as a careful static host would have them compressed beforehand, or quicker. */
export const brotli = (bytes, quality = 11) =>
  brotliCompress(bytes, {
    params: { [zlib.constants.BROTLI_PARAM_QUALITY]: quality, [zlib.constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
  });
export const gzip = (bytes) => gzipCompress(bytes, { level: 9 });

/**
 * Serves `dir` on loopback. Gives { url, port, requests, warm, close }: `requests` lists the paths asked for,
 * `warm` compresses everything beforehand. `quality` is that of brotli: the best takes seconds for the second module.
 */
export async function serveDist({ dir = DIST, port = 0, host = "127.0.0.1", quality = 5 } = {}) {
  const root = path.resolve(dir);
  const requests = [];
  const cache = new Map();

  // The body in the wanted encoding, compressed once per version of the file.
  async function body(file, encoding) {
    const { mtimeMs, size } = await stat(file);
    const key = `${encoding} ${file}`;
    let entry = cache.get(key);
    if (!entry || entry.mtimeMs !== mtimeMs || entry.size !== size) {
      const bytes = readFile(file);
      const compress = { br: (raw) => brotli(raw, quality), gzip, identity: (raw) => raw }[encoding];
      entry = { mtimeMs, size, bytes: bytes.then(compress) };
      cache.set(key, entry);
    }
    return entry.bytes;
  }

  async function answer(request, response) {
    const send = (status, headers, bytes) => {
      response.writeHead(status, { "x-content-type-options": "nosniff", ...headers });
      response.end(request.method === "HEAD" ? undefined : bytes);
    };
    if (request.method !== "GET" && request.method !== "HEAD") return send(405, { allow: "GET, HEAD" }, "Only GET and HEAD.\n");
    let name;
    try {
      name = decodeURIComponent(new URL(request.url, "http://dist").pathname);
    } catch {
      return send(400, {}, "Not an address.\n");
    }
    requests.push(name);
    const file = path.join(root, name.endsWith("/") ? `${name}index.html` : name);
    if (!file.startsWith(root + path.sep) || name.includes("\0")) return send(404, {}, "Not here.\n");
    const accepted = String(request.headers["accept-encoding"] || "").split(",").map((one) => one.trim().split(";")[0]);
    const extension = path.extname(file);
    const encoding = extension === ".png" ? "identity" : ["br", "gzip"].find((one) => accepted.includes(one)) || "identity";
    let bytes;
    try {
      bytes = await body(file, encoding);
    } catch {
      return send(404, { "content-type": "text/plain; charset=utf-8" }, "Not here.\n");
    }
    return send(200, {
      "content-type": TYPES[extension] || "application/octet-stream",
      "content-length": bytes.length,
      "cache-control": HASHED.test(file) ? "public, max-age=31536000, immutable" : "no-cache",
      vary: "accept-encoding",
      ...(encoding === "identity" ? {} : { "content-encoding": encoding }),
    }, bytes);
  }

  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  await new Promise((done, failed) => {
    server.once("error", failed);
    server.listen(port, host, done);
  });
  const taken = server.address().port;
  return {
    url: `http://${host}:${taken}/`,
    port: taken,
    requests,
    async warm() {
      const names = await readdir(root, { recursive: true, withFileTypes: true });
      await Promise.all(names.filter((entry) => entry.isFile())
        .map((entry) => body(path.join(entry.parentPath ?? entry.path, entry.name), "br")));
    },
    close: () => new Promise((done) => {
      server.close(done);
      server.closeAllConnections();
    }),
  };
}

// Opens the address where there is a desktop to open it on.
function openBrowser(url) {
  const desktop = process.platform === "darwin" || process.env.DISPLAY || process.env.WAYLAND_DISPLAY;
  const opener = process.platform === "darwin" ? "open" : "xdg-open";
  if (!desktop || spawnSync("sh", ["-c", `command -v ${opener}`]).status !== 0) return false;
  const child = spawn(opener, [url], { detached: true, stdio: "ignore" });
  child.on("error", () => {});
  child.unref();
  return true;
}

async function main(args) {
  const at = args.indexOf("--port");
  const wanted = at >= 0 ? Number(args[at + 1]) : 8080;
  if (!Number.isInteger(wanted) || wanted < 0 || wanted > 65535) {
    console.error("serve-dist: --port wants a number from 0 to 65535.");
    process.exit(2);
  }
  let server;
  for (const port of [...Array.from({ length: 20 }, (_, i) => wanted + i).filter((one) => one <= 65535), 0]) {
    try {
      server = await serveDist({ port });
      break;
    } catch (error) {
      if (error.code !== "EADDRINUSE" && error.code !== "EACCES") throw error;
    }
  }
  if (wanted !== 0 && server.port !== wanted) console.log(`Port ${wanted} is taken.`);
  console.log(`\nvramfit is at ${server.url}\n`);
  const opened = args.includes("--open") && openBrowser(server.url);
  console.log(`${opened ? "A browser was asked to open it. " : ""}Ctrl-C ends it.`);
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await main(process.argv.slice(2));
