//! The page: compiled to WebAssembly and started by `assets/boot.js`. Compiled for anything else, it only says what it is.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod app;

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
fn main() {
    app::start();
}

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
fn main() {
    println!("This is the page of vramfit, which runs in a browser: `scripts/serve` shows it. The command line is called `vramfit`.");
}
