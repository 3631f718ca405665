//! A request on its way through its filters: they pass it on, wait, read its body, or answer it themselves.

use std::future::poll_fn;
use std::task::Poll;

use ringway_proto::Body;
use smallvec::SmallVec;

use super::{Fields, Serving, client_body};
use crate::exchange::{BodyReader, Exchange, HeaderEdit, HeaderEdits, Refusal};
use crate::filter::{Filter, Hook, Matched, RequestEdit, Then, Verdict, Waiting};
use crate::observe::Flag;
use crate::plan::InForce;
use crate::route::RouteId;

/// Filters that want to see an answer, of which a request remembers so many without an allocation.
const HOOKS_INLINE: usize = 2;

/// What the filters made of a request.
#[derive(Default)]
pub struct Filtered<'p> {
    pub request: HeaderEdits<'p>,
    pub answer: HeaderEdits<'p>,
    /// Bytes of the path that the origin does not see.
    pub stripped: usize,
    /// The request's body, if a filter has read it.
    pub body: Option<Box<ReadBody>>,
    /// Those that want to see its answer, from the outside in.
    pub hooks: SmallVec<[Hook<'p>; HOOKS_INLINE]>,
}

/// Why a request goes no further: a filter answers it.
pub enum Ended {
    Refused(Refusal),
    /// With this status, and not as an error.
    Answered(u16),
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Ended {
        Ended::Refused(refusal)
    }
}

/// A request's body before it is forwarded.
pub struct ReadBody {
    pub reader: BodyReader,
    pub bytes: Vec<u8>,
}

/// Runs the filters of the exchange's route; what they make of it is in `done`. `None`: the request has passed them all,
/// which is the rule, and costs no state that could wait. Otherwise see [`go_on`].
#[inline(never)]
pub fn pass<'p>(
    serving: &Serving<'p>,
    x: &mut Exchange,
    route: RouteId,
    in_force: InForce<'p>,
    done: &mut Filtered<'p>,
) -> Option<Stopped<'p>> {
    let mut step = Step { route, in_force, at: 0, then: None, new_body: None };
    match step.advance(serving, x, done) {
        Verdict::Pass if step.new_body.is_none() => None,
        verdict => Some(Stopped { step, verdict }),
    }
}

/// A filter has said something else than that the request passes, or has made another body.
pub struct Stopped<'p> {
    step: Step<'p>,
    verdict: Verdict<'p>,
}

/// Goes on from where the filters have stopped. `Err`: one of them answers. `body_max`: bytes that the route takes.
pub async fn go_on<'p>(
    Stopped { mut step, mut verdict }: Stopped<'p>,
    serving: &Serving<'p>,
    x: &mut Exchange,
    body_max: u64,
    done: &mut Filtered<'p>,
) -> Result<(), Ended> {
    loop {
        let replaced = step.new_body.take().map(|bytes| replace_body(x, done, bytes));
        match verdict {
            Verdict::Pass if replaced.is_some() => {}
            Verdict::Pass => return Ok(()),
            Verdict::Reply(refusal) => return Err(Ended::Refused(*refusal)),
            Verdict::Answer(status) => return Err(Ended::Answered(status)),
            Verdict::Wait(waiting) => step.then = Some(wait(serving, x, *waiting).await?),
            Verdict::Body(wants) => {
                let bytes_max = (wants.bytes_max as u64).min(body_max);
                match &done.body {
                    // A filter before may take more, or have made more of it.
                    Some(read) if read.bytes.len() as u64 > bytes_max => {
                        return Err(Refusal::body_too_large(bytes_max).into());
                    }
                    Some(_) => {}
                    None => done.body = Some(Box::pin(read_body(serving, x, bytes_max, &mut done.request)).await?),
                }
                step.then = Some(wants.then);
            }
        }
        verdict = step.advance(serving, x, done);
    }
}

/// Where a request stands among its filters.
struct Step<'p> {
    route: RouteId,
    in_force: InForce<'p>,
    /// The next one's number.
    at: usize,
    /// The one before it has waited.
    then: Option<Then<'p>>,
    /// What it makes of the request's body.
    new_body: Option<Vec<u8>>,
}

impl<'p> Step<'p> {
    /// Runs filters until one does not just pass the request on, one makes another body, or none is left.
    #[inline(always)] // into `pass`, which ends most of them
    fn advance(&mut self, serving: &Serving<'p>, x: &mut Exchange, done: &mut Filtered<'p>) -> Verdict<'p> {
        let bytes = x.request_bytes.bytes();
        let mut edit = RequestEdit {
            headers: &mut done.request,
            answer: &mut done.answer,
            request: &x.request,
            bytes,
            body: done.body.as_ref().map(|body| &*body.bytes),
            new_body: None,
            path: &x.path.bytes,
            normal: &x.path,
            stripped: done.stripped,
            query: x.request.target.query.map(|query| query.of(bytes)),
            fields: &Fields { serving, request: &x.request, bytes },
            rewritten: &mut x.rewritten,
            matched: Matched { table: &serving.adopted.plan.table, route: self.route, captures: &x.captures },
            identity: &mut x.identity,
            ends_unix_s: &mut x.ends_unix_s,
            nonce: &mut x.nonce,
            held: &mut x.held,
            state: &serving.adopted.filters,
            net: &serving.shard.net,
            calls: &serving.shard.calls,
            unix_s: &|| serving.shard.unix_s(),
        };
        let sees_answers = self.in_force.sees_answers();
        let mut began = serving.shard.net.ticks();
        let verdict = loop {
            let before = edit.answer.len();
            let verdict = match self.then.take() {
                Some(then) => then(&mut edit),
                None => {
                    let Some(filter) = self.in_force.filter(self.at) else { break Verdict::Pass };
                    self.at += 1;
                    if sees_answers && filter.sees_answers() {
                        done.hooks.push(Hook { filter, edits_outside: before });
                    }
                    #[cfg(feature = "failpoints")]
                    crate::net::failpoint::pass_filter();
                    filter.on_request(&mut edit)
                }
            };
            // An answer passes the filters in reverse.
            if before > 0 && edit.answer.len() > before {
                edit.answer.bring_to_front(before);
            }
            let now = serving.shard.net.ticks();
            let held = now.saturating_sub(began);
            if held > serving.shard.held_ticks {
                report(serving, self.route, self.in_force.filter(self.at.saturating_sub(1)), held);
            }
            began = now;
            if !matches!(verdict, Verdict::Pass) || edit.new_body.is_some() {
                break verdict;
            }
        };
        done.stripped = edit.stripped;
        self.new_body = edit.new_body;
        verdict
    }
}

/// Names the filter that has just held everybody on this core up, for so many ticks.
#[cold]
fn report(serving: &Serving<'_>, route: RouteId, filter: Option<&dyn Filter>, held: u64) {
    let filter = filter.map_or("", |filter| filter.name());
    let route = serving.adopted.plan.routes[route as usize].name.clone();
    serving.shard.note_held(filter, route, serving.shard.net.time_of(held));
}

/// The request goes on with another body, whose length is known.
fn replace_body(x: &mut Exchange, done: &mut Filtered<'_>, bytes: Vec<u8>) {
    if let Some(body) = &mut done.body {
        x.request.body = Body::Length(bytes.len() as u64);
        body.bytes = bytes;
    }
}

/// How the filter that waits goes on then.
async fn wait<'p>(serving: &Serving<'p>, x: &mut Exchange, waiting: Waiting<'p>) -> Result<Then<'p>, Refusal> {
    let Waiting { mut until, shown } = waiting;
    let began = serving.shard.net.now();
    if let Some((flag, reason)) = shown {
        x.record.hold(flag, reason);
    }
    let then = poll_fn(|cx| match (serving.client.poll_reset(cx), until.as_mut().poll(cx)) {
        (_, Poll::Ready(then)) => Poll::Ready(Some(then)),
        (Poll::Ready(_), Poll::Pending) => Poll::Ready(None),
        (Poll::Pending, Poll::Pending) => Poll::Pending,
    })
    .await;
    let waited = serving.shard.net.reaped_at().saturating_duration_since(began);
    x.record.held_ns += waited.as_nanos() as u64;
    then.ok_or_else(|| Refusal::new(Flag::ClientGone, "the client reset while a filter held its request"))
}

/// Reads the request's body, of at most `bytes_max`.
async fn read_body(
    serving: &Serving<'_>,
    x: &mut Exchange,
    bytes_max: u64,
    edits: &mut HeaderEdits<'_>,
) -> Result<Box<ReadBody>, Refusal> {
    let (client, mut reader) = (serving.client, client_body(serving, x.request.body));
    if let Body::Length(length) = x.request.body
        && length > bytes_max
    {
        return Err(Refusal::body_too_large(bytes_max));
    }
    if x.request.expect_continue && !reader.is_over() {
        client.queue_static(b"HTTP/1.1 100 Continue\r\n\r\n");
        let sent = serving.flush(true).await;
        sent.map_err(|error| Refusal::new(Flag::ClientGone, format!("the client took no answer: {error}")))?;
        edits.push(HeaderEdit::Remove("expect"));
    }
    x.body_taken = true;
    let began = serving.shard.net.now();
    let mut bytes = serving.shard.net.buffers().send_buffer();
    let read = poll_fn(|cx| {
        loop {
            client.set_recv_deadline(Some(serving.listener.config.body_timeout));
            match reader.poll_next(cx, client) {
                Poll::Ready(Ok(Some(_))) if reader.bytes > bytes_max => {
                    return Poll::Ready(Err(Refusal::body_too_large(bytes_max)));
                }
                Poll::Ready(Ok(Some(piece))) => bytes.extend_from_slice(&piece),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Refusal::of_client_body(&error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    x.record.bytes_in = reader.bytes;
    let waited = serving.shard.net.reaped_at().saturating_duration_since(began);
    x.record.held_ns += waited.as_nanos() as u64;
    read?;
    x.request.expect_continue = false;
    x.body_read = true;
    Ok(Box::new(ReadBody { reader, bytes }))
}
