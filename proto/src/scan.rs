//! Byte classes of RFC 9110/9112 and the loops that skip over them, eight bytes at a time. Knows no grammar.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// `tchar` (RFC 9110 5.6.2).
static TCHAR: [bool; 256] = table(b"!#$%&'*+-.^_`|~", true);

const fn table(marks: &[u8], alphanumeric: bool) -> [bool; 256] {
    let mut is = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        is[byte] = alphanumeric && (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < marks.len() {
        is[marks[at] as usize] = true;
        at += 1;
    }
    is
}

#[inline]
pub(crate) fn is_tchar(byte: u8) -> bool {
    TCHAR[usize::from(byte)]
}

/// A non-empty run of `tchar`.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_tchar(*byte))
}

/// HTAB, SP, VCHAR and obs-text (RFC 9110 5.5).
#[inline]
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// What a request target may hold: visible ASCII but `#` (RFC 9112 3.2; a fragment is never sent).
#[inline]
fn is_target_byte(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && byte != b'#'
}

/// Index of the first byte from `at` on that is no `tchar`, or the end of `buf`.
#[inline]
pub(crate) fn token_end(buf: &[u8], at: usize) -> usize {
    let rest = &buf[at..];
    at + rest.iter().position(|byte| !is_tchar(*byte)).unwrap_or(rest.len())
}

/// Index of the first byte from `at` on that a field value may not hold, or the end of `buf`.
#[inline]
pub(crate) fn value_end(buf: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = buf[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let stops = below(word, 0x20) | equal(word, 0x7f);
        if stops == 0 {
            at += 8;
            continue;
        }
        at += first(stops);
        if buf[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    let rest = &buf[at..];
    at + rest.iter().position(|byte| !is_value_byte(*byte)).unwrap_or(rest.len())
}

/// Index of the first byte from `at` on that a request target may not hold, or the end of `buf`.
#[inline]
pub(crate) fn target_end(buf: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = buf[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let stops = below(word, 0x21) | equal(word, 0x7f) | equal(word, b'#') | (word & HIGHS);
        if stops != 0 {
            return at + first(stops);
        }
        at += 8;
    }
    let rest = &buf[at..];
    at + rest.iter().position(|byte| !is_target_byte(*byte)).unwrap_or(rest.len())
}

/// Marks the bytes below `limit` (at most 0x80). Borrows can mark a byte wrongly, but only above a right mark, so the
/// lowest mark is always true; the same holds for [`equal`] and for any of them or'ed together.
#[inline]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGHS
}

#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// Position of the lowest mark.
#[inline]
fn first(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// Without leading and trailing OWS (SP, HTAB).
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a comma list, trimmed; empty ones are left out (RFC 9110 5.6.1.2).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte value at every offset, against the plain predicates: the borrow argument above, checked.
    #[test]
    fn loops_agree_with_the_classes() {
        for byte in 0..=255u8 {
            for offset in 0..20 {
                for after in [b'a', 0x00, 0x1f, 0x21, 0x7e, 0x80] {
                    let mut buf = [b'a'; 24];
                    buf[offset] = byte;
                    buf[offset + 1..].fill(after);
                    let naive = |is: fn(u8) -> bool| buf.iter().position(|b| !is(*b)).unwrap_or(buf.len());
                    assert_eq!(value_end(&buf, 0), naive(is_value_byte), "value {byte:#x} at {offset}");
                    assert_eq!(target_end(&buf, 0), naive(is_target_byte), "target {byte:#x} at {offset}");
                    assert_eq!(token_end(&buf, 0), naive(is_tchar), "token {byte:#x} at {offset}");
                }
            }
        }
    }

    #[test]
    fn classes_are_those_of_the_rfc() {
        let tchars = (0..=255u8).filter(|byte| is_tchar(*byte)).count();
        assert_eq!(tchars, 26 * 2 + 10 + 15);
        assert!(!is_tchar(b':') && !is_tchar(b' ') && !is_tchar(b'"') && !is_tchar(0x80));
        assert!(is_value_byte(b'\t') && is_value_byte(0xff) && !is_value_byte(0) && !is_value_byte(0x7f));
        assert!(!is_value_byte(b'\r') && !is_value_byte(b'\n') && !is_value_byte(0x0b));
    }

    #[test]
    fn lists_skip_empty_members() {
        assert_eq!(list(b" ,a , b\t,,").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(trim(b" \t x y\t "), b"x y");
        assert_eq!(trim(b" \t "), b"");
    }
}
