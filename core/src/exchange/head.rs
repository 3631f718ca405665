//! Writes the heads that leave: the request's to an origin, the answer's to a client. What belongs to one hop is taken
//! out first, ours is added after, so that no `Connection` field of a client can remove what we say (RFC 9110 7.6).

use ringway_proto::{Body, Field, Known, Method, RequestHead, ResponseHead, Version, write_decimal, write_field};

use super::edits::HeaderEdits;

/// What a request to an origin says besides what the client said.
pub struct Forwarding<'a, 'p> {
    /// Path that the origin sees.
    pub path: &'a [u8],
    /// Query that it sees.
    pub query: Option<&'a [u8]>,
    pub host: &'a [u8],
    /// Our name in `Via`; empty: none is written.
    pub via: &'a [u8],
    pub forwarded: &'a dyn Fn(&mut Vec<u8>),
    /// Forwarding fields of the client are dropped, since it is no trusted proxy.
    pub drop_forwarding: bool,
    /// What `strip_prefix` took.
    pub stripped: &'a [u8],
    pub request_id: &'a [u8],
    /// True of a field's name that a client may not say. Asked only if `withholds`.
    pub withheld: &'a dyn Fn(&[u8]) -> bool,
    pub withholds: bool,
    pub edits: &'a HeaderEdits<'p>,
}

/// Writes the request's head as the origin gets it.
pub fn write_request_head(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8], say: &Forwarding<'_, '_>) {
    out.extend_from_slice(head.method_span.of(bytes));
    out.push(b' ');
    write_target(out, say);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(say.edits.replacement("host").map_or(say.host, str::as_bytes));
    out.extend_from_slice(b"\r\n");
    let passes = |field: &Field| {
        passes_to_origin(field, head, say)
            && !dropped(say.edits, field, bytes)
            && !(say.withholds && (say.withheld)(field.name.of(bytes)))
    };
    write_fields(out, &head.fields, bytes, passes);
    match head.body {
        Body::Length(length) => write_length(out, length),
        Body::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Body::None | Body::UntilClose => {}
    }
    if head.upgrade {
        write_upgrade(out, &head.fields, bytes);
    } else if head.te_trailers {
        out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
    }
    if head.method == Method::Options
        && let Some(hops) = max_forwards(head, bytes)
    {
        out.extend_from_slice(b"Max-Forwards: ");
        write_decimal(out, hops.saturating_sub(1));
        out.extend_from_slice(b"\r\n");
    }
    if !say.via.is_empty() {
        // RFC 9110 7.6.3: the version in which the message was received.
        out.extend_from_slice(if head.version == Version::Http10 { b"Via: 1.0 " } else { b"Via: 1.1 " });
        out.extend_from_slice(say.via);
        out.extend_from_slice(b"\r\n");
    }
    (say.forwarded)(out);
    if !say.stripped.is_empty() {
        write_field(out, b"X-Forwarded-Prefix", say.stripped);
    }
    out.extend_from_slice(b"X-Request-ID: ");
    out.extend_from_slice(say.request_id);
    if say.edits.is_empty() {
        out.extend_from_slice(b"\r\n\r\n");
    } else {
        out.extend_from_slice(b"\r\n");
        write_edits(out, say.edits);
        out.extend_from_slice(b"\r\n");
    }
}

/// `Max-Forwards` of a request (RFC 9110 7.6.2), if it has a valid one.
pub fn max_forwards(head: &RequestHead, bytes: &[u8]) -> Option<u64> {
    let field = head.find(Known::MaxForwards)?;
    str::from_utf8(field.value.of(bytes)).ok()?.parse().ok()
}

fn write_target(out: &mut Vec<u8>, say: &Forwarding<'_, '_>) {
    if say.path.is_empty() {
        out.push(b'/');
    } else {
        out.extend_from_slice(say.path);
    }
    if let Some(query) = say.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

fn passes_to_origin(field: &Field, head: &RequestHead, say: &Forwarding<'_, '_>) -> bool {
    if field.known == Known::Other {
        return !field.nominated && !field.twin;
    }
    if field.nominated || field.known.hop_by_hop() {
        return false;
    }
    match field.known {
        Known::Host | Known::ContentLength | Known::XRequestId => false,
        Known::MaxForwards => head.method != Method::Options,
        Known::Expect => head.version == Version::Http11,
        Known::XForwardedPrefix => !say.drop_forwarding && say.stripped.is_empty(),
        known if known.forwarding() => !say.drop_forwarding && known_stays(known),
        _ => true,
    }
}

/// Of a trusted proxy's forwarding fields, those that we do not write anew.
fn known_stays(known: Known) -> bool {
    !matches!(known, Known::XForwardedFor | Known::XRealIp | Known::Forwarded)
}

#[inline]
fn dropped(edits: &HeaderEdits<'_>, field: &Field, bytes: &[u8]) -> bool {
    !edits.is_empty() && edits.drops(field.name.of(bytes))
}

/// Writes those of `fields` that pass. What stood together in the head that was received is copied together: most heads
/// pass in one or two copies.
#[inline]
fn write_fields(out: &mut Vec<u8>, fields: &[Field], bytes: &[u8], mut passes: impl FnMut(&Field) -> bool) {
    // Lines that pass and have not been copied yet.
    let (mut from, mut to) = (0, 0);
    for field in fields {
        if !passes(field) {
            continue;
        }
        let start = usize::from(field.name.start);
        match line_end(field, bytes) {
            Some(end) if start == to => to = end,
            Some(end) => {
                out.extend_from_slice(&bytes[from..to]);
                (from, to) = (start, end);
            }
            None => {
                out.extend_from_slice(&bytes[from..to]);
                (from, to) = (0, 0);
                write_field(out, field.name.of(bytes), field.value.of(bytes));
            }
        }
    }
    out.extend_from_slice(&bytes[from..to]);
}

/// Where the line after `field` begins, if this one was received as we write it: `name: value` CRLF.
#[inline]
fn line_end(field: &Field, bytes: &[u8]) -> Option<usize> {
    let (name_end, end) = (usize::from(field.name.end), usize::from(field.value.end));
    let plain = usize::from(field.value.start) == name_end + 2 && bytes[name_end + 1] == b' ' && bytes[end] == b'\r';
    plain.then_some(end + 2)
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    write_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// We make the upgrade ourselves on this hop (RFC 9110 7.8).
fn write_upgrade(out: &mut Vec<u8>, fields: &[Field], bytes: &[u8]) {
    if let Some(field) = fields.iter().find(|field| field.known == Known::Upgrade) {
        write_field(out, b"Upgrade", field.value.of(bytes));
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    }
}

fn write_edits(out: &mut Vec<u8>, edits: &HeaderEdits<'_>) {
    edits.each_written(|name, value| {
        if name != "host" {
            write_field(out, name.as_bytes(), value.as_bytes());
        }
    });
}

/// What an answer to a client says besides what the origin said.
pub struct AnswerHead<'a, 'p> {
    /// How its body is framed for the client.
    pub body: Body,
    pub client: Version,
    pub keep_alive: bool,
    /// `Date`, if the origin sent none.
    pub date: &'a [u8],
    pub length: BodyLength,
    pub edits: &'a HeaderEdits<'p>,
}

/// What an answer's `Content-Length` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// What the origin's does.
    Received,
    Ours(u64),
    /// Nothing: nobody knows it yet.
    Unknown,
}

/// Writes the answer's head as the client gets it.
pub fn write_answer_head(out: &mut Vec<u8>, head: &ResponseHead, bytes: &[u8], say: &AnswerHead<'_, '_>) {
    write_status(out, head, bytes);
    let mut dated = false;
    write_fields(out, &head.fields, bytes, |field| {
        dated |= field.known == Known::Date;
        passes_to_client(field, head, say) && !dropped(say.edits, field, bytes)
    });
    if !dated {
        write_field(out, b"Date", say.date);
    }
    if say.body == Body::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let BodyLength::Ours(length) = say.length {
        write_length(out, length);
    }
    if head.status == 101 {
        write_upgrade(out, &head.fields, bytes);
    } else {
        write_connection(out, say.client, say.keep_alive);
    }
    write_edits(out, say.edits);
    out.extend_from_slice(b"\r\n");
}

/// Writes a 1xx head: what an interim answer says is for this client alone.
pub fn write_interim_head(out: &mut Vec<u8>, head: &ResponseHead, bytes: &[u8]) {
    write_status(out, head, bytes);
    write_fields(out, &head.fields, bytes, |field| {
        let framing = field.known == Known::ContentLength || field.known.hop_by_hop();
        !framing && !field.nominated && !field.twin
    });
    out.extend_from_slice(b"\r\n");
}

/// `Connection`, where the version's own default would say otherwise (RFC 9112 9.3).
pub fn write_connection(out: &mut Vec<u8>, client: Version, keep_alive: bool) {
    match (client, keep_alive) {
        (Version::Http11, true) | (Version::Http10, false) => {}
        (Version::Http11, false) => out.extend_from_slice(b"Connection: close\r\n"),
        (Version::Http10, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
    }
}

fn write_status(out: &mut Vec<u8>, head: &ResponseHead, bytes: &[u8]) {
    let end = head.reason.end as usize;
    // As it came, if it is what we would write.
    if head.version == Version::Http11 && head.reason.start as usize == b"HTTP/1.1 000 ".len() {
        return out.extend_from_slice(&bytes[..end + b"\r\n".len()]);
    }
    let mut start = *b"HTTP/1.1 000 ";
    start[9..12].copy_from_slice(&status_digits(head.status));
    out.extend_from_slice(&start);
    out.extend_from_slice(head.reason.of(bytes));
    out.extend_from_slice(b"\r\n");
}

fn status_digits(status: u16) -> [u8; 3] {
    [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8)
}

fn passes_to_client(field: &Field, head: &ResponseHead, say: &AnswerHead<'_, '_>) -> bool {
    if field.nominated || field.twin {
        return false;
    }
    match field.known {
        Known::Other => true,
        // A 204 has none (RFC 9110 8.6); an answer to HEAD and a 304 keep theirs, which tells of the body not sent.
        Known::ContentLength => {
            head.status != 204
                && head.status != 101
                && matches!(say.body, Body::Length(_) | Body::None)
                && say.length == BodyLength::Received
        }
        known => !known.hop_by_hop(),
    }
}
