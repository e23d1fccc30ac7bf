// The page as a person uses it: what tests may know about it is here and nowhere else.
//
//   const lab = new Lab();
//   before(() => lab.open());
//   after(() => lab.close());
//   test("...", lab.journey(async (page) => { await page.open(); ... }));
//
// A journey runs in a browser profile of its own and fails, besides its own assertions, on any error in the console
// (unless options.allow names it) and on any request to a host other than the page's own and the stand-in's two.
// Other hosts could not be reached anyway: the browser is told that their names do not resolve.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { chromium } from "playwright-core";
import { startHub } from "../hub/server.mjs";
import { serveDist } from "./serve-dist.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const DIST = process.env.VRAMFIT_DIST ?? here("../../dist");
export const SHOTS = here("./shots/");

/** What browsers say about every answer that is an error, whoever handles it. */
export const FAILED_REQUEST = /Failed to load resource/;

/** Milliseconds until something counts as never: far above what a slow and busy machine takes, since only failures wait so long. */
const PATIENCE = 90_000;

/** Ask again until it holds; say what was seen last when it never does. */
export async function until(read, holds, what) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const seen = await read();
    if (holds(seen)) return seen;
    if (Date.now() > end) assert.fail(`${what}; last seen: ${inspect(seen, { depth: 4, breakLength: 120 })}`);
    await new Promise((next) => setTimeout(next, 20));
  }
}

/** A count as typed or shown: 8192, "8,192", "8 192", "8K". */
export function count(text) {
  const match = /^\s*([\d.,\s\u2009\u202f\u00a0_]+)([kKmM])?/.exec(text);
  if (!match) return NaN;
  const unit = { k: 1024, m: 1024 * 1024 }[match[2]?.toLowerCase()] ?? 1;
  return Number(match[1].replace(/[^\d.]/g, "")) * unit;
}

export class Lab {
  #browser;
  #site;

  async open() {
    const executablePath = process.env.VRAMFIT_CHROMIUM;
    assert.ok(executablePath, "set VRAMFIT_CHROMIUM to the path of a Chromium or Chrome");
    // One after the other, so that close() knows of each where the next cannot start.
    this.hub = await startHub();
    this.#site = await serveDist({ dir: DIST });
    this.#browser = await chromium.launch({
      executablePath,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
      ],
    });
    this.home = new URL("/", this.#site.url).href;
  }

  async close() {
    await this.#browser?.close();
    await Promise.all([this.#site?.close(), this.hub?.close()]);
  }

  /**
   * A test body with a fresh profile. Options: theme ("light" | "dark"), width, height, allow (patterns of console
   * errors that belong to the journey), csp (true: the page's own Content-Security-Policy stays in force; it lets
   * the page talk to https only, and the stand-in is plain http on loopback, so journeys that need it go without).
   */
  journey(options, body) {
    if (typeof options === "function") [options, body] = [{}, options];
    return async (t) => {
      this.hub.reset();
      const profile = await this.#profile(options);
      const page = await profile.tab();
      try {
        await body(page, t);
        profile.judge();
      } catch (error) {
        await page.shot(`failed ${t.name}`).catch(() => {});
        if (profile.problems.length) error.message += `\nseen on the way:\n  ${profile.problems.join("\n  ")}`;
        throw error;
      } finally {
        await profile.context.close();
      }
    };
  }

  async #profile({ theme = "light", width = 1280, height = 900, allow = [], csp = false }) {
    const context = await this.#browser.newContext({
      viewport: { width, height },
      colorScheme: theme,
      bypassCSP: !csp,
      acceptDownloads: true,
    });
    context.setDefaultTimeout(PATIENCE);
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: new URL(this.home).origin });
    const hosts = [this.home, this.hub.endpoint, this.hub.cdn].map((url) => new URL(url).host);
    const profile = {
      context,
      problems: [],
      warnings: [],
      requests: [],
      tab: async () => new Page(this, profile, await context.newPage()),
      judge: () => assert.deepEqual(profile.problems, [], "errors in the console or requests to strangers"),
    };
    const problem = (what) => {
      if (!allow.some((pattern) => pattern.test(what))) profile.problems.push(what);
    };
    context.on("console", (message) => {
      if (message.type() === "error") problem(`console: ${message.text()}`);
      if (message.type() === "warning") profile.warnings.push(message.text());
    });
    context.on("weberror", (error) => problem(`uncaught: ${error.error()?.stack ?? error.error()}`));
    context.on("request", (request) => {
      const url = new URL(request.url());
      profile.requests.push({ url: url.href, host: url.host, method: request.method(), kind: request.resourceType() });
      if (/^https?:$/.test(url.protocol) && !hosts.includes(url.host)) problem(`request to a stranger: ${url.href}`);
    });
    return profile;
  }
}

export class Page {
  constructor(lab, profile, tab) {
    this.lab = lab;
    this.hub = lab.hub;
    this.profile = profile;
    this.context = profile.context;
    this.tab = tab;
  }

  // -- coming and going ---------------------------------------------------------------------------------------

  /** Open a link with these keys (values as in the link); the stand-in is the endpoint unless `endpoint: null`. */
  async open(keys = {}) {
    const all = { v: "1", ...keys, endpoint: keys.endpoint === undefined ? this.hub.endpoint : keys.endpoint };
    const query = new URLSearchParams(Object.entries(all).filter(([, value]) => value !== null && value !== undefined));
    await this.go(`${this.lab.home}?${query}`);
    return this;
  }

  async go(url) {
    await this.tab.goto(url);
    await this.ready();
  }

  /** The page works, and what it makes after its first answer (long lists, curve, remarks) is there too. */
  async ready() {
    await this.tab.waitForSelector('html[data-ready="true"] #assumptions', { state: "attached" });
  }

  /** The answer is drawn, the curve that follows after a pause included. */
  async drawn() {
    await this.tab.waitForSelector('#answer[aria-busy="false"] #curve-drawing svg', { state: "attached" });
  }

  /** Keeps every text of the progress line from the next page on: some are gone within a second. */
  async keepProgress() {
    await this.tab.addInitScript(() => {
      globalThis.progressTexts = [];
      const keep = () => {
        const text = document.getElementById("progress-text")?.textContent;
        if (text && globalThis.progressTexts.at(-1) !== text) globalThis.progressTexts.push(text);
      };
      new MutationObserver(keep).observe(document, { subtree: true, childList: true, characterData: true });
    });
  }

  /** Wait until the progress line has said so, after keepProgress(). */
  async progressed(pattern) {
    return until(() => this.tab.evaluate(() => globalThis.progressTexts), (texts) => texts.some((text) => pattern.test(text)), `the progress should have said ${pattern}`);
  }

  /** The same profile, another tab. */
  async another(url) {
    const page = await this.profile.tab();
    await page.go(url);
    return page;
  }

  async shot(name) {
    await mkdir(SHOTS, { recursive: true });
    await this.tab.screenshot({ path: `${SHOTS}${name.replace(/[^\w-]+/g, "-")}.png`, fullPage: true });
  }

  // -- the model ----------------------------------------------------------------------------------------------

  get model() {
    return this.tab.getByRole("combobox", { name: "Model", exact: true });
  }

  async choose(model) {
    await this.model.fill(model);
    await this.model.press("Enter");
  }

  /** Type on from what stands in the box, a key at a time and faster than any pause. */
  async typeOn(text) {
    await this.model.evaluate((box, text) => {
      for (const letter of text) {
        box.value += letter;
        box.dispatchEvent(new Event("input", { bubbles: true }));
      }
    }, text);
  }

  /** What the list under the box offers, by group: {group: [ids]}. */
  async suggested() {
    const groups = await this.tab.locator("#model-list [role=group]").evaluateAll((found) =>
      found.map((group) => [group.getAttribute("aria-label"), [...group.querySelectorAll("[role=option]")].map((option) => option.textContent)]),
    );
    return Object.fromEntries(groups);
  }

  /** Wait until the list under the box offers these ids of the Hub. */
  async suggests(...ids) {
    return until(() => this.suggested(), (groups) => (groups["On the Hub"] ?? []).join() === ids.join(), `the Hub's suggestions should be ${ids.join(", ") || "none"}`);
  }

  /** Through the clipboard, as people do, line breaks and all. */
  async paste(text) {
    await this.tab.evaluate((content) => navigator.clipboard.writeText(content), text);
    await this.model.fill("");
    await this.model.press("ControlOrMeta+v");
    await this.model.press("Enter");
  }

  /** Pick files: paths, or {name, mimeType, buffer}. A path of a folder goes into the field for folders. */
  async pick(files, field = "files") {
    await this.tab.locator(`#${field}`).setInputFiles(files);
  }

  /** Drop files ({name, buffer}) onto the page, as a browser hands them over. */
  async drop(files) {
    const bytes = files.map(({ name, buffer }) => ({ name, base64: Buffer.from(buffer).toString("base64") }));
    await this.tab.evaluate((files) => {
      const dataTransfer = new DataTransfer();
      for (const { name, base64 } of files) dataTransfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
      for (const type of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
    }, bytes);
  }

  /** Drop paths of this machine, folders among them, as a file manager does: the page gets entries of a file system. */
  async dropPaths(...files) {
    const session = await this.context.newCDPSession(this.tab);
    const data = { items: [], files, dragOperationsMask: 1 };
    for (const type of ["dragEnter", "dragOver", "drop"]) await session.send("Input.dispatchDragEvent", { type, x: 200, y: 200, data });
    await session.detach();
  }

  /** Wait until the model that is shown is stored in so many bytes. */
  async stored(bytes) {
    await this.known(new RegExp(`${(bytes / 2 ** 30).toFixed(2).replace(".", "\\.")} GiB stored`));
    await until(async () => (await this.downloadJson()).model.stored_bytes, (seen) => seen === bytes, `${bytes} bytes should be stored`);
  }

  /** Names and sizes of the files that the page offers to choose from. */
  async offers() {
    return until(() => this.tab.locator("#model-error button[data-file]").allInnerTexts(), (texts) => texts.length > 0, "files to choose from");
  }

  async take(pattern) {
    await this.tab.locator("#model-error button[data-file]", { hasText: pattern }).click();
  }

  /** What stands in an element, in one look: it may be gone the next moment. */
  async #text(selector) {
    const text = await this.tab.evaluate((selector) => {
      const found = document.querySelector(selector);
      return found && found.getClientRects().length > 0 ? found.innerText : "";
    }, selector);
    return text.replace(/\s+/g, " ").trim();
  }

  facts() {
    return this.#text("#model-facts");
  }

  /** Wait until the line of facts says all of this. */
  async known(...patterns) {
    return until(() => this.facts(), (text) => patterns.every((pattern) => pattern.test(text)), `the facts should say ${patterns.join(" and ")}`);
  }

  error() {
    return this.#text("#model-error");
  }

  /** Wait until the error beside the model box says all of this. */
  async fails(...patterns) {
    return until(() => this.error(), (text) => patterns.every((pattern) => pattern.test(text)), `the error should say ${patterns.join(" and ")}`);
  }

  /** Everything the page says about what it took for granted, in error or not. */
  async remarks() {
    const parts = await Promise.all([this.error(), this.facts(), this.#text("#assumptions"), this.#text("#status")]);
    return parts.join(" | ");
  }

  async remarked(...patterns) {
    return until(() => this.remarks(), (text) => patterns.every((pattern) => pattern.test(text)), `the page should say ${patterns.join(" and ")}`);
  }

  progress() {
    return this.tab.locator("#model-progress").isVisible();
  }

  async working() {
    await until(() => this.progress(), Boolean, "progress should show");
  }

  async idle() {
    await until(() => this.progress(), (visible) => !visible, "progress should be over");
  }

  /** The token field beside the error, not the one folded away under "More settings". */
  get token() {
    return this.tab.getByLabel("Access token").and(this.tab.locator("input[type=password]:visible")).first();
  }

  button(name) {
    return this.tab.getByRole("button", { name, exact: true });
  }

  // -- what one chooses ---------------------------------------------------------------------------------------

  async gpus() {
    return this.tab.locator("#gpu option").evaluateAll((options) => options.map((option) => ({ value: option.value, label: option.label.trim() })));
  }

  /** Choose the first GPU whose label matches. */
  async gpu(pattern) {
    const options = await this.gpus();
    const option = options.find(({ label, value }) => pattern.test(label) || pattern.test(value));
    assert.ok(option, `a GPU like ${pattern} among ${options.length}`);
    await this.tab.locator("#gpu").selectOption(option.value);
    return option;
  }

  async capacity(gib) {
    await this.gpu(/custom/i);
    await this.type("capacity", gib);
  }

  /** Type into a field and leave it. */
  async type(id, text) {
    const field = this.tab.locator(`#${id}`);
    await field.fill(String(text));
    await field.blur();
  }

  async typed(id) {
    return count(await this.tab.locator(`#${id}`).inputValue());
  }

  async slider(id) {
    return this.tab.locator(`#${id}`).evaluate((input) => ({ value: Number(input.value), min: Number(input.min), max: Number(input.max), text: input.getAttribute("aria-valuetext") }));
  }

  /** Take the thumb with the mouse and pull it to a share of the track. */
  async drag(id, share) {
    const range = this.tab.locator(`#${id}`);
    await range.scrollIntoViewIfNeeded();
    let before;
    const box = await until(() => range.boundingBox(), (now) => now && ([now.x, now.y].join() === before || void (before = [now.x, now.y].join())), `#${id} should stand still`);
    const { value, min, max } = await this.slider(id);
    const thumb = 16;
    const x = (part) => box.x + thumb / 2 + part * (box.width - thumb);
    const y = box.y + box.height / 2;
    await this.tab.mouse.move(x((value - min) / (max - min)), y);
    await this.tab.mouse.down();
    await this.tab.mouse.move(x(share), y, { steps: 8 });
    await this.tab.mouse.up();
  }

  // -- the answer ---------------------------------------------------------------------------------------------

  async verdict() {
    return this.tab.locator("#verdict").evaluate((heading) => ({ fits: heading.dataset.fits, text: heading.innerText.trim() }));
  }

  async verdictIs(fits) {
    return until(() => this.verdict(), (verdict) => verdict.fits === fits, `the verdict should be "${fits}"`);
  }

  /** Bytes by term, rows of one term added up. */
  async ledger() {
    const rows = await this.tab
      .locator("#ledger tr[data-term]")
      .evaluateAll((found) => found.map((row) => [row.dataset.term, row.querySelector("data[value]")?.value]));
    const terms = {};
    for (const [term, bytes] of rows) {
      assert.match(bytes ?? "nothing", /^\d+$/, `bytes of ${term}`);
      terms[term] = (terms[term] ?? 0) + Number(bytes);
    }
    return terms;
  }

  async term(name, bytes) {
    return until(async () => (await this.ledger())[name], (seen) => seen === bytes, `${name} should be ${bytes.toLocaleString("en")} bytes`);
  }

  async moments() {
    const rows = await this.tab.locator("#moments data[data-moment]").evaluateAll((found) => found.map((data) => [data.dataset.moment, Number(data.value)]));
    return Object.fromEntries(rows);
  }

  /** Every number of the answer that carries its bytes, in order and with its place. */
  async numbers() {
    return this.tab.locator("#answer data[value]").evaluateAll((found) =>
      found.map((data) => {
        const row = data.closest("tr[data-term]");
        return `${data.dataset.moment ?? row?.dataset.term ?? data.closest("[id]")?.id}: ${data.value}`;
      }),
    );
  }

  row(term) {
    return this.tab.locator(`#ledger tr[data-term="${term}"]`).first();
  }

  /** Open a row; the text of its formula and where its values come from. */
  async formula(term) {
    const button = this.row(term).getByRole("button");
    if ((await button.getAttribute("aria-expanded")) !== "true") await button.click();
    await until(() => button.getAttribute("aria-expanded"), (state) => state === "true", "the row should be open");
    const opened = this.row(term).locator("xpath=following-sibling::tr[1]").and(this.tab.locator("tr.formula"));
    const code = await opened.locator("code").first().innerText();
    const sources = (await opened.locator("li").allInnerTexts()).map((text) => text.trim());
    return { code: code.replace(/\s+/g, " ").trim(), sources };
  }

  /** Everything that is said and offered, as it is read and as it is set. */
  async everything() {
    return this.tab.evaluate(() => {
      const answer = document.getElementById("answer");
      const drawn = [...answer.querySelectorAll("svg [points], svg text")].map((shape) => shape.getAttribute("points") ?? `${shape.getAttribute("x")} ${shape.textContent}`);
      const fields = [...document.querySelectorAll("#inputs :is(input, select)")].filter((field) => field.checkVisibility());
      const set = fields.map((field) => [field.id, field.value, field.max, field.disabled, field.getAttribute("aria-valuetext")].join(" "));
      const kept = [...answer.querySelectorAll("data")].map((data) => `${data.id || data.dataset.moment} ${data.value}`);
      return { said: answer.innerText.replace(/\s+/g, " "), drawn, set, kept };
    });
  }

  get curve() {
    return this.tab.getByRole("slider", { name: "Context on the curve" });
  }

  readout() {
    return this.#text("#curve-readout");
  }

  // -- taking it away -----------------------------------------------------------------------------------------

  async copyLink() {
    await this.tab.evaluate(() => navigator.clipboard.writeText("nothing copied yet"));
    await this.button("Copy link").click();
    return until(() => this.tab.evaluate(() => navigator.clipboard.readText()), (text) => text.startsWith("http"), "the clipboard should hold a link");
  }

  async downloadJson() {
    const [download] = await Promise.all([this.tab.waitForEvent("download"), this.button("Download JSON").click()]);
    assert.match(download.suggestedFilename(), /\.json$/);
    return JSON.parse(await readFile(await download.path(), "utf8"));
  }
}
