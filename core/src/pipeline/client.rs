//! What an exchange needs to know of the client's connection, and what it says shall become of it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::exchange::PeerText;
use crate::shard::{Adopted, Shard};
use crate::upstream::Lease;

/// A listener as its connections on this core see it. Lives across reloads.
pub struct Listening {
    pub name: String,
    /// Its index in the plan that serves now; `None` once it is gone.
    pub index: Cell<Option<u32>>,
    /// The plan that had it last, for connections that the kernel had queued before it went.
    last: RefCell<Option<(Rc<Adopted>, u32)>>,
}

impl Listening {
    pub fn new(name: String, index: Option<u32>) -> Rc<Listening> {
        Rc::new(Listening { name, index: Cell::new(index), last: RefCell::default() })
    }

    /// Its place in a new plan. If it has none, it goes on with `before` for those who came in time.
    pub fn follow(&self, index: Option<u32>, before: &Rc<Adopted>) {
        if let (Some(old), None) = (self.index.get(), index) {
            self.last.replace(Some((before.clone(), old)));
        }
        self.index.set(index);
    }

    /// What a request on it is served by.
    pub fn plan(&self, shard: &Shard) -> Option<(Rc<Adopted>, u32)> {
        match self.index.get() {
            Some(index) => Some((shard.adopted(), index)),
            None => self.last.borrow().clone(),
        }
    }
}

/// What clients speak to us.
pub(super) const SCHEME: &str = "http";

/// A client's connection.
pub struct Connection {
    pub peer: SocketAddr,
    pub peer_text: PeerText,
    pub local_port: u16,
    pub listening: Rc<Listening>,
    /// Requests served so far.
    pub requests: Cell<u64>,
}

impl Connection {
    pub fn new(peer: SocketAddr, local_port: u16, listening: Rc<Listening>) -> Connection {
        let peer_text = PeerText::new(peer.ip(), local_port, SCHEME);
        Connection { peer, peer_text, local_port, listening, requests: Cell::new(0) }
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
    /// Another protocol from here on, to the origin of this lease; until then at most, if its credentials end.
    Tunnel(Box<(Lease, Option<u64>)>),
}
