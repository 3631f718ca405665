//! Whether a body is the one of which `Content-Digest` speaks (RFC 9530).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256, SHA512};
use ringway_proto::credentials::digest::ContentDigest;

/// True if all of the digests are the body's.
pub(super) fn fits(digests: &ContentDigest, body: &[u8]) -> bool {
    let is =
        |wanted: &[u8], algorithm| verify_slices_are_equal(digest::digest(algorithm, body).as_ref(), wanted).is_ok();
    digests.sha256.is_none_or(|wanted| is(&wanted, &SHA256)) && digests.sha512.is_none_or(|wanted| is(&wanted, &SHA512))
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
            let digests = ContentDigest::parse(value.as_bytes()).unwrap();
            assert!(fits(&digests, body), "{value}");
            assert!(!fits(&digests, b"") && !fits(&digests, &body[..18]), "{value}");
        }
        let mixed = ContentDigest { sha512: Some([0; 64]), ..ContentDigest::parse(sha256.as_bytes()).unwrap() };
        assert!(!fits(&mixed, body), "both must fit");
    }
}
