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

/// What one step found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// The buffer ends inside the line; the cursor knows where to go on.
    Partial,
    /// The empty line; what follows it is at `next`.
    End { next: usize },
    /// The line end is consumed, too.
    Field { name: Span, value: Span },
}

/// Where the parser stands. Every byte is looked at once, however the input is cut.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Cursor {
    /// First byte of the line.
    pub(crate) line: usize,
    /// Bytes before this one are known to be fine.
    pub(crate) scanned: usize,
    /// Place of the line's colon; 0: not reached (a colon is never the first byte of a buffer).
    colon: usize,
}

impl Cursor {
    pub(crate) fn at(line: usize) -> Self {
        Self { line, scanned: line, colon: 0 }
    }

    /// Reads one line of `buf`.
    #[inline]
    pub(crate) fn step(&mut self, buf: &[u8]) -> Result<Line, FieldError> {
        if self.colon == 0 {
            let end = scan::token_end(buf, self.scanned);
            self.scanned = end;
            match buf.get(end) {
                None => return Ok(Line::Partial),
                Some(b':') if end > self.line => {
                    self.colon = end;
                    self.scanned = end + 1;
                }
                Some(byte) => return self.no_name(buf, end, *byte),
            }
        }
        let end = scan::value_end(buf, self.scanned);
        self.scanned = end;
        match line_end(buf, end) {
            Ok(true) => {}
            Ok(false) => return Ok(Line::Partial),
            Err(error) => return Err(error),
        }
        let (mut from, mut to) = (self.colon + 1, end);
        while from < to && matches!(buf[from], b' ' | b'\t') {
            from += 1;
        }
        while from < to && matches!(buf[to - 1], b' ' | b'\t') {
            to -= 1;
        }
        let name = Span::new(self.line, self.colon);
        *self = Self::at(end + 2);
        Ok(Line::Field { name, value: Span::new(from, to) })
    }

    /// The token ended at `end` without a colon: the empty line, or an error.
    #[cold]
    fn no_name(&mut self, buf: &[u8], end: usize, byte: u8) -> Result<Line, FieldError> {
        let first = end == self.line;
        match byte {
            b'\r' => match buf.get(end + 1) {
                None => Ok(Line::Partial),
                Some(b'\n') if first => Ok(Line::End { next: end + 2 }),
                Some(b'\n') => Err(FieldError::MissingColon),
                Some(_) => Err(FieldError::BareCr),
            },
            b'\n' => Err(FieldError::BareLf),
            b':' => Err(FieldError::EmptyName),
            b' ' | b'\t' if first => Err(FieldError::Folded),
            _ => Err(FieldError::BadName),
        }
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

/// First field of that name.
#[inline]
pub(crate) fn find(fields: &[Field], known: Known) -> Option<&Field> {
    fields.iter().find(|field| field.known == known)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line, given whole and given byte by byte.
    fn read(line: &[u8]) -> Result<Line, FieldError> {
        let whole = Cursor::at(0).step(line);
        let mut cursor = Cursor::at(0);
        let mut cut = Ok(Line::Partial);
        for len in 0..=line.len() {
            cut = cursor.step(&line[..len]);
            if cut != Ok(Line::Partial) {
                break;
            }
        }
        assert_eq!(whole, cut, "{line:?}");
        whole
    }

    #[test]
    fn value_is_trimmed() {
        let line = b"ab: \t x y \t\r\n";
        let Ok(Line::Field { name, value }) = read(line) else { panic!() };
        assert_eq!((name.of(line), value.of(line)), (&b"ab"[..], &b"x y"[..]));
        let Ok(Line::Field { value, .. }) = read(b"a: \t \r\n") else { panic!() };
        assert!(value.is_empty());
    }

    #[test]
    fn each_fault_has_its_own_error() {
        assert_eq!(read(b"\r\n"), Ok(Line::End { next: 2 }));
        assert_eq!(read(b"a: b"), Ok(Line::Partial));
        assert_eq!(read(b"a: b\r"), Ok(Line::Partial));
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
