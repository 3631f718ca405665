//! `basic`: who asks, by name and password (RFC 7617), as a configured consumer's hash says.
//!
//! ```toml
//! [consumers.alice]
//! password = "$2y$10$..."      # htpasswd -nB alice
//!
//! [policies.auth]
//! filters = [{ basic = { realm = "reports" } }]
//! ```
//! Hashing a password takes milliseconds and more: it is done on other threads, and what was good is remembered by each
//! core for `remember` as a keyed digest, so that a client pays once. Names that nobody has take as long as wrong passwords.
//! While too many hashes wait, and after `deadline`, the answer is 503.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordVerifier};
use aws_lc_rs::hmac;
use pbkdf2::Pbkdf2;
use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::DurationText;
use ringway_proto::credentials::BasicPair;
use serde::Deserialize;

use super::api_key::identity;
use super::auth::{Auth, Authenticator, Denied, in_time, unavailable};
use super::credentials::{Found, Places, Sources};
use super::{Building, RequestEdit, Then, Waiting};
use crate::exchange::Refusal;
use crate::identity::{Consumer, Consumers};
use crate::observe::Flag;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default = "realm")]
    realm: String,
    #[serde(default)]
    forward: bool,
    #[serde(default)]
    optional: bool,
    #[serde(default = "remember")]
    remember: DurationText,
    #[serde(default = "deadline")]
    deadline: DurationText,
}

fn realm() -> String {
    "ringway".to_owned()
}

fn remember() -> DurationText {
    DurationText(Duration::from_secs(300))
}

fn deadline() -> DurationText {
    DurationText(Duration::from_secs(2))
}

struct Basic {
    sources: Sources,
    challenge: String,
    optional: bool,
    remember: Duration,
    deadline: Duration,
    /// Somebody's: for names that nobody has, so that the work is the same.
    nobodys_hash: String,
    consumers: Arc<Consumers>,
}

pub(super) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Authenticator>, Fault> {
    let Table { realm, forward, optional, remember, deadline } = ringway_config::filter::table(config)?;
    if realm.bytes().any(|byte| !matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\') {
        let fault = Fault::new("has characters that cannot stand in quotes");
        return Err(fault.at(format!("{}.realm", config.place)));
    }
    let Some(hash) = building.consumers.some_password() else {
        let fault = Fault::new("no consumer has a password: nobody could pass").at(config.place.clone());
        return Err(fault.cure("add [consumers.NAME] with password = \"$2y$...\""));
    };
    let nobodys_hash = hash.0.clone();
    let sources = Sources::build(Places::default(), ("authorization", Some("Basic")), forward, config, building)?;
    Ok(Box::new(Basic {
        sources,
        challenge: format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
        optional,
        remember: remember.0,
        deadline: deadline.0,
        nobodys_hash,
        consumers: building.consumers.clone(),
    }))
}

impl Authenticator for Basic {
    fn authenticate<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Auth<'p> {
        let found = self.sources.find(request);
        let auth = match &found {
            Found::Nothing => return Auth::Absent,
            Found::Several => self.denied("the request brings several credentials"),
            Found::One(credentials) => self.examine(request, credentials),
        };
        self.sources.strip(request);
        auth
    }

    fn strip<'p>(&'p self, request: &mut RequestEdit<'p, '_>) {
        self.sources.strip(request);
    }

    fn challenge(&self) -> &str {
        &self.challenge
    }

    fn optional(&self) -> bool {
        self.optional
    }
}

impl Basic {
    fn examine<'p>(&'p self, request: &mut RequestEdit<'p, '_>, text: &[u8]) -> Auth<'p> {
        let Some(pair) = BasicPair::parse(text) else { return self.denied("the credentials are malformed") };
        let (name, password) = (str::from_utf8(pair.name()).unwrap_or_default(), pair.password().to_vec());
        let consumer = self.consumers.named(name).filter(|consumer| consumer.password.is_some());
        let hash = consumer.and_then(|consumer| consumer.password.as_ref()).map_or(&self.nobodys_hash, |hash| &hash.0);
        // Which password was good for which hash; a new hash is another one.
        let digest = keyed_digest(&[&pair.bytes, hash.as_bytes()]);
        let now_ms = request.net.now_ms();
        if let Some(consumer) = consumer
            && request.state.passwords.borrow().get(&digest).is_some_and(|until_ms| now_ms < *until_ms)
        {
            return Auth::Known(identity("basic", consumer));
        }
        self.hash_elsewhere(request, consumer, hash.to_owned(), password, digest)
    }

    fn hash_elsewhere<'p>(
        &'p self,
        request: &mut RequestEdit<'p, '_>,
        consumer: Option<&'p Consumer>,
        hash: String,
        password: Vec<u8>,
        digest: [u8; 32],
    ) -> Auth<'p> {
        let Ok(call) = request.calls.run(move || verifies(&hash, &password)) else {
            return unavailable("too many passwords wait to be hashed");
        };
        let sleep = request.net.sleep(self.deadline);
        let until = async move {
            let outcome = in_time(call, sleep).await;
            let then: Then<'p> = Box::new(move |request| {
                let auth = match (outcome, consumer) {
                    (Some(Some(true)), Some(consumer)) => {
                        let until_ms = request.net.now_ms() + self.remember.as_millis() as u64;
                        request.state.passwords.borrow_mut().insert(&digest, until_ms, 0);
                        Auth::Known(identity("basic", consumer))
                    }
                    (None, _) => unavailable("hashing a password took too long"),
                    _ => self.denied("name or password are wrong"),
                };
                auth.verdict(request)
            });
            then
        };
        Auth::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    fn denied<'p>(&self, reason: &'static str) -> Auth<'p> {
        let refusal = Refusal { code: "invalid_credentials", ..Refusal::new(Flag::Unauthenticated, reason) };
        Auth::Denied(Denied::new(refusal, Some(self.challenge.clone())))
    }
}

/// Takes milliseconds: for a worker.
fn verifies(hash: &str, password: &[u8]) -> bool {
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    let kinds: [&dyn PasswordVerifier; 2] = [&Argon2::default(), &Pbkdf2];
    PasswordHash::new(hash).is_ok_and(|hash| hash.verify_password(&kinds, password).is_ok())
}

/// With a key that only this process has: what is remembered tells nobody a password.
fn keyed_digest(parts: &[&[u8]]) -> [u8; 32] {
    static KEY: OnceLock<hmac::Key> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let mut secret = [0; 32];
        // Without random numbers nothing here is safe: better to end the connection than to go on.
        aws_lc_rs::rand::fill(&mut secret).expect("the kernel has random numbers");
        hmac::Key::new(hmac::HMAC_SHA256, &secret)
    });
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_hash_is_verified() {
        for hash in [
            // htpasswd -nbB -C 4, argon2 -id -m 8, and passlib's pbkdf2-sha256 in PHC form: each of "correct horse".
            bcrypt::hash("correct horse", 4).unwrap(),
            phc(&Argon2::default()),
            phc(&Pbkdf2),
        ] {
            assert!(verifies(&hash, b"correct horse"), "{hash}");
            assert!(!verifies(&hash, b"correct horsf"), "{hash}");
        }
        assert!(!verifies("$2y$10$short", b"") && !verifies("$argon2id$", b"") && !verifies("", b""));
    }

    fn phc(hasher: &impl argon2::PasswordHasher) -> String {
        let salt = argon2::password_hash::SaltString::from_b64("c2FsdHNhbHRzYWx0").unwrap();
        hasher.hash_password(b"correct horse", &salt).unwrap().to_string()
    }

    #[test]
    fn digests_do_not_run_into_each_other() {
        assert_ne!(keyed_digest(&[b"ab", b"c"]), keyed_digest(&[b"a", b"bc"]));
        assert_eq!(keyed_digest(&[b"ab", b"c"]), keyed_digest(&[b"ab", b"c"]));
    }
}
