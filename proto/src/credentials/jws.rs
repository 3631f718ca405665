//! A JSON Web Signature in compact form (RFC 7515 section 7.1), taken apart strictly. Whether its algorithm is known, its
//! signature good and its payload a set of claims is for others to say.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::json;

/// Longer ones do not fit most heads anyway, and each costs a hash over all of it.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// RFC 7515 has no limit for `kid`; a longer one is no name.
pub const KID_BYTES_MAX: usize = 256;

/// What is signed, as it says it is. Nothing of it is to be believed yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Compact<'t> {
    /// As its header names it, whatever that is.
    pub algorithm: String,
    pub kid: Option<String>,
    /// What was signed.
    pub message: &'t [u8],
    pub signature: Vec<u8>,
    pub payload: Vec<u8>,
}

/// Why it is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwsError {
    /// More than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// Not three parts of base64url, or the first no JSON object with a text `alg`.
    Malformed,
    /// Extensions that must be understood (`crit`, `b64`), and are not.
    Critical,
}

impl<'t> Compact<'t> {
    /// Takes it apart. `jku`, `jwk`, `x5u` and `x5c` are never looked at.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &'t [u8]) -> Result<Compact<'t>, JwsError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(JwsError::TooLong);
        }
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwsError::Malformed);
        };
        let message = &text[..header.len() + 1 + payload.len()];
        let decoded = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Malformed);
        let header = json::object(&decoded(header)?).ok_or(JwsError::Malformed)?;
        // RFC 7515 section 4.1.11: what is critical and not understood makes the token invalid; we understand none.
        // RFC 7797: `b64` changes what is signed.
        if header.contains_key("crit") || header.get("b64").is_some_and(|b64| *b64 != Value::Bool(true)) {
            return Err(JwsError::Critical);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(JwsError::Malformed)?.to_owned();
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
            Some(_) => return Err(JwsError::Malformed),
        };
        Ok(Compact { algorithm, kid, message, signature: decoded(signature)?, payload: decoded(payload)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(header: &str) -> String {
        format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header))
    }

    #[test]
    fn parts_are_what_was_signed_and_what_signs() {
        let text = with_header(r#"{"alg":"ES256","kid":"a","jku":"http://a","x5c":[1]}"#);
        let read = Compact::parse(text.as_bytes()).unwrap();
        assert_eq!((&*read.algorithm, read.kid.as_deref()), ("ES256", Some("a")));
        assert_eq!((read.message, &*read.payload), (&text.as_bytes()[..text.len() - 3], &b"{}"[..]));
        assert_eq!(read.signature, [0]);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let parse = |text: &str| Compact::parse(text.as_bytes()).map(|_| ());
        for header in ["", "{}", "[]", r#"{"alg":1}"#, r#"{"alg":"a","alg":"a"}"#, r#"{"alg":"a","kid":1}"#] {
            assert_eq!(parse(&with_header(header)), Err(JwsError::Malformed), "{header}");
        }
        for header in [r#"{"alg":"a","crit":[]}"#, r#"{"alg":"a","b64":false}"#, r#"{"alg":"a","b64":1}"#] {
            assert_eq!(parse(&with_header(header)), Err(JwsError::Critical), "{header}");
        }
        let good = with_header(r#"{"alg":"a"}"#);
        for wrong in ["", ".", "..", "a.b", &format!("{good}="), &format!("{good}.AA"), &good.replace("AA", "AB")] {
            assert_eq!(parse(wrong), Err(JwsError::Malformed), "{wrong}");
        }
        assert_eq!(parse(&"a".repeat(TOKEN_BYTES_MAX + 1)), Err(JwsError::TooLong));
        let long = format!("{{\"alg\":\"a\",\"kid\":\"{}\"}}", "k".repeat(KID_BYTES_MAX + 1));
        assert_eq!(parse(&with_header(&long)), Err(JwsError::Malformed));
    }
}
