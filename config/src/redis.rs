//! What the operator writes of a Redis, a cluster of them or a single one. What must fit together is `check`'s.

use crate::bounded::{Int, Time};
use crate::decode::{List, Word, choice, document};
use crate::document::{DAY_MS, Timeout};
use crate::problem::{Fault, quoted};
use crate::snapshot::{EndpointAddress, ReadFrom, Secret};

pub(crate) const NODES_MAX: usize = 64;
const WORD_BYTES_MAX: usize = 1024;

document! {
    /// A Redis Cluster, or a single server, that gateways share. Every core has connections of its own to every node, one
    /// for as long as that keeps up: commands do not wait for each other's answers (pipelining). Numbers are of the whole
    /// process and each core has its part, rounded up: with `active_max = 500` and 4 cores, 125 each.
    struct Redis {
        /// Where the cluster is first asked for all its nodes; any of them will do: ["10.0.0.1:6379", "redis.internal:6379"].
        /// Names are resolved again and again, as those of endpoints are.
        nodes: List<RedisNode, NODES_MAX>;
        /// Unset is Redis's `default`.
        username: Option<RedisUser>;
        /// "file:/run/secrets/redis" or "env:NAME"; read again at each reload.
        password: Option<Secret>;
        /// For a command, with all waits and further tries.
        timeout: Timeout = "50ms";
        /// To a connection that is open, has authenticated and may be used.
        connect_timeout: Timeout = "500ms";
        /// Commands under way to one node, sent and not answered yet.
        active_max: Int<1, 1000000> = 500;
        /// Beyond `active_max` a command waits, for as long as its timeout allows; false refuses it at once.
        wait: bool = true;
        /// Commands that wait for one node: beyond `active_max`, or while it is being connected to. Further ones are refused
        /// at once.
        queue_max: Int<1, 1000000> = 5000;
        /// Connections to one node that stay open while they have nothing to do.
        idle_max: Int<1, 10000> = 100;
        /// A connection with nothing to do is closed after so long. Keep it below the server's own `timeout`.
        idle_timeout: Timeout = "240s";
        /// Where reads go; writes and functions always go to masters. A replica may not know yet what was written last.
        read_from: ReadFrom = "master";
        /// How often the cluster is asked for its nodes when nothing has gone wrong.
        refresh: Time<100, DAY_MS> = "30s";
        /// Its nodes may drop keys when their memory is full, as a cache should. With false a node whose maxmemory-policy is
        /// not `noeviction` is reported: limits that it drops begin anew.
        evicts: bool = false;
    }
}

choice!(ReadFrom { "master" => Self::Master, "replica" => Self::Replica });

/// A server over TCP: the nodes of a cluster name each other by address and port.
#[derive(Debug)]
pub(crate) struct RedisNode(pub(crate) EndpointAddress);

impl Word for RedisNode {
    const SHAPE: &'static str = "\"ADDRESS:PORT\" | \"NAME:PORT\"";
    const EXAMPLE: &'static str = "\"10.0.0.1:6379\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        match EndpointAddress::parse(text)? {
            EndpointAddress::Unix(_) => Err(Fault::new("a unix socket leads to no cluster")
                .cure("write an address and port, such as \"127.0.0.1:6379\"")),
            address => Ok(Self(address)),
        }
    }
}

/// A user of Redis's access lists.
#[derive(Debug)]
pub(crate) struct RedisUser(pub(crate) String);

impl Word for RedisUser {
    const SHAPE: &'static str = "user name";

    fn parse(text: &str) -> Result<Self, Fault> {
        if (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte > b' ' && byte != 0x7f) {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(format!("{} is no name of a user", quoted(text))).cure("it has no spaces, and is not empty"))
    }
}
