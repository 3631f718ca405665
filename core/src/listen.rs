//! Accepting: each core from its own sockets (`sockets` makes them). Which core serves a connection is decided here;
//! what happens on it is `conn`'s.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ringway_config::snapshot::Steering;
use socket2::{SockFilter, SockRef};

use crate::conn::{self, Counted};
use crate::mesh::{Sent, ToShard};
use crate::net::{Acceptor, Net, spawn};
use crate::observe::core_meters::add;
use crate::observe::say;
use crate::pipeline::{Connection, Listening};
use crate::shard::{Shard, Stage};
use crate::sockets::NewSocket;

/// How long a core accepts nothing after it ran out of descriptors or memory: long enough not to spin, short enough
/// not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A closing socket that takes no new handshake is empty once this long nothing was accepted from it: several times
/// what the last step of a handshake takes, and the kernel's first SYN-ACK retransmission.
const CLOSING_QUIET: Duration = Duration::from_millis(1200);
/// One listening socket while its core accepts from it.
pub struct Accepting {
    pub listening: Rc<Listening>,
    pub address: SocketAddr,
    closing: Rc<Cell<bool>>,
    closed: Rc<Cell<bool>>,
}

impl Accepting {
    /// Starts to accept.
    ///
    /// # Errors
    /// The engine's, when the descriptor cannot be registered.
    pub fn start(shard: &Rc<Shard>, socket: NewSocket, listening: Rc<Listening>) -> io::Result<Accepting> {
        let acceptor = shard.net.listen(socket.fd)?;
        let (closing, closed) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let accepting = Accepting {
            listening: listening.clone(),
            address: socket.address,
            closing: closing.clone(),
            closed: closed.clone(),
        };
        let shard = shard.clone();
        let port = socket.address.port();
        spawn(async move {
            let _closed = SetOnDrop(closed);
            accept_until(&shard, &acceptor, &listening, port, &closing).await;
            close_without_loss(&shard, &acceptor, &listening, port).await;
        });
        Ok(accepting)
    }

    /// Begins to close; the caller wakes the core's tasks.
    pub fn close(&self) {
        self.closing.set(true);
    }

    /// True once the socket is gone and nothing that the kernel had queued was lost.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }
}

struct SetOnDrop(Rc<Cell<bool>>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

async fn accept_until(
    shard: &Rc<Shard>,
    acceptor: &Acceptor,
    listening: &Rc<Listening>,
    port: u16,
    closing: &Cell<bool>,
) {
    loop {
        let accepted = poll_fn(|cx| match acceptor.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending if closing.get() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        match accepted.await {
            Some(Ok(fd)) => welcome(shard, fd, listening, port),
            Some(Err(error)) => note_failure(shard, &error).await,
            None => return,
        }
    }
}

/// The kernel keeps completed handshakes in the socket's queue and would reset them if it were closed. So new ones are
/// refused first, by a filter on the socket that drops SYN packets (their senders try again and find whoever listens
/// then, or nobody), and the queue is accepted until it stays empty.
async fn close_without_loss(shard: &Rc<Shard>, acceptor: &Acceptor, listening: &Rc<Listening>, port: u16) {
    if let Err(error) = drop_new_handshakes(acceptor) {
        say(&format!("core {}: {port}: closing without a SYN filter: {error}", shard.core));
    }
    loop {
        let mut quiet = shard.net.sleep(CLOSING_QUIET);
        let accepted = poll_fn(|cx| match acceptor.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => std::pin::Pin::new(&mut quiet).poll(cx).map(|()| None),
        });
        match accepted.await {
            Some(Ok(fd)) => welcome(shard, fd, listening, port),
            Some(Err(error)) => note_failure(shard, &error).await,
            None => return,
        }
    }
}

fn drop_new_handshakes(acceptor: &Acceptor) -> io::Result<()> {
    const FLAGS_BYTE: u32 = 13; // of the TCP header (RFC 9293 3.1), where the kernel's filter of a TCP socket begins
    const SYN: u32 = 0x02;
    const SYN_AND_ACK: u32 = 0x12;
    let op = |code: u32| code as u16;
    let program = [
        SockFilter::new(op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS), 0, 0, FLAGS_BYTE),
        SockFilter::new(op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K), 0, 0, SYN_AND_ACK),
        SockFilter::new(op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), 0, 1, SYN),
        SockFilter::new(op(libc::BPF_RET | libc::BPF_K), 0, 0, 0),
        SockFilter::new(op(libc::BPF_RET | libc::BPF_K), 0, 0, u32::MAX),
    ];
    SockRef::from(&acceptor.fd()).attach_filter(&program)
}

async fn note_failure(shard: &Shard, error: &io::Error) {
    let core = &shard.meters.core;
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => add(&core.accept_errors_fd_limit, 1),
        Some(libc::ENOBUFS | libc::ENOMEM) => add(&core.accept_errors_no_memory, 1),
        Some(libc::ECONNABORTED | libc::EPROTO | libc::EPERM) => return add(&core.accept_errors_aborted, 1),
        _ => add(&core.accept_errors_other, 1),
    }
    shard.net.sleep(ACCEPT_PAUSE).await;
}

/// Serves a fresh connection, here or on the core that has the fewest.
fn welcome(shard: &Rc<Shard>, fd: OwnedFd, listening: &Rc<Listening>, port: u16) {
    let Some(peer) = SockRef::from(&fd).peer_addr().ok().and_then(|peer| peer.as_socket()) else {
        return add(&shard.meters.core.accept_errors_aborted, 1); // reset before we looked
    };
    let Some(listener) = listening.index.get() else { return serve(shard, fd, peer, listening, port) };
    let steering = shard.adopted().plan.listeners[listener as usize].config.steering;
    let is_shared = steering == Steering::LeastLoaded && shard.stage() == Stage::Serving;
    let to = if is_shared { shard.gauge.least_loaded() } else { shard.core };
    if to == shard.core {
        return serve(shard, fd, peer, listening, port);
    }
    let message = ToShard::Accepted { socket: fd, listener, peer, from: shard.core };
    match shard.port.send(to, message) {
        Sent::Refused(ToShard::Accepted { socket, .. }) => serve(shard, socket, peer, listening, port),
        _ => {
            shard.gauge.handed_off(to);
            add(&shard.meters.core.handed_out, 1);
        }
    }
}

/// Starts to serve a connection on this core, if its limits allow.
pub fn serve(shard: &Rc<Shard>, fd: OwnedFd, peer: SocketAddr, listening: &Rc<Listening>, local_port: u16) {
    let per_ip_max = listening
        .index
        .get()
        .map_or(0, |index| shard.adopted().plan.listeners[index as usize].config.connections_per_ip_max);
    let Some(counted) = Counted::new(shard, peer, per_ip_max) else { return };
    let Ok(stream) = Net::adopt(&shard.net, fd) else {
        return add(&shard.meters.core.accept_errors_other, 1);
    };
    let connection = Connection::new(peer, local_port, listening.clone());
    spawn(conn::serve(shard.clone(), stream, connection, counted));
}
