//! Work that is done once for the node, however many requests on however many cores want what comes of it: a session that is
//! renewed, a document that is looked up. Who comes first does it; the others look until it is done, and who comes a short
//! while later finds the same. What the work is, and where it is done, is its owner's business (`filter/oidc`).
//!
//! One lock, held for a look-up: for what is rare beside a request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::Nonce;

/// Finished work is looked through for what may be forgotten so often at most, when there is no room.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Less is not worth looking through.
const SWEPT_MIN: usize = 64;

/// By a digest of what the work is about.
#[derive(Debug)]
pub struct Joint<T> {
    known: Mutex<Known<T>>,
    max: usize,
}

#[derive(Debug)]
struct Known<T> {
    works: HashMap<Nonce, Work<T>>,
    /// With so many, those that nobody wants any more are thrown out.
    sweep_at: usize,
    swept: Option<Instant>,
}

#[derive(Debug)]
enum Work<T> {
    UnderWay,
    /// And until when it is known.
    Done(T, Instant),
}

/// Whose turn it is.
#[derive(Debug)]
pub enum Turn<T: Clone> {
    /// The caller's: he does it.
    Mine(Doing<T>),
    /// Somebody does it already.
    Others,
    /// It was done a short while ago.
    Done(T),
    /// As much as may be is known or under way.
    Full,
}

/// What became of work.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress<T> {
    UnderWay,
    Done(T),
    /// Nobody does it, or whoever did it gave up.
    Nothing,
}

/// Work that is the holder's to do; dropped, it is nobody's any more.
#[derive(Debug)]
pub struct Doing<T: Clone> {
    joint: Arc<Joint<T>>,
    key: Nonce,
}

impl<T: Clone> Joint<T> {
    /// `max`: works that are known or under way.
    pub fn new(max: usize) -> Joint<T> {
        Joint { known: Mutex::new(Known { works: HashMap::new(), sweep_at: SWEPT_MIN, swept: None }), max }
    }

    pub fn turn(self: &Arc<Self>, key: Nonce, now: Instant) -> Turn<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = match known.works.get(&key) {
            Some(Work::UnderWay) => return Turn::Others,
            Some(Work::Done(result, until)) if now < *until => return Turn::Done(result.clone()),
            Some(Work::Done(..)) => false,
            None => true,
        };
        if is_new && !known.has_room(now, self.max) {
            return Turn::Full;
        }
        known.works.insert(key, Work::UnderWay);
        Turn::Mine(Doing { joint: self.clone(), key })
    }

    pub fn progress(&self, key: Nonce, now: Instant) -> Progress<T> {
        match self.known.lock().unwrap_or_else(PoisonError::into_inner).works.get(&key) {
            Some(Work::UnderWay) => Progress::UnderWay,
            Some(Work::Done(result, until)) if now < *until => Progress::Done(result.clone()),
            _ => Progress::Nothing,
        }
    }
}

impl<T> Known<T> {
    fn has_room(&mut self, now: Instant, max: usize) -> bool {
        if self.works.len() < self.sweep_at.min(max) {
            return true;
        }
        let is_full = self.works.len() >= max;
        if is_full && self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_EVERY) {
            return false;
        }
        self.swept = Some(now);
        self.works.retain(|_, work| match work {
            Work::UnderWay => true,
            Work::Done(_, until) => now < *until,
        });
        self.sweep_at = 2 * self.works.len() + SWEPT_MIN;
        self.works.len() < max
    }
}

impl<T: Clone> Doing<T> {
    /// The result is known until then.
    pub fn done(self, result: T, until: Instant) {
        let mut known = self.joint.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.works.insert(self.key, Work::Done(result, until));
    }
}

impl<T: Clone> Drop for Doing<T> {
    fn drop(&mut self) {
        let mut known = self.joint.known.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(known.works.get(&self.key), Some(Work::UnderWay)) {
            known.works.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Nonce = [1, 2];

    fn mine(turn: Turn<u32>) -> Doing<u32> {
        match turn {
            Turn::Mine(doing) => doing,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_does_it_and_the_others_find_what_came_of_it() {
        let (joint, now) = (Arc::new(Joint::new(8)), Instant::now());
        let doing = mine(joint.turn(KEY, now));
        assert!(matches!(joint.turn(KEY, now), Turn::Others));
        assert_eq!(joint.progress(KEY, now), Progress::UnderWay);
        doing.done(7, now + Duration::from_secs(10));
        assert!(matches!(joint.turn(KEY, now + Duration::from_secs(9)), Turn::Done(7)));
        assert_eq!(joint.progress(KEY, now), Progress::Done(7));
        assert_eq!(joint.progress(KEY, now + Duration::from_secs(10)), Progress::Nothing);
        assert!(matches!(joint.turn(KEY, now + Duration::from_secs(10)), Turn::Mine(_)));
    }

    #[test]
    fn work_that_was_given_up_is_the_next_ones() {
        let (joint, now) = (Arc::new(Joint::new(8)), Instant::now());
        drop(mine(joint.turn(KEY, now)));
        assert_eq!(joint.progress(KEY, now), Progress::Nothing);
        drop(mine(joint.turn(KEY, now)));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (joint, now) = (Arc::new(Joint::new(2)), Instant::now());
        let open = mine(joint.turn([0, 0], now));
        mine(joint.turn([0, 1], now)).done(1, now + Duration::from_secs(5));
        assert!(matches!(joint.turn([0, 2], now), Turn::Full));
        assert!(matches!(joint.turn([0, 2], now + Duration::from_secs(6)), Turn::Mine(_)), "one was forgotten");
        assert!(matches!(joint.turn([0, 0], now + Duration::from_secs(6)), Turn::Others), "not the one under way");
        drop(open);
    }

    #[test]
    fn what_is_over_is_thrown_out_long_before_there_is_no_room() {
        let (joint, start) = (Arc::new(Joint::new(1 << 20)), Instant::now());
        for number in 0..10_000 {
            let now = start + Duration::from_millis(number);
            mine(joint.turn([0, number], now)).done(1, now + Duration::from_millis(100));
        }
        assert!(joint.known.lock().unwrap().works.len() < 400);
    }

    #[test]
    fn of_all_cores_one_does_it() {
        let joint = Arc::new(Joint::new(8));
        let cores: Vec<_> = (0..8)
            .map(|_| {
                let joint = joint.clone();
                std::thread::spawn(move || match joint.turn(KEY, Instant::now()) {
                    Turn::Mine(doing) => {
                        doing.done(1, Instant::now() + Duration::from_secs(60));
                        1
                    }
                    _ => 0,
                })
            })
            .collect();
        assert_eq!(cores.into_iter().map(|core| core.join().unwrap()).sum::<i32>(), 1);
    }
}
