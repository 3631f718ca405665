//! Content codings (RFC 9110 8.4.1): encoders and decoders as body transforms, and how many of them one core has at once.
//! Does not choose (`compress`, `decompress`).

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;

use brotli::CompressorWriter;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use zstd::stream::raw::{CParameter, DParameter, InBuffer, Operation, OutBuffer};

use crate::exchange::{STEP_BYTES_MAX, Transform};

/// Encoders of one core that are at work, each with up to about a megabyte. Whoever comes later does without.
const ENCODERS_MAX: usize = 128;
/// Decoders of one core that are at work on requests; a sender can make one take 16 MiB.
const DECODERS_MAX: usize = 16;
/// And on answers, each as long as its client reads: clients that are slow at it keep nobody's request waiting.
const ANSWER_DECODERS_MAX: usize = 64;
/// Encoders that are kept for the next body.
const KEPT_MAX: usize = 8;
/// An encoder looks back 128 KiB or 256 KiB: more costs memory for little.
const ZSTD_WINDOW_LOG: u32 = 17;
const BROTLI_WINDOW_LOG: u32 = 18;
/// What a decoder must be able to look back (RFC 8878 3.1.1.1.2).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// 2^15, and 16 for the format of gzip.
const GZIP_WINDOW_BITS: u8 = 15;
/// Room that is made for what comes out of one call.
const ROOM_BYTES: usize = 8 * 1024;

/// A coding that bodies come in or go out in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Brotli,
    Zstd,
    /// Only decoded: what it means was in dispute for too long.
    Deflate,
}

/// The coders of one core.
#[derive(Default)]
pub(super) struct Coders {
    encoders: AtWork,
    decoders: AtWork,
    answer_decoders: AtWork,
    gzip: RefCell<Vec<(u32, Compress)>>,
    zstd: RefCell<Vec<(u32, zstd::stream::raw::Encoder<'static>)>>,
}

/// How many are at work; each holds a clone.
type AtWork = Rc<()>;

/// Encodes one body.
pub(super) struct Encoder {
    engine: Option<Encodes>,
    level: u32,
    coders: Rc<Coders>,
    _at_work: AtWork,
}

enum Encodes {
    Gzip(Compress),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::raw::Encoder<'static>),
}

/// Decodes one body, within limits.
pub(super) struct Decoder {
    engine: Decodes,
    limits: DecodeLimits,
    /// Bytes that the outermost decoder of the body has taken.
    taken: Rc<Cell<u64>>,
    counts_taken: bool,
    /// Bytes that went into this one and came out of it.
    got: u64,
    given: u64,
    _at_work: AtWork,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct DecodeLimits {
    /// Of what comes out.
    pub(super) bytes_max: u64,
    /// What comes out to what goes in; the first [`FREE_BYTES`] are free.
    pub(super) ratio_max: u64,
}

/// Small bodies may be as dense as they like.
const FREE_BYTES: u64 = 64 * 1024;

enum Decodes {
    /// `None` between two members.
    Gzip(Option<Decompress>),
    Deflate(Decompress, bool),
    Brotli(
        Box<brotli::BrotliState<brotli::enc::StandardAlloc, brotli::enc::StandardAlloc, brotli::enc::StandardAlloc>>,
        bool,
    ),
    /// True at the end of a frame.
    Zstd(zstd::stream::raw::Decoder<'static>, bool),
}

/// Words for why a body cannot be decoded.
pub(super) const TOO_LARGE: &str = "decoded_body_too_large";
pub(super) const TOO_DENSE: &str = "decoded_body_too_dense";
const MALFORMED: &str = "encoded_body_malformed";
const FAILED: &str = "encoder_failed";

impl Coding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Deflate => "deflate",
        }
    }

    /// `x-gzip` is an old name of `gzip`.
    pub(super) fn parse(name: &[u8]) -> Option<Coding> {
        let known = [Coding::Gzip, Coding::Brotli, Coding::Zstd, Coding::Deflate];
        let found = known.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()));
        found.or_else(|| name.eq_ignore_ascii_case(b"x-gzip").then_some(Coding::Gzip))
    }
}

impl Coders {
    /// `None`: too many are at work, or it cannot be set up.
    pub(super) fn encoder(self: &Rc<Self>, coding: Coding, level: u32) -> Option<Encoder> {
        let at_work = begin(&self.encoders, ENCODERS_MAX)?;
        let engine = match coding {
            Coding::Gzip => Encodes::Gzip(
                take(&self.gzip, level)
                    .unwrap_or_else(|| Compress::new_gzip(Compression::new(level), GZIP_WINDOW_BITS)),
            ),
            Coding::Brotli => {
                let writer = CompressorWriter::new(Vec::new(), ROOM_BYTES, level, BROTLI_WINDOW_LOG);
                Encodes::Brotli(Box::new(writer))
            }
            Coding::Zstd => Encodes::Zstd(match take(&self.zstd, level) {
                Some(encoder) => encoder,
                None => {
                    let mut encoder = zstd::stream::raw::Encoder::new(level as i32).ok()?;
                    encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG)).ok()?;
                    encoder
                }
            }),
            Coding::Deflate => return None,
        };
        Some(Encoder { engine: Some(engine), level, coders: self.clone(), _at_work: at_work })
    }

    /// Takes `codings` off a request's body, the last first. `None`: too many are at work.
    pub(super) fn decoders(&self, codings: &[Coding], limits: DecodeLimits) -> Option<Vec<Decoder>> {
        decoders(codings, limits, (&self.decoders, DECODERS_MAX))
    }

    /// The same of an answer's body.
    pub(super) fn answer_decoders(&self, codings: &[Coding], limits: DecodeLimits) -> Option<Vec<Decoder>> {
        decoders(codings, limits, (&self.answer_decoders, ANSWER_DECODERS_MAX))
    }
}

fn decoders(codings: &[Coding], limits: DecodeLimits, (at_work, max): (&AtWork, usize)) -> Option<Vec<Decoder>> {
    let taken = Rc::new(Cell::new(0));
    let decoder = |(at, coding): (usize, &Coding)| {
        let engine = match coding {
            Coding::Gzip => Decodes::Gzip(None),
            Coding::Deflate => Decodes::Deflate(Decompress::new(true), false),
            Coding::Brotli => {
                let alloc = brotli::enc::StandardAlloc::default;
                Decodes::Brotli(Box::new(brotli::BrotliState::new(alloc(), alloc(), alloc())), false)
            }
            Coding::Zstd => {
                let mut decoder = zstd::stream::raw::Decoder::new().ok()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
                Decodes::Zstd(decoder, false)
            }
        };
        let (taken, counts_taken) = (taken.clone(), at == 0);
        let _at_work = begin(at_work, max)?;
        Some(Decoder { engine, limits, taken, counts_taken, got: 0, given: 0, _at_work })
    };
    codings.iter().rev().enumerate().map(decoder).collect()
}

/// `None`: too many are at work.
fn begin(at_work: &AtWork, max: usize) -> Option<AtWork> {
    (Rc::strong_count(at_work) <= max).then(|| at_work.clone())
}

fn take<T>(kept: &RefCell<Vec<(u32, T)>>, level: u32) -> Option<T> {
    let mut kept = kept.borrow_mut();
    let at = kept.iter().position(|(of, _)| *of == level)?;
    Some(kept.swap_remove(at).1)
}

fn keep<T>(kept: &RefCell<Vec<(u32, T)>>, level: u32, encoder: T) {
    let mut kept = kept.borrow_mut();
    if kept.len() < KEPT_MAX {
        kept.push((level, encoder));
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let coders = &self.coders;
        match self.engine.take() {
            Some(Encodes::Gzip(mut encoder)) => {
                encoder.reset();
                keep(&coders.gzip, self.level, encoder);
            }
            Some(Encodes::Zstd(mut encoder)) => {
                if encoder.reinit().is_ok() {
                    keep(&coders.zstd, self.level, encoder);
                }
            }
            Some(Encodes::Brotli(_)) | None => {}
        }
    }
}

impl Transform for Encoder {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
        match &mut self.engine {
            Some(Encodes::Gzip(encoder)) => gzip(encoder, piece, out, FlushCompress::None)?,
            Some(Encodes::Brotli(writer)) => {
                writer.write_all(piece).map_err(|_| FAILED)?;
                out.append(writer.get_mut());
            }
            Some(Encodes::Zstd(encoder)) => {
                let mut input = InBuffer::around(piece);
                while input.pos() < piece.len() {
                    run_zstd(out, |room| encoder.run(&mut input, room)).map_err(|()| FAILED)?;
                }
            }
            None => return Err(FAILED),
        }
        Ok(piece.len())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match &mut self.engine {
            Some(Encodes::Gzip(encoder)) => gzip(encoder, b"", out, FlushCompress::Sync),
            Some(Encodes::Brotli(writer)) => {
                writer.flush().map_err(|_| FAILED)?;
                out.append(writer.get_mut());
                Ok(())
            }
            Some(Encodes::Zstd(encoder)) => {
                while run_zstd(out, |room| encoder.flush(room)).map_err(|()| FAILED)? > 0 {}
                Ok(())
            }
            None => Err(FAILED),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self.engine.take() {
            Some(Encodes::Brotli(writer)) => {
                out.append(&mut writer.into_inner());
                return Ok(());
            }
            engine => self.engine = engine,
        }
        match &mut self.engine {
            Some(Encodes::Gzip(encoder)) => gzip(encoder, b"", out, FlushCompress::Finish),
            Some(Encodes::Zstd(encoder)) => {
                while run_zstd(out, |room| encoder.finish(room, true)).map_err(|()| FAILED)? > 0 {}
                Ok(())
            }
            _ => Err(FAILED),
        }
    }
}

fn gzip(encoder: &mut Compress, mut input: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> Result<(), &'static str> {
    loop {
        out.reserve(ROOM_BYTES);
        let before = encoder.total_in();
        let status = encoder.compress_vec(input, out, flush).map_err(|_| FAILED)?;
        input = &input[(encoder.total_in() - before) as usize..];
        let is_done = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            FlushCompress::None => input.is_empty(),
            // All of it came out only if there was room left.
            _ => out.len() < out.capacity(),
        };
        if is_done {
            return Ok(());
        }
    }
}

/// One call that writes into some room of `out`; what it says.
fn run_zstd(
    out: &mut Vec<u8>,
    call: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> std::io::Result<usize>,
) -> Result<usize, ()> {
    out.reserve(ROOM_BYTES);
    let end = out.len();
    call(&mut OutBuffer::around_pos(out, end)).map_err(|_| ())
}

impl Decoder {
    /// One call: bytes that it took. What came out stands in `out`.
    fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
        if input.is_empty() && self.is_over() {
            return Ok(0);
        }
        match &mut self.engine {
            Decodes::Gzip(member) => {
                let decoder = member.get_or_insert_with(|| Decompress::new_gzip(GZIP_WINDOW_BITS));
                let (taken, is_over) = inflate(decoder, input, out)?;
                if is_over {
                    *member = None;
                }
                Ok(taken)
            }
            Decodes::Deflate(_, true) => Err(MALFORMED),
            Decodes::Deflate(decoder, is_over) => {
                let taken;
                (taken, *is_over) = inflate(decoder, input, out)?;
                Ok(taken)
            }
            Decodes::Brotli(_, true) => Err(MALFORMED),
            Decodes::Brotli(state, is_over) => {
                let start = out.len();
                out.resize(start + ROOM_BYTES, 0);
                let (mut input_left, mut taken, mut room_left, mut given, mut total) =
                    (input.len(), 0, ROOM_BYTES, 0, 0);
                let result = brotli::BrotliDecompressStream(
                    &mut input_left,
                    &mut taken,
                    input,
                    &mut room_left,
                    &mut given,
                    &mut out[start..],
                    &mut total,
                    state,
                );
                out.truncate(start + given);
                match result {
                    brotli::BrotliResult::ResultFailure => return Err(MALFORMED),
                    brotli::BrotliResult::ResultSuccess => *is_over = true,
                    _ => {}
                }
                Ok(taken)
            }
            Decodes::Zstd(decoder, is_over) => {
                let (mut buffer, before) = (InBuffer::around(input), out.len());
                let left = run_zstd(out, |room| decoder.run(&mut buffer, room)).map_err(|()| MALFORMED)?;
                if buffer.pos() > 0 || out.len() > before {
                    *is_over = left == 0;
                }
                Ok(buffer.pos())
            }
        }
    }

    /// An empty body needs no end.
    fn is_over(&self) -> bool {
        self.got == 0
            || match &self.engine {
                Decodes::Gzip(member) => member.is_none(),
                Decodes::Deflate(_, is_over) | Decodes::Brotli(_, is_over) | Decodes::Zstd(_, is_over) => *is_over,
            }
    }
}

/// Bytes it took, and whether its end is reached.
fn inflate(decoder: &mut Decompress, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), &'static str> {
    out.reserve(ROOM_BYTES);
    let before = decoder.total_in();
    let status = decoder.decompress_vec(input, out, FlushDecompress::None).map_err(|_| MALFORMED)?;
    Ok(((decoder.total_in() - before) as usize, status == Status::StreamEnd))
}

impl Transform for Decoder {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
        let mut taken = 0;
        loop {
            let before = out.len();
            let now = self.decode(&piece[taken..], out)?;
            let given = out.len() - before;
            taken += now;
            self.got += now as u64;
            self.given += given as u64;
            if self.counts_taken {
                self.taken.set(self.taken.get() + now as u64);
            }
            if self.given > self.limits.bytes_max {
                return Err(TOO_LARGE);
            }
            if self.given > FREE_BYTES && self.given > self.taken.get().saturating_mul(self.limits.ratio_max) {
                return Err(TOO_DENSE);
            }
            if out.len() > STEP_BYTES_MAX && taken < piece.len() {
                return Ok(taken);
            }
            // It may hold more back than there was room for.
            if taken == piece.len() && given < ROOM_BYTES {
                return Ok(taken);
            }
            if now == 0 && given == 0 {
                return Err(MALFORMED);
            }
        }
    }

    fn flush(&mut self, _out: &mut Vec<u8>) -> Result<(), &'static str> {
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<(), &'static str> {
        if self.is_over() { Ok(()) } else { Err(MALFORMED) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exchange::{Chained, transform_whole};

    const FREE: DecodeLimits = DecodeLimits { bytes_max: u64::MAX, ratio_max: u64::MAX };

    fn decoded(
        coders: &Rc<Coders>,
        codings: &[Coding],
        body: &[u8],
        limits: DecodeLimits,
    ) -> Result<Vec<u8>, &'static str> {
        let decoders = coders.decoders(codings, limits).expect("few are at work");
        let mut each = decoders.into_iter().map(|decoder| Box::new(decoder) as Box<dyn Transform>);
        let first = each.next().expect("one");
        let mut all = each.fold(first, |before, next| Box::new(Chained::new(before, next)));
        let mut out = Vec::new();
        transform_whole(&mut *all, body, &mut out).map(|()| out)
    }

    fn encoded(coders: &Rc<Coders>, coding: Coding, pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut encoder = coders.encoder(coding, 4).expect("few are at work");
        let mut out = Vec::new();
        for piece in pieces {
            assert_eq!(encoder.push(piece, &mut out), Ok(piece.len()));
            if piece.len() % 2 == 0 {
                encoder.flush(&mut out).unwrap();
            }
        }
        encoder.finish(&mut out).unwrap();
        out
    }

    /// Bytes that pack well and bytes that do not.
    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let dense = (any::<u8>(), 0..100_000_usize).prop_map(|(byte, count)| vec![byte; count]);
        let sparse = proptest::collection::vec(any::<u8>(), 0..20_000);
        proptest::collection::vec(prop_oneof![dense, sparse], 0..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_was_encoded_comes_out_again(pieces in pieces()) {
            let (coders, plain) = (Rc::new(Coders::default()), pieces.concat());
            for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
                let body = encoded(&coders, coding, &pieces);
                prop_assert!(decoded(&coders, &[coding], &body, FREE).as_ref() == Ok(&plain), "{:?}", coding);
                let cut = decoded(&coders, &[coding], &body[..body.len() - 1], FREE);
                prop_assert_eq!(cut.err(), (body.len() > 1).then_some(MALFORMED), "{:?}", coding);
                let twice = encoded(&coders, Coding::Gzip, &[body]);
                prop_assert!(decoded(&coders, &[coding, Coding::Gzip], &twice, FREE).as_ref() == Ok(&plain));
            }
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..200), dense in any::<bool>()) {
            let coders = Rc::new(Coders::default());
            for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd, Coding::Deflate] {
                let mut bytes = if dense { encoded(&coders, Coding::Gzip, &[vec![7; 5000]]) } else { Vec::new() };
                bytes.extend_from_slice(&body);
                let _ = decoded(&coders, &[coding], &bytes, FREE);
            }
        }
    }

    #[test]
    fn limits_hold_over_all_codings_of_a_body() {
        let coders = Rc::new(Coders::default());
        let zeros = vec![0; 10 << 20];
        let once = encoded(&coders, Coding::Zstd, &[zeros]);
        let limits = |bytes_max, ratio_max| DecodeLimits { bytes_max, ratio_max };
        assert_eq!(decoded(&coders, &[Coding::Zstd], &once, limits(1 << 20, u64::MAX)), Err(TOO_LARGE));
        assert_eq!(decoded(&coders, &[Coding::Zstd], &once, limits(u64::MAX, 100)), Err(TOO_DENSE));
        // It comes out unevenly.
        let ratio = (10 << 20) / once.len() as u64 * 3;
        assert!(decoded(&coders, &[Coding::Zstd], &once, limits(u64::MAX, ratio)).is_ok());
        let twice = encoded(&coders, Coding::Gzip, &[once]);
        let both = [Coding::Zstd, Coding::Gzip];
        assert_eq!(decoded(&coders, &both, &twice, limits(u64::MAX, ratio)), Err(TOO_DENSE), "each alone is below");
    }

    #[test]
    fn a_core_has_so_many_at_work() {
        let coders = Rc::new(Coders::default());
        let mut open: Vec<_> = (0..DECODERS_MAX).map(|_| coders.decoders(&[Coding::Gzip], FREE).unwrap()).collect();
        assert!(coders.decoders(&[Coding::Gzip], FREE).is_none());
        assert!(coders.encoder(Coding::Gzip, 1).is_some(), "encoders count for themselves");
        assert!(coders.answer_decoders(&[Coding::Gzip], FREE).is_some(), "and those of answers");
        open.pop();
        assert!(coders.decoders(&[Coding::Gzip, Coding::Gzip], FREE).is_none(), "both or none");
        assert!(coders.decoders(&[Coding::Gzip], FREE).is_some());
    }
}
