//! A request on its way to an origin, up to the head of the answer: tries at one endpoint after another, and the rules
//! that end them. One try is `attempt`'s; the answer's body is the client side's business.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use ringway_config::snapshot::{Hedge, Retry};
use ringway_proto::{Body, Known, named};
use smallvec::SmallVec;

use super::attempt::Answered;
use super::cluster::ClusterPlan;
use super::outlier;
use super::permit::Permit;
use super::pool::{Endpoint, Lease, PoolShare};
use super::retry::{self, Cause};
use super::state::ClusterState;
use super::ticket::Slot;
use crate::exchange::{BodyError, Exchange, Pump, Refusal};
use crate::net::{Net, Stream};
use crate::observe::core_meters::add;
use crate::observe::{CameTo, Flag, Meters, Try};

/// Endpoints that a request can have tried without an allocation.
const TRIED_INLINE: usize = 4;
/// The body of an answer that is thrown away is read if it is no longer and all there; else its connection is closed.
const DROPPED_BODY_BYTES_MAX: u64 = 16 * 1024;

/// The way to one cluster, as this core has it, for one request.
pub struct Origin<'a> {
    pub net: &'a Rc<Net>,
    pub plan: &'a ClusterPlan,
    pub state: &'a ClusterState,
    pub share: &'a PoolShare,
    pub meters: &'a Meters,
    /// Milliseconds of the reactor's clock after which the exchange is over.
    pub until_ms: u64,
    pub retry: &'a Retry,
    pub hedge: Option<Hedge>,
    /// What the request is hashed by.
    pub key: Option<u64>,
    /// The endpoint that the client's cookie names.
    pub own: Option<u16>,
}

/// An answer whose head is in the exchange; its body is on the lease's connection.
pub struct Opened<'a> {
    pub lease: Lease,
    /// Its place in the cluster's list.
    pub at: u16,
    /// The request is under way for as long as these live.
    pub under_way: (Permit<'a>, Option<Slot<'a>>),
}

/// Endpoints that have had the request.
pub(super) type Tried = SmallVec<[u16; TRIED_INLINE]>;

/// Writes the request's head as an endpoint gets it.
pub trait WriteHead: Fn(&mut Vec<u8>, &Exchange, &Endpoint) {}
impl<F: Fn(&mut Vec<u8>, &Exchange, &Endpoint)> WriteHead for F {}

impl<'a> Origin<'a> {
    /// Sends the request and waits until the head of its answer is in the exchange; the request's body may then still be
    /// on its way.
    ///
    /// # Errors
    /// What the client is told instead.
    pub async fn open(
        &self,
        client: &Stream,
        x: &mut Exchange,
        upload: &mut Pump,
        write_head: impl WriteHead,
    ) -> Result<Opened<'a>, Refusal> {
        let permit = if self.plan.limited { self.enter().await? } else { Permit::default() };
        self.state.count_request();
        let mut tried = Tried::new();
        let mut made = 0;
        loop {
            made += 1;
            let outcome = self.try_once(client, x, upload, &write_head, &mut tried).await;
            let next = match &outcome {
                Ok(_) => self.dislike(x).and_then(|cause| self.next_try(cause, true, made, x, upload, &tried)),
                Err(failure) if failure.is_final() => None,
                Err(failure) => {
                    let cause = Cause::Failed(failure.refusal.flag);
                    self.next_try(cause, failure.reached, made, x, upload, &tried)
                }
            };
            match (outcome, next) {
                (Ok(Answered { lease, at, slot }), None) => return Ok(Opened { lease, at, under_way: (permit, slot) }),
                (Err(failure), None) => return Err(failure.refusal),
                (Ok(answered), Some(wait)) => {
                    note(x, CameTo::Status(x.answer.status));
                    throw_away(answered.lease, x);
                    Box::pin(self.wait(client, wait)).await?;
                }
                (Err(failure), Some(wait)) => {
                    note(x, CameTo::Failed(failure.refusal.flag));
                    Box::pin(self.wait(client, wait)).await?;
                }
            }
            x.clear_answer();
            upload.begin_again();
            if !self.retry.backoff.is_zero() && !self.has_untried(&tried) {
                tried.clear();
            }
        }
    }

    pub(super) fn choose(&self, tried: &Tried) -> Option<u16> {
        self.state.choose(self.plan, self.net, self.key, self.own, tried)
    }

    /// Why an answer may be thrown away for another try.
    fn dislike(&self, x: &Exchange) -> Option<Cause> {
        let status = Cause::Status(x.answer.status);
        if !self.retry.statuses.is_empty() && retry::wants(self.retry, status) {
            return Some(status);
        }
        if self.retry.grpc_codes.is_empty() {
            return None;
        }
        let bytes = x.answer_bytes.bytes();
        let value = named(&x.answer.fields, bytes, "grpc-status").next()?.value.of(bytes);
        let code = Cause::Grpc(std::str::from_utf8(value).ok()?.trim().parse().ok()?);
        retry::wants(self.retry, code).then_some(code)
    }

    /// The wait before another try, if there may be one. `reached`: an origin may have the request.
    fn next_try(
        &self,
        cause: Cause,
        reached: bool,
        made: u32,
        x: &Exchange,
        upload: &Pump,
        tried: &Tried,
    ) -> Option<Duration> {
        let rules = self.retry;
        if made >= rules.attempts_max || !retry::wants(rules, cause) {
            return None;
        }
        let twice = !reached || rules.unsafe_methods || x.request.method.idempotent();
        if !twice || !upload.can_begin_again() || (rules.backoff.is_zero() && !self.has_untried(tried)) {
            return None;
        }
        let mut wait = retry::backoff(rules, made, &self.state.random);
        if let Some(asked) = retry_after(x) {
            if asked > rules.retry_after_max {
                return None;
            }
            wait = wait.max(asked);
        }
        // What no origin has seen multiplies no load, so that a dead endpoint cannot use the budget up.
        let free = !reached && matches!(cause, Cause::Failed(Flag::ConnectFailed | Flag::ConnectTimeout));
        if wait >= self.left(self.until_ms) || !(free || self.budget_allows()) {
            return None;
        }
        add(&self.meters.core.retries, 1);
        self.plan.node.counts.retries.add(1);
        Some(wait)
    }

    fn has_untried(&self, tried: &Tried) -> bool {
        self.state.has_other_than(tried)
    }

    /// Takes a retry out of the cluster's budget.
    pub(super) fn budget_allows(&self) -> bool {
        let now_ms = self.net.node_ms();
        self.state.tell_counts(self.plan, now_ms);
        if !retry::allowed(&self.plan.node, self.plan.config.retry_budget, now_ms) {
            self.plan.node.counts.retries_refused.add(1);
            return false;
        }
        retry::count(&self.plan.node, self.state.core, now_ms, retry::RETRIES, 1);
        true
    }

    /// # Errors
    /// The client went away meanwhile.
    async fn wait(&self, client: &Stream, time: Duration) -> Result<(), Refusal> {
        if time.is_zero() {
            return Ok(());
        }
        let mut sleep = pin!(self.net.sleep(time));
        poll_fn(|cx| {
            if client.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Refusal::new(Flag::ClientGone, "the client reset before the next try")));
            }
            sleep.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// The cookie that a client gets for its new endpoint.
    pub fn cookie_for(&self, at: u16) -> Option<&'a str> {
        let cookie = self.plan.cookies.get(usize::from(at)).filter(|_| self.own != Some(at))?;
        Some(&cookie.set)
    }

    /// The client has the whole answer. One with a status that counts as an error ends no row of errors.
    pub fn went_well(&self, at: u16, status: u16) {
        let Some(rules) = &self.plan.config.outlier else { return };
        if !rules.statuses.contains(&status) {
            outlier::well(&self.plan.node.endpoints[usize::from(at)]);
        }
    }

    /// The answer's origin failed within it.
    pub fn broke_off(&self, at: u16) {
        let Some(rules) = &self.plan.config.outlier else { return };
        outlier::failed(&self.plan.node, &self.plan.node.endpoints[usize::from(at)], rules, self.net.node_ms());
    }
}

fn note(x: &mut Exchange, came_to: CameTo) {
    x.record.tries.extend(x.record.endpoint.clone().map(|endpoint| Try { endpoint, came_to }));
}

fn retry_after(x: &Exchange) -> Option<Duration> {
    let field = x.answer.find(Known::RetryAfter)?;
    retry::retry_after(field.value.of(x.answer_bytes.bytes()), SystemTime::now())
}

/// Puts the connection of an answer that nobody wants to rest, if its body is all there.
fn throw_away(lease: Lease, x: &Exchange) {
    let whole = match x.answer.body {
        Body::None => true,
        Body::Length(length @ 0..=DROPPED_BODY_BYTES_MAX) => {
            length == 0 || lease.stream().take_exactly(length as usize).is_some()
        }
        _ => false,
    };
    if whole && x.answer.keep_alive && !lease.stream().has_input() {
        lease.keep();
    }
}

/// Whose fault it is that an answer's body broke off.
pub fn blame_for(error: &BodyError) -> (Flag, Cow<'static, str>) {
    match error {
        BodyError::TimedOut => (Flag::OriginTimeout, "the origin's answer stopped coming".into()),
        BodyError::Truncated => (Flag::OriginClosed, "the origin closed within its answer".into()),
        BodyError::Reset(error) => (Flag::OriginReset, format!("the origin reset within its answer: {error}").into()),
        BodyError::Malformed(code) => {
            (Flag::OriginProtocol, format!("the origin's chunks are malformed: {code}").into())
        }
    }
}
