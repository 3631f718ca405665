//! The client's side: one task per connection, which reads requests, lets the pipeline serve them and sends what comes
//! of it. Does not accept connections (`listen`).

mod h1;
pub mod relay;
pub mod reply;
mod tunnel;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

pub use h1::serve;

use crate::observe::core_meters::{add, sub};
use crate::shard::Shard;
use crate::upstream::Lease;

/// A listener as its connections on this core see it. Lives across reloads.
pub struct Listening {
    pub name: String,
    /// Its index in the plan that serves now; `None` once it is gone.
    pub index: Cell<Option<u32>>,
}

/// A client's connection.
pub struct Connection {
    pub peer: SocketAddr,
    pub local_port: u16,
    pub listening: Rc<Listening>,
    /// Requests served so far.
    pub requests: Cell<u64>,
}

/// What happens to the connection once an answer has been sent.
pub enum After {
    KeepAlive,
    /// Everything was read: an ordinary close.
    Close,
    /// The client may still be sending: closing at once would reset the connection and could destroy the answer before
    /// the client has read it (RFC 9112 9.6).
    Linger,
    /// The answer is not whole and must not look it.
    Reset,
    /// Another protocol from here on.
    Tunnel(Box<Lease>),
}

/// Counts a connection for as long as it lives.
pub struct Counted {
    shard: Rc<Shard>,
    peer: SocketAddr,
}

impl Counted {
    /// `None`: a limit is reached, and counted as such.
    pub fn new(shard: &Rc<Shard>, peer: SocketAddr, per_ip_max: usize) -> Option<Counted> {
        let core = &shard.meters.core;
        if core.connections_open.get() >= shard.limits.connections_max as u64 {
            add(&core.rejected_core_limit, 1);
            return None;
        }
        if !shard.count_ip(peer.ip(), per_ip_max) {
            add(&core.rejected_ip_limit, 1);
            return None;
        }
        add(&core.connections_open, 1);
        add(&core.connections_total, 1);
        shard.gauge.opened();
        Some(Counted { shard: shard.clone(), peer })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shard.forget_ip(self.peer.ip());
        sub(&self.shard.meters.core.connections_open, 1);
        self.shard.gauge.closed();
    }
}
