//! Our own client of Redis, a cluster or a single server, on a core's own loop: every core has its connections, its table of
//! slots and its queues, and shares nothing. Pipelined: what the core's tasks ask for within a turn goes out in one
//! piece, and no command waits for another's answer. What is asked for is the business of who asks.
//!
//!     cluster ─► node ─► link ─► a server
//!        │        └ queue, connections of one server
//!        └ slots, kept up to date by keeper

mod call;
mod cluster;
mod error;
mod function;
mod hello;
mod inner;
mod keeper;
mod link;
mod node;
pub mod plan;
mod redirect;
mod slots;

pub use cluster::Cluster;
pub use error::{RedisError, Who};
pub use function::Library;
pub use plan::RedisPlan;
pub use ringway_proto::resp::Reply;
