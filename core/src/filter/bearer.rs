//! What filters that take tokens have in common, however a token is verified: its claims are judged on each request,
//! addresses that bring bad ones wait, and refusals look as RFC 6750 section 3 wants it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ringway_config::Fault;
use ringway_config::snapshot::{FilterConfig, Issuer};
use ringway_config::units::DurationText;
use serde::Deserialize;

use super::RequestEdit;
use super::auth::{Auth, Denied};
use super::credentials::{Found, Sources};
use crate::exchange::{HeaderEdit, HeaderEdits, Identity, Refusal, claim, texts};
use crate::identity::{Refused, Spared, Verified};
use crate::observe::Flag;

/// By claim, the values of which it must have one.
pub(super) type Claims = BTreeMap<String, OneOrMore>;

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// How many bad tokens an address may bring.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Failures {
    max: u32,
    window: DurationText,
}

impl Default for Failures {
    fn default() -> Failures {
        Failures { max: 100, window: DurationText(Duration::from_secs(60)) }
    }
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn realm() -> String {
    "ringway".to_owned()
}

/// What is asked of each token.
pub(super) struct Bearer {
    claims: Vec<(String, Vec<String>)>,
    spared: Spared,
    challenge: String,
    realm: String,
    ends_with_token: bool,
}

/// The fields that the issuer's configuration makes of claims.
#[inline]
pub(super) fn set_fields<'p>(headers: &mut HeaderEdits<'p>, issuer: &'p Issuer, identity: &Identity) {
    for ((name, _), value) in std::iter::zip(&issuer.headers, &identity.fields) {
        if let Some(value) = value {
            headers.push(HeaderEdit::Set(name, value.clone().into()));
        }
    }
}

impl Bearer {
    pub(super) fn build(
        claims: Claims,
        failures: &Failures,
        realm: String,
        ends_with_token: bool,
        config: &FilterConfig,
    ) -> Result<Bearer, Fault> {
        if realm.bytes().any(|byte| !matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\') {
            let fault = Fault::new("has characters that cannot stand in quotes");
            return Err(fault.at(format!("{}.realm", config.place)));
        }
        let values = |values| match values {
            OneOrMore::One(value) => vec![value],
            OneOrMore::More(values) => values,
        };
        Ok(Bearer {
            claims: claims.into_iter().map(|(path, value)| (path, values(value))).collect(),
            spared: Spared { failures_max: failures.max.max(1), window: failures.window.0 },
            challenge: format!("Bearer realm=\"{realm}\""),
            realm,
            ends_with_token,
        })
    }

    /// Examines the token that a request brings, and takes it out of what goes on.
    #[inline]
    pub(super) fn take<'p, 'r>(
        &self,
        sources: &'p Sources,
        request: &mut RequestEdit<'p, 'r>,
        examine: impl FnOnce(&mut RequestEdit<'p, 'r>, &[u8]) -> Auth<'p>,
    ) -> Auth<'p> {
        let found = sources.find(request);
        let auth = match &found {
            Found::Nothing => return Auth::Absent,
            Found::Several => Auth::Denied(self.several()),
            Found::One(token) => examine(request, token),
        };
        sources.strip(request);
        auth
    }

    pub(super) fn challenge(&self) -> &str {
        &self.challenge
    }

    /// What is judged on each request. Headers and the end are set if nothing is wrong.
    ///
    /// # Errors
    /// What is.
    #[inline]
    pub(super) fn judge<'p>(
        &self,
        request: &mut RequestEdit<'p, '_>,
        issuer: &'p Issuer,
        audiences: &[String],
        verified: &Verified,
    ) -> Result<Rc<Identity>, Refused> {
        self.judge_claims(issuer, audiences, verified, (request.unix_s)())?;
        let identity = &verified.identity;
        set_fields(request.headers, issuer, identity);
        if self.ends_with_token
            && let Some(expires) = identity.expires_unix_s
        {
            let end = expires.saturating_add(issuer.leeway.as_secs());
            *request.ends_unix_s = Some(request.ends_unix_s.map_or(end, |other| other.min(end)));
        }
        Ok(identity.clone())
    }

    /// The same for whoever brings it; nothing is set.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub(super) fn judge_claims(
        &self,
        issuer: &Issuer,
        audiences: &[String],
        verified: &Verified,
        unix_s: u64,
    ) -> Result<(), Refused> {
        verified.judge(issuer, audiences, unix_s)?;
        self.misfit(&verified.identity).map_or(Ok(()), |_| Err(Refused::ClaimValue))
    }

    /// The first claim without one of the values that it must have, and those.
    #[inline]
    pub(super) fn misfit(&self, identity: &Identity) -> Option<&(String, Vec<String>)> {
        self.claims.iter().find(|(path, wanted)| {
            let have = claim(&identity.claims, path).map(texts).unwrap_or_default();
            !have.iter().any(|value| wanted.contains(value))
        })
    }

    pub(super) fn note_failure(&self, request: &RequestEdit<'_, '_>) {
        request.state.tokens.note_failure(request.fields.client_ip(), self.spared, request.net.now_ms());
    }

    /// An unknown token is not even looked at: its address has brought too many bad ones.
    pub(super) fn hold_off(&self, request: &RequestEdit<'_, '_>) -> Option<Box<Denied>> {
        let (address, now_ms) = (request.fields.client_ip(), request.net.now_ms());
        let wait = request.state.tokens.wait_of(address, self.spared, now_ms)?;
        let refusal = Refusal::new(Flag::RateLimited, "too many bad tokens from this address");
        let retry_after_s = Some(wait.as_millis().div_ceil(1000) as u32);
        Some(Denied::new(Refusal { retry_after_s, ..refusal }, None))
    }

    /// `text` never quotes the token.
    pub(super) fn denial(&self, text: &'static str) -> Box<Denied> {
        self.denial_with("invalid_token", text, text)
    }

    fn several(&self) -> Box<Denied> {
        self.denial_with("invalid_request", "several credentials", "the request brings several tokens")
    }

    fn denial_with(&self, error: &str, description: &str, reason: &'static str) -> Box<Denied> {
        let refusal = Refusal { code: "invalid_token", ..Refusal::new(Flag::Unauthenticated, reason) };
        let realm = &self.realm;
        let challenge = format!("Bearer realm=\"{realm}\", error=\"{error}\", error_description=\"{description}\"");
        Denied::new(refusal, Some(challenge))
    }
}
