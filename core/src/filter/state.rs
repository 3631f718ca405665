//! What filters keep on one core: memory for regular expressions, random numbers, what limits have counted. Made anew
//! with each plan; limits that stay live on.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ahash::AHashMap;
use regex_automata::meta::{Cache, Regex};
use ringway_config::units::Percent;
use smallvec::SmallVec;

use super::codings::Coders;
use super::concurrency_limit::{Places, PlacesSpec};
use super::rate_limit::{Limit, Spec, fleet};
use super::{introspect, oidc};
use crate::identity::{Remembered, TextCache};
use crate::mesh::budget::Moment;
use crate::redis::Cluster as Redis;
use crate::upstream::balance::Random;

/// Passwords that one core remembers to have been good.
const PASSWORDS_MAX: usize = 16_384;

/// What is numbered while a plan is built.
#[derive(Default)]
pub struct Numbers {
    regexes: usize,
    pub limits: Vec<Arc<Spec>>,
    pub places: Vec<Arc<PlacesSpec>>,
}

/// One core's state for the filters of one plan.
pub struct FilterState {
    /// By number; made on first use.
    regexes: Box<[OnceCell<RefCell<Cache>>]>,
    random: Random,
    /// This core's number.
    pub core: usize,
    /// Lives on over plans, as what follows does.
    pub(super) tokens: Rc<Remembered>,
    /// Digests of passwords that were good, and until when they are remembered, in milliseconds of the reactor's clock.
    pub(super) passwords: Rc<RefCell<TextCache<u64>>>,
    pub(super) introspected: Rc<introspect::Memory>,
    pub(super) sessions: Rc<oidc::Memory>,
    /// Requests that wait for keys or for others' work.
    pub(super) waiting: Rc<Cell<u32>>,
    /// Bodies that are under way count over reloads.
    pub(super) coders: Rc<Coders>,
    /// By number.
    limits: Box<[Rc<Limit>]>,
    places: Box<[Rc<Places>]>,
    /// For as long as the process.
    redis: Rc<[Rc<Redis>]>,
}

/// How probable something is, of 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance(u64);

impl Numbers {
    /// The limits that stand in this place first, each with its name and what it counts by.
    pub fn limits_at(&self, place: &str) -> impl Iterator<Item = (&str, &str)> {
        let rates = self.limits.iter().map(|spec| (&spec.place, &spec.name, &spec.same));
        let places = self.places.iter().map(|spec| (&spec.place, &spec.name, &spec.same));
        let here = move |at: &str| at.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('['));
        rates.chain(places).filter(move |(at, _, _)| here(at)).map(|(_, name, same)| (name.as_str(), same.as_str()))
    }

    pub(super) fn regex(&mut self) -> usize {
        self.regexes += 1;
        self.regexes - 1
    }
}

impl FilterState {
    /// `seed` is another one on each core; `before` is what the plan before had.
    pub fn new(
        numbers: &Numbers,
        core: usize,
        seed: u64,
        redis: &Rc<[Rc<Redis>]>,
        before: Option<&FilterState>,
    ) -> FilterState {
        let limits = before.iter().flat_map(|before| &before.limits);
        let limits: AHashMap<&str, &Rc<Limit>> = limits.map(|known| (known.spec.name.as_str(), known)).collect();
        let limit = |spec: &Arc<Spec>| match limits.get(spec.name.as_str()) {
            Some(known) if known.spec.is_as(spec) => Rc::clone(known),
            known => Rc::new(Limit::new(spec, known.map(|known| &***known))),
        };
        let places = before.iter().flat_map(|before| &before.places);
        let places: AHashMap<&str, &Rc<Places>> = places.map(|known| (known.spec.name.as_str(), known)).collect();
        let places = |spec: &Arc<PlacesSpec>| Places::new(spec, places.get(spec.name.as_str()).copied());
        let state = FilterState {
            regexes: (0..numbers.regexes).map(|_| OnceCell::new()).collect(),
            random: Random::new(seed),
            core,
            tokens: before.map(|before| before.tokens.clone()).unwrap_or_default(),
            passwords: before.map_or_else(passwords, |before| before.passwords.clone()),
            introspected: before.map(|before| before.introspected.clone()).unwrap_or_default(),
            sessions: before.map(|before| before.sessions.clone()).unwrap_or_default(),
            waiting: before.map(|before| before.waiting.clone()).unwrap_or_default(),
            coders: before.map(|before| before.coders.clone()).unwrap_or_default(),
            limits: numbers.limits.iter().map(limit).collect(),
            places: numbers.places.iter().map(places).collect(),
            redis: redis.clone(),
        };
        state.beat();
        state
    }

    /// One core tells the fleet that the gateway lives.
    fn beat(&self) {
        let mut told: SmallVec<[&str; 4]> = SmallVec::new();
        for fleet in self.limits.iter().filter_map(|limit| limit.spec.fleet.as_ref()).filter(|_| self.core == 0) {
            if let (false, Some(redis)) = (told.contains(&fleet.redis.as_str()), self.redis(&fleet.redis)) {
                told.push(&fleet.redis);
                fleet::beat(redis, &fleet.node);
            }
        }
    }

    pub(super) fn redis(&self, name: &str) -> Option<&Rc<Redis>> {
        self.redis.iter().find(|redis| redis.is_named(name))
    }

    #[inline]
    pub(super) fn limit(&self, number: usize) -> &Rc<Limit> {
        &self.limits[number]
    }

    pub(super) fn places(&self, number: usize) -> &Places {
        &self.places[number]
    }

    /// True if this core borrows what others may want.
    pub fn borrows(&self) -> bool {
        !self.limits.is_empty()
    }

    /// What was borrowed and not used goes back; to be called often.
    pub fn lend(&self, now: &Moment) {
        self.limits.iter().for_each(|limit| limit.tick(now));
        for limit in &self.limits {
            if let Some((fleet, redis)) =
                limit.spec.fleet.as_ref().and_then(|fleet| Some((fleet, self.redis(&fleet.redis)?)))
            {
                limit.report(fleet, redis);
            }
        }
    }

    /// The core's tick.
    pub fn tick(&self) {
        self.places.iter().for_each(|places| places.tick());
        self.beat();
    }

    /// The memory that the regular expression of this number searches with: its own on each core, so that no search
    /// waits for another core's.
    pub(super) fn regex_cache(&self, number: usize, regex: &Regex) -> &RefCell<Cache> {
        self.regexes[number].get_or_init(|| RefCell::new(regex.create_cache()))
    }

    /// True with that probability. The upper half of a random number is the better one.
    pub fn draw(&self, chance: Chance) -> bool {
        self.random.bits() >> 32 < chance.0
    }
}

fn passwords() -> Rc<RefCell<TextCache<u64>>> {
    Rc::new(RefCell::new(TextCache::new(PASSWORDS_MAX, PASSWORDS_MAX * 256)))
}

impl Chance {
    pub fn of(percent: Percent) -> Chance {
        Chance((u64::from(percent.hundredths) << 32) / 10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within four standard deviations, whatever the seed: a bias of a tenth of a percent would show.
    #[test]
    fn shares_are_exact_over_many_draws() {
        const DRAWS: u32 = 1_000_000;
        for hundredths in [0, 10, 500, 1000, 5000, 9990, 10_000] {
            let percent = Percent { hundredths };
            let chance = Chance::of(percent);
            for seed in [0, 1, 2, u64::MAX] {
                let state = FilterState::new(&Numbers::default(), 0, seed, &Rc::from([]), None);
                let hits = (0..DRAWS).filter(|_| state.draw(chance)).count() as f64;
                let share = percent.fraction();
                let deviation = (f64::from(DRAWS) * share * (1.0 - share)).sqrt();
                let off = (hits - f64::from(DRAWS) * share).abs();
                assert!(off <= 4.0 * deviation, "{share} with seed {seed}: {hits}");
            }
        }
    }

    /// Two chances of one request do not go together.
    #[test]
    fn draws_are_independent() {
        let (state, half) = (
            FilterState::new(&Numbers::default(), 0, 7, &Rc::from([]), None),
            Chance::of(Percent { hundredths: 5000 }),
        );
        let both = (0..100_000).filter(|_| [state.draw(half), state.draw(half)] == [true, true]).count();
        assert!((24_500..25_500).contains(&both), "{both}");
    }
}
