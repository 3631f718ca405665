//! The gateway's clients, as connections on the load's ring: open, ask, check the answer, say what happened. When to
//! ask is the business of `closed` and `open`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use socket2::SockAddr;

use crate::access;
use crate::http::{Answer, AnswerScan, Broken};
use crate::ring::{Event, Ring, Side, shut, tcp_socket};

const SIDE: Side = Side::Client;
/// What one upload carries.
pub const UPLOAD_BYTES: usize = 1024 * 1024;
/// The gateway's own fixed answer in every peer's configuration.
pub const LOCAL_PATH: &str = "/local";
pub const LOCAL_BYTES: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    KeepAlive,
    /// `Connection: close` on each request; a connection counts as over when the gateway has closed it.
    Close,
    /// POST of `UPLOAD_BYTES` on a kept connection.
    Upload,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::KeepAlive, Self::Close, Self::Upload];

    /// As written on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::KeepAlive => "keepalive",
            Self::Close => "close",
            Self::Upload => "upload",
        }
    }
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mode = Self::ALL.into_iter().find(|mode| mode.word() == text);
        mode.ok_or_else(|| format!("`{text}` is none of keepalive, close, upload"))
    }
}

#[derive(Debug)]
pub enum Outcome {
    /// A checked answer to what was asked at (or planned for) `started`.
    Answered { fd: RawFd, started: Instant },
    /// A connection is gone as it should.
    Closed,
    /// A connection is gone though it should not; what it had been asked then, if anything, has no answer.
    Failed { asked: Option<Instant>, why: Option<Broken> },
}

pub struct Clients {
    to: &'static SockAddr,
    request: &'static [u8],
    body_bytes: usize,
    mode: Mode,
    connections: Vec<Option<Connection>>,
}

struct Connection {
    socket: socket2::Socket,
    scan: AnswerScan,
    /// When the unanswered request was sent or should have been.
    asked: Option<Instant>,
    sends: u32,
    broken: Option<Broken>,
    answered: bool,
    ended: bool,
}

impl Clients {
    pub fn new(port: u16, path: &str, mode: Mode, with_token: bool) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let body_bytes = if path == LOCAL_PATH { LOCAL_BYTES } else { Answer::of_path(path.as_bytes()).body_bytes() };
        Self {
            to: Box::leak(Box::new(SockAddr::from(address))),
            request: request(address, path, mode, with_token).leak(),
            body_bytes,
            mode,
            connections: Vec::new(),
        }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Opens a connection and asks at once.
    pub fn open(&mut self, ring: &mut Ring, started: Instant) -> io::Result<()> {
        let socket = tcp_socket()?;
        let fd = socket.as_raw_fd();
        self.keep(socket, Some(started));
        ring.connect_send_receive(SIDE, fd, self.to, self.request);
        Ok(())
    }

    /// Opens a connection that waits to be asked.
    pub fn open_idle(&mut self, ring: &mut Ring) -> io::Result<RawFd> {
        let socket = tcp_socket()?;
        socket.connect(self.to)?;
        let fd = socket.as_raw_fd();
        self.keep(socket, None);
        ring.receive(SIDE, fd);
        Ok(fd)
    }

    fn keep(&mut self, socket: socket2::Socket, asked: Option<Instant>) {
        let fd = socket.as_raw_fd() as usize;
        if self.connections.len() <= fd {
            self.connections.resize_with(fd + 1, || None);
        }
        let (scan, sends) = (AnswerScan::new(self.body_bytes), u32::from(asked.is_some()));
        let connection = Connection { socket, scan, asked, sends, broken: None, answered: false, ended: false };
        self.connections[fd] = Some(connection);
    }

    /// Asks on a kept connection. False if it is gone, which an outcome has said or will.
    pub fn ask(&mut self, ring: &mut Ring, fd: RawFd, started: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(fd as usize).and_then(Option::as_mut) else { return false };
        if connection.ended || connection.broken.is_some() {
            return false;
        }
        connection.asked = Some(started);
        connection.sends += 1;
        ring.send(SIDE, fd, self.request);
        true
    }

    pub fn on(&mut self, ring: &mut Ring, event: Event) -> Option<Outcome> {
        match event {
            // Clients do not listen.
            Event::Accepted { .. } => None,
            Event::Received { fd, chunk, .. } => {
                let outcome = self.check(ring.bytes(&chunk), fd);
                ring.release(chunk);
                outcome
            }
            Event::Sent { fd, .. } => {
                let connection = self.connections.get_mut(fd as usize)?.as_mut()?;
                connection.sends -= 1;
                self.end(fd)
            }
            Event::Ended { fd, .. } => {
                self.connections.get_mut(fd as usize)?.as_mut()?.ended = true;
                self.end(fd)
            }
        }
    }

    fn check(&mut self, bytes: &[u8], fd: RawFd) -> Option<Outcome> {
        let connection = self.connections.get_mut(fd as usize)?.as_mut()?;
        if connection.broken.is_some() {
            return None;
        }
        let result = if connection.asked.is_some() { connection.scan.feed(bytes) } else { Err(Broken::Surplus) };
        match result {
            Ok(false) => None,
            Ok(true) => {
                connection.answered = true;
                connection.asked.take().map(|started| Outcome::Answered { fd, started })
            }
            Err(broken) => {
                connection.broken = Some(broken);
                shut(&connection.socket);
                None
            }
        }
    }

    /// Drops the connection once the ring knows nothing of it any more.
    fn end(&mut self, fd: RawFd) -> Option<Outcome> {
        let connection =
            self.connections[fd as usize].take_if(|connection| connection.ended && connection.sends == 0)?;
        let as_planned = self.mode == Mode::Close && connection.answered && connection.broken.is_none();
        Some(match as_planned {
            true => Outcome::Closed,
            false => Outcome::Failed { asked: connection.asked, why: connection.broken },
        })
    }
}

fn request(to: SocketAddr, path: &str, mode: Mode, with_token: bool) -> Vec<u8> {
    let (method, mut fields) = match mode {
        Mode::KeepAlive => ("GET", String::new()),
        Mode::Close => ("GET", "Connection: close\r\n".to_owned()),
        Mode::Upload => ("POST", format!("Content-Length: {UPLOAD_BYTES}\r\n")),
    };
    if with_token {
        fields += &access::fields();
    }
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\n{fields}\r\n").into_bytes();
    if mode == Mode::Upload {
        bytes.resize(bytes.len() + UPLOAD_BYTES, b'u');
    }
    bytes
}
