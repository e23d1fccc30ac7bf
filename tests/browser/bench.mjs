// Measures the page: the size of its first load, and start-up and update in a throttled Chromium.
//
//   node bench.mjs size      bytes by part, raw, gzip and brotli; fails when over the budget
//   node bench.mjs browser   first paint, ready, cost of a change (VRAMFIT_CHROMIUM names the browser), beside what was last
//                            recorded on such a machine; fails when it takes more than three times that, where a machine that is
//                            slower or busier just now (by a fixed piece of work of its own) has as much more time
//   node bench.mjs record    the same, and records it
import { readFile, readdir, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { DIST, brotli, gzip, serveDist } from "./serve-dist.mjs";

const BUDGET = { firstLoad: 200_000, firstPaint: 400, ready: 700, update: 16 }; // bytes, then milliseconds
const THROTTLE = 4;
const STARTS = 7;
const CHANGES = 60;
const SETTLE = 2000;
const RECORDS = path.join(import.meta.dirname, "recorded.json");
// Another program that runs beside this one only ever adds time, so the quickest of several runs is compared, with room; one that
// runs all the while makes the yardstick longer too.
const SLOWER = 3;
const YARDSTICK = "yardstick";

const row = (cells, widths) => cells.map((cell, i) => (i === 0 ? String(cell).padEnd(widths[i]) : String(cell).padStart(widths[i]))).join("  ");
const kb = (bytes) => `${(bytes / 1000).toFixed(1)} KB`;
const ms = (value) => (Number.isFinite(value) ? `${value.toFixed(1)} ms` : "not measured");
const verdict = (good) => (good ? "within" : "OVER");

function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] : NaN;
}
const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

// What a first visit fetches: what index.html names, and what its scripts import.
async function firstLoad() {
  const files = new Map();
  async function take(name) {
    const clean = path.posix.normalize(name.split(/[?#]/)[0]);
    if (files.has(clean) || clean.startsWith("..")) return;
    let bytes;
    try {
      bytes = await readFile(path.join(DIST, clean));
    } catch {
      throw new Error(`the page names ${clean}, which is not in dist/`);
    }
    files.set(clean, bytes);
    const text = /\.(html|js|mjs)$/.test(clean) ? bytes.toString("utf8") : "";
    const named = clean.endsWith(".html")
      ? [...text.matchAll(/\b(?:href|src|data-js|data-wasm)=["']?([^"'\s>]+)/g)].map((hit) => hit[1])
      : [...text.matchAll(/\b(?:from|import)\s*\(?["'`](\.{1,2}\/[^"'`]+)["'`]/g)].map((hit) => path.posix.join(path.posix.dirname(clean), hit[1]));
    for (const one of named) if (!/^([a-z][a-z0-9+.-]*:|\/\/|#)/i.test(one)) await take(one);
  }
  await take("index.html");
  return files;
}

async function size() {
  const files = await firstLoad();
  const part = (name) => (name === "boot.js" ? "boot script" : {
    ".html": "HTML", ".css": "CSS", ".js": "JavaScript", ".wasm": "WebAssembly", ".svg": "icon", ".png": "icon",
  }[path.extname(name)] || "other");
  const parts = new Map();
  for (const [name, bytes] of files) {
    const key = part(name);
    const sum = parts.get(key) || { files: 0, raw: 0, gzip: 0, brotli: 0 };
    sum.files += 1;
    sum.raw += bytes.length;
    sum.gzip += (await gzip(bytes)).length;
    sum.brotli += (await brotli(bytes)).length;
    parts.set(key, sum);
  }
  const total = { files: 0, raw: 0, gzip: 0, brotli: 0 };
  for (const sum of parts.values()) for (const key of Object.keys(total)) total[key] += sum[key];

  const widths = [14, 5, 10, 10, 10];
  console.log("\nFirst load, by part (bytes; gzip 9, brotli 11)");
  console.log(row(["part", "files", "raw", "gzip", "brotli"], widths));
  const line = (name, sum) => console.log(row([name, sum.files, sum.raw, sum.gzip, sum.brotli], widths));
  for (const [name, sum] of [...parts].sort((a, b) => b[1].brotli - a[1].brotli)) line(name, sum);
  line("all", total);
  const good = total.brotli <= BUDGET.firstLoad;
  console.log(`${kb(total.brotli)} brotli; budget ${kb(BUDGET.firstLoad)}: ${verdict(good)}`);
  const all = (await readdir(DIST, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
    .map((entry) => path.relative(DIST, path.join(entry.parentPath ?? entry.path, entry.name)).split(path.sep).join("/"));
  const later = all.filter((name) => !files.has(name));
  if (later.length) console.log(`Not part of a first load: ${later.join(", ")}`);
  return good;
}

// Runs in the page before anything of it: watches paint, shifts and the moment the page says it is ready.
function watch() {
  const seen = { shifts: 0, ready: NaN };
  seen.whenReady = new Promise((resolve) => { seen.resolve = resolve; });
  Object.defineProperty(window, "__bench", { value: seen });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) seen.shifts += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  const look = () => {
    if (document.documentElement?.dataset.ready !== "true") return;
    watcher.disconnect();
    // It is ready once it is drawn.
    requestAnimationFrame(() => setTimeout(() => {
      seen.ready = performance.now();
      seen.resolve(true);
    }));
  };
  const watcher = new MutationObserver(look);
  watcher.observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-ready"] });
}

// Work that is the same whatever the page is: elements made, laid out and thrown away; the quickest of some rounds.
function measureMachine() {
  const round = () => {
    const start = performance.now();
    const box = document.body.appendChild(document.createElement("div"));
    for (let i = 0; i < 1500; i += 1) box.appendChild(document.createElement("span")).textContent = `${(i * 2654435761) >>> 0} `;
    const height = box.offsetHeight;
    box.remove();
    return height > 0 ? performance.now() - start : NaN;
  };
  return Math.min(...Array.from({ length: 9 }, round));
}

// One change of the context slider, up to the frame after the one it is drawn in.
function installChange() {
  const slider = document.getElementById("context-slider");
  if (!slider) return false;
  const low = Number(slider.min || 0);
  const high = Number(slider.max || 100);
  const step = Number(slider.step) || (high - low) / 1000;
  const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
  window.__change = (share) => {
    set.call(slider, String(low + Math.round((share * (high - low)) / step) * step));
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))));
  };
  return true;
}

// The quickest runs beside the last record of such a machine; false when much slower than the machine itself has become.
async function compare(machine, quickest, isRecorded) {
  const records = JSON.parse(await readFile(RECORDS, "utf8"));
  const last = records[machine];
  if (isRecorded) {
    const rounded = Object.entries(quickest).map(([name, value]) => [name, Number(value.toFixed(1))]);
    records[machine] = { date: new Date().toISOString().slice(0, 10), ...Object.fromEntries(rounded) };
    await writeFile(RECORDS, `${JSON.stringify(records, null, 2)}\n`);
    console.log(`Recorded for ${machine}.`);
  } else if (!last) {
    console.log(`Nothing is recorded for such a machine (${machine}); \`scripts/bench record\` does.`);
  }
  if (!last) return true;
  const busier = Math.max(1, quickest[YARDSTICK] / last[YARDSTICK] || 1);
  const slow = Object.entries(quickest).filter(([name, value]) => name !== YARDSTICK && !(value <= SLOWER * busier * last[name]));
  console.log(`Quickest runs, and as recorded on such a machine on ${last.date}: ${Object.entries(quickest).map(([name, value]) => `${name} ${ms(value)} (${ms(last[name])})`).join(", ")}`);
  console.log(`The machine itself takes ${busier.toFixed(2)} times as long as then, so a run may take ${(SLOWER * busier).toFixed(1)} times.`);
  for (const [name] of slow) console.log(`Much slower than recorded: ${name}`);
  return isRecorded || slow.length === 0;
}

async function browser(isRecorded) {
  const { chromium } = await import("playwright-core");
  const executablePath = process.env.VRAMFIT_CHROMIUM;
  if (!executablePath) throw new Error("VRAMFIT_CHROMIUM is not set; scripts/bench sets it");
  const server = await serveDist({ quality: 11 });
  await server.warm();
  const chrome = await chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const complaints = new Set();
  const foreign = new Set();

  async function start() {
    const context = await chrome.newContext({ viewport: { width: 1280, height: 900 } });
    const page = await context.newPage();
    page.on("console", (message) => message.type() === "error" && complaints.add(message.text()));
    page.on("pageerror", (error) => complaints.add(String(error)));
    page.on("request", (request) => request.url().startsWith(server.url) || /^(data|blob):/.test(request.url()) || foreign.add(new URL(request.url()).origin));
    await page.addInitScript(watch);
    // A new window of Chromium loads pages of its own interface; they are not what is measured.
    await page.waitForTimeout(SETTLE);
    const session = await context.newCDPSession(page);
    await session.send("Emulation.setCPUThrottlingRate", { rate: THROTTLE });
    const machine = await page.evaluate(measureMachine);
    await page.goto(server.url, { waitUntil: "load" });
    // Playwright's own waiting puts 330 KB of script into the page at just that moment; the protocol alone does not.
    const ready = session.send("Runtime.evaluate", { expression: "__bench.whenReady", awaitPromise: true, returnByValue: true });
    const late = new Promise((resolve) => setTimeout(resolve, 120_000, null).unref());
    await Promise.race([ready, late.then(() => { throw new Error("late"); })]).catch(async () => {
      const said = await page.evaluate(() => document.getElementById("boot-error")?.textContent || "");
      throw new Error(`the page did not become ready in 2 minutes. ${said} ${[...complaints].join(" ")}`);
    });
    return { context, page, session, machine };
  }

  try {
    console.log(`\nStart-up and update in Chromium ${chrome.version()}, CPU throttled ${THROTTLE}x, local server with brotli`);
    console.log(`Machine: ${os.cpus().length} x ${os.cpus()[0]?.model.trim() || "unknown CPU"}, ${(os.totalmem() / 2 ** 30).toFixed(0)} GiB, ${os.platform()} ${os.release()}`);

    const paints = [];
    const readies = [];
    const answers = [];
    const machines = [];
    let loadShift = 0;
    let asked = [];
    for (let i = 0; i < STARTS; i += 1) {
      server.requests.length = 0;
      const { context, page, machine } = await start();
      machines.push(machine);
      const got = await page.evaluate(() => ({
        paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN,
        ready: window.__bench.ready,
        answered: performance.getEntriesByName("vramfit-ready")[0]?.startTime ?? NaN,
        shifts: window.__bench.shifts,
      }));
      paints.push(got.paint);
      readies.push(got.ready);
      answers.push(got.answered);
      loadShift = Math.max(loadShift, got.shifts);
      asked = [...server.requests];
      await context.close();
    }

    const { context, page, session } = await start();
    await page.waitForTimeout(500);
    await session.send("Performance.enable", { timeDomain: "timeTicks" });
    const shiftsBefore = await page.evaluate(() => window.__bench.shifts);
    const costs = [];
    const tasks = [];
    if (!(await page.evaluate(installChange))) throw new Error("the page has no #context-slider");
    const metrics = async () => {
      const { metrics: list } = await session.send("Performance.getMetrics");
      return Object.fromEntries(list.map(({ name, value }) => [name, value * 1000]));
    };
    for (let i = 0; i < CHANGES; i += 1) {
      // Jumps all over the slider, never the same place twice.
      const share = (i * 0.618034 + 0.1) % 1;
      const before = await metrics();
      await session.send("Runtime.evaluate", { expression: `__change(${share})`, awaitPromise: true });
      const after = await metrics();
      const spent = (name) => after[name] - before[name];
      costs.push(spent("ScriptDuration") + spent("RecalcStyleDuration") + spent("LayoutDuration"));
      tasks.push(spent("TaskDuration"));
    }
    const updateShift = (await page.evaluate(() => window.__bench.shifts)) - shiftsBefore;
    await context.close();

    const widths = [40, 13, 13, 12, 7];
    console.log(row(["", "median", "p95 or worst", "budget", ""], widths));
    const show = (name, values, held, budget) => console.log(row([name, ms(median(values)), ms(quantile(values, 0.95)), `<= ${budget} ms`, verdict(held <= budget)], widths));
    show(`first contentful paint (${STARTS} starts)`, paints, median(paints), BUDGET.firstPaint);
    console.log(row(["answer and controls in the document", ms(median(answers)), ms(quantile(answers, 0.95)), "", ""], widths));
    show(`ready to use: that drawn (${STARTS} starts)`, readies, median(readies), BUDGET.ready);
    show(`script + style + layout of a change (${CHANGES})`, costs, quantile(costs, 0.95), BUDGET.update);
    console.log(row(["all main-thread work of a change", ms(median(tasks)), ms(quantile(tasks, 0.95)), "", ""], widths));
    console.log(row(["layout shift, all changes", updateShift.toFixed(4), "", "0", verdict(updateShift === 0)], widths));
    console.log(row(["layout shift, start-up (worst)", loadShift.toFixed(4), "", "", ""], widths));
    const wasm = asked.filter((name) => name.endsWith(".wasm")).length;
    console.log(`Requests of a first load: ${asked.length}; of the WebAssembly: ${wasm}${wasm === 1 ? "" : " (should be 1)"}`);
    if (foreign.size) console.log(`Requests to other hosts at start-up (should be none): ${[...foreign].join(", ")}`);
    for (const text of complaints) console.log(`The browser complained: ${text}`);
    const machine = `${os.cpus().length} x ${os.cpus()[0]?.model.trim() || "unknown CPU"}, ${os.platform()}, Chromium ${chrome.version().split(".")[0]}`;
    const quickest = { "first paint": Math.min(...paints), "ready to use": Math.min(...readies), "a change": quantile(costs, 0.1), [YARDSTICK]: Math.min(...machines) };
    return await compare(machine, quickest, isRecorded);
  } finally {
    await chrome.close();
    await server.close();
  }
}

const what = process.argv[2];
try {
  if (what === "size") process.exitCode = (await size()) ? 0 : 1;
  else if (["browser", "record"].includes(what)) process.exitCode = (await browser(what === "record")) ? 0 : 1;
  else throw new Error("say what to measure: size, browser or record");
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exit(1);
}
