use super::entries::METADATA;
use super::*;
use proptest::prelude::*;

/// The start of a file with this JSON.
fn framed(json: &str) -> Vec<u8> {
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    file
}

fn parse(json: &str) -> Result<Header, HeaderError> {
    match parse_header(&framed(json), None)? {
        Parsed::Header(header) => Ok(header),
        Parsed::NeedMore { bytes } => panic!("{bytes} bytes for {json}"),
    }
}

fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

fn one(dtype: &str, shape: &str, begin: u64, end: u64) -> Result<Header, HeaderError> {
    parse(&format!("{{{}}}", entry("x", dtype, shape, begin, end)))
}

#[test]
fn a_header_is_read_in_full() {
    let tensors = [
        entry("b", "BF16", "[2, 3]", 4, 16),
        entry("a", "F32", "[]", 0, 4),
        entry("packed", "F4", "[3, 2]", 16, 19),
        entry("six", "F6_E2M3", "[4]", 19, 22),
        entry("none", "U8", "[0, 7]", 22, 22),
    ];
    let json = format!(r#"{{"__metadata__":{{"format":"pt","odd":[1,{{}}],"n":1.5,"o":{{"a":[]}}}},{}}}   "#, tensors.join(","));
    let header = parse(&json).unwrap();
    assert_eq!(header.metadata, [("format".to_owned(), "pt".to_owned())]);
    assert_eq!(header.tensors.len(), 5);
    assert_eq!(header.tensors[0], HeaderTensor { name: "b".into(), encoding: Encoding::BF16, shape: vec![2, 3], begin: 4, end: 16 });
    assert_eq!(parse("{}"), Ok(Header::default()));
    for odd in ["null", "true", "-1", "1", "0.5", "\"x\"", "[{}]", "{}"] {
        assert_eq!(parse(&format!(r#"{{"__metadata__":{odd}}}"#)), Ok(Header::default()), "{odd}");
    }
}

/// Every dtype of the format, with the bits of one value (`Dtype::bitsize` of safetensors 0.8): offsets must fit the shape.
#[test]
fn every_dtype_is_checked_against_its_offsets() {
    for (bits, dtypes) in [
        (4, &["F4"][..]),
        (6, &["F6_E2M3", "F6_E3M2"]),
        (8, &["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]),
        (16, &["I16", "U16", "F16", "BF16"]),
        (32, &["I32", "U32", "F32"]),
        (64, &["I64", "U64", "F64", "C64"]),
    ] {
        for dtype in dtypes {
            let bytes = 24 * bits / 8;
            assert!(one(dtype, "[2, 3, 4]", 0, bytes).is_ok(), "{dtype}");
            for stored in [bytes - 1, bytes + 1] {
                let expected = HeaderError::WrongLength { name: "x".into(), needed: bytes, stored };
                assert_eq!(one(dtype, "[2, 3, 4]", 0, stored), Err(expected), "{dtype}");
            }
        }
    }
    assert_eq!(Encoding::all().filter(|encoding| Encoding::from_safetensors(encoding.name).is_some()).count(), 22);
    for (dtype, values) in [("F4", 3), ("F6_E2M3", 6), ("F6_E3M2", 5)] {
        let expected = HeaderError::PartByte { name: "x".into(), dtype: Encoding::from_safetensors(dtype).unwrap().name, values };
        assert_eq!(one(dtype, &format!("[{values}]"), 0, values), Err(expected), "{dtype}");
    }
}

#[test]
fn more_is_asked_for_until_the_header_is_whole() {
    let file = framed(&format!("{{{}}}", entry("x", "U8", "[9]", 0, 9)));
    let whole = file.len() as u64;
    for have in 0..file.len() {
        let bytes = if have < 8 { 8 } else { whole };
        assert_eq!(parse_header(&file[..have], None), Ok(Parsed::NeedMore { bytes }), "{have}");
        assert_eq!(parse_header(&file[..have], Some(whole + 9)), Ok(Parsed::NeedMore { bytes }), "{have}");
    }
    assert!(matches!(parse_header(&file, Some(whole + 9)), Ok(Parsed::Header(_))));
    assert_eq!(parse_header(&file, Some(whole + 8)), Err(HeaderError::FileCutOff { have: whole + 8, need: whole + 9 }));
    assert_eq!(parse_header(&file, Some(whole + 10)), Err(HeaderError::FileTooLong { have: whole + 10, need: whole + 9 }));
    assert_eq!(parse_header(&file[..20], Some(20)), Err(HeaderError::CutOff { have: 20, need: whole }));
    assert_eq!(parse_header(&[], Some(3)), Err(HeaderError::TooShort { bytes: 3 }));
}

#[test]
fn what_is_not_a_header_is_said() {
    assert_eq!(parse_header(b"version https://git-lfs.github.com/spec/v1", None), Err(HeaderError::LfsPointer));
    assert!(matches!(parse_header(b"<!doctype html>", None), Err(HeaderError::TooLarge { .. })));
    let most = MAX_HEADER_BYTES.to_le_bytes();
    assert_eq!(parse_header(&most, None), Ok(Parsed::NeedMore { bytes: MAX_HEADER_BYTES + 8 }));
    assert_eq!(parse_header(&(MAX_HEADER_BYTES + 1).to_le_bytes(), None), Err(HeaderError::TooLarge { bytes: MAX_HEADER_BYTES + 1 }));
    let mut file = framed("{\"x\"}");
    file[9] = 0xff;
    assert_eq!(parse_header(&file, None), Err(HeaderError::NotText));
    for json in ["", "[]", "{", "{}}", "null", "{\"__metadata__\":{}"] {
        assert!(matches!(parse(json), Err(HeaderError::NotJson(_))), "{json}");
    }
}

#[test]
fn every_tensor_is_checked() {
    let x = || "x".to_owned();
    assert_eq!(one("Q4", "[1]", 0, 1), Err(HeaderError::UnknownDtype { name: x(), dtype: "Q4".into() }));
    assert_eq!(one("U8", "[4]", 9, 5), Err(HeaderError::Backwards { name: x(), begin: 9, end: 5 }));
    assert_eq!(one("F16", "[4]", 0, 7), Err(HeaderError::WrongLength { name: x(), needed: 8, stored: 7 }));
    assert_eq!(one("U8", "[4294967296,4294967296]", 0, 0), Err(HeaderError::TooManyValues { name: x() }));
    assert_eq!(one("F64", "[4611686018427387904]", 0, 0), Err(HeaderError::TooManyValues { name: x() }));
    assert_eq!(one("U8", "[4]", 3, 7), Err(HeaderError::Hole { name: x(), bytes: 3 }));
    for shape in ["[-1]", "[1.5]", "\"x\"", "null", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"] {
        assert!(matches!(one("U8", shape, 0, 1), Err(HeaderError::BadTensor { .. })), "{shape}");
    }
    for bad in [r#"{"x":{"dtype":"U8","shape":[1]}}"#, r#"{"x":7}"#, r#"{"x":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}"#] {
        assert!(matches!(parse(bad), Err(HeaderError::BadTensor { .. })), "{bad}");
    }
    let pair = |a: String, b: String| parse(&format!("{{{a},{b}}}"));
    assert_eq!(pair(entry("a", "U8", "[4]", 0, 4), entry("x", "U8", "[4]", 3, 7)), Err(HeaderError::Overlap { name: x() }));
    assert_eq!(pair(entry("a", "U8", "[4]", 0, 4), entry("x", "U8", "[4]", 6, 10)), Err(HeaderError::Hole { name: x(), bytes: 2 }));
    assert_eq!(pair(entry("x", "U8", "[4]", 0, 4), entry("x", "U8", "[4]", 4, 8)), Err(HeaderError::Repeated { name: x() }));
    let metadata = r#""__metadata__":{}"#.to_owned();
    assert_eq!(pair(metadata.clone(), metadata), Err(HeaderError::Repeated { name: METADATA.into() }));
}

#[test]
fn messages_cannot_drive_a_terminal() {
    let error = parse(&format!("{{{}}}", entry("\\u001b[31m", "Q4", "[1]", 0, 1))).unwrap_err();
    assert!(!error.to_string().contains('\u{1b}'));
    let long = "n".repeat(5000);
    assert!(parse(&format!("{{{}}}", entry(&long, "Q4", "[1]", 0, 1))).unwrap_err().to_string().len() < 400);
}

/// Whatever comes: no panic, no request beyond the bound, and no room kept beyond what the bytes could fill.
fn survives(bytes: &[u8], file_size: Option<u64>) {
    match parse_header(bytes, file_size) {
        Ok(Parsed::NeedMore { bytes: need }) => assert!(need > bytes.len() as u64 && need <= MAX_HEADER_BYTES + LENGTH_BYTES),
        Ok(Parsed::Header(header)) => assert!(header.tensors.capacity() <= bytes.len() && header.metadata.capacity() <= bytes.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400), size in proptest::option::of(any::<u64>())) {
        survives(&bytes, size);
        let mut file = (bytes.len() as u64).to_le_bytes().to_vec();
        file.extend(&bytes);
        survives(&file, size);
    }

    #[test]
    fn mutated_headers_do_no_harm(
        count in 1u64..12,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        let entries: Vec<String> = (0..count).map(|n| entry(&format!("layers.{n}.weight"), "BF16", "[2,3]", 12 * n, 12 * (n + 1))).collect();
        let mut file = framed(&format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}"#, entries.join(",")));
        let size = file.len() as u64 + 12 * count;
        prop_assert!(matches!(parse_header(&file, Some(size)), Ok(Parsed::Header(_))));
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        survives(&file, Some(size));
        survives(&file, None);
        survives(&file[..cut.index(file.len())], None);
    }

    #[test]
    fn any_text_of_json_signs_does_no_harm(json in r#"[{}\[\]",:0-9a-z \\.-]{0,200}"#) {
        survives(&framed(&json), None);
        survives(&framed(&format!(r#"{{"x":{json}}}"#)), None);
    }
}
