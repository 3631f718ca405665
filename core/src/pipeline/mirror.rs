//! A copy of a request for another cluster, sent by a task of its own. Its answer is thrown away; whatever becomes of it,
//! the real request neither waits for it nor learns of it.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use ringway_proto::{Body, HeadLimits, Method, Progress, ResponseHead, write_chunk_head, write_last_chunk};

use super::filters::Filtered;
use super::{Serving, write_head};
use crate::exchange::{BodyReader, Exchange, HeadBuffer, Pump};
use crate::net;
use crate::observe::core_meters::{add, sub};
use crate::plan::MirrorPlan;
use crate::shard::Shard;
use crate::upstream::Endpoint;

/// Copies under way on one core; further ones are dropped and counted.
pub const MIRRORS_OPEN_MAX: u64 = 128;
/// A body is held until it is whole; requests with a larger one are not mirrored but counted.
pub const MIRROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// Of an answer that is thrown away; the connection of a longer one is closed.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// Fields of an answer's head.
const ANSWER_FIELDS_MAX: usize = 256;

/// The copy of one request, until its body is whole.
pub(super) struct Mirror<'a> {
    shard: &'a Rc<Shard>,
    pending: Option<Box<MirroredRequest>>,
}

struct MirroredRequest {
    endpoint: Rc<Endpoint>,
    method: Method,
    body: Body,
    /// Head and, once it is whole, body.
    bytes: Vec<u8>,
    connect_timeout: Duration,
    /// For all of it.
    timeout: Duration,
    head_bytes_max: usize,
}

/// Draws whether the request is mirrored. What has no body goes out at once; for a body `upload` keeps a copy.
#[inline]
pub(super) fn begin<'a>(
    serving: &Serving<'a>,
    x: &Exchange,
    plan: Option<&MirrorPlan>,
    filtered: &Filtered<'_>,
    upload: &mut Pump,
) -> Mirror<'a> {
    let mirror = Mirror { shard: serving.shard, pending: None };
    let Some(plan) = plan.filter(|plan| serving.adopted.filters.draw(plan.chance)) else { return mirror };
    begin_drawn(serving, x, plan, filtered, upload, mirror)
}

/// [`begin`], for a request that is drawn.
fn begin_drawn<'a>(
    serving: &Serving<'a>,
    x: &Exchange,
    plan: &MirrorPlan,
    filtered: &Filtered<'_>,
    upload: &mut Pump,
    mut mirror: Mirror<'a>,
) -> Mirror<'a> {
    // Another protocol is no answer that could be thrown away.
    if x.request.upgrade {
        return mirror;
    }
    let meters = &serving.shard.meters.core;
    if matches!(x.request.body, Body::Length(length) if length > MIRROR_BODY_BYTES_MAX as u64) {
        add(&meters.mirrors_without_body, 1);
        return mirror;
    }
    let (cluster, state) = (&serving.adopted.plan.clusters[plan.cluster], &serving.adopted.clusters[plan.cluster]);
    let Some(at) = state.choose(cluster, &serving.shard.net, None, None, &[]) else {
        add(&meters.mirrors_failed, 1);
        return mirror;
    };
    let endpoint = &state.endpoints[usize::from(at)];
    let mut bytes = serving.shard.net.buffers().send_buffer();
    write_head(&mut bytes, x, serving, cluster.host_for(&endpoint.label), filtered);
    mirror.pending = Some(Box::new(MirroredRequest {
        endpoint: endpoint.clone(),
        method: x.request.method,
        body: x.request.body,
        bytes,
        connect_timeout: cluster.config.connect_timeout.min(plan.timeout),
        timeout: plan.timeout,
        head_bytes_max: cluster.config.response_head_bytes_max,
    }));
    if upload.is_moving() {
        upload.copy(MIRROR_BODY_BYTES_MAX);
    } else {
        mirror.send(upload);
    }
    mirror
}

impl Mirror<'_> {
    /// Sends the copy if its body is whole; else there is another call once it may be.
    #[inline]
    pub(super) fn send(&mut self, upload: &mut Pump) {
        if self.pending.is_some() && upload.is_done() {
            self.send_whole(upload);
        }
    }

    fn send_whole(&mut self, upload: &mut Pump) {
        let Some(mut request) = self.pending.take() else { return };
        let meters = &self.shard.meters.core;
        if request.body != Body::None && request.body != Body::Length(0) {
            let Some(body) = upload.take_copy() else {
                add(&meters.mirrors_without_body, 1);
                return;
            };
            request.add_body(&body);
        }
        if meters.mirrors_open.get() >= MIRRORS_OPEN_MAX {
            add(&meters.mirrors_dropped, 1);
            return;
        }
        let open = Open::new(self.shard.clone());
        net::spawn(async move {
            let sent = request.exchange(&open.0).await;
            let meters = &open.0.meters.core;
            add(if sent.is_ok() { &meters.mirrors_answered } else { &meters.mirrors_failed }, 1);
        });
    }
}

impl Drop for Mirror<'_> {
    fn drop(&mut self) {
        if self.pending.is_some() {
            add(&self.shard.meters.core.mirrors_without_body, 1);
        }
    }
}

/// Counts a copy as under way.
struct Open(Rc<Shard>);

impl Open {
    fn new(shard: Rc<Shard>) -> Open {
        add(&shard.meters.core.mirrors_open, 1);
        Open(shard)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        sub(&self.0.meters.core.mirrors_open, 1);
    }
}

impl MirroredRequest {
    fn add_body(&mut self, body: &[u8]) {
        if self.body == Body::Chunked {
            if !body.is_empty() {
                write_chunk_head(&mut self.bytes, body.len());
                self.bytes.extend_from_slice(body);
                self.bytes.extend_from_slice(b"\r\n");
            }
            write_last_chunk(&mut self.bytes, None);
        } else {
            self.bytes.extend_from_slice(body);
        }
    }

    /// Sends it and reads its answer to the end, within the timeout.
    async fn exchange(self, shard: &Shard) -> io::Result<()> {
        let until_ms = shard.net.now_ms() + self.timeout.as_millis() as u64;
        let lease = match self.endpoint.reuse(shard.share.lifetime_max) {
            Some(lease) => lease,
            None => {
                let connected = self.endpoint.connect(&shard.net, self.connect_timeout, shard.share.lifetime_max).await;
                connected.map_err(|error| io::Error::other(format!("{error:?}")))?
            }
        };
        let stream = lease.stream();
        let left = Duration::from_millis(until_ms.saturating_sub(shard.net.now_ms()));
        stream.set_send_deadline(Some(left));
        stream.set_recv_deadline(Some(left));
        stream.queue_buffer(self.bytes);
        stream.flush().await?;
        stream.set_send_deadline(None);
        let answer = read_head(stream, self.method, self.head_bytes_max).await?;
        let mut reader = BodyReader::new(answer.body);
        loop {
            let piece = std::future::poll_fn(|cx| reader.poll_next(cx, stream)).await;
            match piece.map_err(|error| io::Error::other(format!("{error:?}")))? {
                Some(_) if reader.bytes > ANSWER_BYTES_MAX => return Ok(()),
                Some(_) => {}
                None => break,
            }
        }
        if answer.keep_alive && !stream.has_input() {
            lease.keep();
        }
        Ok(())
    }
}

/// The head of the final answer; interim ones are nobody's.
async fn read_head(stream: &net::Stream, method: Method, head_bytes_max: usize) -> io::Result<ResponseHead> {
    let limits = HeadLimits { head_bytes_max, target_bytes_max: usize::MAX, fields_max: ANSWER_FIELDS_MAX };
    let (mut answer, mut bytes) = (ResponseHead::new(), HeadBuffer::default());
    loop {
        let chunk = stream.recv().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.push(chunk);
        let progress = answer.parse(bytes.bytes(), &limits, method);
        if progress.map_err(|error| io::Error::other(error.to_string()))? == Progress::Partial {
            continue;
        }
        bytes.cut(answer.head_len, stream);
        if !answer.interim() {
            return Ok(answer);
        }
        answer.reset();
        bytes.clear();
    }
}
