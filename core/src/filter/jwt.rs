//! `jwt`: who asks, as a JSON Web Token of a configured issuer says.
//!
//! ```toml
//! filters = [{ jwt = { issuer = "corp" } }]
//! filters = [{ jwt = { issuers = ["corp", "partner"], cookie = "session", claims = { tenant = ["a", "b"] } } }]
//! ```
//! The token is taken from `Authorization: Bearer`, or from `header`, `cookie` or `query`; at more than one place it is
//! refused. Tokens in a cookie or in the query are taken out before the request is forwarded or logged, the one in a header
//! with `forward = false`. Of several issuers the one that the token names verifies it, with its own keys alone.
//!
//! A signature is verified once on each core, and again when the issuer's keys or its configuration change; dates,
//! audiences and claims are judged on every request. A token whose key is not known makes the keys be fetched, and waits
//! for them, and so does one that names no key and that no known key has signed. Before an unknown token is verified its
//! address is looked up: after `failures.max` bad tokens within `failures.window` it gets 429 for the rest of that time.
//! Each core counts for itself.
//!
//! An answer without a known end and a tunnel end when the token does, unless `ends_with_token = false`. Refusals are 401
//! with `WWW-Authenticate` (RFC 6750 section 3); 503 if the issuer has no keys: nobody passes meanwhile.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringway_config::Fault;
use ringway_config::http::HeaderName;
use ringway_config::snapshot::FilterConfig;
use serde::Deserialize;

use super::auth::{Auth, Authenticator, Denied, Tried, in_time, unavailable, undecided};
use super::bearer::{Bearer, Claims, Failures, realm, set_fields, yes};
use super::credentials::{Places, Sources};
use super::trial::shown;
use super::{Building, RequestEdit, Then, Trial, Waiting};
use crate::exchange::Identity;
use crate::identity::{IssuerPlan, Recalled, Refused, Signed, Stamp, Token, Verified, unfit_claim};
use crate::net::Net;

/// Issuers of one filter.
const ISSUERS_MAX: usize = 32;
/// How often a request that waits for keys looks whether they are there.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Requests of one core that wait for keys or for others' work; more are refused at once.
const WAITING_MAX: u32 = 1024;
/// For a signature that is verified on another thread.
const VERIFY_TIME_MAX: Duration = Duration::from_secs(60);
const NO_KEYS: &str = "the issuer has no keys to verify tokens with";
/// How long a token is known to be bad.
const BAD_TIME: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    issuer: Option<String>,
    #[serde(default)]
    issuers: Vec<String>,
    header: Option<HeaderName>,
    cookie: Option<String>,
    query: Option<String>,
    #[serde(default = "yes")]
    forward: bool,
    #[serde(default)]
    optional: bool,
    audiences: Option<Vec<String>>,
    #[serde(default)]
    claims: Claims,
    #[serde(default = "realm")]
    realm: String,
    #[serde(default)]
    failures: Failures,
    #[serde(default = "yes")]
    ends_with_token: bool,
}

struct Jwt {
    issuers: Vec<Taken>,
    sources: Sources,
    optional: bool,
    bearer: Bearer,
}

/// An issuer whose tokens are taken here.
struct Taken {
    plan: Arc<IssuerPlan>,
    audiences: Vec<String>,
}

pub(super) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Authenticator>, Fault> {
    let table: Table = ringway_config::filter::table(config)?;
    let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
    let names: Vec<&String> = table.issuer.iter().chain(&table.issuers).collect();
    if names.is_empty() || names.len() > ISSUERS_MAX {
        let fault = Fault::new("names no issuer").at(config.place.clone());
        return Err(fault.cure("add issuer = \"NAME\", and a table [issuers.NAME]"));
    }
    let key = if table.issuer.is_some() { "issuer" } else { "issuers" };
    let mut issuers: Vec<Taken> = Vec::with_capacity(names.len());
    for name in names {
        let plan = building.issuer(name).map_err(|fault| fault.at(format!("{}.{key}", config.place)))?;
        if issuers.iter().any(|known| known.plan.config.issuer == plan.config.issuer) {
            let cure = "a token says which of them it is of by its `iss`: give each another, or use two filters";
            return Err(wrong(key, format!("{name:?} has the `iss` of another one here")).cure(cure));
        }
        let audiences = table.audiences.clone().unwrap_or_else(|| plan.config.audiences.clone());
        issuers.push(Taken { plan, audiences });
    }
    let Table { claims, failures, realm, ends_with_token, optional, .. } = table;
    let bearer = Bearer::build(claims, &failures, realm, ends_with_token, config)?;
    let places = Places { header: table.header, cookie: table.cookie, query: table.query };
    let sources = Sources::build(places, ("authorization", Some("Bearer")), table.forward, config, building)?;
    Ok(Box::new(Jwt { issuers, sources, optional, bearer }))
}

impl Authenticator for Jwt {
    fn authenticate<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Auth<'p> {
        self.bearer.take(&self.sources, request, |request, token| self.examine(request, token, true))
    }

    fn strip<'p>(&'p self, request: &mut RequestEdit<'p, '_>) {
        self.sources.strip(request);
    }

    fn challenge(&self) -> &str {
        self.bearer.challenge()
    }

    fn optional(&self) -> bool {
        self.optional
    }

    fn refuse_foreign(&self, request: &RequestEdit<'_, '_>) -> Option<Box<Denied>> {
        let held_off = self.bearer.hold_off(request);
        if held_off.is_none() {
            self.bearer.note_failure(request);
        }
        held_off
    }

    fn try_out<'p>(&'p self, trial: &mut Trial<'p>) -> Tried {
        let denied = |refused: Refused| self.bearer.denial(refused.text());
        let token = match Token::parse(trial.token) {
            Ok(token) => token,
            Err(refused) => return Tried::Foreign(denied(refused)),
        };
        let Some(taken) = self.issuer_of(&token) else { return Tried::Foreign(denied(Refused::Issuer)) };
        let (issuer, config) = (&*taken.plan, &taken.plan.config);
        trial.say("issuer", &*config.name);
        let fetched = config.source.url.as_ref();
        if issuer.unbuilt.is_some() || (fetched.is_none() && !issuer.has_keys()) {
            return Tried::Denied(undecided(NO_KEYS));
        }
        let key = token.signed.kid.as_ref().map(|kid| format!(", key \"{}\"", shown(kid))).unwrap_or_default();
        let unknown = match (issuer.verify(&token.signed), fetched) {
            (Ok(()), _) => {
                trial.say("signature", format!("good: {}{key}", token.signed.algorithm.name()));
                None
            }
            (Err(Refused::UnknownKey | Refused::Signature), Some(url)) => {
                trial.say("signature", format!("not known here: the gateway fetches the keys from {}", url.text));
                Some("whether the signature is good; the keys are fetched".to_owned())
            }
            (Err(refused), _) => return Tried::Denied(denied(refused)),
        };
        let unfit = unfit_claim(&token.claims, config);
        let verified = Verified::new("jwt", token.claims, config);
        if let Err(refused) = self.bearer.judge_claims(config, &taken.audiences, &verified, trial.unix_s) {
            trial.say("claims", self.say_claims(taken, &verified, unfit, (refused, trial.unix_s)));
            return Tried::Denied(denied(refused));
        }
        say_identity(trial, &verified, unknown.is_some());
        set_fields(&mut trial.headers, config, &verified.identity);
        match unknown {
            None => Tried::Known(verified.identity),
            Some(why) => Tried::Supposed(verified.identity, why),
        }
    }
}

/// What claims that fit say of the sender, on a [`Trial`].
fn say_identity(trial: &mut Trial<'_>, verified: &Verified, is_supposed: bool) {
    let supposed = if is_supposed { "; unverified" } else { "" };
    let end = verified.dates().1.map(|end| format!(", until {} s from now", end.saturating_sub(trial.unix_s as i64)));
    trial.say("claims", format!("fit{}{supposed}", end.unwrap_or_default()));
    let Identity { subject, consumer, roles, .. } = &*verified.identity;
    let consumer = consumer.as_ref().map(|name| format!(", consumer {}", shown(name))).unwrap_or_default();
    trial.say("sender", format!("\"{}\"{consumer}{supposed}", shown(subject)));
    if !roles.is_empty() {
        trial.say("roles", roles.iter().map(|role| shown(role)).collect::<Vec<_>>().join(", "));
    }
}

impl Jwt {
    /// What is wrong with the claims, by name.
    fn say_claims(
        &self,
        taken: &Taken,
        verified: &Verified,
        unfit: Option<&str>,
        (refused, unix_s): (Refused, u64),
    ) -> String {
        let (now, (from, end)) = (unix_s as i64, verified.dates());
        match (refused, unfit, self.bearer.misfit(&verified.identity)) {
            (Refused::Claim, Some(name), _) => format!("`{name}` is missing or of the wrong type"),
            (Refused::ClaimValue, _, Some((name, wanted))) => {
                format!("`{name}` must be one of {}", wanted.join(", "))
            }
            (Refused::Expired, _, _) => format!("expired, {} s ago", now.saturating_sub(end.unwrap_or(now))),
            (Refused::NotYet, _, _) => {
                format!("not valid yet, for another {} s", from.unwrap_or(now).saturating_sub(now))
            }
            (Refused::Audience, _, _) => format!("it must be for {}", taken.audiences.join(" or ")),
            (refused, _, _) => refused.text().to_owned(),
        }
    }

    /// `waits`: an unknown key may still become known.
    fn examine<'p>(&'p self, request: &mut RequestEdit<'p, '_>, text: &[u8], waits: bool) -> Auth<'p> {
        let now_ms = request.net.now_ms();
        for taken in &self.issuers {
            match request.state.tokens.recall(text, &taken.plan, now_ms) {
                Recalled::Good(verified) => return self.judge(request, taken, &verified),
                Recalled::Bad(refused) => {
                    self.bearer.note_failure(request);
                    return self.refuse(request, taken, refused);
                }
                Recalled::Nothing => {}
            }
        }
        self.verify(request, text, waits)
    }

    /// A token that nobody knows here.
    fn verify<'p>(&'p self, request: &mut RequestEdit<'p, '_>, text: &[u8], waits: bool) -> Auth<'p> {
        let token = match Token::parse(text) {
            Ok(token) => token,
            Err(refused) => return Auth::Foreign(self.bearer.denial(refused.text())),
        };
        let Some(taken) = self.issuer_of(&token) else {
            return Auth::Foreign(self.bearer.denial(Refused::Issuer.text()));
        };
        if let Some(held_off) = self.bearer.hold_off(request) {
            return Auth::Denied(held_off);
        }
        let issuer = &taken.plan;
        if !issuer.has_keys() {
            return match waits && issuer.may_fetch(request.net.node_ms()) {
                true => self.wait_for_keys(request, taken, text),
                false => no_keys(),
            };
        }
        if token.signed.is_slow() {
            return self.verify_elsewhere(request, taken, text, waits);
        }
        let by = Stamp::of(issuer);
        let result = issuer.verify(&token.signed);
        self.conclude(request, taken, token, (text, waits), (by, result))
    }

    /// What a verification came to, for now and for later.
    fn conclude<'p>(
        &'p self,
        request: &mut RequestEdit<'p, '_>,
        taken: &'p Taken,
        token: Token<'_>,
        (text, waits): (&[u8], bool),
        (by, result): (Stamp, Result<(), Refused>),
    ) -> Auth<'p> {
        let (tokens, issuer, now_ms) = (&request.state.tokens, &taken.plan, request.net.now_ms());
        // A signature is wrong, or of a key that is not known yet: a token that names no key does not say which.
        let lacks_key = |refused| match refused {
            Refused::UnknownKey => true,
            Refused::Signature => token.signed.kid.is_none() && issuer.is_fetched(),
            _ => false,
        };
        match result {
            Ok(()) => {
                let verified = Rc::new(Verified::new("jwt", token.claims, &issuer.config));
                if issuer.config.remember {
                    tokens.keep_good(text, by, verified.clone());
                }
                self.judge(request, taken, &verified)
            }
            Err(refused) if lacks_key(refused) && waits && issuer.may_fetch(request.net.node_ms()) => {
                self.wait_for_keys(request, taken, text)
            }
            Err(refused) => {
                let time = if lacks_key(refused) { issuer.config.source.refetch_min } else { BAD_TIME };
                tokens.keep_bad(text, by, refused, now_ms, time);
                self.bearer.note_failure(request);
                self.refuse(request, taken, refused)
            }
        }
    }

    /// On a thread that holds no loop up.
    fn verify_elsewhere<'p>(
        &'p self,
        request: &mut RequestEdit<'p, '_>,
        taken: &'p Taken,
        text: &[u8],
        waits: bool,
    ) -> Auth<'p> {
        let (issuer, work_text, text) = (taken.plan.clone(), text.to_vec(), text.to_vec());
        let work = move || (Stamp::of(&issuer), Signed::parse(&work_text).and_then(|signed| issuer.verify(&signed)));
        let Ok(call) = request.calls.run(work) else {
            return unavailable("too many signatures wait to be verified");
        };
        let sleep = request.net.sleep(VERIFY_TIME_MAX);
        let until = async move {
            let outcome = in_time(call, sleep).await.flatten();
            let then: Then<'p> = Box::new(move |request| {
                let auth = match (outcome, Token::parse(&text)) {
                    (Some(result), Ok(token)) => self.conclude(request, taken, token, (&text, waits), result),
                    _ => unavailable("verifying the signature took too long"),
                };
                auth.verdict(request)
            });
            then
        };
        Auth::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    /// The configured issuer that a token says it is of. One without `iss` is of the only one that does without.
    fn issuer_of(&self, token: &Token<'_>) -> Option<&Taken> {
        let claimed = token.claimed_issuer();
        let named =
            self.issuers.iter().find(|taken| claimed.is_some() && taken.plan.config.issuer.as_deref() == claimed);
        named.or_else(|| {
            let without = |taken: &&Taken| taken.plan.config.issuer.is_none() || claimed.is_none();
            match &self.issuers[..] {
                [only] => Some(only).filter(without),
                several => several.iter().find(|taken| taken.plan.config.issuer.is_none()),
            }
        })
    }

    /// What is judged on each request.
    #[inline]
    fn judge<'p>(&'p self, request: &mut RequestEdit<'p, '_>, taken: &'p Taken, verified: &Rc<Verified>) -> Auth<'p> {
        let issuer = &taken.plan;
        match self.bearer.judge(request, &issuer.config, &taken.audiences, verified) {
            Ok(identity) => {
                issuer.node.count(request.state.core, Ok(()));
                Auth::Known(identity)
            }
            Err(refused) => self.refuse(request, taken, refused),
        }
    }

    fn refuse<'p>(&self, request: &RequestEdit<'p, '_>, taken: &Taken, refused: Refused) -> Auth<'p> {
        taken.plan.node.count(request.state.core, Err(refused));
        Auth::Denied(self.bearer.denial(refused.text()))
    }

    /// Asks for the keys and goes on once there are others, or none have come in time.
    fn wait_for_keys<'p>(&'p self, request: &mut RequestEdit<'p, '_>, taken: &'p Taken, text: &[u8]) -> Auth<'p> {
        let issuer = &taken.plan;
        let Some(guard) = may_wait(request) else { return no_keys() };
        issuer.node.wanted.ring();
        let (net, text) = (request.net.clone(), text.to_vec());
        let until = async move {
            keys_after(&net, issuer, issuer.node.keys.version()).await;
            drop(guard);
            let then: Then<'p> = Box::new(move |request| self.examine(request, &text, false).verdict(request));
            then
        };
        Auth::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }
}

/// `None`: too many wait on this core.
pub(super) fn may_wait(request: &RequestEdit<'_, '_>) -> Option<WaitGuard> {
    let waiting = request.state.waiting.clone();
    if waiting.get() >= WAITING_MAX {
        return None;
    }
    waiting.set(waiting.get() + 1);
    Some(WaitGuard(waiting))
}

/// Counts a request that waits.
pub(super) struct WaitGuard(Rc<std::cell::Cell<u32>>);

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Waits until there are other keys, it is known that there are none, or the time for fetching them is over.
async fn keys_after(net: &Rc<Net>, issuer: &IssuerPlan, version: u64) {
    let fetches = issuer.node.fetches.get();
    let end_ms = net.now_ms() + issuer.config.source.timeout.as_millis() as u64;
    while net.now_ms() < end_ms {
        // A fetch that was under way already may have begun before the key was there: one more is waited for.
        if issuer.node.keys.version() != version || issuer.node.fetches.get() > fetches {
            return;
        }
        net.sleep(LOOK_EVERY).await;
    }
}

fn no_keys<'p>() -> Auth<'p> {
    unavailable(NO_KEYS)
}
