//! Parameters of a query, for conditions. Edits none (`filter`).

use super::path::decoded;
use smallvec::SmallVec;

/// Of a decoded value; the values that conditions name are shorter.
const VALUE_BYTES_MAX: usize = 128;

/// True as soon as `test` holds for the decoded value of one parameter with this name. A value that is longer than any
/// condition's is tested cut off.
pub fn any_parameter(query: Option<&[u8]>, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    query.unwrap_or_default().split(|byte| *byte == b'&').any(|pair| {
        let (raw, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        if raw.is_empty() || !decoded(raw).eq(name.bytes()) {
            return false;
        }
        let value: SmallVec<[u8; VALUE_BYTES_MAX]> = decoded(value).take(VALUE_BYTES_MAX).collect();
        test(&value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_decoded_name() {
        let values = |query: &str| {
            let mut found = Vec::new();
            any_parameter(Some(query.as_bytes()), "version", &mut |value| {
                found.push(String::from_utf8(value.to_vec()).unwrap());
                false
            });
            found
        };
        assert_eq!(values("a=1&version=v1&%76ersion=v%32&versions=3&version"), ["v1", "v2", ""]);
        assert!(values("&=v1&xversion=1").is_empty());
        assert!(!any_parameter(None, "version", &mut |_| true));
        assert_eq!(values(&format!("version={}", "a".repeat(1000))), ["a".repeat(VALUE_BYTES_MAX)]);
    }
}
