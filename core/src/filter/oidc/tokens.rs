//! Codes and refresh tokens become sessions: the token endpoint is asked, its id_token verified with the issuer's keys, and
//! the session sealed. All of it on the control thread, so that it is done once for all cores, and done to its end if the
//! request that wanted it has gone.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use ringway_proto::credentials::jws::TOKEN_BYTES_MAX;
use ringway_proto::json;
use serde_json::{Map, Value};

use super::cookies::SESSION_BYTES_MAX;
use super::provider::{ClientAuth, LOOK_EVERY, Provider};
use super::seal::Purpose;
use super::session::Stored;
use crate::fetch::{Answer, Question};
use crate::filter::server::{Asking, form_encoded};
use crate::identity::{Refused, Token, Verified};

/// What the token endpoint says.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Tokens of which nothing says when they end.
const LIFETIME_DEFAULT_S: u64 = 300;
/// Of an error that the provider names.
const ERROR_BYTES_MAX: usize = 64;

/// A session that was just made.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) stored: Stored,
    pub(super) sealed: String,
}

/// Why there is none. The text is for the log; it quotes no token.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) by: By,
    pub(super) why: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The provider cannot be asked, or does not say.
    Away,
    /// It refuses the code or the refresh token.
    Grant,
    /// It refuses the request for another reason: the client, most often.
    Client,
    /// What it gives is not what was asked for.
    Token(Option<Refused>),
    /// It does not fit into the cookies.
    Size,
}

/// What a login has to show.
pub(super) struct Code {
    pub(super) code: String,
    pub(super) verifier: String,
    pub(super) nonce: String,
}

impl Failed {
    pub(super) fn new(by: By, why: impl Into<Arc<str>>) -> Failed {
        Failed { by, why: why.into() }
    }
}

fn token(why: &'static str) -> Failed {
    Failed::new(By::Token(None), why)
}

fn refused(refused: Refused) -> Failed {
    Failed::new(By::Token(Some(refused)), refused.text())
}

/// The members of the endpoint's answer that count.
struct Granted {
    id_token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    lifetime_s: Option<u64>,
}

impl Provider {
    /// RFC 6749 section 4.1.3, with the proof of RFC 7636 section 4.5.
    pub(super) async fn login(&self, asking: &Asking, code: Code) -> Result<Arc<Issued>, Failed> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &*code.code),
            ("redirect_uri", &*self.redirect_uri),
            ("code_verifier", &*code.verifier),
        ];
        let granted = self.ask(asking, &form).await?;
        let id_token = granted.id_token.as_deref().ok_or_else(|| token("it has no id_token"))?;
        let claims = self.verify(id_token).await?;
        let nonce = text(&claims, "nonce").ok_or_else(|| token("its id_token has no nonce"))?;
        if verify_slices_are_equal(nonce.as_bytes(), code.nonce.as_bytes()).is_err() {
            return Err(token("the nonce of its id_token is another login's"));
        }
        let now = unix_s();
        self.issue(granted, &claims, None, now + self.session_s, now)
    }

    /// RFC 6749 section 6. A new id_token is not promised; one that comes must be of the same user (Core 1.0 section 12.2).
    pub(super) async fn renew(&self, asking: &Asking, before: &Stored) -> Result<Arc<Issued>, Failed> {
        let refresh = before.refresh_token.as_deref().unwrap_or_default();
        let granted = self.ask(asking, &[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await?;
        let old = Token::parse(before.id_token.as_bytes()).map_err(refused)?.claims;
        let claims = match &granted.id_token {
            None => old,
            Some(id_token) => {
                let new = self.verify(id_token).await?;
                let same = ["sub", "iss"].iter().all(|name| text(&new, name) == text(&old, name));
                if !same || new.get("nonce").is_some_and(|nonce| Some(nonce) != old.get("nonce")) {
                    return Err(token("its new id_token is another user's"));
                }
                new
            }
        };
        self.issue(granted, &claims, Some(before), before.last, unix_s())
    }

    async fn ask(&self, asking: &Asking, form: &[(&str, &str)]) -> Result<Granted, Failed> {
        let away = |why: String| Failed::new(By::Away, format!("the provider: {why}"));
        let endpoints = self.endpoints(asking).await.map_err(|why| away(why.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let mut form: Vec<(&str, &[u8])> = form.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        match &self.auth {
            ClientAuth::Basic(value) => drop(headers.insert(AUTHORIZATION, value.clone())),
            ClientAuth::None => form.push(("client_id", self.client_id.as_bytes())),
            ClientAuth::Post(secret) => {
                form.extend([("client_id", self.client_id.as_bytes()), ("client_secret", secret)]);
            }
        }
        let body: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", form_encoded(value))).collect();
        let url = endpoints.token.clone();
        let question = Question { method: Method::POST, url, headers, body: body.join("&").into_bytes() };
        read(&asking.ask(question).await.map_err(away)?)
    }

    /// Verifies an id_token (Core 1.0 section 3.1.3.7): its claims, but for the nonce.
    async fn verify(&self, id_token: &str) -> Result<Map<String, Value>, Failed> {
        let signed = Token::parse(id_token.as_bytes()).map_err(refused)?;
        let issuer = &self.issuer;
        let mut result = issuer.verify(&signed.signed);
        if result == Err(Refused::UnknownKey) {
            self.keys_after(issuer.node.keys.version()).await;
            if !issuer.has_keys() {
                return Err(Failed::new(By::Away, "the issuer has no keys to verify tokens with"));
            }
            result = issuer.verify(&signed.signed);
        }
        result.map_err(refused)?;
        let claims = signed.claims;
        let verified = Verified::new("oidc", claims.clone(), &issuer.config);
        verified.judge(&issuer.config, std::slice::from_ref(&self.client_id), unix_s()).map_err(refused)?;
        self.judge(&claims)?;
        Ok(claims)
    }

    /// What holds of an id_token whatever the issuer's table lets other tokens lack.
    fn judge(&self, claims: &Map<String, Value>) -> Result<(), Failed> {
        if text(claims, "iss") != Some(&*self.name) {
            return Err(refused(Refused::Issuer));
        }
        if text(claims, "sub").is_none_or(str::is_empty) || !claims.get("exp").is_some_and(Value::is_number) {
            return Err(refused(Refused::Claim));
        }
        let audiences = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !audiences.contains(&&*self.client_id) {
            return Err(refused(Refused::Audience));
        }
        match claims.get("azp").map(|party| party.as_str() == Some(&self.client_id)) {
            None if audiences.len() > 1 => Err(token("its id_token has several audiences and no azp")),
            Some(false) => Err(token("the azp of its id_token is another client")),
            _ => Ok(()),
        }
    }

    /// Waits until there are other keys, or it is known that there are none.
    async fn keys_after(&self, version: u64) {
        let (node, source) = (&self.issuer.node, &self.issuer.config.source);
        if !self.issuer.is_fetched() {
            return;
        }
        let (fetches, end) = (node.fetches.get(), Instant::now() + source.timeout);
        node.wanted.ring();
        while Instant::now() < end && node.keys.version() == version && node.fetches.get() == fetches {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// `last`: when the session ends in any case.
    fn issue(
        &self,
        granted: Granted,
        claims: &Map<String, Value>,
        before: Option<&Stored>,
        last: u64,
        now: u64,
    ) -> Result<Arc<Issued>, Failed> {
        let Granted { id_token, access_token, refresh_token, lifetime_s } = granted;
        // The date of an id_token that was there before says nothing of the new tokens.
        let of_id_token = id_token.as_ref().and_then(|_| claims.get("exp")).and_then(Value::as_f64);
        let ends = match (lifetime_s, of_id_token) {
            (Some(lifetime_s), _) => now.saturating_add(lifetime_s),
            (None, Some(expires)) => expires as u64,
            (None, None) => now + LIFETIME_DEFAULT_S,
        };
        let ends = ends.min(last);
        if ends <= now {
            return Err(token("its tokens have ended when they come"));
        }
        if self.keeps_access_token && access_token.is_none() {
            return Err(token("it has no access_token"));
        }
        let stored = Stored {
            id_token: id_token.or_else(|| before.map(|before| before.id_token.clone())).unwrap_or_default(),
            access_token: access_token.filter(|_| self.keeps_access_token),
            refresh_token: refresh_token.or_else(|| before.and_then(|before| before.refresh_token.clone())),
            renew: ends - self.renew_before_s.min((ends - now) / 2),
            ends,
            last,
        };
        let plain = serde_json::to_vec(&stored).unwrap_or_default();
        let sealed = self.sealer.as_ref().and_then(|sealer| sealer.seal(Purpose::Session, &plain));
        let sealed = sealed.ok_or_else(|| Failed::new(By::Away, "the session cannot be sealed"))?;
        if sealed.len() > SESSION_BYTES_MAX {
            let why = format!("the session has {} bytes; {SESSION_BYTES_MAX} fit into its cookies", sealed.len());
            return Err(Failed::new(By::Size, why));
        }
        Ok(Arc::new(Issued { stored, sealed }))
    }
}

/// RFC 6749 sections 5.1 and 5.2.
fn read(answer: &Answer) -> Result<Granted, Failed> {
    let members = json::object(&answer.body);
    match (answer.status, &members) {
        (200, Some(_)) => {}
        (400 | 401 | 403, Some(members)) => {
            let error = text(members, "error").filter(|error| is_error(error)).unwrap_or("no error that has a name");
            let by = if error == "invalid_grant" { By::Grant } else { By::Client };
            return Err(Failed::new(by, format!("the provider answers {}: {error}", answer.status)));
        }
        (200, None) => return Err(Failed::new(By::Away, "the provider: its answer is no JSON object")),
        (status, _) => return Err(Failed::new(By::Away, format!("the provider answers {status}"))),
    }
    let members = members.unwrap_or_default();
    let is_token =
        |text: &&str| (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let one = |name: &'static str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_str().filter(is_token) {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(Failed::new(By::Token(None), format!("its {name} is no token"))),
        },
    };
    if !text(&members, "token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(token("its token_type is not Bearer"));
    }
    let lifetime_s = match members.get("expires_in") {
        None | Some(Value::Null) => None,
        // Some write it as text.
        Some(Value::String(text)) => Some(text.parse().map_err(|_| token("its expires_in is no number"))?),
        Some(value) => {
            let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0);
            Some(seconds.ok_or_else(|| token("its expires_in is no number"))? as u64)
        }
    };
    Ok(Granted {
        id_token: one("id_token")?,
        access_token: one("access_token")?,
        refresh_token: one("refresh_token")?,
        lifetime_s,
    })
}

/// A name of an error (RFC 6749 section 5.2) that may stand in a log or an answer.
pub(super) fn is_error(text: &str) -> bool {
    (1..=ERROR_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str)
}

pub(super) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// How long work on the control thread may take: a document, the tokens, the keys.
pub(super) fn work_time(deadline: Duration, provider: &Provider) -> Duration {
    2 * deadline + provider.issuer.config.source.timeout + Duration::from_secs(1)
}
