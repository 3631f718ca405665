//! A body on its way in: pulled from a stream chunk by chunk, its framing taken off. Writing one is `pump`'s.

use std::io;
use std::task::{Context, Poll, ready};

use ringway_proto::{Body, ChunkedDecoder, Step, Trailers};

use crate::net::{Chunk, Stream};

/// True of names of fields that may not come behind a body.
pub type Withheld = Box<dyn Fn(&[u8]) -> bool>;

/// Where a body that is being read stands.
pub struct BodyReader {
    framing: Framing,
    /// Body bytes given out so far.
    pub bytes: u64,
    withheld: Option<Withheld>,
}

enum Framing {
    Over,
    /// Over, and these came behind the last chunk.
    Trailed(Trailers),
    /// Bytes still to come.
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

/// Why a body cannot be read to its end.
#[derive(Debug)]
pub enum BodyError {
    /// The peer ended before the body did.
    Truncated,
    TimedOut,
    Reset(io::Error),
    /// The chunked framing is broken.
    Malformed(&'static str),
}

impl BodyReader {
    pub fn new(body: Body) -> BodyReader {
        let framing = match body {
            Body::None | Body::Length(0) => Framing::Over,
            Body::Length(length) => Framing::Length(length),
            Body::Chunked => Framing::Chunked(ChunkedDecoder::new()),
            Body::UntilClose => Framing::UntilClose,
        };
        BodyReader { framing, bytes: 0, withheld: None }
    }

    /// Fields behind the body of whose names `withheld` is true are dropped.
    #[must_use]
    pub fn withholding(mut self, withheld: Withheld) -> BodyReader {
        self.withheld = Some(withheld);
        self
    }

    /// Whatever comes, until the peer ends: for tunnels.
    pub fn raw() -> BodyReader {
        BodyReader::new(Body::UntilClose)
    }

    /// True once the whole body has been given out.
    pub fn is_over(&self) -> bool {
        matches!(self.framing, Framing::Over | Framing::Trailed(_))
    }

    /// What came behind the last chunk; `None` for bodies that are not chunked.
    pub fn trailers(&self) -> Option<&Trailers> {
        match &self.framing {
            Framing::Trailed(trailers) => Some(trailers),
            _ => None,
        }
    }

    /// The next piece; `None` at the end. What belongs to the next message goes back into the stream.
    ///
    /// # Errors
    /// [`BodyError`]; the stream is of no use after any.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, from: &Stream) -> Poll<Result<Option<Chunk>, BodyError>> {
        loop {
            if self.is_over() {
                return Poll::Ready(Ok(None));
            }
            let chunk = match ready!(from.poll_recv(cx)) {
                Ok(Some(chunk)) => chunk,
                Ok(None) if matches!(self.framing, Framing::UntilClose) => {
                    self.framing = Framing::Over;
                    return Poll::Ready(Ok(None));
                }
                Ok(None) => return Poll::Ready(Err(BodyError::Truncated)),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Poll::Ready(Err(BodyError::TimedOut)),
                Err(error) => return Poll::Ready(Err(BodyError::Reset(error))),
            };
            if let Some(piece) = self.take(chunk, from)? {
                self.bytes += piece.len() as u64;
                return Poll::Ready(Ok(Some(piece)));
            }
        }
    }

    /// Cuts the body's next piece out of what was received.
    fn take(&mut self, mut chunk: Chunk, from: &Stream) -> Result<Option<Chunk>, BodyError> {
        match &mut self.framing {
            Framing::Over | Framing::Trailed(_) => {
                from.unread(chunk);
                Ok(None)
            }
            Framing::UntilClose => Ok(Some(chunk)),
            Framing::Length(left) => {
                let mine = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
                let piece = chunk.split_to(mine);
                *left -= mine as u64;
                if *left == 0 {
                    self.framing = Framing::Over;
                    from.unread(chunk);
                }
                Ok(Some(piece))
            }
            Framing::Chunked(decoder) => {
                let (consumed, step) = decoder.step(&chunk).map_err(|error| BodyError::Malformed(error.code()))?;
                let mut piece = None;
                if let Step::Data(range) = &step {
                    let mut data = chunk.clone();
                    data.truncate(range.end);
                    data.advance(range.start);
                    piece = Some(data);
                }
                chunk.advance(consumed);
                from.unread(chunk);
                if step == Step::End {
                    let mut trailers = std::mem::take(decoder.trailers());
                    if let Some(withheld) = &self.withheld {
                        trailers.drop_fields(withheld);
                    }
                    self.framing = Framing::Trailed(trailers);
                }
                Ok(piece)
            }
        }
    }
}
