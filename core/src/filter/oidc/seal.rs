//! Text that a browser keeps and only we can read or make: AES-256-GCM under keys that gateways share. The first key seals,
//! all open, so that keys can be exchanged while sessions live. What was sealed for one filter or one purpose opens for no
//! other.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A secret has as many bytes as the key that is made of it, at least.
pub(super) const SECRET_BYTES_MIN: usize = 32;

/// What something was sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Session,
    Login,
}

pub(super) struct Sealer {
    keys: Vec<RandomizedNonceKey>,
    /// Names whose it is.
    owner: Vec<u8>,
}

impl Sealer {
    /// `None`: no secret, or one that is too short.
    pub(super) fn new(secrets: &[Vec<u8>], issuer: &str, client_id: &str) -> Option<Sealer> {
        let keys =
            secrets.iter().map(|secret| key(secret)).collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())?;
        // Lengths first: no two pairs make the same bytes.
        let mut owner = Vec::new();
        for part in [issuer, client_id] {
            owner.extend_from_slice(&(part.len() as u64).to_le_bytes());
            owner.extend_from_slice(part.as_bytes());
        }
        Some(Sealer { keys, owner })
    }

    /// base64url of nonce, ciphertext and tag. `None` if the system has no random numbers.
    pub(super) fn seal(&self, purpose: Purpose, plain: &[u8]) -> Option<String> {
        let mut bytes = plain.to_vec();
        let nonce = self.keys.first()?.seal_in_place_append_tag(self.aad(purpose), &mut bytes).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&nonce.as_ref()[..], &bytes].concat()))
    }

    /// `None`: it was not sealed so with a key that we have.
    pub(super) fn open(&self, purpose: Purpose, text: &[u8]) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        self.keys.iter().find_map(|key| {
            // What fails leaves nothing of use in its place.
            let mut bytes = sealed.to_vec();
            let length = key.open_in_place(Nonce::from(nonce), self.aad(purpose), &mut bytes).ok()?.len();
            bytes.truncate(length);
            Some(bytes)
        })
    }

    fn aad(&self, purpose: Purpose) -> Aad<Vec<u8>> {
        let purpose: &[u8] = match purpose {
            Purpose::Session => b"session\0",
            Purpose::Login => b"login\0",
        };
        Aad::from([purpose, &self.owner].concat())
    }
}

fn key(secret: &[u8]) -> Option<RandomizedNonceKey> {
    if secret.len() < SECRET_BYTES_MIN {
        return None;
    }
    let mut bytes = [0; 32];
    let extracted = Salt::new(HKDF_SHA256, b"ringway oidc").extract(secret);
    extracted.expand(&[b"cookies 1"], HKDF_SHA256).ok()?.fill(&mut bytes).ok()?;
    RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(secrets: &[u8], issuer: &str, client: &str) -> Sealer {
        let secrets: Vec<Vec<u8>> = secrets.iter().map(|byte| vec![*byte; 32]).collect();
        Sealer::new(&secrets, issuer, client).unwrap()
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (old, both, new) = (sealer(b"a", "i", "c"), sealer(b"ba", "i", "c"), sealer(b"b", "i", "c"));
        let by_old = old.seal(Purpose::Session, b"x").unwrap();
        let by_both = both.seal(Purpose::Session, b"y").unwrap();
        assert_eq!(both.open(Purpose::Session, by_old.as_bytes()).as_deref(), Some(&b"x"[..]));
        assert_eq!(new.open(Purpose::Session, by_both.as_bytes()).as_deref(), Some(&b"y"[..]));
        assert_eq!(old.open(Purpose::Session, by_both.as_bytes()), None);
        assert_ne!(by_old, old.seal(Purpose::Session, b"x").unwrap());
    }

    #[test]
    fn what_was_sealed_for_another_or_changed_does_not_open() {
        let one = sealer(b"a", "i", "c");
        let sealed = one.seal(Purpose::Session, b"plain").unwrap();
        assert_eq!(one.open(Purpose::Login, sealed.as_bytes()), None);
        for (issuer, client) in [("i", "d"), ("j", "c"), ("ic", ""), ("", "ic")] {
            assert_eq!(sealer(b"a", issuer, client).open(Purpose::Session, sealed.as_bytes()), None);
        }
        for at in 0..sealed.len() - 1 {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(one.open(Purpose::Session, &changed), None, "{at}");
        }
        for short in ["", "A", "AAAA", "AAAAAAAAAAAAAAAA", "%"] {
            assert_eq!(one.open(Purpose::Session, short.as_bytes()), None, "{short}");
        }
        assert!(Sealer::new(&[vec![0; 31]], "i", "c").is_none() && Sealer::new(&[], "i", "c").is_none());
    }
}
