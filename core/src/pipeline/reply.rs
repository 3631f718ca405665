//! Answers that the gateway makes itself: errors, redirects, fixed ones.

use std::future::{Future, poll_fn};
use std::task::{Poll, ready};

use ringway_config::snapshot::Redirect;
use ringway_proto::{Body, Method, Version, reason, write_decimal, write_field, write_status_line};

use super::{After, Serving};
use crate::exchange::{BodyReader, Exchange, HeaderEdits, Refusal, write_connection};
use crate::observe::Flag;
use crate::plan::FixedAnswer;
use crate::pool::Pooled;

/// Fields that an error answer has of its own.
const OWN_OF_PROBLEMS: [&str; 4] = ["content-type", "allow", "retry-after", "x-request-id"];
/// A request body that nobody wants is read to its end up to here, so that the connection can be used again.
const UNWANTED_BODY_BYTES_MAX: u64 = 64 * 1024;

/// Sends an error as `application/problem+json` (RFC 9457). The reason stays in the log. `edits`: those of the filters that
/// the request has passed. In a place of its own, since a request in service would have to hold the memory for it.
pub fn refuse<'a>(
    serving: &'a Serving<'_>,
    x: &'a mut Exchange,
    refusal: Refusal,
    edits: Option<&'a HeaderEdits<'_>>,
) -> Pooled<impl Future<Output = After>> {
    serving.shard.refusals.place(send_refusal(serving, x, refusal, edits))
}

async fn send_refusal(
    serving: &Serving<'_>,
    x: &mut Exchange,
    refusal: Refusal,
    edits: Option<&HeaderEdits<'_>>,
) -> After {
    let Refusal { flag, status, code, reason: why, close, allow, retry_after_s, versions } = refusal;
    let silent = flag == Flag::ClientGone;
    x.record.blame(flag, why);
    x.record.status = if silent { 0 } else { status };
    if silent {
        return After::Close;
    }
    let mut out = serving.shard.net.buffers().send_buffer();
    write_status_line(&mut out, status, reason(status).as_bytes());
    write_field(&mut out, b"Content-Type", b"application/problem+json");
    if let Some(allow) = allow {
        write_field(&mut out, b"Allow", allow.as_bytes());
    }
    if let Some(seconds) = retry_after_s {
        out.extend_from_slice(b"Retry-After: ");
        write_decimal(&mut out, seconds.into());
        out.extend_from_slice(b"\r\n");
    }
    let mut body = serving.shard.net.buffers().send_buffer();
    write_problem(&mut body, status, code, x.id.as_str(), versions.as_deref());
    write_field(&mut out, b"X-Request-ID", x.id.as_bytes());
    write_length(&mut out, body.len());
    let none = HeaderEdits::default();
    let after = send(serving, x, out, &body, edits.unwrap_or(&none), &OWN_OF_PROBLEMS, close).await;
    serving.shard.net.buffers().give_back(body);
    after
}

/// Every member is ours or harmless: the title and the code are constants, an id has no character to escape.
fn write_problem(out: &mut Vec<u8>, status: u16, code: &str, id: &str, versions: Option<&str>) {
    out.extend_from_slice(b"{\"type\":\"about:blank\",\"title\":\"");
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\",\"status\":");
    write_decimal(out, status.into());
    for (key, value) in [("code", code), ("request_id", id)] {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":\"");
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }
    if let Some(versions) = versions {
        out.extend_from_slice(b",\"versions\":");
        out.extend_from_slice(versions.as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

/// A configured answer.
pub async fn fixed(serving: &Serving<'_>, x: &mut Exchange, answer: &FixedAnswer, edits: &HeaderEdits<'_>) -> After {
    x.record.status = answer.status;
    let mut out = serving.shard.net.buffers().send_buffer();
    out.extend_from_slice(&answer.head);
    send(serving, x, out, &answer.body, edits, &[], false).await
}

/// A configured redirect.
pub async fn redirect(serving: &Serving<'_>, x: &mut Exchange, to: &Redirect, edits: &HeaderEdits<'_>) -> After {
    x.record.status = to.status;
    let mut out = serving.shard.net.buffers().send_buffer();
    write_status_line(&mut out, to.status, reason(to.status).as_bytes());
    out.extend_from_slice(b"Location: ");
    write_location(&mut out, serving, x, &to.to);
    out.extend_from_slice(b"\r\n");
    write_length(&mut out, 0);
    send(serving, x, out, b"", edits, &[], false).await
}

/// Fills in `{scheme}`, `{host}`, `{path}`, `{query}` and the route's params; the document's check has seen to it that
/// nothing else stands in braces.
fn write_location(out: &mut Vec<u8>, serving: &Serving<'_>, x: &Exchange, template: &str) {
    let bytes = x.request_bytes.bytes();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.extend_from_slice(before.as_bytes());
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        rest = after;
        match name {
            "scheme" => out.extend_from_slice(super::client::SCHEME.as_bytes()),
            "host" => out.extend_from_slice(x.request.authority.of(bytes)),
            "path" => out.extend_from_slice(&x.path.bytes),
            "query" => out.extend_from_slice(x.request.target.query.map_or(b"", |query| query.of(bytes))),
            param => {
                let names = x.record.route.map(|route| serving.adopted.plan.table.param_names(route));
                let index = names.and_then(|names| names.iter().position(|name| **name == *param));
                out.extend_from_slice(index.and_then(|at| x.captures.get(&x.path.bytes, at)).unwrap_or_default());
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
}

/// `OPTIONS *`, and one whose `Max-Forwards` ends here.
pub async fn options(serving: &Serving<'_>, x: &mut Exchange, allow: &str) -> After {
    x.record.status = 204;
    let mut out = serving.shard.net.buffers().send_buffer();
    write_status_line(&mut out, 204, reason(204).as_bytes());
    write_field(&mut out, b"Allow", allow.as_bytes());
    send(serving, x, out, b"", &HeaderEdits::default(), &[], false).await
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(b"Content-Length: ");
    write_decimal(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

/// What the request still has to say when its answer is ready.
enum Rest {
    Nothing,
    /// Read to its end, so that the connection can be used again.
    Unwanted(BodyReader),
    /// Too much, or partly read: the connection ends.
    Open,
}

impl Rest {
    fn of(x: &Exchange) -> Rest {
        match x.request.body {
            Body::None | Body::Length(0) => Rest::Nothing,
            _ if x.body_read => Rest::Nothing,
            // A client that waits for `100 Continue` may never send its body.
            _ if x.body_taken || x.request.expect_continue => Rest::Open,
            Body::Length(length) if length > UNWANTED_BODY_BYTES_MAX => Rest::Open,
            body => Rest::Unwanted(BodyReader::new(body)),
        }
    }
}

/// Completes the head, sends it with its body, and deals with what the request still had to say. `own`: fields that no
/// filter writes.
async fn send(
    serving: &Serving<'_>,
    x: &mut Exchange,
    mut out: Vec<u8>,
    body: &[u8],
    edits: &HeaderEdits<'_>,
    own: &[&str],
    close: bool,
) -> After {
    let rest = Rest::of(x);
    let keep = !close && !matches!(rest, Rest::Open) && serving.keeps_alive(x);
    serving.shard.with_date(|date| write_field(&mut out, b"Date", date));
    // A head that was refused has no version yet.
    let version = if close { Version::Http11 } else { x.request.version };
    write_connection(&mut out, version, keep);
    for (name, value) in edits.written().filter(|(name, _)| !own.contains(name)) {
        write_field(&mut out, name.as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if x.request.method != Method::Head {
        out.extend_from_slice(body);
        x.record.bytes_out = body.len() as u64;
    }
    serving.client.queue_buffer(out);
    if let Err(error) = serving.flush(keep).await {
        x.record.blame(Flag::ClientGone, format!("the client took no answer: {error}"));
        return After::Close;
    }
    match rest {
        Rest::Nothing if keep => After::KeepAlive,
        Rest::Nothing if !close && !serving.client.has_input() => After::Close,
        Rest::Unwanted(reader) if keep => discard(reader, serving, x).await,
        _ => After::Linger,
    }
}

/// Reads a body that nobody wants; the connection ends if it is too long or does not come.
async fn discard(mut reader: BodyReader, serving: &Serving<'_>, x: &mut Exchange) -> After {
    let client = serving.client;
    client.set_recv_deadline(Some(serving.listener.config.body_timeout));
    let whole = poll_fn(|cx| {
        loop {
            match ready!(reader.poll_next(cx, client)) {
                Ok(Some(_)) if reader.bytes > UNWANTED_BODY_BYTES_MAX => return Poll::Ready(false),
                Ok(Some(_)) => {}
                Ok(None) => return Poll::Ready(true),
                Err(_) => return Poll::Ready(false),
            }
        }
    })
    .await;
    x.record.bytes_in = reader.bytes;
    if whole { After::KeepAlive } else { After::Linger }
}
