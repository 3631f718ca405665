//! The one place where a path is read: what routing matches is what the origin is sent, and a spelling that an origin
//! could read in another way is known to be ambiguous. Never touches the query.

mod hidden;
mod readings;
#[cfg(test)]
mod tests;

use std::fmt;

pub use hidden::hides_segments;

/// A request path in normal form (RFC 3986 6.2.2, made strict), reused from request to request.
///
/// - Triplets of unreserved characters are decoded, the others kept with upper-case digits; raw characters that no
///   path may hold are encoded.
/// - `//` becomes `/`; `.` and `..` are resolved after decoding; a last one leaves a slash.
/// - `%2F`, `%5C` (also for a raw `\`) and `;` are kept, and make the path ambiguous, as does `%3B` and a triplet that only a
///   second decoding reveals: see [`NormalPath::readings`].
/// - NUL, overlong UTF-8, broken triplets and paths above the root are refused.
#[derive(Clone, Default, Debug)]
pub struct NormalPath {
    /// What is matched and forwarded.
    pub bytes: Vec<u8>,
    /// Some origin could read another path here: the caller checks that every reading leads to the same route.
    pub ambiguous: bool,
    decoded: Vec<u8>,
    readings: readings::Readings,
}

impl NormalPath {
    pub fn new() -> Self {
        Self::default()
    }

    /// `raw_path` is a target's path without its query; an empty one (absolute form) means `/`.
    pub fn set(&mut self, raw_path: &[u8]) -> Result<(), PathError> {
        self.bytes.clear();
        self.readings.clear();
        self.ambiguous = false;
        if is_normal(raw_path) {
            self.bytes.extend_from_slice(raw_path);
            return Ok(());
        }
        let result = self.normalise(raw_path);
        if result.is_err() {
            self.bytes.clear();
            self.readings.clear();
        }
        result
    }

    /// Every other path that an origin might see in [`NormalPath::bytes`], each in normal form: with `%2F`, `%5C` or both
    /// taken as `/`, with `;parameters` cut off segments before or after that, and with double encoding undone. None
    /// unless `ambiguous`; at most 16, none twice.
    pub fn readings(&self) -> impl Iterator<Item = &[u8]> {
        self.readings.iter()
    }

    #[cold]
    fn normalise(&mut self, raw: &[u8]) -> Result<(), PathError> {
        match raw {
            [] => {
                self.bytes.push(b'/');
                return Ok(());
            }
            [b'/', ..] => {}
            _ => return Err(PathError::NotAbsolute),
        }
        self.decoded.clear();
        decode(raw, &mut self.decoded)?;
        resolve(&self.decoded, &mut self.bytes, 0)?;
        self.ambiguous = self.readings.fill(&self.bytes)?;
        Ok(())
    }
}

/// The segments after the first slash: one for each slash, so that `/` is one empty segment and `/a/` are two.
pub fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/')
}

/// Appends a segment with all its triplets decoded, `%2F` included: for captured parameters, never for matching.
pub fn decode_segment(seg: &[u8], out: &mut Vec<u8>) {
    let mut rest = seg;
    while let [byte, tail @ ..] = rest {
        match triplet(rest) {
            Some(value) => {
                out.push(value);
                rest = &rest[3..];
            }
            None => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
}

/// What a byte is in a raw path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Not allowed; `%` is also here, it is looked at first.
    Bad,
    /// Stays as it is: `pchar` (RFC 3986 3.3) and `/`, without `;`.
    Plain,
    /// Stays, too, but opens parameters for some readers.
    Semicolon,
    /// Visible, sent raw by some clients, not allowed in a URI.
    Encode,
}

static CLASS: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut out = [Class::Bad; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        out[byte as usize] = match byte {
            b'%' | b'?' | b'#' => Class::Bad,
            b';' => Class::Semicolon,
            b'"' | b'<' | b'>' | b'[' | b'\\' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::Encode,
            _ => Class::Plain,
        };
        byte += 1;
    }
    out
}

/// The fast path: nothing to decode, to encode or to resolve. Looks at each byte once.
fn is_normal(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut after_slash = false;
    for byte in path {
        if CLASS[usize::from(*byte)] != Class::Plain || (after_slash && matches!(byte, b'/' | b'.')) {
            return false;
        }
        after_slash = *byte == b'/';
    }
    true
}

/// RFC 3986 2.3: means the same encoded or not.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The value of `%XX` at the front of `bytes`.
fn triplet(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

fn push_encoded(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// First half: every byte in its one spelling. Dot segments are only visible after it.
fn decode(raw: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut rest = raw;
    // Value of the triplet right before, for multi-byte sequences.
    let mut before = 0;
    while let [byte, tail @ ..] = rest {
        if *byte == b'%' {
            let value = triplet(rest).ok_or(PathError::BadPercent)?;
            if value == 0 {
                return Err(PathError::Nul);
            }
            if is_overlong(before, value) {
                return Err(PathError::Overlong);
            }
            if is_unreserved(value) {
                out.push(value)
            } else {
                push_encoded(out, value)
            }
            before = value;
            rest = &rest[3..];
            continue;
        }
        match CLASS[usize::from(*byte)] {
            Class::Plain | Class::Semicolon => out.push(*byte),
            Class::Encode => push_encoded(out, *byte),
            Class::Bad => return Err(PathError::BadByte),
        }
        before = 0;
        rest = tail;
    }
    Ok(())
}

/// Bytes that UTF-8 never holds, or a second byte that makes the sequence longer than it need be: `%C0%AF` is the `/`
/// of lax decoders. Other sequences pass, Latin-1 among them.
fn is_overlong(before: u8, byte: u8) -> bool {
    matches!(byte, 0xc0 | 0xc1 | 0xf5..=0xff)
        || (before == 0xe0 && matches!(byte, 0x80..=0x9f))
        || (before == 0xf0 && matches!(byte, 0x80..=0x8f))
}

/// Second half: appends `path` to `out`, where the root is at `root`, without empty and dot segments.
fn resolve(path: &[u8], out: &mut Vec<u8>, root: usize) -> Result<(), PathError> {
    out.push(b'/');
    let mut segments = segments(path).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"" | b"." => {}
            b".." => {
                // `out` ends in a slash: the one before it is where the parent ends.
                let parent = memchr::memrchr(b'/', &out[root..out.len() - 1]).ok_or(PathError::AboveRoot)?;
                out.truncate(root + parent + 1);
            }
            segment => {
                out.extend_from_slice(segment);
                if segments.peek().is_some() {
                    out.push(b'/');
                }
            }
        }
    }
    Ok(())
}

/// Why a path is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathError {
    NotAbsolute,
    BadByte,
    BadPercent,
    Nul,
    Overlong,
    /// More `..` than segments before it, in the path or in a reading of it.
    AboveRoot,
    /// Encoded three times, or more than 16 readings.
    TooAmbiguous,
}

impl PathError {
    pub fn status(&self) -> u16 {
        400
    }

    /// Stable: logs and problem documents carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAbsolute => "path_not_absolute",
            Self::BadByte => "bad_path_byte",
            Self::BadPercent => "bad_percent_encoding",
            Self::Nul => "nul_in_path",
            Self::Overlong => "overlong_utf8_in_path",
            Self::AboveRoot => "path_above_root",
            Self::TooAmbiguous => "ambiguous_path",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "The path does not start with a slash.",
            Self::BadByte => "The path holds a character that is not allowed there.",
            Self::BadPercent => "A percent sign in the path is not followed by two hexadecimal digits.",
            Self::Nul => "The path holds an encoded NUL.",
            Self::Overlong => "The path holds a byte sequence that is not valid UTF-8.",
            Self::AboveRoot => "The path leads above the root.",
            Self::TooAmbiguous => "The path can be read in too many ways.",
        })
    }
}

impl std::error::Error for PathError {}
