//! Any bytes as a request head: no panic, the same result however they are cut, and promises that a caller builds on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_proto::{Body, HeadLimits, Known, Progress, RequestHead, Version};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, target_bytes_max: 512, fields_max: 32 };

fuzz_target!(|input: &[u8]| {
    // The first byte says how the rest is cut.
    let Some((cut, input)) = input.split_first() else { return };
    let mut whole = RequestHead::new();
    let result = whole.parse(input, &LIMITS);
    let mut pieces = RequestHead::new();
    let mut cut_result = Ok(Progress::Partial);
    for len in (0..input.len()).step_by(usize::from(*cut % 16) + 1).chain([input.len()]) {
        cut_result = pieces.parse(&input[..len], &LIMITS);
        if cut_result != Ok(Progress::Partial) {
            break;
        }
    }
    assert_eq!(result, cut_result);
    if result != Ok(Progress::Complete) {
        return;
    }
    assert_eq!(whole.fields, pieces.fields);
    assert_eq!((whole.head_len, whole.body, whole.authority), (pieces.head_len, pieces.body, pieces.authority));
    assert!(whole.head_len <= input.len() && whole.head_len <= LIMITS.head_bytes_max);
    assert!(input[..whole.head_len].ends_with(b"\r\n\r\n"));
    framing(input, &whole);
});

fn framing(input: &[u8], head: &RequestHead) {
    let count = |known| head.fields.iter().filter(|field| field.known == known).count();
    let lengths = (count(Known::ContentLength), count(Known::TransferEncoding));
    match head.body {
        Body::None => assert_eq!(lengths, (0, 0)),
        Body::Length(_) => assert_eq!(lengths, (1, 0)),
        Body::Chunked => assert_eq!(lengths, (0, 1)),
        Body::UntilClose => panic!("no request has such a body"),
    }
    assert!(count(Known::Host) == 1 || (head.version == Version::Http10 && count(Known::Host) == 0));
    for field in &head.fields {
        let (name, value) = (field.name.of(input), field.value.of(input));
        assert!(!name.is_empty() && !name.contains(&b':'));
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        assert!(!value.starts_with(b" ") && !value.ends_with(b"\t"));
        let letters: Vec<u8> =
            name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase).collect();
        let framing = matches!(&letters[..], b"contentlength" | b"transferencoding");
        assert_eq!(framing, matches!(field.known, Known::ContentLength | Known::TransferEncoding));
        assert_eq!(field.known, Known::of(name));
    }
    assert!(!head.target.whole.is_empty());
}
