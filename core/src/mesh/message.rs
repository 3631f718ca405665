//! The words of the mesh: what control tells shards, what shards tell control and each other. Not what they do on them.
//!
//! Generic over what the words carry, so that the mesh stays below the rooms that own those types: `P` a plan, `R` news
//! of a name's addresses, `S` a meters snapshot.

use crate::mesh::policy::{Message, Policy};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

#[derive(Debug)]
pub enum ToShard<P, R> {
    /// First phase of an adoption: get ready to serve by `plan`, change nothing yet, answer `Ack`.
    Prepare {
        generation: u64,
        plan: Arc<P>,
    },
    /// Second phase, after every core acked: serve by it from the next request on, answer `Committed`.
    Commit {
        generation: u64,
    },
    /// Some core could not: forget it, give the plan back by `Retired`.
    Abort {
        generation: u64,
    },
    /// A fresh connection that core `from` accepted and this one shall serve. `listener` is the plan's index.
    Accepted {
        socket: OwnedFd,
        listener: u32,
        peer: SocketAddr,
        from: usize,
    },
    /// A scrape: answer `Meters` with the same `ask`.
    Meters {
        ask: u64,
    },
    Drain(DrainStep),
    Resolved(R),
    /// Work of this number, which the shard gave to the workers, is done.
    Worked(u32),
}

/// How a shard winds down. The steps come in this order; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainStep {
    /// Accept what the kernel has queued, then close the listening sockets.
    CloseListeners,
    /// Say `Connection: close` on every answer from now on and close idle connections; answer `Drained` when none is
    /// left.
    LastAnswers,
    /// The deadline: cut what is left, answer `Drained` with how many that were.
    Cut,
}

#[derive(Debug)]
pub enum ToControl<P, S> {
    /// The answer to `Prepare`. `error` is why this core cannot serve by that plan.
    Ack {
        core: usize,
        generation: u64,
        error: Option<String>,
    },
    /// The answer to `Commit`. The plan that was served before is freed by the control thread: freeing a large one
    /// would stall the shard. None on a core's first plan.
    Committed {
        core: usize,
        generation: u64,
        retired: Option<Arc<P>>,
    },
    /// A plan that was prepared and aborted, or that a tunnel held on to until now.
    Retired {
        core: usize,
        plan: Arc<P>,
    },
    Meters {
        core: usize,
        ask: u64,
        snapshot: Box<S>,
    },
    /// `open` connections were left at that moment: 0, or what `DrainStep::Cut` cut.
    Drained {
        core: usize,
        open: usize,
    },
    /// A filter held the core's loop for this long.
    Held {
        core: usize,
        filter: &'static str,
        route: String,
        held_ns: u64,
    },
    /// Something that an operator should know of has changed.
    Notice {
        core: usize,
        notice: Notice,
    },
    /// The core's loop did not turn for this long.
    Stalled {
        core: usize,
        lag_ns: u64,
    },
}

/// A change for the better or the worse. Several cores may see the same; it is said once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What has changed.
    pub subject: String,
    /// It is in order now.
    pub well: bool,
    /// What is said of it.
    pub text: String,
}

impl<P: Send + Sync + 'static, R: Send + 'static> Message for ToShard<P, R> {
    fn policy(&self) -> Policy {
        match self {
            // The acceptor still holds the client then, and serves it itself.
            ToShard::Accepted { .. } => Policy::DropAndCount,
            // Only the newest question wants an answer.
            ToShard::Meters { .. } => Policy::Coalesce,
            _ => Policy::RetryLater,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            ToShard::Prepare { .. } => "prepare",
            ToShard::Commit { .. } => "commit",
            ToShard::Abort { .. } => "abort",
            ToShard::Accepted { .. } => "accepted",
            ToShard::Meters { .. } => "meters_ask",
            ToShard::Drain(_) => "drain",
            ToShard::Resolved(_) => "resolved",
            ToShard::Worked(_) => "worked",
        }
    }
}

impl<P: Send + Sync + 'static, S: Send + 'static> Message for ToControl<P, S> {
    fn policy(&self) -> Policy {
        match self {
            ToControl::Meters { .. } => Policy::Coalesce,
            ToControl::Stalled { .. } | ToControl::Held { .. } => Policy::DropAndCount,
            _ => Policy::RetryLater,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            ToControl::Ack { .. } => "ack",
            ToControl::Committed { .. } => "committed",
            ToControl::Retired { .. } => "retired",
            ToControl::Meters { .. } => "meters",
            ToControl::Drained { .. } => "drained",
            ToControl::Notice { .. } => "notice",
            ToControl::Stalled { .. } => "stalled",
            ToControl::Held { .. } => "held",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Shard = ToShard<Vec<u8>, u8>;
    type Control = ToControl<Vec<u8>, u8>;

    #[test]
    fn an_adoption_is_never_dropped_and_a_scrape_never_piles_up() {
        let plan = Arc::new(Vec::new());
        assert_eq!(Shard::Prepare { generation: 1, plan: plan.clone() }.policy(), Policy::RetryLater);
        assert_eq!(Shard::Commit { generation: 1 }.policy(), Policy::RetryLater);
        assert_eq!(Shard::Abort { generation: 1 }.policy(), Policy::RetryLater);
        assert_eq!(Control::Committed { core: 0, generation: 1, retired: Some(plan) }.policy(), Policy::RetryLater);
        assert_eq!(Shard::Meters { ask: 1 }.policy(), Policy::Coalesce);
        assert_eq!(Control::Meters { core: 0, ask: 1, snapshot: Box::new(0) }.policy(), Policy::Coalesce);
    }

    #[test]
    fn a_socket_that_cannot_be_handed_off_comes_back() {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let accepted =
            Shard::Accepted { socket: socket.into(), listener: 0, peer: "127.0.0.1:1".parse().unwrap(), from: 0 };
        assert_eq!(accepted.policy(), Policy::DropAndCount);
    }

    #[test]
    fn drain_steps_are_ordered() {
        assert!(DrainStep::CloseListeners < DrainStep::LastAnswers && DrainStep::LastAnswers < DrainStep::Cut);
    }
}
