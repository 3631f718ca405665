//! An origin's answer on its way to the client: its head rewritten, its body moved. Ends when the client has it all.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::{Context, Poll};

use ringway_proto::{Body, Version};

use super::filters::Filtered;
use super::{After, Serving};
use crate::exchange::{
    AnswerHead, BodyLength, BodyReader, Encoding, Exchange, HeaderEdits, Pump, PumpError, Refusal, write_answer_head,
};
use crate::filter::{Answer, ChangedBody, Received};
use crate::net::Stream;
use crate::observe::{Flag, Source};
use crate::upstream::{Lease, Opened, Origin, blame_for};

/// A body up to here is copied behind its head and goes out in one plain send, which costs less than a vectored one.
const COPIED_BODY_BYTES_MAX: u64 = 4 * 1024;

/// Why an answer did not reach its client whole.
enum Broken {
    /// Its origin failed; what the client has must not look whole.
    Origin(Flag, Cow<'static, str>),
    Client(Flag, Cow<'static, str>),
}

/// Sends the answer whose head is in the exchange. The request's body may still be on its way (`upload`).
pub async fn answer(
    serving: &Serving<'_>,
    x: &mut Exchange,
    origin: &Origin<'_>,
    opened: Opened<'_>,
    upload: &mut Pump,
    filtered: &mut Filtered<'_>,
) -> After {
    let Opened { lease, at, under_way: _until_the_end } = opened;
    x.record.status = x.answer.status;
    x.record.source = Source::Origin;
    if x.answer.status == 101 {
        return Box::pin(switch_protocols(serving, x, lease, &filtered.answer)).await;
    }
    if upload.is_moving() && gives_up_upload(x, upload) {
        upload.stop();
    }
    let changed = if filtered.hooks.is_empty() { None } else { pass_out(serving, x, filtered) };
    let length = changed.as_ref().map_or(BodyLength::Received, |changed| changed.length);
    let framing = client_framing(x, length);
    let uploaded = upload.is_done() || upload.is_moving();
    let keep = uploaded && framing != Body::UntilClose && serving.keeps_alive(x);

    let mut out = serving.shard.net.buffers().send_buffer();
    serving.shard.with_date(|date| {
        let edits = &filtered.answer;
        let say = AnswerHead { body: framing, client: x.request.version, keep_alive: keep, date, length, edits };
        write_answer_head(&mut out, &x.answer, x.answer_bytes.bytes(), &say);
    });
    let mut body = x.answer.body;
    if changed.is_none()
        && let Some(whole) = small_body(body, lease.stream())
    {
        out.extend_from_slice(&whole);
        x.record.bytes_out = whole.len() as u64;
        body = Body::None;
    }
    serving.client.queue_buffer(out);

    if (!matches!(body, Body::None | Body::Length(0)) || upload.is_moving() || changed.is_some())
        && let Err(broken) = move_bodies(serving, x, origin, lease.stream(), upload, (body, framing), changed).await
    {
        return Box::pin(give_up(serving, x, (origin, at), broken, framing)).await;
    }
    origin.went_well(at, x.answer.status);
    x.record.bytes_in = upload.bytes();
    let whole = upload.is_done();
    if x.answer.keep_alive && whole && !lease.stream().has_input() {
        lease.keep();
    }
    if let Err(error) = serving.flush(keep && whole).await {
        x.record.blame(client_flag(&error), format!("the client took no more: {error}"));
        return After::Close;
    }
    match (keep && whole, whole) {
        (true, _) => After::KeepAlive,
        (false, true) if !serving.client.has_input() => After::Close,
        _ => After::Linger,
    }
}

/// Moves the answer's body to the client, and what is left of the request's to its origin.
async fn move_bodies(
    serving: &Serving<'_>,
    x: &mut Exchange,
    origin: &Origin<'_>,
    from: &Stream,
    upload: &mut Pump,
    (body, framing): (Body, Body),
    changed: Option<ChangedBody>,
) -> Result<(), Broken> {
    let encoding = if framing == Body::Chunked { Encoding::Chunked } else { Encoding::Plain };
    let between = Some(origin.plan.config.between_bytes_timeout);
    let ends_ms = ends_ms(serving, x, body);
    let mut download = Pump::new(BodyReader::new(body), encoding, between, serving.listener.config.send_timeout)
        .until(origin.until_ms.min(ends_ms));
    if let Some(changed) = changed
        && framing != Body::None
    {
        download = download.through(changed.transform);
    }
    let began = serving.shard.net.now();
    let buffers = serving.shard.net.buffers();
    let moved = poll_fn(|cx| poll_bodies(cx, serving.client, from, upload, &mut download, buffers)).await;
    let waited = serving.shard.net.reaped_at().saturating_duration_since(began);
    x.record.origin_wait_ns += waited.as_nanos() as u64;
    x.record.bytes_out += download.bytes_written();
    x.record.bytes_in = upload.bytes();
    if moved.is_err() && serving.shard.net.now_ms() >= ends_ms {
        return Err(Broken::Client(Flag::Unauthenticated, "the credentials ended before the answer did".into()));
    }
    moved
}

/// When an answer without a known end is cut, since the credentials that opened it end: milliseconds of the reactor's clock.
fn ends_ms(serving: &Serving<'_>, x: &Exchange, body: Body) -> u64 {
    match (x.ends_unix_s, body) {
        (None, _) | (_, Body::Length(_) | Body::None) => u64::MAX,
        (Some(ends), _) => {
            serving.shard.net.now_ms().saturating_add(ends.saturating_sub(serving.shard.unix_s()).saturating_mul(1000))
        }
    }
}

/// Shows the answer to the filters that want to see it: what they make of its body.
#[inline(never)]
fn pass_out(serving: &Serving<'_>, x: &Exchange, filtered: &mut Filtered<'_>) -> Option<ChangedBody> {
    let answer = Answer {
        request: &x.request,
        request_bytes: x.request_bytes.bytes(),
        request_id: x.id.as_str(),
        status: x.answer.status,
        code: None,
        state: &serving.adopted.filters,
        received: Received::Origin(&x.answer, x.answer_bytes.bytes()),
        body_bytes: match x.answer.body {
            Body::Length(length) => Some(length),
            _ => None,
        },
    };
    answer.pass(&filtered.hooks, &mut filtered.answer)
}

/// An origin that answers and ends before it has read everything will not read the rest; a client that waits for
/// `100 Continue` and gets a final answer need not send it.
fn gives_up_upload(x: &Exchange, upload: &Pump) -> bool {
    !x.answer.keep_alive || (x.request.expect_continue && upload.bytes() == 0)
}

/// How the answer's body ends for the client. What has no length becomes chunked, so that its end can be told from a
/// broken connection; HTTP/1.0 knows only the latter.
fn client_framing(x: &Exchange, length: BodyLength) -> Body {
    let body = match (x.answer.body, length) {
        (Body::None, _) => Body::None,
        (_, BodyLength::Ours(length)) => Body::Length(length),
        (_, BodyLength::Unknown) => Body::Chunked,
        (body, BodyLength::Received) => body,
    };
    match (body, x.request.version) {
        (Body::Chunked | Body::UntilClose, Version::Http11) => Body::Chunked,
        (Body::Chunked | Body::UntilClose, Version::Http10) => Body::UntilClose,
        (body, _) => body,
    }
}

fn small_body(body: Body, origin: &Stream) -> Option<crate::net::Chunk> {
    match body {
        Body::Length(length @ 1..=COPIED_BODY_BYTES_MAX) => origin.take_exactly(length as usize),
        _ => None,
    }
}

/// Both directions at once: the rest of the request, and the answer.
fn poll_bodies(
    cx: &mut Context<'_>,
    client: &Stream,
    origin: &Stream,
    upload: &mut Pump,
    download: &mut Pump,
    buffers: &crate::net::Buffers,
) -> Poll<Result<(), Broken>> {
    if client.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(Broken::Client(Flag::ClientGone, "the client reset while it was answered".into())));
    }
    // The answer goes on although the request breaks off; only then is the connection at its end.
    let _ = upload.poll(cx, client, origin, buffers);
    match download.poll(cx, origin, client, buffers) {
        Poll::Ready(Ok(())) if upload.is_moving() => Poll::Pending,
        Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
        Poll::Ready(Err(PumpError::Source(error))) => {
            let (flag, reason) = blame_for(&error);
            Poll::Ready(Err(Broken::Origin(flag, reason)))
        }
        Poll::Ready(Err(PumpError::Sink(error))) => {
            let reason = format!("the client took no more: {error}");
            Poll::Ready(Err(Broken::Client(client_flag(&error), reason.into())))
        }
        Poll::Ready(Err(PumpError::TooLarge(_))) | Poll::Pending => Poll::Pending,
    }
}

/// The client has the head and perhaps some of the body. It gets what came, and then an end that no parser can take
/// for the end of the message.
async fn give_up(
    serving: &Serving<'_>,
    x: &mut Exchange,
    (origin, at): (&Origin<'_>, u16),
    broken: Broken,
    framing: Body,
) -> After {
    match broken {
        Broken::Client(flag, reason) => {
            x.record.blame(flag, reason);
            After::Close
        }
        Broken::Origin(flag, reason) => {
            origin.broke_off(at);
            x.record.blame(flag, reason);
            if serving.flush(true).await.is_err() || framing == Body::UntilClose {
                return After::Reset;
            }
            After::Close
        }
    }
}

fn client_flag(error: &std::io::Error) -> Flag {
    if error.kind() == std::io::ErrorKind::TimedOut { Flag::ClientTimeout } else { Flag::ClientGone }
}

async fn switch_protocols(serving: &Serving<'_>, x: &mut Exchange, lease: Lease, edits: &HeaderEdits<'_>) -> After {
    let mut out = serving.shard.net.buffers().send_buffer();
    serving.shard.with_date(|date| {
        let say = AnswerHead {
            body: Body::None,
            client: x.request.version,
            keep_alive: true,
            date,
            length: BodyLength::Received,
            edits,
        };
        write_answer_head(&mut out, &x.answer, x.answer_bytes.bytes(), &say);
    });
    serving.client.queue_buffer(out);
    match serving.flush(true).await {
        Ok(()) => After::Tunnel(Box::new((lease, x.ends_unix_s))),
        Err(error) => {
            let refusal = Refusal::new(client_flag(&error), format!("the client took no answer: {error}"));
            x.record.blame(refusal.flag, refusal.reason);
            After::Close
        }
    }
}
