//! The budgets of one rule, by key, and where keys stood by the rule's terms before: a reload that changes a rule gives
//! nobody a full budget anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Found, Keyed, Moment, Store, Terms};
use crate::mesh::Word;

/// Terms that were in force before, whose levels may still be asked for.
const BEFORE_MAX: usize = 8;

#[derive(Debug)]
pub struct Budgets {
    terms: Terms,
    keys: Keyed<Store>,
    before: Mutex<Option<Before>>,
}

#[derive(Debug)]
struct Before {
    budgets: Arc<Budgets>,
    /// By then whatever it has is full; known once somebody asks.
    until_ns: Option<u64>,
}

impl Budgets {
    pub fn new(terms: Terms, keys_max: usize, before: Option<Arc<Budgets>>) -> Budgets {
        let before = before.map(|budgets| {
            budgets.forget_beyond(BEFORE_MAX - 1);
            Before { budgets, until_ns: None }
        });
        Budgets { terms, keys: Keyed::new(keys_max, terms.store()), before: Mutex::new(before) }
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    pub fn keys(&self) -> &Keyed<Store> {
        &self.keys
    }

    pub fn find(&self, digest: u128, now: &Moment) -> Found<Store> {
        let make = || self.stood(digest, now).unwrap_or_else(|| self.terms.store());
        self.keys.find(digest, make, |store| self.terms.is_idle(store, now))
    }

    /// Where the key stood by the terms before.
    fn stood(&self, digest: u128, now: &Moment) -> Option<Store> {
        let before = self.before(now)?;
        let old = before.keys.known(digest).or_else(|| before.stood(digest, now).map(Arc::new))?;
        Some(self.terms.carry(&old, &before.terms, now))
    }

    fn before(&self, now: &Moment) -> Option<Arc<Budgets>> {
        let mut before = lock(&self.before);
        let found = before.as_mut()?;
        let refilled_ns = now.ns.saturating_add(found.budgets.terms.refill_ns());
        if *found.until_ns.get_or_insert(refilled_ns) <= now.ns {
            *before = None;
            return None;
        }
        Some(found.budgets.clone())
    }

    fn forget_beyond(&self, count: usize) {
        let mut before = lock(&self.before);
        match (&*before, count) {
            (Some(_), 0) => *before = None,
            (Some(Before { budgets, .. }), _) => budgets.forget_beyond(count - 1),
            (None, _) => {}
        }
    }
}

/// What a rule is to the node, by its name and over reloads.
#[derive(Debug, Default)]
pub struct Rule {
    pub counts: Counts,
    /// What makes keys comparable, the size of the table, and the budgets that cores use.
    current: Mutex<Option<(String, usize, Arc<Budgets>)>>,
}

/// As of the last ticks of the cores.
#[derive(Debug, Default)]
pub struct Counts {
    pub allowed: Word,
    pub denied: Word,
    pub delayed: Word,
    /// Requests that shared the budget of new keys, since the table was full.
    pub overflowed: Word,
    /// Keys that cores keep for themselves.
    pub keys: Word,
    /// Questions to the server that a fleet shares, by what came of them.
    pub lent: Word,
    pub refused: Word,
    pub failed: Word,
}

impl Rule {
    /// The rule's budgets by these terms, for a plan that may come to serve. `same` names what makes two keys the same
    /// key: with another one all begin anew.
    pub fn budgets(&self, terms: Terms, keys_max: usize, same: &str) -> Arc<Budgets> {
        let current = lock(&self.current);
        let known = current.as_ref().filter(|(name, _, _)| name == same);
        if let Some((_, max, budgets)) = known
            && *max == keys_max
            && *budgets.terms() == terms
        {
            return budgets.clone();
        }
        let before = known.map(|(_, _, budgets)| budgets.clone());
        Arc::new(Budgets::new(terms, keys_max, before))
    }

    /// A core uses them from now on.
    pub fn adopt(&self, keys_max: usize, same: &str, budgets: &Arc<Budgets>) {
        *lock(&self.current) = Some((same.to_owned(), keys_max, budgets.clone()));
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
