//! `hmac`: who asks, as a signature over the request says that a configured consumer's secret has made (HTTP Message
//! Signatures, RFC 9421, with `hmac-sha256`).
//!
//! ```toml
//! [consumers.alice]
//! hmac_keys = { alice-1 = "env:ALICE_SECRET" }        # 32 bytes or more
//!
//! [policies.auth]
//! filters = [{ hmac = {} }]
//! filters = [{ hmac = { headers = ["x-tenant"], headers_if_sent = ["content-type"], skew = "1m" } }]
//! ```
//! A request brings one signature, which must cover `@method`, `@authority`, the target as it was sent (`@request-target`,
//! `@target-uri`, or both `@path` and `@query`), what `headers` names, what `headers_if_sent` names if the request has it,
//! and, if the request has a body, `content-digest` (RFC 9530, SHA-256 or SHA-512). A covered field must be there exactly
//! once, and be meant for the origin. Its parameters are `created`, `keyid` and `nonce`, perhaps `expires`, `alg` and `tag`.
//!
//! ```text
//! Content-Digest: sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:
//! Signature-Input: s=("@method" "@authority" "@request-target" "content-digest");created=1618884473;keyid="alice-1";nonce="b3k"
//! Signature: s=:TuPvS5sKkzqQ...=:
//! ```
//! `created` may differ from our clock by `skew`. Within that time, the longest of all `hmac` filters, a nonce of a key
//! is good once, on all cores, listeners and routes of this process; a process that is started anew knows none of them.
//! With `redis = "NAME"`, of a `[redis.NAME]`, it is good once on all gateways that share that Redis, over restarts
//! too; while Redis does not answer nobody passes (503), and what a failover of it forgets could be sent again. While
//! `nonces_max` are remembered, further requests get 503: none is forgotten early. The body is read, up to
//! `body_bytes_max`, and compared before anything of the request is forwarded. Trailer fields are covered by nothing.
//! Unless `forward = true` the signature is taken out then.
//!
//! Refusals are 401; their code is `invalid_signature`, `expired_signature`, `replayed_signature` or `wrong_digest`. Key ids
//! that nobody has take as long as wrong signatures, and look the same.

mod digest;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use ringway_config::Fault;
use ringway_config::http::HeaderName;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::{DurationText, SizeText};
use ringway_proto::credentials::digest::ContentDigest;
use ringway_proto::credentials::signature::{COMPONENTS_MAX, Signature};
use ringway_proto::{Body, Field};
use serde::Deserialize;

use super::api_key::identity;
use super::auth::{Auth, Authenticator, Denied, unavailable};
use super::building::are_twins;
use super::{Building, RequestEdit, Then, Waiting, WantsBody};
use crate::exchange::{ClaimedNonce, HeaderEdit, Refusal};
use crate::identity::{Consumer, Consumers, fingerprint};
use crate::mesh::{Claim, Nonce, Nonces};
use crate::observe::Flag;
use crate::redis::Reply;
use digest::fits;

/// The longest time for which nonces are remembered.
const SKEW_MAX: Duration = Duration::from_secs(3600);
/// Of the node; 64 bytes each.
const NONCES_MAX: usize = 16 << 20;
/// A body that a filter reads whole lies in memory.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// RFC 9110 section 15.5.2: a 401 has one. RFC 9421 registers no scheme.
const CHALLENGE: &str = "Signature realm=\"ringway\"";
const AWAY: &str = "the Redis that keeps nonces does not answer";
/// A longer body is hashed by a worker: it would hold a core up for more than a tenth of a millisecond.
const HASHED_HERE_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    headers: Vec<HeaderName>,
    #[serde(default)]
    headers_if_sent: Vec<HeaderName>,
    #[serde(default)]
    scheme: Scheme,
    #[serde(default = "skew")]
    skew: DurationText,
    #[serde(default = "body_bytes_max")]
    body_bytes_max: SizeText,
    #[serde(default = "nonces_max")]
    nonces_max: usize,
    redis: Option<String>,
    #[serde(default)]
    forward: bool,
    #[serde(default)]
    optional: bool,
}

/// As clients call the gateway, for `@scheme` and `@target-uri`.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    Http,
    #[default]
    Https,
}

fn skew() -> DurationText {
    DurationText(Duration::from_secs(300))
}

fn body_bytes_max() -> SizeText {
    SizeText(1 << 20)
}

fn nonces_max() -> usize {
    1 << 20
}

struct Hmac {
    headers: Vec<String>,
    headers_if_sent: Vec<String>,
    scheme: Scheme,
    skew_s: u64,
    body_bytes_max: usize,
    nonces_max: usize,
    /// Where gateways tell each other of nonces.
    redis: Option<String>,
    forward: bool,
    optional: bool,
    consumers: Arc<Consumers>,
    nonces: Arc<Nonces>,
    /// For key ids that nobody has, so that the work is the same.
    nobodys_key: Key,
}

/// Why a signature is not taken.
struct Wrong {
    code: &'static str,
    reason: &'static str,
}

/// A request whose signature was good.
struct Signed<'p> {
    consumer: &'p Consumer,
    nonce: Nonce,
    created_unix_s: u64,
    /// Until then the signature would be taken again.
    good_until_unix_s: u64,
}

pub(super) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Authenticator>, Fault> {
    let table: Table = ringway_config::filter::table(config)?;
    let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
    if !building.snapshot.consumers.iter().any(|consumer| !consumer.hmac_keys.is_empty()) {
        let fault = Fault::new("no consumer has a key to sign with: nobody could pass").at(config.place.clone());
        return Err(fault.cure("add [consumers.NAME] with hmac_keys = { ID = \"env:...\" }"));
    }
    if table.skew.0 < Duration::from_secs(1) || table.skew.0 > SKEW_MAX {
        return Err(wrong("skew", format!("use 1s to {}s", SKEW_MAX.as_secs())));
    }
    if !(1..=NONCES_MAX).contains(&table.nonces_max) {
        return Err(wrong("nonces_max", format!("use 1 to {NONCES_MAX}")));
    }
    if table.body_bytes_max.0 > BODY_BYTES_MAX {
        return Err(wrong("body_bytes_max", format!("the most is {BODY_BYTES_MAX} bytes")));
    }
    for (key, names) in [("headers", &table.headers), ("headers_if_sent", &table.headers_if_sent)] {
        if names.len() > COMPONENTS_MAX / 2 {
            return Err(wrong(key, format!("{} headers; the most is {}", names.len(), COMPONENTS_MAX / 2)));
        }
        if let Some(name) = names.iter().find(|name| name.is_ours() && name.as_str() != "date") {
            return Err(wrong(key, format!("{:?} belongs to one hop: nobody can sign it", name.as_str())));
        }
    }
    building.secret_headers.insert("signature".to_owned());
    // A nonce is good once, whatever route it comes to: the one with the most skew decides how long it is known.
    building.nonces.keep_for(table.skew.0.as_secs());
    let texts = |names: Vec<HeaderName>| names.into_iter().map(HeaderName::into_string).collect();
    Ok(Box::new(Hmac {
        headers: texts(table.headers),
        headers_if_sent: texts(table.headers_if_sent),
        scheme: table.scheme,
        skew_s: table.skew.0.as_secs(),
        body_bytes_max: table.body_bytes_max.0 as usize,
        nonces_max: table.nonces_max,
        redis: table.redis.map(|name| building.redis(Some(&name), &config.place)).transpose()?,
        forward: table.forward,
        optional: table.optional,
        consumers: building.consumers.clone(),
        nonces: building.nonces.clone(),
        nobodys_key: nobodys_key().map_err(|why| Fault::new(why).at(config.place.clone()))?,
    }))
}

fn nobodys_key() -> Result<Key, &'static str> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| "the kernel has no random numbers")?;
    Ok(Key::new(HMAC_SHA256, &secret))
}

impl Authenticator for Hmac {
    fn authenticate<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Auth<'p> {
        let (digests, signed) = match self.examine(request) {
            Ok(None) => return Auth::Absent,
            Ok(Some(found)) => found,
            Err(wrong) => return wrong.denied(),
        };
        self.strip(request);
        match digests {
            None => self.claim(request, &signed),
            Some(digests) if !has_body(request) => match fits(&digests, b"") {
                true => self.claim(request, &signed),
                false => WRONG_DIGEST.denied(),
            },
            Some(digests) => {
                let then: Then<'p> = Box::new(move |request| self.compare(request, digests, signed).verdict(request));
                Auth::Body(Box::new(WantsBody { bytes_max: self.body_bytes_max, then }))
            }
        }
    }

    fn strip<'p>(&'p self, request: &mut RequestEdit<'p, '_>) {
        if !self.forward {
            request.headers.push(HeaderEdit::Remove("signature"));
            request.headers.push(HeaderEdit::Remove("signature-input"));
        }
    }

    fn challenge(&self) -> &str {
        CHALLENGE
    }

    fn optional(&self) -> bool {
        self.optional
    }
}

impl Hmac {
    /// Everything but the body and the nonce; `None`: the request brings no signature.
    fn examine(&self, request: &RequestEdit<'_, '_>) -> Result<Option<(Option<ContentDigest>, Signed<'_>)>, Wrong> {
        let is_there = |name| named(request, name).next().is_some();
        if !is_there("signature") && !is_there("signature-input") {
            return Ok(None);
        }
        let input = only(request, "signature-input")?;
        let signature = Signature::parse(input, only(request, "signature")?).map_err(invalid)?;
        self.judge_cover(request, &signature)?;
        let (key, consumer) = match self.consumers.of_hmac_key(signature.key_id) {
            Some((key, consumer)) => (key, Some(consumer)),
            None => (&self.nobodys_key, None),
        };
        let mut context = Context::with_key(key);
        self.write_base(request, &signature, &mut context)?;
        let is_good = verify_slices_are_equal(context.sign().as_ref(), &signature.tag).is_ok();
        let Some(consumer) = consumer.filter(|_| is_good) else {
            return Err(invalid("the signature is not that of its key"));
        };
        let now = (request.unix_s)();
        if signature.created_unix_s > now.saturating_add(self.skew_s) {
            return Err(Wrong { code: "expired_signature", reason: "the signature was created in the future" });
        }
        let end = signature.created_unix_s.saturating_add(self.skew_s);
        let good_until_unix_s = signature.expires_unix_s.map_or(end, |expires| expires.min(end));
        if good_until_unix_s <= now {
            return Err(EXPIRED);
        }
        let digests = match signature.covers("content-digest") {
            true => {
                Some(ContentDigest::parse(only(request, "content-digest")?).ok_or(invalid("no digest that we know"))?)
            }
            false => None,
        };
        let nonce = nonce_of(signature.key_id, signature.nonce);
        Ok(Some((digests, Signed { consumer, nonce, created_unix_s: signature.created_unix_s, good_until_unix_s })))
    }

    /// What must be covered is.
    fn judge_cover(&self, request: &RequestEdit<'_, '_>, signature: &Signature<'_>) -> Result<(), Wrong> {
        let covers = |component: &str| signature.covers(component);
        if !covers("@method") || !covers("@authority") {
            return Err(invalid("the signature does not cover method and authority"));
        }
        let whole_target = covers("@request-target") || covers("@target-uri") || covers("@path") && covers("@query");
        if !whole_target {
            return Err(invalid("the signature does not cover the whole target"));
        }
        let sent = |name: &&String| named(request, name).next().is_some();
        let mut wanted = self.headers.iter().chain(self.headers_if_sent.iter().filter(sent));
        if !wanted.all(|name| covers(name)) {
            return Err(invalid("the signature does not cover a header that it must"));
        }
        if has_body(request) && !covers("content-digest") {
            return Err(invalid("the signature does not cover the body's digest"));
        }
        Ok(())
    }

    /// RFC 9421 section 2.5.
    fn write_base(
        &self,
        request: &RequestEdit<'_, '_>,
        signature: &Signature<'_>,
        out: &mut Context,
    ) -> Result<(), Wrong> {
        for component in &signature.components {
            out.update(b"\"");
            out.update(component.as_bytes());
            out.update(b"\": ");
            match component.strip_prefix('@') {
                Some(derived) => self.write_derived(request, derived, out)?,
                None => out.update(only(request, component)?),
            }
            out.update(b"\n");
        }
        out.update(b"\"@signature-params\": ");
        out.update(signature.params.as_bytes());
        Ok(())
    }

    /// RFC 9421 section 2.2.
    fn write_derived(&self, request: &RequestEdit<'_, '_>, name: &str, out: &mut Context) -> Result<(), Wrong> {
        let (head, bytes) = (request.request, request.bytes);
        let path = match head.target.path.of(bytes) {
            b"" => b"/",
            path => path,
        };
        match name {
            "method" => out.update(head.method_span.of(bytes)),
            "authority" => self.write_authority(request, out),
            "request-target" => out.update(head.target.whole.of(bytes)),
            "scheme" => out.update(self.scheme.name().as_bytes()),
            "path" => out.update(path),
            "query" => {
                out.update(b"?");
                out.update(head.target.query.map_or(b"", |query| query.of(bytes)));
            }
            "target-uri" => {
                out.update(self.scheme.name().as_bytes());
                out.update(b"://");
                self.write_authority(request, out);
                out.update(path);
                if let Some(query) = head.target.query {
                    out.update(b"?");
                    out.update(query.of(bytes));
                }
            }
            _ => return Err(invalid("the signature covers something that we do not know")),
        }
        Ok(())
    }

    /// In lower case, without the scheme's own port (RFC 9110 section 4.2.3).
    fn write_authority(&self, request: &RequestEdit<'_, '_>, out: &mut Context) {
        let authority = request.request.authority.of(request.bytes);
        let plain = authority.strip_suffix(self.scheme.port()).unwrap_or(authority);
        plain.iter().for_each(|byte| out.update(&[byte.to_ascii_lowercase()]));
    }

    /// The body has been read.
    fn compare<'p>(
        &'p self,
        request: &mut RequestEdit<'p, '_>,
        digests: ContentDigest,
        signed: Signed<'p>,
    ) -> Auth<'p> {
        let body = request.body.unwrap_or_default();
        if body.len() <= HASHED_HERE_BYTES_MAX {
            return self.accept(request, fits(&digests, body), &signed);
        }
        let body = body.to_vec();
        let Ok(call) = request.calls.run(move || fits(&digests, &body)) else {
            return unavailable("too many bodies wait to be hashed");
        };
        let until = async move {
            let fits = call.await == Some(true);
            let then: Then<'p> = Box::new(move |request| self.accept(request, fits, &signed).verdict(request));
            then
        };
        Auth::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    fn accept<'p>(&'p self, request: &mut RequestEdit<'p, '_>, body_fits: bool, signed: &Signed<'p>) -> Auth<'p> {
        if body_fits { self.claim(request, signed) } else { WRONG_DIGEST.denied() }
    }

    /// No other gateway has taken the nonce either.
    fn claim_in_fleet<'p>(&'p self, request: &RequestEdit<'p, '_>, signed: &Signed<'p>, now: u64) -> Auth<'p> {
        let known = identity("hmac", signed.consumer);
        let Some(name) = &self.redis else { return Auth::Known(known) };
        let Some(redis) = request.state.redis(name).cloned() else { return unavailable(AWAY) };
        // Gateways' clocks differ by the skew at most, or their signatures would not be taken.
        let kept_until = signed.created_unix_s.saturating_add(self.nonces.kept_s());
        let keep_s = kept_until.saturating_sub(now) + self.skew_s;
        let key = redis_key(signed.nonce);
        let until = async move {
            let args: [&[u8]; 6] = [b"SET", key.as_bytes(), b"1", b"NX", b"EX", &keep_s.to_string().into_bytes()];
            let answer = redis.command(key.as_bytes(), &args).await;
            let then: Then<'p> = Box::new(move |request| {
                let auth = match answer {
                    Ok(Reply::Text(_)) => Auth::Known(known),
                    Ok(Reply::Nil) => REPLAYED.denied(),
                    Ok(_) | Err(_) => unavailable(AWAY),
                };
                auth.verdict(request)
            });
            then
        };
        Auth::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    /// Last of all: what is refused for something else does not use a nonce up.
    fn claim<'p>(&'p self, request: &mut RequestEdit<'p, '_>, signed: &Signed<'p>) -> Auth<'p> {
        let now = (request.unix_s)();
        if signed.good_until_unix_s <= now {
            return EXPIRED.denied();
        }
        let claimed = ClaimedNonce { nonce: signed.nonce, in_fleet: self.redis.is_some() };
        match request.nonce.replace(claimed).filter(|before| before.nonce == signed.nonce) {
            // By a filter further outside.
            Some(before) if before.in_fleet || !claimed.in_fleet => {
                *request.nonce = Some(before);
                return Auth::Known(identity("hmac", signed.consumer));
            }
            Some(_) => return self.claim_in_fleet(request, signed, now),
            None => {}
        }
        match self.nonces.claim(signed.nonce, signed.created_unix_s, now, self.nonces_max) {
            Claim::New => self.claim_in_fleet(request, signed, now),
            Claim::Used => REPLAYED.denied(),
            Claim::Late => EXPIRED.denied(),
            Claim::Full => unavailable("no more nonces can be remembered now"),
        }
    }
}

/// How gateways name a nonce to each other.
fn redis_key(nonce: Nonce) -> String {
    format!("ringway:nonce:{:016x}{:016x}", nonce[0], nonce[1])
}

const REPLAYED: Wrong = Wrong { code: "replayed_signature", reason: "the nonce was used already" };
const EXPIRED: Wrong = Wrong { code: "expired_signature", reason: "the signature is too old" };
const WRONG_DIGEST: Wrong = Wrong { code: "wrong_digest", reason: "the body is not the one that was signed" };

fn invalid(reason: &'static str) -> Wrong {
    Wrong { code: "invalid_signature", reason }
}

impl Wrong {
    fn denied<'p>(self) -> Auth<'p> {
        let refusal = Refusal { code: self.code, ..Refusal::new(Flag::Unauthenticated, self.reason) };
        Auth::Denied(Denied::new(refusal, Some(CHALLENGE.to_owned())))
    }
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port(self) -> &'static [u8] {
        match self {
            Scheme::Http => b":80",
            Scheme::Https => b":443",
        }
    }
}

fn has_body(request: &RequestEdit<'_, '_>) -> bool {
    !matches!(request.request.body, Body::None | Body::Length(0))
}

/// Fields of this name, and those that an origin may take for them.
fn named<'r>(request: &RequestEdit<'_, 'r>, name: &str) -> impl Iterator<Item = &'r Field> {
    let (fields, bytes) = (&request.request.fields, request.bytes);
    fields.iter().filter(move |field| are_twins(field.name.of(bytes), name.as_bytes()))
}

/// The value of a field that is there once, under its own name, and that the origin will get.
fn only<'r>(request: &RequestEdit<'_, 'r>, name: &str) -> Result<&'r [u8], Wrong> {
    let mut all = named(request, name);
    match (all.next(), all.next()) {
        (Some(field), None) if !field.twin && !field.nominated => {
            let is_own = field.name.of(request.bytes).eq_ignore_ascii_case(name.as_bytes());
            is_own.then(|| field.value.of(request.bytes)).ok_or(invalid("a covered header has another name"))
        }
        (None, _) => Err(invalid("a covered header is not there")),
        _ => Err(invalid("a covered header is there twice, or meant for one hop")),
    }
}

/// Of one key; that no other text has the same digest is what SHA-256 is for.
fn nonce_of(key_id: &str, nonce: &str) -> Nonce {
    let digest = fingerprint(format!("{}:{key_id}{nonce}", key_id.len()).as_bytes());
    let part = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| digest[at + byte]));
    [part(0), part(8)]
}
