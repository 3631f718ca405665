//! The client's side: one task per connection, which reads requests, lets the pipeline serve them and sends what comes
//! of it. Does not accept connections (`listen`).

mod h1;
mod tunnel;

use std::net::SocketAddr;
use std::rc::Rc;

pub use h1::serve;

use crate::observe::core_meters::{add, sub};
use crate::shard::Shard;

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
