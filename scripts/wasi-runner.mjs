// Runs one wasm32-wasip1 program under Node: cargo calls it for the engine's tests on wasm32.
// The program sees the working folder, under its own path and as "/", and the environment.
//
// A program of WebAssembly cannot end the process that it runs in with SIGSEGV: where that happens, it is Node's own fault
// (github.com/nodejs/node/issues/46777: V8's short way into WASI's functions collects garbage where it must not). So it runs in
// a process of its own, without that short way, and again, twice at most, where that process crashes all the same.
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { WASI } from "node:wasi";

const INSIDE = "VRAMFIT_WASI_INSIDE";
const RUNS = 3;
const [program, ...args] = process.argv.slice(2);

async function run() {
  const here = process.cwd();
  const { [INSIDE]: _, ...env } = process.env;
  const wasi = new WASI({ version: "preview1", args: [program, ...args], env, preopens: { "/": here, [here]: here }, returnOnExit: true });
  const module = await WebAssembly.compile(await readFile(program));
  // The short way is for bound functions, which Node's own are, and for what has been compiled from JavaScript.
  const functions = Object.fromEntries(Object.entries(wasi.wasiImport).map(([name, call]) => [name, (...values) => call(...values)]));
  return wasi.start(await WebAssembly.instantiate(module, { wasi_snapshot_preview1: functions }));
}

function runApart() {
  const inside = [...process.execArgv, "--no-turbo-fast-api-calls", fileURLToPath(import.meta.url), program, ...args];
  for (let left = RUNS - 1; ; left -= 1) {
    const { status, signal, error } = spawnSync(process.execPath, inside, { stdio: "inherit", env: { ...process.env, [INSIDE]: "yes" } });
    if (error) throw error;
    if (signal !== "SIGSEGV" || left === 0) return status ?? 1;
    console.error(`Node crashed (${signal}) while it ran ${program}; once more.`);
  }
}

process.exitCode = process.env[INSIDE] ? await run() : runApart();
