//! The head of a request: request line and fields, parsed in place into spans. Framing rules live in `framing`.

use std::fmt;

use crate::field::{self, Cursor, Field, FieldError};
use crate::framing::{Body, Framing, FramingError, Side};
use crate::known::Known;
use crate::method::{Method, Version};
use crate::scan;
use crate::span::{SPAN_END_MAX, Span};
use crate::target::Target;

/// Longest method. The longest registered one has 17 letters; RFC 9112 3 answers a longer one with 501.
const METHOD_BYTES_MAX: usize = 32;

/// What a head may cost. `head_bytes_max` above 65 535 counts as that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    pub head_bytes_max: usize,
    pub target_bytes_max: usize,
    pub fields_max: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    Complete,
    /// More bytes are needed. Call again with the same bytes and more behind them.
    Partial,
}

/// A request head, and the place where its parser stands. Reuse one per connection: its table keeps its capacity, so
/// that steady parsing does not allocate. The public fields mean something only after [`Progress::Complete`].
#[derive(Clone, Default, Debug)]
pub struct RequestHead {
    pub method: Method,
    pub method_span: Span,
    pub target: Target,
    pub version: Version,
    pub fields: Vec<Field>,
    /// Bytes of the head, an empty line before it and the one after it included; the body starts here.
    pub head_len: usize,
    pub body: Body,
    /// What the client wants.
    pub keep_alive: bool,
    /// `host[:port]` the request is for: of an absolute target, else of `Host`. Empty only for HTTP/1.0 without `Host`.
    pub authority: Span,
    /// Asks for another protocol, rightly: HTTP/1.1, no body, one `Upgrade` named in `Connection`, no kind of HTTP/2.
    pub upgrade: bool,
    /// Waits for `100 Continue` before it sends its body.
    pub expect_continue: bool,
    /// `TE: trailers`.
    pub te_trailers: bool,
    /// Authority of an absolute target, with its scheme's default port.
    target_authority: Option<(Span, u16)>,
    phase: Phase,
    cursor: Cursor,
    framing: Framing,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Phase {
    #[default]
    EmptyLine,
    Method,
    Target,
    Version,
    Fields,
    /// Complete or refused: the next call begins anew.
    Over,
}

impl RequestHead {
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything, so that no span of an earlier head outlives its bytes; after `Complete` or an error the next
    /// `parse` does so by itself.
    pub fn reset(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Parses the head at the start of `buf`. After `Partial` the next call must see the same bytes (they may have moved)
    /// with more behind them; it goes on where this one stopped, so each byte costs once however slowly it trickles.
    /// An error is final and is reported as soon as the byte that causes it is there.
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Progress, RequestError> {
        if self.phase == Phase::Over || buf.len() < self.cursor.scanned {
            self.reset();
        }
        let head_bytes_max = limits.head_bytes_max.min(SPAN_END_MAX);
        let window = &buf[..buf.len().min(head_bytes_max)];
        let result = match self.advance(window, limits) {
            Ok(Progress::Partial) if buf.len() > head_bytes_max => Err(self.overflow()),
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

    fn advance(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Progress, RequestError> {
        if self.phase != Phase::Fields && self.request_line(buf, limits)? == Progress::Partial {
            return Ok(Progress::Partial);
        }
        let (version, fields, framing) = (self.version, &mut self.fields, &mut self.framing);
        let next = self.cursor.read(buf, |line| {
            if fields.len() >= limits.fields_max {
                return Err(RequestError::TooManyFields);
            }
            let twin = framing.take(Side::Client, version, buf, line)?;
            fields.push(line.field(twin));
            Ok(())
        })?;
        match next {
            Some(next) => self.finish(buf, next).map(|()| Progress::Complete),
            None => Ok(Progress::Partial),
        }
    }

    /// The head is whole: what its fields mean together.
    fn finish(&mut self, buf: &[u8], next: usize) -> Result<(), RequestError> {
        let authority = self.framing.authority(buf, self.version, self.target_authority);
        self.authority = authority?;
        self.body = self.framing.request_body();
        self.keep_alive = self.framing.persists(self.version);
        self.upgrade = self.framing.upgrades(self.version) && matches!(self.body, Body::None | Body::Length(0));
        self.expect_continue = self.framing.expects_continue(self.body);
        self.te_trailers = self.framing.te_trailers;
        self.framing.mark_nominated(buf, &mut self.fields);
        self.head_len = next;
        Ok(())
    }

    /// The first line, phase by phase; `Complete` with the cursor on the first field.
    fn request_line(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Progress, RequestError> {
        if self.phase == Phase::EmptyLine {
            // RFC 9112 2.2: one empty line before a request is ignored.
            let from = match buf {
                [] | [b'\r'] => return Ok(Progress::Partial),
                [b'\r', b'\n', ..] => 2,
                [b'\r', ..] => return Err(RequestError::Field(FieldError::BareCr)),
                _ => 0,
            };
            self.cursor = Cursor::at(from);
            self.phase = Phase::Method;
        }
        if self.phase == Phase::Method && !self.method(buf)? {
            return Ok(Progress::Partial);
        }
        if self.phase == Phase::Target && !self.target(buf, limits)? {
            return Ok(Progress::Partial);
        }
        let Some((version, next)) = version(buf, self.cursor.line)? else {
            return Ok(Progress::Partial);
        };
        self.version = version;
        let parsed = Target::parse(buf, self.target.whole, self.method);
        (self.target, self.target_authority) = parsed.ok_or(RequestError::BadTargetForm)?;
        self.cursor = Cursor::at(next);
        self.phase = Phase::Fields;
        Ok(Progress::Complete)
    }

    /// `false`: not whole yet.
    fn method(&mut self, buf: &[u8]) -> Result<bool, RequestError> {
        let start = self.cursor.line;
        let end = scan::token_end(buf, self.cursor.scanned);
        if end - start > METHOD_BYTES_MAX {
            return Err(RequestError::MethodTooLong);
        }
        self.cursor.scanned = end;
        match buf.get(end) {
            None => return Ok(false),
            Some(b' ') if end > start => {}
            Some(byte) => return Err(bad_line(*byte, RequestError::BadMethod)),
        }
        self.method_span = Span::new(start, end);
        self.method = Method::of(&buf[start..end]);
        self.cursor = Cursor::at(end + 1);
        self.phase = Phase::Target;
        Ok(true)
    }

    /// `false`: not whole yet.
    fn target(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<bool, RequestError> {
        let start = self.cursor.line;
        let seen = &buf[..buf.len().min(start.saturating_add(limits.target_bytes_max).saturating_add(1))];
        let end = scan::target_end(seen, self.cursor.scanned);
        if end - start > limits.target_bytes_max {
            return Err(RequestError::TargetTooLong);
        }
        self.cursor.scanned = end;
        match buf.get(end) {
            None => return Ok(false),
            Some(b' ') if end > start => {}
            Some(byte) => return Err(bad_line(*byte, RequestError::BadTarget)),
        }
        self.target.whole = Span::new(start, end);
        self.cursor = Cursor::at(end + 1);
        self.phase = Phase::Version;
        Ok(true)
    }

    /// The head does not end within its limit.
    fn overflow(&self) -> RequestError {
        match self.phase {
            Phase::Target => RequestError::TargetTooLong,
            _ => RequestError::HeadTooLarge,
        }
    }
}

/// `HTTP/1.1` or `HTTP/1.0` and CRLF; also where the next line starts. `None`: not whole yet.
pub(crate) fn version(buf: &[u8], at: usize) -> Result<Option<(Version, usize)>, RequestError> {
    let rest = &buf[at..];
    match rest.first_chunk::<10>() {
        Some(b"HTTP/1.1\r\n") => Ok(Some((Version::Http11, at + 10))),
        Some(b"HTTP/1.0\r\n") => Ok(Some((Version::Http10, at + 10))),
        _ => other_version(rest),
    }
}

#[cold]
fn other_version(rest: &[u8]) -> Result<Option<(Version, usize)>, RequestError> {
    for (at, byte) in rest.iter().take(10).enumerate() {
        let fits = match at {
            5 | 7 => byte.is_ascii_digit(),
            _ => *byte == b"HTTP/x.x\r\n"[at],
        };
        if !fits {
            let error = if at == 9 { RequestError::Field(FieldError::BareCr) } else { RequestError::BadVersion };
            return Err(bad_line(*byte, error));
        }
    }
    match rest.get(..10) {
        None => Ok(None),
        // HTTP/0.9 has no version on its line: who writes this is confused.
        Some(line) if line[5] == b'0' => Err(RequestError::BadVersion),
        Some(_) => Err(RequestError::UnsupportedVersion),
    }
}

/// A stray line end keeps its own name; anything else is the fault of the part it stands in.
fn bad_line(byte: u8, part: RequestError) -> RequestError {
    match byte {
        b'\n' => RequestError::Field(FieldError::BareLf),
        _ => part,
    }
}

/// Why a request head is refused. The connection cannot be used after any of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    BadMethod,
    MethodTooLong,
    BadTarget,
    TargetTooLong,
    /// Not a path, and no other form that this method may have; or its authority is not valid.
    BadTargetForm,
    BadVersion,
    /// HTTP, but neither 1.0 nor 1.1.
    UnsupportedVersion,
    HeadTooLarge,
    TooManyFields,
    Field(FieldError),
    Framing(FramingError),
}

impl RequestError {
    /// What the client is told.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadMethod | Self::BadTarget | Self::BadTargetForm | Self::BadVersion | Self::Field(_) => 400,
            Self::MethodTooLong => 501,
            Self::TargetTooLong => 414,
            Self::UnsupportedVersion => 505,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::Framing(error) => error.status(),
        }
    }

    /// Stable: logs and problem documents carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadMethod => "bad_method",
            Self::MethodTooLong => "method_too_long",
            Self::BadTarget => "bad_target",
            Self::TargetTooLong => "target_too_long",
            Self::BadTargetForm => "bad_target_form",
            Self::BadVersion => "bad_version",
            Self::UnsupportedVersion => "unsupported_version",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_headers",
            Self::Field(error) => error.code(),
            Self::Framing(error) => error.code(),
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadMethod => "The request method is not a token followed by one space.",
            Self::MethodTooLong => "The request method is longer than any that is supported.",
            Self::BadTarget => "The request target is empty or holds a character that is not allowed there.",
            Self::TargetTooLong => "The request target is longer than the limit.",
            Self::BadTargetForm => "The request target is neither a path nor another form that fits the method.",
            Self::BadVersion => "The request line does not end in HTTP/1.1 or HTTP/1.0.",
            Self::UnsupportedVersion => "Only HTTP/1.1 and HTTP/1.0 are supported here.",
            Self::HeadTooLarge => "The request head is larger than the limit.",
            Self::TooManyFields => "The request has more headers than the limit.",
            Self::Field(error) => error.sentence(),
            Self::Framing(error) => error.sentence(),
        })
    }
}

impl std::error::Error for RequestError {}

impl From<FieldError> for RequestError {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

impl From<FramingError> for RequestError {
    fn from(error: FramingError) -> Self {
        Self::Framing(error)
    }
}

#[cfg(test)]
mod tests;
