// The native command line against the stand-in, and the figures that need a config only.
import { test, before, after, beforeEach } from "node:test";
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { access, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startHub } from "../hub/server.mjs";
import { configs } from "../hub/repos.mjs";

const VRAMFIT = process.env.VRAMFIT_CLI ?? fileURLToPath(new URL("../../target/release/vramfit", import.meta.url));
const GIB = 2 ** 30;
const MISTRAL = "mistralai/Mistral-7B-v0.1";
const GATED = "meta-llama/Llama-3.1-8B";
const CARD = ["--gpu-capacity-bytes", String(80 * GIB)];

let hub;
let folder;
before(async () => {
  await access(VRAMFIT).catch(() => assert.fail(`no command line at ${VRAMFIT}: build it, or set VRAMFIT_CLI`));
  hub = await startHub();
  folder = await mkdtemp(join(tmpdir(), "vramfit-"));
  for (const [name, config] of Object.entries(configs)) await writeFile(path(name), JSON.stringify(config, null, 2));
});
after(async () => {
  await hub?.close();
  if (folder) await rm(folder, { recursive: true });
});
beforeEach(() => hub.reset());

const path = (name) => join(folder, `org__${name}.json`);

/** An address at which nobody listens: a closed port of this machine could be another program's by now, the first one never is. */
const NOBODY = "http://127.0.0.1:1";

/** Milliseconds until something counts as never: far above what a slow and busy machine takes. */
const PATIENCE = 120_000;

/** The environment without what would change an answer: tokens, proxies, wishes about colours. */
const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(HF_|HUGGING|CLICOLOR|FORCE_COLOR|NO_COLOR)|proxy$/i.test(name)));

async function until(holds, what) {
  for (const end = Date.now() + PATIENCE; !holds(); await new Promise((next) => setTimeout(next, 20))) {
    if (Date.now() > end) assert.fail(typeof what === "function" ? what() : what);
  }
}

/** `{code, out, err}` of one run; no token comes from the environment unless given here. */
function vramfit(args, { env = {}, input = "" } = {}) {
  return new Promise((done) => {
    const child = execFile(VRAMFIT, args, { env: { ...clean, ...env }, timeout: PATIENCE, maxBuffer: 64 * 1024 * 1024 }, (error, out, err) => {
      done({ code: error ? (error.code ?? `killed by ${error.signal}`) : 0, out, err });
    });
    // A run that reads nothing may be over before its input is written: that is no failure of the run.
    child.stdin.on("error", () => {});
    child.stdin.end(input);
  });
}

async function json(args, options) {
  const { code, out, err } = await vramfit([...args, "--format", "json"], options);
  assert.equal(code, 0, err);
  const report = JSON.parse(out);
  assert.equal(report.schema, "vramfit/1");
  return report;
}

const onHub = (verb, id, ...more) => [verb, id, "--endpoint", hub.endpoint, ...more];
const entry = (report, term) => report.devices[0].entries.filter((row) => row.term === term).reduce((sum, row) => sum + row.bytes, 0);
const steady = (report, term) => report.devices[0].entries.filter((row) => row.term === term).reduce((sum, row) => sum + row.at.steady, 0);

test("repositories of several parts: a pipeline, an adapter, sentence-transformers", async () => {
  const pipeline = await json(onHub("estimate", "stand-in/pipeline", ...CARD));
  const transformer = 2 * 3072 * 64 * 2;
  const vae = 512 * 16 * 9 * 2;
  assert.deepEqual(pipeline.model.stored_bytes_by_part, { transformer, vae });
  assert.equal(entry(pipeline, "weights"), transformer + vae);
  assert.deepEqual(pipeline.devices[0].stages.map((stage) => stage.name), ["load", "text_encode", "denoise", "vae_decode"]);
  assert.equal(hub.requests.filter((request) => /fp16|whole/.test(request.path ?? request.url)).length, 0);

  const base = await json(onHub("estimate", "stand-in/mixed-dtypes", ...CARD, "--runtime", "transformers"));
  const lora = await json(onHub("estimate", "stand-in/lora", ...CARD, "--runtime", "transformers"));
  const { hidden_size: hidden, num_hidden_layers: layers, num_attention_heads: heads, num_key_value_heads: kvHeads = heads } = configs.tinyLlama;
  const parameters = layers * 8 * (2 * hidden + hidden + (hidden / heads) * kvHeads);
  assert.equal(lora.model.parameters.by_component.adapter, parameters);
  assert.equal(entry(lora, "weights") - entry(base, "weights"), 4 * parameters);

  const embedder = await json(onHub("inspect", "stand-in/embedder"));
  assert.equal(embedder.model.parameters.by_component["2_Dense"], 64 * hidden + 64);
});

test("two shards: the weights to the byte", async () => {
  const report = await json(onHub("estimate", MISTRAL, ...CARD));
  assert.equal(report.model.id, MISTRAL);
  assert.equal(report.model.source, "headers");
  assert.equal(report.model.revision, hub.repo(MISTRAL).sha);
  assert.equal(report.model.parameters.total, 7_241_732_096);
  assert.equal(report.model.stored_bytes, 14_483_464_192);
  assert.equal(entry(report, "weights"), 14_483_464_192);
  assert.equal(report.verdict.fits, true);
  assert.match(report.verdict.sentence, /fit/i);

  const [device] = report.devices;
  for (const [moment, bytes] of Object.entries({ loaded: device.loaded_bytes, steady: device.steady_bytes, peak: device.peak_bytes })) {
    assert.equal(device.entries.reduce((sum, row) => sum + row.at[moment], 0), bytes, `the entries at ${moment} add up`);
  }
  for (const row of device.entries) {
    assert.ok(row.low_bytes <= row.bytes && row.bytes <= row.high_bytes, `the band of ${row.term}`);
    assert.match(row.basis, /^(exact|derived|modelled|rule_of_thumb)$/);
    for (const bytes of [row.bytes, row.low_bytes, row.high_bytes]) assert.ok(Number.isSafeInteger(bytes), row.term);
  }
  const shards = hub.log("resolve").filter((asked) => asked.file.endsWith(".safetensors"));
  assert.equal(shards.length, 2);
  assert.ok(shards.every((asked) => asked.range.startsWith("bytes=0-")), "by range");
});

test("addresses name models too", async () => {
  for (const address of [`https://huggingface.co/${MISTRAL}`, `https://huggingface.co/${MISTRAL}/blob/main/config.json?download=true`, `hf.co/${MISTRAL}/tree/main`]) {
    assert.equal((await json(onHub("inspect", address))).model.parameters.total, 7_241_732_096, address);
  }
});

test("recipes and folders in names", async () => {
  const named = await json(onHub("inspect", "hf.co/stand-in/tiny-GGUF:q8_0"));
  assert.equal(named.model.id, "hf://stand-in/tiny-GGUF/tiny-Q8_0.gguf");
  // What is not there is said by its name, with what is there.
  const other = (await vramfit(onHub("inspect", "stand-in/tiny-GGUF:Q5_K_M"))).err;
  assert.match(other, /no GGUF file of the recipe `Q5_K_M`\. Choose one of those/);
  assert.equal(other.match(/^ {2}\S+ +\S+ GiB +hf:/gm).length, 3);
  assert.match((await vramfit(onHub("inspect", "stand-in/one-GGUF:q4"))).err, /recipe `q4`.*\n {2}Q8_0 /);
  const none = (await vramfit(onHub("inspect", "stand-in/mixed-dtypes:Q8_0"))).err;
  assert.match(none, /recipe `Q8_0`\. It has no GGUF files at all/);
  const folder = await vramfit(onHub("inspect", `${MISTRAL}/tree/main/nowhere`));
  assert.equal(folder.code, 2);
  assert.match(folder.err, /no folder `nowhere`/);
});

test("what is meant by a name, and flags without a part", async () => {
  const sizes = "layers=2,hidden=64,heads=4,intermediate=128,vocab=100";
  assert.equal((await json(["inspect", sizes])).model.source, "manual");
  // A name with a tag is no size; a slip in a size is told as one.
  const tagged = await vramfit(onHub("inspect", "mistral:7b"));
  assert.equal(tagged.code, 2);
  assert.match(tagged.err, /`mistral:7b` is a tag of Ollama's library.*ORG\/NAME:Q4_K_M/);
  assert.match((await vramfit(["inspect", sizes.replace("layers", "layerz")])).err, /`layerz` is not a size/);
  for (const [name, ...flag] of [[sizes, "--revision", "x"], [sizes, "--quant-config", "/nonexistent"], [sizes, "--endpoint", "https://hub.example"], ["-", "--revision", "x"], ["-", "--endpoint", "https://hub.example"]]) {
    const { code, err } = await vramfit(["inspect", name, ...flag], { input: JSON.stringify(configs.qwen3_4b) });
    assert.equal(code, 2);
    assert.match(err, new RegExp(`\`${flag[0]}\` has no part in`));
  }
});

test("a config.json on standard input", async () => {
  const config = JSON.stringify(configs.qwen3_4b);
  const report = JSON.parse((await vramfit(["inspect", "-", "--format", "json"], { input: config })).out);
  assert.deepEqual([report.model.source, report.model.id, report.model.parameters.total], ["config", null, 4_022_468_096]);
  const { code, err } = await vramfit(["inspect", "-"], { input: config.slice(0, 40) });
  assert.equal(code, 2);
  assert.match(err, /`-`.*JSON/);
});

test("mixed types, buffers, long headers: what the files hold", async () => {
  const mixed = await json(onHub("estimate", "stand-in/mixed-dtypes", "--runtime", "transformers", ...CARD));
  assert.equal(mixed.model.stored_bytes, 2_200_281_088);
  assert.equal(entry(mixed, "weights"), 2_200_281_088);

  const gpt2 = await json(onHub("inspect", "openai-community/gpt2"));
  assert.equal(gpt2.model.parameters.total, 124_439_808, "masks are not parameters");
  assert.equal(gpt2.model.parameters.stored, 137_022_720, "but they are in the file");
  assert.equal(gpt2.model.stored_bytes, 548_090_880);

  assert.equal((await json(onHub("inspect", "stand-in/long-header"))).model.stored_bytes, 774_636_544);
  assert.equal((await json(onHub("inspect", "mistralai/Mixtral-8x7B-v0.1"))).model.stored_bytes, 93_405_585_408);
  const v3 = await json(onHub("inspect", "mistralai/Mistral-7B-v0.3"));
  assert.equal(v3.model.stored_bytes, 14_496_047_104, "not the consolidated file as well");
  const qwen = await json(onHub("inspect", "Qwen/Qwen2-7B"));
  assert.deepEqual([qwen.model.parameters.total, qwen.model.stored_bytes], [7_615_616_512, 15_231_233_024]);
});

test("only .bin files: from the config, and said", async () => {
  const report = await json(onHub("estimate", "stand-in/only-bin", ...CARD));
  assert.equal(report.model.source, "config");
  assert.equal(report.model.parameters.total, 1_100_048_384);
  assert.match(JSON.stringify([report.assumptions, report.warnings, report.model.assumptions]), /safetensors/i);
});

test("GGUF: a choice with sizes, and each file to the byte", async () => {
  const { code, err } = await vramfit(onHub("estimate", "stand-in/tiny-GGUF", ...CARD));
  assert.equal(code, 2);
  assert.match(err, /3 GGUF files/);
  const rows = [...err.matchAll(/^ {2}(\S+) +(\S+ GiB) +(hf:\S+)$/gm)].map(([, recipe, size, address]) => ({ recipe, size, address }));
  assert.deepEqual(rows.map((row) => [row.recipe, row.size]), [["Q4_K_M", "0.59 GiB"], ["Q8_0", "1.09 GiB"], ["F16", "2.05 GiB"]]);
  // Matrices of 1,099,956,224 values, 65,536,000 of them the head; 45 norms of 2,048 in F32.
  const bytes = [(1_034_420_224 / 256) * 144 + (65_536_000 / 256) * 210, (1_099_956_224 / 32) * 34, 1_099_956_224 * 2].map((matrices) => matrices + 45 * 2048 * 4);
  for (const [index, { address }] of rows.entries()) {
    const { model } = await json(onHub("inspect", address));
    assert.deepEqual([model.source, model.stored_bytes, model.parameters.total, model.id], ["gguf", bytes[index], 1_100_048_384, address]);
    assert.equal(model.revision, hub.repo("stand-in/tiny-GGUF").sha);
  }
  const parts = hub.log("resolve", "stand-in/tiny-GGUF").filter((asked) => asked.file.startsWith("F16/"));
  assert.equal(new Set(parts.map((asked) => asked.file)).size, 3);
  assert.ok(parts.every((asked) => asked.range), "by range");

  assert.equal((await json(onHub("inspect", "stand-in/one-GGUF"))).model.stored_bytes, bytes[1]);
  const broken = await vramfit(onHub("inspect", "broken/cut-GGUF"));
  assert.equal(broken.code, 2);
  assert.match(broken.err, /cut\.Q8_0\.gguf.*cut off/);
});

test("163 shards: one request each, at most eight in flight", async () => {
  const id = "stand-in/many-shards";
  hub.set(`${id}:*.safetensors`, { hold: true });
  const answer = json(onHub("inspect", id));
  await until(() => hub.held >= 8, "eight should be under way at once");
  hub.set(`${id}:*.safetensors`, null);
  hub.release(id);
  const report = await answer;
  assert.equal(report.model.stored_bytes, 72_769_642_496);
  const asked = hub.requests.filter((request) => request.at === "hub" && request.kind !== "resolve-cache");
  const perShard = new Map();
  for (const { file } of hub.log("resolve", id)) if (file.endsWith(".safetensors")) perShard.set(file, (perShard.get(file) ?? 0) + 1);
  assert.equal(perShard.size, 163);
  assert.equal(Math.max(...perShard.values()), 1);
  assert.ok(asked.length <= 163 + 3, `${asked.length}: shards, metadata, config and at most an index`);
  assert.equal(hub.maxInFlight, 8, "at once, and never more");
});

test("163 shards: progress is seen on a terminal, Ctrl-C leaves nothing running", async (t) => {
  if (process.platform !== "linux") return t.skip("`script` of other systems takes other flags");
  const id = "stand-in/many-shards";
  hub.holdAfter(id, 20);
  // `script` of util-linux gives it a terminal, of a kind that has a cursor wherever this runs.
  const command = `'${VRAMFIT}' inspect ${id} --endpoint ${hub.endpoint}`;
  const child = spawn("script", ["-qec", command, "/dev/null"], { env: { ...clean, TERM: "xterm" }, stdio: ["pipe", "pipe", "ignore"] });
  let shown = "";
  let over = null;
  child.stdout.on("data", (text) => (shown += text));
  child.stdin.on("error", () => {});
  child.on("error", (error) => (over = error));
  child.on("exit", (code) => (over ??= code ?? "killed"));
  await until(() => over !== null || child.pid !== undefined, "`script` should start");
  if (over?.code === "ENOENT") return t.skip("there is no `script` here");
  try {
    const counted = () => Number([...shown.matchAll(/(\d+)\/163 files/g)].at(-1)?.[1] ?? 0);
    // All that is under way has come to the Hub, so what comes after Ctrl-C would be new.
    await until(() => over !== null || (counted() > 8 && hub.held >= 8), () => `files should be counted; shown: ${shown.slice(-300)}`);
    assert.equal(over, null, `it should be under way still; shown: ${shown.slice(-300)}`);
    assert.match(shown, /\d+\/163 files \d+ KB/);
    const asked = hub.requests.length;
    child.stdin.write("\x03");
    await until(() => over !== null, "Ctrl-C should end it");
    await until(() => hub.inFlight === 0, "nothing should be in flight");
    assert.equal(hub.requests.length, asked, "nothing is asked for any more");
    assert.ok(hub.log("resolve", id).filter((entry) => entry.file.endsWith(".safetensors")).length <= 28, "it was broken off");
  } finally {
    if (over === null) child.kill();
  }
});

test("rate limits: as long as the Hub asks to wait, or at once how long that is", async () => {
  const id = "stand-in/mixed-dtypes";
  hub.set(`${id}:api`, { status: 429, retryAfter: 1, times: 1 });
  assert.equal((await json(onHub("inspect", id))).model.stored_bytes, 2_200_281_088);
  assert.deepEqual(hub.log("api", id).map((asked) => asked.status), [429, 200]);
  hub.requests.length = 0;
  hub.set(`${id}:api`, { status: 429, retryAfter: 120 });
  const { code, err } = await vramfit(onHub("inspect", id));
  assert.equal(code, 2);
  assert.match(err, /asks to wait 2 minutes.*try again then/is);
  assert.equal(hub.log("api", id).length, 1, "nobody waits that long in silence");
  assert.match((await vramfit(onHub("inspect", "busy/rate-limited"))).err, /asks to wait 55 seconds/, "as the Hub's own header says it");
});

test("files tell the quantisation that their config leaves out", async () => {
  const report = await json(onHub("estimate", "stand-in/unsaid-gptq", ...CARD, "--runtime", "transformers"));
  assert.match(JSON.stringify(report.assumptions), /GPTQ, 4 bits, groups of 128/);
  assert.equal(report.model.parameters.total, 1_100_048_384);
  assert.equal(entry(report, "weights"), report.model.stored_bytes);
  const unpacked = await json(onHub("estimate", "stand-in/unsaid-gptq", ...CARD, "--runtime", "transformers", "--weights", "fp16"));
  assert.equal(entry(unpacked, "weights"), 2 * 1_100_048_384, "what it would take unpacked");
});

test("errors: exit code 2, on stderr, with what to do", async () => {
  const cases = [
    [GATED, /gated/i, /token/i],
    ["nobody/nothing", /not found|does not exist|no such|missing/i, /private|token|spell/i],
    ["busy/rate-limited", /rate|too many|limit/i, /minute|later|again|wait/i],
    ["busy/server-error", /503|server/i, /later|again/i],
    ["broken/malformed-config", /config/i],
    ["stand-in/no-config", /config/i],
    ["no such id", /\S/],
  ];
  for (const [id, ...patterns] of cases) {
    const { code, out, err } = await vramfit(onHub("estimate", id, ...CARD));
    assert.equal(code, 2, `${id}: ${out}${err}`);
    assert.equal(out, "", id);
    for (const pattern of patterns) assert.match(err, pattern, id);
    assert.doesNotMatch(err, /panicked|\u001b\[/, id);
  }
  const revision = await vramfit(onHub("estimate", MISTRAL, "--revision", "nowhere", ...CARD));
  assert.equal(revision.code, 2);
  assert.match(revision.err, /nowhere|revision/i);

  const nobody = await vramfit(["estimate", MISTRAL, "--endpoint", NOBODY, ...CARD]);
  assert.equal(nobody.code, 2);
  assert.match(nobody.err, /reach|connect|network|offline/i);
  // The Hub itself behind a proxy that is not there: a built-in model stands in, and it is said.
  const offline = { env: { HTTPS_PROXY: NOBODY, https_proxy: NOBODY } };
  const { model } = await json(["inspect", MISTRAL], offline);
  assert.deepEqual([model.source, model.parameters.total], ["catalogue", 7_241_732_096]);
  assert.match(JSON.stringify(model.assumptions), /cannot be reached.*built-in figures of \d{4}-\d\d-\d\d/);
  for (const args of [[MISTRAL, "--revision", "main"], ["nobody/nothing"]]) {
    const { code, err } = await vramfit(["inspect", ...args], offline);
    assert.equal(code, 2, err);
    assert.match(err, /reach/i);
  }
});

test("an address that is no Hub's is told so", async () => {
  const id = "stand-in/mixed-dtypes";
  for (const body of ["<!doctype html><title>Sign in</title>", "", "null", "[]", '{"id":1}', '{"sha":"../../etc"}', '{"siblings":[1]}', '{"siblings":[{"rfilename":"a","size":-1}]}']) {
    hub.set(`${id}:api`, { body });
    const { code, out, err } = await vramfit(onHub("inspect", id));
    assert.deepEqual([code, out], [2, ""], body);
    assert.match(err, /not a Hub's list of files.*Check the endpoint/s, body);
  }
});

test("broken headers are never believed", async () => {
  for (const name of ["corrupt-header", "endless-header", "unsound-offsets", "short-file", "cut-off"]) {
    const { code, out, err } = await vramfit(onHub("estimate", `broken/${name}`, ...CARD, "--format", "json"));
    assert.doesNotMatch(err, /panicked/, name);
    if (code === 0) {
      const report = JSON.parse(out);
      assert.notEqual(report.model.source, "headers", name);
      assert.match(JSON.stringify([report.warnings, report.assumptions, report.model.assumptions]), /header|safetensors/i, name);
    } else {
      assert.equal(code, 2, `${name}: ${err}`);
      assert.match(err, /header|safetensors|connection|cut|incomplete/i, name);
    }
  }
});

test("a token from the environment, for the endpoint only", async () => {
  const named = await json(onHub("inspect", GATED, "--token-env", "MY_TOKEN"), { env: { MY_TOKEN: "hf_good" } });
  assert.equal(named.model.stored_bytes, 16_060_522_496);
  assert.ok(hub.log("resolve", GATED).every((asked) => asked.authorization));
  assert.equal(hub.cdnSawAuthorization, false, "not to the host of the large files");
  assert.doesNotMatch(JSON.stringify(named), /hf_good/);

  assert.equal((await json(onHub("inspect", GATED), { env: { HF_TOKEN: "hf_good" } })).model.parameters.total, 8_030_261_248);
  const outsider = await vramfit(onHub("inspect", GATED), { env: { HF_TOKEN: "hf_bad" } });
  assert.equal(outsider.code, 2);
  assert.match(outsider.err, /access/i);
  assert.doesNotMatch(outsider.err, /hf_bad/);
});

test("--check: 1 when it does not fit, and the answer is printed all the same", async () => {
  const small = await vramfit(onHub("estimate", MISTRAL, "--gpu-capacity-bytes", String(8 * GIB), "--check"));
  assert.equal(small.code, 1, small.err);
  assert.match(small.out, /short|not fit/i);
  assert.doesNotMatch(small.out + small.err, /\u001b\[/, "no colours in a pipe");
  assert.equal((await vramfit(onHub("estimate", MISTRAL, ...CARD, "--check"))).code, 0);
  const unasked = await vramfit(onHub("estimate", MISTRAL, "--gpu-capacity-bytes", String(8 * GIB)));
  assert.equal(unasked.code, 0, "without --check an answer is an answer");
});

test("parameters from the config alone", async () => {
  const expected = { mistral7b: 7_241_732_096, mistral7bInstruct: 7_241_732_096, gpt2: 124_439_808, qwen2_7b: 7_615_616_512, qwen3_4b: 4_022_468_096, mixtral8x7b: 46_702_792_704, llama31_8b: 8_030_261_248, tinyLlama: 1_100_048_384 };
  for (const [name, total] of Object.entries(expected)) {
    const report = await json(["inspect", path(name)]);
    assert.equal(report.model.parameters.total, total, name);
    assert.equal(report.model.source, "config");
  }
  assert.deepEqual(hub.requests, []);
});

test("a model by hand", async () => {
  const sizes = ["--manual", "layers=32,hidden=4096,heads=32,kv-heads=8,intermediate=14336,vocab=32000,dtype=bf16,context=32768"];
  const report = await json(["estimate", ...sizes, ...CARD, "--runtime", "transformers", "--context", "32768"]);
  assert.deepEqual([report.model.source, report.model.parameters.total, report.model.id], ["manual", 7_241_732_096, null]);
  assert.equal(steady(report, "kv_cache"), 4_294_967_296);
  assert.match(report.model.assumptions.join(), /by hand.*llama/);
  const latent = "layers=27,hidden=2048,heads=16,intermediate=10944,vocab=102400,experts=64,active-experts=6,expert-intermediate=1408,shared-experts=2,dense-layers=1,kv-lora-rank=512";
  const lite = await json(["inspect", "--manual", latent]);
  assert.equal(lite.model.parameters.total, 15_706_484_224, "DeepSeek-V2-Lite");
  assert.equal(lite.model.layers[0].cache_elements_per_token, 576);
  const { code, err } = await vramfit(["inspect", "--manual", "layers=32,hidden=4096,heads=32,vocab=32000"]);
  assert.equal(code, 2);
  assert.match(err, /intermediate/);
  assert.equal((await vramfit(["inspect", path("gpt2"), ...sizes])).code, 2, "one model at a time");
  assert.equal((await json(["inspect", latent])).model.parameters.total, 15_706_484_224, "sizes are told from names");
});

test("KV caches from the config alone", async () => {
  const cases = [
    ["mistral7bInstruct", 32_768, 4_294_967_296],
    ["gpt2", 1_024, 37_748_736],
    ["qwen2_7b", 8_192, 469_762_048],
    ["qwen3_4b", 32_768, 4_831_838_208],
  ];
  for (const runtime of ["transformers", "vllm"]) {
    for (const [name, context, bytes] of cases) {
      const report = await json(["estimate", path(name), ...CARD, "--runtime", runtime, "--context", String(context), "--batch", "1", "--kv-cache", "fp16"]);
      assert.equal(steady(report, "kv_cache"), bytes, `${name} in ${runtime}`);
    }
  }
});

test("longest context: tight", async () => {
  const common = [path("mistral7bInstruct"), "--gpu-capacity-bytes", String(24 * GIB), "--runtime", "transformers"];
  const solved = await vramfit(["solve", ...common, "--for", "context", "--format", "json"]);
  assert.equal(solved.code, 0, solved.err);
  const found = JSON.parse(solved.out);
  assert.equal(found.schema, "vramfit/1");
  const longest = found.capacity?.max_context ?? found.max_context ?? found.context;
  assert.ok(Number.isSafeInteger(longest) && longest > 0, solved.out.slice(0, 400));
  assert.equal((await vramfit(["estimate", ...common, "--context", String(longest), "--check"])).code, 0, `${longest} fits`);
  const beyond = await vramfit(["estimate", ...common, "--context", String(longest + 1), "--check"]);
  if (longest < configs.mistral7bInstruct.max_position_embeddings) assert.equal(beyond.code, 1, `${longest + 1} does not`);
});

test("slips: each is told by what to write instead", async () => {
  const config = path("gpt2");
  for (const [args, pattern] of [
    [["estimate", config, "--context", "8k"], /`8k` is not a whole number such as 8192/],
    [["estimate", config, "--context", "-1"], /`-1` is not a whole number/],
    [["estimate", config, "--gpus", "0"], /'0' for '--gpus <N>': it must be at least 1/],
    [["estimate", config, "--tp", "18446744073709551615"], /`--tp` is 18446744073709551615: it must be 1 to 65,536/],
    [["estimate", config, "--gpu-capacity-bytes", "18446744073709551615"], /more than any GPU has/],
    [["estimate", config, "--gpu", "Apple T4"], /the table has T4 by NVIDIA/],
    [["estimate", config, "--endpoint", "ftp://hub.example"], /it must begin with https/],
    [["inspect", MISTRAL, "--revision", ""], /`--revision` is empty/],
    [["inspect", ""], /no name is given/],
    [["inspect", "/dev/null"], /`\/dev\/null` is neither a file nor a folder/],
    [["estimate", config, "--gpu-capacity-bytes", "24"], /24 GiB are 25769803776/],
    [["estimate", config, "--bytes-per-param", "0"], /above 0/],
    [["estimate", config, "--prefix-share", "2"], /between 0 and 1/],
    [["estimate", config, "--gpu", "A100"], /A100 40GB SXM\/PCIe, A100 80GB SXM, A100 80GB PCIe; write more/],
    [["estimate", config, "--gpu", "8xH100"], /`vramfit gpus` lists all; `--gpus N`/],
    [["inspect", "./nowhere.gguf"], /no file or folder.*Check the path/],
    [onHub("inspect", "Mistral-7B-v0.1"), /does not exist.*\n.*nearly that name: mistralai\/Mistral-7B-v0\.1/],
    [onHub("inspect", "mistralai/Mistral-7B-v0.I"), /nearly that name: mistralai\/Mistral-7B-v0\.1/],
    [onHub("inspect", `${MISTRAL}@one`, "--revision", "two"), /revision `one` and `--revision` names `two`: leave one out/],
    [onHub("inspect", MISTRAL, "--token-env", "NO_SUCH_TOKEN"), /no environment variable `NO_SUCH_TOKEN`/],
  ]) {
    const { code, out, err } = await vramfit(args);
    assert.deepEqual([code, out], [2, ""], args.join(" "));
    assert.match(err, pattern, args.join(" "));
  }
  const { devices } = await json(["estimate", config, "--gpu", "NVIDIA A100-SXM4-80GB"]);
  assert.equal(devices[0].gpu, "A100 80GB SXM");
  const { warnings } = await json(["estimate", config, "--gpu", "RTX 3060"]);
  assert.match(warnings.join(), /`RTX 3060` says no size of memory, and is sold with 8 GB too: it is taken for GeForce RTX 3060 12GB/);
});

test("usage: unknown flags name their neighbour", async () => {
  const typo = await vramfit(["estimate", path("gpt2"), "--contxt", "1024"]);
  assert.equal(typo.code, 2);
  assert.match(typo.err, /--context/);
  const gpu = await vramfit(["estimate", path("gpt2"), "--gpu", "no such card"]);
  assert.equal(gpu.code, 2);
  assert.match(gpu.err, /no such card/);
  for (const verb of ["gpus", "formats"]) {
    const { code, out } = await vramfit([verb]);
    assert.equal(code, 0);
    assert.match(out, verb === "gpus" ? /H100/ : /bf16/i);
  }
});
