//! A second try beside a first one that takes long: whoever answers first wins, the other is cut. Allocates, since it
//! begins only when a wait is long already.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use quanta::Instant;
use ringway_config::snapshot::Hedge;
use ringway_proto::{Method, ResponseHead};

use super::attempt::{Failure, First, fail, received};
use super::breaker::Outcome;
use super::forward::{Origin, Tried, WriteHead};
use super::pool::{Endpoint, Lease};
use super::ticket::Ticket;
use crate::exchange::{Exchange, HeadBuffer, Pump};
use crate::net::Stream;
use crate::observe::{CameTo, Flag, Try};

/// An answer that is not in the exchange yet.
struct Apart {
    answer: ResponseHead,
    bytes: HeadBuffer,
}

/// A second try whose request has been sent.
struct Running<'a> {
    lease: Lease,
    at: u16,
    ticket: Option<Ticket<'a>>,
    sent: Instant,
}

/// The second try, when it was answered first.
pub(super) struct Winner<'a> {
    pub lease: Lease,
    pub at: u16,
    pub ticket: Option<Ticket<'a>>,
    pub sent: Instant,
    /// The first try had failed by then.
    pub first_failed: Option<Flag>,
}

type Second<'s, 'a> = Pin<Box<dyn Future<Output = Result<(Running<'a>, Apart), Failure>> + 's>>;

impl<'a> Origin<'a> {
    /// A second try may be begun only of what can run twice, and has no tunnel behind it.
    pub(super) fn may_hedge(&self, x: &Exchange) -> bool {
        !x.request.upgrade && (x.request.method.idempotent() || self.retry.unsafe_methods)
    }

    /// Waits for the first answer of two. The second try, if it won, and what the waiting came to.
    #[expect(clippy::too_many_arguments, reason = "what a try needs, and the first try")]
    pub(super) async fn race(
        &self,
        hedge: Hedge,
        client: &Stream,
        first: First<'_>,
        x: &mut Exchange,
        upload: &mut Pump,
        write_head: &impl WriteHead,
        tried: &mut Tried,
    ) -> (Option<Winner<'a>>, Result<(), Failure>) {
        let mut timer = Box::pin(self.net.sleep(hedge.after));
        let mut timed = true;
        let mut second: Option<(Rc<Endpoint>, Second<'_, 'a>)> = None;
        let mut failed = None;
        let won = poll_fn(|cx| {
            if failed.is_none() {
                match self.poll_answer(cx, client, first.origin, first.until_ms, x, upload) {
                    Poll::Ready(Ok(())) => return Poll::Ready(None),
                    // The second may still bring an answer.
                    Poll::Ready(Err(failure)) if second.is_some() && failure.reached => failed = Some(failure),
                    Poll::Ready(Err(failure)) => {
                        failed = Some(failure);
                        return Poll::Ready(None);
                    }
                    Poll::Pending => {}
                }
            }
            if timed && timer.as_mut().poll(cx).is_ready() {
                timed = false;
                second = self.second(x, upload, write_head, tried);
            }
            let Some((_, running)) = &mut second else { return Poll::Pending };
            match running.as_mut().poll(cx) {
                Poll::Ready(Ok(won)) => Poll::Ready(Some(won)),
                Poll::Ready(Err(_)) => {
                    second = None;
                    if failed.is_some() { Poll::Ready(None) } else { Poll::Pending }
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        let outrun = |endpoint: &Rc<Endpoint>| Try { endpoint: endpoint.label.clone(), came_to: CameTo::Outrun };
        let Some((Running { lease, at, ticket, sent }, Apart { answer, bytes })) = won else {
            x.record.tries.extend(second.iter().map(|(endpoint, _)| outrun(endpoint)));
            return (None, failed.map_or(Ok(()), Err));
        };
        self.plan.node.counts.hedges_won.add(1);
        x.record.tries.push(outrun(&self.state.endpoints[usize::from(first.at)]));
        x.record.endpoint = Some(self.state.endpoints[usize::from(at)].label.clone());
        (x.answer, x.answer_bytes) = (answer, bytes);
        let first_failed = failed.map(|failure| failure.refusal.flag);
        (Some(Winner { lease, at, ticket, sent, first_failed }), Ok(()))
    }

    /// Begins the second try, if there is an endpoint for it, the whole body at hand and something left of the budget.
    fn second<'s>(
        &'s self,
        x: &mut Exchange,
        upload: &Pump,
        write_head: &impl WriteHead,
        tried: &mut Tried,
    ) -> Option<(Rc<Endpoint>, Second<'s, 'a>)> {
        let body = upload.whole(self.net.buffers())?;
        let before = tried.len();
        let mut ticket = None;
        // What finds no room was nobody's request: no breaker is to open for it.
        let at = self.choose_admitted(&mut ticket, tried, Outcome::Void).ok()?;
        if !self.budget_allows() {
            tried.truncate(before);
            return None;
        }
        self.plan.node.counts.hedges.add(1);
        x.record.attempts += 1;
        let endpoint = self.state.endpoints[usize::from(at)].clone();
        let mut request = self.net.buffers().send_buffer();
        write_head(&mut request, x, &endpoint);
        request.extend_from_slice(&body);
        self.net.buffers().give_back(body);
        let second = self.run_apart(ticket, at, endpoint.clone(), request, x.request.method);
        Some((endpoint, Box::pin(second)))
    }

    async fn run_apart(
        &self,
        ticket: Option<Ticket<'a>>,
        at: u16,
        endpoint: Rc<Endpoint>,
        request: Vec<u8>,
        method: Method,
    ) -> Result<(Running<'a>, Apart), Failure> {
        let until_ms = self.try_until_ms();
        let sent = self.net.now();
        let lease = match endpoint.reuse(self.share.lifetime_max) {
            Some(lease) => Ok(lease),
            None => self.connect(&endpoint, until_ms).await,
        };
        let lease = match lease {
            Ok(lease) => lease,
            Err(refusal) => return Err(fail(ticket, refusal.into(), self.took(sent))),
        };
        lease.stream().queue_buffer(request);
        lease.stream().start();
        let running = Running { lease, at, ticket, sent: self.net.now() };
        self.expect_answer(running.lease.stream(), until_ms);
        let mut apart = Apart { answer: ResponseHead::new(), bytes: HeadBuffer::default() };
        let outcome = poll_fn(|cx| {
            loop {
                match received(running.lease.stream(), cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(chunk)) => apart.bytes.push(chunk),
                    Poll::Ready(Err(why)) => return Poll::Ready(Err(why.into_failure(apart.bytes.is_empty()))),
                }
                while self.parse(&mut apart.answer, &mut apart.bytes, method, running.lease.stream())? {
                    if !apart.answer.interim() {
                        return Poll::Ready(Ok(()));
                    }
                    // Interim answers are the first try's to send on.
                    apart.answer.reset();
                    apart.bytes.clear();
                    match running.lease.stream().take_input() {
                        Some(chunk) => apart.bytes.push(chunk),
                        None => break,
                    }
                }
            }
        })
        .await;
        match outcome {
            Ok(()) => Ok((running, apart)),
            Err(failure) => Err(fail(running.ticket, failure, self.took(sent))),
        }
    }
}
