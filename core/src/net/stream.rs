//! The public face of sockets: a connection, a listening socket, a watched descriptor.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::buffers::Chunk;
use super::reactor::Net;
use super::socket::{Accept, NEVER, Piece, RECEIVED_BYTES_MAX, Readable, Socket, Tx};

/// A connection of this core. Dropping it cancels what is under way and closes it.
pub struct Stream {
    net: Rc<Net>,
    socket: Rc<Socket>,
}

impl Stream {
    pub(super) fn new(net: Rc<Net>, socket: Rc<Socket>) -> Stream {
        Stream { net, socket }
    }

    /// The next received bytes; `None` once the peer has ended its side.
    ///
    /// # Errors
    /// `TimedOut` when the receive deadline has passed, else the kernel's.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        #[cfg(feature = "failpoints")]
        super::failpoint::pass();
        for attempt in 0..2 {
            let mut rx = self.socket.rx.borrow_mut();
            if let Some(chunk) = rx.pop() {
                return Poll::Ready(Ok(Some(chunk)));
            }
            if let Some(code) = rx.failed {
                return Poll::Ready(Err(io::Error::from_raw_os_error(code)));
            }
            if rx.ended {
                return Poll::Ready(Ok(None));
            }
            if self.socket.recv_deadline.get() <= self.net.now_ms() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            register(&mut rx.waker, cx.waker());
            drop(rx);
            if attempt == 0 {
                self.net.want_input(&self.socket);
            }
        }
        Poll::Pending
    }

    /// See [`Stream::poll_recv`].
    ///
    /// # Errors
    /// `TimedOut` when the receive deadline has passed, else the kernel's.
    pub async fn recv(&self) -> io::Result<Option<Chunk>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// What has been received already, without waiting.
    pub fn take_input(&self) -> Option<Chunk> {
        self.socket.rx.borrow_mut().pop()
    }

    /// The next `length` bytes if they have been received in one piece.
    pub fn take_exactly(&self, length: usize) -> Option<Chunk> {
        let mut rx = self.socket.rx.borrow_mut();
        let first = rx.first.as_ref()?;
        if first.len() < length {
            return None;
        }
        let mut chunk = rx.pop()?;
        let taken = chunk.split_to(length);
        if !chunk.is_empty() {
            rx.unread(chunk);
        }
        Some(taken)
    }

    /// Ready once there is something to take, or nothing will come any more. Takes nothing.
    ///
    /// # Errors
    /// See [`Stream::poll_recv`].
    pub fn poll_input(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.has_input() {
            return Poll::Ready(Ok(true));
        }
        match self.poll_recv(cx) {
            Poll::Ready(Ok(Some(chunk))) => {
                self.unread(chunk);
                Poll::Ready(Ok(true))
            }
            Poll::Ready(Ok(None)) => Poll::Ready(Ok(false)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Puts back what was received but belongs to a later reader.
    pub fn unread(&self, chunk: Chunk) {
        if !chunk.is_empty() {
            self.socket.rx.borrow_mut().unread(chunk);
        }
    }

    /// Keeps listening while nobody reads, so that an idle connection's end is noticed.
    pub fn keep_watch(&self) {
        let quiet = {
            let rx = self.socket.rx.borrow();
            rx.bytes < RECEIVED_BYTES_MAX && !rx.ended && rx.failed.is_none()
        };
        if quiet {
            self.net.want_input(&self.socket);
        }
    }

    /// True while the peer has neither sent anything unread, nor ended, nor reset.
    pub fn is_quiet(&self) -> bool {
        self.keep_watch();
        let rx = self.socket.rx.borrow();
        rx.is_empty() && !rx.ended && rx.failed.is_none() && self.socket.tx.borrow().failed.is_none()
    }

    /// True if received bytes wait.
    pub fn has_input(&self) -> bool {
        !self.socket.rx.borrow().is_empty()
    }

    /// Ready once the peer has reset the connection. A peer that only ends its side does not count.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut rx = self.socket.rx.borrow_mut();
        if rx.failed.is_some() {
            return Poll::Ready(());
        }
        register(&mut rx.waker, cx.waker());
        let watch = !rx.armed && !rx.ended && rx.bytes < RECEIVED_BYTES_MAX;
        drop(rx);
        if watch {
            self.keep_watch();
            if self.socket.rx.borrow().failed.is_some() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// True if the peer has reset the connection.
    pub fn is_reset(&self) -> bool {
        self.socket.rx.borrow().failed.is_some() || self.socket.tx.borrow().failed.is_some()
    }

    /// Queues bytes to be sent; nothing happens before [`Stream::start`] or a flush.
    pub fn queue_buffer(&self, buffer: Vec<u8>) {
        if buffer.is_empty() {
            self.net.buffers.give_back(buffer);
        } else {
            self.queue(Piece::Buffer(buffer));
        }
    }

    pub fn queue_chunk(&self, chunk: Chunk) {
        if !chunk.is_empty() {
            self.queue(Piece::Chunk(chunk));
        }
    }

    pub fn queue_static(&self, bytes: &'static [u8]) {
        if !bytes.is_empty() {
            self.queue(Piece::Static(bytes));
        }
    }

    fn queue(&self, piece: Piece) {
        let mut tx = self.socket.tx.borrow_mut();
        tx.queued_bytes += piece.bytes().len();
        tx.op.get_or_insert_with(|| self.net.take_send_op()).push(piece);
    }

    /// Hands what is queued to the kernel with the next turn; does not wait.
    pub fn start(&self) {
        self.start_with(&mut self.socket.tx.borrow_mut());
    }

    fn start_with(&self, tx: &mut Tx) {
        if tx.op.is_some() && !tx.in_flight && !tx.connecting && tx.failed.is_none() {
            self.net.start_sending(&self.socket, tx);
        }
    }

    /// What is sent from here on is the last: the caller ends or drops the stream as soon as it is flushed, so that the
    /// kernel can send the end together with it (else it would hold the last segment back for up to 200 ms).
    pub fn mark_last(&self) {
        self.socket.tx.borrow_mut().last = true;
    }

    /// Ready when at most `bytes` wait to be taken by the kernel.
    ///
    /// # Errors
    /// `TimedOut` when the send deadline has passed, else the kernel's.
    pub fn poll_room(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<()>> {
        #[cfg(feature = "failpoints")]
        super::failpoint::pass();
        let mut tx = self.socket.tx.borrow_mut();
        self.start_with(&mut tx);
        if let Some(code) = tx.failed {
            return Poll::Ready(Err(io::Error::from_raw_os_error(code)));
        }
        if tx.queued_bytes <= bytes && !tx.connecting {
            return Poll::Ready(Ok(()));
        }
        if self.socket.send_deadline.get() <= self.net.now_ms() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        register(&mut tx.waker, cx.waker());
        Poll::Pending
    }

    /// Waits until everything queued is with the kernel.
    ///
    /// # Errors
    /// See [`Stream::poll_room`].
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx, 0)).await
    }

    /// Waits until a begun connect has succeeded.
    ///
    /// # Errors
    /// The connect's, or `TimedOut` when the send deadline has passed.
    pub async fn connected(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx, usize::MAX)).await
    }

    /// Bytes queued that the kernel has not taken.
    pub fn unsent_bytes(&self) -> usize {
        self.socket.tx.borrow().queued_bytes
    }

    pub fn set_recv_deadline(&self, after: Option<Duration>) {
        let at = after.map_or(NEVER, |time| self.net.deadline_after(time));
        self.socket.recv_deadline.set(at);
        self.net.watch_deadline(&self.socket, at);
    }

    pub fn set_send_deadline(&self, after: Option<Duration>) {
        let at = after.map_or(NEVER, |time| self.net.deadline_after(time));
        self.socket.send_deadline.set(at);
        self.net.watch_deadline(&self.socket, at);
    }

    /// Ends our side; what was sent before still arrives.
    pub fn end_sending(&self) {
        // SAFETY: the descriptor stays open as long as this stream.
        unsafe { libc::shutdown(self.socket.fd, libc::SHUT_WR) };
    }

    /// Makes the drop of this stream a reset, so that the peer cannot take a cut answer for a whole one.
    pub fn reset_on_close(&self) {
        // SAFETY: the descriptor stays open as long as this stream.
        let fd = unsafe { BorrowedFd::borrow_raw(self.socket.fd) };
        // A failure leaves an orderly close, which is the most that can be had then.
        let _ = socket2::SockRef::from(&fd).set_linger(Some(Duration::ZERO));
    }

    /// Our own address of this connection; `None` for unix sockets.
    pub fn local(&self) -> Option<SocketAddr> {
        // SAFETY: the descriptor stays open as long as this stream.
        let fd = unsafe { BorrowedFd::borrow_raw(self.socket.fd) };
        socket2::SockRef::from(&fd).local_addr().ok()?.as_socket()
    }

    /// Milliseconds of the reactor's clock.
    pub fn now_ms(&self) -> u64 {
        self.net.now_ms()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.net.close_socket(&self.socket);
    }
}

fn register(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|old| old.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

/// A listening socket of this core.
pub struct Acceptor {
    net: Rc<Net>,
    accept: Rc<Accept>,
}

impl Acceptor {
    pub(super) fn new(net: Rc<Net>, accept: Rc<Accept>) -> Acceptor {
        Acceptor { net, accept }
    }

    /// The next connection.
    ///
    /// # Errors
    /// The kernel's, `EMFILE` among them; the next call tries again.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        for attempt in 0..2 {
            if let Some(result) = self.accept.queue.borrow_mut().pop_front() {
                return Poll::Ready(result);
            }
            register(&mut self.accept.waker.borrow_mut(), cx.waker());
            if attempt == 0 {
                self.net.want_accept(&self.accept);
            }
        }
        Poll::Pending
    }

    /// See [`Acceptor::poll_accept`].
    ///
    /// # Errors
    /// The kernel's.
    pub async fn accept(&self) -> io::Result<OwnedFd> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The listening descriptor, for socket options.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as this acceptor.
        unsafe { BorrowedFd::borrow_raw(self.accept.fd) }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.net.close_accept(&self.accept);
    }
}

/// A descriptor of somebody else's that is watched for input.
pub struct Watch {
    net: Rc<Net>,
    readable: Rc<Readable>,
}

impl Watch {
    pub(super) fn new(net: Rc<Net>, readable: Rc<Readable>) -> Watch {
        Watch { net, readable }
    }

    /// Waits until the descriptor has become readable since the last call.
    pub async fn ready(&self) {
        poll_fn(|cx| {
            if self.readable.ready.replace(false) {
                return Poll::Ready(());
            }
            register(&mut self.readable.waker.borrow_mut(), cx.waker());
            self.net.want_readable(&self.readable);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.net.close_readable(&self.readable);
    }
}
