//! HTTP/1 with a client: idle, head, exchange, and again. The task holds little while it is idle; what serving needs
//! lives in the shard's pools.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ringway_proto::{Known, Progress};

use super::{After, Connection, Counted, reply, tunnel};
use crate::exchange::{Exchange, Refusal};
use crate::net::Stream;
use crate::observe::core_meters::{add, sub};
use crate::observe::{Flag, Line, Observation};
use crate::pipeline::{self, Serving, client_of};
use crate::plan::ListenerPlan;
use crate::shard::{Shard, Stage};

/// What a closing connection may still send before it is cut, and for how long.
const LINGER_BYTES_MAX: u64 = 16 * 1024 * 1024;
const LINGER_TIME_MAX: Duration = Duration::from_secs(5);
/// Without a byte for this long the client has read what we said.
const LINGER_QUIET: Duration = Duration::from_secs(1);

/// Serves a connection until it ends.
pub async fn serve(shard: Rc<Shard>, stream: Stream, connection: Connection, counted: Counted) {
    let _counted = counted;
    loop {
        if !wait_for_request(&shard, &stream, &connection).await {
            return;
        }
        let exchange = shard.futures.place(one_request(&shard, &stream, &connection));
        match exchange.await {
            After::KeepAlive => {}
            After::Close => return,
            After::Linger => return Box::pin(linger(&shard, &stream)).await,
            After::Reset => return stream.reset_on_close(),
            After::Tunnel(lease) => return Box::pin(tunnel::run(&shard, &connection, &stream, *lease)).await,
        }
    }
}

/// Waits for the first byte of a request; false when there will be none. An idle connection ends without a word.
async fn wait_for_request(shard: &Shard, stream: &Stream, connection: &Connection) -> bool {
    if stream.has_input() {
        return true;
    }
    {
        let adopted = shard.adopted();
        let Some(index) = connection.listening.index.get() else { return false };
        let config = &adopted.plan.listeners[index as usize].config;
        let timeout = match connection.requests.get() {
            0 => config.unused_timeout,
            _ => shard.limits.keepalive_timeout.unwrap_or(config.keepalive_timeout),
        };
        stream.set_recv_deadline(Some(timeout));
    }
    poll_fn(|cx| match stream.poll_input(cx) {
        Poll::Ready(input) => Poll::Ready(input.unwrap_or(false)),
        Poll::Pending if shard.stage() >= Stage::LastAnswers || connection.listening.index.get().is_none() => {
            Poll::Ready(false)
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Reads a request, serves it, and notes what became of it.
async fn one_request(shard: &Rc<Shard>, client: &Stream, connection: &Connection) -> After {
    let adopted = shard.adopted();
    let Some(index) = connection.listening.index.get() else { return After::Close };
    let listener = &adopted.plan.listeners[index as usize];
    let serving = Serving { shard, adopted: &adopted, listener, listener_index: index, client, connection };
    let mut open = OpenRequest::new(&serving);
    let after = match read_head(&serving, &mut open.exchange).await {
        Ok(true) => {
            let x = &mut open.exchange;
            let theirs = x.request.find(Known::XRequestId).map(|field| field.value.of(x.request_bytes.bytes()));
            if !theirs.is_some_and(|theirs| x.id.accept(theirs)) {
                shard.ids.fill(&mut x.id);
            }
            pipeline::handle(&serving, &mut open.exchange).await
        }
        Ok(false) => {
            open.nothing_came = true;
            After::Close
        }
        Err(refusal) => {
            shard.ids.fill(&mut open.exchange.id);
            reply::refuse(&serving, &mut open.exchange, refusal).await
        }
    };
    connection.requests.set(connection.requests.get() + 1);
    open.finished = true;
    after
}

/// Reads the head; false if the client ended before it was whole.
async fn read_head(serving: &Serving<'_>, x: &mut Exchange) -> Result<bool, Refusal> {
    let mut timed = false;
    loop {
        let chunk = match serving.client.recv().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let timeout = serving.listener.config.header_timeout;
                return Err(Refusal::new(Flag::ClientTimeout, format!("no whole head in {timeout:?}")).closing());
            }
            Err(_) => return Ok(false),
        };
        x.request_bytes.push(chunk);
        match x.request.parse(x.request_bytes.bytes(), &serving.listener.head_limits)? {
            Progress::Complete => {
                x.request_bytes.cut(x.request.head_len, serving.client);
                return Ok(true);
            }
            Progress::Partial if !timed => {
                timed = true;
                serving.client.set_recv_deadline(Some(serving.listener.config.header_timeout));
            }
            Progress::Partial => {}
        }
    }
}

/// Closes without destroying what the client has not read yet: our side first, then what still comes is thrown away.
async fn linger(shard: &Shard, stream: &Stream) {
    stream.end_sending();
    let end_ms = shard.net.now_ms() + LINGER_TIME_MAX.as_millis() as u64;
    let mut bytes = 0;
    while bytes < LINGER_BYTES_MAX && shard.net.now_ms() < end_ms && shard.stage() < Stage::Cut {
        stream.set_recv_deadline(Some(LINGER_QUIET));
        match stream.recv().await {
            Ok(Some(chunk)) => bytes += chunk.len() as u64,
            _ => return,
        }
    }
}

/// A request being served: whatever ends it, a panic too, it is counted, logged and its memory goes back.
struct OpenRequest<'a> {
    serving: &'a Serving<'a>,
    exchange: Box<Exchange>,
    finished: bool,
    /// The client ended before its request was whole, which is no request.
    nothing_came: bool,
}

impl<'a> OpenRequest<'a> {
    fn new(serving: &'a Serving<'a>) -> OpenRequest<'a> {
        add(&serving.shard.meters.core.requests_open, 1);
        let exchange = serving.shard.exchange(serving.shard.net.reaped_at());
        OpenRequest { serving, exchange, finished: false, nothing_came: false }
    }

    fn note(&mut self) {
        let (shard, x) = (self.serving.shard, &mut self.exchange);
        if !self.finished {
            x.record.blame(Flag::Panic, "a defect of the gateway ended this request");
        }
        let total_ns = shard.net.now().saturating_duration_since(x.record.started).as_nanos() as u64;
        let seen = Observation {
            method: method_index(x),
            status: x.record.status,
            source: x.record.source,
            flag: x.record.flag,
            total_ns,
            origin_wait_ns: x.record.origin_wait_ns,
            bytes_in: x.record.bytes_in,
            bytes_out: x.record.bytes_out,
        };
        match x.record.flag {
            Flag::ClientGone => add(&shard.meters.core.client_aborts, 1),
            Flag::ClientTimeout => add(&shard.meters.core.client_timeouts, 1),
            _ => {}
        }
        let meter = shard.meters.route(x.record.route.unwrap_or(crate::observe::NO_ROUTE));
        shard.meters.record(&meter, &seen);
        if let Some(mut log) = shard.log() {
            let line = log_line(self.serving, x, &seen);
            if !log.log(&line) {
                add(&shard.meters.core.access_log_dropped, 1);
            }
        }
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        if !self.nothing_came {
            self.note();
        }
        let shard = self.serving.shard;
        sub(&shard.meters.core.requests_open, 1);
        let spent = std::mem::replace(&mut self.exchange, shard.exchange(shard.net.reaped_at()));
        shard.keep_exchange(spent);
    }
}
