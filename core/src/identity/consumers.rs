//! The consumers that a configuration knows, by what they identify themselves with. Verifies no password.

use std::collections::HashMap;

use aws_lc_rs::hmac::{HMAC_SHA256, Key};
use ringway_config::Fault;
use ringway_config::snapshot::{self, ApiKey, PasswordHash, Snapshot};

use super::keys::fingerprint;
use crate::secret;

/// RFC 2104 section 3: a shorter one than the hash weakens it.
const HMAC_SECRET_BYTES_MIN: usize = 32;

/// One consumer.
#[derive(Debug, Default)]
pub struct Consumer {
    pub name: String,
    pub groups: Vec<String>,
    pub password: Option<PasswordHash>,
}

/// All of a configuration.
#[derive(Debug, Default)]
pub struct Consumers {
    all: Vec<Consumer>,
    by_name: HashMap<String, usize>,
    /// By SHA-256 of the key: the keys themselves are not kept, and looking one up says nothing of another.
    /// `Err`: the first of several that have it, whom nobody can tell apart.
    by_api_key: HashMap<[u8; 32], Result<usize, usize>>,
    /// By key id: the key and whose it is.
    by_hmac_key: HashMap<String, (Key, usize)>,
}

impl Consumers {
    /// What cannot be read is noted in `unbuilt`: that credential lets nobody in.
    pub fn build(snapshot: &Snapshot, unbuilt: &mut Vec<Fault>) -> Consumers {
        let mut consumers = Consumers::default();
        for config in &snapshot.consumers {
            consumers.add(config, unbuilt);
        }
        consumers
    }

    fn add(&mut self, config: &snapshot::Consumer, unbuilt: &mut Vec<Fault>) {
        let snapshot::Consumer { name, api_keys, password, hmac_keys, groups } = config;
        let number = self.all.len();
        let place = |key: &str| format!("consumers.{name}.{key}");
        for (index, key) in api_keys.iter().enumerate() {
            let digest = match key {
                ApiKey::Sha256(digest) => Ok(*digest),
                ApiKey::Secret(secret) => secret::read(secret).map(|key| fingerprint(&key)),
            };
            let taken = digest.and_then(|digest| match *self.by_api_key.entry(digest).or_insert(Ok(number)) {
                Ok(other) | Err(other) if other != number => {
                    self.by_api_key.insert(digest, Err(other));
                    Err(format!("{:?} has the same key", self.all[other].name))
                }
                _ => Ok(()),
            });
            if let Err(why) = taken {
                unbuilt.push(Fault::new(why).at(place(&format!("api_keys[{index}]"))));
            }
        }
        for (id, secret) in hmac_keys {
            let long_enough = |secret: &Vec<u8>| secret.len() >= HMAC_SECRET_BYTES_MIN;
            let short = || format!("the secret of {id:?} is shorter than {HMAC_SECRET_BYTES_MIN} bytes");
            match secret::read(secret).and_then(|secret| Some(secret).filter(long_enough).ok_or_else(short)) {
                Ok(secret) => {
                    self.by_hmac_key.insert(id.clone(), (Key::new(HMAC_SHA256, &secret), number));
                }
                Err(why) => unbuilt.push(Fault::new(why).at(place("hmac_keys"))),
            }
        }
        self.by_name.insert(name.clone(), number);
        self.all.push(Consumer { name: name.clone(), groups: groups.clone(), password: password.clone() });
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn named(&self, name: &str) -> Option<&Consumer> {
        self.by_name.get(name).map(|number| &self.all[*number])
    }

    pub fn of_api_key(&self, key: &[u8]) -> Option<&Consumer> {
        let number = self.by_api_key.get(&fingerprint(key))?.ok()?;
        self.all.get(number)
    }

    /// The password's hash of some consumer.
    pub fn some_password(&self) -> Option<&PasswordHash> {
        self.all.iter().find_map(|consumer| consumer.password.as_ref())
    }

    /// The key of this id, and whose it is.
    pub fn of_hmac_key(&self, id: &str) -> Option<(&Key, &Consumer)> {
        self.by_hmac_key.get(id).map(|(key, number)| (key, &self.all[*number]))
    }
}
