//! Dot and empty segments that only some readers of a path find. For paths that a gateway has put together itself, where
//! asking which route each reading leads to (`readings`) would come too late.

use super::{decode_segment, segments};

/// Decodings that a reader may make, one more than [`super::NormalPath`] lets differ.
const DECODINGS_MAX: usize = 4;

/// True if a reader that decodes the path, perhaps several times, takes `\` for `/` or cuts `;parameters` off could
/// find a `.` or `..`, or an empty segment before the last. The buffers are only for reuse.
pub fn hides_segments(path: &[u8], one: &mut Vec<u8>, other: &mut Vec<u8>) -> bool {
    one.clear();
    one.extend_from_slice(path);
    for _ in 0..DECODINGS_MAX {
        if has_odd_segment(one) {
            return true;
        }
        other.clear();
        decode_segment(one, other);
        if one == other {
            return false;
        }
        std::mem::swap(one, other);
    }
    true // encoded without end
}

fn has_odd_segment(path: &[u8]) -> bool {
    let mut parts = segments(path).flat_map(|segment| segment.split(|byte| *byte == b'\\')).peekable();
    while let Some(part) = parts.next() {
        let plain = part.split(|byte| *byte == b';').next().unwrap_or(part);
        let is_last = parts.peek().is_none();
        if matches!(plain, b"." | b"..") || (plain.is_empty() && !(is_last && part.is_empty())) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_reader_could_find() {
        let hides = |path: &str| hides_segments(path.as_bytes(), &mut Vec::new(), &mut Vec::new());
        for path in ["/", "/a/", "/a%2Fb", "/a%5Cb/", "/a;x/b", "/a%252Fb", "/a..b", "/a%2F", "/..a%2Fb", "/a/..."] {
            assert!(!hides(path), "{path}");
        }
        for path in [
            "/..",
            "/a/./b",
            "/a%2F..",
            "/%2E/b",
            "/a%2F%2Fb",
            "/a/%5C..",
            "/..;x",
            "/a/;x/b",
            "/a/;",
            "/%2F",
            "/a%25252525252Fb",
            "/%252e",
            "/a%2F..%3Bx",
        ] {
            assert!(hides(path), "{path}");
        }
    }
}
