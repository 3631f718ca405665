//! One request on its way to an origin, up to the head of the answer: a connection, the request's head, its body as it
//! comes, interim answers back to the client, one safe retry. The answer's body is the client side's business.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringway_proto::{HeadLimits, Known, Progress, Version};

use super::ClusterState;
use super::cluster::ClusterPlan;
use super::pool::{ConnectError, Endpoint, Lease, PoolShare};
use crate::exchange::{BodyError, Exchange, Pump, PumpError, Refusal, write_interim_head};
use crate::net::{Net, Stream};
use crate::observe::core_meters::add;
use crate::observe::{Flag, Meters};

/// Interim answers (1xx) that one request may bring. Real origins send one or two.
const INTERIM_ANSWERS_MAX: u32 = 32;
/// Fields of an answer's head.
const ANSWER_FIELDS_MAX: usize = 256;

/// The way to one cluster, as this core has it.
pub struct Origin<'a> {
    pub net: &'a Rc<Net>,
    pub plan: &'a ClusterPlan,
    pub state: &'a ClusterState,
    pub share: &'a PoolShare,
    pub meters: &'a Meters,
    /// Milliseconds of the reactor's clock after which the exchange is over.
    pub until_ms: u64,
}

/// Why an attempt brought no answer.
struct Failure {
    refusal: Refusal,
    /// The origin ended or reset the connection before a byte of an answer.
    silent_end: bool,
}

impl Origin<'_> {
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
        write_head: impl Fn(&mut Vec<u8>, &Exchange, &Endpoint),
    ) -> Result<Lease, Refusal> {
        let no_endpoint = || Refusal::new(Flag::NoHealthyOrigin, "the cluster has no endpoint");
        let endpoint = self.state.choose(self.plan).ok_or_else(no_endpoint)?;
        loop {
            let lease = self.connection(endpoint, x).await?;
            x.record.endpoint = Some(endpoint.label.clone());
            let mut head = self.net.buffers().send_buffer();
            write_head(&mut head, x, endpoint);
            lease.stream().queue_buffer(head);
            lease.stream().start();
            let sent = self.net.now();
            self.expect_answer(lease.stream());
            let outcome = poll_fn(|cx| self.poll_answer(cx, client, lease.stream(), x, upload)).await;
            x.record.origin_wait_ns += self.net.reaped_at().saturating_duration_since(sent).as_nanos() as u64;
            match outcome {
                Ok(()) => return Ok(lease),
                Err(failure) if failure.silent_end && self.may_resend(x, upload) => {
                    add(&self.meters.core.retries, 1);
                    x.clear_answer();
                    upload.resume();
                }
                Err(failure) => return Err(failure.refusal),
            }
        }
    }

    /// RFC 9110 9.2.2: only a method that may run twice, only while the whole request is still ours to send, and once.
    /// Mostly it was a kept connection that its origin was closing; a fresh one that ends without a word is the same to
    /// the client, so it is not told apart.
    fn may_resend(&self, x: &Exchange, upload: &Pump) -> bool {
        let first = x.record.attempts == 1;
        self.plan.config.retry_stale && first && x.request.method.idempotent() && upload.bytes() == 0
    }

    async fn connection(&self, endpoint: &Rc<Endpoint>, x: &mut Exchange) -> Result<Lease, Refusal> {
        x.record.attempts += 1;
        if x.record.attempts == 1
            && let Some(lease) = endpoint.reuse(self.share.lifetime_max)
        {
            return Ok(lease);
        }
        let timeout = self.plan.config.connect_timeout.min(self.time_left());
        endpoint.connect(self.net, timeout).await.map_err(|error| refuse_connect(error, endpoint, timeout))
    }

    fn time_left(&self) -> Duration {
        Duration::from_millis(self.until_ms.saturating_sub(self.net.now_ms()))
    }

    fn expect_answer(&self, origin: &Stream) {
        origin.set_recv_deadline(Some(self.plan.config.first_byte_timeout.min(self.time_left())));
    }

    fn poll_answer(
        &self,
        cx: &mut Context<'_>,
        client: &Stream,
        origin: &Stream,
        x: &mut Exchange,
        upload: &mut Pump,
    ) -> Poll<Result<(), Failure>> {
        if client.poll_reset(cx).is_ready() {
            let gone = Refusal::new(Flag::ClientGone, "the client reset while its origin worked");
            return Poll::Ready(Err(gone.into()));
        }
        if upload.is_moving() {
            match upload.poll(cx, client, origin, self.net.buffers()) {
                Poll::Ready(Ok(())) => self.expect_answer(origin),
                Poll::Ready(Err(PumpError::Source(error))) => {
                    return Poll::Ready(Err(Refusal::of_client_body(&error).into()));
                }
                Poll::Ready(Err(PumpError::TooLarge(bytes_max))) => {
                    return Poll::Ready(Err(Refusal::body_too_large(bytes_max).into()));
                }
                Poll::Ready(Err(PumpError::Sink(error))) if error.kind() == io::ErrorKind::TimedOut => {
                    let refusal = Refusal::new(Flag::OriginTimeout, "the origin stopped taking the request's body");
                    return Poll::Ready(Err(refusal.into()));
                }
                // The origin takes no more: it may have answered before it has read everything.
                Poll::Ready(Err(PumpError::Sink(_))) => self.expect_answer(origin),
                // While the body comes the origin need not answer; the body has timeouts of its own.
                Poll::Pending => origin.set_recv_deadline(Some(self.time_left())),
            }
        }
        loop {
            let received = match origin.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(received) => received,
            };
            match received {
                Ok(Some(chunk)) => x.answer_bytes.push(chunk),
                Ok(None) => return Poll::Ready(Err(Failure::ended(x, Flag::OriginClosed, "the origin closed"))),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    let refusal = Refusal::new(Flag::OriginTimeout, "the origin did not answer in time");
                    return Poll::Ready(Err(refusal.into()));
                }
                Err(error) => {
                    let reason = format!("the origin reset: {error}");
                    return Poll::Ready(Err(Failure::ended(x, Flag::OriginReset, reason)));
                }
            }
            if self.take_head(client, origin, x)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Parses what has come; true once the final answer's head is complete. Interim answers go to the client.
    fn take_head(&self, client: &Stream, origin: &Stream, x: &mut Exchange) -> Result<bool, Failure> {
        let limits = HeadLimits {
            head_bytes_max: self.plan.config.response_head_bytes_max,
            target_bytes_max: usize::MAX,
            fields_max: ANSWER_FIELDS_MAX,
        };
        loop {
            match x.answer.parse(x.answer_bytes.bytes(), &limits, x.request.method) {
                Ok(Progress::Partial) => return Ok(false),
                Ok(Progress::Complete) => {}
                Err(error) => {
                    let reason = format!("the origin's answer cannot be read: {error}");
                    return Err(Refusal::new(Flag::OriginProtocol, reason).into());
                }
            }
            x.answer_bytes.cut(x.answer.head_len, origin);
            if x.answer.status == 101 && !switches_as_asked(x) {
                return Err(Refusal::new(Flag::OriginProtocol, "the origin switched protocols unasked").into());
            }
            if !x.answer.interim() {
                return Ok(true);
            }
            x.record.interim_answers += 1;
            if x.record.interim_answers > INTERIM_ANSWERS_MAX {
                return Err(Refusal::new(Flag::OriginProtocol, "the origin sends interim answers without end").into());
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
    /// The origin ended or reset the connection before the head of its answer was complete.
    fn ended(x: &Exchange, flag: Flag, reason: impl Into<Cow<'static, str>>) -> Failure {
        let silent_end = x.answer_bytes.is_empty() && x.record.interim_answers == 0;
        let reason = reason.into();
        let place = if silent_end { "before it answered" } else { "within the head of its answer" };
        Failure { refusal: Refusal::new(flag, format!("{reason} {place}")), silent_end }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure { refusal, silent_end: false }
    }
}

fn refuse_connect(error: ConnectError, endpoint: &Endpoint, timeout: Duration) -> Refusal {
    let label = &endpoint.label;
    match error {
        ConnectError::TimedOut => {
            Refusal::new(Flag::ConnectTimeout, format!("{label} took no connection in {timeout:?}"))
        }
        ConnectError::NoPort => Refusal::new(Flag::NoPort, format!("no local port left towards {label}")),
        ConnectError::NoDescriptor(error) => Refusal::new(Flag::Overflow, format!("no socket for {label}: {error}")),
        ConnectError::Failed(error) => Refusal::new(Flag::ConnectFailed, format!("{label}: {error}")),
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
