//! After `101 Switching Protocols`: bytes in both directions, nothing read or changed, each side's end passed on.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::exchange::{BodyReader, Encoding, Pump};
use crate::net::Stream;
use crate::observe::core_meters::{add, sub};
use crate::shard::{Shard, Stage};
use crate::upstream::Lease;

/// Moves bytes until both sides have ended, one breaks, nothing has moved for `timeout`, or the credentials that opened it
/// end.
pub(super) async fn run(shard: &Shard, client: &Stream, lease: Lease, timeout: Duration, ends_unix_s: Option<u64>) {
    let _open = OpenTunnel::new(shard);
    let origin = lease.stream();
    let direction = || Pump::new(BodyReader::raw(), Encoding::Plain, None, timeout);
    let (mut up, mut down) = (direction(), direction());
    let (mut moved_before, mut ended) = (u64::MAX, [false; 2]);
    let left = ends_unix_s.map(|ends| Duration::from_secs(ends.saturating_sub(shard.unix_s())));
    let mut end = pin!(left.map(|left| shard.net.sleep(left)));
    poll_fn(|cx| {
        if end.as_mut().as_pin_mut().is_some_and(|end| end.poll(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        let buffers = shard.net.buffers();
        if up.poll(cx, client, origin, buffers)?.is_ready() && !pass_on_end(cx, origin, &mut ended[0])? {
            return Poll::Pending;
        }
        if down.poll(cx, origin, client, buffers)?.is_ready() && !pass_on_end(cx, client, &mut ended[1])? {
            return Poll::Pending;
        }
        if ended == [true; 2] || shard.stage() >= Stage::Cut {
            return Poll::Ready(Ok::<(), crate::exchange::PumpError>(()));
        }
        let moved = up.bytes() + down.bytes();
        if moved != moved_before {
            moved_before = moved;
            client.set_recv_deadline(Some(timeout));
            origin.set_recv_deadline(Some(timeout));
        }
        Poll::Pending
    })
    .await
    .ok(); // a broken tunnel ends like a finished one: both sides are closed
}

/// Ends our side towards `to` once it has taken everything; true when that is done.
fn pass_on_end(cx: &mut std::task::Context<'_>, to: &Stream, ended: &mut bool) -> std::io::Result<bool> {
    if !*ended {
        match to.poll_room(cx, 0) {
            Poll::Ready(flushed) => flushed?,
            Poll::Pending => return Ok(false),
        }
        to.end_sending();
        *ended = true;
    }
    Ok(true)
}

struct OpenTunnel<'a>(&'a Shard);

impl<'a> OpenTunnel<'a> {
    fn new(shard: &'a Shard) -> OpenTunnel<'a> {
        add(&shard.meters.core.tunnels_open, 1);
        OpenTunnel(shard)
    }
}

impl Drop for OpenTunnel<'_> {
    fn drop(&mut self) {
        sub(&self.0.meters.core.tunnels_open, 1);
    }
}
