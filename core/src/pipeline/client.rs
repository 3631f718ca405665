//! What an exchange needs to know of the client's connection, and what it says shall become of it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use ringway_proto::write_ip;

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
    /// The peer's address as it stands in `X-Forwarded-For`.
    pub peer_text: Box<[u8]>,
    pub local_port: u16,
    pub listening: Rc<Listening>,
    /// Requests served so far.
    pub requests: Cell<u64>,
}

impl Connection {
    pub fn new(peer: SocketAddr, local_port: u16, listening: Rc<Listening>) -> Connection {
        let mut peer_text = Vec::new();
        write_ip(&mut peer_text, peer.ip());
        Connection { peer, peer_text: peer_text.into(), local_port, listening, requests: Cell::new(0) }
    }
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
