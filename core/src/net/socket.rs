//! What the reactor knows of one file descriptor: what came in, what goes out, who waits, until when.
//! Plain state; the engines (`uring`, `epoll`) move it, `stream` is its public face.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;

use super::buffers::{Buffers, Chunk};

/// Received bytes that may wait in a socket before reading from it pauses.
pub(super) const RECEIVED_BYTES_MAX: usize = 128 * 1024;
/// Pieces of one vectored send.
pub(super) const PIECES_PER_SEND_MAX: usize = 16;

/// Slot and generation of an entry in the reactor's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub slot: u32,
    pub generation: u32,
}

/// A connection.
pub(super) struct Socket {
    pub fd: RawFd,
    pub key: Cell<Key>,
    pub rx: RefCell<Rx>,
    pub tx: RefCell<Tx>,
    /// Kernel operations that still refer to this socket (io_uring only).
    pub in_flight: Cell<u32>,
    /// The stream is gone; the entry goes with the last operation.
    pub closing: Cell<bool>,
    /// Milliseconds of the reactor's clock; `NEVER` if none.
    pub recv_deadline: Cell<u64>,
    pub send_deadline: Cell<u64>,
    /// When the wheel will look at this socket next; `NEVER` if it will not.
    pub wheel_at: Cell<u64>,
}

pub(super) const NEVER: u64 = u64::MAX;

/// The receiving side.
#[derive(Default)]
pub(super) struct Rx {
    pub first: Option<Chunk>,
    pub rest: VecDeque<Chunk>,
    pub bytes: usize,
    /// io_uring: a multishot receive is armed. epoll: the socket may be readable.
    pub armed: bool,
    /// io_uring: the armed receive is being cancelled, because too much waits.
    pub pausing: bool,
    pub ended: bool,
    pub failed: Option<i32>,
    pub waker: Option<Waker>,
}

/// The sending side. `op` exists only while something is to be sent.
#[derive(Default)]
pub(super) struct Tx {
    pub op: Option<Box<SendOp>>,
    pub in_flight: bool,
    pub queued_bytes: usize,
    pub failed: Option<i32>,
    pub waker: Option<Waker>,
    /// A connect is under way; sends wait for it.
    pub connecting: bool,
    /// The end of our side follows at once: the kernel may put it into the same segment.
    pub last: bool,
}

/// Bytes to be sent, owned until the kernel has taken them.
pub(super) enum Piece {
    Buffer(Vec<u8>),
    Chunk(Chunk),
    Static(&'static [u8]),
}

/// The memory of one send: what the kernel reads while it is in flight.
pub(super) struct SendOp {
    /// Everything to be sent, in order. The first `loaded` are in flight, of which `skip` bytes have been taken.
    /// Pieces may move while they are in flight (the queue grows); the bytes that the kernel reads stay where they are.
    pieces: VecDeque<Piece>,
    loaded: usize,
    skip: usize,
    pub vectors: [libc::iovec; PIECES_PER_SEND_MAX],
    pub message: libc::msghdr,
    pub connect: Option<socket2::SockAddr>,
}

impl Piece {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Piece::Buffer(bytes) => bytes,
            Piece::Chunk(chunk) => chunk,
            Piece::Static(bytes) => bytes,
        }
    }
}

impl SendOp {
    pub fn new() -> Box<SendOp> {
        Box::new(SendOp {
            pieces: VecDeque::with_capacity(PIECES_PER_SEND_MAX),
            loaded: 0,
            skip: 0,
            vectors: [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES_PER_SEND_MAX],
            // SAFETY: all zeroes is a valid msghdr: null pointers with zero lengths.
            message: unsafe { std::mem::zeroed() },
            connect: None,
        })
    }

    pub fn push(&mut self, piece: Piece) {
        self.pieces.push_back(piece);
    }

    /// Chooses what goes next; false when nothing is left to send.
    pub fn load(&mut self) -> bool {
        if self.loaded == 0 {
            self.loaded = self.pieces.len().min(PIECES_PER_SEND_MAX);
        }
        self.loaded > 0
    }

    /// Points `message` at what is left of the loaded pieces; true if one vector is enough (`vectors[0]`).
    pub fn prepare(&mut self) -> bool {
        let mut skip = self.skip;
        let mut count = 0;
        for piece in self.pieces.iter().take(self.loaded) {
            let bytes = piece.bytes();
            if skip >= bytes.len() {
                skip -= bytes.len();
                continue;
            }
            let left = &bytes[skip..];
            skip = 0;
            self.vectors[count] = libc::iovec { iov_base: left.as_ptr().cast_mut().cast(), iov_len: left.len() };
            count += 1;
        }
        self.message.msg_iov = self.vectors.as_mut_ptr();
        self.message.msg_iovlen = count;
        count == 1
    }

    /// Notes that the kernel took `sent` bytes; true when all that was loaded is gone (and its buffers are returned).
    pub fn taken(&mut self, sent: usize, buffers: &Buffers) -> bool {
        self.skip += sent;
        let total: usize = self.pieces.iter().take(self.loaded).map(|piece| piece.bytes().len()).sum();
        if self.skip < total {
            return false;
        }
        self.discard(self.loaded, buffers);
        true
    }

    /// Returns the buffers of everything that is left.
    pub fn discard_all(&mut self, buffers: &Buffers) {
        self.discard(self.pieces.len(), buffers);
    }

    fn discard(&mut self, count: usize, buffers: &Buffers) {
        self.loaded = 0;
        self.skip = 0;
        for _ in 0..count {
            if let Some(Piece::Buffer(buffer)) = self.pieces.pop_front() {
                buffers.give_back(buffer);
            }
        }
    }
}

impl Socket {
    pub fn new(fd: OwnedFd) -> Rc<Socket> {
        use std::os::fd::IntoRawFd;
        Rc::new(Socket {
            fd: fd.into_raw_fd(),
            key: Cell::new(Key { slot: u32::MAX, generation: 0 }),
            rx: RefCell::new(Rx::default()),
            tx: RefCell::new(Tx::default()),
            in_flight: Cell::new(0),
            closing: Cell::new(false),
            recv_deadline: Cell::new(NEVER),
            send_deadline: Cell::new(NEVER),
            wheel_at: Cell::new(NEVER),
        })
    }

    pub fn wake_rx(&self) {
        let waker = self.rx.borrow_mut().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn wake_tx(&self) {
        let waker = self.tx.borrow_mut().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Rx {
    pub fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.len();
        if self.first.is_none() && self.rest.is_empty() {
            self.first = Some(chunk);
        } else {
            self.rest.push_back(chunk);
        }
    }

    pub fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.first.take().or_else(|| self.rest.pop_front())?;
        self.bytes -= chunk.len();
        Some(chunk)
    }

    pub fn unread(&mut self, chunk: Chunk) {
        self.bytes += chunk.len();
        if let Some(first) = self.first.replace(chunk) {
            self.rest.push_front(first);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }
}

/// A listening socket.
pub(super) struct Accept {
    pub fd: RawFd,
    pub key: Cell<Key>,
    pub queue: RefCell<VecDeque<io::Result<OwnedFd>>>,
    pub armed: Cell<bool>,
    pub in_flight: Cell<u32>,
    pub closing: Cell<bool>,
    pub waker: RefCell<Option<Waker>>,
}

/// Some other descriptor (an eventfd) that becomes readable.
pub(super) struct Readable {
    pub fd: RawFd,
    pub key: Cell<Key>,
    pub ready: Cell<bool>,
    pub armed: Cell<bool>,
    pub in_flight: Cell<u32>,
    pub closing: Cell<bool>,
    pub waker: RefCell<Option<Waker>>,
}

/// An entry of the reactor's table.
#[derive(Clone)]
pub(super) enum Entry {
    Free,
    Socket(Rc<Socket>),
    Accept(Rc<Accept>),
    Readable(Rc<Readable>),
}
