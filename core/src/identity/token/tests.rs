//! Tokens that must be taken, and those that must not: published vectors, another library's word, and garbage.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, Validation};
use proptest::prelude::*;
use ringway_config::snapshot::Family;

use super::*;
use crate::identity::keys::{Found, Key, KeySet};

const VECTORS: &str = include_str!("wycheproof.txt");
/// Where we refuse what they take: keys that say `ES521`, which no algorithm is called (RFC 7518 section 3.1 has ES512);
/// tokens with another algorithm than their key says; characters that are not base64url (RFC 7515 section 2).
const REFUSED_BY_US: [&str; 6] = ["jws-347", "jws-351", "jws-346", "jws-350", "jws-372", "jws-373"];
/// Where we take what they refuse: these two are, byte for byte, another one that they take, having lost the
/// padding that they are about; and of two keys of one name either may verify, since both are the issuer's.
const TAKEN_BY_US: [&str; 3] = ["jws-367", "jws-370", "jwk-4"];

/// A key of the vectors: shared secrets too, which no public set may have.
fn key(jwk: &Map<String, Value>) -> Result<KeySet, String> {
    if jwk.get("kty") != Some(&Value::String("oct".into())) {
        return KeySet::from_jwks(serde_json::json!({"keys": [jwk]}).to_string().as_bytes(), &Algorithm::ALL);
    }
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let only = Algorithm::named(text("alg").unwrap_or_default()).ok_or("no algorithm of ours")?;
    let secret = URL_SAFE_NO_PAD.decode(text("k").unwrap_or_default()).map_err(|error| error.to_string())?;
    Ok(KeySet::new(vec![Key::from_secret(text("kid"), &secret, Some(only), &Algorithm::ALL)?], 0))
}

#[test]
fn published_vectors_come_out_as_they_should() {
    let (mut sets, mut seen, mut wrong) = (Vec::new(), 0, Vec::new());
    for line in VECTORS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(keys) = line.strip_prefix("keys ") {
            let keys: Value = serde_json::from_str(keys).unwrap();
            let keys = keys["keys"].as_array().unwrap().iter();
            // A key of both kinds in one set: the shared secret is left out.
            let mixed = keys.clone().any(|jwk| jwk["kty"] == "oct") && keys.clone().any(|jwk| jwk["kty"] != "oct");
            let used = keys.filter(|jwk| !mixed || jwk["kty"] != "oct");
            sets = used.filter_map(|jwk| key(jwk.as_object().unwrap()).ok()).collect();
            continue;
        }
        let (name, rest) = line.split_once(' ').unwrap();
        let (verdict, token) = rest.split_once(' ').unwrap();
        let token: String = serde_json::from_str(token).unwrap();
        let verified = Signed::parse(token.as_bytes()).is_ok_and(|signed| {
            let verify =
                |set: &KeySet| set.verify(signed.kid.as_deref(), signed.algorithm, signed.message, &signed.signature);
            sets.iter().any(|set| verify(set) == Found::Verified)
        });
        seen += 1;
        let wanted = match verdict {
            "valid" => !REFUSED_BY_US.contains(&name),
            _ => TAKEN_BY_US.contains(&name),
        };
        if verified != wanted {
            wrong.push(format!("{name} is {verdict}"));
        }
    }
    assert_eq!((seen, wrong), (427, Vec::new()));
}

/// Too small.
const RSA_1024: &str = r#"{"kty":"RSA","e":"AQAB","n":"rJBIp6T1YK-RtPyvYqFFlcucqewSAA_IReSFchE8qyiQrbARqRlXWkB2DR8j
_pJQnIpYELbQWZC5Cd0PTGAU8rMbar2AW6zpmBbi7aQf17lUBdt8XI9M9rq7FPVQ1dDdUXm1SVH_9qqWhvMPR422SbfHBEzCAtzK0ANDRo6qz78"}"#;

/// RSA of 1024 bits, an exponent of one, a point off its curve, a secret that is too short, a key for something else.
#[test]
fn keys_that_must_not_be_used_are_not() {
    for (jwk, why) in [
        (&*RSA_1024.replace("\n", ""), "bits"),
        (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, "length"),
        (r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#, "curve"),
        (r#"{"kty":"oct","k":"AAAA"}"#, "shared secret"),
        (r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#, "kind"),
        (r#"{"kty":"RSA"}"#, "no text"),
        (r#"{"kty":"RSA","use":"enc"}"#, "signatures"),
        (r#"{"kty":"RSA","key_ops":["sign"]}"#, "verifying"),
        (r#"{"kty":"RSA","alg":"RSA-OAEP"}"#, "alg"),
        (r#"{"kty":"RSA","kid":7}"#, "kid"),
    ] {
        let refused = KeySet::from_jwks(format!("{{\"keys\":[{jwk}]}}").as_bytes(), &Algorithm::ALL).err();
        assert!(refused.as_ref().is_some_and(|said| said.contains(why)), "{jwk}: {refused:?}");
    }
    assert!(KeySet::from_jwks(br#"{"keys":[],"keys":[]}"#, &Algorithm::ALL).is_err(), "a member twice");
}

/// Where both know the algorithm, jsonwebtoken and we say the same of signatures, whole and changed.
#[test]
fn another_library_says_the_same() {
    let mut compared = 0;
    let mut keys: Option<Value> = None;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(set) = line.strip_prefix("keys ") {
            keys = serde_json::from_str(set).ok();
            continue;
        }
        let token: String = serde_json::from_str(line.splitn(3, ' ').nth(2).unwrap()).unwrap();
        let jwk = &keys.as_ref().unwrap()["keys"][0];
        let Ok(signed) = Signed::parse(token.as_bytes()) else { continue };
        let parsed: Result<jsonwebtoken::jwk::Jwk, _> = serde_json::from_value(jwk.clone());
        let theirs = parsed.ok().and_then(|jwk| DecodingKey::from_jwk(&jwk).ok());
        let (Some(theirs), Ok(ours)) = (theirs, key(jwk.as_object().unwrap())) else { continue };
        let Ok(algorithm) = signed.algorithm.name().parse::<jsonwebtoken::Algorithm>() else { continue };
        // They take any key of the family; we take the one algorithm that the key says.
        if jwk["alg"].as_str() != Some(signed.algorithm.name()) {
            continue;
        }
        let signature = token.rsplit_once('.').unwrap().1;
        let they = jsonwebtoken::crypto::verify(signature, signed.message, &theirs, algorithm).unwrap_or(false);
        let we = ours.verify(signed.kid.as_deref(), signed.algorithm, signed.message, &signed.signature);
        // An id that the key does not have is no matter of theirs.
        if we != Found::NoKey {
            assert_eq!(we == Found::Verified, they, "{line}");
            compared += 1;
        }
    }
    assert!(compared > 300, "{compared}");
    let validation = Validation::default();
    assert!(!validation.validate_nbf, "why their judgement of claims is not ours");
}

#[test]
fn each_algorithm_has_its_family_and_its_name() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::named(algorithm.name()), Some(algorithm));
        let family = match &algorithm.name()[..2] {
            "HS" => Family::Hmac,
            "ES" => Family::Ec,
            "Ed" => Family::Ed25519,
            _ => Family::Rsa,
        };
        assert_eq!(algorithm.family(), family);
    }
    assert_eq!(Algorithm::named("none"), None);
    assert_eq!(Algorithm::named("hs256"), None);
}

#[test]
fn a_claim_as_a_field_cannot_leave_it() {
    for (value, wanted) in [
        (serde_json::json!("plain text"), Some("plain text")),
        (serde_json::json!("a\r\nb: c"), Some("a%0D%0Ab: c")),
        (serde_json::json!(" padded "), Some("%20padded%20")),
        (serde_json::json!("é%"), Some("%C3%A9%25")),
        (serde_json::json!(["a", 1, true]), Some("a,1,true")),
        (serde_json::json!({"a": 1}), None),
        (serde_json::json!(null), None),
    ] {
        assert_eq!(field_value(&value).as_deref(), wanted);
    }
}

proptest! {
    #[test]
    fn garbage_is_refused_without_a_panic(text in "[a-zA-Z0-9_.=-]{0,200}") {
        prop_assert!(Token::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn dates_of_any_size_are_judged(exp in any::<i64>(), nbf in any::<f64>(), now in any::<u64>(), leeway in 0..300_u64) {
        let mut issuer = issuer();
        issuer.leeway = std::time::Duration::from_secs(leeway);
        let claims = serde_json::json!({"exp": exp, "nbf": nbf, "sub": "a"});
        let now = now % (1 << 40);
        let verified = Verified::new("jwt", claims.as_object().unwrap().clone(), &issuer);
        let expired = i128::from(now) >= i128::from(exp) + i128::from(leeway);
        let result = verified.judge(&issuer, &[], now);
        if expired {
            prop_assert_eq!(result, Err(Refused::Expired));
        } else {
            prop_assert!(result.is_ok() || result == Err(Refused::NotYet) || result == Err(Refused::Claim));
        }
    }
}

fn issuer() -> Issuer {
    let text = "[listeners.a]\nbind = \":1\"\n[issuers.i]\nalgorithms = \"ES256\"\nmay_lack = [\"iss\", \"aud\", \"exp\"]\n\
        jwks_file = \"/x\"\nrequire = []\n[[routes]]\nname = \"r\"\nrespond = {}\n";
    let source = ringway_config::Source { name: "t".into(), text: text.into() };
    ringway_config::load(&source).unwrap_or_else(|errors| panic!("{errors}")).snapshot.issuers.remove(0)
}
