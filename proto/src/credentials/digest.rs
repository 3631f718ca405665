//! `Content-Digest` (RFC 9530): the digests of a body that a message says. Computes none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::signature::is_key;

/// Members of one field.
const MEMBERS_MAX: usize = 8;

/// The digests that count; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest {
    pub sha256: Option<[u8; 32]>,
    pub sha512: Option<[u8; 64]>,
}

impl ContentDigest {
    /// Members of other algorithms count for nothing; one that stands twice, or is malformed, spoils it all.
    pub fn parse(value: &[u8]) -> Option<ContentDigest> {
        let mut digests = ContentDigest { sha256: None, sha512: None };
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
                name if is_key(name) => true,
                _ => return None,
            };
            if !is_new {
                return None;
            }
        }
        (digests.sha256.is_some() || digests.sha512.is_some()).then_some(digests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_malformed_or_stands_twice_spoils_all() {
        let sha256 = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        let sha512 = "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCs\
            yRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";
        let both = format!("{sha512}, md5=:AAAA:,{sha256}");
        let read = ContentDigest::parse(both.as_bytes()).unwrap();
        assert!(read.sha256.is_some_and(|digest| digest[0] == 0x44) && read.sha512.is_some());
        for wrong in [
            "",
            "sha-256",
            "sha-256=RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=",
            "sha-256=:AAAA:",
            &format!("{sha256}, 1=:AAAA:"),
            "SHA-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
            "md5=:AAAA:",
            &format!("{sha256}, {sha256}"),
            &format!("{sha256},"),
            &[sha256; 9].join(", "),
        ] {
            assert_eq!(ContentDigest::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
