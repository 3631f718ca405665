//! Field lines of heads and trailers: one line at a time, resumable at any byte. What a field means is not known here.

use crate::known::Known;
use crate::scan;
use crate::span::Span;

/// One field of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    /// Without the white space around it.
    pub value: Span,
    pub known: Known,
    /// Named by a `Connection` field, hence meant for this hop only.
    pub nominated: bool,
    /// Looks like a known name to an origin that maps or drops punctuation (`X_Real_Ip`): must not be forwarded.
    pub twin: bool,
}

/// Why a field line is refused. CRLF is the only line end (RFC 9112 2.2 lets us refuse a bare LF; a bare CR must be).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldError {
    /// A byte that no token holds, white space before the colon among them (RFC 9112 5.1).
    BadName,
    EmptyName,
    MissingColon,
    /// Starts with white space: obs-fold (RFC 9112 5.2), or a space before the first field.
    Folded,
    /// A control byte.
    BadValue,
    BareCr,
    BareLf,
}

impl FieldError {
    pub fn code(self) -> &'static str {
        match self {
            Self::BadName => "bad_header_name",
            Self::EmptyName => "empty_header_name",
            Self::MissingColon => "missing_colon",
            Self::Folded => "folded_header",
            Self::BadValue => "bad_header_value",
            Self::BareCr => "bare_cr",
            Self::BareLf => "bare_lf",
        }
    }

    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::BadName => "A header name holds a character that is not allowed there.",
            Self::EmptyName => "A header has no name.",
            Self::MissingColon => "A header line has no colon.",
            Self::Folded => "A header line starts with white space.",
            Self::BadValue => "A header value holds a control character.",
            Self::BareCr => "A carriage return is not followed by a line feed.",
            Self::BareLf => "A line ends with a line feed alone.",
        }
    }
}

/// A field line without what this crate knows of its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) name: Span,
    pub(crate) value: Span,
    pub(crate) known: Known,
}

impl Line {
    #[inline]
    pub(crate) fn field(self, twin: bool) -> Field {
        Field { name: self.name, value: self.value, known: self.known, nominated: false, twin }
    }
}

/// Where the parser stands. Every byte is looked at once, however the input is cut.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Cursor {
    /// First byte of the line.
    pub(crate) line: usize,
    /// Bytes before this one are known to be fine.
    pub(crate) scanned: usize,
    /// Place of the line's colon; 0: not reached (a colon is never the first byte of a line).
    colon: usize,
    /// Of the name before it.
    known: Known,
}

impl Cursor {
    #[inline]
    pub(crate) fn at(line: usize) -> Self {
        Self { line, scanned: line, colon: 0, known: Known::Other }
    }

    /// Gives on each line of `buf`, and returns the place behind the empty line; `None`: the buffer ends before it, and the
    /// cursor knows where to go on.
    #[inline]
    pub(crate) fn read<E: From<FieldError>>(
        &mut self,
        buf: &[u8],
        mut take: impl FnMut(Line) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        // By value, so that the loop keeps it in registers.
        let mut cursor = *self;
        loop {
            if cursor.colon == 0 {
                let end = scan::name_end(buf, cursor.scanned);
                cursor.scanned = end;
                if buf.get(end) != Some(&b':') {
                    *self = cursor;
                    return Ok(self.no_name(buf, end)?);
                }
                cursor.known = name(&buf[cursor.line..end])?;
                cursor.colon = end;
                cursor.scanned = end + 1;
            }
            let end = scan::value_end(buf, cursor.scanned);
            cursor.scanned = end;
            if !line_end(buf, end)? {
                *self = cursor;
                return Ok(None);
            }
            let (mut from, mut to) = (cursor.colon + 1, end);
            while from < to && matches!(buf[from], b' ' | b'\t') {
                from += 1;
            }
            while from < to && matches!(buf[to - 1], b' ' | b'\t') {
                to -= 1;
            }
            let (name, known) = (Span::new(cursor.line, cursor.colon), cursor.known);
            cursor = Self::at(end + 2);
            take(Line { name, value: Span::new(from, to), known })?;
        }
    }

    /// The name ended at `end` without a colon: the empty line, or an error.
    #[cold]
    fn no_name(&self, buf: &[u8], end: usize) -> Result<Option<usize>, FieldError> {
        let Some(byte) = buf.get(end) else {
            return Ok(None);
        };
        let name = &buf[self.line..end];
        if !name.iter().all(|byte| scan::is_tchar(*byte)) {
            return Err(FieldError::BadName);
        }
        match (byte, buf.get(end + 1)) {
            (b'\r', None) => Ok(None),
            (b'\r', Some(b'\n')) if name.is_empty() => Ok(Some(end + 2)),
            (b'\r', Some(b'\n')) => Err(FieldError::MissingColon),
            (b'\r', Some(_)) => Err(FieldError::BareCr),
            (b'\n', _) => Err(FieldError::BareLf),
            (b' ' | b'\t', _) if name.is_empty() => Err(FieldError::Folded),
            _ => Err(FieldError::BadName),
        }
    }
}

/// Which name this is. A known one needs no other check: it was compared in full, but for the case of its letters.
#[inline]
fn name(name: &[u8]) -> Result<Known, FieldError> {
    match Known::of_token(name) {
        Known::Other if scan::is_token(name) => Ok(Known::Other),
        Known::Other if name.is_empty() => Err(FieldError::EmptyName),
        Known::Other => Err(FieldError::BadName),
        known => Ok(known),
    }
}

/// Whether a complete CRLF stands at `end`, the first byte that is no value byte. `false`: the buffer ends too early.
#[inline]
pub(crate) fn line_end(buf: &[u8], end: usize) -> Result<bool, FieldError> {
    match (buf.get(end), buf.get(end + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(true),
        (None, _) | (Some(b'\r'), None) => Ok(false),
        (Some(b'\r'), Some(_)) => Err(FieldError::BareCr),
        (Some(b'\n'), _) => Err(FieldError::BareLf),
        (Some(_), _) => Err(FieldError::BadValue),
    }
}

/// The fields of a name, in any case, among those of the head that was parsed from `buf`.
pub fn named<'f>(fields: &'f [Field], buf: &'f [u8], name: &'f str) -> impl Iterator<Item = &'f Field> {
    fields.iter().filter(move |field| field.name.of(buf).eq_ignore_ascii_case(name.as_bytes()))
}

/// First field of that name.
#[inline]
pub(crate) fn find(fields: &[Field], known: Known) -> Option<&Field> {
    fields.iter().find(|field| field.known == known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Read {
        Partial,
        End(usize),
        Fields(Vec<(String, String)>),
    }

    /// The lines of `input`, given whole and given byte by byte.
    fn read(input: &[u8]) -> Result<Read, FieldError> {
        let [whole, cut] = [vec![input.len()], (0..=input.len()).collect()].map(|lengths| {
            let mut cursor = Cursor::at(0);
            let mut fields = Vec::new();
            let text = |span: Span| String::from_utf8_lossy(span.of(input)).into_owned();
            for len in lengths {
                let take = |line: Line| -> Result<(), FieldError> {
                    fields.push((text(line.name), text(line.value)));
                    Ok(())
                };
                if let Some(next) = cursor.read(&input[..len], take)? {
                    return Ok(Read::End(next));
                }
            }
            Ok(if fields.is_empty() { Read::Partial } else { Read::Fields(fields) })
        });
        assert_eq!(whole, cut, "{input:?}");
        whole
    }

    #[test]
    fn values_are_trimmed() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fields = vec![field("ab", "x y"), field("c", ""), field("D", "e")];
        assert_eq!(read(b"ab: \t x y \t\r\nc: \t \r\nD:e\r\n"), Ok(Read::Fields(fields)));
    }

    #[test]
    fn each_fault_has_its_own_error() {
        assert_eq!(read(b"\r\n"), Ok(Read::End(2)));
        assert_eq!(read(b"a: b"), Ok(Read::Partial));
        assert_eq!(read(b"a: b\r"), Ok(Read::Partial));
        assert_eq!(read(b"a(b"), Ok(Read::Partial));
        assert_eq!(read(b"a(b\r\n"), Err(FieldError::BadName));
        assert_eq!(read(b"a(b: c\r\n"), Err(FieldError::BadName));
        assert_eq!(read(b"a b: c\r\n"), Err(FieldError::BadName));
        assert_eq!(read(b"a : c\r\n"), Err(FieldError::BadName));
        assert_eq!(read(b"a\x85: c\r\n"), Err(FieldError::BadName));
        assert_eq!(read(b": c\r\n"), Err(FieldError::EmptyName));
        assert_eq!(read(b"abc\r\n"), Err(FieldError::MissingColon));
        assert_eq!(read(b" a: c\r\n"), Err(FieldError::Folded));
        assert_eq!(read(b"\tc\r\n"), Err(FieldError::Folded));
        assert_eq!(read(b"a: \x00\r\n"), Err(FieldError::BadValue));
        assert_eq!(read(b"a: \x7f\r\n"), Err(FieldError::BadValue));
        assert_eq!(read(b"a: b\rc\r\n"), Err(FieldError::BareCr));
        assert_eq!(read(b"a\rb: c\r\n"), Err(FieldError::BareCr));
        assert_eq!(read(b"a: b\n"), Err(FieldError::BareLf));
        assert_eq!(read(b"\n"), Err(FieldError::BareLf));
    }
}
