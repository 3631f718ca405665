//! `compress`: encodes the bodies of answers for clients that accept it.
//!
//! ```toml
//! filters = [{ compress = {} }]
//! filters = [{ compress = { codings = ["br", "gzip"], types = ["text/*", "application/*+json"], bytes_min = "2KiB",
//!     brotli_level = 5 } }]
//! ```
//! The coding that the client gives the greatest weight is taken, of equal ones the first in `codings`; `identity` counts
//! only if it is named. Without `Accept-Encoding` nothing is encoded. A client that refuses `identity` gets encoded what
//! could be, however short.
//!
//! Left alone are answers of other `types` or below `bytes_min` (if their length is known), encoded ones, parts (206,
//! `Content-Range`), and those of which the client or the origin says `no-transform`. While a core encodes 128 bodies,
//! further ones pass as they are.
//!
//! An encoded answer has no `Content-Length`, no ranges and no digests, a strong `ETag` becomes a weak one, and what could
//! be encoded says `Vary: Accept-Encoding`. What the origin has sent is sent on as soon as it pauses, so that events of a
//! stream are not held back. `HEAD` is answered with the head that `GET` would have.

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::SizeText;
use ringway_proto::named;
use serde::Deserialize;

use super::accept::Accept;
use super::codings::Coding;
use super::media::MediaPattern;
use super::{AnswerEdit, Filter, RequestEdit, Verdict, changed};
use crate::exchange::HeaderEdit;

/// Of equal weight the first. Measured on JSON of 1 MiB: zstd 1 packs it at 700 MB/s, gzip 4 at 200, brotli 4 at 110, all
/// to about a seventh.
const CODINGS: [&str; 3] = ["zstd", "gzip", "br"];
const ZSTD_LEVEL: u32 = 1;
const GZIP_LEVEL: u32 = 4;
const BROTLI_LEVEL: u32 = 4;
/// Higher levels would hold a core for more than a millisecond with each piece of a body.
const ZSTD_LEVEL_MAX: u32 = 9;
const GZIP_LEVEL_MAX: u32 = 9;
const BROTLI_LEVEL_MAX: u32 = 6;
/// Below it an answer fits one packet in any case.
const BYTES_MIN: u64 = 1024;
/// An answer that Ringway makes itself is encoded at once: a longer one would hold its core.
const OWN_BYTES_MAX: u64 = 256 * 1024;
const TYPES_MAX: usize = 64;
const TYPES: [&str; 9] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/wasm",
    "image/svg+xml",
    "font/ttf",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    codings: Option<Vec<String>>,
    types: Option<Vec<String>>,
    bytes_min: Option<SizeText>,
    zstd_level: Option<u32>,
    gzip_level: Option<u32>,
    brotli_level: Option<u32>,
}

pub(super) struct Compress {
    /// Each with its level, the preferred one first.
    codings: Box<[(Coding, u32)]>,
    types: Box<[MediaPattern]>,
    bytes_min: u64,
}

/// What a client wants of an answer that could be encoded.
enum Wanted {
    AsItIs,
    /// With its level; `always`: the client refuses it as it is.
    Encoded {
        coding: Coding,
        level: u32,
        always: bool,
    },
}

impl Compress {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
        let table: Table = ringway_config::filter::table(config)?;
        let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
        let level = |key: &str, level: Option<u32>, normal: u32, max: u32| match level.unwrap_or(normal) {
            level if (1..=max).contains(&level) => Ok(level),
            level => Err(wrong(key, format!("{level} is no level that can be used")).cure(format!("use 1 to {max}"))),
        };
        let zstd = level("zstd_level", table.zstd_level, ZSTD_LEVEL, ZSTD_LEVEL_MAX)?;
        let gzip = level("gzip_level", table.gzip_level, GZIP_LEVEL, GZIP_LEVEL_MAX)?;
        let brotli = level("brotli_level", table.brotli_level, BROTLI_LEVEL, BROTLI_LEVEL_MAX)?;
        let names = table.codings.unwrap_or_else(|| CODINGS.map(str::to_owned).into());
        let mut codings = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let coding = CODINGS.contains(&name.as_str()).then(|| Coding::parse(name.as_bytes())).flatten();
            codings.push(match coding {
                Some(Coding::Zstd) => (Coding::Zstd, zstd),
                Some(Coding::Gzip) => (Coding::Gzip, gzip),
                Some(coding) => (coding, brotli),
                None => {
                    let fault = wrong(&format!("codings[{at}]"), format!("no coding {name:?} here"));
                    return Err(fault.cure(format!("the codings are {}", CODINGS.join(", "))));
                }
            });
        }
        if codings.is_empty() {
            return Err(wrong("codings", "names no coding".to_owned()).cure("leave it out for all of them"));
        }
        let types = table.types.unwrap_or_else(|| TYPES.map(str::to_owned).into());
        if types.is_empty() || types.len() > TYPES_MAX {
            let fault = wrong("types", format!("{} is no number of types", types.len()));
            return Err(fault.cure(format!("name 1 to {TYPES_MAX}, or leave it out for text, JSON, XML and the like")));
        }
        let types = types.iter().enumerate().map(|(at, text)| {
            MediaPattern::parse(text).ok_or_else(|| {
                wrong(&format!("types[{at}]"), format!("{text:?} is no media type"))
                    .cure("write \"text/html\", \"text/*\" or \"application/*+json\"")
            })
        });
        Ok(Box::new(Compress {
            codings: codings.into(),
            types: types.collect::<Result<_, _>>()?,
            bytes_min: table.bytes_min.map_or(BYTES_MIN, |size| size.0),
        }))
    }
}

impl Filter for Compress {
    fn on_request<'p>(&'p self, _request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        Verdict::Pass
    }

    fn sees_answers(&self) -> bool {
        true
    }

    fn on_answer<'p>(&'p self, answer: &mut AnswerEdit<'p, '_>) {
        if answer.of.status == 304 {
            changed::confirm(answer);
        }
        if !self.could_encode(answer) {
            return;
        }
        answer.push(HeaderEdit::Add("vary", "Accept-Encoding".into()));
        let Wanted::Encoded { coding, level, always } = self.wanted(answer) else { return };
        if !always && answer.of.body_bytes.is_some_and(|bytes| bytes < self.bytes_min) {
            return;
        }
        let Some(encoder) = answer.of.state.coders.encoder(coding, level) else { return };
        changed::forget_validators(answer);
        changed::weaken_etag(answer);
        answer.push(HeaderEdit::Set("content-encoding", coding.name().into()));
        answer.change_body(Box::new(encoder), None);
    }
}

impl Compress {
    /// For some client.
    fn could_encode(&self, answer: &AnswerEdit<'_, '_>) -> bool {
        let (has_body, is_whole) = (answer.has_body(), answer.of.status != 206 && !answer.has("content-range"));
        has_body
            && is_whole
            && (!answer.is_own() || answer.of.body_bytes.is_some_and(|bytes| bytes <= OWN_BYTES_MAX))
            && answer.any("content-type", |value| self.takes(value))
            && !answer.any("content-encoding", |value| !value.eq_ignore_ascii_case(b"identity"))
            && !changed::is_forbidden(answer)
    }

    fn takes(&self, content_type: &[u8]) -> bool {
        self.types.iter().any(|pattern| pattern.matches(content_type))
    }

    fn wanted(&self, answer: &AnswerEdit<'_, '_>) -> Wanted {
        let lines = named(&answer.of.request.fields, answer.of.request_bytes, "accept-encoding");
        let accept = Accept::new(lines.map(|field| field.value.of(answer.of.request_bytes)));
        let weight = |coding: Coding| match coding {
            Coding::Gzip => accept.exact("x-gzip").unwrap_or(0).max(accept.coding("gzip")),
            coding => accept.coding(coding.name()),
        };
        // The first of the greatest weight: of equal ones `max_by_key` would take the last.
        let best = self.codings.iter().rev().max_by_key(|(coding, _)| weight(*coding));
        match best.map(|(coding, level)| (*coding, *level, weight(*coding))) {
            Some((coding, level, best)) if best > 0 && best >= accept.exact("identity").unwrap_or(0) => {
                let refused = accept.exact("identity").or_else(|| accept.exact("*")) == Some(0);
                Wanted::Encoded { coding, level, always: refused }
            }
            _ => Wanted::AsItIs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(text: &str) -> Result<(), String> {
        let table = toml::Value::Table(toml::from_str(text).expect(text));
        let config = FilterConfig { name: "compress".into(), table, place: "here".into() };
        Compress::build(&config).map(|_| ()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        assert_eq!(built("codings = ['gzip']\ngzip_level = 9\nbytes_min = '0B'"), Ok(()));
        for (bad, part) in [
            ("codings = ['deflate']", "here.codings[0]: no coding \"deflate\""),
            ("codings = []", "here.codings"),
            ("types = []", "here.types"),
            ("types = ['text/a*b*']", "here.types[0]"),
            ("types = ['*/*']", "here.types[0]: \"*/*\" is no media type"),
            ("brotli_level = 7", "use 1 to 6"),
            ("gzip_level = 0", "here.gzip_level"),
            ("level = 1", "level"),
        ] {
            let said = built(bad).expect_err(bad);
            assert!(said.contains(part), "{bad}: {said}");
        }
    }

    #[test]
    fn types_are_matched_without_their_parameters() {
        let table: Vec<_> = TYPES.iter().map(|text| MediaPattern::parse(text).expect(text)).collect();
        let compress = Compress { codings: [].into(), types: table.into(), bytes_min: 0 };
        for good in ["text/html", "Text/HTML; charset=utf-8", "application/problem+json", "application/JSON ;a=b"] {
            assert!(compress.takes(good.as_bytes()), "{good}");
        }
        for bad in ["image/png", "application/jsonx", "text", "", "application/+xm", "text; a=text/html"] {
            assert!(!compress.takes(bad.as_bytes()), "{bad}");
        }
    }
}
