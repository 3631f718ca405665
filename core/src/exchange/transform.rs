//! A body that is changed while it moves: what filters put between a `BodyReader` and whoever receives. Does not read or
//! send (`pump`).

use std::task::{Context, Poll};

use super::body::{BodyError, BodyReader};
use crate::net::{Chunk, Stream};

/// What comes out of one step grows to about here; then it is sent on before the next one.
pub const STEP_BYTES_MAX: usize = 64 * 1024;

/// Changes the bytes of one body. Each call appends what comes out; after an error there is no other call.
pub trait Transform {
    /// Takes the next piece, or its beginning if `out` has grown beyond [`STEP_BYTES_MAX`]: how many bytes it took.
    ///
    /// # Errors
    /// A stable word for why the body cannot be changed.
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str>;

    /// Nothing more comes for now: gives out what was held back.
    ///
    /// # Errors
    /// As `push`.
    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str>;

    /// Nothing more comes at all.
    ///
    /// # Errors
    /// As `push`.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str>;
}

/// A transform at work in a pump.
pub(super) struct Through {
    by: Box<dyn Transform>,
    /// What it has not taken yet.
    rest: Option<Chunk>,
    /// It may hold something back.
    holds: bool,
    /// Bytes that came out.
    pub(super) bytes: u64,
}

/// What one step came to.
pub(super) enum Step {
    Moved,
    Ended,
    /// The sender pauses.
    Waits,
}

impl Through {
    pub(super) fn new(by: Box<dyn Transform>) -> Box<Through> {
        Box::new(Through { by, rest: None, holds: false, bytes: 0 })
    }

    /// The next piece through it, into `out`.
    pub(super) fn step(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut BodyReader,
        from: &Stream,
        out: &mut Vec<u8>,
    ) -> Result<Step, BodyError> {
        let piece = match self.rest.take() {
            Some(rest) => Poll::Ready(Some(rest)),
            None => match reader.poll_next(cx, from) {
                Poll::Ready(piece) => Poll::Ready(piece?),
                Poll::Pending => Poll::Pending,
            },
        };
        let step = match piece {
            Poll::Ready(Some(mut piece)) => {
                self.holds = true;
                let taken = self.by.push(&piece, out).map_err(BodyError::Malformed)?;
                if taken < piece.len() {
                    piece.advance(taken);
                    self.rest = Some(piece);
                }
                Step::Moved
            }
            Poll::Ready(None) => {
                self.by.finish(out).map_err(BodyError::Malformed)?;
                Step::Ended
            }
            // Whoever receives must not wait for more than the sender waits (server-sent events).
            Poll::Pending => {
                if std::mem::take(&mut self.holds) {
                    self.by.flush(out).map_err(BodyError::Malformed)?;
                }
                Step::Waits
            }
        };
        self.bytes += out.len() as u64;
        Ok(step)
    }
}

/// A whole body through a transform.
///
/// # Errors
/// As [`Transform::push`].
pub fn transform_whole(by: &mut dyn Transform, mut body: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    while !body.is_empty() {
        let mut piece = Vec::new();
        let taken = by.push(body, &mut piece)?;
        out.append(&mut piece);
        body = &body[taken..];
    }
    by.finish(out)
}

/// One transform behind another.
pub struct Chained {
    first: Box<dyn Transform>,
    second: Box<dyn Transform>,
    between: Vec<u8>,
    /// Bytes of `between` that the second has taken.
    taken: usize,
}

impl Chained {
    pub fn new(first: Box<dyn Transform>, second: Box<dyn Transform>) -> Chained {
        Chained { first, second, between: Vec::new(), taken: 0 }
    }

    /// True once the second has taken everything.
    fn hand_on(&mut self, out: &mut Vec<u8>) -> Result<bool, &'static str> {
        while self.taken < self.between.len() {
            self.taken += self.second.push(&self.between[self.taken..], out)?;
            if out.len() > STEP_BYTES_MAX && self.taken < self.between.len() {
                return Ok(false);
            }
        }
        self.between.clear();
        self.taken = 0;
        Ok(true)
    }

    fn hand_all_on(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        while !self.hand_on(out)? {}
        Ok(())
    }
}

impl Transform for Chained {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
        if !self.hand_on(out)? {
            return Ok(0);
        }
        let taken = self.first.push(piece, &mut self.between)?;
        self.hand_on(out)?;
        Ok(taken)
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        self.first.flush(&mut self.between)?;
        self.hand_all_on(out)?;
        self.second.flush(out)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        self.first.finish(&mut self.between)?;
        self.hand_all_on(out)?;
        self.second.finish(out)
    }
}
