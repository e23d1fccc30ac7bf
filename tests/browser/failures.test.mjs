// What goes wrong, and what the page says to do about it. The last answer stays on the page through all of it.
import { test, before, after } from "node:test";
import assert from "node:assert/strict";
import { FAILED_REQUEST, Lab, until } from "./page.mjs";
import { configs, ggufHead, ggufLayout, ggufMetadata, safetensorsHead, tensor } from "../hub/repos.mjs";

const GATED = "meta-llama/Llama-3.1-8B";
const MISTRAL = "mistralai/Mistral-7B-v0.1";
const SMALL = "stand-in/mixed-dtypes";
const SMALL_WEIGHTS = 2_200_281_088;

const lab = new Lab();
before(() => lab.open());
after(() => lab.close());

const failing = (body) => lab.journey({ allow: [FAILED_REQUEST] }, body);
const quiet = (page) => until(() => page.hub.inFlight, (requests) => requests === 0, "nothing should be in flight");
const alive = async (page) => assert.match((await page.verdict()).fits, /^(yes|no|unknown)$/);

test("gated: asks for a token, a good one opens it and goes nowhere else", failing(async (page) => {
  await page.open({ m: GATED });
  await page.fails(/gated/i, /token/i);
  await alive(page);
  await page.token.fill("hf_good");
  await page.button("Use token").click();
  await page.known(/8\.03\s*B/, /header/i);
  await page.term("weights", 16_060_522_496);
  assert.equal(await page.error(), "");

  assert.equal(page.hub.cdnSawAuthorization, false, "the token must not reach the host of the large files");
  assert.ok(page.hub.log("resolve", GATED).some((entry) => entry.authorization && entry.status === 302));
  const link = await page.copyLink();
  // What the token opened is not kept for whoever comes after.
  const later = await page.another(link);
  await later.fails(/gated/i, /token/i);
  assert.deepEqual(await page.tab.evaluate(async () => (await (await caches.open("vramfit-models")).keys()).length), 0);
  const places = [link, page.tab.url(), JSON.stringify(await page.downloadJson()), ...page.profile.requests.map((request) => request.url)];
  places.push(await page.tab.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, document.body.innerText])));
  for (const place of places) assert.doesNotMatch(place, /hf_good/);
}));

test("gated: a token without access is told so", failing(async (page) => {
  await page.open({ m: GATED });
  await page.fails(/gated/i);
  await page.token.fill("hf_bad");
  await page.button("Use token").click();
  await until(() => page.hub.log("resolve", GATED).some((entry) => entry.authorization && entry.status === 403), Boolean, "the token should be tried");
  await page.idle();
  await page.fails(/access/i, /token|ask|request/i);
  await page.token.fill("hf_good");
  await page.button("Use token").click();
  await page.known(/8\.03\s*B/, /header/i);
}));

test("missing, or private: says both, and a token may help", failing(async (page) => {
  await page.open();
  const facts = await page.facts();
  await page.choose("nobody/nothing");
  await page.fails(/nobody\/nothing|not found|does not exist|no such|missing/i, /private|token/i);
  await alive(page);
  assert.notEqual(facts, "");

  await page.choose("stand-in/private");
  await until(() => page.hub.log("api", "stand-in/private").length, Boolean, "the new id should be asked for");
  await page.idle();
  await page.fails(/private|token/i);
  await page.token.fill("hf_good");
  await page.button("Use token").click();
  await page.known(/1\.10?\s*B/, /header/i);

  await page.choose("not an id at all");
  await page.fails(/\S/);
}));

test("a revision that is not there", failing(async (page) => {
  await page.open({ m: SMALL, rev: "nowhere" });
  await page.fails(/revision|branch|nowhere/i);
}));

test("a folder that is not there", failing(async (page) => {
  await page.open({ m: `${SMALL}/tree/main/nowhere` });
  await page.fails(/no folder/i, /nowhere/);
  await alive(page);
}));

test("rate limited: says to wait", failing(async (page) => {
  await page.open({ m: "busy/rate-limited" });
  await page.fails(/rate|too many|limit/i, /minute|later|again|wait/i);
  assert.ok(page.hub.log("api", "busy/rate-limited").length <= 4, "does not hammer a Hub that asked for a pause");
  await alive(page);
}));

test("rate limited: how long the Hub asks to wait, where a page may read it", failing(async (page) => {
  page.hub.set(`${SMALL}:api`, { status: 429, retryAfter: 120 });
  await page.keepProgress();
  await page.open({ m: SMALL });
  await page.fails(/asks to wait 2 minutes/, /try again then/i);
  assert.equal(page.hub.log("api", SMALL).length, 1, "it is not asked again before");
  page.hub.set(`${SMALL}:api`, { status: 429, retryAfter: 2, times: 1 });
  await page.button("Try again").click();
  await page.progressed(/once more in 2 s/i);
  await page.known(/1\.10?\s*B/, /header/i);
}));

test("a server in trouble: Try again", failing(async (page) => {
  page.hub.set(SMALL, { status: 503 });
  await page.open({ m: SMALL, rt: "transformers" });
  await page.fails(/503|server|trouble|unavailable/i);
  page.hub.set(SMALL, null);
  await page.button("Try again").click();
  await page.known(/1\.10?\s*B/, /header/i);
  await page.term("weights", SMALL_WEIGHTS);
  assert.equal(await page.error(), "");

  // Only the shards' host is in trouble.
  page.hub.set(`${SMALL}:*.safetensors`, { status: 500 });
  await page.open({ m: SMALL });
  await page.remarked(/500|server|header|config/i);
}));

test("offline: says so, keeps working, Try again when back", failing(async (page) => {
  await page.open();
  await page.context.setOffline(true);
  await page.choose(SMALL);
  await page.fails(/offline|reach|network|connect/i);
  const before_ = await page.verdict();
  await page.capacity(4);
  await until(() => page.verdict(), (verdict) => verdict.text !== before_.text, "the page should go on answering");
  await page.context.setOffline(false);
  await page.button("Try again").click();
  await page.known(/1\.10?\s*B/, /header/i);
}));

test("a search without an answer is one quiet line", failing(async (page) => {
  await page.open();
  const note = page.tab.locator("#model-note");
  const said = (pattern) => until(() => note.innerText(), (text) => pattern.test(text), `the note should say ${pattern}`);
  page.hub.set("search", { status: 429 });
  await page.model.fill("mistral");
  await said(/limits how often.*built-in/i);
  assert.ok((await page.suggested())["Built in"].length > 0);
  await page.context.setOffline(true);
  await page.model.fill("mistral-7b");
  await said(/cannot be reached/i);
  assert.equal(await page.error(), "");
  await page.context.setOffline(false);
  page.hub.set("search", null);
  await page.model.fill("stand-in/mixed");
  await page.suggests("stand-in/mixed-dtypes");
  await said(/^$/);
}));

test("refused for now: asked again after a pause", lab.journey({ allow: [FAILED_REQUEST] }, async (page) => {
  page.hub.set(`${SMALL}:api`, { status: 429, times: 1 });
  page.hub.set(`${SMALL}:model.safetensors`, { status: 503, times: 1 });
  await page.keepProgress();
  await page.open({ m: SMALL, rt: "transformers" });
  await page.progressed(/wait.*once more in 1 s/i);
  await page.known(/1\.10?\s*B/, /header/i);
  await page.term("weights", SMALL_WEIGHTS);
  assert.equal(await page.error(), "");
  assert.deepEqual(page.hub.log("api", SMALL).map((entry) => entry.status), [429, 200]);
}));

test("a host without CORS headers is a network failure, said plainly", lab.journey({ allow: [FAILED_REQUEST, /CORS policy/] }, async (page) => {
  page.hub.set(SMALL, { noCors: true });
  await page.open({ m: SMALL });
  await page.fails(/reach|network|connect|endpoint|offline/i);
}));

test("answers that are not what they should be", failing(async (page) => {
  await page.open({ m: "broken/malformed-config" });
  await page.fails(/config/i);
  await alive(page);

  // Each on a fresh page: what the last one left must not be taken for an answer.
  page.hub.set(`${SMALL}:api`, { body: '{"id": ' });
  await page.open({ m: SMALL });
  await page.fails(/\S/);

  await page.open({ m: "stand-in/no-config" });
  await page.fails(/config/i);

  await page.open();
  await page.paste('{"model_type": "llama", ');
  await page.fails(/JSON|config|parse|read/i);
}));

test("files that are damaged, or no model", failing(async (page) => {
  await page.open({ endpoint: null });
  const before_ = await page.facts();
  const { head } = ggufHead(ggufMetadata(configs.tinyLlama), ggufLayout(configs.tinyLlama, "Q8_0"));
  for (const [name, buffer, said] of [
    ["cut.gguf", head, /cut off/],
    ["half.gguf", head.subarray(0, 600), /cut off/],
    ["page.gguf", Buffer.from("<!doctype html>"), /web page/],
    ["other.gguf", Buffer.from("none of these"), /neither/],
    ["pointer.safetensors", Buffer.from("version https://git-lfs.github.com/spec/v1\n"), /Git LFS pointer/],
    ["alone.safetensors", Buffer.from(safetensorsHead([tensor("a", "F16", 1)])), /config\.json` is missing/],
    ["model.safetensors.index.json", Buffer.from('{"weight_map": [1]}'), /not a valid index/],
    ["config.json", Buffer.from('{"model_type": "llama", '), /JSON|EOF/],
  ]) {
    await page.drop([{ name, buffer }]);
    await page.fails(said, new RegExp(name.replace(".", "\\.").replace("alone\\.safetensors", "config")));
    assert.equal(await page.facts(), before_, "the last answer stays");
  }
  await page.drop([{ name: "config.json", buffer: Buffer.from(JSON.stringify(configs.qwen3_4b)) }]);
  await page.known(/4\.02\s*B/);
  assert.equal(await page.error(), "");

  await page.open({ m: "broken/cut-GGUF" });
  await page.fails(/cut\.Q8_0\.gguf/, /cut off/);
}));

test("headers that are broken are never believed", failing(async (page) => {
  for (const id of ["corrupt-header", "endless-header", "unsound-offsets", "short-file", "cut-off"].map((name) => `broken/${name}`)) {
    await page.open({ m: id });
    await until(() => page.hub.log("cdn", id).length, Boolean, `the header of ${id} should be asked for`);
    await page.idle();
    await quiet(page);
    // Either an error, or an estimate from the config that says what was wrong with the header.
    await page.remarked(/header|safetensors|incomplete|cut|broke|shorter|connection/i);
    if ((await page.error()) === "") await page.known(/config/i);
    await alive(page);
  }
  // And none of it stands in the way of the next.
  await page.choose(SMALL);
  await page.known(/1\.10?\s*B/, /header/i);
  assert.equal(await page.error(), "");
}));

test("no safetensors: estimated from the config, and said", lab.journey(async (page) => {
  await page.open({ m: "stand-in/only-bin", rt: "transformers" });
  await page.known(/1\.10?\s*B/, /config/i);
  await page.remarked(/safetensors/i, /config/i);
  await page.term("weights", 2_200_096_768);
  assert.equal((await page.downloadJson()).model.source, "config");
}));

test("slow: progress shows, Cancel stops it", lab.journey(async (page) => {
  await page.open({ m: SMALL });
  await page.known(/1\.10?\s*B/, /header/i);
  const numbers = await page.numbers();

  await page.choose("busy/slow");
  await page.working();
  await until(() => page.hub.log("cdn", "busy/slow").length, (requests) => requests > 0, "the slow body should have begun");
  assert.notEqual(page.hub.inFlight, 0);
  await page.button("Cancel").click();
  await page.idle();
  await quiet(page);
  assert.equal(page.hub.log("cdn", "busy/slow").at(-1).finished, false, "the request was broken off, not waited for");
  assert.deepEqual(await page.numbers(), numbers, "the last answer is still there");
  await page.choose(MISTRAL);
  await page.known(/7\.24\s*B/, /header/i);
}));

test("a new model cancels the old one: a late answer changes nothing", lab.journey(async (page) => {
  await page.open({ m: SMALL });
  await page.known(/1\.10?\s*B/, /header/i);
  await page.choose("busy/held");
  await page.working();
  await until(() => page.hub.held, (held) => held > 0, "the answer should be held back");
  await page.choose(MISTRAL);
  await page.known(/7\.24\s*B/, /header/i);
  const numbers = await page.numbers();

  page.hub.release();
  await quiet(page);
  await page.tab.evaluate(() => new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next))));
  assert.match(await page.facts(), /7\.24\s*B/);
  assert.deepEqual(await page.numbers(), numbers);
  assert.equal(await page.model.inputValue(), MISTRAL);
  assert.equal(await page.error(), "");
  assert.equal(await page.progress(), false);
}));
