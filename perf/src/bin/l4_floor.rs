//! The floor: bytes forwarded between two TCP connections by raw io_uring with every flag that helps, no HTTP at all.
//! What a gateway costs above this is its own doing; what it costs below is better batching.
//!
//! usage: l4_floor --port PORT --origin PORT

use std::collections::VecDeque;
use std::error::Error;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ringway_perf::ring::{Chunk, Event, Ring, Side, Wait, listen_default, shut};

/// Pieces held for a peer that does not read; more cuts the pair.
const HELD_MAX: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let mut flags = pico_args::Arguments::from_env();
    let port = flags.value_from_str("--port")?;
    let origin_port = flags.value_from_str("--origin")?;
    ringway_perf::no_flags_left(flags)?;
    let mut ring = Ring::new()?;
    let listener = listen_default(port)?;
    ring.accept(Side::Client, listener.as_raw_fd());
    println!("ready");
    let mut floor = Floor { origin_port, halves: Vec::new() };
    let mut events = Vec::new();
    loop {
        ring.turn(Wait::Forever, &mut events)?;
        for event in events.drain(..) {
            floor.on(&mut ring, event);
        }
    }
}

struct Floor {
    origin_port: u16,
    /// By file descriptor.
    halves: Vec<Option<Half>>,
}

/// One of two sockets that belong together.
struct Half {
    socket: OwnedFd,
    peer: RawFd,
    /// What came from the peer while a send was under way.
    held: VecDeque<Chunk>,
    sending: bool,
    ended: bool,
}

impl Floor {
    fn on(&mut self, ring: &mut Ring, event: Event) {
        match event {
            Event::Accepted { socket, .. } => self.pair(ring, socket),
            Event::Received { fd, chunk, .. } => self.pass_on(ring, fd, chunk),
            Event::Sent { fd, ok, .. } => self.sent(ring, fd, ok),
            Event::Ended { fd, .. } => self.ended(ring, fd),
        }
    }

    fn pair(&mut self, ring: &mut Ring, client: OwnedFd) {
        // Blocking: over loopback a connect is done when the call returns. A failed one drops the client.
        let Ok(origin) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.origin_port)) else { return };
        if origin.set_nodelay(true).is_err() {
            return;
        }
        let origin = OwnedFd::from(origin);
        let (client_fd, origin_fd) = (client.as_raw_fd(), origin.as_raw_fd());
        for (socket, peer) in [(client, origin_fd), (origin, client_fd)] {
            let fd = socket.as_raw_fd();
            if self.halves.len() <= fd as usize {
                self.halves.resize_with(fd as usize + 1, || None);
            }
            self.halves[fd as usize] = Some(Half { socket, peer, held: VecDeque::new(), sending: false, ended: false });
            ring.receive(Side::Client, fd);
        }
    }

    fn half(&mut self, fd: RawFd) -> Option<&mut Half> {
        self.halves.get_mut(fd as usize)?.as_mut()
    }

    fn pass_on(&mut self, ring: &mut Ring, from: RawFd, chunk: Chunk) {
        let peer = self.half(from).map(|half| half.peer);
        let Some((to, half)) = peer.and_then(|to| Some((to, self.half(to)?))) else { return ring.release(chunk) };
        if half.ended || half.held.len() >= HELD_MAX {
            shut(&half.socket);
            ring.release(chunk);
        } else if half.sending {
            half.held.push_back(chunk);
        } else {
            half.sending = true;
            ring.forward(Side::Client, to, chunk);
        }
    }

    fn sent(&mut self, ring: &mut Ring, fd: RawFd, ok: bool) {
        let Some(half) = self.half(fd) else { return };
        half.sending = false;
        if !ok {
            shut(&half.socket);
        }
        match half.held.pop_front() {
            Some(chunk) => {
                half.sending = true;
                ring.forward(Side::Client, fd, chunk);
            }
            None => self.settle(ring, fd),
        }
    }

    fn ended(&mut self, ring: &mut Ring, fd: RawFd) {
        let Some(half) = self.half(fd) else { return };
        half.ended = true;
        let peer = half.peer;
        self.settle(ring, peer);
        self.settle(ring, fd);
    }

    /// Ends a socket that has sent everything and whose peer is done, and forgets the pair once both have ended.
    fn settle(&mut self, ring: &mut Ring, fd: RawFd) {
        let Some(half) = self.half(fd).filter(|half| !half.sending) else { return };
        let (peer, ended) = (half.peer, half.ended);
        let Some(other) = self.half(peer) else { return };
        if !other.ended {
            return;
        }
        if !ended {
            let half = self.half(fd).map(|half| &half.socket);
            half.inspect(|socket| shut(*socket));
        } else if self.half(peer).is_some_and(|other| !other.sending) {
            for fd in [fd, peer] {
                if let Some(half) = self.halves[fd as usize].take() {
                    half.held.into_iter().for_each(|chunk| ring.release(chunk));
                }
            }
        }
    }
}
