//! Numbers that may be used once, over all cores of the node: bounded, and never forgotten before their time. What they
//! stand for, and for how long they are good, is their owner's business (`filter/hmac`).
//!
//! One lock for each of a few parts, held for a look-up: two cores meet at one seldom, and only with signed requests. The
//! memory is the process's: another process, a restarted one too, knows nothing of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;

/// Parts, each with its own lock.
const PARTS: usize = 64;
/// What is over is thrown away so many at a time: more than come in, and never a long row of them.
const DROPPED_MAX: usize = 32;

/// A digest of what was used, which no client can make equal to another's.
pub type Nonce = [u64; 2];

/// Those of the node.
#[derive(Debug)]
pub struct Nonces {
    parts: Box<[Mutex<Part>]>,
    /// Seconds from its date on for which each is remembered.
    kept_s: AtomicU64,
}

#[derive(Debug, Default)]
struct Part {
    /// The date of each, in seconds since 1970.
    dates: HashMap<Nonce, u64>,
    /// The same, the oldest on top.
    oldest: BinaryHeap<Reverse<(u64, Nonce)>>,
    /// All of a later date are still known here: a clock that was set back lets none of the others in again, nor does a
    /// longer time that they are good for from now on.
    forgotten_to: Option<u64>,
}

/// What became of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is the caller's, and nobody else's from now on.
    New,
    Used,
    /// Its time is over, or it cannot be known any more whether it was used.
    Late,
    /// As many as may be are remembered already.
    Full,
}

impl Default for Nonces {
    fn default() -> Self {
        Nonces { parts: (0..PARTS).map(|_| Mutex::default()).collect(), kept_s: AtomicU64::new(0) }
    }
}

impl Nonces {
    /// Somebody takes them for so many seconds from their date on: none is forgotten before.
    pub fn keep_for(&self, seconds: u64) {
        self.kept_s.fetch_max(seconds, Ordering::Relaxed);
    }

    /// Seconds from its date on for which each is remembered.
    pub fn kept_s(&self) -> u64 {
        self.kept_s.load(Ordering::Relaxed)
    }

    /// Takes a nonce of this date. `max`: of the whole node, in equal parts.
    pub fn claim(&self, nonce: Nonce, date_unix_s: u64, unix_s: u64, max: usize) -> Claim {
        let part = &self.parts[nonce[0] as usize % PARTS];
        // Up to then all are over.
        let over_to = unix_s.checked_sub(self.kept_s());
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        part.claim(nonce, date_unix_s, over_to, max.div_ceil(PARTS))
    }

    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).dates.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Part {
    fn claim(&mut self, nonce: Nonce, date: u64, over_to: Option<u64>, max: usize) -> Claim {
        self.forget(over_to);
        let is_over = |date: u64| over_to.is_some_and(|over_to| date <= over_to);
        if self.dates.get(&nonce).is_some_and(|known| !is_over(*known)) {
            return Claim::Used;
        }
        if is_over(date) || self.forgotten_to.is_some_and(|forgotten_to| date <= forgotten_to) {
            return Claim::Late;
        }
        if self.oldest.len() >= max {
            return Claim::Full;
        }
        self.dates.insert(nonce, date);
        self.oldest.push(Reverse((date, nonce)));
        Claim::New
    }

    fn forget(&mut self, over_to: Option<u64>) {
        for _ in 0..DROPPED_MAX {
            let oldest = self.oldest.peek().copied();
            let Some(Reverse((date, nonce))) = oldest.filter(|Reverse((date, _))| Some(*date) <= over_to) else {
                return;
            };
            self.oldest.pop();
            self.forgotten_to = self.forgotten_to.max(Some(date));
            // One that was used again after its time has another date.
            if self.dates.get(&nonce) == Some(&date) {
                self.dates.remove(&nonce);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// All in one part.
    fn nonce(number: u64) -> Nonce {
        [7, number]
    }

    /// Each good for 50 seconds.
    fn nonces() -> Nonces {
        let nonces = Nonces::default();
        nonces.keep_for(50);
        nonces
    }

    #[test]
    fn a_nonce_is_taken_once_within_its_time() {
        let nonces = nonces();
        assert_eq!(nonces.claim(nonce(1), 50, 50, 1000), Claim::New);
        assert_eq!(nonces.claim(nonce(1), 50, 99, 1000), Claim::Used);
        assert_eq!(nonces.claim(nonce(1), 99, 99, 1000), Claim::Used, "whatever date it comes with");
        assert_eq!(nonces.claim(nonce(1), 50, 100, 1000), Claim::Late);
        assert_eq!(nonces.claim(nonce(1), 100, 100, 1000), Claim::New);
        assert_eq!(nonces.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_lets_none_in_again() {
        let nonces = nonces();
        assert_eq!(nonces.claim(nonce(1), 50, 50, 1000), Claim::New);
        assert_eq!(nonces.claim(nonce(2), 150, 150, 1000), Claim::New);
        assert_eq!(nonces.claim(nonce(1), 50, 60, 1000), Claim::Late);
        assert_eq!(nonces.claim(nonce(2), 150, 60, 1000), Claim::Used);
        assert_eq!(nonces.claim(nonce(3), 60, 60, 1000), Claim::New, "nor does it keep out what is new");
    }

    #[test]
    fn the_longest_time_that_somebody_takes_them_for_counts() {
        let nonces = nonces();
        nonces.keep_for(100);
        nonces.keep_for(10);
        assert_eq!(nonces.claim(nonce(1), 50, 50, 1000), Claim::New);
        assert_eq!(nonces.claim(nonce(1), 50, 149, 1000), Claim::Used);
        assert_eq!(nonces.claim(nonce(2), 150, 150, 1000), Claim::New);
        // What was forgotten before stays out, though it would be young enough from now on.
        nonces.keep_for(1000);
        assert_eq!(nonces.claim(nonce(1), 50, 150, 1000), Claim::Late);
        assert_eq!(nonces.claim(nonce(3), 51, 150, 1000), Claim::New);
    }

    #[test]
    fn a_full_part_takes_no_more_until_some_have_ended() {
        let nonces = nonces();
        let max = 10 * PARTS;
        for number in 0..10 {
            assert_eq!(nonces.claim(nonce(number), 50 + number, 50, max), Claim::New);
        }
        assert_eq!(nonces.claim(nonce(10), 60, 50, max), Claim::Full);
        assert_eq!(nonces.claim(nonce(3), 60, 50, max), Claim::Used, "and knows all it has");
        assert_eq!(nonces.claim(nonce(10), 100, 100, max), Claim::New);
        assert_eq!(nonces.claim(nonce(11), 100, 100, max), Claim::Full);
        assert_eq!(nonces.claim(nonce(11), 200, 200, max), Claim::New);
        assert_eq!(nonces.len(), 1);
    }

    #[test]
    fn of_all_cores_one_gets_it() {
        let nonces = Arc::new(nonces());
        let cores: Vec<_> = (0..4)
            .map(|_| {
                let nonces = nonces.clone();
                let claim = move |number| nonces.claim([number, number], 1, 1, 1 << 20) == Claim::New;
                std::thread::spawn(move || (0..10_000).filter(|number| claim(*number)).count())
            })
            .collect();
        let taken: usize = cores.into_iter().map(|core| core.join().unwrap()).sum();
        assert_eq!((taken, nonces.len()), (10_000, 10_000));
    }
}
