//! `concurrency_limit`: no more than so many requests under way at once, for each key.
//!
//! ```toml
//! filters = [{ concurrency_limit = { max = 100 } }]                              # each client address
//! filters = [{ concurrency_limit = { name = "slow", max = 20, key = "global" } }]
//! ```
//! `key`, `ipv4_prefix`, `ipv6_prefix`, `name` and `keys_max` are as in `rate_limit`. With `scope = "node"` (the default)
//! all cores share the places; with `core` each core has `max` of its own. A request is under way from this filter until its
//! answer has been sent, or until whatever else ends it; an upgraded connection is not. Who finds no place gets 429 with
//! the flag `RL` and `Retry-After: 1`. If keys pass `keys_max`, new ones share one number of places.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use serde::Deserialize;

use super::rate_limit::{KEYS_MAX_DEFAULT, KEYS_MAX_MOST, Key, LET_GO_MAX, Scope, Seeds, Written, check_name};
use super::{Building, Filter, Needs, RequestEdit, Verdict};
use crate::exchange::{Held, Refusal, Release};
use crate::mesh::budget::{Counts, Found, Keyed, Slots};
use crate::mesh::{Quota, Share};
use crate::observe::Flag;

const MAX_MOST: u32 = 1_000_000;
/// Somebody's request may end any moment.
const RETRY_AFTER_S: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Option<String>,
    max: u32,
    #[serde(default)]
    scope: Scope,
    key: Option<toml::Value>,
    ipv4_prefix: Option<u8>,
    ipv6_prefix: Option<u8>,
    keys_max: Option<usize>,
}

pub(super) struct ConcurrencyLimit {
    number: usize,
    name: String,
    key: Key,
    seeds: Arc<Seeds>,
    needs: Needs,
}

impl ConcurrencyLimit {
    pub(super) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Filter>, Fault> {
        let Table { name, max, scope, key, ipv4_prefix, ipv6_prefix, keys_max } =
            ringway_config::filter::table(config)?;
        let place = config.place.as_str();
        let wrong = |key: &str, why: String| Fault::new(why).at(format!("{place}.{key}"));
        if let Some(name) = &name {
            check_name(name, place)?;
        }
        if !(1..=MAX_MOST).contains(&max) {
            return Err(wrong("max", format!("{max} is out of range")).cure(format!("use 1 to {MAX_MOST}")));
        }
        let keys_max = keys_max.unwrap_or(KEYS_MAX_DEFAULT);
        if !(1..=KEYS_MAX_MOST).contains(&keys_max) {
            let fault = wrong("keys_max", format!("{keys_max} is out of range"));
            return Err(fault.cure(format!("use 1 to {KEYS_MAX_MOST}")));
        }
        if scope == Scope::Fleet {
            let fault = wrong("scope", "requests under way are counted on each node".to_owned());
            return Err(fault.cure("use scope = \"node\""));
        }
        let key = Key::read(&Written { key: key.as_ref(), ipv4_prefix, ipv6_prefix, place })?;
        let name = building.limit_name(name.as_deref(), place);
        let needs = Needs { place: config.place.clone(), params: key.params().cloned().collect(), prefix: false };
        let spec = PlacesSpec {
            name: name.clone(),
            place: place.to_owned(),
            max,
            of_node: scope == Scope::Node,
            cores: building.cores,
            keys_max,
            same: key.to_string(),
            node: None,
        };
        let number = building.places(spec)?;
        Ok(Box::new(ConcurrencyLimit { number, name, key, seeds: building.seeds(), needs }))
    }
}

impl Filter for ConcurrencyLimit {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let digest = self.key.digest(request, &self.seeds);
        match request.state.places(self.number).take(digest) {
            Some(held) => {
                request.held.push(held);
                Verdict::Pass
            }
            None => {
                request.answer.replace("cache-control", "no-store".into());
                let why = format!("concurrency limit {}", self.name);
                let refusal = Refusal::new(Flag::RateLimited, why);
                Verdict::Reply(Box::new(Refusal { retry_after_s: Some(RETRY_AFTER_S), ..refusal }))
            }
        }
    }

    fn needs(&self) -> Option<&Needs> {
        Some(&self.needs)
    }
}

/// A limit, as every core has it.
pub struct PlacesSpec {
    pub name: String,
    /// Where it stands first.
    pub place: String,
    pub max: u32,
    pub of_node: bool,
    pub cores: usize,
    pub keys_max: usize,
    /// What makes two keys the same, in words.
    pub same: String,
    /// What the node has of it.
    pub node: Option<Arc<NodePlaces>>,
}

/// The places of all cores.
#[derive(Debug)]
pub struct NodePlaces {
    pub counts: Counts,
    keys: Keyed<Quota>,
}

impl NodePlaces {
    pub fn new(max: u32, keys_max: usize) -> NodePlaces {
        NodePlaces { counts: Counts::default(), keys: Keyed::new(keys_max, Quota::of(max)) }
    }
}

impl PlacesSpec {
    pub fn is_as(&self, other: &PlacesSpec) -> bool {
        let of = |spec: &PlacesSpec| (spec.max, spec.of_node, spec.cores, spec.keys_max);
        self.name == other.name && of(self) == of(other) && self.same == other.same
    }

    pub fn keys(&self) -> usize {
        let Some(node) = &self.node else { return 0 };
        if self.of_node { node.keys.len() } else { node.counts.keys.get() as usize }
    }
}

/// One limit on one core.
pub struct Places {
    pub spec: Arc<PlacesSpec>,
    slots: RefCell<Slots<Rc<Place>>>,
    overflow: Rc<Place>,
    /// Those that may keep places which nobody uses.
    open: RefCell<Vec<Rc<Place>>>,
    allowed: Cell<u64>,
    denied: Cell<u64>,
    overflowed: Cell<u64>,
    told_keys: Cell<u64>,
    /// What the node's table of keys had missed when this core looked last.
    missed: Cell<u64>,
}

/// The places of one key.
struct Place {
    share: Share,
    in_use: Cell<u32>,
    /// It stands among the open ones.
    is_listed: Cell<bool>,
}

impl Place {
    fn new(quota: Arc<Quota>, cores: usize) -> Rc<Place> {
        Rc::new(Place { share: Share::new(quota, cores), in_use: Cell::new(0), is_listed: Cell::new(false) })
    }

    fn may_go(this: &Rc<Place>) -> bool {
        !this.is_listed.get()
    }
}

impl Release for Place {
    fn release(&self) {
        self.in_use.set(self.in_use.get() - 1);
        self.share.give();
    }
}

impl Places {
    /// With what the node has. `before`: the limit of this name on this core so far; requests that hold its places go on
    /// counting if they are the same kind of places.
    pub fn new(spec: &Arc<PlacesSpec>, before: Option<&Rc<Places>>) -> Rc<Places> {
        if let Some(before) = before.filter(|before| before.spec.is_as(spec)) {
            return before.clone();
        }
        if let Some(node) = spec.node.as_ref().filter(|_| spec.of_node) {
            node.keys.for_each(|quota| quota.set_max(spec.max));
        }
        let overflow = match &spec.node {
            Some(node) if spec.of_node => node.keys.overflow().clone(),
            _ => Quota::new(spec.max),
        };
        Rc::new(Places {
            slots: RefCell::new(Slots::new(spec.keys_max)),
            overflow: Place::new(overflow, spec.cores),
            open: RefCell::default(),
            allowed: Cell::new(0),
            denied: Cell::new(0),
            overflowed: Cell::new(0),
            told_keys: Cell::new(0),
            missed: Cell::new(0),
            spec: spec.clone(),
        })
    }

    fn take(&self, digest: u128) -> Option<Held> {
        let known = self.slots.borrow().find(digest).map(|place| self.slots.borrow().at(place).clone());
        let place = known.or_else(|| self.meet(digest)).unwrap_or_else(|| {
            self.overflowed.set(self.overflowed.get() + 1);
            self.overflow.clone()
        });
        if !place.share.take() {
            self.denied.set(self.denied.get() + 1);
            return None;
        }
        self.allowed.set(self.allowed.get() + 1);
        place.in_use.set(place.in_use.get() + 1);
        if !place.is_listed.replace(true) {
            self.open.borrow_mut().push(place.clone());
        }
        Some(Held::new(place))
    }

    /// Those of a key that this core has not met, or has forgotten.
    #[inline(never)]
    fn meet(&self, digest: u128) -> Option<Rc<Place>> {
        let max = self.spec.max;
        let quota = match &self.spec.node {
            Some(node) if self.spec.of_node => {
                match node.keys.find(digest, || Quota::of(max), |quota| quota.lent() == 0) {
                    Found::Own(quota) => quota,
                    Found::Shared(_) => return None,
                }
            }
            _ => Quota::new(max),
        };
        let place = Place::new(quota, self.spec.cores);
        let added = self.slots.borrow_mut().add(digest, place.clone(), Place::may_go);
        // Without room in the table it lives as long as its request; the node knows how many the key has under way.
        (added.is_some() || self.spec.of_node).then_some(place)
    }

    /// The core's tick: places that are kept and not needed go to the others, and the node is told what was counted.
    pub fn tick(&self) {
        self.open.borrow_mut().retain(|place| {
            place.share.tick();
            place.is_listed.set(place.in_use.get() > 0);
            place.is_listed.get()
        });
        if let Some(node) = &self.spec.node {
            let missed = node.keys.missed();
            if missed != self.missed.replace(missed) {
                self.slots.borrow_mut().forget(LET_GO_MAX, LET_GO_MAX, Place::may_go);
            }
            let counts = &node.counts;
            let words = [&counts.allowed, &counts.denied, &counts.overflowed];
            for (word, count) in std::iter::zip(words, [&self.allowed, &self.denied, &self.overflowed]) {
                match count.take() {
                    0 => {}
                    more => drop(word.add(more)),
                }
            }
            if !self.spec.of_node {
                let keys = self.slots.borrow().len() as u64;
                node.counts.keys.add(keys.wrapping_sub(self.told_keys.replace(keys)));
            }
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.tick();
        if let Some(node) = &self.spec.node {
            node.counts.keys.add(0_u64.wrapping_sub(self.told_keys.take()));
        }
    }
}
