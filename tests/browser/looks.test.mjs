// Can everybody read and work it: axe, small screens, the keyboard alone. Leaves pictures in shots/.
import { test, before, after } from "node:test";
import assert from "node:assert/strict";
import { AxeBuilder } from "@axe-core/playwright";
import { Lab, until } from "./page.mjs";

const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
const SIZES = { wide: { width: 1280, height: 900 }, narrow: { width: 390, height: 844 } };

const lab = new Lab();
before(() => lab.open());
after(() => lab.close());

/** A row open, a mistake in the model box, the folded settings unfolded. */
async function openEverything(page) {
  await page.formula("weights");
  await page.formula("kv_cache");
  await page.tab.getByText("More settings", { exact: false }).first().click();
  await page.tab.locator("#by-hand summary").click();
  await page.tab.getByLabel("Attention heads", { exact: true }).waitFor();
  await page.paste('{"model_type": ');
  await page.fails(/\S/);
}

async function clean(page, state) {
  // The button that follows the reader covers something wherever the page stands, save at its end.
  await page.tab.evaluate(() => scrollTo(0, document.body.scrollHeight));
  const { violations } = await new AxeBuilder({ page: page.tab }).withTags(TAGS).analyze();
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.slice(0, 5).map((node) => `${node.target.join(" ")}: ${node.any[0]?.message ?? node.html}`).join("\n    ")}`);
  assert.deepEqual(told, [], `axe, ${state}`);
}

const overflow = (page) =>
  page.tab.evaluate(() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return [];
    const scrolls = (element) => element && (/(auto|scroll|hidden|clip)/.test(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
    return [...document.body.querySelectorAll("*")]
      .filter((element) => element.getBoundingClientRect().right > room + 0.5 && !scrolls(element.parentElement))
      .map((element) => `${element.tagName.toLowerCase()}${element.id && `#${element.id}`} ends at ${Math.round(element.getBoundingClientRect().right)} of ${room}`)
      .concat(`the document is ${document.documentElement.scrollWidth} wide`);
  });

for (const [size, box] of Object.entries(SIZES)) {
  for (const theme of ["light", "dark"]) {
    test(`axe finds nothing: ${size}, ${theme}`, lab.journey({ ...box, theme, csp: true }, async (page) => {
      await page.open({ endpoint: null });
      await page.drawn();
      await clean(page, "as it opens");
      await page.shot(`${size}-${theme}`);
      await openEverything(page);
      await clean(page, "formula, settings and error open");
      await page.shot(`${size}-${theme}-open`);
    }));
  }
}

test("axe finds nothing while loading and when a repository is gated", lab.journey({ allow: [/Failed to load resource/] }, async (page) => {
  await page.open();
  await page.choose("busy/held");
  await page.working();
  await clean(page, "loading");
  await page.button("Cancel").click();
  await page.idle();
  await page.choose("meta-llama/Llama-3.1-8B");
  await page.fails(/gated/i);
  await clean(page, "gated");
}));

/** Terms of the ledger whose label reaches into their figure. */
const covered = (page) =>
  page.tab.evaluate(() =>
    [...document.querySelectorAll("#ledger tr[data-term]")]
      .filter((row) => {
        const range = document.createRange();
        range.selectNodeContents(row.querySelector("button"));
        return range.getBoundingClientRect().right > row.querySelector("td data").getBoundingClientRect().left;
      })
      .map((row) => row.dataset.term),
  );

test("no sideways scrolling down to 320 px", lab.journey({ csp: true, width: 320, height: 800 }, async (page) => {
  await page.open({ endpoint: null });
  await page.drawn();
  for (const state of ["as it opens", "with everything open"]) {
    if (state !== "as it opens") await openEverything(page);
    for (const width of [1280, 900, 640, 390, 320]) {
      await page.tab.setViewportSize({ width, height: 800 });
      assert.deepEqual(await overflow(page), [], `${width} px, ${state}`);
      assert.deepEqual(await covered(page), [], `${width} px, ${state}`);
    }
  }
}));

test("nothing moves by itself", lab.journey({ csp: true }, async (page) => {
  await page.open({ endpoint: null });
  await until(() => page.tab.evaluate(() => document.getAnimations().filter((animation) => animation.playState === "running").length), (running) => running === 0, "animations should be at rest");
}));

/** Where the focus is, whether one can see that, and whether anything hides it. */
const focus = (page) =>
  page.tab.evaluate(() => {
    const element = document.activeElement;
    if (!element || element === document.body || element === document.documentElement) return null;
    const outlined = (style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    const ring = outlined(getComputedStyle(element)) || getComputedStyle(element).boxShadow !== "none";
    const around = element.parentElement !== null && outlined(getComputedStyle(element.parentElement)); // :focus-within
    const box = element.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const top = document.elementFromPoint(x, y);
    const label = (element.getAttribute("aria-label") ?? element.textContent ?? "").replace(/\s+/g, " ").trim().slice(0, 60);
    return {
      name: element.id ? `#${element.id}` : label || element.outerHTML.slice(0, 80),
      label,
      term: element.closest("tr[data-term]")?.dataset.term ?? null,
      ring: ring || around,
      shown: box.width > 0 && box.height > 0 && top !== null && (element.contains(top) || top.contains(element) || top.tagName === "LABEL"),
    };
  });

test("the keyboard reaches everything, and one sees where it is", lab.journey({ csp: true }, async (page) => {
  await page.open({ endpoint: null });
  await page.drawn();
  const stops = [];
  await page.tab.evaluate(() => document.activeElement?.blur());
  for (let n = 0; n < 150; n++) {
    await page.tab.keyboard.press("Tab");
    const stop = await focus(page);
    if (stop === null) {
      if (stops.length) break;
      continue;
    }
    if (stops.length && stop.name === stops[0].name && stop.label === stops[0].label) break;
    stops.push(stop);
  }
  const names = stops.map((stop) => stop.name);
  for (const id of ["model", "gpu", "gpus", "runtime", "weights", "kv", "context", "context-slider", "batch", "batch-slider"]) assert.ok(names.includes(`#${id}`), `#${id} among ${names.join(", ")}`);
  for (const label of [/More settings/, /Copy link/, /Download JSON/, /GiB|GB/]) assert.ok(stops.some((stop) => label.test(stop.label)), `${label} among ${names.join(", ")}`);
  const terms = Object.keys(await page.ledger());
  for (const term of terms) assert.ok(stops.some((stop) => stop.term === term), `the row of ${term}`);
  assert.deepEqual(stops.filter((stop) => !stop.ring).map((stop) => stop.name), [], "stops without a visible focus");
  assert.deepEqual(stops.filter((stop) => !stop.shown).map((stop) => stop.name), [], "stops that something hides");
  const order = ["#model", "#gpu", "#runtime", "#context"].map((name) => names.indexOf(name));
  assert.deepEqual(order, [...order].sort((a, b) => a - b), "in reading order");
}));

test("a whole run without a mouse", lab.journey(async (page) => {
  const { keyboard } = page.tab;
  await page.open();
  const tabTo = async (locator) => {
    for (let n = 0; n < 150; n++) {
      if (await locator.evaluate((element) => element === document.activeElement)) return;
      await keyboard.press("Tab");
    }
    assert.fail(`Tab never came to ${locator}`);
  };
  await tabTo(page.model);
  await keyboard.press("ControlOrMeta+a");
  await keyboard.type("Qwen/Qwen2-7B");
  await keyboard.press("Enter");
  await page.known(/7\.62\s*B/, /header/i);

  await tabTo(page.tab.locator("#context-slider"));
  const tokens = await page.typed("context");
  await keyboard.press("ArrowLeft");
  await until(() => page.typed("context"), (now) => now < tokens, "a shorter context");

  const row = page.row("kv_cache").getByRole("button");
  await tabTo(row);
  await keyboard.press("Enter");
  await until(() => row.getAttribute("aria-expanded"), (state) => state === "true", "Enter opens the row");
  await keyboard.press("Space");
  await until(() => row.getAttribute("aria-expanded"), (state) => state === "false", "Space closes it");

  await tabTo(page.curve);
  const said = await page.curve.getAttribute("aria-valuetext");
  await keyboard.press("End");
  await until(() => page.curve.getAttribute("aria-valuetext"), (now) => now !== null && now !== said, "the crosshair says where it is");
}));

test("the model box is a combobox that can be left alone", lab.journey(async (page) => {
  await page.open();
  await page.model.fill("");
  await page.model.pressSequentially("mixtral-8x7b");
  const list = page.tab.locator("#model-list");
  await list.waitFor({ state: "visible" });
  assert.equal(await page.model.getAttribute("aria-expanded"), "true");
  const option = list.getByRole("option").first();
  assert.match(await option.innerText(), /mixtral/i);
  await page.model.fill("stand-in/mixed");
  await page.suggests("stand-in/mixed-dtypes");
  await clean(page, "suggestions of the Hub");
  assert.equal(await list.getByRole("option", { name: "stand-in/mixed-dtypes", exact: true }).count(), 1, "an option is called as its model");
  await page.model.fill("mixtral-8x7b");
  await page.model.press("ArrowDown");
  const active = await until(() => page.model.getAttribute("aria-activedescendant"), Boolean, "an option should be active");
  assert.equal(await page.tab.locator(`[id="${active}"]`).count(), 1, "the active option is announced");
  await page.model.press("Escape");
  await list.waitFor({ state: "hidden" });
  assert.equal(await page.model.getAttribute("aria-expanded"), "false");

  await page.model.press("ArrowDown");
  await list.waitFor({ state: "visible" });
  await page.model.press("ArrowDown");
  await page.model.press("Enter");
  await page.known(/46\.7\d?\s*B/);
}));
