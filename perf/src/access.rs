//! What a request brings that has to be let in: a token, and the page that it comes from. And how each product is told to
//! look at them. The same bytes for all, whether a product looks at them or not.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// No secret: it guards a benchmark.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub const ISSUER: &str = "https://id.test";
pub const AUDIENCE: &str = "bench";
pub const ROLE: &str = "reader";
pub const ORIGIN: &str = "https://app.test";
/// Requests a second that nobody reaches: the limit counts, and refuses none.
pub const RATE: u64 = 1_000_000;

/// A token that is good until 2100, as an identity provider would make it.
pub fn token() -> String {
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"5d7c9a1e","exp":4102444800,"iat":1767225600,"roles":"{ROLE}"}}"#
    );
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = sign(&Key::new(HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Lines of the request's head.
pub fn fields() -> String {
    format!("Origin: {ORIGIN}\r\nAuthorization: Bearer {}\r\n", token())
}

/// `remember`: of signatures that were good.
pub(crate) fn ringway(remember: bool) -> String {
    format!(
        r#"[issuers.bench]
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = ["HS256"]
keys = [{{ secret = "text:{SECRET}" }}]
roles = ["roles"]
remember = {remember}
[policies.access]
filters = [
    {{ cors = {{ allow_origins = ["{ORIGIN}"] }} }},
    {{ rate_limit = {{ rate = "{RATE}/s", burst = {RATE}, headers = "off" }} }},
    {{ jwt = {{ issuer = "bench" }} }},
    {{ rbac = {{ rules = [{{ roles = ["{ROLE}"] }}] }} }},
]
"#
    )
}

/// For the frontend: the same in HAProxy's words, as its documentation has it. It knows no memory of tokens.
pub(crate) fn haproxy() -> String {
    format!(
        r#"    stick-table type ip size 100k expire 30s store http_req_rate(1s)
    http-request track-sc0 src
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {RATE} }}
    http-request set-var(txn.bearer) http_auth_bearer
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_header_query('$.alg') -m str HS256 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify("HS256","{SECRET}") -m int 1 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.iss') -m str {ISSUER} }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.aud') -m str {AUDIENCE} }}
    http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
    http-request deny deny_status 403 unless {{ var(txn.bearer),jwt_payload_query('$.roles') -m str {ROLE} }}
    http-request set-var(txn.origin) req.hdr(Origin)
    http-response set-header Access-Control-Allow-Origin %[var(txn.origin)] if {{ var(txn.origin) -m str {ORIGIN} }}
    http-response add-header Vary Origin
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_three_parts_without_spaces() {
        let token = token();
        assert_eq!(token.split('.').count(), 3);
        assert!(token.bytes().all(|byte| byte.is_ascii_graphic()) && token == super::token(), "always the same");
    }
}
