//! Sockets, buffers, time and tasks of one core, over io_uring or epoll. Nothing here knows HTTP, and nothing above
//! this room knows which engine runs.
//!
//! The rules that make cancelling safe: every buffer in the kernel belongs to the reactor until its completion, so
//! any future may be dropped at any time; what a socket has received waits in the socket, so dropping a read loses
//! nothing; a dropped stream is cancelled and closed by the reactor.

mod address;
mod buffers;
mod clock;
mod epoll;
mod exec;
#[cfg(feature = "failpoints")]
pub mod failpoint;
mod provided;
mod reactor;
mod sleep;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod uring;
mod wheel;

pub use address::{Address, Peer};
pub use buffers::{Buffers, Chunk, Room};
pub use exec::{alive, panics, spawn, wake_all};
pub use reactor::{EngineKind, Net, NetLimits, Turn};
pub use sleep::Sleep;
pub use stream::{Acceptor, Stream, Watch};
pub use uring::probe;
