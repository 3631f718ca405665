//! One rule on one core: its keys, what this core has borrowed of each, what it has counted. The budgets themselves are
//! `mesh/budget`'s.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use ringway_config::units::duration_text;

use super::fleet::{FleetSpec, OVERFLOW, Underway};
use super::table::Ruling;
use crate::mesh::budget::{
    Base, Bounds, Budgets, Fleet, Found, KeyName, Lease, Moment, Refused, Rule, Slots, Standing, Store, Taken, Terms,
    WhenAway,
};

/// Entries of a core that a tick looks at while new keys find the node's table full: a fifth of a millisecond.
pub const LET_GO_MAX: usize = 4096;

/// A rule, as every core has it.
pub struct Spec {
    pub name: String,
    /// Where it stands first.
    pub place: String,
    pub terms: Terms,
    /// Budgets are of the node, and not of each core.
    pub of_node: bool,
    pub cores: u64,
    pub keys_max: usize,
    /// What makes two keys the same, in words.
    pub same: String,
    /// The budgets are of a fleet: where they are kept.
    pub fleet: Option<FleetSpec>,
    /// What the node knows of it over reloads.
    pub rule: Arc<Rule>,
    /// Those of the node; each core has its own otherwise.
    budgets: Option<Arc<Budgets>>,
}

impl Spec {
    pub fn new(name: &str, ruling: &Ruling, cores: usize, fleet: Option<FleetSpec>) -> Spec {
        let Ruling { place, terms, of_node, key, keys_max, .. } = ruling;
        Spec {
            name: name.to_owned(),
            place: place.clone(),
            terms: *terms,
            of_node: *of_node,
            cores: cores as u64,
            keys_max: *keys_max,
            same: key.to_string(),
            fleet,
            rule: Arc::default(),
            budgets: None,
        }
    }

    /// With what the node has of it.
    pub fn known_as(mut self, rule: Arc<Rule>) -> Spec {
        self.budgets = self.of_node.then(|| rule.budgets(self.terms, self.keys_max, &self.same));
        self.rule = rule;
        self
    }

    /// Says the same as another one of its name.
    pub fn is_as(&self, other: &Spec) -> bool {
        let of = |spec: &Spec| (spec.terms, spec.of_node, spec.cores, spec.keys_max);
        let redis = |spec: &Spec| spec.fleet.as_ref().map(|fleet| fleet.redis.clone());
        self.name == other.name && of(self) == of(other) && self.same == other.same && redis(self) == redis(other)
    }

    /// Those who share a budget.
    #[inline]
    fn sharers(&self) -> u64 {
        if self.of_node { self.cores } else { 1 }
    }

    /// What the code that enforces it can do at worst, with this many cores.
    pub fn bounds(&self, cores: usize) -> Bounds {
        if self.of_node {
            return self.terms.bounds(cores as u64);
        }
        let own = self.terms.bounds(1);
        Bounds { over: (1.0 + own.over) * cores as f64 - 1.0, under: own.under }
    }

    /// The bounds in words, for `ringway check`.
    pub fn say_bounds(&self, cores: usize) -> String {
        let Bounds { over, under } = self.bounds(cores);
        let percent = |share: f64| format!("{} %", (share * 1000.0).ceil() / 10.0);
        let stretch = match self.terms {
            Terms::Pace(_) | Terms::Leak(_) | Terms::Fleet(Fleet { base: Base::Pace(_), .. }) => "second",
            Terms::Period(_) | Terms::Fleet(_) => "stretch as long as its window",
        };
        let (name, over, under) = (&self.name, percent(over), percent(under));
        if let Terms::Fleet(fleet) = &self.terms {
            let lease = duration_text(Duration::from_nanos(fleet.lease_ns));
            let bounds = format!("at most {over} over, {under} under in any {stretch}");
            return format!("limit {name:?} of the fleet, leases of {lease}: {bounds}; {}", say_failover(fleet));
        }
        let whose = if self.of_node { "the node" } else { "each core" };
        format!("limit {name:?} of {whose}, {cores} cores: at most {over} over, {under} under in any {stretch}")
    }

    /// Keys that have a budget of their own.
    pub fn keys(&self) -> usize {
        self.budgets.as_ref().map_or(self.rule.counts.keys.get() as usize, |budgets| budgets.keys().len())
    }
}

/// What a failover of Redis may cost.
fn say_failover(fleet: &Fleet) -> String {
    let once = fleet.failover_over().map(|more| format!("at most {more} more requests, once for each failover"));
    match (fleet.when_away, once) {
        (WhenAway::Closed, Some(once)) => format!("without Redis nobody passes, then {once}"),
        (WhenAway::LocalShare, Some(once)) => {
            format!("without Redis each gateway has its equal share, one request at least, and no more, then {once}")
        }
        _ => "without Redis everybody passes".to_owned(),
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    Denied,
    Delayed,
}

pub struct Limit {
    pub spec: Arc<Spec>,
    budgets: Arc<Budgets>,
    slots: RefCell<Slots<Entry>>,
    /// For keys that find the table full.
    overflow: Entry,
    /// Places of entries that may have borrowed something.
    open: RefCell<Vec<u32>>,
    counts: [Cell<u64>; 4],
    told_keys: Cell<u64>,
    /// What the table of keys had missed when this core looked last.
    missed: Cell<u64>,
    pub(super) underway: Underway,
    /// When a budget was asked last.
    last: Cell<Moment>,
}

struct Entry {
    store: Arc<Store>,
    lease: Lease,
    /// It stands among the open ones.
    is_listed: Cell<bool>,
}

impl Entry {
    fn new(store: Arc<Store>) -> Entry {
        Entry { store, lease: Lease::default(), is_listed: Cell::new(false) }
    }

    /// The budget itself stays where it is: whoever is forgotten here is found there.
    fn may_go(&self) -> bool {
        !self.lease.is_open() && !self.is_listed.get()
    }
}

/// What a core has of a key.
enum Met {
    Table(usize),
    /// Nothing, for want of a place: each request asks the budget itself. An entry that asks once borrows nothing.
    Store(Arc<Store>),
    /// The key has no budget of its own.
    Overflow,
}

/// Where an entry is.
enum At {
    Table(u32),
    Nowhere,
    Overflow,
}

const OVERFLOWED: usize = 3;

impl Limit {
    /// `before`: the rule of this name on this core so far.
    pub fn new(spec: &Arc<Spec>, before: Option<&Limit>) -> Limit {
        if let Some(before) = before {
            before.end_leases();
        }
        let own = || {
            let same = before.filter(|before| !before.spec.of_node && before.spec.same == spec.same);
            Arc::new(Budgets::new(spec.terms, spec.keys_max, same.map(|before| before.budgets.clone())))
        };
        if let Some(budgets) = &spec.budgets {
            spec.rule.adopt(spec.keys_max, &spec.same, budgets);
        }
        let budgets = spec.budgets.clone().unwrap_or_else(own);
        Limit {
            overflow: Entry::new(budgets.keys().overflow().clone()),
            budgets,
            slots: RefCell::new(Slots::new(spec.keys_max)),
            open: RefCell::default(),
            counts: Default::default(),
            told_keys: Cell::new(0),
            missed: Cell::new(0),
            underway: Underway::default(),
            last: Cell::default(),
            spec: spec.clone(),
        }
    }

    /// Takes `cost` for a key, or nothing.
    ///
    /// # Errors
    /// There is not enough.
    #[inline]
    pub fn take(&self, digest: u128, now: &Moment, cost: NonZeroU64) -> Result<Taken, Refused> {
        self.last.set(*now);
        self.with(digest, now, |entry, place| {
            let taken = entry.lease.take(&self.spec.terms, &entry.store, now, cost, self.spec.sharers());
            match place {
                At::Table(place) if entry.lease.is_open() && !entry.is_listed.replace(true) => {
                    self.open.borrow_mut().push(place);
                }
                At::Overflow => self.add(OVERFLOWED, 1),
                At::Table(_) | At::Nowhere => {}
            }
            taken
        })
    }

    /// Takes nothing, but says whether there is enough.
    ///
    /// # Errors
    /// There is not.
    pub fn may_take(&self, digest: u128, now: &Moment, cost: NonZeroU64) -> Result<(), Refused> {
        self.with(digest, now, |entry, _| entry.lease.may_take(&self.spec.terms, &entry.store, now, cost))
    }

    /// Undoes what was taken at this very moment.
    pub fn undo(&self, digest: u128, now: &Moment, cost: NonZeroU64, taken: Taken) {
        self.with(digest, now, |entry, _| entry.lease.undo(&self.spec.terms, &entry.store, cost, taken));
    }

    /// The budget itself, and the name that it has for all gateways.
    pub fn store(&self, digest: u128, now: &Moment, name: impl FnOnce() -> KeyName) -> (Arc<Store>, KeyName) {
        self.with(digest, now, |entry, place| match place {
            At::Overflow => (entry.store.clone(), OVERFLOW),
            At::Table(_) | At::Nowhere => (entry.store.clone(), name()),
        })
    }

    pub fn standing(&self, digest: u128, now: &Moment) -> Standing {
        self.with(digest, now, |entry, _| {
            let standing = self.spec.terms.standing(&entry.store, now);
            Standing { left: standing.left + entry.lease.credits(now), ..standing }
        })
    }

    #[inline]
    pub fn count(&self, decision: Decision) {
        self.add(decision as usize, 1);
    }

    #[inline]
    fn add(&self, count: usize, more: u64) {
        self.counts[count].set(self.counts[count].get() + more);
    }

    /// The entry of a key, and where it is.
    #[inline]
    fn with<R>(&self, digest: u128, now: &Moment, what: impl FnOnce(&Entry, At) -> R) -> R {
        let known = self.slots.borrow().find(digest);
        match known.map_or_else(|| self.meet(digest, now), Met::Table) {
            Met::Table(place) => what(self.slots.borrow().at(place), At::Table(place as u32)),
            Met::Store(store) => what(&Entry::new(store), At::Nowhere),
            Met::Overflow => what(&self.overflow, At::Overflow),
        }
    }

    /// A key that this core has not met, or has forgotten.
    #[inline(never)]
    fn meet(&self, digest: u128, now: &Moment) -> Met {
        let Found::Own(store) = self.budgets.find(digest, now) else { return Met::Overflow };
        match self.slots.borrow_mut().add(digest, Entry::new(store.clone()), Entry::may_go) {
            Some(place) => Met::Table(place),
            None => Met::Store(store),
        }
    }

    /// The core's tick: what was borrowed and not used in time goes back, and the node is told what was counted.
    pub fn tick(&self, now: &Moment) {
        self.last.set(*now);
        self.settle(|entry| entry.lease.is_over(now), now);
        self.let_go();
        let counts = &self.spec.rule.counts;
        let words = [&counts.allowed, &counts.denied, &counts.delayed, &counts.overflowed];
        for (word, count) in std::iter::zip(words, &self.counts) {
            match count.take() {
                0 => {}
                more => drop(word.add(more)),
            }
        }
        if !self.spec.of_node {
            self.tell_keys(self.slots.borrow().len() as u64);
        }
    }

    /// While new keys find no place: what this core has only met is the budgets' alone, who forget it if it is full again.
    fn let_go(&self) {
        let missed = self.budgets.keys().missed();
        if missed != self.missed.replace(missed) {
            self.slots.borrow_mut().forget(LET_GO_MAX, LET_GO_MAX, Entry::may_go);
        }
    }

    fn tell_keys(&self, keys: u64) {
        let more = keys.wrapping_sub(self.told_keys.replace(keys));
        if more != 0 {
            self.spec.rule.counts.keys.add(more);
        }
    }

    fn settle(&self, which: impl Fn(&Entry) -> bool, now: &Moment) {
        let slots = self.slots.borrow();
        self.open.borrow_mut().retain(|place| {
            let entry = slots.at(*place as usize);
            if which(entry) {
                entry.lease.settle(&self.spec.terms, &entry.store, now);
                entry.is_listed.set(false);
            }
            entry.is_listed.get()
        });
        if self.overflow.lease.is_open() && which(&self.overflow) {
            self.overflow.lease.settle(&self.spec.terms, &self.overflow.store, now);
        }
    }

    fn end_leases(&self) {
        self.settle(|_| true, &self.last.get());
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.end_leases();
        self.tick(&self.last.get());
        self.tell_keys(0);
    }
}
