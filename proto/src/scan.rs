//! Byte classes of RFC 9110/9112 and the loops that skip over them, eight or sixteen bytes at a time. Knows no
//! grammar.

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
    // Two overlapping blocks cover most names, and most names hold nothing odd.
    if let (Some(head), Some(tail), ..=16) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>(), bytes.len())
        && head.iter().chain(tail).fold(true, |all, byte| all & is_plain(*byte))
    {
        return true;
    }
    !bytes.is_empty() && bytes.iter().all(|byte| is_tchar(*byte))
}

/// Most of `tchar`, without branches.
#[inline]
fn is_plain(byte: u8) -> bool {
    ((byte | 0x20).wrapping_sub(b'a') < 26) | (byte.wrapping_sub(b'0') < 10) | (byte == b'-') | (byte == b'_')
}

/// HTAB, SP, VCHAR and obs-text (RFC 9110 5.5).
#[inline]
pub(crate) fn is_value_byte(byte: u8) -> bool {
    (byte == b'\t') | ((byte >= b' ') & (byte != 0x7f))
}

/// What a request target may hold: visible ASCII but `#` (RFC 9112 3.2; a fragment is never sent).
#[inline]
fn is_target_byte(byte: u8) -> bool {
    (byte > b' ') & (byte < 0x7f) & (byte != b'#')
}

/// Anything but a colon, a space and a control byte. Not all of it is `tchar`: who finds a name by its end must still look.
#[inline]
fn is_name_byte(byte: u8) -> bool {
    byte > b' ' && byte != b':'
}

/// Index of the first byte from `at` on that is no `tchar`, or the end of `buf`.
#[inline]
pub(crate) fn token_end(buf: &[u8], at: usize) -> usize {
    let rest = &buf[at..];
    at + rest.iter().position(|byte| !is_tchar(*byte)).unwrap_or(rest.len())
}

/// Index of the first colon, space or control byte from `at` on, or the end of `buf`.
#[inline]
pub(crate) fn name_end(buf: &[u8], at: usize) -> usize {
    find(buf, at, |word| below(word, 0x21) | equal(word, b':'), is_name_byte)
}

/// Index of the first byte from `at` on that a field value may not hold, or the end of `buf`.
#[inline]
pub(crate) fn value_end(buf: &[u8], at: usize) -> usize {
    let mut end = at;
    loop {
        end = skip(buf, end, is_value_byte);
        end = find(buf, end, |word| below(word, 0x20) | equal(word, 0x7f), |byte| byte >= b' ' && byte != 0x7f);
        // Rare enough to leave the loop for.
        if buf.get(end) != Some(&b'\t') {
            return end;
        }
        end += 1;
    }
}

/// Index of the first byte from `at` on that a request target may not hold, or the end of `buf`.
#[inline]
pub(crate) fn target_end(buf: &[u8], at: usize) -> usize {
    let stops = |word: u64| below(word, 0x21) | equal(word, b'#') | ((word.wrapping_add(ONES) | word) & HIGHS);
    find(buf, skip(buf, at, is_target_byte), stops, is_target_byte)
}

/// Index of the first `byte` from `at` on, or the end of `buf`. Inlined, hence faster than `memchr` over short distances.
#[inline]
pub(crate) fn byte_end(buf: &[u8], at: usize, byte: u8) -> usize {
    find(buf, at, |word| equal(word, byte), |other| other != byte)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Steps over blocks in which every byte is fine. `fine` must be without branches: the compiler then makes one vector
/// comparison of a block, which no longer says where the fault is, but takes a quarter of [`find`]'s time.
#[inline]
fn skip(buf: &[u8], mut at: usize, fine: impl Fn(u8) -> bool) -> usize {
    while let Some(block) = buf[at..].first_chunk::<16>() {
        if !block.iter().fold(true, |all, byte| all & fine(*byte)) {
            break;
        }
        at += 16;
    }
    at
}

/// Index of the first byte from `at` on that is not fine, or the end of `buf`. `stops` sets the highest bit of the bytes in a
/// word that are not fine; carries and borrows may set others, too, but only above (behind) a right one.
#[inline]
fn find(buf: &[u8], mut at: usize, stops: impl Fn(u64) -> u64, fine: impl Fn(u8) -> bool) -> usize {
    while let Some(bytes) = buf[at..].first_chunk::<8>() {
        let marks = stops(u64::from_le_bytes(*bytes));
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = &buf[at..];
    at + rest.iter().position(|byte| !fine(*byte)).unwrap_or(rest.len())
}

/// Marks the bytes below `limit`, which is at most 0x80.
#[inline]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGHS
}

/// Marks the bytes that are `byte`.
#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
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

    /// Every byte value at every offset, in words and in what is left of them, before bytes that draw false marks.
    #[test]
    fn loops_agree_with_the_classes() {
        for byte in 0..=255u8 {
            for offset in 0..40 {
                for after in [b'a', 0x00, 0x20, b':', b'#', 0x7e, 0x7f, 0x80, 0xff, byte.wrapping_add(1)] {
                    let mut buf = [b'a'; 43];
                    buf[offset] = byte;
                    buf[offset + 1..].fill(after);
                    let naive = |is: fn(u8) -> bool| buf.iter().position(|b| !is(*b)).unwrap_or(buf.len());
                    assert_eq!(value_end(&buf, 0), naive(is_value_byte), "value {byte:#x} at {offset}");
                    assert_eq!(target_end(&buf, 0), naive(is_target_byte), "target {byte:#x} at {offset}");
                    assert_eq!(token_end(&buf, 0), naive(is_tchar), "token {byte:#x} at {offset}");
                    assert_eq!(name_end(&buf, 0), naive(is_name_byte), "name {byte:#x} at {offset}");
                    assert_eq!(byte_end(&buf, 0, b'#'), naive(|byte| byte != b'#'), "byte {byte:#x} at {offset}");
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
