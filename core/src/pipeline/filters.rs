//! A request on its way through its filters: they pass it on, hold it for a while, or answer it themselves.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::{Fields, Serving};
use crate::exchange::{Exchange, HeaderEdits, Refusal};
use crate::filter::{Matched, RequestEdit, Verdict};
use crate::observe::Flag;
use crate::plan::InForce;
use crate::route::RouteId;

/// What the filters made of a request.
#[derive(Default)]
pub struct Filtered<'p> {
    pub request: HeaderEdits<'p>,
    pub answer: HeaderEdits<'p>,
    /// Bytes of the path that the origin does not see.
    pub stripped: usize,
}

/// Runs the filters of the exchange's route. What they made of it is in `done`, also if one of them answers (`Err`).
pub async fn run<'p>(
    serving: &Serving<'p>,
    x: &mut Exchange,
    route: RouteId,
    in_force: InForce<'p>,
    done: &mut Filtered<'p>,
) -> Result<(), Refusal> {
    let mut at = 0;
    loop {
        match run_some(serving, x, route, in_force, done, &mut at) {
            Verdict::Pass => {
                edit_answer(in_force, at, &mut done.answer);
                return Ok(());
            }
            Verdict::Reply(refusal) => {
                edit_answer(in_force, at, &mut done.answer);
                return Err(*refusal);
            }
            Verdict::Wait(held) => {
                let began = serving.shard.net.now();
                x.record.hold(held.flag, held.reason);
                let outcome = hold(serving, held.time).await;
                let waited = serving.shard.net.reaped_at().saturating_duration_since(began);
                x.record.held_ns += waited.as_nanos() as u64;
                if outcome == Held::Gone {
                    return Err(Refusal::new(Flag::ClientGone, "the client reset while a filter held its request"));
                }
                if let Some(refusal) = held.then {
                    edit_answer(in_force, at, &mut done.answer);
                    return Err(*refusal);
                }
            }
        }
    }
}

/// Runs filters from number `at` on until one does not just pass the request on; `at` is then behind it.
fn run_some<'p>(
    serving: &Serving<'p>,
    x: &mut Exchange,
    route: RouteId,
    in_force: InForce<'p>,
    done: &mut Filtered<'p>,
    at: &mut usize,
) -> Verdict {
    let bytes = x.request_bytes.bytes();
    let mut edit = RequestEdit {
        headers: std::mem::take(&mut done.request),
        path: &x.path.bytes,
        stripped: done.stripped,
        query: x.request.target.query.map(|query| query.of(bytes)),
        fields: &Fields { serving, request: &x.request, bytes },
        rewritten: &mut x.rewritten,
        matched: Matched { table: &serving.adopted.plan.table, route, captures: &x.captures },
        state: &serving.adopted.filters,
        unix_s: &|| serving.shard.unix_s(),
    };
    let mut verdict = Verdict::Pass;
    while let (Verdict::Pass, Some(filter)) = (&verdict, in_force.filter(*at)) {
        verdict = filter.on_request(&mut edit);
        *at += 1;
    }
    done.stripped = edit.stripped;
    done.request = edit.headers;
    verdict
}

/// The first `count` filters, the innermost first.
fn edit_answer<'p>(in_force: InForce<'p>, count: usize, edits: &mut HeaderEdits<'p>) {
    for filter in (0..count).rev().filter_map(|at| in_force.filter(at)) {
        filter.on_answer(edits);
    }
}

#[derive(PartialEq)]
enum Held {
    Over,
    /// The client reset meanwhile.
    Gone,
}

async fn hold(serving: &Serving<'_>, time: Duration) -> Held {
    let mut sleep = pin!(serving.shard.net.sleep(time));
    poll_fn(|cx| match (serving.client.poll_reset(cx), sleep.as_mut().poll(cx)) {
        (_, Poll::Ready(())) => Poll::Ready(Held::Over),
        (Poll::Ready(_), Poll::Pending) => Poll::Ready(Held::Gone),
        (Poll::Pending, Poll::Pending) => Poll::Pending,
    })
    .await
}
