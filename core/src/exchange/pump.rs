//! Moves a body from one stream to another, in either direction, with back-pressure. The only such loop: requests,
//! answers and tunnels differ in their framing and their timeouts alone.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use ringway_proto::{CHUNK_END, write_chunk_head, write_last_chunk};

use super::body::{BodyError, BodyReader};
use super::transform::{Step, Through, Transform};
use crate::net::{Buffers, Room, Stream};

/// Bytes that may wait in the receiving stream before the pump stops reading: enough for a fast link. What the sender's
/// stream has received by then waits there (`net`).
const UNSENT_BYTES_MAX: usize = 128 * 1024;
/// The same while half of the core's buffers hold bytes. While three quarters do, a piece goes before the next is read.
const UNSENT_BYTES_MAX_AT_HALF: usize = 32 * 1024;

/// Pieces that a body which is changed moves by in one poll; then other tasks have their turn. A piece is one buffer of
/// the core, which takes a slow encoder about a millisecond.
const CHANGED_PIECES_MAX: usize = 4;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is: its length stands in the head, or its end is the connection's.
    Plain,
    Chunked,
}

/// A body on its way.
pub struct Pump {
    reader: BodyReader,
    encoding: Encoding,
    /// The longest wait for the next piece; `None`: somebody else watches over it.
    recv_timeout: Option<Duration>,
    /// Milliseconds of the reactor's clock after which nothing more is read.
    until_ms: u64,
    /// The longest wait for the receiver to take some of what is queued.
    send_timeout: Duration,
    /// Body bytes at most; more is [`PumpError::TooLarge`].
    bytes_max: u64,
    state: State,
    unsent_before: usize,
    kept: Kept,
    copy: Option<Box<Copied>>,
    through: Option<Box<Through>>,
}

/// What was read of the body, for another receiver.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// A longer body is not kept.
    bytes_max: usize,
    /// Some of the body is gone.
    lost: bool,
    /// The next receiver has not got it yet.
    owed: bool,
    /// It is all of the body, whatever was read.
    whole: bool,
}

impl Kept {
    fn add(&mut self, piece: &[u8], buffers: &Buffers) {
        if self.bytes.len() + piece.len() <= self.bytes_max && !self.lost {
            if self.bytes.capacity() == 0 {
                self.bytes = buffers.send_buffer();
            }
            self.bytes.extend_from_slice(piece);
        } else {
            self.lost = true;
            self.give_back(buffers);
        }
    }

    fn give_back(&mut self, buffers: &Buffers) {
        if self.bytes.capacity() > 0 {
            buffers.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

/// What has gone by, for somebody who wants the body too.
struct Copied {
    bytes: Vec<u8>,
    bytes_max: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Moving,
    Done,
    /// Stopped before the end; what is left of the body stays unread.
    Stopped,
}

/// Whose fault it is that a body did not arrive.
#[derive(Debug)]
pub enum PumpError {
    Source(BodyError),
    Sink(io::Error),
    /// It passes this limit, in bytes.
    TooLarge(u64),
}

impl Pump {
    pub fn new(reader: BodyReader, encoding: Encoding, recv_timeout: Option<Duration>, send_timeout: Duration) -> Pump {
        let state = if reader.is_over() && encoding == Encoding::Plain { State::Done } else { State::Moving };
        let (bytes_max, until_ms) = (u64::MAX, u64::MAX);
        Pump {
            reader,
            encoding,
            recv_timeout,
            until_ms,
            send_timeout,
            bytes_max,
            state,
            unsent_before: 0,
            kept: Kept::default(),
            copy: None,
            through: None,
        }
    }

    /// The receiver gets what `transform` makes of the body. Such a body is not kept for another receiver.
    pub fn through(mut self, transform: Box<dyn Transform>) -> Pump {
        self.through = Some(Through::new(transform));
        self.kept.lost = true;
        self.state = State::Moving;
        self
    }

    pub fn until(mut self, until_ms: u64) -> Pump {
        self.until_ms = until_ms;
        self
    }

    pub fn limited(mut self, bytes_max: u64) -> Pump {
        self.bytes_max = bytes_max;
        self
    }

    /// Begins with what was read already: all of the body.
    pub fn with_whole(mut self, bytes: Vec<u8>) -> Pump {
        self.kept.owed = !bytes.is_empty();
        self.kept.bytes = bytes;
        self.kept.whole = true;
        if self.kept.owed {
            self.state = State::Moving;
        }
        self
    }

    /// Keeps a copy of the body, of at most `bytes_max`; to be asked for before anything has moved.
    pub fn copy(&mut self, bytes_max: usize) {
        let kept = self.kept.bytes.len() <= bytes_max;
        self.copy = kept.then(|| Box::new(Copied { bytes: self.kept.bytes.clone(), bytes_max }));
    }

    /// The whole body; `None` if none was kept, it was too large, or it is not over.
    pub fn take_copy(&mut self) -> Option<Vec<u8>> {
        self.copy.take().filter(|_| self.is_done()).map(|copy| copy.bytes)
    }

    /// True once the whole body is queued at its receiver.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// True while there is work for [`Pump::poll`].
    pub fn is_moving(&self) -> bool {
        self.state == State::Moving
    }

    /// Keeps what is read, up to `bytes_max`, so that another receiver can get the body from its beginning.
    pub fn keeping(mut self, bytes_max: usize) -> Pump {
        self.kept.bytes_max = bytes_max;
        self
    }

    /// True if another receiver can get the whole body.
    pub fn can_begin_again(&self) -> bool {
        !self.kept.lost
    }

    /// The next receiver gets the body from its beginning.
    pub fn begin_again(&mut self) {
        if self.reader.bytes == 0 && self.reader.is_over() && self.encoding == Encoding::Plain {
            return; // there is none
        }
        self.kept.owed = !self.kept.bytes.is_empty();
        self.state = State::Moving;
        self.unsent_before = 0;
    }

    /// Nobody will need the body again.
    pub fn forget(&mut self, buffers: &Buffers) {
        self.kept.lost = true;
        self.kept.give_back(buffers);
    }

    /// The whole body as it is written, for a second receiver beside the first; `None` unless all of it was read and kept.
    pub fn whole(&self, buffers: &Buffers) -> Option<Vec<u8>> {
        let is_whole = self.kept.whole || self.kept.bytes.len() as u64 == self.reader.bytes;
        if !self.is_done() || self.kept.lost || !is_whole {
            return None;
        }
        let mut out = buffers.send_buffer();
        self.write_kept(&mut out);
        if self.encoding == Encoding::Chunked {
            write_last_chunk(&mut out, self.reader.trailers());
        }
        Some(out)
    }

    /// Gives the body up.
    pub fn stop(&mut self) {
        if self.state == State::Moving {
            self.state = State::Stopped;
        }
    }

    /// Body bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.reader.bytes
    }

    /// Body bytes that the receiver gets, so far.
    pub fn bytes_written(&self) -> u64 {
        self.through.as_ref().map_or(self.reader.bytes, |through| through.bytes)
    }

    /// Moves what can be moved. Ready when everything is queued (not yet flushed) at `to`.
    ///
    /// # Errors
    /// [`PumpError`], after which the pump is stopped.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        to: &Stream,
        buffers: &Buffers,
    ) -> Poll<Result<(), PumpError>> {
        if self.state != State::Moving {
            return Poll::Ready(Ok(()));
        }
        let result = self.advance(cx, from, to, buffers);
        match &result {
            Poll::Ready(Ok(())) => self.state = State::Done,
            Poll::Ready(Err(_)) => self.state = State::Stopped,
            Poll::Pending => {}
        }
        result
    }

    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        to: &Stream,
        buffers: &Buffers,
    ) -> Poll<Result<(), PumpError>> {
        let bytes_before = self.reader.bytes;
        if from.now_ms() >= self.until_ms {
            return Poll::Ready(Err(PumpError::Source(BodyError::TimedOut)));
        }
        if std::mem::take(&mut self.kept.owed) {
            let mut out = buffers.send_buffer();
            self.write_kept(&mut out);
            to.queue_buffer(out);
        }
        if self.through.is_some() {
            return self.advance_changed(cx, from, to, buffers);
        }
        loop {
            if self.poll_room(cx, to, buffers)?.is_pending() {
                return Poll::Pending;
            }
            match self.reader.poll_next(cx, from) {
                Poll::Ready(Ok(Some(chunk))) => {
                    if self.reader.bytes > self.bytes_max {
                        return Poll::Ready(Err(PumpError::TooLarge(self.bytes_max)));
                    }
                    self.kept.add(&chunk, buffers);
                    self.keep_copy(&chunk);
                    self.write(to, chunk, buffers);
                }
                Poll::Ready(Ok(None)) => {
                    self.finish(to, buffers);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Source(error))),
                Poll::Pending => return self.wait(cx, from, to, bytes_before),
            }
        }
    }

    /// As [`Pump::advance`], for a body that is changed on its way.
    #[inline(never)]
    fn advance_changed(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        to: &Stream,
        buffers: &Buffers,
    ) -> Poll<Result<(), PumpError>> {
        let bytes_before = self.reader.bytes;
        for _ in 0..CHANGED_PIECES_MAX {
            if self.poll_room(cx, to, buffers)?.is_pending() {
                return Poll::Pending;
            }
            let Some(through) = &mut self.through else { return Poll::Ready(Ok(())) };
            let mut out = buffers.send_buffer();
            let step = through.step(cx, &mut self.reader, from, &mut out).map_err(PumpError::Source)?;
            self.write_changed(to, out, buffers);
            match step {
                Step::Moved => {}
                Step::Ended => {
                    self.finish(to, buffers);
                    return Poll::Ready(Ok(()));
                }
                Step::Waits => return self.wait(cx, from, to, bytes_before),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Pending while the receiver has enough to take.
    fn poll_room(&mut self, cx: &mut Context<'_>, to: &Stream, buffers: &Buffers) -> Poll<Result<(), io::Error>> {
        let unsent_max = match buffers.room() {
            Room::Plenty => UNSENT_BYTES_MAX,
            Room::Half => UNSENT_BYTES_MAX_AT_HALF,
            Room::Scarce => 0,
        };
        if to.unsent_bytes() > unsent_max {
            if to.poll_room(cx, unsent_max)?.is_pending() {
                self.note_send_progress(to);
                return Poll::Pending;
            }
            to.set_send_deadline(None);
        }
        Poll::Ready(Ok(()))
    }

    /// The sender pauses.
    fn wait(&self, cx: &mut Context<'_>, from: &Stream, to: &Stream, bytes_before: u64) -> Poll<Result<(), PumpError>> {
        if self.reader.bytes != bytes_before || bytes_before == 0 {
            self.watch(from);
        }
        // What failed at the receiver must show although nothing more comes from the sender.
        match to.poll_room(cx, usize::MAX) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(PumpError::Sink(error))),
            _ => Poll::Pending,
        }
    }

    fn keep_copy(&mut self, piece: &[u8]) {
        match &mut self.copy {
            Some(copy) if copy.bytes.len() + piece.len() <= copy.bytes_max => copy.bytes.extend_from_slice(piece),
            Some(_) => self.copy = None,
            None => {}
        }
    }

    fn watch(&self, from: &Stream) {
        if let Some(timeout) = self.recv_timeout {
            let left = Duration::from_millis(self.until_ms - from.now_ms());
            from.set_recv_deadline(Some(timeout.min(left)));
        }
    }

    fn note_send_progress(&mut self, to: &Stream) {
        let unsent = to.unsent_bytes();
        if unsent != self.unsent_before {
            self.unsent_before = unsent;
            to.set_send_deadline(Some(self.send_timeout));
        }
    }

    fn write(&self, to: &Stream, chunk: crate::net::Chunk, buffers: &Buffers) {
        match self.encoding {
            Encoding::Plain => to.queue_chunk(chunk),
            Encoding::Chunked => {
                let mut line = buffers.send_buffer();
                write_chunk_head(&mut line, chunk.len());
                to.queue_buffer(line);
                to.queue_chunk(chunk);
                to.queue_static(CHUNK_END);
            }
        }
    }

    fn write_changed(&self, to: &Stream, out: Vec<u8>, buffers: &Buffers) {
        if out.is_empty() {
            return buffers.give_back(out);
        }
        if self.encoding == Encoding::Plain {
            return to.queue_buffer(out);
        }
        let mut line = buffers.send_buffer();
        write_chunk_head(&mut line, out.len());
        to.queue_buffer(line);
        to.queue_buffer(out);
        to.queue_static(CHUNK_END);
    }

    fn write_kept(&self, out: &mut Vec<u8>) {
        if self.kept.bytes.is_empty() {
            return;
        }
        let chunked = self.encoding == Encoding::Chunked;
        if chunked {
            write_chunk_head(out, self.kept.bytes.len());
        }
        out.extend_from_slice(&self.kept.bytes);
        if chunked {
            out.extend_from_slice(CHUNK_END);
        }
    }

    fn finish(&self, to: &Stream, buffers: &Buffers) {
        if self.encoding == Encoding::Chunked {
            let mut last = buffers.send_buffer();
            write_last_chunk(&mut last, self.reader.trailers());
            to.queue_buffer(last);
        }
        to.start();
    }
}

impl From<io::Error> for PumpError {
    /// Only sending is asked for with `?`; what reading fails with is a [`BodyError`].
    fn from(error: io::Error) -> PumpError {
        PumpError::Sink(error)
    }
}
