# shellcheck shell=bash
# What the scripts share: finding the tools, and installing what is missing.
#
# Nothing outside the repository is changed, with two exceptions that are said when they happen:
# rustup gets the pinned compiler and its wasm targets, and on Debian as root (or with sudo that
# asks no password) Chromium or a C compiler is installed by apt-get. All else goes to .tools/ and
# tests/browser/node_modules/. Every set-up function may run twice and does nothing the second time.
#
# Runs under bash 3.2, which is what macOS has.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit 1

TOOLS="$ROOT/.tools"
BROWSER_DIR="$ROOT/tests/browser"
PAGE_STAMP="$TOOLS/page.stamp"

TRUNK_VERSION=0.21.14     # 0.22 does not build with the pinned compiler
WASM_OPT_OLDEST=116       # older ones reject what rustc emits since 1.87
NODE_OLDEST=20.11         # its test runner takes the flags that scripts/test gives it

PATH="$TOOLS/bin:$PATH"
command -v cargo >/dev/null 2>&1 || PATH="$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin"
export PATH

SELF="scripts/$(basename "$0")"
STEP=""
SAID=""

say() { printf '%s\n' "$*"; }

# Ends the script with a sentence for people.
die() {
  SAID=yes
  if [ -n "$STEP" ]; then
    printf '\n%s: the step "%s" failed. %s\n' "$SELF" "$STEP" "$*" >&2
  else
    printf '\n%s: %s\n' "$SELF" "$*" >&2
  fi
  exit 1
}

# Whatever ends the script, the last line names the step it was in.
on_exit() {
  local status=$?
  if [ "$status" -ne 0 ] && [ -z "$SAID" ]; then
    case "$status" in
      130 | 143) printf '\n%s: stopped.\n' "$SELF" >&2 ;;
      *) printf '\n%s: the step "%s" failed; what went wrong is printed above.\n' "$SELF" "${STEP:-start}" >&2 ;;
    esac
  fi
  return "$status"
}
trap on_exit EXIT

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root where that needs no question; fails where it would.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif have sudo && sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    return 1
  fi
}

can_be_root() { as_root true 2>/dev/null; }

apt_install() {
  have apt-get && can_be_root || return 1
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# ---------------------------------------------------------------------------------------------
# What must be there already

require_programs() {
  have rustup || die "rustup is missing. Install it from https://rustup.rs and run $SELF again."
  have cargo || die "cargo is missing. It comes with rustup: https://rustup.rs"
  have node || die "Node.js is missing. Install version $NODE_OLDEST or later from https://nodejs.org"
  have npm || die "npm is missing. It comes with Node.js (https://nodejs.org); on Debian it is the package npm."
  have git || die "git is missing. Install it from https://git-scm.com or with your system's packages."
  node -e 'const [a, b] = process.versions.node.split("."), [x, y] = process.argv[1].split("."); process.exit((a - x || b - y) < 0 ? 1 : 0)' "$NODE_OLDEST" ||
    die "Node.js $(node --version) is too old. Install version $NODE_OLDEST or later from https://nodejs.org"
}

setup_linker() {
  if have cc || have gcc || have clang; then return 0; fi
  if [ "$(uname -s)" = Darwin ]; then
    die "A C compiler is missing, which Rust links with. Run: xcode-select --install"
  fi
  say "Installing Debian's build-essential: Rust links its programs with a C compiler."
  apt_install build-essential ||
    die "A C compiler is missing, which Rust links with. Install gcc or clang with your system's packages."
}

# ---------------------------------------------------------------------------------------------
# Rust

wasm_target_there() { [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ]; }

setup_rust() {
  local channel toolchain name
  channel=$(sed -nE 's/^channel *= *"([^"]+)".*/\1/p' rust-toolchain.toml)
  toolchain=${RUSTUP_TOOLCHAIN:-$channel}
  if ! rustup run "$toolchain" rustc --version >/dev/null 2>&1; then
    say "Installing Rust $toolchain with rustup: it is the compiler this project is pinned to."
    rustup toolchain install "$toolchain" --profile minimal ||
      die "rustup could not install Rust $toolchain. Is there a network?"
  fi
  for name in wasm32-unknown-unknown wasm32-wasip1; do
    if ! wasm_target_there "$name"; then
      case "$name" in
        wasm32-unknown-unknown) say "Adding the target $name with rustup: the page is compiled to it." ;;
        *) say "Adding the target $name with rustup: the engine's tests run on it, on 32 bits." ;;
      esac
      rustup target add --toolchain "$toolchain" "$name" ||
        die "rustup could not add the target $name. Is there a network?"
    fi
  done
  for name in rustfmt clippy; do
    if ! rustup run "$toolchain" "cargo-${name/rustfmt/fmt}" --version >/dev/null 2>&1; then
      say "Adding $name with rustup: the checks use it."
      rustup component add --toolchain "$toolchain" "$name" || die "rustup could not add $name. Is there a network?"
    fi
  done
}

setup_crates() {
  if cargo fetch --locked --offline --quiet 2>/dev/null; then return 0; fi
  say "Fetching the Rust libraries named in Cargo.lock."
  cargo fetch --locked --quiet ||
    die "cargo could not fetch the libraries named in Cargo.lock; its reason is above. Is there a network?"
}

# The version of the wasm-bindgen library; its command line must be of exactly the same one.
wasm_bindgen_version() {
  local version=""
  if [ -f Cargo.lock ]; then
    version=$(awk -F'"' '
      /^\[\[package\]\]/ { name = "" }
      /^name = /         { name = $2 }
      /^version = / && name == "wasm-bindgen" { print $2; exit }' Cargo.lock)
  fi
  if [ -z "$version" ]; then
    version=$(sed -nE 's/^wasm-bindgen *= *(\{.*version *= *)?"[=^~]?([0-9]+\.[0-9]+\.[0-9]+)".*/\2/p' Cargo.toml)
  fi
  [ -n "$version" ] || die "Neither Cargo.lock nor Cargo.toml names a version of wasm-bindgen."
  say "$version"
}

# install_crate NAME VERSION LOCKED(--locked or nothing) WHY
install_crate() {
  say "Installing $1 $2 into .tools/: $4"
  if have cargo-binstall; then
    if cargo binstall --no-confirm --disable-strategies compile --root "$TOOLS" "$1@$2"; then return 0; fi
    say "cargo-binstall found no ready-made $1 $2; building it from source."
  fi
  say "This builds it once, with little optimisation; it takes some minutes."
  # shellcheck disable=SC2086 # $3 is one flag or nothing
  CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64 \
    CARGO_PROFILE_RELEASE_DEBUG=0 \
    cargo install --quiet "$1" --version "$2" $3 --root "$TOOLS" ||
    die "cargo could not install $1 $2; its reason is above. Is there a network?"
}

setup_trunk() {
  [ "$(trunk --version 2>/dev/null || true)" = "trunk $TRUNK_VERSION" ] && return 0
  install_crate trunk "$TRUNK_VERSION" --locked "it builds the page."
}

setup_wasm_bindgen() {
  local version
  version=$(wasm_bindgen_version) || exit 1
  case "$(wasm-bindgen --version 2>/dev/null || true)" in
    "wasm-bindgen $version" | "wasm-bindgen $version "*) return 0 ;;
  esac
  install_crate wasm-bindgen-cli "$version" "" "it joins the page's wasm to its JavaScript, in the version of Cargo.lock."
}

# ---------------------------------------------------------------------------------------------
# Node packages

setup_node_packages() {
  local lock="$BROWSER_DIR/package-lock.json" mark="$BROWSER_DIR/node_modules/.installed-lock.json"
  if cmp -s "$lock" "$mark"; then return 0; fi
  say "Installing the packages of tests/browser/package.json with npm: wasm-opt, a minifier of JavaScript, a driver for Chromium, an accessibility checker."
  (cd "$BROWSER_DIR" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
    die "npm could not install the packages of tests/browser; its reason is above. Is there a network?"
  cp "$lock" "$mark"
}

wasm_opt_number() { wasm-opt --version 2>/dev/null | sed -nE 's/^wasm-opt version ([0-9]+).*/\1/p' || true; }

setup_wasm_opt() {
  local number
  number=$(wasm_opt_number)
  if [ "${number:-0}" -ge "$WASM_OPT_OLDEST" ]; then return 0; fi
  if [ -n "$number" ]; then
    say "The wasm-opt on PATH is version $number, older than $WASM_OPT_OLDEST; taking the one from npm."
  fi
  setup_node_packages
  mkdir -p "$TOOLS/bin"
  ln -sf ../../tests/browser/node_modules/binaryen/bin/wasm-opt "$TOOLS/bin/wasm-opt"
  hash -r
  [ -n "$(wasm_opt_number)" ] || die "The wasm-opt from npm does not run. Delete tests/browser/node_modules and try again."
}

# ---------------------------------------------------------------------------------------------
# Chromium

runs() { [ -n "$1" ] && "$1" --version >/dev/null 2>&1; }

installed_chromium() {
  local name path
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    path=$(command -v "$name" 2>/dev/null || true)
    if runs "$path"; then say "$path"; return 0; fi
  done
  for path in \
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
    "/Applications/Chromium.app/Contents/MacOS/Chromium" \
    "${HOME:-}/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
    "${HOME:-}/Applications/Chromium.app/Contents/MacOS/Chromium"; do
    if runs "$path"; then say "$path"; return 0; fi
  done
  return 1
}

playwright_chromium() {
  local path
  path=$(cd "$BROWSER_DIR" && node --input-type=module \
    -e 'import { chromium } from "playwright-core"; console.log(chromium.executablePath());' 2>/dev/null) || return 1
  runs "$path" && say "$path"
}

# Finds or installs a Chromium and exports its path as VRAMFIT_CHROMIUM.
setup_chromium() {
  local found
  if [ -n "${VRAMFIT_CHROMIUM:-}" ]; then
    runs "$VRAMFIT_CHROMIUM" || die "VRAMFIT_CHROMIUM names $VRAMFIT_CHROMIUM, which does not run. Correct it or unset it."
    export VRAMFIT_CHROMIUM
    return 0
  fi
  if found=$(installed_chromium); then
    VRAMFIT_CHROMIUM=$found
    export VRAMFIT_CHROMIUM
    return 0
  fi
  if [ -f /etc/debian_version ] && have apt-get && can_be_root; then
    say "Installing Debian's chromium and chromium-driver: the browser tests need a browser."
    if apt_install chromium chromium-driver && found=$(installed_chromium); then
      VRAMFIT_CHROMIUM=$found
      export VRAMFIT_CHROMIUM
      return 0
    fi
    say "apt-get gave no Chromium that runs; trying Playwright's."
  fi
  setup_node_packages
  if ! found=$(playwright_chromium); then
    say "Downloading Playwright's Chromium into its own cache: the browser tests need a browser."
    (cd "$BROWSER_DIR" && node node_modules/playwright-core/cli.js install --no-shell chromium) || true
    found=$(playwright_chromium) ||
      die "No Chromium was found and none could be installed. Install Chromium or Chrome, or set VRAMFIT_CHROMIUM to the path of one."
  fi
  VRAMFIT_CHROMIUM=$found
  export VRAMFIT_CHROMIUM
}

# ---------------------------------------------------------------------------------------------
# Sets of the above

setup_compiler() {
  require_programs
  setup_linker
  setup_rust
  setup_crates
}

setup_page() {
  setup_compiler
  setup_node_packages
  setup_wasm_bindgen
  setup_trunk
  setup_wasm_opt
}

setup_browser() {
  setup_node_packages
  setup_chromium
}

# ---------------------------------------------------------------------------------------------
# The page

build_page() {
  # trunk takes NO_COLOR for true or false, the rest of the world for set or unset.
  local plain=false
  [ -z "${NO_COLOR:-}" ] || plain=true
  NO_COLOR=$plain TRUNK_SKIP_VERSION_CHECK=true trunk build --release
  mkdir -p "$TOOLS"
  touch "$PAGE_STAMP"
}

# True when dist/ is the release build of the sources as they are.
page_is_fresh() {
  [ -f dist/index.html ] && [ -f "$PAGE_STAMP" ] && [ ! dist/index.html -nt "$PAGE_STAMP" ] &&
    [ -z "$(find src style assets index.html build.rs Trunk.toml Cargo.toml Cargo.lock rust-toolchain.toml -newer dist/index.html 2>/dev/null)" ]
}

build_page_if_stale() {
  if page_is_fresh; then
    say "The page in dist/ is up to date."
  else
    build_page
  fi
}
