//! What the fuzzer holds against credentials and tokens, here with texts that are nearly right, so that it is known without a
//! fuzzer too.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use ringway_proto::credentials::digest::ContentDigest;
use ringway_proto::credentials::jws::Compact;
use ringway_proto::credentials::signature::Signature;
use ringway_proto::credentials::{BasicPair, after_scheme};

use crate::cases;

#[path = "../../fuzz/properties/credentials.rs"]
mod held;
#[path = "../../fuzz/properties/token.rs"]
mod token;

/// JSON that a header or claims may be, and some that they may not.
fn object() -> impl Strategy<Value = String> {
    let members = [
        r#""alg":"ES256""#,
        r#""alg":"HS256""#,
        r#""alg":"none""#,
        r#""alg":7"#,
        r#""\u0061lg":"RS256""#,
        r#""kid":"a""#,
        r#""kid":"""#,
        r#""kid":null"#,
        r#""typ":"JWT""#,
        r#""typ":1"#,
        r#""crit":["exp"]"#,
        r#""crit":null"#,
        r#""b64":true"#,
        r#""b64":false"#,
        r#""jwk":{"kty":"oct","k":"AA"}"#,
        r#""iss":"a""#,
        r#""exp":1e9"#,
        r#""exp":[]"#,
        r#""a":"\ud800""#,
        r#""a":"é""#,
    ];
    let ends = ["}", "}", "}", "}", "} ", "}{", "", "]"];
    let list = prop::collection::vec(prop::sample::select(members.to_vec()), 0..5);
    (list, prop::sample::select(ends.to_vec())).prop_map(|(list, end)| format!("{{{}{end}", list.join(",")))
}

fn token_like() -> impl Strategy<Value = String> {
    let parts = (object(), object(), prop::collection::vec(any::<u8>(), 0..40));
    let whole = parts.prop_map(|(header, claims, signature)| {
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!("{}.{}.{}", encoded(header.as_bytes()), encoded(claims.as_bytes()), encoded(&signature))
    });
    let odd = prop::sample::select(b".=-_+/A \n".to_vec());
    (whole, any::<prop::sample::Index>(), prop::option::weighted(0.3, odd)).prop_map(|(whole, at, odd)| {
        let mut bytes = whole.into_bytes();
        if let Some(odd) = odd {
            let at = at.index(bytes.len());
            bytes[at] = odd;
        }
        String::from_utf8(bytes).expect("ASCII")
    })
}

fn signature_like() -> impl Strategy<Value = String> {
    let component = prop::sample::select(vec!["@method", "@authority", "x-a", "content-digest", "", "A", "@"]);
    let params = [
        ";created=1",
        ";created=01",
        ";keyid=\"k\"",
        ";nonce=\"n\"",
        ";nonce=\"\"",
        ";expires=2",
        ";alg=\"hmac-sha256\"",
        ";tag=\"t\"",
        ";x=1",
        " ",
    ];
    let params = prop::collection::vec(prop::sample::select(params.to_vec()), 0..3);
    let tag = prop_oneof![4 => prop::collection::vec(any::<u8>(), 32), 1 => prop::collection::vec(any::<u8>(), 0..40)];
    (prop::collection::vec(component, 0..4), params, tag).prop_map(|(components, params, tag)| {
        let names: Vec<String> = components.iter().map(|name| format!("\"{name}\"")).collect();
        let most = ";created=1;keyid=\"k\";nonce=\"n\"";
        format!("s=({}){most}{}\ns=:{}:", names.join(" "), params.concat(), STANDARD.encode(tag))
    })
}

fn credentials_like() -> impl Strategy<Value = String> {
    let pieces = [
        "Bearer ",
        "bASIC ",
        "YTpi",
        "YTpiOmM=",
        "Og==",
        "access_token=",
        "access%5Ftoken=",
        "%61ccess_token",
        "a=1",
        "&",
        "=",
        ";",
        " ",
        "%",
        "%4",
        "\"",
        "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
        "sha-512=:AAAA:",
        "md5=:AAAA:",
        ", ",
        "\n",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn tokens_are_taken_as_others_take_them(text in prop_oneof![8 => token_like(), 1 => "[A-Za-z0-9_.=-]{0,60}"]) {
        token::check(text.as_bytes());
    }

    #[test]
    fn credentials_are_read_in_one_way(
        text in prop_oneof![4 => credentials_like(), 2 => signature_like(), 1 => ".{0,60}"]
    ) {
        held::check(text.as_bytes());
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        token::check(&bytes);
        held::check(&bytes);
    }
}

#[test]
fn tokens_of_the_fixtures_are_read_as_they_should() {
    for case in cases::read("tokens.txt") {
        token::check(&case.input);
        let read = match Compact::parse(&case.input) {
            Ok(token) => format!("ok {} {}", token.algorithm, token.kid.unwrap_or_default()),
            Err(error) => format!("error {error:?}"),
        };
        assert_eq!(read.trim(), case.want, "{}", case.name);
    }
}

#[test]
fn credentials_of_the_fixtures_are_read_as_they_should() {
    for case in cases::read("credentials.txt") {
        let (input, name) = (&case.input[..], &case.name);
        held::check(input);
        let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
        let taken = [
            ("bearer", after_scheme(input, "Bearer").is_some()),
            ("scheme", after_scheme(input, "Basic").and_then(BasicPair::parse).is_some()),
            ("basic", BasicPair::parse(input).is_some()),
            ("signature", Signature::parse(&input[..at], input.get(at + 1..).unwrap_or_default()).is_ok()),
            ("digest", ContentDigest::parse(input).is_some()),
        ];
        let by: Vec<&str> = taken.iter().filter(|(_, is)| *is).map(|(by, _)| *by).collect();
        match &*case.want {
            // Whatever it is, a line has cookies and a query has pieces.
            "none" | "cookie" | "query" => assert_eq!(by, [""; 0], "{name}"),
            wanted => assert_eq!(by, [wanted], "{name}"),
        }
    }
}
