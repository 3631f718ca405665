//! The origin that gateways are measured against: fixed answers, as cheap as possible, on the ring it shares with the
//! load. The origin that misbehaves on purpose lives with the end-to-end tests.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::http::{Answer, RequestScan};
use crate::ring::{Event, Ring, Side, listen, shut};

const SIDE: Side = Side::Origin;
/// Where it answers, each on the same port: endpoints for gateways that are to choose.
pub const ADDRESSES: [Ipv4Addr; 3] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
/// Answers owed to one connection; a client that pipelines more without reading is cut.
const QUEUE_MAX: usize = 1024;

pub struct Origin {
    /// Kept open for the accepts that run on it.
    _listeners: Vec<socket2::Socket>,
    answers: Answers,
    connections: Vec<Option<Connection>>,
}

impl Origin {
    pub fn listen(ring: &mut Ring, addresses: &[Ipv4Addr], port: u16) -> io::Result<Self> {
        let listeners = addresses.iter().map(|&address| listen(address, port)).collect::<io::Result<Vec<_>>>()?;
        listeners.iter().for_each(|listener| ring.accept(SIDE, listener.as_raw_fd()));
        Ok(Self { _listeners: listeners, answers: Answers::build(), connections: Vec::new() })
    }

    pub fn on(&mut self, ring: &mut Ring, event: Event) {
        match event {
            Event::Accepted { socket, .. } => self.admit(ring, socket),
            Event::Received { fd, chunk, .. } => {
                if let Some(connection) = self.connection(fd) {
                    let scan = &mut connection.scan;
                    let queue = &mut connection.queue;
                    let result = scan.feed(ring.bytes(&chunk), |request| queue.push_back(request));
                    if result.is_err() || queue.len() > QUEUE_MAX {
                        shut(&connection.socket);
                    }
                }
                ring.release(chunk);
                self.go_on(ring, fd);
            }
            Event::Sent { fd, ok, .. } => {
                if let Some(connection) = self.connection(fd) {
                    connection.sending = false;
                    if !ok || (connection.last && connection.queue.is_empty()) {
                        shut(&connection.socket);
                    }
                }
                self.go_on(ring, fd);
            }
            Event::Ended { fd, .. } => {
                if let Some(connection) = self.connection(fd) {
                    connection.ended = true;
                    connection.queue.clear();
                }
                self.go_on(ring, fd);
            }
        }
    }

    fn admit(&mut self, ring: &mut Ring, socket: OwnedFd) {
        let fd = socket.as_raw_fd();
        if self.connections.len() <= fd as usize {
            self.connections.resize_with(fd as usize + 1, || None);
        }
        self.connections[fd as usize] = Some(Connection::new(socket));
        ring.receive(SIDE, fd);
    }

    fn connection(&mut self, fd: RawFd) -> Option<&mut Connection> {
        self.connections.get_mut(fd as usize)?.as_mut()
    }

    /// Sends the next answer, one at a time so that pipelined ones keep their order, or closes what is over.
    fn go_on(&mut self, ring: &mut Ring, fd: RawFd) {
        let Some(slot) = self.connections.get_mut(fd as usize) else { return };
        let Some(connection) = slot.as_mut().filter(|connection| !connection.sending) else { return };
        if connection.ended {
            *slot = None;
        } else if let Some(request) = connection.queue.pop_front() {
            connection.sending = true;
            connection.last |= request.close;
            ring.send(SIDE, fd, self.answers.bytes(request.answer, request.close));
        }
    }
}

struct Connection {
    socket: OwnedFd,
    scan: RequestScan,
    queue: VecDeque<crate::http::Request>,
    sending: bool,
    /// The request being answered asked to close.
    last: bool,
    ended: bool,
}

impl Connection {
    fn new(socket: OwnedFd) -> Self {
        let (scan, queue) = (RequestScan::default(), VecDeque::new());
        Self { socket, scan, queue, sending: false, last: false, ended: false }
    }
}

/// Every answer in both endings, built once and kept for the life of the process.
struct Answers {
    keep: [&'static [u8]; Answer::ALL.len()],
    close: [&'static [u8]; Answer::ALL.len()],
}

impl Answers {
    fn build() -> Self {
        let build = |close| Answer::ALL.map(|answer| &*answer.bytes(close).leak());
        Self { keep: build(false), close: build(true) }
    }

    fn bytes(&self, answer: Answer, close: bool) -> &'static [u8] {
        if close { self.close[answer as usize] } else { self.keep[answer as usize] }
    }
}
