//! The reader of GGUF headers: every version and byte order, cut anywhere, and files that are wrong in every way.

mod common;

use common::gguf::{BOOL, F32, F64, GgufFile, I8, I16, I64, TEXT, U8, U16, U64, header_of};
use proptest::prelude::*;
use vramfit::checkpoint::gguf::{GgufError, Header, MAX_HEADER_BYTES, Reader, Step, Value, join, read};
use vramfit::encoding::Encoding;

const BF16: u32 = 30;
const Q4_K: u32 = 12;

/// A file with every type of value, lists of all kinds, and some tensors.
fn sample(version: u32, is_big_endian: bool) -> GgufFile {
    let file = GgufFile::new(version, is_big_endian);
    let long = file.bytes(u64::MAX, 8);
    let (half, quarter) = (file.bytes(1.5f32.to_bits().into(), 4), file.bytes(0.25f64.to_bits(), 8));
    let small = file.bytes(0xfffe, 2);
    file.text("general.architecture", "llama")
        .entry("a.u8", U8, &[200])
        .entry("a.i8", I8, &[0xff])
        .entry("a.i16", I16, &small)
        .u32("llama.block_count", 2)
        .u32("llama.embedding_length", 256)
        .u32("llama.attention.head_count", 4)
        .entry("a.u64", U64, &long)
        .entry("a.i64", I64, &long)
        .entry("a.f32", F32, &half)
        .entry("a.f64", F64, &quarter)
        .entry("a.bool", BOOL, &[1])
        .text("tokenizer.chat_template", &"x".repeat(5000))
        .texts("tokenizer.ggml.tokens", (0..300).map(|n| format!("token{n}")))
        .integers("tokenizer.ggml.token_type", U16, 2, &[1; 300])
        .integers("a.layers", I16, 2, &[-1, 0, 7])
        .list("a.floats", F32, &[vec![0; 4], vec![0; 4]])
        .list("a.none", TEXT, &[])
        .tensor("token_embd.weight", &[256, 100], BF16)
        .tensor("blk.0.ffn_down.weight", &[512, 256], Q4_K)
        .tensor("blk.1.ffn_down.weight", &[512, 256], Q4_K)
        .tensor("output_norm.weight", &[256], 0)
}

/// Reads a file in pieces of at least `piece` bytes; also how many bytes were handed in.
fn in_pieces(bytes: &[u8], size: u64, piece: u64) -> Result<(Header, u64), GgufError> {
    let mut reader = Reader::new(Some(size));
    let (mut begin, mut end, mut handed) = (0, 0, 0);
    loop {
        let index = |at: u64| usize::try_from(at).unwrap().min(bytes.len());
        match reader.read(begin, &bytes[index(begin)..index(end)])? {
            Step::Done => return Ok((reader.finish()?, handed)),
            Step::Need { at, bytes: need } => {
                assert!(need > 0 && (at > begin || at + need > end), "it asks for what it had");
                (begin, end) = (at, at + need.max(piece));
                handed += end.min(bytes.len() as u64).saturating_sub(begin);
            }
        }
    }
}

#[test]
fn every_version_and_order_says_the_same() {
    let mut all = Vec::new();
    for (version, is_big_endian) in [(1, false), (2, false), (3, false), (3, true)] {
        let file = sample(version, is_big_endian);
        let header = header_of(&file).unwrap();
        assert_eq!((header.version, header.is_big_endian, header.data_begin), (version, is_big_endian, file.header().len() as u64));
        all.push((header.metadata, header.tensors));
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    let (metadata, tensors) = &all[0];
    for (key, value) in [
        ("a.u8", Value::Integer(200)),
        ("a.i8", Value::Integer(-1)),
        ("a.i16", Value::Integer(-2)),
        ("a.u64", Value::Integer(i64::MAX)),
        ("a.i64", Value::Integer(-1)),
        ("a.f32", Value::Float(1.5)),
        ("a.f64", Value::Float(0.25)),
        ("a.bool", Value::Bool(true)),
        ("general.architecture", Value::Text("llama".into())),
        ("tokenizer.chat_template", Value::LongText),
        ("tokenizer.ggml.tokens", Value::List(300)),
        ("tokenizer.ggml.token_type", Value::List(300)),
        ("a.layers", Value::Integers(vec![-1, 0, 7])),
        ("a.floats", Value::List(2)),
        ("a.none", Value::List(0)),
    ] {
        assert_eq!(metadata.get(key), Some(&value), "{key}");
    }
    let infos: Vec<_> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.encoding, tensor.shape.as_slice(), tensor.begin, tensor.end)).collect();
    assert_eq!(infos[0], ("token_embd.weight", Encoding::BF16, &[100, 256][..], 0, 51_200));
    assert_eq!(infos[1], ("blk.0.ffn_down.weight", Encoding::Q4_K, &[256, 512][..], 51_200, 51_200 + 256 * 2 * 144));
}

#[test]
fn pieces_of_any_size_say_the_same() {
    let file = sample(3, false);
    let bytes = file.header();
    let size = bytes.len() as u64 + file.data;
    let whole = header_of(&file).unwrap();
    for piece in [1, 2, 7, 64, 1000, 10_000, 1 << 20] {
        assert_eq!(in_pieces(&bytes, size, piece).unwrap().0, whole, "{piece}");
    }
    // Pieces that begin before what was asked for do too.
    for cut in 0..bytes.len() {
        let mut reader = Reader::new(Some(size));
        if matches!(reader.read(0, &bytes[..cut]).unwrap(), Step::Need { .. }) {
            assert_eq!(reader.read(0, &bytes), Ok(Step::Done), "{cut}");
        }
        assert_eq!(reader.finish().unwrap(), whole, "{cut}");
    }
}

#[test]
fn what_is_passed_over_is_not_asked_for() {
    let numbers = vec![vec![0; 4]; 500_000];
    let file = GgufFile::new(3, false).list("tokenizer.ggml.scores", F32, &numbers).text("general.name", &"n".repeat(900_000)).tensor("x", &[1], 0);
    let bytes = file.header();
    let (_, handed) = in_pieces(&bytes, bytes.len() as u64 + file.data, 1).unwrap();
    assert!(bytes.len() > 2_900_000 && handed < 2000, "{handed} of {}", bytes.len());
}

#[test]
fn a_file_that_ends_early_is_cut_off() {
    let file = sample(3, false);
    let bytes = file.header();
    for have in 8..bytes.len() {
        let error = in_pieces(&bytes[..have], have as u64, 1 << 20).unwrap_err();
        assert!(matches!(error, GgufError::CutOff { .. } | GgufError::FileCutOff { .. }), "{have}: {error}");
    }
    let size = bytes.len() as u64 + file.data;
    let cut = in_pieces(&bytes, size - 32, 1 << 20).unwrap_err();
    assert_eq!(cut, GgufError::FileCutOff { name: "output_norm.weight".into(), have: size - 32, need: size });
    assert!(matches!(Reader::new(None).finish(), Err(GgufError::CutOff { .. })));
}

/// The error of a file read at once.
fn error(file: &GgufFile) -> GgufError {
    header_of(file).unwrap_err()
}

fn error_of(bytes: &[u8]) -> GgufError {
    let mut reader = Reader::new(None);
    match reader.read(0, bytes) {
        Ok(step) => panic!("{step:?}"),
        Err(error) => error,
    }
}

#[test]
fn what_is_no_gguf_file_is_said() {
    assert_eq!(error_of(b"GGML\x03\0\0\0"), GgufError::NotGguf);
    assert_eq!(error_of(b"<!doctype html>"), GgufError::NotGguf);
    assert_eq!(error_of(b"version https://git-lfs.github.com/spec/v1"), GgufError::LfsPointer);
    for version in [0u32, 4, 300] {
        assert_eq!(error_of(&[b"GGUF".as_slice(), &version.to_le_bytes(), &[0; 16]].concat()), GgufError::Version(version));
    }
    assert_eq!(in_pieces(b"GG", 2, 8).unwrap_err(), GgufError::CutOff { have: 2, need: 16 });
}

#[test]
fn counts_and_lengths_that_cannot_be_are_said() {
    let file = GgufFile::new(3, false).u32("a", 1).tensor("x", &[1], 0);
    for (tensors, keys) in [(1 << 40, 1), (1_000_001, 1), (1, 1 << 40), (u64::MAX, u64::MAX)] {
        assert!(matches!(error_of(&file.with_counts(tensors, keys)), GgufError::TooMany { .. }), "{tensors} {keys}");
    }
    // A billion entries where there are two, in a file of known size and in one of unknown size.
    let billion = GgufFile::new(3, false).entry("a", 9, &[8u32.to_le_bytes().to_vec(), 1_000_000_000u64.to_le_bytes().to_vec()].concat());
    let bytes = billion.header();
    assert!(matches!(in_pieces(&bytes, bytes.len() as u64, 64).unwrap_err(), GgufError::CutOff { .. }));
    let numbers = GgufFile::new(3, false).entry("a", 9, &[10u32.to_le_bytes().to_vec(), 1_000_000_000u64.to_le_bytes().to_vec()].concat());
    assert_eq!(error_of(&numbers.header()), GgufError::TooLong);
    let endless = GgufFile::new(3, false).entry("a", 9, &[12u32.to_le_bytes().to_vec(), u64::MAX.to_le_bytes().to_vec()].concat());
    assert_eq!(error_of(&endless.header()), GgufError::TooLong);
    let text = GgufFile::new(3, false).entry("a", TEXT, &(MAX_HEADER_BYTES + 1).to_le_bytes());
    assert_eq!(error_of(&text.header()), GgufError::TooLong);
    let text = GgufFile::new(3, false).entry("a", TEXT, &u64::MAX.to_le_bytes());
    assert_eq!(error_of(&text.header()), GgufError::TooLong);
    let mut key = GgufFile::new(3, false).with_counts(0, 1);
    key.extend(70_000u64.to_le_bytes());
    assert!(matches!(error_of(&key), GgufError::TooMany { what: "a metadata key", claimed: 70_000, .. }));
}

#[test]
fn names_keys_and_types_that_are_wrong_are_said() {
    let file = || GgufFile::new(3, false);
    assert_eq!(error(&file().u32("a", 1).text("a", "x")), GgufError::Repeated("a".into()));
    assert_eq!(error(&file().tensor("x", &[1], 0).tensor("x", &[1], 0)), GgufError::Repeated("x".into()));
    assert_eq!(error(&file().info(b"\xff\xfe", &[1], 0, 0)), GgufError::NotText("a tensor's name"));
    let mut key = file().with_counts(0, 1);
    key.extend([2u64.to_le_bytes().to_vec(), vec![0xc3, 0x28]].concat());
    assert_eq!(error_of(&key), GgufError::NotText("a metadata key"));
    assert_eq!(error(&file().entry("a", 13, &[0; 8])), GgufError::UnknownValueType { key: "a".into(), kind: 13 });
    assert_eq!(error(&file().entry("a", 9, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), GgufError::NestedList("a".into()));
    for (id, text) in [(4, "gave it up"), (31, "gave it up"), (43, "which is not known"), (u32::MAX, "which is not known")] {
        let error = error(&file().info(b"x", &[32], id, 0));
        assert!(matches!(error, GgufError::UnknownType { id: found, .. } if found == id) && error.to_string().contains(text), "{error}");
    }
    for alignment in [0, 3, 48] {
        assert_eq!(error(&file().u32("general.alignment", alignment).tensor("x", &[1], 0)), GgufError::BadAlignment);
    }
    assert_eq!(error(&file().text("general.alignment", "32")), GgufError::BadAlignment);
}

#[test]
fn sizes_and_places_that_are_wrong_are_said() {
    let file = || GgufFile::new(3, false);
    let x = || "x".to_owned();
    assert_eq!(error(&file().info(b"x", &[1; 5], 0, 0)), GgufError::TooManyDimensions { name: x(), dimensions: 5 });
    assert_eq!(error(&file().info(b"x", &[255, 4], Q4_K, 0)), GgufError::BrokenBlock { name: x(), row: 255, block: 256 });
    for (dimensions, offset) in [(&[1 << 32, 1 << 32][..], 0), (&[u64::MAX][..], 0), (&[1][..], u64::MAX)] {
        assert_eq!(error(&file().info(b"x", dimensions, 0, offset)), GgufError::TooManyValues(x()), "{dimensions:?} {offset}");
    }
    assert_eq!(error(&file().info(b"x", &[1], 0, 33)), GgufError::Misaligned { name: x(), offset: 33, alignment: 32 });
    let mut overlapping = file().info(b"a", &[16], 0, 0).info(b"x", &[16], 0, 32);
    overlapping.data = 1 << 20;
    assert_eq!(error(&overlapping), GgufError::Overlap(x()));
    // The last byte that is possible, and a file that lacks it.
    let mut far = file().info(b"x", &[32], 0, 0);
    let begin = far.header().len() as u64;
    far.data = 128;
    assert!(header_of(&far).is_ok());
    far.data = 127;
    assert_eq!(error(&far), GgufError::FileCutOff { name: x(), have: begin + 127, need: begin + 128 });
    let mut aligned = file();
    aligned.alignment = 64;
    let aligned = aligned.u32("general.alignment", 64).tensor("a", &[1], 0).tensor("b", &[1], 0);
    assert_eq!(header_of(&aligned).unwrap().tensors[1].begin, 64);
}

#[test]
fn messages_cannot_drive_a_terminal() {
    let name = "\u{1b}[31m".repeat(200);
    let text = error(&GgufFile::new(3, false).info(name.as_bytes(), &[1], 99, 0)).to_string();
    assert!(!text.contains('\u{1b}') && text.chars().count() < 250, "{text}");
}

/// A model of three layers as `count` parts.
fn parts(count: u32) -> Vec<GgufFile> {
    let part = |number: u32| {
        let file = if number == 0 { sample(3, false) } else { GgufFile::new(3, false).tensor(&format!("extra.{number}"), &[32], 0) };
        let bytes = |value: u32| value.to_le_bytes()[..2].to_vec();
        file.entry("split.no", U16, &bytes(number)).entry("split.count", U16, &bytes(count)).entry("split.tensors.count", 5, &(3 + count).to_le_bytes())
    };
    (0..count).map(part).collect()
}

#[test]
fn parts_make_one_file_in_any_order() {
    let headers = |files: &[GgufFile]| files.iter().map(|file| header_of(file).unwrap()).collect::<Vec<_>>();
    let mut all = headers(&parts(3));
    all.rotate_left(1);
    let whole = join(all.clone()).unwrap();
    assert_eq!(whole.tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>()[3..], ["output_norm.weight", "extra.1", "extra.2"]);
    let why = |headers: Vec<Header>| join(headers).unwrap_err().to_string();
    assert!(why(all[..2].to_vec()).contains("part 1 of 3 is missing"));
    assert!(why(vec![all[2].clone(), all[1].clone()]).contains("part 2 of 3 is missing"));
    assert!(why(vec![all[2].clone(), all[0].clone()]).contains("part 3 of 3 is missing"));
    assert!(why(vec![all[2].clone(), all[2].clone(), all[1].clone()]).contains("twice"));
    assert!(why(headers(&[parts(3).remove(0), parts(2).remove(1)])).contains("different numbers"));
    assert!(why(Vec::new()).contains("there are none"));
    let mut short = parts(2);
    short[1] = GgufFile::new(3, false).entry("split.no", U16, &[1, 0]).entry("split.count", U16, &[2, 0]);
    assert!(why(headers(&short)).contains("should have 5 tensors and have 4"));
}

/// Whatever comes: a header, an error with a text, or a request that makes sense; and a header that is no model is an error too.
fn survives(bytes: &[u8], size: u64) {
    match in_pieces(bytes, size.min(bytes.len() as u64), 256) {
        Ok((header, _)) => {
            if let Err(error) = read(&header) {
                assert!(!error.to_string().is_empty());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let mut reader = Reader::new(None);
    if let Ok(Step::Need { at, bytes: need }) = reader.read(0, bytes) {
        assert!(at + need <= MAX_HEADER_BYTES && need > 0);
    }
}

/// A small file, sound but for what is drawn.
fn any_file() -> impl Strategy<Value = GgufFile> {
    let tensor = (
        prop::sample::select(vec![
            "token_embd.weight",
            "output.weight",
            "blk.0.attn_q.weight",
            "blk.0.ffn_down.weight",
            "blk.0.ffn_gate_inp.weight",
            "v.blk.0.x",
            "blk.0.ssm_conv1d.weight",
        ]),
        prop::collection::vec(prop::sample::select(vec![0, 1, 32, 256, 1 << 20, 1 << 40, u64::MAX]), 0..5),
        prop::sample::select(vec![0u32, 1, 8, 12, 30, 39]),
    );
    let key = (
        prop::sample::select(vec![
            "block_count",
            "embedding_length",
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "expert_count",
            "expert_used_count",
            "nextn_predict_layers",
            "ssm.inner_size",
            "ssm.state_size",
            "attention.sliding_window",
            "attention.kv_lora_rank",
            "context_length",
        ]),
        prop::sample::select(vec![0u32, 1, 2, 3, 4, 128, 1 << 20, u32::MAX]),
    );
    let arch = prop::sample::select(vec!["llama", "clip", "gemma3", "qwen35", "deepseek2", "t5"]);
    (1u32..4, any::<bool>(), arch, prop::collection::vec(key, 0..12), prop::collection::vec(tensor, 0..8)).prop_map(|(version, order, arch, keys, tensors)| {
        let mut file = GgufFile::new(version, order).text("general.architecture", arch);
        for (key, value) in keys {
            file = file.u32(&format!("{arch}.{key}"), value);
        }
        for (number, (name, dimensions, id)) in tensors.into_iter().enumerate() {
            file = file.info(name.as_bytes(), &dimensions, id, 1024 * number as u64);
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), version in 0u32..5) {
        survives(&bytes, u64::MAX);
        survives(&[b"GGUF".as_slice(), &version.to_le_bytes(), &bytes].concat(), u64::MAX);
    }

    #[test]
    fn changed_files_do_no_harm(
        version in 1u32..4,
        order in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = sample(version, order).header();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        survives(&bytes, u64::MAX);
        survives(&bytes[..cut.index(bytes.len())], u64::MAX);
    }

    #[test]
    fn any_metadata_are_a_model_or_an_error(file in any_file(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
        let mut bytes = file.header();
        let mut reader = Reader::new(None);
        if reader.read(0, &bytes) == Ok(Step::Done) && let Ok(header) = reader.finish() && let Ok(contents) = read(&header) {
            contents.anatomy.parameters().unwrap();
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        survives(&bytes, u64::MAX);
    }
}
