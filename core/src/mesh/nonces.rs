//! Numbers that may be used once, over all cores of the node: bounded, and never forgotten before their time. What they
//! stand for, and until when, is their owner's business (`filter/hmac`).
//!
//! One lock for each of a few parts, held for a look-up: two cores meet at one seldom, and only with signed requests. The
//! memory is the process's: another process, a restarted one too, knows nothing of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
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
}

#[derive(Debug, Default)]
struct Part {
    /// Until when each is remembered, in seconds since 1970.
    until: HashMap<Nonce, u64>,
    /// The same, the first to end on top.
    ends: BinaryHeap<Reverse<(u64, Nonce)>>,
    /// All that ended later are still known here: a clock that was set back lets none of the others in again.
    forgotten_until: u64,
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
        Nonces { parts: (0..PARTS).map(|_| Mutex::default()).collect() }
    }
}

impl Nonces {
    /// Takes a nonce that must not come again before `until_unix_s`. `max`: of the whole node, in equal parts.
    pub fn claim(&self, nonce: Nonce, until_unix_s: u64, unix_s: u64, max: usize) -> Claim {
        let part = &self.parts[nonce[0] as usize % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner).claim(nonce, until_unix_s, unix_s, max.div_ceil(PARTS))
    }

    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).until.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Part {
    fn claim(&mut self, nonce: Nonce, until_unix_s: u64, unix_s: u64, max: usize) -> Claim {
        self.forget(unix_s);
        if until_unix_s <= unix_s || until_unix_s <= self.forgotten_until {
            return Claim::Late;
        }
        if self.until.get(&nonce).is_some_and(|until| *until > unix_s) {
            return Claim::Used;
        }
        if self.ends.len() >= max {
            return Claim::Full;
        }
        self.until.insert(nonce, until_unix_s);
        self.ends.push(Reverse((until_unix_s, nonce)));
        Claim::New
    }

    fn forget(&mut self, unix_s: u64) {
        for _ in 0..DROPPED_MAX {
            let Some(Reverse((until, nonce))) =
                self.ends.peek().copied().filter(|Reverse((until, _))| *until <= unix_s)
            else {
                return;
            };
            self.ends.pop();
            self.forgotten_until = self.forgotten_until.max(until);
            // One that was used again after its time has another end.
            if self.until.get(&nonce) == Some(&until) {
                self.until.remove(&nonce);
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

    #[test]
    fn a_nonce_is_taken_once_within_its_time() {
        let nonces = Nonces::default();
        assert_eq!(nonces.claim(nonce(1), 100, 50, 1000), Claim::New);
        assert_eq!(nonces.claim(nonce(1), 100, 99, 1000), Claim::Used);
        assert_eq!(nonces.claim(nonce(1), 200, 99, 1000), Claim::Used, "whatever end it comes with");
        assert_eq!(nonces.claim(nonce(1), 100, 100, 1000), Claim::Late);
        assert_eq!(nonces.claim(nonce(1), 200, 100, 1000), Claim::New);
        assert_eq!(nonces.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_lets_none_in_again() {
        let nonces = Nonces::default();
        assert_eq!(nonces.claim(nonce(1), 100, 50, 1000), Claim::New);
        assert_eq!(nonces.claim(nonce(2), 200, 150, 1000), Claim::New);
        assert_eq!(nonces.claim(nonce(1), 100, 60, 1000), Claim::Late);
        assert_eq!(nonces.claim(nonce(2), 200, 60, 1000), Claim::Used);
    }

    #[test]
    fn a_full_part_takes_no_more_until_some_have_ended() {
        let nonces = Nonces::default();
        let max = 10 * PARTS;
        for number in 0..10 {
            assert_eq!(nonces.claim(nonce(number), 100 + number, 0, max), Claim::New);
        }
        assert_eq!(nonces.claim(nonce(10), 100, 0, max), Claim::Full);
        assert_eq!(nonces.claim(nonce(3), 200, 0, max), Claim::Used, "and knows all it has");
        assert_eq!(nonces.claim(nonce(10), 200, 100, max), Claim::New);
        assert_eq!(nonces.claim(nonce(11), 200, 100, max), Claim::Full);
        assert_eq!(nonces.claim(nonce(11), 300, 200, max), Claim::New);
        assert_eq!(nonces.len(), 1);
    }

    #[test]
    fn of_all_cores_one_gets_it() {
        let nonces = Arc::new(Nonces::default());
        let cores: Vec<_> = (0..4)
            .map(|_| {
                let nonces = nonces.clone();
                let claim = move |number| nonces.claim([number, number], 100, 0, 1 << 20) == Claim::New;
                std::thread::spawn(move || (0..10_000).filter(|number| claim(*number)).count())
            })
            .collect();
        let taken: usize = cores.into_iter().map(|core| core.join().unwrap()).sum();
        assert_eq!((taken, nonces.len()), (10_000, 10_000));
    }
}
