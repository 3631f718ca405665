//! A number of places for the whole node, lent to cores in batches: requests under way, connections, connects. Knows
//! nobody who waits for one.
//!
//! Never more places are in use than there are. A core keeps a few free ones for itself, so that taking and giving back
//! mostly touch its own memory; when another core finds none left, those come back with the next one that is given back
//! or at the owner's tick. So at any moment at least seven of eight places can be used by whoever asks, all of them
//! once every core has ticked; with fewer than eight places a core none are kept at all.

use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Of all places, what all cores together keep unused is at most one in so many.
const KEPT_SHARE: u32 = 8;
/// The places of the node.
#[derive(Debug)]
pub struct Quota {
    /// Neither in use nor kept by a core. Below zero while a lowered maximum is still exceeded.
    free: CachePadded<AtomicI64>,
    /// How often a core has found none.
    hunger: CachePadded<AtomicU64>,
    max: AtomicI64,
}

impl Quota {
    pub fn new(max: u32) -> Arc<Quota> {
        Arc::new(Quota::of(max))
    }

    pub fn of(max: u32) -> Quota {
        let free = CachePadded::new(AtomicI64::new(max.into()));
        Quota { free, hunger: CachePadded::new(AtomicU64::new(0)), max: AtomicI64::new(max.into()) }
    }

    /// Places that are taken stay taken; with a lower maximum the next ones wait until there are fewer.
    pub fn set_max(&self, max: u32) {
        let before = self.max.swap(max.into(), Ordering::Relaxed);
        self.free.fetch_add(i64::from(max) - before, Ordering::Relaxed);
    }

    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed) as u32
    }

    /// Places that cores hold, in use or kept.
    pub fn lent(&self) -> u64 {
        (self.max.load(Ordering::Relaxed) - self.free.load(Ordering::Relaxed)).max(0) as u64
    }

    fn take(&self) -> bool {
        let mut free = self.free.load(Ordering::Relaxed);
        while free > 0 {
            match self.free.compare_exchange_weak(free, free - 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => free = now,
            }
        }
        false
    }

    fn give(&self, count: u32) {
        self.free.fetch_add(count.into(), Ordering::Relaxed);
    }
}

/// What one core has of a quota.
#[derive(Debug)]
pub struct Share {
    quota: Arc<Quota>,
    kept: Cell<u32>,
    /// This core's part of the hunger.
    own_hunger: Cell<u64>,
    /// The others' hunger at the last two ticks, the older one first.
    known_hunger: Cell<[u64; 2]>,
    cores: u32,
}

impl Share {
    pub fn new(quota: Arc<Quota>, cores: usize) -> Share {
        let hunger = quota.hunger.load(Ordering::Relaxed);
        let (kept, own_hunger, known_hunger) = (Cell::new(0), Cell::new(0), Cell::new([hunger; 2]));
        Share { quota, kept, own_hunger, known_hunger, cores: cores.max(1) as u32 }
    }

    /// Places of the whole node.
    pub fn max(&self) -> u32 {
        self.quota.max()
    }

    /// True: the caller has a place, and gives it back in the end.
    pub fn take(&self) -> bool {
        if let Some(left) = self.kept.get().checked_sub(1) {
            self.kept.set(left);
            return true;
        }
        let taken = self.quota.take();
        if !taken {
            self.own_hunger.set(self.own_hunger.get() + 1);
            self.quota.hunger.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    pub fn give(&self) {
        if self.kept.get() < self.kept_max() && !self.is_wanted_elsewhere() {
            self.kept.set(self.kept.get() + 1);
            return;
        }
        self.quota.give(1 + self.kept.take());
    }

    /// The core's tick: what nobody here has needed goes to the others.
    pub fn tick(&self) {
        self.return_kept();
        let [_, last] = self.known_hunger.get();
        self.known_hunger.set([last, self.others_hunger()]);
    }

    fn return_kept(&self) {
        let kept = self.kept.take();
        if kept > 0 {
            self.quota.give(kept);
        }
    }

    /// True if another core has found no place since the tick before the last.
    pub fn is_wanted_elsewhere(&self) -> bool {
        self.others_hunger() != self.known_hunger.get()[0]
    }

    fn others_hunger(&self) -> u64 {
        self.quota.hunger.load(Ordering::Relaxed).wrapping_sub(self.own_hunger.get())
    }

    fn kept_max(&self) -> u32 {
        self.quota.max() / (KEPT_SHARE * self.cores)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.return_kept();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_the_maximum_and_none_is_lost() {
        for (max, cores) in [(1, 4), (7, 2), (100, 4), (1000, 7)] {
            let quota = Quota::new(max);
            let shares: Vec<Share> = (0..cores).map(|_| Share::new(quota.clone(), cores)).collect();
            let taken = (0..max * 2).filter(|n| shares[*n as usize % cores].take()).count();
            assert_eq!(taken, max as usize, "{max} places, {cores} cores");
            for number in 0..max as usize {
                shares[number % cores].give();
            }
            shares.iter().for_each(Share::tick);
            assert_eq!(quota.lent(), 0);
        }
    }

    #[test]
    fn a_core_that_finds_none_gets_what_others_keep() {
        let quota = Quota::new(64);
        let (one, other) = (Share::new(quota.clone(), 2), Share::new(quota.clone(), 2));
        assert_eq!((0..64).filter(|_| one.take()).count(), 64);
        (0..3).for_each(|_| one.give());
        assert_eq!(quota.lent(), 64, "one keeps up to four of them");
        assert!(!other.take(), "hungry from now on");
        assert!(one.is_wanted_elsewhere() && !other.is_wanted_elsewhere());
        one.give();
        assert_eq!((0..4).filter(|_| other.take()).count(), 4, "with the next one all come back");
        one.tick();
        assert!(one.is_wanted_elsewhere(), "a tick may come right after it");
        one.tick();
        one.give();
        assert_eq!((one.is_wanted_elsewhere(), quota.lent()), (false, 64));
        one.tick();
        assert!(other.take(), "or with the tick");
    }

    #[test]
    fn most_places_are_at_hand_whoever_asks() {
        let (max, cores) = (800, 4);
        let quota = Quota::new(max);
        let shares: Vec<Share> = (0..cores).map(|_| Share::new(quota.clone(), cores)).collect();
        for share in &shares[1..] {
            assert_eq!((0..200).filter(|_| share.take()).count(), 200);
            (0..200).for_each(|_| share.give());
        }
        let at_hand = (0..max).filter(|_| shares[0].take()).count();
        assert!(at_hand >= 700, "{at_hand} of {max}");
    }

    #[test]
    fn a_maximum_can_change_while_places_are_taken() {
        let quota = Quota::new(10);
        let share = Share::new(quota.clone(), 1);
        assert_eq!((0..10).filter(|_| share.take()).count(), 10);
        quota.set_max(4);
        (0..6).for_each(|_| share.give());
        assert!(!share.take(), "four are in use");
        share.give();
        assert!(share.take() && !share.take());
        quota.set_max(5);
        assert!(share.take());
        assert_eq!(quota.lent(), 5);
    }

    #[test]
    fn many_cores_at_once_stay_within_it() {
        const MAX: u32 = 40;
        let quota = Quota::new(MAX);
        let in_use = Arc::new(AtomicI64::new(0));
        let cores: Vec<_> = (0..4)
            .map(|_| {
                let (quota, in_use) = (quota.clone(), in_use.clone());
                std::thread::spawn(move || {
                    let share = Share::new(quota, 4);
                    for _ in 0..20_000 {
                        let mine = (0..16).filter(|_| share.take()).count() as i64;
                        assert!(in_use.fetch_add(mine, Ordering::SeqCst) + mine <= MAX.into());
                        in_use.fetch_sub(mine, Ordering::SeqCst);
                        (0..mine).for_each(|_| share.give());
                    }
                })
            })
            .collect();
        cores.into_iter().for_each(|core| core.join().unwrap());
        assert_eq!(quota.lent(), 0);
    }
}
