//! One connection to a node: commands go out in the order in which they were taken, and each reply is the oldest one's.
//!
//! A command whose time is over keeps its place until its reply comes, which is dropped then: closing the connection instead
//! would fail everything else on it, and make a slow server slower by connecting anew. Only a connection from which
//! nothing comes at all is closed (`RedisPlan::silence_max`). When it ends, what was sent on it has no answer; what was not
//! goes elsewhere.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringway_proto::resp::{FrameScan, Reply, RespError, RespVersion, decode};

use super::call::{Call, Fate};
use super::hello;
use super::inner::Inner;
use super::node::Node;
use crate::net::{Stream, spawn};
use crate::observe::core_meters::{add, sub};

/// Chunks read in one go before others have their turn.
const CHUNKS_PER_TURN_MAX: usize = 16;
/// Bytes that wait for the kernel before no more commands are taken.
const UNSENT_BYTES_MAX: usize = 256 * 1024;
/// A connection counts as idle once it had nothing to do for so long: between the commands of a busy core it rests for
/// microseconds, and closing it then would only mean opening another one.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// A buffer that grew beyond this is given back when it is empty.
const BUFFER_BYTES_KEPT_MAX: usize = 64 * 1024;

pub(super) struct Link {
    pub in_flight: Cell<usize>,
    is_open: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A command whose reply is still to come.
pub(super) struct InFlight {
    pub call: Rc<Call>,
    pub skip: u8,
}

/// Why a connection ended.
enum End {
    /// It had nothing to do.
    Idle,
    Silent,
    Closed,
    Failed(io::Error),
    Malformed(RespError),
    /// A reply to no command: whose the next one is cannot be known.
    Unasked,
}

impl Link {
    /// Connects; the node's commands are taken as soon as it is open.
    pub fn start(inner: Rc<Inner>, node: Rc<Node>) -> Rc<Link> {
        let link = Rc::new(Link { in_flight: Cell::new(0), is_open: Cell::new(false), waker: RefCell::new(None) });
        let gone = Gone { inner, node, link: link.clone(), failed: Some("its task ended".into()) };
        spawn(gone.run());
        link
    }

    pub fn is_open(&self) -> bool {
        self.is_open.get()
    }

    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Takes the link out of its node however its task ends.
struct Gone {
    inner: Rc<Inner>,
    node: Rc<Node>,
    link: Rc<Link>,
    /// Why it never was open.
    failed: Option<Rc<str>>,
}

impl Gone {
    async fn run(mut self) {
        let opened = hello::open(&self.inner, &self.node).await;
        let (stream, replies) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                add(&self.inner.meters.connects_failed, 1);
                let why: Rc<str> = why.into();
                self.node.connect_failed(self.inner.net.now_ms(), why.clone());
                self.failed = Some(why);
                self.inner.want_refresh();
                return;
            }
        };
        add(&self.inner.meters.connects_ok, 1);
        self.node.connected();
        self.failed = None;
        let mut session = Session::new(&self, stream, replies);
        // A push may have come together with the last of the first words.
        let end = match session.match_replies() {
            Ok(()) => poll_fn(|cx| session.poll(cx)).await,
            Err(end) => end,
        };
        if !matches!(end, End::Idle) {
            self.inner.want_refresh();
        }
        session.why = end.text().into();
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let failed = self.failed.take();
        self.node.link_gone(&self.inner, &self.link, failed);
    }
}

/// The connection while it is open. Dropping it fails what has no answer.
struct Session {
    inner: Rc<Inner>,
    node: Rc<Node>,
    link: Rc<Link>,
    stream: Stream,
    replies: Replies,
    in_flight: VecDeque<InFlight>,
    /// What the oldest command's ASKING was refused with.
    asking_refused: Option<Bytes>,
    quiet_since_ms: u64,
    why: Rc<str>,
}

impl Session {
    fn new(of: &Gone, stream: Stream, replies: Replies) -> Session {
        of.link.is_open.set(true);
        add(&of.inner.meters.connections_open, 1);
        stream.set_send_deadline(None);
        let mut session = Session {
            inner: of.inner.clone(),
            node: of.node.clone(),
            link: of.link.clone(),
            stream,
            replies,
            in_flight: VecDeque::new(),
            asking_refused: None,
            quiet_since_ms: 0,
            why: "its task ended".into(),
        };
        session.expect();
        session
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.link.waker.replace(Some(cx.waker().clone()));
        for _ in 0..CHUNKS_PER_TURN_MAX {
            match self.send(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(error)),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            match self.stream.poll_recv(cx) {
                Poll::Pending => return if self.is_over() { Poll::Ready(End::Idle) } else { Poll::Pending },
                Poll::Ready(Ok(Some(chunk))) => {
                    self.replies.push(&chunk);
                    if let Err(end) = self.match_replies() {
                        return Poll::Ready(end);
                    }
                    self.expect();
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(End::Closed),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                    if !self.is_quiet() {
                        return Poll::Ready(End::Silent);
                    }
                    let left = self.rest_left();
                    if left.is_zero() {
                        return Poll::Ready(End::Idle);
                    }
                    self.stream.set_recv_deadline(Some(left));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Everything that waits and may go, in one piece. Pending: the kernel takes no more.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.stream.poll_room(cx, UNSENT_BYTES_MAX) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            if self.node.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let was_idle = self.in_flight.is_empty();
            let out = self.node.take(&self.inner, &mut self.in_flight);
            self.link.in_flight.set(self.in_flight.len());
            if out.is_empty() {
                self.inner.net.buffers().give_back(out);
                return Poll::Ready(Ok(()));
            }
            self.stream.queue_buffer(out);
            self.stream.start();
            if was_idle {
                self.expect();
            }
        }
    }

    /// How long it may be silent from now on.
    fn expect(&mut self) {
        let silence = if self.is_quiet() {
            self.quiet_since_ms = self.inner.net.now_ms();
            self.rest_left()
        } else {
            self.inner.plan().silence_max()
        };
        self.stream.set_recv_deadline(Some(silence));
    }

    fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.replies.is_empty()
    }

    /// How long it may still have nothing to do; not as long where there are more than may rest.
    fn rest_left(&self) -> Duration {
        let longest = self.inner.plan().config.idle_timeout;
        let may = if self.node.may_rest(&self.inner) { longest } else { longest.min(IDLE_AFTER) };
        may.saturating_sub(Duration::from_millis(self.inner.net.now_ms() - self.quiet_since_ms))
    }

    /// It has nothing to do and is not wanted any more.
    fn is_over(&self) -> bool {
        self.in_flight.is_empty() && self.node.is_empty() && (self.inner.is_closed() || self.node.is_retired())
    }

    fn match_replies(&mut self) -> Result<(), End> {
        let mut answered = 0;
        let result = loop {
            match self.replies.next() {
                Ok(None) => break Ok(()),
                Ok(Some(Reply::Push(list))) => self.inner.on_push(&self.node, &list),
                Ok(Some(reply)) => match self.in_flight.front_mut() {
                    None => break Err(End::Unasked),
                    Some(first) if first.skip > 0 => {
                        first.skip -= 1;
                        if let Reply::Error(text) = reply {
                            self.asking_refused = Some(text);
                        }
                    }
                    Some(_) => {
                        answered += 1;
                        let first = self.in_flight.pop_front().expect("looked at");
                        // Without ASKING the command was only sent back, which would hide why. But it has run if the
                        // slot has arrived meanwhile.
                        let why = self.asking_refused.take().filter(|_| matches!(reply, Reply::Error(_)));
                        let reply = why.map_or(reply, Reply::Error);
                        if !first.call.finish(Ok(reply)) {
                            add(&self.inner.meters.late_replies, 1);
                        }
                    }
                },
                Err(error) => break Err(End::Malformed(error)),
            }
        };
        self.node.release(&self.inner, answered);
        self.link.in_flight.set(self.in_flight.len());
        result
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.link.is_open.set(false);
        sub(&self.inner.meters.connections_open, 1);
        self.node.release(&self.inner, self.in_flight.len());
        for InFlight { call, .. } in self.in_flight.drain(..) {
            call.finish(Err(Fate::Unanswered(self.why.clone())));
        }
    }
}

impl End {
    fn text(&self) -> String {
        match self {
            End::Idle => "closed without need".to_owned(),
            End::Silent => "nothing came any more".to_owned(),
            End::Closed => "the server closed".to_owned(),
            End::Failed(error) => error.to_string(),
            End::Malformed(error) => error.to_string(),
            End::Unasked => "a reply to no command".to_owned(),
        }
    }
}

/// Received bytes, as replies.
pub(super) struct Replies {
    buffer: BytesMut,
    scan: FrameScan,
    pub version: RespVersion,
}

impl Replies {
    /// Until a `HELLO 3` is answered a server speaks RESP2; of what it says then, both read the same.
    pub fn new() -> Replies {
        Replies { buffer: BytesMut::new(), scan: FrameScan::default(), version: RespVersion::Resp3 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        // A long reply's room is had at once, not by doubling.
        let need = self.scan.need().saturating_sub(self.buffer.len());
        self.buffer.reserve(need.max(bytes.len()));
        self.buffer.extend_from_slice(bytes);
    }

    pub fn next(&mut self) -> Result<Option<Reply>, RespError> {
        let Some(end) = self.scan.find_end(&self.buffer)? else {
            if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_BYTES_KEPT_MAX {
                self.buffer = BytesMut::new();
            }
            return Ok(None);
        };
        decode(&self.buffer.split_to(end).freeze(), self.version).map(Some)
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}
