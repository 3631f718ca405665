//! What `Content-Digest` says of a body (RFC 9530).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256, SHA512};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Members of one field.
const MEMBERS_MAX: usize = 8;

/// The digests that count; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digests {
    sha256: Option<[u8; 32]>,
    sha512: Option<[u8; 64]>,
}

impl Digests {
    /// Members of other algorithms count for nothing; one that stands twice, or is malformed, spoils it all.
    pub(super) fn parse(value: &[u8]) -> Option<Digests> {
        let mut digests = Digests { sha256: None, sha512: None };
        let members = str::from_utf8(value).ok()?;
        if members.split(',').count() > MEMBERS_MAX {
            return None;
        }
        for member in members.split(',') {
            let (name, value) = member.trim_matches([' ', '\t']).split_once('=')?;
            let bytes = STANDARD.decode(value.strip_prefix(':')?.strip_suffix(':')?).ok()?;
            let is_new = match name {
                "sha-256" => digests.sha256.replace(bytes.try_into().ok()?).is_none(),
                "sha-512" => digests.sha512.replace(bytes.try_into().ok()?).is_none(),
                _ => true,
            };
            if !is_new {
                return None;
            }
        }
        (digests.sha256.is_some() || digests.sha512.is_some()).then_some(digests)
    }

    /// True if all of them are the body's.
    pub(super) fn fit(&self, body: &[u8]) -> bool {
        let is = |wanted: &[u8], algorithm| {
            verify_slices_are_equal(digest::digest(algorithm, body).as_ref(), wanted).is_ok()
        };
        self.sha256.is_none_or(|wanted| is(&wanted, &SHA256)) && self.sha512.is_none_or(|wanted| is(&wanted, &SHA512))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9530 appendix B.1 and D: of `{"hello": "world"}` and a line feed.
    #[test]
    fn digests_are_those_of_the_standard() {
        let body = b"{\"hello\": \"world\"}\n";
        let sha256 = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        let sha512 = "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCs\
            yRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";
        for value in [sha256.to_owned(), sha512.to_owned(), format!("{sha512}, md5=:AAAA:,{sha256}")] {
            let digests = Digests::parse(value.as_bytes()).unwrap();
            assert!(digests.fit(body), "{value}");
            assert!(!digests.fit(b"") && !digests.fit(&body[..18]), "{value}");
        }
        let mixed = format!("{sha256}, sha-512=:{}:", STANDARD.encode([0; 64]));
        assert!(!Digests::parse(mixed.as_bytes()).unwrap().fit(body), "both must fit");
        for wrong in [
            "",
            "sha-256",
            "sha-256=RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=",
            "sha-256=:AAAA:",
            "SHA-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
            "md5=:AAAA:",
            &format!("{sha256}, {sha256}"),
            &format!("{sha256},"),
            &[sha256; 9].join(", "),
        ] {
            assert_eq!(Digests::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
