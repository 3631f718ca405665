//! Where a message ends and whose it is: the rules that keep two parsers of one connection in step (RFC 9112 6 and 3.2).
//! All of request smuggling is refused here and in the line grammar (`field`); every doubt is an error, never a guess.

use crate::authority;
use crate::field::{Field, Line};
use crate::known::Known;
use crate::method::{Method, Version};
use crate::scan;
use crate::span::Span;

/// Connection options of one head, over all its fields. Two is usual.
const CONNECTION_OPTIONS_MAX: usize = 64;

/// How the body that follows a head is delimited.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Body {
    #[default]
    None,
    /// Bytes.
    Length(u64),
    Chunked,
    /// Answers only: all until the origin closes.
    UntilClose,
}

/// Why a head cannot be framed, or not be given to one host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FramingError {
    MissingHost,
    DuplicateHost,
    BadHost,
    /// An absolute target names another host than `Host` (RFC 9112 3.2.2).
    HostMismatch,
    BadContentLength,
    DuplicateContentLength,
    BadTransferEncoding,
    DuplicateTransferEncoding,
    /// A coding other than `chunked`, which RFC 9112 6.1 answers with 501.
    UnknownTransferEncoding,
    TransferEncodingWithContentLength,
    TransferEncodingInHttp10,
    BadConnection,
    /// A name that an origin could take for `Content-Length`, `Transfer-Encoding` or `Host`.
    LookAlike,
    UnsupportedExpect,
}

impl FramingError {
    pub fn code(self) -> &'static str {
        match self {
            Self::MissingHost => "missing_host",
            Self::DuplicateHost => "duplicate_host",
            Self::BadHost => "bad_host",
            Self::HostMismatch => "host_mismatch",
            Self::BadContentLength => "bad_content_length",
            Self::DuplicateContentLength => "duplicate_content_length",
            Self::BadTransferEncoding => "bad_transfer_encoding",
            Self::DuplicateTransferEncoding => "duplicate_transfer_encoding",
            Self::UnknownTransferEncoding => "unknown_transfer_encoding",
            Self::TransferEncodingWithContentLength => "transfer_encoding_with_content_length",
            Self::TransferEncodingInHttp10 => "transfer_encoding_in_http10",
            Self::BadConnection => "bad_connection",
            Self::LookAlike => "look_alike_header",
            Self::UnsupportedExpect => "unsupported_expect",
        }
    }

    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::MissingHost => "An HTTP/1.1 request needs a Host header.",
            Self::DuplicateHost => "There is more than one Host header.",
            Self::BadHost => "The host is not a valid name or address with an optional port.",
            Self::HostMismatch => "The request target and the Host header name different hosts.",
            Self::BadContentLength => "Content-Length is not one decimal number that fits 64 bits.",
            Self::DuplicateContentLength => "There is more than one Content-Length header.",
            Self::BadTransferEncoding => "Transfer-Encoding is not the single word chunked.",
            Self::DuplicateTransferEncoding => "There is more than one Transfer-Encoding header.",
            Self::UnknownTransferEncoding => "Only the transfer coding chunked is supported.",
            Self::TransferEncodingWithContentLength => "Transfer-Encoding and Content-Length exclude each other.",
            Self::TransferEncodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding.",
            Self::BadConnection => "The Connection header is not a short list of words.",
            Self::LookAlike => "A header name imitates Content-Length, Transfer-Encoding or Host.",
            Self::UnsupportedExpect => "Only the expectation 100-continue is supported.",
        }
    }

    /// What a client is told.
    pub fn status(self) -> u16 {
        match self {
            Self::UnknownTransferEncoding => 501,
            Self::UnsupportedExpect => 417,
            _ => 400,
        }
    }
}

/// Which side of the gateway a head comes from; some fields mean nothing in an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Origin,
}

/// What the fields seen so far say about framing. Filled field by field, so that a bad one is refused when it is seen.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Framing {
    pub(crate) host: Option<Span>,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    /// Some option names other fields.
    nominates: bool,
    connection_options: usize,
    upgrade_fields: usize,
    upgrade_valid: bool,
    pub(crate) te_trailers: bool,
    expect_continue: bool,
}

impl Framing {
    /// Takes note of one field; says whether it is a twin.
    #[inline]
    pub(crate) fn take(&mut self, side: Side, version: Version, buf: &[u8], line: Line) -> Result<bool, FramingError> {
        let value = line.value.of(buf);
        match line.known {
            Known::Other => return self.look_alike(side, line.name.of(buf)),
            Known::Host if side == Side::Client => self.take_host(line.value, value)?,
            Known::ContentLength => self.take_content_length(value)?,
            Known::TransferEncoding => self.take_transfer_encoding(version, value)?,
            Known::Connection => self.take_connection(value)?,
            Known::Upgrade => {
                self.upgrade_fields += 1;
                self.upgrade_valid = is_upgrade(value);
            }
            Known::Te => self.te_trailers |= scan::list(value).any(|member| member.eq_ignore_ascii_case(b"trailers")),
            // RFC 9110 10.1.1: an HTTP/1.0 client cannot mean it.
            Known::Expect if side == Side::Client && version == Version::Http11 => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(FramingError::UnsupportedExpect);
                }
                self.expect_continue = true;
            }
            _ => {}
        }
        Ok(false)
    }

    /// A request with such a name is an attack; an answer merely loses the field.
    #[inline]
    fn look_alike(&self, side: Side, name: &[u8]) -> Result<bool, FramingError> {
        match Known::twin_of(name) {
            Known::Other => Ok(false),
            Known::ContentLength | Known::TransferEncoding | Known::Host if side == Side::Client => {
                Err(FramingError::LookAlike)
            }
            _ => Ok(true),
        }
    }

    fn take_host(&mut self, span: Span, value: &[u8]) -> Result<(), FramingError> {
        if self.host.replace(span).is_some() {
            return Err(FramingError::DuplicateHost);
        }
        if authority::is_valid(value) { Ok(()) } else { Err(FramingError::BadHost) }
    }

    /// One number in one field. Equal repetitions could be folded (RFC 9112 6.3), but nobody honest sends them.
    fn take_content_length(&mut self, value: &[u8]) -> Result<(), FramingError> {
        let length = decimal(value).ok_or(FramingError::BadContentLength)?;
        if self.content_length.replace(length).is_some() {
            return Err(FramingError::DuplicateContentLength);
        }
        if self.chunked { Err(FramingError::TransferEncodingWithContentLength) } else { Ok(()) }
    }

    fn take_transfer_encoding(&mut self, version: Version, value: &[u8]) -> Result<(), FramingError> {
        if version == Version::Http10 {
            return Err(FramingError::TransferEncodingInHttp10);
        }
        if self.chunked {
            return Err(FramingError::DuplicateTransferEncoding);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            let one = scan::is_token(value);
            return Err(if one { FramingError::UnknownTransferEncoding } else { FramingError::BadTransferEncoding });
        }
        self.chunked = true;
        let both = self.content_length.is_some();
        if both { Err(FramingError::TransferEncodingWithContentLength) } else { Ok(()) }
    }

    fn take_connection(&mut self, value: &[u8]) -> Result<(), FramingError> {
        // Nearly all there is. It may be repeated at will, since it costs no more than any field.
        if matches!(value, b"keep-alive" | b"Keep-Alive") {
            self.keep_alive = true;
            return Ok(());
        }
        for option in scan::list(value) {
            self.connection_options += 1;
            if self.connection_options > CONNECTION_OPTIONS_MAX || !scan::is_token(option) {
                return Err(FramingError::BadConnection);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            } else {
                self.nominates = true;
            }
        }
        Ok(())
    }

    /// `target`: authority of an absolute target with the default port of its scheme; it beats `Host`, which must agree.
    pub(crate) fn authority(
        &self,
        buf: &[u8],
        version: Version,
        target: Option<(Span, u16)>,
    ) -> Result<Span, FramingError> {
        let host = match self.host {
            None if version == Version::Http11 => return Err(FramingError::MissingHost),
            host => host,
        };
        match (target, host) {
            (None, host) => Ok(host.unwrap_or_default()),
            (Some((target, port)), Some(host)) if !authority::same(target.of(buf), host.of(buf), port) => {
                Err(FramingError::HostMismatch)
            }
            (Some((target, _)), _) => Ok(target),
        }
    }

    /// RFC 9112 6.3, items 3 to 7: a request without either field has no body.
    pub(crate) fn request_body(&self) -> Body {
        match self.content_length {
            _ if self.chunked => Body::Chunked,
            Some(length) => Body::Length(length),
            None => Body::None,
        }
    }

    /// RFC 9112 6.3.
    pub(crate) fn response_body(&self, status: u16, request: Method) -> Body {
        let bare = matches!(status, 100..=199 | 204 | 304) || request == Method::Head;
        if bare || (request == Method::Connect && matches!(status, 200..=299)) {
            return Body::None;
        }
        match self.content_length {
            _ if self.chunked => Body::Chunked,
            Some(length) => Body::Length(length),
            None => Body::UntilClose,
        }
    }

    /// RFC 9112 9.3; `close` beats `keep-alive`.
    pub(crate) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// The pair of `Upgrade` and `Connection: upgrade`, once, and not to HTTP/2.
    pub(crate) fn upgrades(&self, version: Version) -> bool {
        version == Version::Http11 && self.upgrade_option && self.upgrade_fields == 1 && self.upgrade_valid
    }

    /// Only where a body is announced: without one there is nothing to go on with.
    pub(crate) fn expects_continue(&self, body: Body) -> bool {
        self.expect_continue && !matches!(body, Body::None | Body::Length(0))
    }

    /// Marks the fields that `Connection` names, wherever they stand.
    #[inline]
    pub(crate) fn mark_nominated(&self, buf: &[u8], fields: &mut [Field]) {
        if self.nominates {
            mark_nominated(buf, fields);
        }
    }
}

#[cold]
fn mark_nominated(buf: &[u8], fields: &mut [Field]) {
    for at in 0..fields.len() {
        if fields[at].known != Known::Connection {
            continue;
        }
        for option in scan::list(fields[at].value.of(buf)) {
            let known = Known::of_token(option);
            if protected(known) {
                continue;
            }
            let named = |field: &&mut Field| field.name.of(buf).eq_ignore_ascii_case(option);
            fields.iter_mut().filter(named).for_each(|field| field.nominated = true);
        }
    }
}

/// Fields that `Connection` cannot take away. A client that could would choose what the origin knows about it: whose
/// request it is, where it came from, how long its body is. All of them are end-to-end, so no honest client names
/// them; `TE` and `Trailer` are named in `Connection` by rule, and we handle them ourselves.
fn protected(known: Known) -> bool {
    known.forwarding()
        || matches!(
            known,
            Known::Host
                | Known::ContentLength
                | Known::TransferEncoding
                | Known::Authorization
                | Known::Cookie
                | Known::Via
                | Known::Date
                | Known::XRequestId
                | Known::CacheControl
                | Known::ContentType
                | Known::ContentEncoding
                | Known::SetCookie
                | Known::Trailer
                | Known::Te
        )
}

/// `1*DIGIT` that fits 64 bits; no sign, space, list or base.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// `protocol[/version]` members, none of them a kind of HTTP/2: `Upgrade: h2c` behind a proxy opens a tunnel past it.
fn is_upgrade(value: &[u8]) -> bool {
    let mut members = 0;
    for member in scan::list(value) {
        let mut parts = member.split(|byte| *byte == b'/');
        let tokens = parts.clone().count() <= 2 && parts.all(scan::is_token);
        let http2 = member.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"h2"))
            || member.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"http/"));
        if !tokens || http2 {
            return false;
        }
        members += 1;
    }
    members > 0
}

#[cfg(test)]
mod tests;
