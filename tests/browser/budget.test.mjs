// What the first visit costs the network and the eye. Times are measured by the benchmark, not here.
import { test, before, after } from "node:test";
import assert from "node:assert/strict";
import { Lab, until } from "./page.mjs";

const lab = new Lab();
before(() => lab.open());
after(() => lab.close());

/** Keep every layout shift from the first frame on. */
const watchShifts = (page) =>
  page.tab.addInitScript(() => {
    globalThis.shifts = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        globalThis.shifts.push({ value: entry.value, typed: entry.hadRecentInput, at: entry.sources.map(({ node }) => node?.id || node?.className || node?.nodeName).join(" ") });
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
const twoFrames = (page) => page.tab.evaluate(() => new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next))));
const shifts = (page) => page.tab.evaluate(() => globalThis.shifts);

test("the first visit: one wasm, nobody else's server, no fonts", lab.journey({ csp: true }, async (page) => {
  const load = page.tab.waitForEvent("load");
  await page.open({ endpoint: null, v: null });
  await load;
  const { requests, warnings } = page.profile;
  const wasm = requests.filter((request) => request.url.includes(".wasm"));
  assert.equal(wasm.length, 1, wasm.map((request) => request.url).join("\n"));
  assert.deepEqual(requests.filter((request) => request.kind === "font"), []);
  const host = new URL(lab.home).host;
  assert.deepEqual(requests.filter((request) => request.host && request.host !== host), []);
  assert.deepEqual(new Set(requests.map((request) => request.url)).size, requests.length, "nothing is asked for twice");
  assert.deepEqual(warnings.filter((warning) => /preload/i.test(warning)), []);
  const type = await page.tab.evaluate(async (url) => (await fetch(url, { method: "HEAD" })).headers.get("content-type"), wasm[0].url);
  assert.equal(type, "application/wasm", "compiled while it streams");
}));

test("the policy lets the page talk to https only", lab.journey({ csp: true, allow: [/Content Security Policy|Refused to connect|violates/i] }, async (page) => {
  await page.open({ m: "stand-in/mixed-dtypes" });
  await page.fails(/\S/);
  assert.deepEqual(page.hub.requests, [], "plain http never leaves the page");
}));

for (const [name, box] of Object.entries({ wide: { width: 1280, height: 900 }, narrow: { width: 390, height: 844 } })) {
  test(`nothing jumps while the page comes up: ${name}`, lab.journey({ csp: true, ...box }, async (page) => {
    await watchShifts(page);
    await page.open({ endpoint: null, v: null });
    await page.drawn();
    await twoFrames(page);
    assert.deepEqual((await shifts(page)).filter((shift) => !shift.typed), []);
  }));
}

test("nothing jumps when a choice changes", lab.journey(async (page, t) => {
  await watchShifts(page);
  await page.open({ m: "mistralai/Mistral-7B-Instruct-v0.2", ctx: "4096" });
  await page.known(/7\.24\s*B/, /header/i);
  await page.drawn();
  await twoFrames(page);
  const start = (await shifts(page)).length;
  const slider = page.tab.locator("#context-slider");
  await slider.focus();
  for (let n = 0; n < 10; n++) {
    const before_ = await page.typed("context");
    await slider.press("ArrowRight");
    await until(() => page.typed("context"), (now) => now !== before_, "the context should change");
    await twoFrames(page);
  }
  const seen = (await shifts(page)).slice(start);
  const sum = seen.reduce((total, shift) => total + shift.value, 0);
  t.diagnostic(`layout shift over ten steps of the slider: ${sum.toFixed(4)} ${seen.map((shift) => shift.at).join("; ")}`);
  assert.ok(sum < 0.01, `${sum} by ${JSON.stringify(seen)}`);
}));
