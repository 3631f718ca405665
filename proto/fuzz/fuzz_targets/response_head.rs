//! Any bytes as an answer's head: no panic, and the same result however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_proto::{Body, HeadLimits, Method, Progress, ResponseHead};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, target_bytes_max: 0, fields_max: 32 };
const METHODS: [Method; 4] = [Method::Get, Method::Head, Method::Connect, Method::Post];

fuzz_target!(|input: &[u8]| {
    // The first byte says how the rest is cut and what was asked.
    let Some((cut, input)) = input.split_first() else { return };
    let method = METHODS[usize::from(cut >> 6)];
    let mut whole = ResponseHead::new();
    let result = whole.parse(input, &LIMITS, method);
    let mut pieces = ResponseHead::new();
    let mut cut_result = Ok(Progress::Partial);
    for len in (0..input.len()).step_by(usize::from(*cut % 16) + 1).chain([input.len()]) {
        cut_result = pieces.parse(&input[..len], &LIMITS, method);
        if cut_result != Ok(Progress::Partial) {
            break;
        }
    }
    assert_eq!(result, cut_result);
    if result != Ok(Progress::Complete) {
        return;
    }
    assert_eq!(whole.fields, pieces.fields);
    assert_eq!((whole.head_len, whole.body, whole.keep_alive), (pieces.head_len, pieces.body, pieces.keep_alive));
    assert!(whole.head_len <= input.len() && (100..600).contains(&whole.status));
    if matches!(whole.status, 100..=199 | 204 | 304) || method == Method::Head {
        assert_eq!(whole.body, Body::None);
    }
    assert!(whole.body != Body::UntilClose || !whole.keep_alive);
    let _ = whole.reason.of(input);
});
