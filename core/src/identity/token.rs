//! A JSON Web Token in compact form (RFC 7515, RFC 7519, with the advice of RFC 8725): taken apart strictly, its claims
//! judged against what is asked. Whether its signature is good is `keys`' to say.

use std::fmt;
use std::rc::Rc;

use ringway_config::snapshot::{Algorithm, Issuer, Required};
use ringway_proto::credentials::jws::{Compact, JwsError};
use ringway_proto::json;
use serde_json::{Map, Value};

use crate::exchange::{Identity, claim, texts};

/// A signature of RSA is as long as its modulus.
const FAST_RSA_BYTES_MAX: usize = 4096 / 8;
/// Of `aud`, of roles: members that count.
const MEMBERS_MAX: usize = 256;

/// What is signed, as it says it is (RFC 7515). Nothing of it is to be believed yet.
#[derive(Debug)]
pub struct Signed<'t> {
    /// What it names; only chooses among the algorithms that are allowed.
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    /// What was signed.
    pub message: &'t [u8],
    pub signature: Vec<u8>,
    payload: Vec<u8>,
}

/// A token as it says it is.
#[derive(Debug)]
pub struct Token<'t> {
    pub signed: Signed<'t>,
    pub claims: Map<String, Value>,
}

/// A token that its issuer has signed, and what of it is judged anew for each request.
pub struct Verified {
    pub identity: Rc<Identity>,
    audiences: Vec<Box<str>>,
    not_before_unix_s: Option<i64>,
    expires_unix_s: Option<i64>,
    /// A registered claim is there and has the wrong type, one that must be there is not, or its issuer is another one.
    unfit: Option<Refused>,
}

/// Why a token is not taken. The text is for the log and `error_description`; it never quotes the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    TooLong,
    /// Not three parts of base64url with JSON objects in them.
    Malformed,
    /// Extensions that must be understood (`crit`, `b64`), and are not.
    Critical,
    /// Its algorithm is not one that its issuer allows.
    Algorithm,
    /// No configured issuer is the one that it names.
    Issuer,
    /// Its issuer has no such key.
    UnknownKey,
    Signature,
    Expired,
    NotYet,
    Audience,
    /// A claim that must be there is not, or has the wrong type.
    Claim,
    /// A claim does not have the value that the route asks for.
    ClaimValue,
}

impl Refused {
    pub const ALL: [Refused; 12] = [
        Refused::TooLong,
        Refused::Malformed,
        Refused::Critical,
        Refused::Algorithm,
        Refused::Issuer,
        Refused::UnknownKey,
        Refused::Signature,
        Refused::Expired,
        Refused::NotYet,
        Refused::Audience,
        Refused::Claim,
        Refused::ClaimValue,
    ];

    /// For metrics.
    pub fn label(self) -> &'static str {
        match self {
            Refused::TooLong => "too_long",
            Refused::Malformed => "malformed",
            Refused::Critical => "critical",
            Refused::Algorithm => "algorithm",
            Refused::Issuer => "issuer",
            Refused::UnknownKey => "unknown_key",
            Refused::Signature => "signature",
            Refused::Expired => "expired",
            Refused::NotYet => "not_yet",
            Refused::Audience => "audience",
            Refused::Claim => "claim",
            Refused::ClaimValue => "claim_value",
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Refused::TooLong => "the token is too long",
            Refused::Malformed => "the token is malformed",
            Refused::Critical => "the token has extensions that are not understood",
            Refused::Algorithm => "the token's algorithm is not allowed",
            Refused::Issuer => "the token's issuer is not known",
            Refused::UnknownKey => "the token's key is not known",
            Refused::Signature => "the token's signature is wrong",
            Refused::Expired => "the token has expired",
            Refused::NotYet => "the token is not valid yet",
            Refused::Audience => "the token is for somebody else",
            Refused::Claim => "the token lacks a claim",
            Refused::ClaimValue => "a claim of the token does not have the value that is asked for",
        }
    }
}

impl From<JwsError> for Refused {
    fn from(error: JwsError) -> Refused {
        match error {
            JwsError::TooLong => Refused::TooLong,
            JwsError::Malformed => Refused::Malformed,
            JwsError::Critical => Refused::Critical,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<'t> Signed<'t> {
    /// Takes it apart. `jku`, `jwk`, `x5u` and `x5c` are never looked at: keys come from the configuration.
    ///
    /// # Errors
    /// [`Refused::TooLong`], [`Refused::Malformed`], [`Refused::Critical`], [`Refused::Algorithm`] for one that we do not
    /// know at all: `none` is not one.
    pub fn parse(text: &'t [u8]) -> Result<Signed<'t>, Refused> {
        let Compact { algorithm, kid, message, signature, payload } = Compact::parse(text).map_err(Refused::from)?;
        let algorithm = Algorithm::named(&algorithm).ok_or(Refused::Algorithm)?;
        Ok(Signed { algorithm, kid, message, signature, payload })
    }
}

impl Signed<'_> {
    /// True if verifying it takes more than 200 us: on P-384 it is 190 us where P-256 is 49, on P-521 332, and RSA of 4096
    /// bits 56 (measured on one core of a small machine).
    pub fn is_slow(&self) -> bool {
        matches!(self.algorithm, Algorithm::Es384 | Algorithm::Es512) || self.signature.len() > FAST_RSA_BYTES_MAX
    }
}

impl<'t> Token<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// As [`Signed::parse`], or its claims are no object.
    pub fn parse(text: &'t [u8]) -> Result<Token<'t>, Refused> {
        let signed = Signed::parse(text)?;
        let claims = json::object(&signed.payload).ok_or(Refused::Malformed)?;
        Ok(Token { signed, claims })
    }

    /// The claim `iss`, which nobody has verified.
    pub fn claimed_issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }
}

impl Verified {
    /// Of claims that `issuer` has signed.
    /// `by`: the kind of credentials.
    pub fn new(by: &'static str, claims: Map<String, Value>, issuer: &Issuer) -> Verified {
        let date = |name: &str| claims.get(name).and_then(numeric_date);
        let expires_unix_s = date("exp");
        let named = claims.get("iss").and_then(Value::as_str);
        let is_foreign = named.is_some() && issuer.issuer.is_some() && named != issuer.issuer.as_deref();
        let foreign = is_foreign.then_some(Refused::Issuer);
        Verified {
            audiences: audiences(&claims).unwrap_or_default(),
            not_before_unix_s: date("nbf"),
            expires_unix_s,
            unfit: unfit_claim(&claims, issuer).map(|_| Refused::Claim).or(foreign),
            identity: Rc::new(identity(by, claims, issuer, expires_unix_s)),
        }
    }

    /// Judges the claims at this moment, for a route that takes these audiences; none: any.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn judge(&self, issuer: &Issuer, audiences: &[String], unix_s: u64) -> Result<(), Refused> {
        if let Some(unfit) = self.unfit {
            return Err(unfit);
        }
        let (now, leeway) = (unix_s as i64, issuer.leeway.as_secs() as i64);
        // RFC 7519 section 4.1.4: not on or after it.
        if self.expires_unix_s.is_some_and(|expires| now >= expires.saturating_add(leeway)) {
            return Err(Refused::Expired);
        }
        if self.not_before_unix_s.is_some_and(|from| now.saturating_add(leeway) < from) {
            return Err(Refused::NotYet);
        }
        let known = |audience: &str| audiences.iter().any(|wanted| wanted == audience);
        if !audiences.is_empty() && !self.audiences.is_empty() && !self.audiences.iter().any(|audience| known(audience))
        {
            return Err(Refused::Audience);
        }
        Ok(())
    }

    /// In seconds since 1970: not before, and not on or after.
    pub fn dates(&self) -> (Option<i64>, Option<i64>) {
        (self.not_before_unix_s, self.expires_unix_s)
    }

    /// Some bytes of memory that it holds, for a cache's budget.
    pub fn weight(claims_bytes: usize) -> usize {
        // Parsed JSON takes some times the space of its text.
        512 + claims_bytes * 4
    }
}

/// The first claim that must be there and is not, or that has the wrong type.
pub fn unfit_claim<'i>(claims: &Map<String, Value>, issuer: &'i Issuer) -> Option<&'i str> {
    let must = |claim| !issuer.may_lack.contains(&claim);
    let wrong_date = |value: &Value| numeric_date(value).is_none();
    let registered = [
        ("exp", claims.get("exp").map_or(must(Required::Exp), wrong_date)),
        ("nbf", claims.get("nbf").is_some_and(wrong_date)),
        ("iss", claims.get("iss").map_or(must(Required::Iss), |value| !value.is_string())),
        ("aud", audiences(claims).is_none_or(|list| must(Required::Aud) && list.is_empty())),
    ];
    let registered = registered.into_iter().find(|(_, is_unfit)| *is_unfit).map(|(name, _)| name);
    let required = || issuer.require.iter().find(|path| claim(claims, path).is_none_or(Value::is_null));
    registered.or_else(|| required().map(String::as_str))
}

/// `None`: `aud` has the wrong type.
fn audiences(claims: &Map<String, Value>) -> Option<Vec<Box<str>>> {
    match claims.get("aud") {
        None => Some(Vec::new()),
        Some(Value::String(one)) => Some(vec![one.as_str().into()]),
        Some(Value::Array(list)) if list.len() <= MEMBERS_MAX => {
            list.iter().map(|member| member.as_str().map(Into::into)).collect()
        }
        Some(_) => None,
    }
}

/// RFC 7519 section 2: seconds, perhaps with a fraction.
fn numeric_date(value: &Value) -> Option<i64> {
    match value.as_i64() {
        Some(whole) => Some(whole),
        None if value.is_u64() => Some(i64::MAX),
        None => value.as_f64().map(|seconds| seconds as i64),
    }
}

fn identity(by: &'static str, claims: Map<String, Value>, issuer: &Issuer, expires: Option<i64>) -> Identity {
    let text = |path: &str| claim(&claims, path).and_then(Value::as_str);
    let roles = issuer.roles.iter().filter_map(|path| claim(&claims, path)).flat_map(roles_of);
    let roles: Vec<Box<str>> = roles.take(MEMBERS_MAX).collect();
    let field = |path: &str| claim(&claims, path).and_then(field_value).map(Into::into);
    Identity {
        by,
        subject: text("sub").unwrap_or_default().into(),
        consumer: issuer.consumer.as_deref().and_then(text).map(Into::into),
        roles,
        expires_unix_s: expires.map(|expires| u64::try_from(expires).unwrap_or(0)),
        fields: issuer.headers.iter().map(|(_, path)| field(path)).collect(),
        claims,
    }
}

/// RFC 8693 section 4.2: `scope` is one text, parted by spaces. A member of a list is one role, whatever stands in it.
fn roles_of(value: &Value) -> Vec<Box<str>> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().map(Into::into).collect(),
        value => texts(value).into_iter().map(Into::into).collect(),
    }
}

/// A claim as a field's value; the members of a list parted by commas. What cannot stand in a field (RFC 9110 section 5.5)
/// is percent-encoded as UTF-8, `%` too, and so is a comma within a member: whoever parts them gets each as it was.
fn field_value(value: &Value) -> Option<String> {
    if value.is_object() || value.is_null() {
        return None;
    }
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'%' && !(byte == b',' && value.is_array());
    let encoded = |text: &String| {
        let mut out = String::with_capacity(text.len());
        for (at, byte) in text.bytes().enumerate() {
            let border = byte == b' ' && (at == 0 || at + 1 == text.len());
            if plain(byte) && !border {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    };
    Some(texts(value).iter().map(encoded).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests;
