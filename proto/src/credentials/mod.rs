//! Credentials as requests carry them, taken apart: schemes of `Authorization`, `Basic` pairs, parameters of a query, compact
//! tokens (`jws`), signatures over messages (`signature`) and digests of bodies (`digest`). Judges none: whether a password,
//! a signature or a token is good is for others to say.

pub mod digest;
pub mod jws;
pub mod signature;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Of a name and a password together.
pub const BASIC_BYTES_MAX: usize = 1024;

/// What stands behind the scheme (RFC 9110 section 11.4), which is written in any case.
#[inline]
pub fn after_scheme<'v>(value: &'v [u8], scheme: &str) -> Option<&'v [u8]> {
    let (have, rest) = value.split_at_checked(scheme.len())?;
    // Almost everybody spells it as the RFCs do.
    let is_meant = have == scheme.as_bytes() || have.eq_ignore_ascii_case(scheme.as_bytes());
    if !is_meant || rest.first() != Some(&b' ') {
        return None;
    }
    Some(rest.trim_ascii())
}

/// What is behind `Basic` (RFC 7617 section 2), decoded: the name and the password, parted by the first colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicPair {
    pub bytes: Vec<u8>,
    colon: usize,
}

impl BasicPair {
    /// `None`: no base64, no colon, or more than [`BASIC_BYTES_MAX`].
    pub fn parse(text: &[u8]) -> Option<BasicPair> {
        // Too long for any pair that is taken: it is not even decoded.
        if text.len() > BASIC_BYTES_MAX * 2 {
            return None;
        }
        let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= BASIC_BYTES_MAX)?;
        let colon = bytes.iter().position(|byte| *byte == b':')?;
        Some(BasicPair { bytes, colon })
    }

    pub fn name(&self) -> &[u8] {
        &self.bytes[..self.colon]
    }

    pub fn password(&self) -> &[u8] {
        &self.bytes[self.colon + 1..]
    }
}

/// True if this piece of a query is the parameter `name`, however it is encoded.
pub fn is_param(piece: &[u8], name: &str) -> bool {
    let key = piece.split(|byte| *byte == b'=').next().unwrap_or_default();
    key == name.as_bytes() || (key.contains(&b'%') && *decoded(key) == *name.as_bytes())
}

/// What stands behind the `=` of a piece of a query, as it was sent.
pub fn param_value(piece: &[u8]) -> &[u8] {
    piece.iter().position(|byte| *byte == b'=').map_or(&[], |at| &piece[at + 1..])
}

/// Without percent-encoding; what is no encoding stays as it is.
pub fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// Writes the pieces of a query that are not to be left out.
pub fn without_param(out: &mut Vec<u8>, query: &[u8], leave_out: impl Fn(&[u8]) -> bool) {
    for piece in query.split(|byte| *byte == b'&').filter(|piece| !leave_out(piece)) {
        if !out.is_empty() {
            out.push(b'&');
        }
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_read_in_any_case_and_never_guessed() {
        assert_eq!(after_scheme(b"Bearer abc", "Bearer"), Some(&b"abc"[..]));
        assert_eq!(after_scheme(b"bEARER   abc ", "Bearer"), Some(&b"abc"[..]));
        for other in ["Bearer", "Bearerabc", "Basic abc", "", "Bear"] {
            assert_eq!(after_scheme(other.as_bytes(), "Bearer"), None, "{other}");
        }
    }

    #[test]
    fn a_pair_is_parted_by_the_first_colon() {
        let pair = |text: &str| {
            let pair = BasicPair::parse(text.as_bytes())?;
            Some((pair.name().to_vec(), pair.password().to_vec()))
        };
        assert_eq!(pair("YTpiOmM="), Some((b"a".to_vec(), b"b:c".to_vec())));
        assert_eq!(pair("Og=="), Some((Vec::new(), Vec::new())));
        for wrong in ["", "YTpi=", "YTpi\n", "YQ==", "YTpiOmM", "-_-_"] {
            assert_eq!(pair(wrong), None, "{wrong}");
        }
        let long = STANDARD.encode(vec![b':'; BASIC_BYTES_MAX + 1]);
        assert_eq!(pair(&long), None);
    }

    #[test]
    fn a_parameter_is_known_however_it_is_encoded() {
        for piece in ["access_token=x", "access%5Ftoken=x", "%61ccess_token=", "access_token"] {
            assert!(is_param(piece.as_bytes(), "access_token"), "{piece}");
        }
        assert!(!is_param(b"a=access_token", "access_token") && !is_param(b"Access_token", "access_token"));
        assert_eq!((param_value(b"a=b=c"), param_value(b"a")), (&b"b=c"[..], &b""[..]));
        assert_eq!(decoded(b"%41%zz%4"), Cow::<[u8]>::Owned(b"A%zz%4".to_vec()));
    }
}
