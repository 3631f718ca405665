//! Answers that the gateway makes itself: errors, redirects, fixed ones.

use std::future::{Future, poll_fn};
use std::task::{Poll, ready};

use ringway_config::snapshot::Redirect;
use ringway_proto::{Body, Method, Version, reason, write_decimal, write_field, write_status_line};

use super::filters::Filtered;
use super::{After, Serving};
use crate::exchange::{BodyReader, Exchange, Refusal, transform_whole, write_connection};
use crate::filter::{Answer, ChangedBody, Received, drop_own_fields};
use crate::observe::Flag;
use crate::plan::FixedAnswer;
use crate::pool::Pooled;

/// Fields that an error answer has of its own.
const OWN_OF_PROBLEMS: [&str; 4] = ["content-type", "allow", "retry-after", "x-request-id"];
/// A request body that nobody wants is read to its end up to here, so that the connection can be used again.
const UNWANTED_BODY_BYTES_MAX: u64 = 64 * 1024;

/// Sends an error as `application/problem+json` (RFC 9457), or with the body that it has. The reason stays in the log.
/// `filtered`: what the filters say that the request has reached. In a place of its own, since a request in service would
/// have to hold the memory for it.
pub fn refuse<'a, 'p>(
    serving: &'a Serving<'_>,
    x: &'a mut Exchange,
    refusal: Refusal,
    filtered: Option<&'a mut Filtered<'p>>,
) -> Pooled<impl Future<Output = After> + use<'a, 'p>> {
    serving.shard.refusals.place(send_refusal(serving, x, refusal, filtered))
}

async fn send_refusal(
    serving: &Serving<'_>,
    x: &mut Exchange,
    refusal: Refusal,
    filtered: Option<&mut Filtered<'_>>,
) -> After {
    let Refusal { flag, status, code, reason: why, close, allow, retry_after_s, member, body: foreign } = refusal;
    let silent = flag == Flag::ClientGone;
    x.record.blame(flag, why);
    x.record.status = if silent { 0 } else { status };
    if silent {
        return After::Close;
    }
    let mut out = serving.shard.net.buffers().send_buffer();
    write_status_line(&mut out, status, reason(status).as_bytes());
    let kind = foreign.as_ref().map_or(Some("application/problem+json"), |body| body.kind.as_deref());
    if let Some(kind) = kind {
        write_field(&mut out, b"Content-Type", kind.as_bytes());
    }
    if let Some(allow) = allow {
        write_field(&mut out, b"Allow", allow.as_bytes());
    }
    if let Some(seconds) = retry_after_s {
        out.extend_from_slice(b"Retry-After: ");
        write_decimal(&mut out, seconds.into());
        out.extend_from_slice(b"\r\n");
    }
    let mut body = serving.shard.net.buffers().send_buffer();
    match foreign {
        Some(foreign) => body.extend_from_slice(&foreign.bytes),
        None => write_problem(&mut body, status, code, x.id.as_str(), member.as_deref()),
    }
    write_field(&mut out, b"X-Request-ID", x.id.as_bytes());
    write_length(&mut out, body.len());
    let made = Made { status, code: Some(code), head: out, body: &body, close };
    let after = send(serving, x, made, filtered).await;
    serving.shard.net.buffers().give_back(body);
    after
}

/// Every member is ours or harmless: the title and the code are constants, an id has no character to escape, and one more
/// is JSON already.
fn write_problem(out: &mut Vec<u8>, status: u16, code: &str, id: &str, member: Option<&(&str, String)>) {
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
    if let Some((name, json)) = member {
        for part in [",\"", name, "\":", json] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"}\n");
}

/// A configured answer.
pub async fn fixed(
    serving: &Serving<'_>,
    x: &mut Exchange,
    answer: &FixedAnswer,
    filtered: &mut Filtered<'_>,
) -> After {
    x.record.status = answer.status;
    let mut out = serving.shard.net.buffers().send_buffer();
    out.extend_from_slice(&answer.head);
    send(serving, x, Made::new(answer.status, out, &answer.body), Some(filtered)).await
}

/// What a filter answers: a status without a body.
pub async fn bare(serving: &Serving<'_>, x: &mut Exchange, status: u16, filtered: &mut Filtered<'_>) -> After {
    x.record.status = status;
    let mut out = serving.shard.net.buffers().send_buffer();
    write_status_line(&mut out, status, reason(status).as_bytes());
    // RFC 9110 8.6: a 204 has none.
    if status != 204 {
        write_length(&mut out, 0);
    }
    send(serving, x, Made::new(status, out, b""), Some(filtered)).await
}

/// A configured redirect.
pub async fn redirect(serving: &Serving<'_>, x: &mut Exchange, to: &Redirect, filtered: &mut Filtered<'_>) -> After {
    x.record.status = to.status;
    let mut out = serving.shard.net.buffers().send_buffer();
    write_status_line(&mut out, to.status, reason(to.status).as_bytes());
    out.extend_from_slice(b"Location: ");
    write_location(&mut out, serving, x, &to.to);
    out.extend_from_slice(b"\r\n");
    write_length(&mut out, 0);
    send(serving, x, Made::new(to.status, out, b""), Some(filtered)).await
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
    send(serving, x, Made::new(204, out, b""), None).await
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

/// An answer of ours.
struct Made<'b> {
    status: u16,
    /// Of an error.
    code: Option<&'static str>,
    /// Without `Date`, `Connection` and the empty line.
    head: Vec<u8>,
    body: &'b [u8],
    close: bool,
}

impl Made<'_> {
    fn new(status: u16, head: Vec<u8>, body: &[u8]) -> Made<'_> {
        Made { status, code: None, head, body, close: false }
    }

    /// What the filters say about it: applies to its head; a body that they change is given back.
    fn pass_out(&mut self, serving: &Serving<'_>, x: &Exchange, filtered: &mut Filtered<'_>) -> Option<Vec<u8>> {
        let mut changed = None;
        if self.code.is_some() && !filtered.answer.is_empty() {
            filtered.answer.leave_out(&OWN_OF_PROBLEMS);
        }
        if !filtered.hooks.is_empty() {
            let answer = Answer {
                request: &x.request,
                request_bytes: x.request_bytes.bytes(),
                request_id: x.id.as_str(),
                status: self.status,
                code: self.code,
                state: &serving.adopted.filters,
                received: Received::Own(&self.head),
                body_bytes: Some(self.body.len() as u64),
            };
            changed = answer.pass(&filtered.hooks, &mut filtered.answer).and_then(|changed| self.change(changed));
        }
        let edits = &filtered.answer;
        if !edits.is_empty() {
            drop_own_fields(&mut self.head, |name| edits.drops(name));
        }
        for (name, value) in edits.written() {
            write_field(&mut self.head, name.as_bytes(), value.as_bytes());
        }
        changed
    }

    fn change(&mut self, mut changed: ChangedBody) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        transform_whole(&mut *changed.transform, self.body, &mut body).ok()?;
        drop_own_fields(&mut self.head, |name| name.eq_ignore_ascii_case(b"content-length"));
        write_length(&mut self.head, body.len());
        Some(body)
    }
}

/// Completes the head, sends it with its body, and deals with what the request still had to say.
async fn send(
    serving: &Serving<'_>,
    x: &mut Exchange,
    mut made: Made<'_>,
    filtered: Option<&mut Filtered<'_>>,
) -> After {
    let changed = filtered.and_then(|filtered| made.pass_out(serving, x, filtered));
    let Made { head: mut out, close, .. } = made;
    let body = changed.as_deref().unwrap_or(made.body);
    let rest = Rest::of(x);
    let keep = !close && !matches!(rest, Rest::Open) && serving.keeps_alive(x);
    serving.shard.with_date(|date| write_field(&mut out, b"Date", date));
    // A head that was refused has no version yet.
    let version = if close { Version::Http11 } else { x.request.version };
    write_connection(&mut out, version, keep);
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
