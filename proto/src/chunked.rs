//! Chunked bodies (RFC 9112 7.1): found in place, given on without their extensions, trailers checked and kept apart.
//! The sizes are strict hexadecimal and every line ends in CRLF; what is written anew holds nothing of the sender's lines.

use std::fmt;
use std::ops::Range;

use crate::field::{Cursor, Field, FieldError, Line};
use crate::known::Known;
use crate::scan;

/// A size line with its extensions.
const SIZE_LINE_BYTES_MAX: u32 = 4 * 1024;
/// Extensions of a whole body: nobody uses them, so much of them is an attack (CVE-2023-39326).
const EXTENSION_BYTES_MAX: u32 = 64 * 1024;
/// 64 bits.
const SIZE_DIGITS_MAX: u32 = 16;
/// The lines after the last chunk, the dropped ones included.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
const TRAILER_FIELDS_MAX: usize = 64;

/// Ends the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// Ends a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What one step found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// All given bytes are consumed.
    NeedMore,
    /// Body bytes, as a range of the given buffer.
    Data(Range<usize>),
    /// The body is over; bytes that were not consumed belong to the next message.
    End,
}

/// Where a chunked body stands between two reads. Allocates only for trailers.
#[derive(Clone, Default, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Of the size being read, then of the data still to come.
    left: u64,
    size_digits: u32,
    line_bytes: u32,
    extension_bytes: u32,
    trailers: Trailers,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum State {
    #[default]
    Size,
    Extension(Extension),
    /// LF of the size line.
    SizeEnd,
    Data,
    /// CR, then LF after the data.
    DataEnd,
    DataEndLf,
    Trailer,
    Over,
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, by what came last. White space where the grammar has
/// none is refused, as is an open quote: two readers could disagree on where the line ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extension {
    /// White space after the size or a value; only `;` or more of it may follow.
    Space,
    Semicolon,
    Name,
    NameSpace,
    Equals,
    Value,
    Quoted,
    Escape,
    QuoteClosed,
}

impl ChunkedDecoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Consumes from the front of `buf`, and says how much: after `Data` go on behind its range, after `NeedMore` with new
    /// bytes. An error is final.
    pub fn step(&mut self, buf: &[u8]) -> Result<(usize, Step), ChunkedError> {
        let mut at = 0;
        while let Some(byte) = buf.get(at) {
            match self.state {
                State::Data => {
                    let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len() - at);
                    self.left -= len as u64;
                    if self.left == 0 {
                        self.state = State::DataEnd;
                    }
                    return Ok((at + len, Step::Data(at..at + len)));
                }
                State::Trailer => {
                    let used = self.trailers.take(&buf[at..])?;
                    at += used;
                    if self.trailers.complete {
                        self.state = State::Over;
                    }
                    continue;
                }
                State::Over => break,
                State::DataEnd if *byte == b'\r' => self.state = State::DataEndLf,
                State::DataEndLf if *byte == b'\n' => self.begin_size(),
                State::DataEnd | State::DataEndLf => return Err(ChunkedError::BadDataEnd),
                State::SizeEnd => self.end_size_line(*byte)?,
                State::Size => self.size_byte(*byte)?,
                State::Extension(last) => self.extension_byte(last, *byte)?,
            }
            at += 1;
        }
        Ok((at, if self.state == State::Over { Step::End } else { Step::NeedMore }))
    }

    /// Complete after [`Step::End`], empty before. `std::mem::take` them to keep them.
    pub fn trailers(&mut self) -> &mut Trailers {
        &mut self.trailers
    }

    fn begin_size(&mut self) {
        self.state = State::Size;
        self.left = 0;
        self.size_digits = 0;
        self.line_bytes = 0;
    }

    fn size_byte(&mut self, byte: u8) -> Result<(), ChunkedError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            self.size_digits += 1;
            if self.size_digits > SIZE_DIGITS_MAX {
                return Err(ChunkedError::SizeTooLarge);
            }
            self.left = self.left << 4 | u64::from(digit);
            return Ok(());
        }
        if self.size_digits == 0 {
            return Err(ChunkedError::BadSize);
        }
        self.line_bytes = self.size_digits;
        self.state = match byte {
            b'\r' => State::SizeEnd,
            b';' => State::Extension(Extension::Semicolon),
            b' ' | b'\t' => State::Extension(Extension::Space),
            _ => return Err(ChunkedError::BadSize),
        };
        Ok(())
    }

    fn extension_byte(&mut self, last: Extension, byte: u8) -> Result<(), ChunkedError> {
        self.line_bytes += 1;
        self.extension_bytes += 1;
        if self.line_bytes > SIZE_LINE_BYTES_MAX || self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(ChunkedError::ExtensionsTooLarge);
        }
        self.state = match last.next(byte) {
            Some(next) => State::Extension(next),
            None if byte == b'\r' && last.may_end() => State::SizeEnd,
            None => return Err(ChunkedError::BadExtension),
        };
        Ok(())
    }

    fn end_size_line(&mut self, byte: u8) -> Result<(), ChunkedError> {
        if byte != b'\n' {
            return Err(ChunkedError::BadSize);
        }
        self.state = if self.left == 0 { State::Trailer } else { State::Data };
        Ok(())
    }
}

impl Extension {
    /// `None`: this byte may not follow.
    fn next(self, byte: u8) -> Option<Self> {
        let space = matches!(byte, b' ' | b'\t');
        let token = scan::is_tchar(byte);
        Some(match self {
            Self::Space if space => Self::Space,
            Self::Space | Self::Name | Self::NameSpace | Self::Value | Self::QuoteClosed if byte == b';' => {
                Self::Semicolon
            }
            Self::Semicolon if space => Self::Semicolon,
            Self::Semicolon | Self::Name if token => Self::Name,
            Self::Name | Self::NameSpace if byte == b'=' => Self::Equals,
            Self::Name | Self::NameSpace if space => Self::NameSpace,
            Self::Equals if space => Self::Equals,
            Self::Equals if byte == b'"' => Self::Quoted,
            Self::Equals | Self::Value if token => Self::Value,
            Self::Value | Self::QuoteClosed if space => Self::Space,
            Self::Quoted if byte == b'"' => Self::QuoteClosed,
            Self::Quoted if byte == b'\\' => Self::Escape,
            Self::Quoted | Self::Escape if scan::is_value_byte(byte) => Self::Quoted,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::QuoteClosed)
    }
}

/// Trailer fields that may be passed on, in wire form. Empty for nearly every body.
#[derive(Clone, Default, Debug)]
pub struct Trailers {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// All that came, kept or dropped.
    bytes_seen: usize,
    fields_seen: usize,
    /// The line that is being read starts here in `bytes`.
    line: usize,
    /// The CR of an empty line has come.
    cr: bool,
    complete: bool,
}

impl Trailers {
    /// The kept lines, each with its CRLF.
    pub fn wire(&self) -> &[u8] {
        &self.bytes[..self.line]
    }

    /// Their spans count from the first byte of [`Trailers::wire`].
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Forgets the fields of whose names `drops` is true.
    pub fn drop_fields(&mut self, drops: impl Fn(&[u8]) -> bool) {
        if !self.fields.iter().any(|field| drops(field.name.of(&self.bytes))) {
            return;
        }
        let (bytes, fields) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.fields));
        let end = std::mem::replace(&mut self.line, 0);
        let starts = fields.iter().map(|field| usize::from(field.name.start));
        let ends = starts.clone().skip(1).chain([end]);
        for (field, (start, end)) in fields.iter().zip(starts.zip(ends)) {
            if !drops(field.name.of(&bytes)) {
                self.bytes.extend_from_slice(&bytes[start..end]);
                // It was read before: it is a line that passes.
                let kept = self.end_line();
                debug_assert!(kept.is_ok());
            }
        }
    }

    /// Reads up to and including the next line end; returns the bytes used.
    fn take(&mut self, buf: &[u8]) -> Result<usize, ChunkedError> {
        let used = memchr::memchr(b'\n', buf).map_or(buf.len(), |at| at + 1);
        self.bytes_seen += used;
        if self.bytes_seen > TRAILER_BYTES_MAX {
            return Err(ChunkedError::TrailersTooLarge);
        }
        // The empty line takes no buffer, even cut in two: a body without trailers must not allocate.
        match (self.bytes.len() == self.line, self.cr, &buf[..used]) {
            (true, true, [b'\n']) | (true, false, [b'\r', b'\n']) => {
                self.complete = true;
                return Ok(used);
            }
            (true, false, [b'\r']) => {
                self.cr = true;
                return Ok(used);
            }
            (true, true, _) | (true, false, [b'\r', ..]) => return Err(ChunkedError::Trailer(FieldError::BareCr)),
            _ => self.bytes.extend_from_slice(&buf[..used]),
        }
        if self.bytes.ends_with(b"\n") {
            self.end_line()?;
        }
        Ok(used)
    }

    /// A whole line lies at the end of `bytes`: keeps or drops it.
    fn end_line(&mut self) -> Result<(), ChunkedError> {
        let line = &self.bytes[self.line..];
        let mut found = None;
        let take = |line: Line| -> Result<(), FieldError> {
            found = Some(line);
            Ok(())
        };
        let rest = Cursor::at(0).read(line, take).map_err(ChunkedError::Trailer)?;
        // `take` has seen to the empty line, and a line that ends in LF is whole.
        let (Some(Line { name, value, known }), None) = (found, rest) else {
            return Err(ChunkedError::Trailer(FieldError::BareCr));
        };
        self.fields_seen += 1;
        if self.fields_seen > TRAILER_FIELDS_MAX {
            return Err(ChunkedError::TooManyTrailers);
        }
        if !may_pass(known, name.of(line))? {
            self.bytes.truncate(self.line);
            return Ok(());
        }
        let (name, value) = (name.moved(self.line), value.moved(self.line));
        self.fields.push(Field { name, value, known, nominated: false, twin: false });
        self.line = self.bytes.len();
        Ok(())
    }
}

/// RFC 9110 6.5.1: nothing that frames, routes, authenticates or describes the message may come after it. All names we know
/// are of these kinds but the few below; names we do not know (`grpc-status`, `Server-Timing`, digests) pass.
fn may_pass(known: Known, name: &[u8]) -> Result<bool, ChunkedError> {
    let meant = if known == Known::Other { Known::twin_of(name) } else { known };
    match meant {
        Known::ContentLength | Known::TransferEncoding | Known::Host => Err(ChunkedError::FramingTrailer),
        Known::Other => Ok(true),
        _ => Ok(matches!(known, Known::Etag | Known::Expires | Known::LastModified)),
    }
}

/// `1a` and CRLF; `len` bytes and [`CHUNK_END`] must follow. `len` is not 0: that would be the last chunk.
pub fn write_chunk_head(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0);
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[len >> (digit * 4) & 0xf]);
    }
    out.extend_from_slice(CHUNK_END);
}

/// The end of a body.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&Trailers>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        out.extend_from_slice(trailers.wire());
    }
    out.extend_from_slice(CHUNK_END);
}

/// Why a chunked body is refused. The connection it came on cannot be used after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkedError {
    BadSize,
    SizeTooLarge,
    BadExtension,
    ExtensionsTooLarge,
    /// No CRLF where the size said that the data ends.
    BadDataEnd,
    Trailer(FieldError),
    /// `Content-Length`, `Transfer-Encoding` or `Host`, or a name that imitates one, after the body.
    FramingTrailer,
    TrailersTooLarge,
    TooManyTrailers,
}

impl ChunkedError {
    /// What a client is told, when it was the client that sent this.
    pub fn status(&self) -> u16 {
        400
    }

    /// Stable: logs and problem documents carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadSize => "bad_chunk_size",
            Self::SizeTooLarge => "chunk_size_too_large",
            Self::BadExtension => "bad_chunk_extension",
            Self::ExtensionsTooLarge => "chunk_extensions_too_large",
            Self::BadDataEnd => "bad_chunk_end",
            Self::Trailer(_) => "bad_trailer",
            Self::FramingTrailer => "framing_trailer",
            Self::TrailersTooLarge => "trailers_too_large",
            Self::TooManyTrailers => "too_many_trailers",
        }
    }
}

impl fmt::Display for ChunkedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadSize => "A chunk size is not a hexadecimal number on a line of its own.",
            Self::SizeTooLarge => "A chunk size has more than 16 digits.",
            Self::BadExtension => "A chunk extension is malformed.",
            Self::ExtensionsTooLarge => "The chunk extensions are larger than the limit.",
            Self::BadDataEnd => "A chunk is not followed by a line end.",
            Self::Trailer(error) => return write!(f, "In the trailers: {}", error.sentence()),
            Self::FramingTrailer => "A trailer names Content-Length, Transfer-Encoding or Host.",
            Self::TrailersTooLarge => "The trailers are larger than the limit.",
            Self::TooManyTrailers => "There are more trailers than the limit.",
        })
    }
}

impl std::error::Error for ChunkedError {}

#[cfg(test)]
mod tests;
