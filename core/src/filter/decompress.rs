//! `decompress`: takes the content codings off the bodies of requests, for origin servers and filters that know none, and
//! of answers, for clients that do not accept them.
//!
//! ```toml
//! filters = [{ decompress = {} }]                                        # requests
//! filters = [{ decompress = { requests = false, answers = true } }]
//! filters = [{ decompress = { bytes_max = "4MiB", ratio_max = 50, codings_max = 1 } }]
//! ```
//! Known are `gzip`, `deflate`, `br` and `zstd`. A request in another coding, or in more than `codings_max` of them one
//! inside of the other, gets 415, which says what is known (RFC 9110 15.5.16); one that is no such coding gets 400.
//!
//! **Bombs:** a body may become `bytes_max` large (unset 1 MiB), and beyond 64 KiB at most `ratio_max` times (unset 100)
//! what came. One that becomes more gets 413, without having been held in memory; an answer that does breaks off.
//! A request's body is read whole before it goes on, of at most `bytes_max`; an answer's passes piece by piece. Answers of
//! which the client or the origin says `no-transform` are left alone. While a core decodes 16 codings of requests, further
//! requests get 503; while it decodes 64 of answers, further ones pass as they are.

use std::future::poll_fn;
use std::task::Poll;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::SizeText;
use ringway_proto::named;
use serde::Deserialize;
use smallvec::SmallVec;

use super::accept::Accept;
use super::codings::{Coding, DecodeLimits, Decoder, TOO_DENSE, TOO_LARGE};
use super::{AnswerEdit, Filter, RequestEdit, Then, Verdict, Waiting, WantsBody, changed};
use crate::exchange::{Chained, HeaderEdit, Refusal, Transform};
use crate::observe::Flag;

const KNOWN: &str = "gzip, deflate, br, zstd";
const BYTES_MAX: u64 = 1024 * 1024;
const BYTES_MAX_MAX: u64 = 64 * 1024 * 1024;
const RATIO_MAX: u64 = 100;
/// DEFLATE packs a thousand times at most; brotli and zstd do much more.
const RATIO_MAX_MAX: u64 = 100_000;
const CODINGS_MAX: usize = 2;
const CODINGS_MAX_MAX: usize = 4;
/// Bytes of a request's body that are decoded before others have their turn: some hundred microseconds.
const BYTES_PER_TURN: usize = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default = "yes")]
    requests: bool,
    #[serde(default)]
    answers: bool,
    bytes_max: Option<SizeText>,
    ratio_max: Option<u64>,
    codings_max: Option<usize>,
}

fn yes() -> bool {
    true
}

pub(super) struct Decompress {
    requests: bool,
    answers: bool,
    limits: DecodeLimits,
    codings_max: usize,
}

/// The codings of a body, in the order in which they were applied.
type Codings = SmallVec<[Coding; CODINGS_MAX]>;

/// A request's body that is being decoded.
struct Decoding {
    by: Box<dyn Transform>,
    /// Bytes of the body that were taken.
    taken: usize,
    out: Vec<u8>,
}

impl Decompress {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
        let table: Table = ringway_config::filter::table(config)?;
        let wrong = |key: &str, why: String, most: u64| {
            Fault::new(why).at(format!("{}.{key}", config.place)).cure(format!("use 1 to {most}"))
        };
        if !table.requests && !table.answers {
            let fault = Fault::new("does nothing").at(config.place.clone());
            return Err(fault.cure("set requests or answers to true"));
        }
        let bytes_max = table.bytes_max.map_or(BYTES_MAX, |size| size.0);
        if !(1..=BYTES_MAX_MAX).contains(&bytes_max) {
            return Err(wrong("bytes_max", format!("{bytes_max} bytes cannot be held"), BYTES_MAX_MAX));
        }
        let ratio_max = table.ratio_max.unwrap_or(RATIO_MAX);
        if !(1..=RATIO_MAX_MAX).contains(&ratio_max) {
            return Err(wrong("ratio_max", format!("{ratio_max} is no ratio"), RATIO_MAX_MAX));
        }
        let codings_max = table.codings_max.unwrap_or(CODINGS_MAX);
        if !(1..=CODINGS_MAX_MAX).contains(&codings_max) {
            return Err(wrong("codings_max", format!("{codings_max} is no number of codings"), CODINGS_MAX_MAX as u64));
        }
        let limits = DecodeLimits { bytes_max, ratio_max };
        Ok(Box::new(Decompress { requests: table.requests, answers: table.answers, limits, codings_max }))
    }
}

impl Filter for Decompress {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        if !self.requests {
            return Verdict::Pass;
        }
        // As filters further outside have left it: what one of them has decoded is not encoded any more.
        let edited = request.headers.replacement("content-encoding").map(str::as_bytes);
        let is_edited = edited.is_some() || request.headers.drops(b"content-encoding");
        let lines = named(&request.request.fields, request.bytes, "content-encoding").filter(|_| !is_edited);
        let codings = match self.codings(lines.map(|field| field.value.of(request.bytes)).chain(edited)) {
            Ok(codings) if codings.is_empty() => return Verdict::Pass,
            Ok(codings) => codings,
            Err(reason) => {
                request.answer.push(HeaderEdit::Set("accept-encoding", KNOWN.into()));
                let refusal = Refusal::new(Flag::BadRequest, reason);
                return Verdict::Reply(Box::new(Refusal { status: 415, code: "unsupported_coding", ..refusal }));
            }
        };
        let then: Then<'p> = Box::new(move |request| {
            let Some(decoders) = request.state.coders.decoders(&codings, self.limits) else {
                let reason = "too many bodies are being decoded";
                return Verdict::Reply(Box::new(Refusal::new(Flag::Overflow, reason)));
            };
            let decoding = Decoding { by: chained(decoders), taken: 0, out: Vec::new() };
            decoding.go_on(request)
        });
        Verdict::Body(Box::new(WantsBody { bytes_max: self.limits.bytes_max as usize, then }))
    }

    fn sees_answers(&self) -> bool {
        self.answers
    }

    fn on_answer<'p>(&'p self, answer: &mut AnswerEdit<'p, '_>) {
        if self.answers && answer.of.status == 304 {
            changed::confirm(answer);
        }
        if !self.answers || !answer.has_body() || answer.of.status == 206 || changed::is_forbidden(answer) {
            return;
        }
        let mut said = Vec::new();
        answer.any("content-encoding", |value| {
            said.push(value.to_vec());
            false
        });
        let Ok(codings) = self.codings(said.iter().map(Vec::as_slice)) else { return };
        if codings.is_empty() {
            return;
        }
        answer.push(HeaderEdit::Add("vary", "Accept-Encoding".into()));
        let lines = named(&answer.of.request.fields, answer.of.request_bytes, "accept-encoding");
        let accept = Accept::new(lines.map(|field| field.value.of(answer.of.request_bytes)));
        if codings.iter().all(|coding| accept.coding(coding.name()) > 0) {
            return;
        }
        let Some(decoders) = answer.of.state.coders.answer_decoders(&codings, self.limits) else { return };
        changed::forget_validators(answer);
        changed::weaken_etag(answer);
        answer.push(HeaderEdit::Remove("content-encoding"));
        answer.change_body(chained(decoders), None);
    }
}

impl Decompress {
    /// Of the values of `Content-Encoding`; an error: why they cannot be taken off.
    fn codings<'v>(&self, lines: impl Iterator<Item = &'v [u8]>) -> Result<Codings, &'static str> {
        let names = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        let mut codings = Codings::new();
        for name in names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity")) {
            codings.push(Coding::parse(name).ok_or("the body is in a content coding that is not known")?);
            if codings.len() > self.codings_max {
                return Err("the body is in too many content codings");
            }
        }
        Ok(codings)
    }
}

fn chained(decoders: Vec<Decoder>) -> Box<dyn Transform> {
    let mut each = decoders.into_iter().map(|decoder| Box::new(decoder) as Box<dyn Transform>);
    let first = each.next().expect("there is a coding");
    each.fold(first, |before, next| Box::new(Chained::new(before, next)))
}

impl Decoding {
    /// Decodes for one turn, and then goes on after others had theirs.
    fn go_on<'p>(mut self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let body = request.body.unwrap_or_default();
        let end = self.out.len() + BYTES_PER_TURN;
        while self.taken < body.len() {
            let mut step = Vec::new();
            match self.by.push(&body[self.taken..], &mut step) {
                Ok(taken) => self.taken += taken,
                Err(why) => return refuse(why),
            }
            self.out.append(&mut step);
            if self.out.len() >= end && self.taken < body.len() {
                let until = async move {
                    others_turn().await;
                    let then: Then<'p> = Box::new(move |request| self.go_on(request));
                    then
                };
                return Verdict::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }));
            }
        }
        if let Err(why) = self.by.finish(&mut self.out) {
            return refuse(why);
        }
        for name in ["content-encoding", "content-digest", "repr-digest", "digest", "content-md5"] {
            request.headers.push(HeaderEdit::Remove(name));
        }
        request.new_body = Some(self.out);
        Verdict::Pass
    }
}

async fn others_turn() {
    let mut woken = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut woken, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn refuse<'p>(why: &'static str) -> Verdict<'p> {
    let refusal = match why {
        TOO_LARGE | TOO_DENSE => Refusal::new(Flag::BodyTooLarge, "the request's body becomes too large when decoded"),
        _ => Refusal::new(Flag::BadRequest, "the request's body is not in the coding that it names"),
    };
    Verdict::Reply(Box::new(Refusal { code: why, ..refusal }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(text: &str) -> Result<(), String> {
        let table = toml::Value::Table(toml::from_str(text).expect(text));
        let config = FilterConfig { name: "decompress".into(), table, place: "here".into() };
        Decompress::build(&config).map(|_| ()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        assert_eq!(built("bytes_max = '64MiB'\nratio_max = 1\ncodings_max = 4\nanswers = true"), Ok(()));
        for (bad, part) in [
            ("requests = false", "here: does nothing"),
            ("bytes_max = '65MiB'", "here.bytes_max"),
            ("ratio_max = 0", "here.ratio_max"),
            ("codings_max = 5", "use 1 to 4"),
        ] {
            let said = built(bad).expect_err(bad);
            assert!(said.contains(part), "{bad}: {said}");
        }
    }

    #[test]
    fn codings_are_read_in_their_order() {
        let limits = DecodeLimits { bytes_max: 1, ratio_max: 1 };
        let decompress = Decompress { requests: true, answers: false, limits, codings_max: 2 };
        let read = |lines: &[&'static str]| decompress.codings(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(read(&["gzip , Identity", "BR"]).unwrap()[..], [Coding::Gzip, Coding::Brotli]);
        assert!(read(&["", "identity"]).unwrap().is_empty());
        assert!(read(&["gzip, gzip, gzip"]).is_err() && read(&["compress"]).is_err());
    }
}
