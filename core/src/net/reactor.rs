//! The loop of one core: run what is ready, park in the engine, fire the wheel. Owns the table of descriptors.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use quanta::Instant;

use super::address::Address;
use super::buffers::Buffers;
use super::clock::CoreClock;
use super::epoll::Epoll;
use super::exec;
use super::sleep::{SLEEPER, Sleepers};
use super::socket::{Accept, Entry, Key, NEVER, Readable, SendOp, Socket, Tx};
use super::stream::{Acceptor, Stream, Watch};
use super::uring::{GENERATION_MASK, Uring};
use super::wheel::Wheel;

/// Send operations kept for reuse; more are freed when done.
const SEND_OPS_KEPT_MAX: usize = 1024;
/// What one core's reactor may hold; see `[cores]`.
#[derive(Debug, Clone)]
pub struct NetLimits {
    pub ring_entries: u32,
    pub buffer_bytes: usize,
    pub buffers_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    IoUring,
    Epoll,
}

impl EngineKind {
    pub fn as_str(self) -> &'static str {
        match self {
            EngineKind::IoUring => "io_uring",
            EngineKind::Epoll => "epoll",
        }
    }
}

enum Engine {
    Uring(Box<Uring>),
    Epoll(Box<Epoll>),
}

/// Sockets, buffers and time of one core.
pub struct Net {
    engine: Engine,
    pub(super) buffers: Rc<Buffers>,
    entries: RefCell<Entries>,
    pub(super) wheel: RefCell<Wheel>,
    pub(super) sleepers: RefCell<Sleepers>,
    #[expect(clippy::vec_box, reason = "the kernel reads from an operation, so it must stay where it is")]
    send_ops: RefCell<Vec<Box<SendOp>>>,
    clock: CoreClock,
    stopping: Cell<bool>,
}

#[derive(Default)]
struct Entries {
    slots: Vec<(u32, Entry)>,
    free: Vec<u32>,
}

/// One turn of the loop, as its observer sees it.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// From the reaping of completions until the core parks again: what a completion that arrived meanwhile waits.
    pub busy: Duration,
}

impl Net {
    /// # Errors
    /// The kernel's, when the ring, the epoll or the buffers cannot be had.
    pub fn new(kind: EngineKind, limits: &NetLimits) -> io::Result<Rc<Net>> {
        let buffers = Buffers::new(limits.buffers_max, limits.buffer_bytes)?;
        let engine = match kind {
            EngineKind::IoUring => Engine::Uring(Box::new(Uring::new(limits, buffers.clone())?)),
            EngineKind::Epoll => Engine::Epoll(Box::new(Epoll::new()?)),
        };
        Ok(Rc::new(Net {
            engine,
            buffers,
            entries: RefCell::default(),
            wheel: RefCell::new(Wheel::new(0)),
            sleepers: RefCell::default(),
            send_ops: RefCell::default(),
            clock: CoreClock::new(),
            stopping: Cell::new(false),
        }))
    }

    /// Serves until [`Net::stop`]. `on_turn` sees each turn just before the core parks.
    ///
    /// # Errors
    /// The engine's own failure; errors of single sockets go to their streams.
    pub fn run(self: &Rc<Self>, mut on_turn: impl FnMut(Turn)) -> io::Result<()> {
        // What came before was the start, no turn.
        self.clock.begin_turn(self.clock.now());
        while !self.stopping.get() {
            exec::run_ready();
            if self.stopping.get() {
                break;
            }
            let parked_at = self.clock.now();
            let busy = parked_at - self.clock.turn_at();
            on_turn(Turn { busy });
            self.clock.leave_out(busy, Duration::ZERO);
            let now_ms = self.clock.ms_at(parked_at);
            let wait_ms = if exec::has_ready() { Some(0) } else { self.wheel.borrow().wait_ms(now_ms) };
            match &self.engine {
                Engine::Uring(uring) => uring.park(self, wait_ms)?,
                Engine::Epoll(epoll) => epoll.park(self, wait_ms)?,
            }
            let now = self.clock.now();
            if let Some(wait_ms) = wait_ms {
                self.clock.leave_out(now - parked_at, Duration::from_millis(wait_ms));
            }
            self.tick(now);
        }
        Ok(())
    }

    /// Ends [`Net::run`] after the present turn.
    pub fn stop(&self) {
        self.stopping.set(true);
    }

    pub fn kind(&self) -> EngineKind {
        match self.engine {
            Engine::Uring(_) => EngineKind::IoUring,
            Engine::Epoll(_) => EngineKind::Epoll,
        }
    }

    pub fn buffers(&self) -> &Rc<Buffers> {
        &self.buffers
    }

    /// Milliseconds since the reactor was made, as of this turn; times in which the core could not run are left out.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The node's time begins here; every core of it is told the same.
    pub fn set_epoch(&self, epoch: std::time::Instant) {
        self.clock.set_epoch(epoch);
    }

    /// Milliseconds since the beginning of the node's time, as of this turn: the same on every core, nothing left out.
    pub fn node_ms(&self) -> u64 {
        self.clock.node_ms()
    }

    /// The same in nanoseconds.
    pub fn node_ns(&self) -> u64 {
        self.clock.node_ns()
    }

    /// When the completions of this turn were reaped: the moment to which what they brought is dated.
    pub fn reaped_at(&self) -> Instant {
        self.clock.turn_at()
    }

    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Of the CPU's counter, for those who look at the time most often.
    #[inline]
    pub fn ticks(&self) -> u64 {
        self.clock.ticks()
    }

    /// What so many ticks are in time.
    pub fn time_of(&self, ticks: u64) -> Duration {
        self.clock.time_of(ticks)
    }

    /// How many ticks that is, about.
    pub fn ticks_of(&self, time: Duration) -> u64 {
        self.clock.ticks_of(time)
    }

    /// Descriptors in the reactor's table.
    pub fn descriptors(&self) -> usize {
        let entries = self.entries.borrow();
        entries.slots.len() - entries.free.len()
    }

    pub(super) fn deadline_after(&self, time: Duration) -> u64 {
        self.clock.now_ms() + time.as_millis() as u64
    }

    /// The sum of the times in which the core could not run. What was measured across one of them says nothing.
    pub fn left_out(&self) -> Duration {
        self.clock.left_out()
    }

    fn tick(&self, now: Instant) {
        if !self.clock.begin_turn(now) {
            return;
        }
        let now_ms = self.clock.now_ms();
        // Firing may arm again, so the wheel is borrowed only while it hands out a batch.
        let mut due: smallvec::SmallVec<[u64; 64]> = smallvec::SmallVec::new();
        self.wheel.borrow_mut().advance(now_ms, |token| due.push(token));
        for token in due {
            if token & SLEEPER == 0 {
                self.socket_due(Key { slot: token as u32, generation: (token >> 32) as u32 });
            } else {
                self.sleepers.borrow_mut().fire(token);
            }
        }
    }

    fn socket_due(&self, key: Key) {
        let Some(Entry::Socket(socket)) = self.entry(key) else { return };
        let now = self.clock.now_ms();
        if socket.wheel_at.get() > now {
            return; // an earlier arming of a deadline that has moved; a later node stands for the socket now
        }
        socket.wheel_at.set(NEVER);
        let (recv, send) = (socket.recv_deadline.get(), socket.send_deadline.get());
        if recv <= now {
            socket.wake_rx();
        }
        if send <= now {
            socket.wake_tx();
        }
        let next = [recv, send].into_iter().filter(|&at| at > now).min().unwrap_or(NEVER);
        self.watch_deadline(&socket, next);
    }

    /// Makes sure that the wheel looks at `socket` by `deadline`.
    pub(super) fn watch_deadline(&self, socket: &Socket, deadline: u64) {
        if deadline < socket.wheel_at.get() {
            socket.wheel_at.set(deadline);
            let key = socket.key.get();
            // The generation's top bit gives way to the sleepers' mark; `entry` compares the same 31 bits.
            self.wheel.borrow_mut().arm(deadline, u64::from(key.generation) << 32 | u64::from(key.slot));
        }
    }

    // ---- the table -------------------------------------------------------------------------------------------

    pub(super) fn entry(&self, key: Key) -> Option<Entry> {
        let entries = self.entries.borrow();
        let (generation, entry) = entries.slots.get(key.slot as usize)?;
        (*generation == key.generation).then(|| entry.clone())
    }

    fn insert(&self, entry: Entry) -> Key {
        let mut entries = self.entries.borrow_mut();
        let slot = entries.free.pop().unwrap_or_else(|| {
            entries.slots.push((0, Entry::Free));
            (entries.slots.len() - 1) as u32
        });
        let place = &mut entries.slots[slot as usize];
        place.1 = entry;
        Key { slot, generation: place.0 }
    }

    pub(super) fn remove(&self, key: Key) {
        let mut entries = self.entries.borrow_mut();
        let place = &mut entries.slots[key.slot as usize];
        debug_assert_eq!(place.0, key.generation);
        place.1 = Entry::Free;
        place.0 = (place.0 + 1) & GENERATION_MASK;
        entries.free.push(key.slot);
    }

    // ---- descriptors -----------------------------------------------------------------------------------------

    /// Takes an accepted connection.
    ///
    /// # Errors
    /// The engine's, when the descriptor cannot be registered.
    pub fn adopt(self: &Rc<Self>, fd: OwnedFd) -> io::Result<Stream> {
        let socket = self.register(fd)?;
        Ok(Stream::new(self.clone(), socket))
    }

    fn register(self: &Rc<Self>, fd: OwnedFd) -> io::Result<Rc<Socket>> {
        if let Engine::Epoll(_) = self.engine {
            socket2::SockRef::from(&fd).set_nonblocking(true)?;
        }
        let socket = Socket::new(fd);
        let key = self.insert(Entry::Socket(socket.clone()));
        socket.key.set(key);
        if let Engine::Epoll(epoll) = &self.engine
            && let Err(error) = epoll.add_socket(&socket)
        {
            self.remove(key);
            // SAFETY: the descriptor is ours, open, and nothing else refers to it any more.
            unsafe { libc::close(socket.fd) };
            return Err(error);
        }
        Ok(socket)
    }

    /// Begins to connect; the stream may be written to at once, what fails shows at the first wait
    /// ([`Stream::connected`]).
    ///
    /// # Errors
    /// The kernel's, when there is no descriptor left (`EMFILE`), or a unix path is too long.
    pub fn connect(self: &Rc<Self>, address: &Address) -> io::Result<Stream> {
        let name = address.to_kernel()?;
        let socket = socket2::Socket::new(address.domain(), socket2::Type::STREAM, None)?;
        if let Address::Ip(_) = address {
            socket.set_tcp_nodelay(true)?;
        }
        let socket = self.register(socket.into())?;
        {
            let mut tx = socket.tx.borrow_mut();
            tx.connecting = true;
            let mut op = self.take_send_op();
            op.connect = Some(name);
            tx.op = Some(op);
        }
        match &self.engine {
            Engine::Uring(uring) => uring.connect(&socket),
            Engine::Epoll(epoll) => epoll.connect(self, &socket),
        }
        Ok(Stream::new(self.clone(), socket))
    }

    /// Takes a listening socket.
    ///
    /// # Errors
    /// The engine's, when the descriptor cannot be registered.
    pub fn listen(self: &Rc<Self>, fd: OwnedFd) -> io::Result<Acceptor> {
        if let Engine::Epoll(_) = self.engine {
            socket2::SockRef::from(&fd).set_nonblocking(true)?;
        }
        let accept = Rc::new(Accept {
            fd: fd.as_raw_fd(),
            key: Cell::new(Key { slot: 0, generation: 0 }),
            queue: RefCell::default(),
            armed: Cell::new(false),
            in_flight: Cell::new(0),
            closing: Cell::new(false),
            waker: RefCell::default(),
        });
        accept.key.set(self.insert(Entry::Accept(accept.clone())));
        if let Engine::Epoll(epoll) = &self.engine
            && let Err(error) = epoll.add(accept.fd, accept.key.get(), false)
        {
            self.remove(accept.key.get());
            return Err(error);
        }
        let _ = fd.into_raw_fd();
        Ok(Acceptor::new(self.clone(), accept))
    }

    /// Watches a descriptor (an eventfd) that stays the caller's and open for as long as it is watched.
    ///
    /// # Errors
    /// The engine's, when the descriptor cannot be registered.
    pub fn watch(self: &Rc<Self>, fd: RawFd) -> io::Result<Watch> {
        let readable = Rc::new(Readable {
            fd,
            key: Cell::new(Key { slot: 0, generation: 0 }),
            ready: Cell::new(false),
            armed: Cell::new(false),
            in_flight: Cell::new(0),
            closing: Cell::new(false),
            waker: RefCell::default(),
        });
        readable.key.set(self.insert(Entry::Readable(readable.clone())));
        if let Engine::Epoll(epoll) = &self.engine
            && let Err(error) = epoll.add(readable.fd, readable.key.get(), false)
        {
            self.remove(readable.key.get());
            return Err(error);
        }
        Ok(Watch::new(self.clone(), readable))
    }

    // ---- what streams ask of the engine ------------------------------------------------------------------------

    /// Looks for more input; epoll may find it at once.
    pub(super) fn want_input(self: &Rc<Self>, socket: &Rc<Socket>) {
        match &self.engine {
            Engine::Uring(uring) => uring.arm_recv(socket),
            Engine::Epoll(epoll) => epoll.read(self, socket),
        }
    }

    pub(super) fn start_sending(&self, socket: &Rc<Socket>, tx: &mut Tx) {
        match &self.engine {
            Engine::Uring(uring) => uring.send(self, socket, tx),
            Engine::Epoll(epoll) => epoll.send(self, socket, tx),
        }
    }

    pub(super) fn want_accept(&self, accept: &Rc<Accept>) {
        match &self.engine {
            Engine::Uring(uring) => uring.arm_accept(accept),
            Engine::Epoll(epoll) => epoll.accept(accept),
        }
    }

    pub(super) fn want_readable(&self, readable: &Rc<Readable>) {
        if let Engine::Uring(uring) = &self.engine {
            uring.arm_readable(readable);
        }
    }

    pub(super) fn close_socket(&self, socket: &Rc<Socket>) {
        socket.closing.set(true);
        {
            let mut rx = socket.rx.borrow_mut();
            rx.waker = None;
            while rx.pop().is_some() {}
        }
        socket.tx.borrow_mut().waker = None;
        match &self.engine {
            Engine::Uring(uring) => uring.close_socket(self, socket),
            Engine::Epoll(epoll) => epoll.close(self, socket.fd),
        }
        if socket.in_flight.get() == 0 {
            self.forget_socket(socket);
        }
    }

    /// The last operation on a closed socket is done: its buffers and its slot are free again.
    pub(super) fn forget_socket(&self, socket: &Socket) {
        let mut tx = socket.tx.borrow_mut();
        if let Some(mut op) = tx.op.take() {
            op.discard_all(&self.buffers);
            self.keep_send_op(op);
        }
        drop(tx);
        self.remove(socket.key.get());
    }

    pub(super) fn close_accept(&self, accept: &Rc<Accept>) {
        accept.closing.set(true);
        *accept.waker.borrow_mut() = None;
        match &self.engine {
            Engine::Uring(uring) => uring.close_descriptor(accept.fd, accept.in_flight.get() > 0),
            Engine::Epoll(epoll) => epoll.close(self, accept.fd),
        }
        if accept.in_flight.get() == 0 {
            self.remove(accept.key.get());
        }
    }

    pub(super) fn close_readable(&self, readable: &Rc<Readable>) {
        readable.closing.set(true);
        *readable.waker.borrow_mut() = None;
        match &self.engine {
            Engine::Uring(uring) if readable.in_flight.get() > 0 => uring.cancel(readable.fd),
            Engine::Uring(_) => {}
            Engine::Epoll(epoll) => epoll.forget(readable.fd),
        }
        if readable.in_flight.get() == 0 {
            self.remove(readable.key.get());
        }
    }

    pub(super) fn take_send_op(&self) -> Box<SendOp> {
        self.send_ops.borrow_mut().pop().unwrap_or_else(SendOp::new)
    }

    pub(super) fn keep_send_op(&self, mut op: Box<SendOp>) {
        op.connect = None;
        let mut kept = self.send_ops.borrow_mut();
        if kept.len() < SEND_OPS_KEPT_MAX {
            kept.push(op);
        }
    }
}
