//! The io_uring engine: multishot accept and receive into a ring of provided buffers, sends from the reactor's own
//! memory. Needs Linux 6.1 (`DEFER_TASKRUN`, multishot receive); older kernels get `epoll`.
//!
//! `DEFER_TASKRUN` runs completions only inside `io_uring_enter(GETEVENTS)`, which every turn calls, also when tasks
//! are ready, so neither can starve the other. An idle connection has one armed receive and no buffer.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::buffers::{Buffers, Room};
use super::provided::{PROVIDED_MAX, Provided};
use super::reactor::{Net, NetLimits};
use super::socket::{Accept, Entry, Key, RECEIVED_BYTES_MAX, Readable, SendOp, Socket, Tx};

pub(super) const GENERATION_MASK: u32 = 0xff_ffff;

/// Completion entries per submission entry: a turn may bring several completions for one armed receive.
const COMPLETIONS_PER_ENTRY: u32 = 4;
const BUFFER_GROUP: u16 = 0;
const ENTER_GETEVENTS: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Op {
    /// Its completion says nothing that matters (cancel, close).
    Ignored = 0,
    Recv,
    Send,
    Connect,
    Accept,
    Readable,
}

pub(super) struct Uring {
    ring: RefCell<IoUring>,
    /// What did not fit into the submission queue.
    backlog: RefCell<VecDeque<squeue::Entry>>,
    provided: Provided,
    buffers: Rc<Buffers>,
    /// Sockets whose receive ended for want of a buffer, the longest waiting first.
    starved: RefCell<VecDeque<Rc<Socket>>>,
    completions: RefCell<Vec<Completion>>,
}

#[derive(Clone, Copy)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// Tries what the engine needs.
///
/// # Errors
/// What the kernel said, in words for the operator.
pub fn probe() -> Result<(), String> {
    let limits = NetLimits { ring_entries: 8, buffer_bytes: 4096, buffers_max: 8 };
    let buffers = Buffers::new(limits.buffers_max, limits.buffer_bytes).map_err(|error| error.to_string())?;
    let uring = Uring::new(&limits, buffers).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is not permitted (seccomp or kernel.io_uring_disabled)".to_string()
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring".to_string(),
        Some(libc::EINVAL) => "this kernel's io_uring is too old (6.1 is needed)".to_string(),
        _ => format!("io_uring cannot be set up: {error}"),
    })?;
    let mut supported = io_uring::Probe::new();
    let ring = uring.ring.borrow();
    ring.submitter().register_probe(&mut supported).map_err(|error| format!("io_uring probe: {error}"))?;
    // SEND_ZC came with 6.0, as did multishot receive, which has no number of its own.
    if supported.is_supported(opcode::SendZc::CODE) {
        Ok(())
    } else {
        Err("this kernel's io_uring is too old (6.1 is needed)".to_string())
    }
}

impl Uring {
    pub fn new(limits: &NetLimits, buffers: Rc<Buffers>) -> io::Result<Uring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_cqsize(limits.ring_entries * COMPLETIONS_PER_ENTRY)
            .build(limits.ring_entries)?;
        let provided = Provided::new(limits.buffer_bytes)?;
        // SAFETY: the entries are a fresh page-aligned mapping of PROVIDED_MAX entries that lives as long as the
        // process (`Provided` never unmaps it).
        unsafe {
            let address = provided.address();
            ring.submitter().register_buf_ring_with_flags(address, PROVIDED_MAX as u16, BUFFER_GROUP, 0)?;
        }
        let uring = Uring {
            ring: RefCell::new(ring),
            backlog: RefCell::default(),
            provided,
            buffers,
            starved: RefCell::default(),
            completions: RefCell::default(),
        };
        uring.refill();
        Ok(uring)
    }

    /// Submits, waits up to `wait_ms` (`None`: until something happens), and carries out what completed.
    pub fn park(&self, net: &Rc<Net>, wait_ms: Option<u64>) -> io::Result<()> {
        self.refill();
        self.feed_starved();
        let wait_ms = if self.starved.borrow().is_empty() { wait_ms } else { Some(wait_ms.unwrap_or(1).min(1)) };
        loop {
            let entered = self.enter(wait_ms);
            match entered.as_ref().map_err(io::Error::raw_os_error) {
                Ok(_) | Err(Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN)) => {}
                Err(_) => return entered.map(|_| ()),
            }
            self.reap();
            if self.backlog.borrow().is_empty() {
                break;
            }
        }
        let mut completions = self.completions.take();
        for completion in completions.drain(..) {
            self.complete(net, completion);
        }
        self.completions.replace(completions);
        Ok(())
    }

    fn enter(&self, wait_ms: Option<u64>) -> io::Result<usize> {
        let mut ring = self.ring.borrow_mut();
        let mut backlog = self.backlog.borrow_mut();
        let pending = {
            let mut queue = ring.submission();
            while let Some(entry) = backlog.front() {
                // SAFETY: as in `push`.
                if unsafe { queue.push(entry) }.is_err() {
                    break;
                }
                backlog.pop_front();
            }
            queue.len() as u32
        };
        let submitter = ring.submitter();
        match wait_ms {
            Some(0) => {
                // SAFETY: no argument is passed, so there is no pointer to be wrong.
                unsafe { submitter.enter::<libc::sigset_t>(pending, 0, ENTER_GETEVENTS, None) }
            }
            _ if !backlog.is_empty() => {
                // SAFETY: as above.
                unsafe { submitter.enter::<libc::sigset_t>(pending, 0, ENTER_GETEVENTS, None) }
            }
            None => submitter.submit_and_wait(1),
            Some(wait_ms) => {
                let time = Timespec::new().sec(wait_ms / 1000).nsec((wait_ms % 1000) as u32 * 1_000_000);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        }
    }

    fn reap(&self) {
        let mut ring = self.ring.borrow_mut();
        let mut completions = self.completions.borrow_mut();
        completions.extend(ring.completion().map(|entry: cqueue::Entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    /// Queues an operation; it is submitted when the core parks.
    fn push(&self, entry: squeue::Entry) {
        let mut backlog = self.backlog.borrow_mut();
        if backlog.is_empty() {
            let mut ring = self.ring.borrow_mut();
            // SAFETY: every pointer in an entry is to memory of a `SendOp` or of the buffers, which stay where they
            // are until the completion (`Socket::in_flight` keeps the socket, and with it the operation, alive).
            if unsafe { ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        backlog.push_back(entry);
    }

    fn refill(&self) {
        self.provided.refill(&self.buffers);
    }

    fn feed_starved(&self) {
        for _ in 0..self.provided.sockets() {
            let Some(socket) = self.starved.borrow_mut().pop_front() else { return };
            if !socket.closing.get() {
                self.arm_recv(&socket);
            }
        }
    }

    // ---- operations ------------------------------------------------------------------------------------------

    pub fn arm_recv(&self, socket: &Rc<Socket>) {
        let mut rx = socket.rx.borrow_mut();
        if rx.armed || rx.ended || rx.failed.is_some() || socket.tx.borrow().connecting {
            return;
        }
        rx.armed = true;
        drop(rx);
        // An armed multishot may take many buffers before anybody looks at the first.
        let entry = if self.buffers.room() == Room::Plenty {
            opcode::RecvMulti::new(Fd(socket.fd), BUFFER_GROUP).build()
        } else {
            let one = opcode::Recv::new(Fd(socket.fd), std::ptr::null_mut(), 0).buf_group(BUFFER_GROUP);
            one.build().flags(squeue::Flags::BUFFER_SELECT)
        };
        self.submit(entry, Op::Recv, socket.key.get(), &socket.in_flight);
    }

    pub fn send(&self, _net: &Net, socket: &Socket, tx: &mut Tx) {
        let Some(op) = tx.op.as_mut() else { return };
        if !op.load() {
            return;
        }
        tx.in_flight = true;
        self.submit_send(socket, op, tx.last);
    }

    fn submit_send(&self, socket: &Socket, op: &mut SendOp, last: bool) {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | if last { libc::MSG_MORE } else { 0 };
        let entry = if op.prepare() {
            let vector = op.vectors[0];
            opcode::Send::new(Fd(socket.fd), vector.iov_base.cast_const().cast(), vector.iov_len as u32)
                .flags(flags)
                .build()
        } else {
            opcode::SendMsg::new(Fd(socket.fd), &raw const op.message).flags(flags as u32).build()
        };
        self.submit(entry, Op::Send, socket.key.get(), &socket.in_flight);
    }

    pub fn connect(&self, socket: &Socket) {
        let tx = socket.tx.borrow();
        let name = tx.op.as_ref().and_then(|op| op.connect.as_ref()).expect("connect was given an address");
        let entry = opcode::Connect::new(Fd(socket.fd), name.as_ptr().cast(), name.len()).build();
        self.submit(entry, Op::Connect, socket.key.get(), &socket.in_flight);
    }

    pub fn arm_accept(&self, accept: &Accept) {
        if !accept.armed.replace(true) {
            let entry = opcode::AcceptMulti::new(Fd(accept.fd)).flags(libc::SOCK_CLOEXEC).build();
            self.submit(entry, Op::Accept, accept.key.get(), &accept.in_flight);
        }
    }

    pub fn arm_readable(&self, readable: &Readable) {
        if !readable.armed.replace(true) {
            let entry = opcode::PollAdd::new(Fd(readable.fd), libc::POLLIN as u32).multi(true).build();
            self.submit(entry, Op::Readable, readable.key.get(), &readable.in_flight);
        }
    }

    fn submit(&self, entry: squeue::Entry, op: Op, key: Key, in_flight: &Cell<u32>) {
        in_flight.set(in_flight.get() + 1);
        self.push(entry.user_data(pack(op, key)));
    }

    pub fn cancel(&self, fd: RawFd) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(fd)).all()).build();
        self.push(entry.user_data(0).flags(squeue::Flags::SKIP_SUCCESS));
    }

    pub fn close_socket(&self, _net: &Net, socket: &Socket) {
        let others = socket.in_flight.get() - u32::from(socket.rx.borrow().armed);
        if others > 0 {
            self.cancel(socket.fd);
        } else if socket.in_flight.get() > 0 {
            // By its number, which the kernel finds at once: to cancel by descriptor it looks through all operations.
            self.cancel_recv(socket);
        }
        self.close(socket.fd);
    }

    fn cancel_recv(&self, socket: &Socket) {
        let entry = opcode::AsyncCancel::new(pack(Op::Recv, socket.key.get())).build();
        self.push(entry.user_data(0).flags(squeue::Flags::SKIP_SUCCESS));
    }

    /// Cancels and closes in one submission; the operations under way end with their own completions.
    pub fn close_descriptor(&self, fd: RawFd, busy: bool) {
        if busy {
            self.cancel(fd);
        }
        self.close(fd);
    }

    fn close(&self, fd: RawFd) {
        self.push(opcode::Close::new(Fd(fd)).build().user_data(0).flags(squeue::Flags::SKIP_SUCCESS));
    }

    // ---- completions -----------------------------------------------------------------------------------------

    fn complete(&self, net: &Rc<Net>, completion: Completion) {
        let (op, key) = unpack(completion.user_data);
        if op == Op::Ignored as u8 {
            return;
        }
        match net.entry(key) {
            Some(Entry::Socket(socket)) => self.complete_socket(net, &socket, op, completion),
            Some(Entry::Accept(accept)) => complete_accept(net, &accept, completion),
            Some(Entry::Readable(readable)) => complete_readable(net, &readable, completion),
            Some(Entry::Free) | None => debug_assert!(false, "a completion for a slot that was freed"),
        }
    }

    fn complete_socket(&self, net: &Rc<Net>, socket: &Rc<Socket>, op: u8, completion: Completion) {
        let more = cqueue::more(completion.flags);
        if !more {
            socket.in_flight.set(socket.in_flight.get() - 1);
        }
        if op == Op::Recv as u8 {
            self.complete_recv(net, socket, completion, more);
        } else if op == Op::Send as u8 {
            self.complete_send(net, socket, completion.result);
        } else {
            self.complete_connect(net, socket, completion.result);
        }
        if socket.closing.get() && socket.in_flight.get() == 0 {
            net.forget_socket(socket);
        }
    }

    fn complete_recv(&self, net: &Rc<Net>, socket: &Rc<Socket>, completion: Completion, more: bool) {
        let buffer = cqueue::buffer_select(completion.flags).map(u32::from);
        if buffer.is_some() {
            self.provided.note_taken(completion.result.max(0) as usize);
        }
        let mut rx = socket.rx.borrow_mut();
        if !more {
            rx.armed = false;
            rx.pausing = false;
        }
        match (completion.result, buffer) {
            (length @ 1.., Some(id)) if !socket.closing.get() => {
                rx.push(net.buffers.filled(id, length as usize));
                if rx.armed && !rx.pausing && rx.bytes >= RECEIVED_BYTES_MAX {
                    rx.pausing = true;
                    self.cancel_recv(socket);
                }
            }
            (result, buffer) => {
                if let Some(id) = buffer {
                    self.buffers.release(id);
                }
                match -result {
                    0 => rx.ended = true,
                    libc::ENOBUFS => {
                        self.provided.note_empty();
                        drop(rx);
                        self.starved.borrow_mut().push_back(socket.clone());
                        return;
                    }
                    libc::ECANCELED => {}
                    code if code > 0 => rx.failed = Some(code),
                    _ => {}
                }
            }
        }
        drop(rx);
        socket.wake_rx();
    }

    fn complete_send(&self, net: &Net, socket: &Rc<Socket>, result: i32) {
        let mut tx = socket.tx.borrow_mut();
        tx.in_flight = false;
        let Some(mut op) = tx.op.take() else { return };
        if result < 0 {
            tx.failed = Some(-result);
            tx.queued_bytes = 0;
            op.discard_all(&net.buffers);
            net.keep_send_op(op);
        } else {
            tx.queued_bytes = tx.queued_bytes.saturating_sub(result as usize);
            let done = op.taken(result as usize, &net.buffers);
            if (!done || op.load()) && !socket.closing.get() {
                tx.in_flight = true;
                self.submit_send(socket, &mut op, tx.last);
                tx.op = Some(op);
            } else {
                op.discard_all(&net.buffers);
                net.keep_send_op(op);
            }
        }
        drop(tx);
        socket.wake_tx();
    }

    fn complete_connect(&self, net: &Net, socket: &Rc<Socket>, result: i32) {
        let mut tx = socket.tx.borrow_mut();
        tx.connecting = false;
        if result < 0 {
            tx.failed = Some(-result);
            socket.rx.borrow_mut().failed = Some(-result);
        } else if !socket.closing.get() {
            self.send(net, socket, &mut tx);
        }
        if !tx.in_flight
            && let Some(mut op) = tx.op.take()
        {
            op.discard_all(&net.buffers);
            net.keep_send_op(op);
        }
        drop(tx);
        if result >= 0 && socket.rx.borrow().waker.is_some() {
            self.arm_recv(socket);
        }
        socket.wake_tx();
        socket.wake_rx();
    }
}

fn complete_accept(net: &Net, accept: &Accept, completion: Completion) {
    if !cqueue::more(completion.flags) {
        accept.armed.set(false);
        accept.in_flight.set(accept.in_flight.get() - 1);
    }
    if completion.result >= 0 {
        // SAFETY: the kernel has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(completion.result) };
        accept.queue.borrow_mut().push_back(Ok(fd));
    } else if completion.result != -libc::ECANCELED {
        accept.queue.borrow_mut().push_back(Err(io::Error::from_raw_os_error(-completion.result)));
    }
    if accept.closing.get() {
        accept.queue.borrow_mut().clear();
        if accept.in_flight.get() == 0 {
            net.remove(accept.key.get());
        }
    } else if let Some(waker) = accept.waker.take() {
        waker.wake();
    }
}

fn complete_readable(net: &Net, readable: &Readable, completion: Completion) {
    if !cqueue::more(completion.flags) {
        readable.armed.set(false);
        readable.in_flight.set(readable.in_flight.get() - 1);
    }
    if readable.closing.get() {
        if readable.in_flight.get() == 0 {
            net.remove(readable.key.get());
        }
        return;
    }
    readable.ready.set(true);
    if let Some(waker) = readable.waker.take() {
        waker.wake();
    }
}

fn pack(op: Op, key: Key) -> u64 {
    u64::from(op as u8) << 56 | u64::from(key.generation & GENERATION_MASK) << 32 | u64::from(key.slot)
}

fn unpack(user_data: u64) -> (u8, Key) {
    let generation = (user_data >> 32) as u32 & GENERATION_MASK;
    ((user_data >> 56) as u8, Key { slot: user_data as u32, generation })
}
