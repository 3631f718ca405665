//! An issuer as a plan has it, and what the node knows of it: the keys that were fetched, how old they are, what became of
//! tokens. Fetches nothing (`control`).

use std::sync::Arc;

use ringway_config::Fault;
use ringway_config::snapshot::{self, KeyMaterial};
use xxhash_rust::xxh3::xxh3_64;

use super::keys::{Found, Key, KeySet};
use super::token::{Refused, Signed};
use crate::mesh::{Bell, CoreCounts, Published, Registry, Word};
use crate::secret;

/// What a token came to: verified, then one count for each way of refusal.
pub const RESULTS: usize = 1 + Refused::ALL.len();

/// An issuer of a plan.
pub struct IssuerPlan {
    pub config: snapshot::Issuer,
    pub node: Arc<IssuerNode>,
    /// Those that stand in the configuration itself.
    own: KeySet,
    /// Tells this issuer, its own keys and what is made of its claims from any other.
    pub stamp: u64,
    /// Why nobody can be verified, for the operator.
    pub unbuilt: Option<Fault>,
}

/// What all cores and plans share of an issuer.
pub struct IssuerNode {
    /// Fetched ones; none before the first success.
    pub keys: Published<KeySet>,
    /// Rung for a token with an unknown key.
    pub wanted: Bell,
    /// When keys were fetched last; 0: never.
    pub fetched_unix_s: Word,
    pub failures: Word,
    /// Attempts that are over.
    pub fetches: Word,
    /// In milliseconds of the node's clock: before, an unknown key fetches nothing.
    pub refetch_from_ms: Word,
    pub results: CoreCounts<RESULTS>,
}

impl IssuerPlan {
    /// Those of a snapshot, in its order.
    pub fn build_all(snapshot: &snapshot::Snapshot, registry: &Registry, cores: usize) -> Vec<Arc<IssuerPlan>> {
        snapshot.issuers.iter().map(|config| Arc::new(IssuerPlan::build(config, registry, cores))).collect()
    }

    fn build(config: &snapshot::Issuer, registry: &Registry, cores: usize) -> IssuerPlan {
        let source = &config.source;
        // Keys of another place are another issuer's, though it bears the same name.
        let origin = (&source.url, &source.file, &source.ca_file, &config.algorithms);
        let node = registry.get("issuer", &format!("{} {origin:?}", config.name), || IssuerNode::new(cores));
        let mut unbuilt = None;
        // With all that `Verified::new` reads: what was made of a token by another table is void.
        let snapshot::Issuer { name, issuer, algorithms, may_lack, require, roles, consumer, headers, .. } = config;
        let read = (name, issuer, algorithms, may_lack, require, roles, consumer, headers);
        let mut digests = format!("{read:?}").into_bytes();
        let own = source.keys.iter().filter_map(|key| {
            own_key(key, &config.algorithms, &mut digests).map_err(|fault| unbuilt = Some(fault)).ok()
        });
        let own: Vec<Key> = own.collect();
        let stamp = xxh3_64(&digests);
        IssuerPlan { own: KeySet::new(own, stamp), stamp, unbuilt, node, config: config.clone() }
    }

    /// True if there is something to verify with.
    pub fn has_keys(&self) -> bool {
        self.unbuilt.is_none() && (!self.own.is_empty() || self.node.keys.version() > 0)
    }

    pub fn key_count(&self) -> usize {
        self.own.len() + self.node.keys.with(|set| set.map_or(0, KeySet::len))
    }

    /// True if keys come from elsewhere than the configuration itself.
    pub fn is_fetched(&self) -> bool {
        self.config.source.url.is_some() || self.config.source.file.is_some()
    }

    /// True if others may be fetched now. `node_ms` is the node's clock.
    pub fn may_fetch(&self, node_ms: u64) -> bool {
        self.is_fetched() && self.unbuilt.is_none() && node_ms >= self.node.refetch_from_ms.get()
    }

    /// Verifies a token's signature, with this issuer's keys alone.
    ///
    /// # Errors
    /// Its algorithm, its key or its signature.
    pub fn verify(&self, token: &Signed<'_>) -> Result<(), Refused> {
        // What a token says of its algorithm chooses among those allowed; keys are bound to theirs.
        if !self.config.algorithms.contains(&token.algorithm) {
            return Err(Refused::Algorithm);
        }
        let try_set = |set: &KeySet| set.verify(token.kid.as_deref(), token.algorithm, token.message, &token.signature);
        let own = try_set(&self.own);
        let fetched = match own {
            Found::Verified => own,
            _ => self.node.keys.with(|set| set.map_or(Found::NoKey, try_set)),
        };
        match (own, fetched) {
            (Found::Verified, _) | (_, Found::Verified) => Ok(()),
            (Found::NoKey, Found::NoKey) => Err(Refused::UnknownKey),
            _ => Err(Refused::Signature),
        }
    }
}

impl IssuerNode {
    fn new(cores: usize) -> IssuerNode {
        IssuerNode {
            keys: Published::default(),
            wanted: Bell::default(),
            fetched_unix_s: Word::default(),
            failures: Word::default(),
            fetches: Word::default(),
            refetch_from_ms: Word::default(),
            results: CoreCounts::new(cores),
        }
    }

    /// Counts what became of a token on this core.
    pub fn count(&self, core: usize, result: Result<(), Refused>) {
        let kind = match result {
            Ok(()) => 0,
            Err(refused) => 1 + refused as usize,
        };
        self.results.add(core, kind);
    }
}

/// `digests` gathers what tells this key from others.
fn own_key(key: &snapshot::IssuerKey, algorithms: &[snapshot::Algorithm], digests: &mut Vec<u8>) -> Result<Key, Fault> {
    let (KeyMaterial::Pem(secret) | KeyMaterial::Secret(secret)) = &key.material;
    let fault = |why: String| Fault::new(why).at(key.place.clone());
    let bytes = secret::read(secret).map_err(fault)?;
    digests.extend_from_slice(format!("{:?}{:?}", key.kid, key.algorithm).as_bytes());
    digests.extend_from_slice(&super::keys::fingerprint(&bytes));
    let kid = key.kid.as_deref();
    let made = match &key.material {
        KeyMaterial::Secret(_) => Key::from_secret(kid, &bytes, key.algorithm, algorithms),
        KeyMaterial::Pem(_) => match str::from_utf8(&bytes) {
            Ok(pem) => Key::from_pem(kid, pem, key.algorithm, algorithms),
            Err(_) => Err("it is no text".to_owned()),
        },
    };
    made.map_err(fault)
}
