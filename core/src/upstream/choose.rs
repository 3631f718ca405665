//! Which endpoint takes the next request of this core: those that may be used, their tiers, the balance, the key, the
//! slow start. Opens no connection (`pool`).

use std::cell::Cell;

use ringway_config::snapshot::{Balance, SlowStart};
use smallvec::SmallVec;

use super::balance::{Load, RoundRobin, Spill, bounded, least, of_two, panic, place_after, place_of, slow_start};
use super::cluster::{ClusterPlan, Table};
use super::node::millis;
use super::state::ClusterState;
use crate::net::Net;

/// Endpoints that the balance may propose before the first one that will do is taken.
const PROPOSALS_MAX: usize = 4;
/// In which an old average of latency loses 63 % of its say; Finagle's.
const LATENCY_TAU_NS: u64 = 10_000_000_000;
type Passed = SmallVec<[u16; PROPOSALS_MAX]>;
/// In no tier: may not be used.
const NO_TIER: u8 = u8::MAX;

/// Who may be used, as of one version of the node.
pub struct View {
    pub version: u64,
    /// Primary and backup, those with anybody to use.
    tiers: Vec<Tier>,
    /// By endpoint: its place in `tiers`.
    tier_of: Vec<u8>,
    spill: Spill,
    /// Until then some endpoint starts slowly.
    slow_until_ms: u64,
    /// Health is ignored, since too few are well.
    pub panics: bool,
}

struct Tier {
    backup: bool,
    /// Ascending.
    members: Vec<u16>,
    weight: u64,
    turns: RoundRobin,
    /// All weigh the same.
    even: bool,
    last: Cell<u16>,
}

impl View {
    pub fn new(plan: &ClusterPlan, before: Option<&View>, core: usize, cores: usize) -> View {
        let version = plan.node.version();
        let usable: Vec<bool> = plan.node.endpoints.iter().map(|endpoint| endpoint.is_usable()).collect();
        let weight = |of: &dyn Fn(usize) -> bool| -> u64 {
            let those = plan.endpoints.iter().enumerate().filter(|(at, _)| of(*at));
            those.map(|(_, endpoint)| u64::from(endpoint.weight)).sum()
        };
        let all = weight(&|_| true);
        let panics = panic(weight(&|at| usable[at]), all, plan.config.panic_percent);
        let may = |at: usize| panics || usable[at];
        let mut tier_of = vec![NO_TIER; plan.endpoints.len()];
        let mut tiers: Vec<Tier> = Vec::with_capacity(2);
        let mut shares = Vec::with_capacity(2);
        for backup in [false, true] {
            let belongs = |at: usize| plan.endpoints[at].backup == backup;
            let members: Vec<u16> =
                (0..plan.endpoints.len()).filter(|&at| belongs(at) && may(at)).map(|at| at as u16).collect();
            if members.is_empty() {
                continue;
            }
            let weights: Vec<(u16, u32)> =
                members.iter().map(|&at| (at, plan.endpoints[usize::from(at)].weight)).collect();
            let turns = RoundRobin::new(&weights, core, cores);
            let same = before.and_then(|view| view.tiers.iter().find(|tier| tier.backup == backup));
            if let Some(same) = same {
                turns.follow(&same.turns);
            }
            members.iter().for_each(|&at| tier_of[usize::from(at)] = tiers.len() as u8);
            let usable_weight = weight(&|at| belongs(at) && may(at));
            shares.push((usable_weight, weight(&belongs)));
            let even = weights.iter().all(|(_, weight)| *weight == weights[0].1);
            tiers.push(Tier { backup, members, weight: usable_weight, turns, even, last: Cell::new(0) });
        }
        let spill = Spill::new(shares, plan.config.spill_percent.into());
        let slow_until_ms = plan.config.slow_start.map_or(0, |slow| {
            let since = plan.node.endpoints.iter().map(|endpoint| endpoint.since_ms()).max().unwrap_or(0);
            if since > 0 { since + millis(slow.window) } else { 0 }
        });
        View { version, tiers, tier_of, spill, slow_until_ms, panics }
    }

    /// The endpoint that takes everything, if there is no choice to be made.
    pub fn only(&self, plan: &ClusterPlan) -> Option<u16> {
        match &self.tiers[..] {
            [Tier { members, .. }] if members.len() == 1 && !self.panics && plan.config.endpoint_breaker.is_none() => {
                members.first().copied()
            }
            _ => None,
        }
    }

    pub fn has_other_than(&self, tried: &[u16]) -> bool {
        self.tiers.iter().flat_map(|tier| &tier.members).any(|at| !tried.contains(at))
    }
}

/// A choice to be made.
pub struct Choice<'a> {
    pub plan: &'a ClusterPlan,
    pub state: &'a ClusterState,
    pub view: &'a View,
    pub net: &'a Net,
    /// What the request is hashed by.
    pub key: Option<u64>,
    /// Who has had this request already.
    pub tried: &'a [u16],
}

impl Choice<'_> {
    /// `None` if nobody is left who may be used.
    pub fn make(&self) -> Option<u16> {
        let view = self.view;
        let first = match &view.tiers[..] {
            [] => return None,
            [only] => return self.within(only),
            _ => view.spill.tier(self.state.random.percent()),
        };
        let others = (0..view.tiers.len()).filter(|&tier| tier != first);
        std::iter::once(first).chain(others).find_map(|tier| self.within(&view.tiers[tier]))
    }

    fn within(&self, tier: &Tier) -> Option<u16> {
        if let Some(table) = &self.plan.table {
            return self.by_table(tier, table);
        }
        if let [only] = tier.members[..] {
            return self.may(only).then_some(only);
        }
        // One that does not take the request is not asked again for it.
        let mut passed = Passed::new();
        // A try that follows another one takes nobody's turn: with two endpoints each request would meet the same one first.
        let proposals =
            if self.tried.is_empty() || self.plan.config.balance != Balance::RoundRobin { PROPOSALS_MAX } else { 0 };
        for _ in 0..proposals {
            let (proposed, takes) = match self.starting() {
                None => (self.propose(tier, |at| passed.contains(&at)), true),
                Some(slow) => self.propose_slowly(tier, &passed, slow),
            };
            if !passed.contains(&proposed) {
                if takes && self.may(proposed) {
                    return Some(proposed);
                }
                passed.push(proposed);
            }
        }
        let start = self.state.random.below(tier.members.len() as u64) as usize;
        let (before, from) = tier.members.split_at(start);
        let all = || from.iter().chain(before).copied().filter(|&at| self.may(at));
        all().find(|at| !passed.contains(at)).or_else(|| all().next())
    }

    /// Whoever is `out` costs more than anybody else.
    fn propose(&self, tier: &Tier, out: impl Fn(u16) -> bool) -> u16 {
        let (members, random) = (&tier.members[..], &self.state.random);
        match self.plan.config.balance {
            Balance::RoundRobin | Balance::RingHash | Balance::Maglev => tier.turns.next(),
            // Equals are taken in turns by their weights; where only some are equal, from behind the last one on.
            Balance::LeastRequest => {
                let start = match tier.even {
                    true => place_after(members, tier.last.get()),
                    false => place_of(members, tier.turns.next()),
                };
                let chosen = least(members, start, random, |at| self.load(at, out(at)));
                tier.last.set(chosen);
                chosen
            }
            Balance::RandomTwo => of_two(members, random, |at| self.load(at, out(at))),
            Balance::Ewma => of_two(members, random, |at| self.latency(at, out(at))),
        }
    }

    /// As [`propose`](Choice::propose) while some endpoint starts slowly; false with one that is too cold to take it.
    ///
    /// In every balance a cold endpoint has the part of its turns that it has of its weight. If it also had each request
    /// for which it is the least busy one, which it nearly always is, it would have its whole share after `window` divided
    /// by the number of endpoints.
    fn propose_slowly(&self, tier: &Tier, passed: &[u16], slow: SlowStart) -> (u16, bool) {
        let balance = self.plan.config.balance;
        let turn = match balance {
            Balance::RoundRobin | Balance::RingHash | Balance::Maglev => {
                let turn = tier.turns.next();
                return (turn, self.takes_its_turn(turn, slow));
            }
            Balance::LeastRequest | Balance::RandomTwo | Balance::Ewma => tier.turns.next(),
        };
        let is_cold = |at: u16| self.warmth(at, slow) < slow_start::WHOLE;
        let out = |at: u16| passed.contains(&at) || is_cold(at);
        let warm = self.propose(tier, out);
        if !is_cold(turn) || passed.contains(&turn) || !self.takes_its_turn(turn, slow) {
            return (warm, !out(warm));
        }
        let cheaper = match balance {
            Balance::Ewma => self.latency(turn, false) <= self.latency(warm, out(warm)),
            _ => self.load(turn, false) <= self.load(warm, out(warm)),
        };
        (if cheaper { turn } else { warm }, true)
    }

    fn load(&self, at: u16, is_out: bool) -> Load {
        match is_out {
            true => Load::new(u64::MAX, 0),
            false => Load::new(self.active(at), self.plan.endpoints[usize::from(at)].weight),
        }
    }

    fn latency(&self, at: u16, is_out: bool) -> u64 {
        if is_out {
            return u64::MAX;
        }
        let (endpoint, weight) = (&self.state.endpoints[usize::from(at)], self.plan.endpoints[usize::from(at)].weight);
        endpoint.latency.cost(endpoint.active(), self.net.node_ns(), LATENCY_TAU_NS, weight)
    }

    fn by_table(&self, tier: &Tier, table: &Table) -> Option<u16> {
        let number = self.view.tier_of[usize::from(tier.members[0])];
        let hash = self.key.unwrap_or_else(|| self.state.random.bits());
        let serves = |at: u16| self.view.tier_of[usize::from(at)] == number && self.may(at);
        if let Some(factor) = self.plan.config.hash_load_max_percent {
            let under_way: u64 = tier.members.iter().map(|&at| self.active(at)).sum();
            let has_room = |at: u16| {
                let weight = self.plan.endpoints[usize::from(at)].weight;
                self.active(at) < bounded::limit(under_way, tier.weight, weight, factor)
            };
            let found = table.pick(hash, |at| serves(at) && has_room(at));
            if found.is_some() {
                return found;
            }
        }
        table.pick(hash, serves)
    }

    fn active(&self, at: u16) -> u64 {
        self.state.endpoints[usize::from(at)].active()
    }

    /// True unless it has had the request or its breaker is open.
    fn may(&self, at: u16) -> bool {
        !self.tried.contains(&at) && self.breaker_admits(at)
    }

    fn breaker_admits(&self, at: u16) -> bool {
        match (&self.plan.config.endpoint_breaker, &self.plan.node.endpoints[usize::from(at)].breaker) {
            (Some(rules), Some(breaker)) => breaker.admits(rules, self.net.node_ms()),
            _ => true,
        }
    }

    /// The rules, while some endpoint starts slowly.
    fn starting(&self) -> Option<SlowStart> {
        self.plan.config.slow_start.filter(|_| self.net.node_ms() < self.view.slow_until_ms)
    }

    /// What an endpoint that is new or back has of its weight, of [`slow_start::WHOLE`].
    fn warmth(&self, at: u16, slow: SlowStart) -> u32 {
        match self.plan.node.endpoints[usize::from(at)].since_ms() {
            0 => slow_start::WHOLE,
            since_ms => slow_start::share(self.net.node_ms(), since_ms, millis(slow.window), slow.min_percent, 1.0),
        }
    }

    fn takes_its_turn(&self, at: u16, slow: SlowStart) -> bool {
        self.state.random.below(slow_start::WHOLE.into()) < self.warmth(at, slow).into()
    }

    /// True if this endpoint may have the request, of which the client says that it is its own.
    pub fn may_keep(&self, at: u16) -> bool {
        self.view.tier_of.get(usize::from(at)).is_some_and(|tier| *tier != NO_TIER) && self.may(at)
    }
}

/// Notes for the next choice what an endpoint's answer took, or its failure.
pub fn observe(plan: &ClusterPlan, state: &ClusterState, at: u16, took_ns: u64, net: &Net) {
    if plan.config.balance == Balance::Ewma {
        state.endpoints[usize::from(at)].latency.observe(took_ns, net.node_ns(), LATENCY_TAU_NS);
    }
}
