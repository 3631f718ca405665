//! Keys that verify tokens: from JWK sets (RFC 7517), PEM files and secrets. Does not fetch any (`control`) and reads no
//! token (`token`).

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{PublicEncryptingKey, PublicKeyComponents};
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, VerificationAlgorithm};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ringway_config::snapshot::{Algorithm, Family};
use serde_json::{Map, Value};

use ringway_proto::credentials::jws::KID_BYTES_MAX;
use ringway_proto::json;

/// A set with more is refused: each might have to be tried.
pub const KEYS_MAX: usize = 256;
/// RFC 7518 section 3.3: a smaller modulus must not be used.
pub const RSA_BITS_MIN: usize = 2048;
/// Verifying takes longer with each bit.
pub const RSA_BITS_MAX: usize = 8192;

/// A key, ready for each algorithm that it may be used with.
pub struct Key {
    kid: Option<Box<str>>,
    uses: Vec<(Algorithm, Verifier)>,
}

enum Verifier {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// Keys of one issuer.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Of what they were made of, to tell whether a set is another one.
    pub digest: u64,
}

/// What a set says of a token's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Verified,
    /// Keys fit, and none of them made this signature.
    Wrong,
    /// No key has that id, or none may be used with the algorithm.
    NoKey,
}

impl KeySet {
    pub fn new(keys: Vec<Key>, digest: u64) -> KeySet {
        KeySet { keys, digest }
    }

    /// A JWK set. Keys for other uses, of kinds that we do not know, or unfit for `algorithms` are left out, as RFC 7517
    /// section 5 wants it; shared secrets too, since a set is public.
    ///
    /// # Errors
    /// What is no JWK set at all, has too many keys, or none that can be used.
    pub fn from_jwks(bytes: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, String> {
        let set = json::object(bytes).ok_or("it is no JSON object, or has a member twice")?;
        let list = set.get("keys").and_then(Value::as_array).ok_or("it has no list \"keys\"")?;
        if list.len() > KEYS_MAX {
            return Err(format!("it has {} keys; the most is {KEYS_MAX}", list.len()));
        }
        let mut reasons = Vec::new();
        let mut keys = Vec::new();
        for (index, jwk) in list.iter().enumerate() {
            match jwk.as_object().ok_or_else(|| "no object".to_owned()).and_then(|jwk| Key::from_jwk(jwk, algorithms)) {
                Ok(key) => keys.push(key),
                Err(why) => reasons.push(format!("keys[{index}]: {why}")),
            }
        }
        if keys.is_empty() {
            let why = if reasons.is_empty() { "it is empty".to_owned() } else { reasons.join("; ") };
            return Err(format!("it has no key that can be used: {why}"));
        }
        Ok(KeySet { keys, digest: xxhash_rust::xxh3::xxh3_64(bytes) })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Looks for a key that made `signature` over `message`. A token that names its key is verified with keys of that
    /// name; one that names none with keys that fit.
    pub fn verify(&self, kid: Option<&str>, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Found {
        let mut found = Found::NoKey;
        for key in self.keys.iter().filter(|key| kid.is_none() || key.kid.as_deref() == kid) {
            for (_, verifier) in key.uses.iter().filter(|(fits, _)| *fits == algorithm) {
                if verifier.verify(message, signature) {
                    return Found::Verified;
                }
                found = Found::Wrong;
            }
        }
        found
    }
}

impl Verifier {
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Verifier::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

impl Key {
    /// A public key out of a set.
    fn from_jwk(jwk: &Map<String, Value>, algorithms: &[Algorithm]) -> Result<Key, String> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let kid = match jwk.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().filter(|kid| kid.len() <= KID_BYTES_MAX).ok_or("its kid is no text")?),
        };
        if text("use").is_some_and(|of| of != "sig") {
            return Err("it is not for signatures".to_owned());
        }
        let verifies = |list: &Vec<Value>| list.iter().any(|operation| operation == "verify");
        if jwk.get("key_ops").and_then(Value::as_array).is_some_and(|list| !verifies(list)) {
            return Err("it is not for verifying".to_owned());
        }
        // An `alg` that we do not know fits nothing.
        let only = match jwk.get("alg") {
            None => None,
            Some(alg) => Some(alg.as_str().and_then(Algorithm::named).ok_or("its alg is not one that we know")?),
        };
        let bytes = |name: &str| {
            let text = text(name).ok_or_else(|| format!("it has no text {name:?}"))?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its {name:?} is not base64url"))
        };
        let uses = match text("kty").unwrap_or_default() {
            "RSA" => {
                let components = PublicKeyComponents { n: bytes("n")?, e: bytes("e")? };
                rsa_uses(&components, only, algorithms)?
            }
            "EC" => {
                let curve = Curve::named(text("crv").unwrap_or_default()).ok_or("its curve is not one that we know")?;
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != curve.bytes() || y.len() != curve.bytes() {
                    return Err("its coordinates do not have the curve's length".to_owned());
                }
                curve.uses(&[&[4], &x[..], &y[..]].concat(), only, algorithms)?
            }
            "OKP" if text("crv") == Some("Ed25519") => ed25519_uses(&bytes("x")?, only, algorithms)?,
            "oct" => return Err("a shared secret does not belong into a public set".to_owned()),
            _ => return Err("its kind is not one that we know".to_owned()),
        };
        Ok(Key { kid: kid.map(Into::into), uses })
    }

    /// `-----BEGIN PUBLIC KEY-----` (RFC 7468 section 13).
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn from_pem(
        kid: Option<&str>,
        pem: &str,
        only: Option<Algorithm>,
        algorithms: &[Algorithm],
    ) -> Result<Key, String> {
        let der = der_of(pem)?;
        let uses = if let Ok(key) = PublicEncryptingKey::from_der(&der) {
            rsa_bits(key.key_size_bits())?;
            let make = |params| ParsedPublicKey::new(params, &der).ok();
            uses(Family::Rsa, only, algorithms, |algorithm| make(rsa_parameters(algorithm)).map(Verifier::Public))?
        } else if let Some(curve) = Curve::ALL.into_iter().find(|curve| curve.parse(&der).is_some()) {
            curve.uses(&der, only, algorithms)?
        } else if ParsedPublicKey::new(&signature::ED25519, &der).is_ok() {
            ed25519_uses(&der, only, algorithms)?
        } else {
            return Err(format!(
                "it is neither RSA of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, nor on P-256, P-384 or P-521, nor Ed25519"
            ));
        };
        Ok(Key { kid: kid.map(Into::into), uses })
    }

    /// A secret for the HS algorithms.
    ///
    /// # Errors
    /// It is shorter than a hash that it would be used with (RFC 7518 section 3.2).
    pub fn from_secret(
        kid: Option<&str>,
        secret: &[u8],
        only: Option<Algorithm>,
        algorithms: &[Algorithm],
    ) -> Result<Key, String> {
        let mut too_short = None;
        let uses = uses(Family::Hmac, only, algorithms, |algorithm| {
            let hash = hmac_algorithm(algorithm);
            let least = hash.digest_algorithm().output_len();
            if secret.len() < least {
                too_short = Some(least);
                return None;
            }
            Some(Verifier::Secret(Box::new(hmac::Key::new(hash, secret))))
        });
        match too_short {
            Some(least) => Err(format!("the secret has {} bytes; its hash asks for {least}", secret.len())),
            None => Ok(Key { kid: kid.map(Into::into), uses: uses? }),
        }
    }
}

/// The algorithms that a key of this family may be used with: those that the issuer allows, `only` this one if it says so.
fn uses(
    family: Family,
    only: Option<Algorithm>,
    algorithms: &[Algorithm],
    mut verifier: impl FnMut(Algorithm) -> Option<Verifier>,
) -> Result<Vec<(Algorithm, Verifier)>, String> {
    let fitting = algorithms.iter().copied().filter(|algorithm| algorithm.family() == family);
    let fitting = fitting.filter(|algorithm| only.is_none_or(|only| only == *algorithm));
    let uses: Vec<_> = fitting.filter_map(|algorithm| Some((algorithm, verifier(algorithm)?))).collect();
    match uses.is_empty() {
        true => Err("the issuer's algorithms do not fit it".to_owned()),
        false => Ok(uses),
    }
}

fn rsa_uses(
    components: &PublicKeyComponents<Vec<u8>>,
    only: Option<Algorithm>,
    algorithms: &[Algorithm],
) -> Result<Vec<(Algorithm, Verifier)>, String> {
    if is_guessable(&components.n) {
        return Err("its modulus was made by a generator that is broken (ROCA, CVE-2017-15361)".to_owned());
    }
    let der = components.as_der().map_err(|_| "it is no RSA key")?;
    let key = PublicEncryptingKey::from_der(der.as_ref())
        .map_err(|_| format!("it is no RSA key of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits"))?;
    rsa_bits(key.key_size_bits())?;
    uses(Family::Rsa, only, algorithms, |algorithm| {
        components.to_parsed_public_key(rsa_parameters(algorithm)).ok().map(Verifier::Public)
    })
}

/// True of a modulus whose remainders by small primes are all powers of 65537: as those of a generator whose primes can be
/// computed, and of one in 2^27 others ("The Return of Coppersmith's Attack", CCS 2017, section 2.2).
fn is_guessable(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.iter().all(|prime| {
        let remainder = modulus.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * (65537 % prime) % prime;
            power == remainder
        })
    })
}

fn rsa_bits(bits: usize) -> Result<(), String> {
    match (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        true => Ok(()),
        false => Err(format!("it has {bits} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are taken")),
    }
}

fn ed25519_uses(
    bytes: &[u8],
    only: Option<Algorithm>,
    algorithms: &[Algorithm],
) -> Result<Vec<(Algorithm, Verifier)>, String> {
    let key = ParsedPublicKey::new(&signature::ED25519, bytes).map_err(|_| "it is no Ed25519 key")?;
    uses(Family::Ed25519, only, algorithms, |_| Some(Verifier::Public(key.clone())))
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    fn named(name: &str) -> Option<Curve> {
        match name {
            "P-256" => Some(Curve::P256),
            "P-384" => Some(Curve::P384),
            "P-521" => Some(Curve::P521),
            _ => None,
        }
    }

    /// Of a coordinate.
    fn bytes(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    fn algorithm(self) -> (Algorithm, &'static dyn VerificationAlgorithm) {
        match self {
            Curve::P256 => (Algorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED),
            Curve::P384 => (Algorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED),
            Curve::P521 => (Algorithm::Es512, &signature::ECDSA_P521_SHA512_FIXED),
        }
    }

    /// The point, which must be on the curve.
    fn parse(self, bytes: &[u8]) -> Option<ParsedPublicKey> {
        ParsedPublicKey::new(self.algorithm().1, bytes).ok()
    }

    fn uses(
        self,
        bytes: &[u8],
        only: Option<Algorithm>,
        algorithms: &[Algorithm],
    ) -> Result<Vec<(Algorithm, Verifier)>, String> {
        let key = self.parse(bytes).ok_or("its point is not on the curve")?;
        // RFC 7518 section 3.4: each algorithm has its curve.
        uses(Family::Ec, only, algorithms, |algorithm| {
            (algorithm == self.algorithm().0).then(|| Verifier::Public(key.clone()))
        })
    }
}

fn rsa_parameters(algorithm: Algorithm) -> &'static RsaParameters {
    match algorithm {
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}

fn hmac_algorithm(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    }
}

/// The bytes of the one block that the text has.
fn der_of(pem: &str) -> Result<Vec<u8>, String> {
    const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
    const END: &str = "-----END PUBLIC KEY-----";
    if pem.contains("PRIVATE KEY") {
        return Err("it is a private key; write its public half: openssl pkey -in KEY -pubout".to_owned());
    }
    if pem.contains("BEGIN CERTIFICATE") {
        return Err("it is a certificate; write its key: openssl x509 -in CERT -pubkey -noout".to_owned());
    }
    let inside = pem.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(inside, _)| inside);
    let inside = inside.ok_or_else(|| format!("it has no {BEGIN}"))?;
    let plain: String = inside.split_ascii_whitespace().collect();
    STANDARD.decode(plain).map_err(|_| "what stands between its lines is not base64".to_owned())
}

/// SHA-256 of a secret, to know it again without keeping it.
pub fn fingerprint(secret: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
    out
}
