//! What filters are built with, on the control thread: the rest of the document, what the node keeps over reloads, and
//! lists that are gathered while they are built.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringway_config::Fault;
use ringway_config::snapshot::Snapshot;

use super::concurrency_limit::{NodePlaces, PlacesSpec};
use super::rate_limit::{FleetSpec, Ruling, Seeds, Spec};
use super::state::Numbers;
use crate::identity::{Consumers, IssuerPlan};
use crate::mesh::budget::Terms;
use crate::mesh::{Fleet, Nonces, Registry};

/// What a plan's filters are built with.
pub struct Building<'a> {
    pub snapshot: &'a Snapshot,
    pub node: Arc<Registry>,
    pub cores: usize,
    pub(super) issuers: Vec<Arc<IssuerPlan>>,
    pub(super) consumers: Arc<Consumers>,
    pub(super) nonces: Arc<Nonces>,
    pub(super) numbers: Numbers,
    /// Names of header fields, in lower case, that only Ringway may say on any route.
    pub(super) withheld: BTreeSet<String>,
    pub(super) secret_headers: BTreeSet<String>,
    pub(super) secret_queries: BTreeSet<String>,
    /// Why some filter lets nobody pass: what it needs cannot be had.
    pub(super) unbuilt: Vec<Fault>,
    pub(super) warned: Vec<Fault>,
    /// By name.
    limits: BTreeMap<String, LimitNumber>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LimitNumber {
    Rate(usize),
    Places(usize),
}

/// What was gathered while the filters of a plan were built.
#[derive(Default)]
pub struct Gathered {
    pub numbers: Numbers,
    pub withheld: Arc<Withheld>,
    /// Header fields and query parameters that carry credentials: not for the log.
    pub secret_headers: Vec<String>,
    pub secret_queries: Vec<String>,
    pub issuers: Vec<Arc<IssuerPlan>>,
    /// Kept by each plan, whether it has a use for them or not: the next one may.
    pub nonces: Arc<Nonces>,
    /// Why some routes answer 503.
    pub unbuilt: Vec<Fault>,
    /// What works as it was written, and should be known.
    pub warned: Vec<Fault>,
}

/// A number that no other gateway has.
fn random() -> u128 {
    let seeded = || u128::from(ahash::RandomState::new().hash_one(std::process::id()));
    let mut bytes = [0; size_of::<u128>()];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u128::from_ne_bytes(bytes),
        Err(_) => seeded() << 64 | seeded(),
    }
}

impl<'a> Building<'a> {
    pub fn new(snapshot: &'a Snapshot, node: Arc<Registry>, cores: usize) -> Building<'a> {
        let issuers = IssuerPlan::build_all(snapshot, &node, cores);
        // Of every issuer, whether a route uses it or not: what is an identity on one route is not said by clients on
        // another.
        let fields = snapshot.issuers.iter().flat_map(|issuer| &issuer.headers);
        let mut unbuilt: Vec<Fault> = issuers.iter().filter_map(|issuer| issuer.unbuilt.clone()).collect();
        let consumers = Arc::new(Consumers::build(snapshot, &mut unbuilt));
        let nonces = node.get("nonces", "", Nonces::default);
        Building {
            snapshot,
            node,
            cores,
            issuers,
            consumers,
            nonces,
            numbers: Numbers::default(),
            withheld: fields.map(|(name, _)| name.clone()).collect(),
            secret_headers: BTreeSet::new(),
            secret_queries: BTreeSet::new(),
            unbuilt,
            limits: BTreeMap::new(),
            warned: Vec::new(),
        }
    }

    /// The name of a limit that says none is where it stands, told by names and not by the numbers of routes.
    pub(super) fn limit_name(&self, own: Option<&str>, place: &str) -> String {
        if let Some(own) = own {
            return own.to_owned();
        }
        let Some((whose, inside)) = place.split_once(".filters[") else { return place.to_owned() };
        let route = whose.strip_prefix("routes[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        let whose = match route.and_then(|at: usize| self.snapshot.routes.get(at)) {
            Some(route) => format!("route/{}", route.name),
            None => format!("policy/{}", whose.strip_prefix("policies.").unwrap_or(whose)),
        };
        let numbers = inside.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
        numbers.fold(whose, |name, number| format!("{name}/{number}"))
    }

    /// Where the budgets of a fleet's limit are kept; `None`: it is no fleet's.
    pub(super) fn fleet(&self, ruling: &Ruling) -> Result<Option<FleetSpec>, Fault> {
        let (Terms::Fleet(terms), Some(wanted)) = (ruling.terms, &ruling.redis) else { return Ok(None) };
        let wanted = Some(wanted.as_str()).filter(|name| !name.is_empty());
        let redis = self.redis(wanted, &ruling.place)?;
        let node = self.node.get("fleet", &redis, || Fleet::new(format!("{:032x}", random())));
        Ok(Some(FleetSpec { redis, terms, node }))
    }

    /// The name of the Redis that a filter means.
    ///
    /// # Errors
    /// There is none of that name, or none or several to choose from.
    pub(super) fn redis(&self, wanted: Option<&str>, place: &str) -> Result<String, Fault> {
        let known = &self.snapshot.process.redis;
        let (why, cure) = match (wanted, known.as_slice()) {
            (None, [only]) => return Ok(only.name.clone()),
            (Some(name), _) if known.iter().any(|redis| redis.name == name) => return Ok(name.to_owned()),
            (Some(name), _) => (format!("there is no [redis.{name}]"), "add it, or name another one"),
            (None, []) => ("a fleet shares through Redis".to_owned(), "add a [redis.NAME]"),
            (None, _) => ("there are several [redis.NAME]".to_owned(), "say which: redis = \"NAME\""),
        };
        Err(Fault::new(why).at(format!("{place}.redis")).cure(cure))
    }

    /// What hashes keys, the same for all limits of the node.
    pub(super) fn seeds(&self) -> Arc<Seeds> {
        self.node.get("limit seeds", "", Seeds::default)
    }

    /// The number of a rate limit; of one name there is one.
    pub(super) fn limit(&mut self, spec: Spec) -> Result<usize, Fault> {
        match self.limits.get(&spec.name) {
            Some(LimitNumber::Rate(number)) if self.numbers.limits[*number].is_as(&spec) => Ok(*number),
            Some(other) => Err(self.two_of_a_name(&spec.name, &spec.place, *other)),
            None => {
                let rule = self.node.get("rate limit", &spec.name, Default::default);
                let (name, number) = (spec.name.clone(), self.numbers.limits.len());
                self.numbers.limits.push(Arc::new(spec.known_as(rule)));
                self.limits.insert(name, LimitNumber::Rate(number));
                Ok(number)
            }
        }
    }

    /// The number of a concurrency limit; of one name there is one.
    pub(super) fn places(&mut self, mut spec: PlacesSpec) -> Result<usize, Fault> {
        match self.limits.get(&spec.name) {
            Some(LimitNumber::Places(number)) if self.numbers.places[*number].is_as(&spec) => Ok(*number),
            Some(other) => Err(self.two_of_a_name(&spec.name, &spec.place, *other)),
            None => {
                let name = format!("{} {}", spec.name, spec.keys_max);
                let made = || NodePlaces::new(spec.max, spec.keys_max);
                spec.node = Some(self.node.get("concurrency limit", &name, made));
                let (name, number) = (spec.name.clone(), self.numbers.places.len());
                self.numbers.places.push(Arc::new(spec));
                self.limits.insert(name, LimitNumber::Places(number));
                Ok(number)
            }
        }
    }

    fn two_of_a_name(&self, name: &str, place: &str, other: LimitNumber) -> Fault {
        let other = match other {
            LimitNumber::Rate(number) => &self.numbers.limits[number].place,
            LimitNumber::Places(number) => &self.numbers.places[number].place,
        };
        let fault = Fault::new(format!("another limit named {name:?} says something else: {other}"));
        fault.at(place.to_owned()).cure("limits of one name are one: write the same, or choose another name")
    }

    pub fn finish(self) -> Gathered {
        Gathered {
            numbers: self.numbers,
            withheld: Arc::new(Withheld::new(self.withheld)),
            secret_headers: self.secret_headers.into_iter().collect(),
            secret_queries: self.secret_queries.into_iter().collect(),
            issuers: self.issuers,
            nonces: self.nonces,
            unbuilt: self.unbuilt,
            warned: self.warned,
        }
    }

    /// The issuer of this name.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn issuer(&self, name: &str) -> Result<Arc<IssuerPlan>, Fault> {
        let found = self.issuers.iter().find(|issuer| issuer.config.name == name);
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = self.issuers.iter().map(|issuer| issuer.config.name.as_str()).collect();
            let fault = Fault::new(format!("no issuer named {name:?}"));
            match names.is_empty() {
                true => fault.cure(format!("add a table [issuers.{name}]")),
                false => fault.cure(format!("the issuers are {}", names.join(", "))),
            }
        })
    }
}

/// Header fields that no client may say, since filters set or read them as somebody's identity, and what some origins take
/// for them.
#[derive(Debug, Default)]
pub struct Withheld {
    names: Box<[Box<str>]>,
}

impl Withheld {
    fn new(names: BTreeSet<String>) -> Withheld {
        Withheld { names: names.into_iter().map(String::into_boxed_str).collect() }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    #[inline]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.names.iter().any(|known| are_twins(known.as_bytes(), name))
    }
}

/// True of names that differ only by case and by what stands in the place of `-`: origins that make variables of fields
/// (CGI, WSGI) take one for the other.
pub(super) fn are_twins(one: &[u8], other: &[u8]) -> bool {
    let plain = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    one.len() == other.len() && std::iter::zip(one, other).all(|(one, other)| plain(one) == plain(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_of_a_withheld_name_are_withheld() {
        let withheld = Withheld::new(["x-user".to_owned(), "x_role".to_owned()].into());
        for name in ["x-user", "X-User", "x_user", "X_USER", "x.user", "X!User", "x-role", "X_Role"] {
            assert!(withheld.contains(name.as_bytes()), "{name}");
        }
        for name in ["x-users", "xuser", "x-usar", ""] {
            assert!(!withheld.contains(name.as_bytes()), "{name}");
        }
    }
}
