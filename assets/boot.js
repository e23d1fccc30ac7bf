// Starts the page. Trunk writes the two addresses on this script's own tag (Trunk.toml, pattern_script).
const tag = document.querySelector("script[data-wasm]");
const address = (name) => new URL(tag.dataset[name], document.baseURI).href;
const started = () => document.documentElement.dataset.ready === "true";

function explain(error) {
  if (started()) return;
  const box = document.getElementById("boot-error");
  if (!box || !box.hidden) return;
  const reason = typeof WebAssembly !== "object"
    ? "this browser has no WebAssembly. Any browser since 2023 will do"
    : (navigator.onLine ? "" : "there is no network, and ")
      + "the browser said: “" + String((error && error.message) || error).replace(/[.\s]+$/, "") + "”. Reload the page to try again";
  box.textContent = "vramfit could not start: " + reason + ".";
  box.hidden = false;
}

addEventListener("error", (event) => explain(event.error || event.message));
addEventListener("unhandledrejection", (event) => explain(event.reason));

// The page's second module, which reads models: fetched once, when first asked for.
let reader;
globalThis.vramfitReader = () => {
  reader ??= import(new URL("vramfit-reader.js", document.baseURI).href).then(async (module) => {
    await module.default();
    return module;
  });
  reader.catch(() => { reader = undefined; });
  return reader;
};

try {
  const page = await import(address("js"));
  await page.default({ module_or_path: address("wasm") });
} catch (error) {
  explain(error);
  throw error;
}
