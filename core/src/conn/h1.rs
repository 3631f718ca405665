//! HTTP/1 with a client: idle, head, exchange, and again. The task holds little while it is idle; what serving needs
//! lives in the shard's pools.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};

use ringway_proto::{Known, Method, Progress, Version, named};

use super::{Counted, tunnel};
use crate::exchange::{Exchange, Refusal};
use crate::filter::{shown_query, shown_referrer};
use crate::net::Stream;
use crate::observe::core_meters::{add, sub};
use crate::observe::{CoreLog, Flag, Line, Observation};
use crate::pipeline::{self, After, Connection, Serving, client_of};
use crate::shard::{Shard, Stage};

/// What a closing connection may still send before it is cut, and for how long.
const LINGER_BYTES_MAX: u64 = 16 * 1024 * 1024;
const LINGER_TIME_MAX: Duration = Duration::from_secs(5);
/// Without a byte for this long the client has read what we said.
const LINGER_QUIET: Duration = Duration::from_secs(1);

/// While its core drains, an idle connection may still bring one request, which is answered with `Connection: close`:
/// closing at once would lose the one that is on its way. Who has just connected keeps its whole time to ask.
const PARTING_TIME: Duration = Duration::from_secs(1);

/// A connection that has been idle for this long gives back what serving needs.
const REST_AFTER: Duration = Duration::from_millis(500);

/// In the place of a header that carries a credential.
const REDACTED: &[u8] = b"[redacted]";

/// For a tunnel whose listener is gone.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(300);

/// Serves a connection until it ends.
pub async fn serve(shard: Rc<Shard>, stream: Stream, connection: Connection, counted: Counted) {
    let _counted = counted;
    let mut rested = Duration::ZERO;
    loop {
        let Some(timeout) = idle_timeout(&shard, &connection) else { return };
        if wait_for_request(&shard, &stream, &connection, timeout.saturating_sub(rested)).await != Waited::Request {
            return;
        }
        let busy = shard.futures.place(serve_while_busy(&shard, &stream, &connection));
        match busy.await {
            After::KeepAlive => rested = REST_AFTER,
            After::Close => return,
            After::Linger => return Box::pin(linger(&shard, &stream)).await,
            After::Reset => return stream.reset_on_close(),
            After::Tunnel(tunnel) => {
                let timeout = tunnel_timeout(&shard, &connection);
                drop(connection); // a tunnel outlives plans, and must not keep one
                let (lease, ends_unix_s) = *tunnel;
                return Box::pin(tunnel::run(&shard, &stream, lease, timeout, ends_unix_s)).await;
            }
        }
    }
}

/// Serves one request after another; [`After::KeepAlive`] once the connection has come to rest. Between the requests of
/// a busy connection its memory stays where it is: to set it up anew each time would cost more than parsing the head.
async fn serve_while_busy(shard: &Rc<Shard>, stream: &Stream, connection: &Connection) -> After {
    let mut exchange = LentExchange::new(shard);
    loop {
        match one_request(shard, stream, connection, exchange.get()).await {
            After::KeepAlive => {}
            after => return after,
        }
        let Some(timeout) = idle_timeout(shard, connection) else { return After::Close };
        match wait_for_request(shard, stream, connection, timeout.min(REST_AFTER)).await {
            Waited::Request => {}
            Waited::TimedOut => return After::KeepAlive,
            Waited::Ended => return After::Close,
        }
    }
}

fn tunnel_timeout(shard: &Shard, connection: &Connection) -> Duration {
    let plan = connection.listening.plan(shard);
    plan.map_or(TUNNEL_TIMEOUT, |(adopted, index)| adopted.plan.listeners[index as usize].config.tunnel_timeout)
}

/// How long a connection may be idle now; `None` if no plan has its listener.
fn idle_timeout(shard: &Shard, connection: &Connection) -> Option<Duration> {
    let (adopted, index) = connection.listening.plan(shard)?;
    let config = &adopted.plan.listeners[index as usize].config;
    Some(match connection.requests.get() {
        0 => config.unused_timeout,
        _ => shard.limits.keepalive_timeout.unwrap_or(config.keepalive_timeout),
    })
}

/// What the wait for a request came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// Its first byte is there.
    Request,
    TimedOut,
    /// The client has ended or broken the connection, or it is to end here.
    Ended,
}

/// Waits for the first byte of a request. An idle connection ends without a word.
async fn wait_for_request(shard: &Shard, stream: &Stream, connection: &Connection, timeout: Duration) -> Waited {
    if stream.has_input() {
        return Waited::Request;
    }
    stream.set_recv_deadline(Some(timeout));
    let fresh = connection.requests.get() == 0;
    let mut parting = false;
    poll_fn(|cx| {
        let leaves = shard.stage() >= Stage::LastAnswers || connection.listening.index.get().is_none();
        if leaves && !fresh && !parting {
            parting = true;
            stream.set_recv_deadline(Some(PARTING_TIME));
        }
        match stream.poll_input(cx) {
            Poll::Ready(Ok(true)) => Poll::Ready(Waited::Request),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut && !parting => {
                Poll::Ready(Waited::TimedOut)
            }
            Poll::Ready(_) => Poll::Ready(Waited::Ended),
            Poll::Pending if shard.stage() >= Stage::Cut => Poll::Ready(Waited::Ended),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Reads a request, serves it, and notes what became of it.
async fn one_request(shard: &Rc<Shard>, client: &Stream, connection: &Connection, x: &mut Exchange) -> After {
    let Some((adopted, index)) = connection.listening.plan(shard) else { return After::Close };
    let serving = Serving::new(shard, &adopted, index, client, connection);
    let mut open = OpenRequest::new(&serving, x);
    let x = &mut *open.exchange;
    let after = match read_head(&serving, x).await {
        Ok(true) => {
            let theirs = x.request.find(Known::XRequestId).map(|field| field.value.of(x.request_bytes.bytes()));
            if !theirs.is_some_and(|theirs| x.id.accept(theirs)) {
                shard.ids.fill(&mut x.id);
            }
            pipeline::handle(&serving, x).await
        }
        Ok(false) => {
            open.nothing_came = true;
            After::Close
        }
        Err(refusal) => {
            shard.ids.fill(&mut x.id);
            pipeline::refuse(&serving, x, refusal, None).await
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

/// Memory for exchanges, lent by the shard.
struct LentExchange<'a> {
    shard: &'a Shard,
    /// Always there until the drop gives it back.
    exchange: Option<Box<Exchange>>,
}

impl<'a> LentExchange<'a> {
    fn new(shard: &'a Shard) -> LentExchange<'a> {
        LentExchange { shard, exchange: Some(shard.exchange()) }
    }

    fn get(&mut self) -> &mut Exchange {
        self.exchange.as_mut().expect("only the drop takes it")
    }
}

impl Drop for LentExchange<'_> {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.shard.keep_exchange(exchange);
        }
    }
}

/// A request being served: whatever ends it, a panic too, it is counted, logged and its memory is made ready.
struct OpenRequest<'a> {
    serving: &'a Serving<'a>,
    exchange: &'a mut Exchange,
    finished: bool,
    /// The client ended before its request was whole, which is no request.
    nothing_came: bool,
}

impl<'a> OpenRequest<'a> {
    fn new(serving: &'a Serving<'a>, exchange: &'a mut Exchange) -> OpenRequest<'a> {
        add(&serving.shard.meters.core.requests_open, 1);
        exchange.record.started = serving.shard.net.reaped_at();
        OpenRequest { serving, exchange, finished: false, nothing_came: false }
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        let shard = self.serving.shard;
        sub(&shard.meters.core.requests_open, 1);
        if !self.finished {
            self.exchange.record.blame(Flag::Panic, "a defect of the gateway ended this request");
        }
        if !self.nothing_came {
            note(self.serving, self.exchange);
        }
        self.exchange.clear(shard.net.reaped_at());
    }
}

/// Counts and logs a request that is over.
fn note(serving: &Serving<'_>, x: &Exchange) {
    let (shard, record) = (serving.shard, &x.record);
    let total = shard.net.now().saturating_duration_since(record.started);
    let seen = Observation {
        method: method_index(x.request.method),
        status: record.status,
        source: record.source,
        flag: record.flag,
        total_ns: total.as_nanos() as u64,
        waited_ns: record.origin_wait_ns + record.held_ns,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
    };
    match record.flag {
        Flag::ClientGone => add(&shard.meters.core.client_aborts, 1),
        Flag::ClientTimeout => add(&shard.meters.core.client_timeouts, 1),
        _ => {}
    }
    let meter = shard.meters.route(record.route.unwrap_or(crate::observe::NO_ROUTE));
    shard.meters.record(&meter, &seen);
    if let Some(mut log) = shard.log()
        && !log_line(serving, x, &seen, &mut log)
    {
        add(&shard.meters.core.access_log_dropped, 1);
    }
}

/// Index into the meters' methods.
fn method_index(method: Method) -> u8 {
    match method {
        Method::Get => 0,
        Method::Head => 1,
        Method::Post => 2,
        Method::Put => 3,
        Method::Delete => 4,
        Method::Patch => 5,
        Method::Options => 6,
        Method::Connect => 7,
        Method::Trace => 8,
        Method::Other => crate::observe::meters::METHOD_OTHER,
    }
}

/// False if the line was dropped.
fn log_line(serving: &Serving<'_>, x: &Exchange, seen: &Observation, log: &mut CoreLog) -> bool {
    let (record, head, bytes) = (&x.record, &x.request, x.request_bytes.bytes());
    let plan = &serving.adopted.plan;
    let value = |known| head.find(known).map(|field| field.value.of(bytes));
    let secrets = &plan.gathered;
    let referrer = value(Known::Referer).map(|referrer| shown_referrer(referrer, &secrets.secret_queries));
    let header = |name: &str| match secrets.secret_headers.iter().any(|secret| secret == name) {
        true => named(&head.fields, bytes, name).next().map(|_| REDACTED),
        false if name == "referer" => referrer.as_deref(),
        false => named(&head.fields, bytes, name).next().map(|field| field.value.of(bytes)),
    };
    let api = record.route.and_then(|id| plan.routes[id as usize].api).map(|of| plan.apis.names(of));
    let wall = serving.shard.wall_time(record.started);
    let query = head.target.query.map(|query| match secrets.secret_queries.is_empty() {
        true => Cow::Borrowed(query.of(bytes)),
        false => shown_query(query.of(bytes), &secrets.secret_queries),
    });
    log.log(&Line {
        unix_ns: wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64,
        duration_ns: seen.total_ns,
        method: head.method_span.of(bytes),
        path: head.target.path.of(bytes),
        query: query.as_deref(),
        version: if head.version == Version::Http10 { "1.0" } else { "1.1" },
        host: Some(head.authority.of(bytes)).filter(|host| !host.is_empty()),
        status: record.status,
        request_body_bytes: record.bytes_in,
        response_body_bytes: record.bytes_out,
        peer: serving.connection.peer,
        client: client_of(serving, x),
        user: x.identity.as_deref().map(|known| known.subject.as_bytes()).filter(|subject| !subject.is_empty()),
        user_agent: value(Known::UserAgent),
        referrer: referrer.as_deref(),
        request_id: x.id.as_bytes(),
        route: record.route.map(|id| plan.routes[id as usize].name.as_str()),
        api: api.map(|(api, _)| &**api),
        api_version: api.map(|(_, version)| &**version),
        cluster: record.cluster.map(|index| plan.clusters[index].config.name.as_str()),
        endpoint: record.endpoint.as_deref(),
        answered_by: record.source,
        flag: record.flag,
        reason: record.reason.as_deref(),
        attempts: record.attempts,
        tries: &record.tries,
        generation: plan.generation,
        overhead_ns: seen.total_ns.saturating_sub(seen.waited_ns),
        origin_ns: record.origin_wait_ns,
        header: &header,
    })
}
