//! The head of an origin's answer: status line and fields, parsed in place into spans. Framing rules live in `framing`.

use std::fmt;

use crate::field::{self, Cursor, Field, FieldError};
use crate::framing::{Body, Framing, FramingError, Side};
use crate::known::Known;
use crate::method::{Method, Version};
use crate::request::{HeadLimits, Progress};
use crate::scan;
use crate::span::{SPAN_END_MAX, Span};

/// An answer's head, and the place where its parser stands. Reuse one per connection. The public fields mean something
/// only after [`Progress::Complete`].
#[derive(Clone, Default, Debug)]
pub struct ResponseHead {
    /// 100..=599.
    pub status: u16,
    /// May be empty.
    pub reason: Span,
    pub version: Version,
    pub fields: Vec<Field>,
    /// Bytes of the head, the empty line included; the body starts here.
    pub head_len: usize,
    pub body: Body,
    /// The origin will take another request on this connection.
    pub keep_alive: bool,
    /// A 101 with `Upgrade` and `Connection: upgrade`.
    pub upgrade: bool,
    phase: Phase,
    cursor: Cursor,
    framing: Framing,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Phase {
    #[default]
    Status,
    Reason,
    Fields,
    /// Complete or refused: the next call begins anew.
    Over,
}

impl ResponseHead {
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything; after `Complete` or an error the next `parse` does so by itself.
    pub fn reset(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Parses the head at the start of `buf`, as [`crate::RequestHead::parse`] does; `target_bytes_max` is not used.
    /// `request_method` decides whether a body follows (HEAD, CONNECT).
    pub fn parse(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
        request_method: Method,
    ) -> Result<Progress, ResponseError> {
        if self.phase == Phase::Over || buf.len() < self.cursor.scanned {
            self.reset();
        }
        let head_bytes_max = limits.head_bytes_max.min(SPAN_END_MAX);
        let window = &buf[..buf.len().min(head_bytes_max)];
        let result = match self.advance(window, limits, request_method) {
            Ok(Progress::Partial) if buf.len() > head_bytes_max => Err(ResponseError::HeadTooLarge),
            other => other,
        };
        if result != Ok(Progress::Partial) {
            self.phase = Phase::Over;
        }
        result
    }

    /// First field of that name.
    #[inline]
    pub fn find(&self, known: Known) -> Option<&Field> {
        field::find(&self.fields, known)
    }

    /// Another head follows: 1xx, but not 101, after which HTTP ends.
    #[inline]
    pub fn interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    fn advance(&mut self, buf: &[u8], limits: &HeadLimits, method: Method) -> Result<Progress, ResponseError> {
        if self.phase != Phase::Fields && self.status_line(buf)? == Progress::Partial {
            return Ok(Progress::Partial);
        }
        let (version, fields, framing) = (self.version, &mut self.fields, &mut self.framing);
        let next = self.cursor.read(buf, |line| {
            if fields.len() >= limits.fields_max {
                return Err(ResponseError::TooManyFields);
            }
            let twin = framing.take(Side::Origin, version, buf, line)?;
            fields.push(line.field(twin));
            Ok(())
        })?;
        let Some(next) = next else {
            return Ok(Progress::Partial);
        };
        self.finish(buf, next, method);
        Ok(Progress::Complete)
    }

    fn finish(&mut self, buf: &[u8], next: usize, method: Method) {
        self.body = self.framing.response_body(self.status, method);
        let tunnel = method == Method::Connect && matches!(self.status, 200..=299);
        self.keep_alive = self.framing.persists(self.version) && self.body != Body::UntilClose && !tunnel;
        self.upgrade = self.status == 101 && self.framing.upgrades(self.version);
        self.framing.mark_nominated(buf, &mut self.fields);
        self.head_len = next;
    }

    /// `HTTP/1.1 200 reason` and CRLF. The second space may be missing together with the reason, as many origins have it.
    fn status_line(&mut self, buf: &[u8]) -> Result<Progress, ResponseError> {
        if self.phase == Phase::Status {
            let line =
                match buf.first_chunk::<{ STATUS_LINE.len() }>() {
                    Some(
                        line @ [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', b'1'..=b'5', tens, ones],
                    ) if tens.is_ascii_digit() && ones.is_ascii_digit() => line,
                    _ => return partial_status_line(buf),
                };
            self.version = if line[7] == b'0' { Version::Http10 } else { Version::Http11 };
            self.status = line[9..].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
            let from = STATUS_LINE.len();
            match buf.get(from) {
                None => return Ok(Progress::Partial),
                Some(b' ') => self.cursor = Cursor::at(from + 1),
                Some(b'\r') => self.cursor = Cursor::at(from),
                Some(b'\n') => return Err(ResponseError::Field(FieldError::BareLf)),
                Some(_) => return Err(ResponseError::BadStatus),
            }
            self.phase = Phase::Reason;
        }
        let end = scan::value_end(buf, self.cursor.scanned);
        self.cursor.scanned = end;
        match field::line_end(buf, end) {
            Ok(true) => {}
            Ok(false) => return Ok(Progress::Partial),
            Err(FieldError::BadValue) => return Err(ResponseError::BadReason),
            Err(error) => return Err(ResponseError::Field(error)),
        }
        self.reason = Span::new(self.cursor.line, end);
        self.cursor = Cursor::at(end + 2);
        self.phase = Phase::Fields;
        Ok(Progress::Complete)
    }
}

/// The part of fixed length: `9` stands for a digit.
const STATUS_LINE: &[u8; 12] = b"HTTP/1.9 999";

/// Of a status line that is not whole, or wrong: which.
#[cold]
fn partial_status_line(buf: &[u8]) -> Result<Progress, ResponseError> {
    for (at, byte) in buf.iter().take(STATUS_LINE.len()).enumerate() {
        status_line_byte(at, *byte)?;
    }
    Ok(Progress::Partial)
}

fn status_line_byte(at: usize, byte: u8) -> Result<(), ResponseError> {
    match at {
        7 if matches!(byte, b'0' | b'1') => Ok(()),
        // 600 and above are not statuses (RFC 9110 15).
        9 if matches!(byte, b'1'..=b'5') => Ok(()),
        10 | 11 if byte.is_ascii_digit() => Ok(()),
        0..=6 | 8 if byte == STATUS_LINE[at] => Ok(()),
        0..=8 => Err(ResponseError::BadVersion),
        _ => Err(ResponseError::BadStatus),
    }
}

/// Why an answer's head is refused. Nothing that comes after it on the connection can be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseError {
    BadVersion,
    BadStatus,
    BadReason,
    HeadTooLarge,
    TooManyFields,
    Field(FieldError),
    Framing(FramingError),
}

impl ResponseError {
    /// Stable: logs and problem documents carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadVersion => "bad_version",
            Self::BadStatus => "bad_status",
            Self::BadReason => "bad_reason",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_headers",
            Self::Field(error) => error.code(),
            Self::Framing(error) => error.code(),
        }
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadVersion => "The answer does not start with HTTP/1.1 or HTTP/1.0.",
            Self::BadStatus => "The status is not a number from 100 to 599.",
            Self::BadReason => "The reason phrase holds a control character.",
            Self::HeadTooLarge => "The answer's head is larger than the limit.",
            Self::TooManyFields => "The answer has more headers than the limit.",
            Self::Field(error) => error.sentence(),
            Self::Framing(error) => error.sentence(),
        })
    }
}

impl std::error::Error for ResponseError {}

impl From<FieldError> for ResponseError {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

impl From<FramingError> for ResponseError {
    fn from(error: FramingError) -> Self {
        Self::Framing(error)
    }
}
