//! What the parsers of headers allocate, measured at the allocator, against the bounds that they state: for files made to take
//! the most, and for files changed at random.

mod common;

use common::gguf::{GgufFile, U8};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use vramfit::checkpoint::gguf::{self, Reader, Step};
use vramfit::checkpoint::{parse_header, safetensors};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that `work` has allocated at its worst moment, with what it returns.
fn peak<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    (ALLOCATOR.peak_usage().saturating_sub(before) as u64, result)
}

/// Reads what is there of a GGUF file, in pieces of 64 KiB.
fn read_gguf(bytes: &[u8]) -> Option<gguf::Header> {
    let mut reader = Reader::new(None);
    let mut piece = (0, &bytes[..0]);
    while let Step::Need { at, bytes: need } = reader.read(piece.0, piece.1).ok()? {
        let rest = bytes.get(usize::try_from(at).ok()?..).filter(|rest| rest.len() as u64 >= need)?;
        piece = (at, &rest[..rest.len().min(usize::try_from(need).ok()?.max(1 << 16))]);
    }
    reader.finish().ok()
}

fn check_gguf(what: &str, bytes: &[u8]) -> bool {
    let (peak, header) = peak(|| read_gguf(bytes));
    let most = gguf::most_memory(bytes.len() as u64);
    assert!(peak <= most, "{what}: {peak} bytes for a header of {}, more than {most}", bytes.len());
    header.is_some()
}

fn check_safetensors(what: &str, bytes: &[u8]) -> bool {
    let (peak, header) = peak(|| parse_header(bytes, None).is_ok());
    let most = safetensors::most_memory(bytes.len() as u64);
    assert!(peak <= most, "{what}: {peak} bytes for a header of {}, more than {most}", bytes.len());
    header
}

fn framed(json: &str) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat()
}

/// Short names that differ.
fn name(number: u64) -> String {
    const DIGITS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    let (mut name, mut left) = (String::new(), number);
    loop {
        name.push(char::from(DIGITS[usize::try_from(left % 64).unwrap()]));
        left /= 64;
        if left == 0 {
            return name;
        }
    }
}

/// Files whose entries are as short as the format allows, of many sizes: containers that have just grown are the worst.
fn greedy_gguf() {
    let (tiny, no_numbers) = (vec![vec![0u8]; 4096], vec![]);
    for count in [10, 1000, 1025, 7169, 14_337, 28_673, 60_000] {
        let mut tensors = GgufFile::new(1, false);
        for number in 0..count {
            tensors = tensors.info(name(number).as_bytes(), &[], 24, 32 * number);
        }
        assert!(check_gguf("tensors", &tensors.header()));
    }
    for count in [10, 1000, 5000, 60_000] {
        let (mut keys, mut lists, mut empty) = (GgufFile::new(1, false), GgufFile::new(1, false), GgufFile::new(1, false));
        for number in 0..count {
            keys = keys.entry(&name(number), U8, &[0]);
            empty = empty.list(&name(number), U8, &no_numbers);
            if number < 200 {
                lists = lists.list(&name(number), U8, &tiny[..if number % 2 == 0 { 2049 } else { 4096 }]);
            }
        }
        for (what, file) in [("keys", keys), ("lists", lists), ("empty lists", empty)] {
            assert!(check_gguf(what, &file.header()), "{what}");
        }
    }
}

fn greedy_safetensors() {
    for count in [10u64, 1000, 1025, 7169, 14_337, 28_673, 60_000] {
        let entry = |number| format!(r#""{}":{{"dtype":"U8","shape":[],"data_offsets":[{number},{}]}}"#, name(number), number + 1);
        let tensors: Vec<String> = (0..count).map(entry).collect();
        assert!(check_safetensors("tensors", &framed(&format!("{{{}}}", tensors.join(",")))));
        let metadata: Vec<String> = (0..count).map(|number| format!(r#""{}":"""#, name(number))).collect();
        assert!(check_safetensors("metadata", &framed(&format!(r#"{{"__metadata__":{{{}}}}}"#, metadata.join(",")))));
    }
    for text in ["\\u0001".repeat(100_000), "[".repeat(100_000), "1".repeat(100_000)] {
        check_safetensors("a long name", &framed(&format!(r#"{{"{text}":1}}"#)));
        check_safetensors("a long value", &framed(&format!(r#"{{"a":{text}}}"#)));
    }
}

/// Headers that claim far more than they have.
fn claims() {
    let file = |tensors, keys| GgufFile::new(3, false).with_counts(tensors, keys);
    for (tensors, keys) in [(1_000_000, 0), (0, 100_000), (1_000_000, 100_000), (u64::MAX, u64::MAX)] {
        check_gguf("counts", &file(tensors, keys));
    }
    for kind in 0..13u32 {
        for length in [1u64 << 12, 1_000_000_000, u64::MAX] {
            let list = GgufFile::new(3, false).entry("a", 9, &[kind.to_le_bytes().to_vec(), length.to_le_bytes().to_vec()].concat());
            check_gguf("lists", &list.header());
            check_gguf("texts", &GgufFile::new(3, false).entry("a", kind, &length.to_le_bytes()).header());
        }
    }
    for length in [1, 100_000_000, u64::MAX] {
        check_safetensors("length", &length.to_le_bytes());
    }
}

fn random() {
    let sound = {
        let mut file = GgufFile::new(3, false).text("general.architecture", "llama").texts("tokenizer.ggml.tokens", (0..50).map(name));
        for layer in 0..20 {
            file = file.tensor(&format!("blk.{layer}.ffn_up.weight"), &[256, 16], 12);
        }
        file.header()
    };
    let json: Vec<String> = (0..20).map(|n| format!(r#""layers.{n}":{{"dtype":"U8","shape":[2,3],"data_offsets":[{},{}]}}"#, 6 * n, 6 * n + 6)).collect();
    let tensors = framed(&format!("{{{}}}", json.join(",")));
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let change = |bytes: &[u8], changes: &[(prop::sample::Index, u8)]| {
        let mut bytes = bytes.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes
    };
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let result = runner.run(&changes, |changes| {
        check_gguf("changed", &change(&sound, &changes));
        check_safetensors("changed", &change(&tensors, &changes));
        Ok(())
    });
    result.unwrap();
}

/// One test, since the allocator counts for all threads.
#[test]
fn parsers_keep_their_bounds() {
    greedy_gguf();
    greedy_safetensors();
    claims();
    random();
}
