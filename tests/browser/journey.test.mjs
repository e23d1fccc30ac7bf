// What people come for: name a model, read the answer, change something, take it away.
import { test, before, after } from "node:test";
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab, until } from "./page.mjs";
import { check } from "./formula.mjs";
import { configs, dataBytes, ggufHead, ggufLayout, ggufMetadata, llamaLayout, safetensorsHead, tensor } from "../hub/repos.mjs";

const MISTRAL = "mistralai/Mistral-7B-v0.1";
const INSTRUCT = "mistralai/Mistral-7B-Instruct-v0.2";
const QWEN = "Qwen/Qwen2-7B";
const MISTRAL_WEIGHTS = 14_483_464_192;
const MIB = 2 ** 20;
/** What a browser opens to one host at once, over HTTP/1.1. */
const CONNECTIONS = 6;
// TinyLlama: matrices of 1,099,956,224 values, 65,536,000 of them the head; 45 norms of 2,048 in F32.
const [Q4_K_M_WEIGHTS, Q8_0_WEIGHTS, F16_WEIGHTS] = [(1_034_420_224 / 256) * 144 + (65_536_000 / 256) * 210, (1_099_956_224 / 32) * 34, 1_099_956_224 * 2].map(
  (matrices) => matrices + 45 * 2048 * 4,
);

const lab = new Lab();
before(() => lab.open());
after(() => lab.close());

const total = (ledger) => Object.values(ledger).reduce((sum, bytes) => sum + bytes, 0);

/** Mistral-7B from its headers, by link. */
async function withMistral(page, keys = {}) {
  await page.open({ m: MISTRAL, ...keys });
  await page.known(/7\.24\s*B/, /header/i);
}

test("the page is alive before it has spoken to anyone", lab.journey({ csp: true }, async (page) => {
  await page.context.route((url) => url.origin !== new URL(lab.home).origin, (route) => route.abort());
  await page.open({ endpoint: null, v: null });
  const verdict = await page.verdict();
  assert.match(verdict.fits, /^(yes|no)$/);
  assert.match(verdict.text, /fit|short/i);
  assert.notEqual(await page.facts(), "");

  const ledger = await page.ledger();
  assert.ok(ledger.weights > 100 * MIB && ledger.kv_cache > MIB, "weights and KV cache are on the page");
  await page.drawn();
  const moments = await page.moments();
  assert.equal(total(ledger), moments.peak, "the rows add up to the peak");
  assert.ok(moments.loaded <= moments.steady && moments.steady <= moments.peak, "moments in order");
  assert.ok((await page.tab.locator("#bars svg").count()) >= 1);
  assert.ok((await page.tab.locator("#curve svg path, #curve svg polyline").count()) >= 1);

  await page.curve.focus();
  const before_ = await page.readout();
  await page.curve.press("ArrowRight");
  await until(() => page.readout(), (text) => text !== "" && text !== before_, "the arrow key should move the crosshair");
  assert.deepEqual(page.profile.requests.filter((request) => request.host && request.host !== new URL(lab.home).host), []);
}));

test("whatever was changed before, the page says what a fresh one at its address says", lab.journey(async (page) => {
  const pick = (id, value) => page.tab.locator(`#${id}`).selectOption(value);
  const change = {
    trained: () => pick("task", "train"),
    served: () => pick("task", "serve"),
    "another runtime": () => pick("runtime", "sglang"),
    "longer than the model is made for": () => page.drag("context-slider", 0.95),
    "more at once": () => page.drag("batch-slider", 0.5),
    "a card that is too small": () => page.gpu(/RTX 4090/),
    "more cards": () => page.type("gpus", 4),
    "another model": async () => {
      await page.choose(QWEN);
      await page.known(/7\.62\s*B/, /header/i);
    },
    "trained again": () => pick("task", "train"),
    "with adapters": () => pick("method", "lora"),
    "served again": () => pick("task", "serve"),
    "left to the engine": async () => {
      await page.type("context", "");
      await page.type("batch", "");
    },
    "no answer": () => pick("runtime", "mlx"),
    "no answer for another model": async () => {
      await page.choose(INSTRUCT);
      await page.known(/7\.24\s*B/, /header/i);
    },
    "an answer again": () => pick("runtime", "vllm"),
  };
  await withMistral(page);
  await page.drawn();
  for (const [name, make] of Object.entries(change)) {
    await make();
    // What is in focus is the user's, and the address follows after a pause.
    await page.tab.evaluate(() => document.activeElement?.blur());
    await page.tab.waitForTimeout(600);
    const fresh = await page.another(page.tab.url());
    await until(async () => JSON.stringify(await page.everything()) === JSON.stringify(await fresh.everything()), Boolean, `${name}: both should say the same`).catch(async () =>
      assert.deepEqual(await page.everything(), await fresh.everything(), name),
    );
    await fresh.tab.close();
  }
}));

test("type a model: its headers are read, the weights are exact", lab.journey(async (page) => {
  await page.open();
  await page.choose(MISTRAL);
  await page.known(/7\.24\s*B/, /header/i);
  await page.term("weights", MISTRAL_WEIGHTS);
  assert.equal(await page.error(), "");

  const { hub } = page;
  const shards = hub.log("resolve", MISTRAL).filter((entry) => entry.file.endsWith(".safetensors"));
  assert.deepEqual(shards.map((entry) => entry.file).sort(), ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
  for (const entry of shards) {
    assert.match(entry.range, /^bytes=0-\d{1,6}$/, "a range, not ten gigabytes");
    assert.ok(entry.path.includes(`/resolve/${hub.repo(MISTRAL).sha}/`), "pinned to the revision that the metadata named");
  }
  assert.deepEqual(hub.requests.filter((entry) => entry.method !== "GET"), [], "plain GETs only: no HEAD, no preflight");
}));

test("the GPU decides", lab.journey(async (page) => {
  await withMistral(page);
  await page.capacity(8);
  const short = await page.verdictIs("no");
  await page.capacity(80);
  const roomy = await page.verdictIs("yes");
  assert.notEqual(short.text, roomy.text);

  const small = await page.gpu(/3060/);
  await page.verdictIs("no");
  const large = await page.gpu(/H100.*80/);
  await page.verdictIs("yes");
  assert.notEqual(small.value, large.value);
  assert.ok((await page.gpus()).length > 70, "seventy cards to choose from");
  await page.term("weights", MISTRAL_WEIGHTS);
}));

test("two devices share the weights, each has its own verdict", lab.journey(async (page) => {
  await withMistral(page);
  const alone = (await page.ledger()).weights;
  await page.type("gpus", 2);
  const shared = await until(async () => (await page.ledger()).weights, (bytes) => bytes < alone, "each of two devices should hold less");
  assert.ok(shared >= alone / 2, "a shard is at least half: norms are on both");
  await until(() => page.tab.locator("#bars").innerText(), (text) => /2\s*×/.test(text), "the bar should stand for two devices");
}));

test("context: by keyboard, by mouse, by typing, and they agree", lab.journey(async (page) => {
  // Without a sliding window, so that the cache must grow with the context.
  await page.open({ m: INSTRUCT, ctx: "4096" });
  await page.known(/7\.24\s*B/, /header/i);
  const cache = async () => (await page.ledger()).kv_cache;
  const first = { tokens: await page.typed("context"), cache: await cache() };
  assert.equal(first.tokens, 4096);

  const slider = page.tab.locator("#context-slider");
  await slider.focus();
  await slider.press("ArrowRight");
  await slider.press("ArrowRight");
  const byKey = await until(() => page.typed("context"), (tokens) => tokens > first.tokens, "the typed twin should follow the arrow keys");
  const keyCache = await until(cache, (bytes) => bytes > first.cache, "the cache should grow");

  await page.drag("context-slider", 0.9);
  await until(() => page.typed("context"), (tokens) => tokens > 4 * byKey, "the typed twin should follow the mouse: nine tenths of the way is far");
  await until(cache, (bytes) => bytes > keyCache, "the cache should grow further");

  const far = (await page.slider("context-slider")).value;
  await page.type("context", 16_384);
  await until(async () => (await page.slider("context-slider")).value, (value) => value !== far, "the slider should follow typing");
  await page.type("context", 4096);
  await until(cache, (bytes) => bytes === first.cache, "back at 4,096 tokens the cache is what it was");

  await page.type("batch", 4);
  await until(cache, (bytes) => bytes === 4 * first.cache, "four requests keep four caches");
}));

test("a formula comes to the bytes beside it", lab.journey(async (page) => {
  await page.open({ m: INSTRUCT, ctx: "32768", b: "1" });
  await page.known(/7\.24\s*B/, /header/i);
  await page.term("kv_cache", 4_294_967_296);

  const { code, sources } = await page.formula("kv_cache");
  const { said, computed } = check(code);
  assert.equal(said, 4_294_967_296, code);
  assert.ok(computed.includes(4_294_967_296), `"${code}" comes to ${computed}`);
  assert.match(sources.join("\n"), /num_key_value_heads/, "says which key of the config the heads are from");

  // Every other row, in both runtimes: the last figure is the row's.
  for (const runtime of ["transformers", "vllm"]) {
    await page.tab.locator("#runtime").selectOption(runtime);
    const ledger = await until(() => page.ledger(), (terms) => terms.weights > 0, "a ledger");
    for (const term of Object.keys(ledger)) {
      if ((await page.tab.locator(`#ledger tr[data-term="${term}"]`).count()) > 1) continue;
      await until(async () => [check((await page.formula(term)).code).said, (await page.ledger())[term]], ([said, bytes]) => said === bytes, `${runtime}, ${term}`);
    }
  }
}));

test("a copied link gives the same numbers in a new tab", lab.journey(async (page) => {
  await withMistral(page);
  await page.gpu(/A100.*80/);
  await page.type("context", 12_345);
  await page.type("batch", 3);
  await until(() => page.typed("batch"), (batch) => batch === 3, "three requests");
  const numbers = await page.numbers();
  assert.ok(numbers.length >= 6, "the answer carries its bytes");
  const verdict = await page.verdict();

  const link = await page.copyLink();
  const keys = new URL(link).searchParams;
  assert.equal(link.split("?")[1].split("&")[0], "v=1", "the version comes first");
  assert.deepEqual([keys.get("m"), keys.get("ctx"), keys.get("b"), keys.get("endpoint")], [MISTRAL, "12345", "3", lab.hub.endpoint]);
  assert.equal(keys.get("util"), null, "defaults are left out");

  const twin = await page.another(link);
  await twin.known(/7\.24\s*B/, /header/i);
  await until(() => twin.numbers(), (seen) => seen.join() === numbers.join(), "every number should be the same");
  assert.deepEqual(await twin.verdict(), verdict);
  assert.equal(await twin.typed("context"), 12_345);
  assert.equal(await twin.copyLink(), link, "the link of the link is the link");
}));

test("Back returns to the model before", lab.journey(async (page) => {
  await page.open({ rt: "transformers" });
  await page.choose(MISTRAL);
  await page.known(/7\.24\s*B/, /header/i);
  const numbers = await page.numbers();
  await page.choose(QWEN);
  await page.known(/7\.62\s*B/, /header/i);
  await page.term("weights", 15_231_233_024);

  await page.tab.goBack();
  await page.known(/7\.24\s*B/);
  assert.equal(await page.model.inputValue(), MISTRAL);
  await until(() => page.numbers(), (seen) => seen.join() === numbers.join(), "the numbers should be those of before");
  await page.tab.goForward();
  await page.known(/7\.62\s*B/);
  assert.equal(await page.model.inputValue(), QWEN);
}));

test("anything that names a model: pasted addresses", lab.journey(async (page) => {
  await page.open();
  const ways = [
    [`https://huggingface.co/${MISTRAL}/blob/main/config.json?download=true`, /7\.24\s*B/],
    [`https://huggingface.co/${QWEN}/tree/main`, /7\.62\s*B/],
    [`hf.co/${MISTRAL}`, /7\.24\s*B/],
    [`https://huggingface.co/${QWEN}/resolve/main/model-00001-of-00004.safetensors#top`, /7\.62\s*B/],
    ["https://huggingface.co/stand-in/pipeline/tree/main/vae", /61\.98\s*M/],
    ["hf.co/stand-in/tiny-GGUF:q8_0", /1\.10\s*B/],
    [`${MISTRAL}@main`, /7\.24\s*B/],
  ];
  for (const [address, facts] of ways) {
    await page.paste(address);
    await page.known(facts, /header/i);
    assert.equal(await page.error(), "", address);
  }
}));

test("another Hub: its address is typed, and the link has it", lab.journey(async (page) => {
  await page.open({ endpoint: null });
  await page.tab.locator("#more > summary").click();
  const endpoint = page.tab.locator("#endpoint");
  const problem = () => page.tab.locator("#endpoint-problem").innerText();
  await endpoint.fill("ftp://hub.example");
  await endpoint.press("Tab");
  await until(problem, (text) => /https/.test(text), "an address that no Hub has should be refused beside its field");
  await endpoint.fill(page.hub.endpoint);
  await endpoint.press("Tab");
  await until(problem, (text) => text === "", "a good address should take the problem away");
  await page.choose("stand-in/mixed-dtypes");
  await page.known(/1\.10\s*B/, /header/i);
  const link = await page.copyLink();
  assert.equal(new URL(link).searchParams.get("endpoint"), page.hub.endpoint);
  const twin = await page.another(link);
  await twin.known(/1\.10\s*B/, /header/i);
  assert.ok(page.profile.requests.every((request) => !/huggingface|hf\.co/.test(request.host ?? "")), "nobody else is asked");
}));

test("search as one types: the Hub's models under the built-in ones", lab.journey(async (page) => {
  const searches = () => page.hub.log("search").map((entry) => new URLSearchParams(entry.query).get("search"));
  await page.open({ rt: "transformers" });
  await page.model.fill("");
  // One question for a word typed at once, and the built-in models need none.
  await page.typeOn("mistral");
  await until(() => page.suggested(), (groups) => groups["Built in"]?.length > 0, "built-in models at once");
  const found = await until(() => page.suggested(), (groups) => groups["On the Hub"]?.length > 0 || page.hub.log("search").length > 0, "the Hub is asked");
  assert.ok(found["Built in"].every((id) => /mistral/i.test(id)));
  assert.deepEqual(searches(), ["mistral"]);
  assert.match(page.hub.log("search")[0].query, /limit=8/);

  // The next key breaks off the question that is under way.
  page.hub.set("search", { hold: true });
  await page.model.fill("stand-in/m");
  await until(() => page.hub.held, (held) => held === 1, "the answer should be held back");
  page.hub.set("search", null);
  await page.typeOn("ixed");
  await page.suggests("stand-in/mixed-dtypes");
  assert.deepEqual(searches(), ["mistral", "stand-in/m", "stand-in/mixed"]);
  await until(() => page.hub.inFlight, (requests) => requests === 0, "nothing should be in flight");
  assert.deepEqual(page.hub.log("search").map((entry) => entry.finished), [true, false, true]);

  // Picked by keyboard, read like any other.
  await page.model.press("ArrowDown");
  const active = await until(() => page.model.getAttribute("aria-activedescendant"), Boolean, "an option should be active");
  assert.equal(await page.tab.locator(`[id="${active}"]`).innerText(), "stand-in/mixed-dtypes");
  await page.model.press("Enter");
  await page.known(/1\.10\s*B/, /header/i);
  await page.term("weights", 2_200_281_088);
  assert.equal(await page.model.inputValue(), "stand-in/mixed-dtypes");

  // By mouse too; and what is no part of an id is never asked for.
  await page.model.fill("many-shards");
  await page.suggests("stand-in/many-shards");
  await page.tab.getByRole("option", { name: "stand-in/many-shards", exact: true }).click();
  await page.known(/36\.38\s*B/, /header/i);
  const asked = searches().length;
  for (const text of ["x", '{"model_type": "llama"', "https://huggingface.co/org/name", "layers=32"]) {
    await page.model.fill(text);
    await new Promise((next) => setTimeout(next, 400));
  }
  assert.equal(searches().length, asked);
  assert.ok(page.hub.requests.every((entry) => entry.method === "GET"), "no preflight");
}));

test("a pasted config is a model, and the link carries it", lab.journey(async (page) => {
  await page.open({ endpoint: null });
  await page.paste(JSON.stringify(configs.qwen3_4b, null, 2));
  await page.known(/4\.02\s*B/, /config/i);
  await page.tab.locator("#runtime").selectOption("transformers");
  await page.term("weights", 8_044_936_192);
  await page.tab.locator("#runtime").selectOption("vllm");
  await page.type("context", 32_768);
  await page.term("kv_cache", 4_831_838_208);
  const numbers = await page.numbers();

  const link = await page.copyLink();
  assert.equal(new URL(link).searchParams.get("m"), null);
  const twin = await page.another(link);
  await twin.known(/4\.02\s*B/, /config/i);
  await until(() => twin.numbers(), (seen) => seen.join() === numbers.join(), "every number should be the same");
}));

test("a model that was opened opens again when the Hub is gone", lab.journey({ allow: [/Failed to load resource/] }, async (page) => {
  await withMistral(page);
  const numbers = await page.numbers();
  const link = await page.copyLink();
  const asked = page.hub.requests.length;

  // The link names the commit, which never changes: nobody is asked.
  const again = await page.another(link);
  await again.known(/7\.24\s*B/, /Headers of 2 files/, /kept here since \d{4}-\d\d-\d\d/);
  await until(() => again.numbers(), (seen) => seen.join() === numbers.join(), "every number should be the same");
  assert.equal(page.hub.requests.length, asked, "no request for what is kept");

  // By its name, the Hub is asked first.
  await page.context.route((url) => url.origin === new URL(page.hub.endpoint).origin, (route) => route.abort());
  const gone = await page.another(`${lab.home}?${new URLSearchParams({ v: "1", m: MISTRAL, endpoint: page.hub.endpoint })}`);
  await gone.known(/7\.24\s*B/, /Headers of 2 files/, /cannot be reached.*read on \d{4}-\d\d-\d\d/);
  assert.equal((await gone.downloadJson()).model.stored_bytes, MISTRAL_WEIGHTS);
  await gone.choose(QWEN);
  await gone.known(/7\.62\s*B/, /Built-in/);
}));

test("by hand: a model that exists nowhere, and the link carries it", lab.journey({ csp: true }, async (page) => {
  await page.open({ endpoint: null });
  const form = (page) => page.tab.locator("#by-hand");
  const size = (label) => form(page).getByLabel(label, { exact: true });
  await form(page).getByText("By hand", { exact: true }).click();
  await size("Layers").fill("32");
  await size("Hidden size").fill("4,096");
  await size("Attention heads").fill("32");
  await size("Vocabulary").fill("32000");
  await page.button("Use these sizes").click();
  await page.fails(/`intermediate` is missing/);
  await size("Intermediate size").fill("11008");
  await size("Intermediate size").press("Enter");
  await page.known(/6\.74\s*B/, /By hand/);
  await page.remarked(/`kv-heads` was not given/);
  await page.tab.locator("#runtime").selectOption("transformers");
  await page.term("weights", 2 * 6_738_415_616);
  assert.equal((await page.downloadJson()).model.source, "manual");

  const link = await page.copyLink();
  assert.equal(new URL(link).searchParams.get("manual"), "layers:32,hidden:4096,heads:32,intermediate:11008,vocab:32000");
  const twin = await page.another(link);
  await twin.known(/6\.74\s*B/, /By hand/);
  const shown = form(twin).getByLabel("Hidden size", { exact: true });
  await until(() => shown.inputValue(), (value) => value === "4096", "the form should say what the link said");

  // The box takes the same text, and the form shows it whatever was typed there; parameters may stand for the width.
  await size("Hidden size").fill("1");
  await page.choose("layers=32,hidden=4096,heads=32,kv-heads=8,vocab=128256,params=8.03B");
  await page.known(/8\.03\s*B/, /By hand/);
  await page.remarked(/`intermediate` of 14,3\d\d follows/);
  await until(() => size("Hidden size").inputValue(), (value) => value === "4096", "the form should say what the box said");

  // Latent attention, and a recurrence in three of four layers.
  await page.choose("layers=27,hidden=2048,heads=16,intermediate=10944,vocab=102400,experts=64,active-experts=6,expert-intermediate=1408,shared-experts=2,dense-layers=1,kv-lora-rank=512");
  await page.known(/15\.71\s*B/, /By hand/);
  await until(() => size("Latent rank of keys and values (MLA)").inputValue(), (value) => value === "512", "the form has the latent rank");
  await page.choose("layers=24,hidden=2048,heads=16,intermediate=8192,vocab=32000,recurrent=mamba2,state-heads=64,state-head-dim=64,state-size=128,full-every=4");
  await page.known(/By hand/);
  const runs = async () => (await page.downloadJson()).model.layers.map((run) => run.count).join();
  await until(runs, (counts) => counts === "3,1,3,1,3,1,3,1,3,1,3,1", "recurrences and attention take turns");
}));

test("repositories of several parts: a pipeline by component, an adapter, sentence-transformers", lab.journey(async (page) => {
  const parts = async () => JSON.stringify((await page.downloadJson()).model.stored_bytes_by_part ?? {});
  await page.open({ m: "stand-in/pipeline" });
  await page.known(/Headers of 3 files read/);
  assert.deepEqual(JSON.parse(await parts()), { transformer: 2 * 3072 * 64 * 2, vae: 512 * 16 * 9 * 2 });
  const parameters = async () => (await page.downloadJson()).model.parameters.by_component;
  const { hidden_size: hidden, num_hidden_layers: layers } = configs.tinyLlama;
  await page.choose("stand-in/lora");
  await until(parameters, ({ adapter }) => adapter === layers * 8 * (2 * hidden + hidden + 256), "the adapter stands beside its base");
  await page.choose("stand-in/embedder");
  await until(parameters, (counts) => counts["2_Dense"] === 64 * hidden + 64, "a dense layer stands behind the model");
}));

test("files tell the quantisation that their config leaves out", lab.journey(async (page) => {
  await page.open({ m: "stand-in/unsaid-gptq", rt: "transformers" });
  await page.known(/1\.10\s*B/, /header/i);
  await page.remarked(/GPTQ, 4 bits, groups of 128/);
  const { model } = await page.downloadJson();
  await page.term("weights", model.stored_bytes);
}));

test("rarer engines are answered by the second part of the page", lab.journey({ csp: true }, async (page) => {
  await page.open({ endpoint: null, rt: "llama.cpp", w: "q4_k_m", gpu: "GeForce RTX 4090", ctx: "4096" });
  const weights = page.tab.locator("#weights");
  await until(() => weights.inputValue(), (value) => value === "q4_k_m", "the list should show the format of the link");
  const peak = () => page.tab.locator("data[data-moment=peak]").getAttribute("value").then(Number);
  await until(peak, (bytes) => bytes > 2 ** 30, "there should be an answer");
  const small = await peak();
  await page.tab.locator("#context").fill("32k");
  await until(peak, (bytes) => bytes > small, "a longer context takes more");
  assert.ok(page.profile.requests.some((request) => request.url.includes("vramfit-reader")), "it was fetched");
}));

test("what lies on the host has rows of its own, which open", lab.journey({ csp: true }, async (page) => {
  await page.open({ endpoint: null, rt: "llama.cpp", w: "q4_k_m", gpu: "GeForce RTX 4090", ctx: "4096", ncmoe: "8" });
  const host = page.tab.locator("#host-part");
  const moment = (name) => page.tab.locator(`data[data-moment=${name}]`).getAttribute("value").then(Number);
  await host.waitFor();
  const bytes = (term) => page.tab.locator(`#bytes-host-${term}`).getAttribute("value").then(Number);
  const [weights, peak] = [await bytes("weights"), await moment("peak")];
  assert.ok(weights > 2 ** 30, "eight layers' experts are on the host");
  assert.equal(await page.tab.locator("#bytes-host-kv_cache").count(), 0);
  await page.tab.locator("#more summary").click();
  await page.tab.locator("#set-nkvo").check();
  // 48 layers, 4 KV heads of 128, keys and values in 16 bits.
  await until(() => page.tab.locator("#bytes-host-kv_cache").count(), (rows) => rows === 1, "keys and values should move to the host");
  assert.equal(await bytes("kv_cache"), 48 * 2 * 4 * 128 * 2 * 4096);
  assert.ok((await moment("peak")) < peak && (await moment("host")) > weights + (await bytes("kv_cache")));
  await page.tab.locator("#opens-host-kv_cache").click();
  await until(() => page.tab.locator("#lines-host-kv_cache code").first().innerText(), (text) => /4,096 cells/.test(text), "the row should open");
  assert.equal(await page.tab.locator("#lines-weights code").count(), 0, "the GPU's rows stay closed");
  await page.tab.locator("#runtime").selectOption("vllm");
  await until(() => host.isHidden(), (hidden) => hidden, "vLLM leaves nothing there");
}));

test("train it: the method, the stages of a step, the same in a link", lab.journey({ csp: true }, async (page) => {
  await page.open({ endpoint: null });
  await page.tab.locator("#task").selectOption("train");
  const stages = page.tab.locator("#timeline");
  await until(() => stages.textContent(), (text) => /Forward: .* GiB.*Backward: .* GiB.*Optimizer step: .* GiB/.test(text), "the stages should be said");
  assert.ok(await stages.locator("svg").isVisible());
  assert.equal(await page.tab.locator("#batch-label").innerText(), "Micro-batch");
  assert.ok(await page.tab.locator("#runtime").isHidden() && await page.tab.locator("#kv").isHidden());
  const peak = () => page.tab.locator("data[data-moment=peak]").getAttribute("value").then(Number);
  const full = await peak();
  await page.tab.locator("#method").selectOption("qlora");
  await until(peak, (bytes) => bytes < full, "QLoRA takes less than full fine-tuning");
  const link = await page.copyLink();
  assert.equal(new URL(link).searchParams.get("method"), "qlora");
  const [bytes, twin] = [await peak(), await page.another(link)];
  await until(() => twin.tab.locator("data[data-moment=peak]").getAttribute("value").then(Number), (seen) => seen === bytes, "the link should give the same peak");
  await page.tab.locator("#task").selectOption("serve");
  await until(() => stages.textContent(), (text) => text === "", "serving has no such stages");
}));

test("the whole anatomy: parts, roles, kinds of layers, keys", lab.journey(async (page) => {
  await page.open({ endpoint: null });
  await page.paste(JSON.stringify({ ...configs.qwen3_next, gate_of_tomorrow: 3 }));
  await page.known(/79\.67\s*B/, /config/i);
  await page.tab.locator("#anatomy summary").click();
  const rows = await until(
    () => page.tab.locator("#anatomy tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))),
    (rows) => rows.length > 10, "the tables should open");
  const row = (name) => rows.find(([first]) => first.startsWith(name));
  // 48 layers of 512 experts, each three projections of 2,048 by 512.
  assert.deepEqual(row("expert_up"), ["expert_up", (48 * 512 * 2048 * 512).toLocaleString("en-US"), "32.3 %"]);
  assert.equal(row("text")[1], "79,674,391,296");
  assert.equal(row("mtp")[2], "beside", "multi-token prediction is not in the total");
  // Keys and values of 2 heads of 256; a state of 32 heads of 128 by 128 and a convolution of 8,192 channels over 4 tokens.
  assert.deepEqual(row("GQA 16/2").slice(1), ["12", "1,024", "0"]);
  assert.deepEqual(row("gated delta-net").slice(1), ["36", "0", (32 * 128 * 128 + 8192 * 4).toLocaleString("en-US")]);
  assert.match(await page.tab.locator("#anatomy").textContent(), /not understood: gate_of_tomorrow\./);
}));

test("a GGUF repository: choose a file, read its figures, share the link", lab.journey(async (page) => {
  await page.open();
  await page.choose("stand-in/tiny-GGUF");
  assert.deepEqual(await page.offers(), ["Q4_K_M 0.59 GiB", "Q8_0 1.09 GiB", "F16 2.05 GiB in 3 files"]);
  assert.match(await page.error(), /3 GGUF files/);
  assert.deepEqual(page.hub.log("cdn"), [], "no file is asked for before one is chosen");
  await page.take("Q4_K_M");
  await page.known(/1\.10\s*B/, /GGUF/);
  await page.stored(Q4_K_M_WEIGHTS);
  assert.equal(await page.error(), "");
  const ranges = page.hub.log("resolve", "stand-in/tiny-GGUF").map((entry) => entry.range);
  assert.equal(ranges[0], "bytes=0-1048575");
  assert.ok(ranges.length === 2, `a vocabulary of 1.4 MB takes two ranges (${ranges})`);

  const link = await page.copyLink();
  const keys = new URL(link).searchParams;
  assert.deepEqual([keys.get("m"), keys.get("rev")], ["hf://stand-in/tiny-GGUF/tiny-Q4_K_M.gguf", page.hub.repo("stand-in/tiny-GGUF").sha]);
  const twin = await page.another(link);
  await twin.stored(Q4_K_M_WEIGHTS);

  await page.choose("hf://stand-in/tiny-GGUF/F16/tiny-F16-00002-of-00003.gguf");
  await page.known(/3 GGUF files/);
  await page.stored(F16_WEIGHTS);
  await page.choose("stand-in/one-GGUF");
  await page.stored(Q8_0_WEIGHTS);
  await page.tab.goBack();
  await page.stored(F16_WEIGHTS);
}));

test("files of one's own: dropped or picked, nothing leaves the page", lab.journey({ csp: true }, async (page) => {
  await page.open({ endpoint: null });
  await page.drop([{ name: "config.json", buffer: Buffer.from(JSON.stringify(configs.qwen3_4b)) }]);
  await page.known(/4\.02\s*B/, /config/i);
  assert.notEqual(new URL(await page.copyLink()).searchParams.get("c"), null, "a config is all that a link needs");

  const folder = await mkdtemp(join(tmpdir(), "vramfit-"));
  try {
    // As long as it says that it is, with a hole where the tensors are.
    const put = async (name, { head, size }) => {
      await writeFile(join(folder, name), head);
      await truncate(join(folder, name), size);
      return join(folder, name);
    };
    const metadata = ggufMetadata(configs.tinyLlama, Array.from({ length: 32_000 }, (_, index) => `a token of some length, number ${index}`));
    const one = await put("mine-Q4_K_M.gguf", ggufHead(metadata, ggufLayout(configs.tinyLlama, "Q4_K", "Q6_K")));
    await page.pick(one);
    await page.known(/1\.10\s*B/, /GGUF/);
    await page.stored(Q4_K_M_WEIGHTS);
    assert.equal(await page.model.inputValue(), "mine-Q4_K_M.gguf");

    const other = await put("mine-Q8_0.gguf", ggufHead(metadata, ggufLayout(configs.tinyLlama, "Q8_0")));
    await page.pick([one, other]);
    assert.deepEqual(await page.offers(), ["Q4_K_M 0.59 GiB", "Q8_0 1.09 GiB"]);
    await page.take("Q8_0");
    await page.stored(Q8_0_WEIGHTS);

    // A folder of a model as it is downloaded: only what counts is read.
    await mkdir(join(folder, "model"));
    await writeFile(join(folder, "model/config.json"), JSON.stringify(configs.tinyLlama));
    await writeFile(join(folder, "model/tokenizer.json"), "{}");
    const tensors = llamaLayout(configs.tinyLlama);
    const head = safetensorsHead(tensors);
    await put("model/model.safetensors", { head, size: head.length + tensors.reduce((sum, t) => sum + dataBytes(t), 0) });
    await page.pick(join(folder, "model"), "folder");
    await page.known(/1\.10\s*B/, /Header of 1 file read/);
    await page.stored(2_200_096_768);

    const link = new URL(await page.copyLink());
    assert.equal(link.searchParams.get("f"), "model");
    const twin = await page.another(link.href);
    await twin.fails(/`model`/, /choose the file/i);
    await page.tab.goBack();
    await page.stored(Q8_0_WEIGHTS);
  } finally {
    await rm(folder, { recursive: true });
  }
  const strangers = page.profile.requests.filter((request) => request.host && request.host !== new URL(lab.home).host);
  assert.deepEqual(strangers, [], "nothing is uploaded");
  assert.ok(page.profile.requests.every((request) => request.method === "GET"));
}));

test("folders that are dropped: a model, a pipeline, an adapter with its base on the Hub", lab.journey(async (page) => {
  const folder = await mkdtemp(join(tmpdir(), "vramfit-"));
  const put = async (name, content, size) => {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), content);
    if (size !== undefined) await truncate(join(folder, name), size);
  };
  const weights = async (name, tensors) => {
    const head = safetensorsHead(tensors);
    await put(name, head, head.length + tensors.reduce((sum, t) => sum + dataBytes(t), 0));
  };
  try {
    await page.open({ rt: "transformers" });
    await put("model/config.json", JSON.stringify(configs.tinyLlama));
    await put("model/tokenizer.json", "{}");
    await weights("model/model.safetensors", llamaLayout(configs.tinyLlama));
    await page.dropPaths(join(folder, "model"));
    await page.known(/1\.10\s*B/, /Header of 1 file read/);
    await page.stored(2_200_096_768);
    assert.equal(await page.model.inputValue(), "model");

    const named = (name) => until(() => page.model.inputValue(), (value) => value === name, `the folder ${name} should be open`);
    const parts = { transformer: ["diffusers", "FluxTransformer2DModel"], vae: ["diffusers", "AutoencoderKL"], scheduler: ["diffusers", "FlowMatchEulerDiscreteScheduler"] };
    await put("pipeline/model_index.json", JSON.stringify({ _class_name: "FluxPipeline", ...parts }));
    await put("pipeline/transformer/config.json", JSON.stringify({ _class_name: "FluxTransformer2DModel", num_layers: 1, num_single_layers: 1, guidance_embeds: true }));
    await weights("pipeline/transformer/diffusion_pytorch_model.safetensors", [tensor("x_embedder.weight", "BF16", 3072, 64)]);
    await put("pipeline/vae/config.json", JSON.stringify({ _class_name: "AutoencoderKL", block_out_channels: [128, 256, 512, 512], latent_channels: 16 }));
    await weights("pipeline/vae/diffusion_pytorch_model.safetensors", [tensor("decoder.conv_in.weight", "BF16", 512, 16, 3, 3)]);
    await page.dropPaths(join(folder, "pipeline"));
    await named("pipeline");
    await page.known(/Headers of 2 files read/);
    assert.deepEqual((await page.downloadJson()).model.stored_bytes_by_part, { transformer: 2 * 3072 * 64, vae: 2 * 512 * 16 * 9 });
    assert.deepEqual(page.hub.requests, [], "nobody is asked for what is here");

    const lora = { peft_type: "LORA", base_model_name_or_path: "stand-in/mixed-dtypes", r: 8, target_modules: ["q_proj", "v_proj"] };
    await put("adapter/adapter_config.json", JSON.stringify(lora));
    await page.dropPaths(join(folder, "adapter"));
    await named("adapter");
    await page.known(/1\.10\s*B/, /Header of 1 file read/);
    const { model } = await page.downloadJson();
    assert.equal(model.parameters.by_component.adapter, 22 * 8 * (2 * 2048 + 2048 + 256));
    assert.deepEqual([...new Set(page.hub.log("resolve").map((entry) => entry.repo))], ["stand-in/mixed-dtypes"]);
  } finally {
    await rm(folder, { recursive: true });
  }
}));

test("what the page does not know, it says", lab.journey(async (page) => {
  await page.open({ endpoint: null, zzz: "1", ctx: "4096" });
  await page.remarked(/zzz/);
  assert.equal(await page.typed("context"), 4096, "the rest of the link counts");
  assert.equal(new URL(await page.copyLink()).searchParams.get("zzz"), "1", "and the key is kept");

  await page.open({ m: "stand-in/unknown-family" });
  await page.remarked(/zorblux/);
  await page.known(/1\.10\s*B|1\.1\s*B/);

  await page.open({ m: "stand-in/bare-infinity", rt: "transformers" });
  await page.known(/1\.10\s*B|1\.1\s*B/, /header/i);
  await page.term("weights", 2_200_096_768);
}));

test("long headers and mixed types are read to the byte", lab.journey(async (page) => {
  await page.open({ m: "stand-in/long-header", rt: "transformers" });
  await page.known(/header/i);
  await page.term("weights", 774_636_544);
  assert.equal(page.hub.log("resolve", "stand-in/long-header").filter((entry) => entry.file === "model.safetensors").length, 2, "a header over 100,000 bytes takes a second range");

  await page.choose("stand-in/mixed-dtypes");
  await page.term("weights", 2_200_281_088);

  await page.choose("mistralai/Mistral-7B-v0.3");
  await page.known(/7\.25\s*B/, /header/i);
  await page.term("weights", 14_496_047_104); // not twice, though consolidated.safetensors lies beside the shards
}));

test("163 shards: one request each, many at once", lab.journey(async (page) => {
  const id = "stand-in/many-shards";
  page.hub.set(`${id}:*.safetensors`, { hold: true });
  await page.open({ m: id, rt: "transformers" });
  await until(() => page.hub.held, (held) => held >= CONNECTIONS, "as many as the browser allows should be under way at once");
  page.hub.set(`${id}:*.safetensors`, null);
  page.hub.release(id);
  await page.known(/36\.4\s*B|36\.38\s*B/, /header/i);
  await page.term("weights", 72_769_642_496);
  const asked = page.hub.requests.filter((entry) => entry.at === "hub" && entry.kind !== "resolve-cache");
  assert.ok(asked.length <= 163 + 3, `${asked.length} requests`);
}));

test("163 shards: progress is seen, Cancel leaves nothing running", lab.journey(async (page) => {
  const id = "stand-in/many-shards";
  await page.open();
  const facts = await page.facts();
  page.hub.holdAfter(id, 20);
  await page.choose(id);
  const bar = page.tab.getByRole("progressbar", { name: "Reading the model" });
  await until(async () => Number(await bar.getAttribute("aria-valuenow")), (done) => done > 8, "files should be counted");
  assert.equal(await bar.getAttribute("aria-valuemax"), "163");
  assert.match(await bar.innerText(), /\d+ of 163 files, [\d.]+ [KM]B/);
  // All that is under way has come to the Hub, so what comes after Cancel would be new.
  await until(() => page.hub.held, (held) => held >= CONNECTIONS, "as many as the browser allows should wait for their answer");
  await page.button("Cancel").click();
  await page.idle();
  await until(() => page.hub.inFlight, (requests) => requests === 0, "nothing should be in flight");
  const asked = page.hub.requests.length;
  await new Promise((next) => setTimeout(next, 500));
  assert.equal(page.hub.requests.length, asked, "nothing is asked for any more");
  assert.ok(page.hub.log("resolve", id).filter((entry) => entry.file.endsWith(".safetensors")).length <= 28, "it was broken off");
  assert.equal(await page.facts(), facts, "the last answer stays");
}));

test("the JSON says what the page says", lab.journey(async (page) => {
  await withMistral(page);
  const [ledger, moments, verdict] = [await page.ledger(), await page.moments(), await page.verdict()];
  const report = await page.downloadJson();
  assert.equal(report.schema, "vramfit/1");
  assert.deepEqual([report.model.id, report.model.source, report.model.revision], [MISTRAL, "headers", lab.hub.repo(MISTRAL).sha]);
  assert.deepEqual([report.model.parameters.total, report.model.stored_bytes], [7_241_732_096, MISTRAL_WEIGHTS]);

  const [device] = report.devices;
  const terms = {};
  for (const entry of device.entries) terms[entry.term] = (terms[entry.term] ?? 0) + entry.bytes;
  for (const [term, bytes] of Object.entries(ledger)) assert.equal(terms[term], bytes, term);
  for (const [term, bytes] of Object.entries(terms)) assert.equal(ledger[term] ?? 0, bytes, term);
  for (const moment of ["loaded", "steady", "peak", "reserved"]) {
    if (moments[moment] !== undefined) assert.equal(device[`${moment}_bytes`], moments[moment], moment);
  }
  assert.equal(report.verdict.fits ? "yes" : "no", verdict.fits);
  assert.doesNotMatch(JSON.stringify(report), /"token"|hf_/);
}));

test("GiB or GB, the bytes stay", lab.journey(async (page) => {
  await withMistral(page);
  const numbers = await page.numbers();
  const shown = await page.row("weights").innerText();
  await page.button("Unit: GiB").click();
  await until(() => page.row("weights").innerText(), (text) => text !== shown && /14\.48/.test(text), "14.48 GB of weights");
  assert.deepEqual(await page.numbers(), numbers);
  await page.button("Unit: GB").click();
  await until(() => page.row("weights").innerText(), (text) => text === shown, "GiB again");
}));
