//! What one estimate costs, natively: from a model, from the text of a config, and the sweeps of the page.

use vramfit::checkpoint::gguf::{self, Reader, Step};
use vramfit::model::{Model, Origin, Provenance};
use vramfit::scenario::{Runtime, Scenario};
use vramfit::{catalogue, config, memory, plan, report};

#[path = "../tests/common/gguf.rs"]
#[allow(dead_code)]
mod gguf_file;

fn main() {
    divan::main();
}

/// The built-in model with the most layers and experts.
const LARGEST: &str = "Qwen/Qwen3-Coder-480B-A35B-Instruct";

fn text() -> &'static str {
    catalogue::find(LARGEST).expect("a built-in model").config_text
}

fn model() -> Model {
    let anatomy = config::read(text()).expect("a config that reads");
    Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } }
}

fn scenario(runtime: Runtime) -> Scenario {
    Scenario { runtime, gpus: Some(4), ..Scenario::default() }
}

#[divan::bench(args = Runtime::ALL)]
fn one_estimate(bencher: divan::Bencher, runtime: Runtime) {
    let (model, scenario) = (model(), scenario(runtime));
    bencher.bench_local(|| memory::estimate(divan::black_box(&model), divan::black_box(&scenario)));
}

#[divan::bench]
fn from_config_text(bencher: divan::Bencher) {
    let scenario = scenario(Runtime::Vllm);
    bencher.bench_local(|| {
        let model = model();
        memory::estimate(&model, divan::black_box(&scenario)).map(|estimate| report::verdict(&estimate, vramfit::format::Unit::Gib))
    });
}

/// From the text of a config to the JSON of `inspect`; a layer per entry of its lists makes a config long.
#[divan::bench]
fn inspect_longest_config(bencher: divan::Bencher) {
    let rows = include_str!("../tests/fixtures/oracle.jsonl").lines().map(|row| serde_json::from_str::<serde_json::Value>(row).expect("a row"));
    let longest = rows.map(|row| row["config"].to_string()).max_by_key(String::len).expect("a row");
    bencher.bench_local(|| {
        let anatomy = config::read(divan::black_box(&longest)).expect("a config that reads");
        report::inspect_json(&Model { anatomy, provenance: Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() } })
    });
}

#[divan::bench]
fn longest_context(bencher: divan::Bencher) {
    let (model, scenario) = (model(), scenario(Runtime::Vllm));
    bencher.bench_local(|| plan::longest_context(divan::black_box(&model), divan::black_box(&scenario)));
}

#[divan::bench]
fn curve(bencher: divan::Bencher) {
    let (model, scenario) = (model(), scenario(Runtime::Vllm));
    bencher.bench_local(|| plan::sweep(&|scenario| memory::estimate(&model, scenario), divan::black_box(&model), divan::black_box(&scenario)));
}

/// A GGUF file of 40 layers (those of Llama 2 13B) with a vocabulary of 150,000 tokens, from its bytes to the JSON of `inspect`.
#[divan::bench]
fn inspect_gguf(bencher: divan::Bencher) {
    let bytes = gguf_of_40_layers().header();
    bencher.bench_local(|| {
        let mut reader = Reader::new(None);
        assert_eq!(reader.read(0, divan::black_box(&bytes)), Ok(Step::Done));
        let contents = reader.finish().and_then(|header| gguf::read(&header)).expect("a sound file");
        let provenance = Provenance { id: None, revision: None, source: Origin::Gguf, files: Some(contents.files), notes: contents.notes };
        report::inspect_json(&Model { anatomy: contents.anatomy, provenance }).map(|json| json.to_string())
    });
}

/// The same as somebody sees it: `vramfit inspect FILE.gguf`, from its start to its end.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn inspect_gguf_process(bencher: divan::Bencher) {
    let path = std::env::temp_dir().join(format!("vramfit-bench-{}.gguf", std::process::id()));
    let file = gguf_of_40_layers();
    let header = file.header();
    std::fs::write(&path, &header).expect("a file");
    std::fs::OpenOptions::new().write(true).open(&path).and_then(|open| open.set_len(header.len() as u64 + file.data)).expect("a file with a hole");
    bencher.bench_local(|| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_vramfit")).arg("inspect").arg(&path).output().expect("a process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
    std::fs::remove_file(&path).expect("the file");
}

fn gguf_of_40_layers() -> gguf_file::GgufFile {
    let (hidden, feed_forward) = (5120, 13_824);
    let mut file = gguf_file::GgufFile::new(3, false).text("general.architecture", "llama");
    for (key, value) in [("block_count", 40), ("embedding_length", 5120), ("context_length", 4096), ("attention.head_count", 40)] {
        file = file.u32(&format!("llama.{key}"), value);
    }
    file = file.texts("tokenizer.ggml.tokens", (0..150_000).map(|number| format!("token{number}"))).tensor("token_embd.weight", &[hidden, 150_000], 12);
    for layer in 0..40 {
        for (name, shape) in [
            ("attn_q", &[hidden, hidden][..]),
            ("attn_k", &[hidden, hidden]),
            ("attn_v", &[hidden, hidden]),
            ("attn_output", &[hidden, hidden]),
            ("ffn_gate", &[hidden, feed_forward]),
            ("ffn_up", &[hidden, feed_forward]),
            ("ffn_down", &[feed_forward, hidden]),
            ("attn_norm", &[hidden]),
            ("ffn_norm", &[hidden]),
        ] {
            file = file.tensor(&format!("blk.{layer}.{name}.weight"), shape, if shape.len() == 1 { 0 } else { 12 });
        }
    }
    file.tensor("output_norm.weight", &[hidden], 0).tensor("output.weight", &[hidden, 150_000], 14)
}
