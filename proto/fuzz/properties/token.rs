//! What holds of any text as a compact token: no panic, nothing that can be read in two ways is taken, and `jsonwebtoken`
//! sees the same token in what is taken. Run by the fuzzer and, on texts that are nearly tokens, by the tests of proto.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::dangerous::insecure_decode_claims;
use ringway_proto::credentials::jws::{Compact, JwsError, KID_BYTES_MAX, TOKEN_BYTES_MAX};
use ringway_proto::json;
use serde_json::{Map, Value};

pub fn check(text: &[u8]) {
    let read = Compact::parse(text);
    match &read {
        Ok(token) => taken(text, token),
        Err(JwsError::TooLong) => assert!(text.len() > TOKEN_BYTES_MAX),
        Err(JwsError::Malformed | JwsError::Critical) => {}
    }
    let Ok(theirs) = jsonwebtoken::decode_header(text) else { return };
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b'.').collect();
    let decoded = |at: usize| parts.get(at).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header = decoded(0).and_then(|header| json::object(&header));
    let Some(header) = header else {
        assert_eq!(read, Err(if text.len() > TOKEN_BYTES_MAX { JwsError::TooLong } else { JwsError::Malformed }));
        return;
    };
    // They look at the header alone here, know no limits, and leave extensions to their caller.
    let extended = header.contains_key("crit") || header.contains_key("b64");
    let named = header.get("kid").is_none_or(|kid| kid.as_str().is_some_and(|kid| kid.len() <= KID_BYTES_MAX));
    let whole = parts.len() == 3 && decoded(1).is_some() && decoded(2).is_some();
    match read {
        Ok(token) => {
            assert_eq!((format!("{:?}", theirs.alg), theirs.kid), (token.algorithm, token.kid));
            let claims = json::object(&token.payload);
            let they: Option<Map<String, Value>> = insecure_decode_claims(text).ok();
            assert!(claims.is_none() || claims == they, "what we take as claims they read as the same");
        }
        Err(_) => assert!(extended || !named || !whole || text.len() > TOKEN_BYTES_MAX, "they take it, we do not"),
    }
}

fn taken(text: &[u8], token: &Compact<'_>) {
    assert!(text.len() <= TOKEN_BYTES_MAX && text.is_ascii());
    // No second text is the same token, and nothing of the text is not in it.
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes).into_bytes();
    let whole = [token.message, b".", &encoded(&token.signature)].concat();
    assert_eq!(whole, text);
    let header = token.message.split(|byte| *byte == b'.').next().expect("there is a first part");
    assert_eq!([header, b".", &encoded(&token.payload)].concat(), token.message);
    let header = URL_SAFE_NO_PAD.decode(header).expect("it was decoded");
    // A parser that takes the last of two members, as most do, sees the same header.
    let plain: Map<String, Value> = serde_json::from_slice(&header).expect("it was an object");
    assert_eq!(plain.get("alg").and_then(Value::as_str), Some(&*token.algorithm));
    assert_eq!(plain.get("kid").and_then(Value::as_str), token.kid.as_deref());
    assert!(!plain.contains_key("crit") && plain.get("b64").is_none_or(|b64| *b64 == Value::Bool(true)));
    if let Some(claims) = json::object(&token.payload) {
        assert_eq!(serde_json::from_slice::<Map<String, Value>>(&token.payload).expect("an object"), claims);
    }
}
