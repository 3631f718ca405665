//! One thread's io_uring with a provided buffer ring: multishot accept and receive, sends, connects.
//! Everything in this crate that has to cost as little as the kernel allows runs on it. Knows no HTTP, no timers.
//!
//! The one rule of use: a socket is closed (its `OwnedFd` dropped) only after its `Ended` event and after `Sent` for
//! every send, because completions are addressed by file descriptor and the kernel reuses those at once.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::SockAddr;

const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 4 * SUBMISSIONS;
const BUFFERS: u16 = 2048; // a power of two, as the kernel wants
const BUFFER_BYTES: usize = 16 * 1024; // what gateways read at once, too
const BUFFER_GROUP: u16 = 0;
const PAGE_BYTES: usize = 4096;
const BACKLOG: i32 = 4096;

/// Whose socket an event is about, for the owner that several parties on one ring share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// Sockets that play the gateway's client.
    Client = 0,
    /// Sockets that play the gateway's origin.
    Origin = 1,
}

/// A part of the buffer ring that holds received bytes; it goes back by `Ring::release` or `Ring::forward`.
#[derive(Debug)]
pub struct Chunk {
    buffer: u16,
    len: u32,
}

#[derive(Debug)]
pub enum Event {
    Accepted {
        side: Side,
        socket: OwnedFd,
    },
    Received {
        side: Side,
        fd: RawFd,
        chunk: Chunk,
    },
    /// The peer closed, or reading failed: no further `Received` for this socket.
    Ended {
        side: Side,
        fd: RawFd,
    },
    /// A send is over; if not `ok` the socket is broken and its `Ended` comes or came.
    Sent {
        side: Side,
        fd: RawFd,
        ok: bool,
    },
}

/// How long a turn may wait when nothing is ready.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    Forever,
    AtMost(Duration),
}

pub struct Ring {
    uring: IoUring,
    buffers: BufferRing,
    /// Length of each forwarded send, by buffer, to tell a short one.
    forwarded: Box<[u32; BUFFERS as usize]>,
    unsubmitted: VecDeque<squeue::Entry>,
    completions: Vec<(u64, i32, u32)>,
}

impl Ring {
    pub fn new() -> io::Result<Self> {
        let uring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let buffers = BufferRing::register(&uring)?;
        Ok(Self {
            uring,
            buffers,
            forwarded: Box::new([0; BUFFERS as usize]),
            unsubmitted: VecDeque::new(),
            completions: Vec::with_capacity(COMPLETIONS as usize),
        })
    }

    pub fn accept(&mut self, side: Side, listener: RawFd) {
        let accept = opcode::AcceptMulti::new(Fd(listener)).build();
        self.push(accept.user_data(Token { side, op: Op::Accept, buffer: 0, fd: listener }.pack()));
    }

    /// Reads for as long as the socket lives: `Received` for each piece, `Ended` once.
    pub fn receive(&mut self, side: Side, fd: RawFd) {
        let receive = opcode::RecvMulti::new(Fd(fd), BUFFER_GROUP).build();
        self.push(receive.user_data(Token { side, op: Op::Receive, buffer: 0, fd }.pack()));
    }

    pub fn send(&mut self, side: Side, fd: RawFd, bytes: &'static [u8]) {
        let send = send_entry(fd, bytes.as_ptr(), bytes.len() as u32);
        self.push(send.user_data(Token { side, op: Op::Send, buffer: 0, fd }.pack()));
    }

    /// Sends what was received, straight from the buffer it arrived in; the buffer goes back when that is done.
    pub fn forward(&mut self, side: Side, fd: RawFd, chunk: Chunk) {
        let send = send_entry(fd, self.buffers.memory(chunk.buffer), chunk.len);
        self.forwarded[chunk.buffer as usize] = chunk.len;
        self.push(send.user_data(Token { side, op: Op::Forward, buffer: chunk.buffer, fd }.pack()));
    }

    /// Connect, one send and the receive in one submission: then `Sent` and what `receive` gives.
    pub fn connect_send_receive(&mut self, side: Side, fd: RawFd, to: &'static SockAddr, bytes: &'static [u8]) {
        let connect = opcode::Connect::new(Fd(fd), to.as_ptr().cast(), to.len()).build();
        let send = send_entry(fd, bytes.as_ptr(), bytes.len() as u32);
        // A full submission queue must not cut the link: the send would run before its connect.
        if self.room() < 3 {
            // If it fails the entries stay queued, and `turn` meets the same error.
            let _ = self.uring.submit();
        }
        let linked = squeue::Flags::IO_LINK;
        self.push(connect.flags(linked).user_data(Token { side, op: Op::Connect, buffer: 0, fd }.pack()));
        self.push(send.flags(linked).user_data(Token { side, op: Op::Send, buffer: 0, fd }.pack()));
        self.receive(side, fd);
    }

    pub fn bytes(&self, chunk: &Chunk) -> &[u8] {
        self.buffers.bytes(chunk)
    }

    pub fn release(&mut self, chunk: Chunk) {
        self.buffers.give(chunk.buffer);
    }

    /// Submits what was asked, waits for something to happen and appends it to `events`.
    pub fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        self.buffers.publish();
        self.drain_unsubmitted();
        let submitted = match wait {
            _ if !self.unsubmitted.is_empty() => self.uring.submit(),
            Wait::Forever => self.uring.submit_and_wait(1),
            Wait::AtMost(time) => {
                let time = Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos());
                self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match submitted {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EBUSY)) => {}
            Err(error) => return Err(error),
        }
        let mut completions = std::mem::take(&mut self.completions);
        completions.extend(self.uring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())));
        for (user_data, result, flags) in completions.drain(..) {
            self.complete(Token::unpack(user_data), result, flags, events);
        }
        self.completions = completions;
        Ok(())
    }

    fn complete(&mut self, token: Token, result: i32, flags: u32, events: &mut Vec<Event>) {
        let Token { side, op, fd, .. } = token;
        match op {
            Op::Accept => {
                if result >= 0 {
                    // SAFETY: the kernel has just opened this descriptor for us; nobody else knows it.
                    let socket = unsafe { OwnedFd::from_raw_fd(result) };
                    events.push(Event::Accepted { side, socket });
                }
                if !cqueue::more(flags) {
                    self.accept(side, fd);
                }
            }
            Op::Receive => {
                let ended = result == 0 || (result < 0 && result != -libc::ENOBUFS);
                match cqueue::buffer_select(flags) {
                    Some(buffer) if result > 0 => {
                        let chunk = Chunk { buffer, len: result as u32 };
                        events.push(Event::Received { side, fd, chunk });
                    }
                    Some(buffer) => self.buffers.give(buffer),
                    None => {}
                }
                if ended {
                    events.push(Event::Ended { side, fd });
                } else if !cqueue::more(flags) {
                    self.receive(side, fd);
                }
            }
            Op::Forward => {
                self.buffers.give(token.buffer);
                let ok = result == self.forwarded[token.buffer as usize] as i32;
                events.push(Event::Sent { side, fd, ok });
            }
            // MSG_WAITALL makes the kernel go on after a partial write; what comes back short has failed, and the
            // socket's receive ends for the same reason.
            Op::Send => events.push(Event::Sent { side, fd, ok: result > 0 }),
            // A failed connect cancels what is linked to it: `Sent` and `Ended` tell.
            Op::Connect => {}
        }
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.unsubmitted.push_back(entry);
        if self.unsubmitted.len() == 1 {
            self.drain_unsubmitted();
        }
    }

    fn drain_unsubmitted(&mut self) {
        let mut queue = self.uring.submission();
        while let Some(entry) = self.unsubmitted.front() {
            // SAFETY: every pointer in an entry is to `'static` memory or to the buffer ring's, which this struct
            // keeps until after the ring is gone (field order); a buffer in flight is not handed out again.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.unsubmitted.pop_front();
        }
    }

    fn room(&mut self) -> usize {
        let queue = self.uring.submission();
        queue.capacity() - queue.len()
    }
}

fn send_entry(fd: RawFd, from: *const u8, len: u32) -> squeue::Entry {
    opcode::Send::new(Fd(fd), from, len).flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build()
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Op {
    Accept,
    Receive,
    Send,
    Forward,
    Connect,
}

/// What a completion is about, packed into its `user_data`: side 8 bits, operation 8, buffer 16, descriptor 32.
#[derive(Clone, Copy)]
struct Token {
    side: Side,
    op: Op,
    buffer: u16,
    fd: RawFd,
}

impl Token {
    fn pack(self) -> u64 {
        (self.side as u64) << 56 | (self.op as u64) << 48 | u64::from(self.buffer) << 32 | u64::from(self.fd as u32)
    }

    fn unpack(packed: u64) -> Self {
        let side = if packed >> 56 == Side::Client as u64 { Side::Client } else { Side::Origin };
        let op = match (packed >> 48) as u8 {
            0 => Op::Accept,
            1 => Op::Receive,
            2 => Op::Send,
            3 => Op::Forward,
            _ => Op::Connect,
        };
        Self { side, op, buffer: (packed >> 32) as u16, fd: packed as u32 as RawFd }
    }
}

/// The memory the kernel receives into and the ring of free pieces of it.
struct BufferRing {
    entries: NonNull<u8>,
    memory: NonNull<u8>,
    tail: u16,
}

impl BufferRing {
    const ENTRIES: Layout = layout(BUFFERS as usize * size_of::<BufRingEntry>());
    const MEMORY: Layout = layout(BUFFERS as usize * BUFFER_BYTES);

    fn register(uring: &IoUring) -> io::Result<Self> {
        let (entries, memory) = (allocate(Self::ENTRIES), allocate(Self::MEMORY));
        let mut ring = Self { entries, memory, tail: 0 };
        // SAFETY: page-aligned, of the size the kernel derives from BUFFERS, and freed only by our Drop, which runs
        // after the uring's (field order of Ring).
        unsafe {
            uring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, BUFFERS, BUFFER_GROUP, 0)?;
        }
        for buffer in 0..BUFFERS {
            ring.give(buffer);
        }
        ring.publish();
        Ok(ring)
    }

    fn memory(&self, buffer: u16) -> *mut u8 {
        debug_assert!(buffer < BUFFERS);
        // SAFETY: buffer < BUFFERS, so this stays inside the one allocation.
        unsafe { self.memory.as_ptr().add(buffer as usize * BUFFER_BYTES) }
    }

    fn bytes(&self, chunk: &Chunk) -> &[u8] {
        // SAFETY: the kernel wrote `len` <= BUFFER_BYTES bytes and lets go of the buffer until it is given back, which
        // takes the chunk by value; the borrow of the chunk keeps that from happening.
        unsafe { std::slice::from_raw_parts(self.memory(chunk.buffer), chunk.len as usize) }
    }

    /// Puts a buffer behind the tail; the kernel sees it after `publish`.
    fn give(&mut self, buffer: u16) {
        let address = self.memory(buffer) as u64;
        let slot = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: slot < BUFFERS; entries behind the published tail belong to us.
        let entry = unsafe { &mut *self.entries.as_ptr().cast::<BufRingEntry>().add(slot) };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the tail field lies in the first entry of our live allocation; the kernel reads it as an atomic u16.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `register` with these layouts; the kernel's ring was closed before (field order).
        unsafe {
            dealloc(self.entries.as_ptr(), Self::ENTRIES);
            dealloc(self.memory.as_ptr(), Self::MEMORY);
        }
    }
}

const fn layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, PAGE_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("the size overflows"),
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layouts of this file are not empty.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// A listening socket for the load's own side; what it accepts inherits its options.
pub fn listen(address: Ipv4Addr, port: u16) -> io::Result<socket2::Socket> {
    bind_listener(tcp_socket()?, address, port)
}

/// A listening socket as a gateway has it: the machine's congestion control, no delay.
pub fn listen_default(port: u16) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    bind_listener(socket, Ipv4Addr::LOCALHOST, port)
}

fn bind_listener(socket: socket2::Socket, address: Ipv4Addr, port: u16) -> io::Result<socket2::Socket> {
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(SocketAddrV4::new(address, port)))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// A TCP socket of the load's own side, not yet connected.
///
/// It runs plain Reno because the machine's default may be BBR, whose pacing timers would charge the load's core for
/// nothing; the gateway's sockets keep the default.
pub fn tcp_socket() -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    // Where Reno is not to be had the default does.
    let _ = socket.set_tcp_congestion(b"reno");
    Ok(socket)
}

/// Shuts both directions down: the socket's receive ends, after which it may be closed.
pub fn shut(socket: &impl AsRawFd) {
    // SAFETY: a plain system call on a descriptor that the caller owns. It fails only if the peer was faster.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}
