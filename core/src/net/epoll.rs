//! The epoll engine, for kernels and containers without io_uring: edge-triggered, same promises to `stream`.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use super::reactor::Net;
use super::socket::{Accept, Entry, Key, Readable, Socket, Tx};

/// Events of one wait.
const EVENTS_MAX: usize = 1024;

pub(super) struct Epoll {
    fd: OwnedFd,
    events: RefCell<Vec<libc::epoll_event>>,
    /// Sockets that found no buffer free.
    starved: RefCell<Vec<Rc<Socket>>>,
}

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: RefCell::new(Vec::with_capacity(EVENTS_MAX)), starved: RefCell::default() })
    }

    pub fn add_socket(&self, socket: &Socket) -> io::Result<()> {
        socket.rx.borrow_mut().armed = true; // nothing is known yet: the first read tells
        self.add(socket.fd, socket.key.get(), true)
    }

    pub fn add(&self, fd: RawFd, key: Key, writes: bool) -> io::Result<()> {
        let mut events = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;
        if writes {
            events |= libc::EPOLLOUT;
        }
        let data = u64::from(key.generation) << 32 | u64::from(key.slot);
        let mut event = libc::epoll_event { events: events as u32, u64: data };
        // SAFETY: `event` lives across the call.
        match unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn forget(&self, fd: RawFd) {
        // SAFETY: deleting takes no event; a failure means that it was not registered.
        unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    pub fn close(&self, _net: &Net, fd: RawFd) {
        // SAFETY: the descriptor is the entry's own and is closed once; closing also removes it from the epoll set.
        unsafe { libc::close(fd) };
    }

    pub fn park(&self, net: &Rc<Net>, wait_ms: Option<u64>) -> io::Result<()> {
        let wait_ms = if self.starved.borrow().is_empty() { wait_ms } else { Some(wait_ms.unwrap_or(1).min(1)) };
        let timeout = wait_ms.map_or(-1, |wait| wait.min(i32::MAX as u64) as i32);
        let mut events = self.events.take();
        // SAFETY: the pointer and the length are those of the vector's spare capacity; the kernel fills at most
        // EVENTS_MAX entries, and exactly `count` of them are taken as filled.
        let count = unsafe {
            let count = libc::epoll_wait(
                self.fd.as_raw_fd(),
                events.as_mut_ptr(),
                events.capacity().min(EVENTS_MAX) as i32,
                timeout,
            );
            events.set_len(count.max(0) as usize);
            count
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            self.events.replace(events);
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        for event in events.drain(..) {
            self.happened(net, event.u64, event.events as i32);
        }
        self.events.replace(events);
        for socket in self.starved.take() {
            socket.wake_rx();
        }
        Ok(())
    }

    fn happened(&self, net: &Rc<Net>, data: u64, events: i32) {
        let key = Key { slot: data as u32, generation: (data >> 32) as u32 };
        match net.entry(key) {
            Some(Entry::Socket(socket)) => self.socket_happened(net, &socket, events),
            Some(Entry::Accept(accept)) => {
                accept.armed.set(true);
                if let Some(waker) = accept.waker.take() {
                    waker.wake();
                }
            }
            Some(Entry::Readable(readable)) => readable_happened(&readable),
            Some(Entry::Free) | None => {} // closed by an earlier event of this turn
        }
    }

    fn socket_happened(&self, net: &Net, socket: &Rc<Socket>, events: i32) {
        const READ: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
        let mut tx = socket.tx.borrow_mut();
        if tx.connecting {
            if events & (libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP) != 0 {
                self.connected(net, socket, &mut tx);
                drop(tx);
                socket.wake_tx();
                socket.wake_rx();
            }
            return;
        }
        if events & libc::EPOLLOUT != 0 && tx.in_flight {
            tx.in_flight = false;
            self.send(net, socket, &mut tx);
        }
        drop(tx);
        if events & (libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP) != 0 {
            socket.wake_tx();
        }
        if events & READ != 0 {
            let mut rx = socket.rx.borrow_mut();
            rx.armed = true;
            rx.pausing |= events & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0;
            if events & libc::EPOLLERR != 0 && rx.failed.is_none() {
                rx.failed = pending_error(socket.fd);
            }
            drop(rx);
            socket.wake_rx();
        }
    }

    fn connected(&self, net: &Net, socket: &Rc<Socket>, tx: &mut Tx) {
        tx.connecting = false;
        if let Some(code) = pending_error(socket.fd) {
            tx.failed = Some(code);
            socket.rx.borrow_mut().failed = Some(code);
        }
        if tx.failed.is_none() {
            self.send(net, socket, tx);
        } else if let Some(mut op) = tx.op.take() {
            op.discard_all(&net.buffers);
            net.keep_send_op(op);
        }
    }

    /// Reads one buffer full, if the socket may be readable.
    pub fn read(&self, net: &Rc<Net>, socket: &Rc<Socket>) {
        let mut rx = socket.rx.borrow_mut();
        if !rx.armed || rx.ended || rx.failed.is_some() || socket.tx.borrow().connecting {
            return;
        }
        let Some(id) = net.buffers.take() else {
            drop(rx);
            self.starved.borrow_mut().push(socket.clone());
            return;
        };
        let size = net.buffers.buffer_bytes();
        // SAFETY: the buffer is `size` bytes long and was taken for this read alone.
        let length = unsafe { libc::recv(socket.fd, net.buffers.address(id).cast(), size, libc::MSG_DONTWAIT) };
        if length > 0 {
            // A short read has emptied the socket: the next bytes raise a new edge. After a hang-up none comes.
            rx.armed = length as usize == size || rx.pausing;
            rx.push(net.buffers.filled(id, length as usize));
            return;
        }
        let code = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        net.buffers.release(id);
        match (length, code) {
            (0, _) => rx.ended = true,
            (_, libc::EAGAIN) => rx.armed = false,
            (_, libc::EINTR) => {}
            (_, code) => rx.failed = Some(code),
        }
    }

    /// Sends until the kernel takes no more.
    pub fn send(&self, net: &Net, socket: &Socket, tx: &mut Tx) {
        let Some(mut op) = tx.op.take() else { return };
        while op.load() {
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | if tx.last { libc::MSG_MORE } else { 0 };
            let sent = if op.prepare() {
                let vector = op.vectors[0];
                // SAFETY: `prepare` has just pointed the vector at bytes that `op` owns.
                unsafe { libc::send(socket.fd, vector.iov_base, vector.iov_len, flags) }
            } else {
                // SAFETY: `prepare` has just pointed the message at bytes that `op` owns.
                unsafe { libc::sendmsg(socket.fd, &raw const op.message, flags) }
            };
            if sent >= 0 {
                tx.queued_bytes = tx.queued_bytes.saturating_sub(sent as usize);
                op.taken(sent as usize, &net.buffers);
                continue;
            }
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) => {
                    tx.in_flight = true; // until EPOLLOUT
                    tx.op = Some(op);
                    return;
                }
                code => {
                    tx.failed = Some(code.unwrap_or(libc::EIO));
                    tx.queued_bytes = 0;
                    break;
                }
            }
        }
        op.discard_all(&net.buffers);
        net.keep_send_op(op);
    }

    pub fn connect(&self, net: &Net, socket: &Rc<Socket>) {
        let mut tx = socket.tx.borrow_mut();
        let name = tx.op.as_ref().and_then(|op| op.connect.as_ref()).expect("connect was given an address");
        // SAFETY: the name lives in the operation, across the call.
        let result = unsafe { libc::connect(socket.fd, name.as_ptr().cast(), name.len()) };
        let code = if result == 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) };
        match code {
            libc::EINPROGRESS => {}
            0 => self.connected(net, socket, &mut tx),
            code => {
                tx.connecting = false;
                tx.failed = Some(code);
                socket.rx.borrow_mut().failed = Some(code);
            }
        }
    }

    /// Accepts one connection, if there may be one.
    pub fn accept(&self, accept: &Accept) {
        // SAFETY: no address is asked for, so both pointers may be null.
        let fd = unsafe {
            libc::accept4(
                accept.fd,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            )
        };
        if fd >= 0 {
            // SAFETY: the kernel has just made this descriptor for us.
            accept.queue.borrow_mut().push_back(Ok(unsafe { OwnedFd::from_raw_fd(fd) }));
            return;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR | libc::ECONNABORTED) => accept.armed.set(false),
            _ => accept.queue.borrow_mut().push_back(Err(error)),
        }
    }
}

fn readable_happened(readable: &Readable) {
    readable.ready.set(true);
    if let Some(waker) = readable.waker.take() {
        waker.wake();
    }
}

/// `SO_ERROR`, which reading clears.
fn pending_error(fd: RawFd) -> Option<i32> {
    let mut code: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to live variables of the sizes the call expects.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut code).cast(), &raw mut length) };
    (result == 0 && code != 0).then_some(code)
}
