//! Tokens and the keys that sign them, made anew in each run.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Somebody who signs.
pub struct Signer {
    pub kid: String,
    pub algorithm: &'static str,
    key: Key,
}

enum Key {
    Secret(Box<hmac::Key>),
    Rsa(KeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

impl Signer {
    pub fn es256(kid: &str) -> Signer {
        Signer::ec(kid, "ES256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub fn es384(kid: &str) -> Signer {
        Signer::ec(kid, "ES384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    pub fn es512(kid: &str) -> Signer {
        Signer::ec(kid, "ES512", &signature::ECDSA_P521_SHA512_FIXED_SIGNING)
    }

    fn ec(kid: &str, algorithm: &'static str, kind: &'static signature::EcdsaSigningAlgorithm) -> Signer {
        let key = Key::Ec(EcdsaKeyPair::generate(kind).expect("a key"));
        Signer { kid: kid.to_owned(), algorithm, key }
    }

    pub fn ed25519(kid: &str) -> Signer {
        let key = Key::Ed(Ed25519KeyPair::generate().expect("a key"));
        Signer { kid: kid.to_owned(), algorithm: "EdDSA", key }
    }

    /// `RS256` to `PS512`.
    pub fn rsa(kid: &str, algorithm: &'static str, size: KeySize) -> Signer {
        let encoding: &'static dyn RsaEncoding = match algorithm {
            "RS256" => &signature::RSA_PKCS1_SHA256,
            "RS384" => &signature::RSA_PKCS1_SHA384,
            "RS512" => &signature::RSA_PKCS1_SHA512,
            "PS256" => &signature::RSA_PSS_SHA256,
            "PS384" => &signature::RSA_PSS_SHA384,
            _ => &signature::RSA_PSS_SHA512,
        };
        let key = Key::Rsa(KeyPair::generate(size).expect("a key"), encoding);
        Signer { kid: kid.to_owned(), algorithm, key }
    }

    /// `HS256` to `HS512`.
    pub fn secret(kid: &str, algorithm: &'static str, secret: &[u8]) -> Signer {
        let hash = match algorithm {
            "HS256" => hmac::HMAC_SHA256,
            "HS384" => hmac::HMAC_SHA384,
            _ => hmac::HMAC_SHA512,
        };
        Signer { kid: kid.to_owned(), algorithm, key: Key::Secret(Box::new(hmac::Key::new(hash, secret))) }
    }

    /// The public key as a JWK.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Secret(_) => json!({"kty": "oct", "k": "AAAA"}),
            Key::Rsa(key, _) => {
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({"kty": "RSA", "n": base64url(&public.n), "e": base64url(&public.e)})
            }
            Key::Ec(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})
            }
            Key::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().as_ref())}),
        };
        jwk["kid"] = self.kid.clone().into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// The public key as PEM.
    pub fn pem(&self) -> String {
        let der = match &self.key {
            Key::Secret(_) => panic!("a secret has no public half"),
            Key::Rsa(key, _) => key.public_key().as_der().expect("DER").as_ref().to_vec(),
            Key::Ec(key) => AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(key.public_key())
                .expect("DER")
                .as_ref()
                .to_vec(),
            Key::Ed(key) => key.public_key().as_der().expect("DER").as_ref().to_vec(),
        };
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Secret(key) => hmac::sign(key, message).as_ref().to_vec(),
            Key::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut signature).expect("a signature");
                signature
            }
            Key::Ec(key) => key.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Key::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this header and these claims, as they are.
    pub fn raw(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        format!("{message}.{}", base64url(self.signature(message.as_bytes())))
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm, "typ": "JWT", "kid": self.kid});
        self.raw(&header.to_string(), &claims.to_string())
    }
}

/// What an issuer says of these keys.
pub fn jwks(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

/// Claims that are good for ten minutes, of `https://id.test` for `api`.
pub fn claims() -> Value {
    let now = unix_s();
    json!({"iss": "https://id.test", "aud": "api", "sub": "alice", "iat": now, "nbf": now - 5, "exp": now + 600})
}

/// The same with other values; `null` takes a claim away.
pub fn claims_with(others: Value) -> Value {
    let mut claims = claims();
    for (name, value) in others.as_object().expect("an object") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}
