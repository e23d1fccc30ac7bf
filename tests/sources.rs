//! The command line's MODEL: every kind of file, several at once, folders; and what it says of files that are wrong.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::fixture;
use common::gguf::{GgufFile, U16};
use serde_json::Value;

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vramfit-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path); // of a run that was killed
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A GGUF file with its tensors' bytes as a hole.
    fn gguf(&self, name: &str, file: &GgufFile) -> PathBuf {
        self.sparse(name, &file.header(), file.data)
    }

    fn sparse(&self, name: &str, header: &[u8], data: u64) -> PathBuf {
        let path = self.put(name, header);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(header.len() as u64 + data).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn vramfit(verb: &str, paths: &[&Path], flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vramfit")).env_remove("HF_TOKEN").arg(verb).args(paths).args(flags).output().unwrap()
}

fn json(verb: &str, paths: &[&Path], flags: &[&str]) -> Value {
    let output = vramfit(verb, paths, &[flags, &["--format", "json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn complaint(paths: &[&Path]) -> String {
    let output = vramfit("inspect", paths, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

const Q4_K: u32 = 12;
const Q6_K: u32 = 14;

/// Llama of two layers, mixed as llama.cpp mixes: 262,144 + 2 x (4 x 65,536 + 3 x 131,072) + 5 x 256 values.
fn llama(layers: std::ops::Range<u32>) -> GgufFile {
    let mut file = GgufFile::new(3, false);
    if layers.start == 0 {
        for (key, value) in [("block_count", 2), ("embedding_length", 256), ("feed_forward_length", 512), ("context_length", 4096)] {
            file = file.u32(&format!("llama.{key}"), value);
        }
        file = file.text("general.architecture", "llama").u32("llama.attention.head_count", 4).u32("llama.attention.head_count_kv", 4);
        file = file.tensor("token_embd.weight", &[256, 1024], Q6_K).tensor("output_norm.weight", &[256], 0);
    }
    for layer in layers {
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            file = file.tensor(&format!("blk.{layer}.{name}.weight"), &[256, 256], Q4_K);
        }
        for (name, shape) in [("ffn_gate", [256, 512]), ("ffn_up", [256, 512]), ("ffn_down", [512, 256])] {
            file = file.tensor(&format!("blk.{layer}.{name}.weight"), &shape, Q4_K);
        }
        for name in ["attn_norm", "ffn_norm"] {
            file = file.tensor(&format!("blk.{layer}.{name}.weight"), &[256], 0);
        }
    }
    file
}

const PARAMETERS: u64 = 262_144 + 2 * (4 * 65_536 + 3 * 131_072) + 5 * 256;
/// 6.5625 bits, 4.5 bits and 32.
const STORED: u64 = 262_144 / 256 * 210 + 2 * (4 * 65_536 + 3 * 131_072) / 256 * 144 + 5 * 256 * 4;

fn split(number: u32) -> GgufFile {
    let word = |value: u32| value.to_le_bytes()[..2].to_vec();
    llama(number..number + 1).entry("split.no", U16, &word(number)).entry("split.count", U16, &word(2))
}

/// An encoder of images beside a language model.
fn encoder() -> GgufFile {
    GgufFile::new(3, false).text("general.architecture", "clip").u32("clip.vision.embedding_length", 64).tensor("v.patch_embd.weight", &[64, 64], 1).tensor(
        "mm.0.weight",
        &[64, 256],
        1,
    )
}

fn check(model: &Value) {
    assert_eq!(model["parameters"]["total"], PARAMETERS);
    assert_eq!((&model["stored_bytes"], &model["source"], &model["model_type"]), (&STORED.into(), &"gguf".into(), &"llama".into()));
    assert_eq!(model["layers"][0]["cache_elements_per_token"], 512);
}

#[test]
fn gguf_files_whole_split_in_folders_and_with_encoders() {
    let folder = Folder::new("gguf");
    let whole = folder.gguf("anything.bin", &llama(0..2));
    check(&json("inspect", &[&whole], &[])["model"]);

    let parts: Vec<PathBuf> = (0..2).map(|n| folder.gguf(&format!("m-Q4_K_M-{:05}-of-00002.gguf", n + 1), &split(n))).collect();
    check(&json("inspect", &[&parts[1]], &[])["model"]);
    check(&json("inspect", &[&parts[1], &parts[0]], &[])["model"]);
    assert!(complaint(&[&folder.0]).contains("more than one GGUF model"));
    std::fs::remove_file(&whole).unwrap();
    check(&json("inspect", &[&folder.0], &[])["model"]);

    // In a folder of the folder, as large repositories have them.
    std::fs::create_dir(folder.0.join("Q4")).unwrap();
    for part in &parts {
        std::fs::rename(part, folder.0.join("Q4").join(part.file_name().unwrap())).unwrap();
    }
    check(&json("inspect", &[&folder.0], &[])["model"]);
    for part in &parts {
        std::fs::rename(folder.0.join("Q4").join(part.file_name().unwrap()), part).unwrap();
    }

    let beside = folder.gguf("mmproj.gguf", &encoder());
    let both = json("inspect", &[&parts[0], &beside], &[]);
    assert_eq!(both, {
        let mut of_folder = json("inspect", &[&folder.0], &[]);
        of_folder["model"]["id"] = both["model"]["id"].clone();
        of_folder
    });
    assert_eq!(both["model"]["stored_bytes"], STORED + 2 * (64 * 64 + 64 * 256));
    assert_eq!(both["model"]["parameters"]["by_component"]["vision"], 64 * 64);

    std::fs::remove_file(&parts[0]).unwrap();
    assert!(complaint(&[&parts[1]]).contains("part 1 of 2 is missing"));
}

#[test]
fn a_gguf_file_has_an_estimate_in_each_engine() {
    let folder = Folder::new("engines");
    let file = folder.gguf("m.gguf", &llama(0..2));
    let weights = |flags: &[&str]| {
        let answer = json("estimate", &[&file], &[flags, &["--gpu-capacity-bytes", "80000000000"]].concat());
        let entries = answer["devices"][0]["entries"].as_array().unwrap().clone();
        entries.iter().find(|entry| entry["term"] == "weights").unwrap()["bytes"].as_u64().unwrap()
    };
    assert_eq!(weights(&["--runtime", "vllm"]), STORED);
    // transformers dequantises while loading.
    assert_eq!(weights(&["--runtime", "transformers"]), 4 * PARAMETERS);
    assert_eq!(weights(&["--runtime", "transformers", "--weights", "bf16"]), 2 * PARAMETERS);
}

/// A safetensors header in bf16.
fn tensors(names: &[(&str, &[u64])]) -> (Vec<u8>, u64) {
    let (mut map, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in names {
        let begin = end;
        end += 2 * shape.iter().product::<u64>();
        map.insert((*name).to_owned(), serde_json::json!({ "dtype": "BF16", "shape": shape, "data_offsets": [begin, end] }));
    }
    let json = Value::Object(map).to_string();
    ([&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat(), end)
}

#[test]
fn safetensors_configs_and_indices_together() {
    let folder = Folder::new("safetensors");
    let config = folder.put("config.json", fixture::GPT2.as_bytes());
    let (header, data) = tensors(&[("wte.weight", &[50_257, 768])]);
    let first = folder.sparse("a.safetensors", &header, data);
    let (header, more) = tensors(&[("wpe.weight", &[1024, 768])]);
    let second = folder.sparse("b.safetensors", &header, more);
    let stored = |paths: &[&Path]| json("inspect", paths, &[])["model"]["stored_bytes"].clone();
    assert_eq!(stored(&[&config]), Value::Null);
    assert_eq!(stored(&[&first]), data);
    for paths in [&[first.as_path(), &second][..], &[&config, &second, &first], &[&folder.0]] {
        assert_eq!(stored(paths), data + more, "{paths:?}");
    }
    let index = folder.put("any.index.json", br#"{"weight_map": {"wte.weight": "a.safetensors", "wpe.weight": "b.safetensors"}}"#);
    for paths in [&[index.as_path()][..], &[&index, &first, &second], &[&config, &index]] {
        assert_eq!(stored(paths), data + more, "{paths:?}");
    }
    let elsewhere = Folder::new("elsewhere");
    let other = elsewhere.put("ORG__NAME.json", fixture::GPT2.as_bytes());
    assert_eq!(stored(&[&other, &first]), data);

    assert!(complaint(&[&config, &other]).contains("two configs"));
    assert!(complaint(&[&config, &folder.gguf("m.gguf", &llama(0..2))]).contains("GGUF files only"));
    assert!(complaint(&[&folder.0, &config]).contains("stands for itself"));
    assert!(complaint(&[&folder.0.join("none.gguf")]).contains("there is no file"));
    let outside = folder.put("bad.json", br#"{"weight_map": {"wte.weight": "../a.safetensors"}}"#);
    assert!(complaint(&[&outside]).contains("not in its folder"));
}

#[test]
fn folders_of_several_parts() {
    let folder = Folder::new("parts");
    for name in ["pipeline", "pipeline/vae", "models", "models/base", "models/adapter"] {
        std::fs::create_dir_all(folder.0.join(name)).unwrap();
    }
    folder.put("pipeline/model_index.json", br#"{"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}"#);
    folder.put("pipeline/vae/config.json", br#"{"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "latent_channels": 16}"#);
    let (header, data) = tensors(&[("decoder.conv_in.weight", &[512, 16, 3, 3])]);
    folder.sparse("pipeline/vae/diffusion_pytorch_model.safetensors", &header, data);
    let pipeline = folder.0.join("pipeline");
    let of_folder = json("inspect", &[&pipeline], &[]);
    assert_eq!((&of_folder["model"]["stored_bytes_by_part"]["vae"], &of_folder["model"]["source"]), (&data.into(), &"headers".into()));
    assert_eq!(json("inspect", &[&pipeline.join("model_index.json")], &[]), of_folder, "the file that names the parts stands for its folder");

    folder.put("models/base/config.json", fixture::GPT2.as_bytes());
    let base = folder.0.join("models/base");
    let adapter =
        |base: &str| format!(r#"{{"peft_type": "LORA", "base_model_name_or_path": "{base}", "r": 8, "target_modules": ["c_attn"], "fan_in_fan_out": true}}"#);
    let at = folder.put("models/adapter/adapter_config.json", adapter(base.to_str().unwrap()).as_bytes());
    let lora = json("inspect", &[at.parent().unwrap()], &[]);
    assert_eq!(lora["model"]["parameters"]["by_component"]["adapter"], 12 * 8 * (768 + 3 * 768), "twelve layers, c_attn of 768 by 2,304");
    // A relative path is seen from the adapter's folder.
    folder.put("models/adapter/adapter_config.json", adapter("../base").as_bytes());
    for named in [at.parent().unwrap(), &at] {
        assert_eq!(json("inspect", &[named], &[])["model"]["parameters"], lora["model"]["parameters"]);
    }
    // Beside its base in one folder, as somebody would keep the two.
    folder.put("models/adapter_config.json", adapter("base").as_bytes());
    assert_eq!(json("inspect", &[&folder.0.join("models")], &[])["model"]["parameters"], lora["model"]["parameters"]);
    folder.put("models/adapter_config.json", adapter("adapter").as_bytes());
    assert!(complaint(&[&folder.0.join("models")]).contains("is an adapter too"));
    folder.put("models/adapter_config.json", adapter(at.parent().unwrap().to_str().unwrap()).as_bytes());
    assert!(complaint(&[&folder.0.join("models")]).contains("is an adapter too"));
}

#[test]
fn a_model_by_hand() {
    let output = Command::new(env!("CARGO_BIN_EXE_vramfit"))
        .args(["inspect", "--format", "json", "--manual", "layers=32,hidden=4096,heads=32,intermediate=11008,vocab=32000"])
        .output()
        .unwrap();
    let model = serde_json::from_slice::<Value>(&output.stdout).unwrap()["model"].clone();
    assert_eq!((&model["parameters"]["total"], &model["source"], &model["id"]), (&6_738_415_616_u64.into(), &"manual".into(), &Value::Null));
    // Its draft is another model.
    let folder = Folder::new("draft");
    let drafted = |draft: &Path| {
        let sizes = "layers=2,hidden=64,heads=4,intermediate=128,vocab=100";
        let flags = ["--manual", sizes, "--gpu", "H100 SXM", "--runtime", "vllm", "--draft-model", draft.to_str().unwrap()];
        let output = vramfit("estimate", &[], &[&flags[..], &["--format", "json"]].concat());
        (serde_json::from_slice::<Value>(&output.stdout).ok(), String::from_utf8(output.stderr).unwrap())
    };
    let (report, said) = drafted(&folder.put("draft.json", fixture::GPT2.as_bytes()));
    // GPT-2 in bf16, its vocabulary of 50,257 filled up to 50,304.
    let weights = format!(r#""draft_model":{}"#, 2 * (124_439_808 + 47 * 768));
    assert!(report.is_some_and(|report| report.to_string().contains(&weights)), "{said}");
    assert!(drafted(&folder.0.join("none.json")).1.contains("there is no file"));
    let unknown = vramfit("inspect", &[], &["--manual", "layerz=32"]);
    assert!(unknown.status.code() == Some(2) && String::from_utf8_lossy(&unknown.stderr).contains("`layerz`"));
    assert_eq!(vramfit("inspect", &[], &[]).status.code(), Some(2), "something must be named");
    let not_here = vramfit("inspect", &[Path::new("org/name")], &["--quant-config", "x.json"]);
    assert!(String::from_utf8_lossy(&not_here.stderr).contains("goes with files"), "a flag that does nothing is refused");
}

#[test]
fn damaged_files_are_said_with_their_name() {
    let folder = Folder::new("damaged");
    let header = llama(0..2).header();
    let cut = folder.put("cut.gguf", &header[..header.len() / 2]);
    let short = folder.put("short.gguf", &header);
    let pointer = folder.put("pointer.gguf", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    let page = folder.put("page.gguf", b"<!doctype html>");
    let (mut json, _) = tensors(&[("x", &[1])]);
    json[0] = 200;
    let tensors = folder.put("x.safetensors", &json);
    folder.put("config.json", fixture::GPT2.as_bytes());
    for (path, expected) in [(&cut, "cut off"), (&short, "cut off"), (&pointer, "Git LFS pointer"), (&page, "a web page"), (&tensors, "cut off")] {
        let said = complaint(&[path]);
        assert!(said.contains(expected) && said.contains(path.file_name().unwrap().to_str().unwrap()), "{said}");
    }
}

#[test]
fn files_of_other_kinds_are_said_for_what_they_are() {
    let folder = Folder::new("others");
    for (name, content, expected) in [
        ("pytorch_model.bin", &b"PK\x03\x04"[..], "a zip archive, as PyTorch's"),
        ("old.bin", b"\x80\x02\x8a\n", "a pickle of Python"),
        ("old-ggml.bin", b"tjgg\x03\0\0\0", "from before GGUF"),
        ("model.safetensors", b"", "an empty file"),
        ("notes.json", b"hello", "neither a config.json nor"),
        ("tokenizer.json", br#"{"version": "1.0"}"#, "does not describe it. Choose the config.json that lies beside it"),
        ("config.json", br#"{"version": "1.0"}"#, "no `model_type`"),
    ] {
        let said = complaint(&[&folder.put(name, content)]);
        assert!(said.contains(expected) && said.contains(name), "{said}");
    }
    let said = complaint(&[&Folder::new("empty").0]);
    assert!(said.contains("has neither a config.json nor a .gguf file") && !said.contains("whole folder"), "{said}");
}

#[test]
fn an_index_without_its_files_and_one_that_is_none_are_said() {
    let folder = Folder::new("unfetched");
    folder.put("config.json", fixture::GPT2.as_bytes());
    let index = folder.put("model.safetensors.index.json", br#"{"weight_map": {"wte.weight": "a.safetensors", "wpe.weight": "b.safetensors"}}"#);
    let model = &json("inspect", &[&folder.0], &[])["model"];
    assert_eq!(model["source"], "config");
    let assumptions = model["assumptions"].to_string();
    assert!(assumptions.contains("0 of the 2 weight files that model.safetensors.index.json names are here"), "{assumptions}");
    assert!(complaint(&[&index]).contains("there is no file"), "named by itself, it must be whole");
    for empty in [&br#"{"weight_map": {}}"#[..], b"{}"] {
        folder.put("model.safetensors.index.json", empty);
        let assumptions = json("inspect", &[&folder.0], &[])["model"]["assumptions"].to_string();
        assert!(!assumptions.contains("0 of the 0") && assumptions.contains("no safetensors files"), "{assumptions}");
    }
    folder.put("model.safetensors.index.json", br#"{"weight_map": ["a.safetensors"]}"#);
    for named in [&folder.0, &index] {
        assert!(complaint(&[named]).contains("not a valid index"));
    }
}

#[cfg(unix)]
#[test]
fn a_repository_in_the_hubs_cache_is_opened_with_its_id_and_commit() {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    let folder = Folder::new("hub-cache");
    let repository = folder.0.join("models--org--some-name");
    let snapshot = repository.join("snapshots").join(COMMIT);
    for path in [&snapshot, &repository.join("blobs"), &repository.join("refs")] {
        std::fs::create_dir_all(path).unwrap();
    }
    let (header, data) = tensors(&[("wte.weight", &[50_257, 768])]);
    folder.sparse("models--org--some-name/blobs/a", &header, data);
    folder.put("models--org--some-name/blobs/b", fixture::GPT2.as_bytes());
    folder.put("models--org--some-name/refs/main", COMMIT.as_bytes());
    for (blob, name) in [("a", "model.safetensors"), ("b", "config.json"), ("gone", "tokenizer.json")] {
        std::os::unix::fs::symlink(format!("../../blobs/{blob}"), snapshot.join(name)).unwrap();
    }
    for path in [&repository, &snapshot] {
        let model = &json("inspect", &[path], &[])["model"];
        assert_eq!((&model["id"], &model["revision"], &model["stored_bytes"]), (&"org/some-name".into(), &COMMIT.into(), &data.into()));
    }
    // Two commits, and none of them is the one that `main` is.
    std::fs::create_dir_all(repository.join("snapshots/fedcba9876543210")).unwrap();
    folder.put("models--org--some-name/refs/main", b"ffff");
    assert!(complaint(&[&repository]).contains("more than one commit"));
}
