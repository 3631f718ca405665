//! One try at one endpoint: a connection, the request's head, its body as it comes, interim answers back to the client,
//! the head of the answer. Does not decide whether another try follows (`forward`).

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use quanta::Instant;
use ringway_proto::{HeadLimits, Known, Method, Progress, ResponseHead, Version};

use super::breaker::Outcome;
use super::forward::{Origin, Tried, WriteHead};
use super::pool::{ConnectError, Endpoint, Lease};
use super::ticket::{End, Slot, Ticket};
use crate::exchange::{Exchange, HeadBuffer, Pump, PumpError, Refusal, write_interim_head};
use crate::net::Stream;
use crate::observe::Flag;
use crate::observe::core_meters::add;

/// Interim answers (1xx) that one request may bring. Real origins send one or two.
const INTERIM_ANSWERS_MAX: u32 = 32;
/// Fields of an answer's head.
const ANSWER_FIELDS_MAX: usize = 256;

/// The head of an answer is in the exchange.
pub(super) struct Answered<'a> {
    pub lease: Lease,
    pub at: u16,
    pub slot: Option<Slot<'a>>,
}

/// Why a try brought no answer.
pub(super) struct Failure {
    pub refusal: Refusal,
    /// The origin may have seen some of the request.
    pub reached: bool,
    /// The origin ended or reset the connection before a byte of an answer.
    pub silent_end: bool,
    /// A breaker refused it: another try would only be counted once more.
    pub by_breaker: bool,
}

/// The first try of a race.
pub(super) struct First<'s> {
    pub origin: &'s Stream,
    pub at: u16,
    /// Milliseconds of the reactor's clock after which it has taken too long.
    pub until_ms: u64,
}

impl<'a> Origin<'a> {
    /// One try, and one more on a fresh connection if the first one turns out to be dead. Not cut into smaller waits: what
    /// a try has stays where it is until its end.
    pub(super) async fn try_once(
        &self,
        client: &Stream,
        x: &mut Exchange,
        upload: &mut Pump,
        write_head: &impl WriteHead,
        tried: &mut Tried,
    ) -> Result<Answered<'a>, Failure> {
        let mut ticket = None;
        let mut at = self.choose_admitted(&mut ticket, tried, Outcome::Refused)?;
        let mut fresh = false;
        loop {
            x.record.attempts += 1;
            let endpoint = &self.state.endpoints[usize::from(at)];
            x.record.endpoint = Some(endpoint.label.clone());
            let until_ms = self.try_until_ms();
            let rests = if fresh { None } else { endpoint.reuse(self.share.lifetime_max) };
            let mut lease = match rests {
                Some(lease) => lease,
                None => {
                    let began = self.net.now();
                    // Boxed, since it is rare and most of what a try would have to hold.
                    match Box::pin(self.connect(endpoint, until_ms)).await {
                        Ok(lease) => lease,
                        Err(refusal) => return Err(fail(ticket, refusal.into(), self.took(began))),
                    }
                }
            };
            self.send_head(lease.stream(), x, endpoint, write_head);
            let mut sent = self.net.now();
            self.expect_answer(lease.stream(), until_ms);
            let outcome = match self.hedge {
                Some(hedge) if self.may_hedge(x) => {
                    let first = First { origin: lease.stream(), at, until_ms };
                    let race = self.race(hedge, client, first, x, upload, write_head, tried);
                    let (winner, outcome) = Box::pin(race).await;
                    if let Some(winner) = winner {
                        // A ticket that ends without a word counts as nothing, unless its try failed before it lost.
                        let lost = std::mem::replace(&mut ticket, winner.ticket);
                        if let Some(flag) = winner.first_failed {
                            end(lost, End::Failed(flag), self.took(sent));
                        }
                        (lease, at, sent) = (winner.lease, winner.at, winner.sent);
                    }
                    outcome
                }
                _ => poll_fn(|cx| self.poll_answer(cx, client, lease.stream(), until_ms, x, upload)).await,
            };
            let took = self.took(sent);
            x.record.origin_wait_ns += took;
            match outcome {
                Ok(()) => {
                    let slot = end(ticket, End::Answered(x.answer.status), took);
                    return Ok(Answered { lease, at, slot });
                }
                Err(failure) if failure.silent_end && self.was_stale(x, upload) => {
                    add(&self.meters.core.retries, 1);
                    x.clear_answer();
                    upload.begin_again();
                    fresh = true;
                }
                Err(failure) => return Err(fail(ticket, failure, took)),
            }
        }
    }

    /// Nanoseconds since a request was sent, as of this turn.
    pub(super) fn took(&self, sent: Instant) -> u64 {
        self.net.reaped_at().saturating_duration_since(sent).as_nanos() as u64
    }

    fn send_head(&self, origin: &Stream, x: &Exchange, endpoint: &Endpoint, write_head: &impl WriteHead) {
        let mut head = self.net.buffers().send_buffer();
        write_head(&mut head, x, endpoint);
        origin.queue_buffer(head);
        origin.start();
    }

    /// An endpoint, and if anybody watches the leave of the breakers to try it. `full`: what it is to the cluster's breaker
    /// if as many as may be are under way.
    #[inline]
    pub(super) fn choose_admitted(
        &self,
        ticket: &mut Option<Ticket<'a>>,
        tried: &mut Tried,
        full: Outcome,
    ) -> Result<u16, Failure> {
        if !self.plan.watched {
            let at = self.choose(tried).ok_or_else(nobody)?;
            tried.push(at);
            return Ok(at);
        }
        let ticket = ticket.insert(self.admit(full).map_err(Failure::by_breaker)?);
        self.choose_for(ticket, tried).map_err(Failure::by_breaker)
    }

    /// An endpoint whose breaker lets the try through. Any but the first may have opened since they were chosen.
    fn choose_for(&self, ticket: &mut Ticket<'a>, tried: &mut Tried) -> Result<u16, Refusal> {
        let mut refused = None;
        while let Some(at) = self.choose(tried) {
            tried.push(at);
            match ticket.go_to(at) {
                Ok(()) => return Ok(at),
                Err(refusal) => refused = Some(refusal),
            }
        }
        Err(refused.or_else(|| self.refusal_of_breakers(tried)).unwrap_or_else(nobody))
    }

    /// RFC 9110 9.2.2: only a method that may run twice, only while the whole request is still ours to send, and once.
    /// Mostly it was a kept connection that its origin was closing; a fresh one that ends without a word is the same to
    /// the client, so it is not told apart.
    fn was_stale(&self, x: &Exchange, upload: &Pump) -> bool {
        let first = x.record.attempts == 1;
        self.plan.config.retry_stale && first && x.request.method.idempotent() && upload.bytes() == 0
    }

    /// When a try that begins now has taken too long: by the retry's rules or the breaker's.
    pub(super) fn try_until_ms(&self) -> u64 {
        let each = match (self.plan.try_timeout, self.retry.per_try_timeout) {
            (None, None) => return self.until_ms,
            (Some(one), Some(other)) => one.min(other),
            (one, other) => one.or(other).unwrap_or_default(),
        };
        self.until_ms.min(self.net.now_ms() + each.as_millis() as u64)
    }

    pub(super) async fn connect(&self, endpoint: &Rc<Endpoint>, until_ms: u64) -> Result<Lease, Refusal> {
        let timeout = self.connect_timeout(until_ms);
        let connected = endpoint.connect(self.net, timeout, self.share.lifetime_max).await;
        connected.map_err(|error| self.refuse_connect(error, endpoint, timeout))
    }

    fn connect_timeout(&self, until_ms: u64) -> Duration {
        self.plan.config.connect_timeout.min(self.left(until_ms))
    }

    /// Until a moment of the reactor's clock.
    pub(super) fn left(&self, until_ms: u64) -> Duration {
        Duration::from_millis(until_ms.saturating_sub(self.net.now_ms()))
    }

    pub(super) fn expect_answer(&self, origin: &Stream, until_ms: u64) {
        origin.set_recv_deadline(Some(self.plan.config.first_byte_timeout.min(self.left(until_ms))));
    }

    #[inline(always)] // most of its callers' time is spent in it, and it has many arguments
    pub(super) fn poll_answer(
        &self,
        cx: &mut Context<'_>,
        client: &Stream,
        origin: &Stream,
        until_ms: u64,
        x: &mut Exchange,
        upload: &mut Pump,
    ) -> Poll<Result<(), Failure>> {
        if upload.is_moving() {
            match upload.poll(cx, client, origin, self.net.buffers()) {
                Poll::Ready(Ok(())) => self.expect_answer(origin, until_ms),
                Poll::Ready(Err(PumpError::Source(error))) => {
                    return Poll::Ready(Err(Refusal::of_client_body(&error).into()));
                }
                Poll::Ready(Err(PumpError::TooLarge(bytes_max))) => {
                    return Poll::Ready(Err(Refusal::body_too_large(bytes_max).into()));
                }
                Poll::Ready(Err(PumpError::Sink(error))) if error.kind() == io::ErrorKind::TimedOut => {
                    let refusal = Refusal::new(Flag::OriginTimeout, "the origin stopped taking the request's body");
                    return Poll::Ready(Err(Failure::after(refusal)));
                }
                // The origin takes no more: it may have answered before it has read everything.
                Poll::Ready(Err(PumpError::Sink(_))) => self.expect_answer(origin, until_ms),
                // While the body comes the origin need not answer; the body has timeouts of its own.
                Poll::Pending => origin.set_recv_deadline(Some(self.left(until_ms))),
            }
        }
        loop {
            match received(origin, cx) {
                Poll::Pending => {
                    // Asked last: with an answer at hand it does not matter who waits for it.
                    let gone = || Refusal::new(Flag::ClientGone, "the client reset while its origin worked");
                    return client.poll_reset(cx).map(|()| Err(gone().into()));
                }
                Poll::Ready(Ok(chunk)) => x.answer_bytes.push(chunk),
                Poll::Ready(Err(why)) => {
                    let nothing_came = x.answer_bytes.is_empty() && x.record.interim_answers == 0;
                    return Poll::Ready(Err(why.into_failure(nothing_came)));
                }
            }
            if self.take_head(client, origin, x)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Parses what has come; true once the final answer's head is complete. Interim answers go to the client.
    fn take_head(&self, client: &Stream, origin: &Stream, x: &mut Exchange) -> Result<bool, Failure> {
        loop {
            if !self.parse(&mut x.answer, &mut x.answer_bytes, x.request.method, origin)? {
                return Ok(false);
            }
            if x.answer.status == 101 && !switches_as_asked(x) {
                return Err(protocol_error("the origin switched protocols unasked"));
            }
            if !x.answer.interim() {
                return Ok(true);
            }
            x.record.interim_answers += 1;
            if x.record.interim_answers > INTERIM_ANSWERS_MAX {
                return Err(protocol_error("the origin sends interim answers without end"));
            }
            if x.request.version == Version::Http11 {
                let mut out = self.net.buffers().send_buffer();
                write_interim_head(&mut out, &x.answer, x.answer_bytes.bytes());
                client.queue_buffer(out);
                client.start();
            }
            x.clear_answer();
            match origin.take_input() {
                Some(chunk) => x.answer_bytes.push(chunk),
                None => return Ok(false),
            }
        }
    }

    /// True once `bytes` hold a whole head; what follows it goes back into the stream.
    pub(super) fn parse(
        &self,
        answer: &mut ResponseHead,
        bytes: &mut HeadBuffer,
        method: Method,
        origin: &Stream,
    ) -> Result<bool, Failure> {
        let limits = HeadLimits {
            head_bytes_max: self.plan.config.response_head_bytes_max,
            target_bytes_max: usize::MAX,
            fields_max: ANSWER_FIELDS_MAX,
        };
        match answer.parse(bytes.bytes(), &limits, method) {
            Ok(Progress::Partial) => Ok(false),
            Ok(Progress::Complete) => {
                bytes.cut(answer.head_len, origin);
                Ok(true)
            }
            Err(error) => Err(protocol_error(format!("the origin's answer cannot be read: {error}"))),
        }
    }

    fn refuse_connect(&self, error: ConnectError, endpoint: &Endpoint, timeout: Duration) -> Refusal {
        let label = &endpoint.label;
        match error {
            ConnectError::TimedOut => {
                Refusal::new(Flag::ConnectTimeout, format!("{label} took no connection in {timeout:?}"))
            }
            ConnectError::NoPlace => self.overflow(format!("no connection to {label} came free in {timeout:?}")),
            ConnectError::NoPort => Refusal::new(Flag::NoPort, format!("no local port left towards {label}")),
            ConnectError::NoDescriptor(error) => {
                Refusal::new(Flag::Overflow, format!("no socket for {label}: {error}"))
            }
            ConnectError::Failed(error) => Refusal::new(Flag::ConnectFailed, format!("{label}: {error}")),
        }
    }
}

/// Tells those who watch how a try ended.
pub(super) fn end<'a>(ticket: Option<Ticket<'a>>, how: End, took_ns: u64) -> Option<Slot<'a>> {
    ticket.and_then(|ticket| ticket.end(how, took_ns))
}

/// The same for one that brought no answer.
pub(super) fn fail(ticket: Option<Ticket<'_>>, failure: Failure, took_ns: u64) -> Failure {
    end(ticket, End::Failed(failure.refusal.flag), took_ns);
    failure
}

fn nobody() -> Refusal {
    Refusal::new(Flag::NoHealthyOrigin, "no endpoint may be used")
}

/// What an origin sent, or why it sends no more.
pub(super) fn received(origin: &Stream, cx: &mut Context<'_>) -> Poll<Result<crate::net::Chunk, NoMore>> {
    origin.poll_recv(cx).map(|received| match received {
        Ok(Some(chunk)) => Ok(chunk),
        Ok(None) => Err(NoMore::Ended),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(NoMore::TimedOut),
        Err(error) => Err(NoMore::Reset(error)),
    })
}

/// Why an origin sends no more before the head of its answer is whole.
pub(super) enum NoMore {
    Ended,
    TimedOut,
    Reset(io::Error),
}

impl NoMore {
    pub fn into_failure(self, nothing_came: bool) -> Failure {
        let (flag, reason): (_, Cow<'_, str>) = match self {
            NoMore::TimedOut => {
                return Failure::after(Refusal::new(Flag::OriginTimeout, "the origin did not answer in time"));
            }
            NoMore::Ended => (Flag::OriginClosed, "the origin closed".into()),
            NoMore::Reset(error) => (Flag::OriginReset, format!("the origin reset: {error}").into()),
        };
        let place = if nothing_came { "before it answered" } else { "within the head of its answer" };
        let refusal = Refusal::new(flag, format!("{reason} {place}"));
        Failure { silent_end: nothing_came, ..Failure::after(refusal) }
    }
}

fn protocol_error(reason: impl Into<Cow<'static, str>>) -> Failure {
    Failure::after(Refusal::new(Flag::OriginProtocol, reason))
}

/// RFC 9110 7.8: a server switches only to a protocol that the client named.
fn switches_as_asked(x: &Exchange) -> bool {
    let asked = x.request.find(Known::Upgrade).map(|field| field.value.of(x.request_bytes.bytes()));
    let chosen = x.answer.find(Known::Upgrade).map(|field| field.value.of(x.answer_bytes.bytes()));
    let (Some(asked), Some(chosen)) = (asked, chosen) else { return false };
    let named = asked.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(chosen));
    x.request.upgrade && x.answer.upgrade && named
}

impl Failure {
    /// No rule can want another try: the answer had begun, or a breaker spares the origin.
    pub fn is_final(&self) -> bool {
        self.by_breaker || matches!(self.refusal.flag, Flag::OriginClosed | Flag::OriginReset) && !self.silent_end
    }

    fn by_breaker(refusal: Refusal) -> Failure {
        Failure { by_breaker: true, ..refusal.into() }
    }

    /// The origin may have the request, or some of it.
    fn after(refusal: Refusal) -> Failure {
        Failure { refusal, reached: true, silent_end: false, by_breaker: false }
    }
}

impl From<Refusal> for Failure {
    /// Nothing has reached an origin, or it is the client that failed.
    fn from(refusal: Refusal) -> Failure {
        Failure { refusal, reached: false, silent_end: false, by_breaker: false }
    }
}
