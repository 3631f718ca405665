//! Any bytes as a path: no panic, a stable normal form, and no reading of it that climbs or repeats.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_proto::{NormalPath, decode_segment, segments};

fuzz_target!(|raw: &[u8]| {
    let mut path = NormalPath::new();
    if path.set(raw).is_err() {
        assert!(path.bytes.is_empty() && path.readings().count() == 0);
        return;
    }
    let bytes = path.bytes.clone();
    let readings: Vec<Vec<u8>> = path.readings().map(<[u8]>::to_vec).collect();
    assert!(readings.len() <= 16 && (path.ambiguous || readings.is_empty()));
    for form in readings.iter().chain([&bytes]) {
        assert!(form.first() == Some(&b'/') && form.iter().all(u8::is_ascii_graphic));
        assert!(!form.windows(2).any(|two| two == b"//") && !form.contains(&b'?') && !form.contains(&b'#'));
        assert!(segments(form).all(|segment| segment != b"." && segment != b".."));
    }
    let ambiguous = path.ambiguous;
    path.set(&bytes).expect("a normal path is valid");
    assert_eq!((&path.bytes, path.ambiguous), (&bytes, ambiguous));
    assert!(path.readings().eq(readings.iter().map(Vec::as_slice)));
    if !ambiguous {
        let mut decoded = Vec::new();
        decode_segment(&bytes, &mut decoded);
        // One decoding shows all there is: no separator or dot segment was hidden.
        assert!(!decoded.contains(&b'\\') && !decoded.contains(&0));
        assert_eq!(decoded.iter().filter(|byte| **byte == b'/').count(), segments(&bytes).count());
    }
});
