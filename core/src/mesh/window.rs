//! Counts over the last while, kept by each core for itself and added up by whoever asks. Judges nothing (`upstream`).
//!
//! A core writes its own slot alone, by plain stores: counting costs it what a `Cell` costs. A reader adds the slots up
//! and may miss what is being counted at that moment.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps in which a window rolls on; Hystrix's `rollingStats.numBuckets`.
pub const STEPS: usize = 10;

/// `KINDS` different counts over `N` steps of time.
#[derive(Debug)]
pub struct Window<const KINDS: usize, const N: usize = STEPS> {
    /// By core.
    slots: Box<[CachePadded<[Step<KINDS>; N]>]>,
    /// Steps of another epoch count as empty.
    epoch: AtomicU64,
}

#[derive(Debug)]
struct Step<const KINDS: usize> {
    /// Epoch and number of the step that the counts belong to; 0: being emptied.
    tag: AtomicU64,
    counts: [AtomicU64; KINDS],
}

impl<const KINDS: usize> Step<KINDS> {
    fn new() -> Self {
        Step { tag: AtomicU64::new(0), counts: [const { AtomicU64::new(0) }; KINDS] }
    }
}

/// Epochs wrap here; a step is not older than `N` when it is looked at, so that none is taken for another's.
const EPOCHS: u64 = 1 << 16;

fn tag(epoch: u64, number: u64) -> u64 {
    ((number + 1) << 16) | (epoch % EPOCHS)
}

impl<const KINDS: usize, const N: usize> Window<KINDS, N> {
    pub fn new(cores: usize) -> Self {
        let slot = |_| CachePadded::new(std::array::from_fn(|_| Step::new()));
        Window { slots: (0..cores).map(slot).collect(), epoch: AtomicU64::new(0) }
    }

    /// Counts `more` of `kind` for `core`, whose own thread calls. `step_ms` is one of the window's `N` parts.
    pub fn add(&self, core: usize, now_ms: u64, step_ms: u64, kind: usize, more: u64) {
        let number = now_ms / step_ms;
        let wanted = tag(self.epoch.load(Ordering::Relaxed), number);
        let step = &self.slots[core][(number % N as u64) as usize];
        if step.tag.load(Ordering::Relaxed) != wanted {
            step.tag.store(0, Ordering::Relaxed);
            for count in &step.counts {
                count.store(0, Ordering::Release); // a reader who sees it sees the tag taken away, too
            }
            step.tag.store(wanted, Ordering::Release);
        }
        let count = &step.counts[kind];
        count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    /// What all cores have counted in the last `N` steps, the present one included.
    pub fn sum(&self, now_ms: u64, step_ms: u64) -> [u64; KINDS] {
        let mut sum = [0; KINDS];
        let (epoch, last) = (self.epoch.load(Ordering::Relaxed), now_ms / step_ms);
        for back in 0..(N as u64).min(last + 1) {
            let number = last - back;
            let wanted = tag(epoch, number);
            for slot in &self.slots {
                let step = &slot[(number % N as u64) as usize];
                if step.tag.load(Ordering::Acquire) != wanted {
                    continue;
                }
                let counts = step.counts.each_ref().map(|count| count.load(Ordering::Acquire));
                if step.tag.load(Ordering::Relaxed) == wanted {
                    std::iter::zip(&mut sum, counts).for_each(|(sum, count)| *sum += count);
                }
            }
        }
        sum
    }

    /// Forgets everything, for every core.
    pub fn reset(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const STEP_MS: u64 = 1000;

    #[test]
    fn cores_add_up_and_what_is_old_drops_out_step_by_step() {
        let window = Window::<2>::new(3);
        window.add(0, 0, STEP_MS, 0, 1);
        window.add(1, 999, STEP_MS, 0, 2);
        window.add(2, 1000, STEP_MS, 1, 4);
        assert_eq!(window.sum(1000, STEP_MS), [3, 4]);
        assert_eq!(window.sum(9_999, STEP_MS), [3, 4]);
        assert_eq!(window.sum(10_000, STEP_MS), [0, 4]);
        assert_eq!(window.sum(11_000, STEP_MS), [0, 0]);
        window.add(0, 10_500, STEP_MS, 1, 7);
        assert_eq!(window.sum(10_500, STEP_MS), [0, 11], "the place of step 0 serves step 10");
    }

    #[test]
    fn a_reset_forgets_what_every_core_has() {
        let window = Window::<1>::new(2);
        window.add(0, 5, STEP_MS, 0, 1);
        window.add(1, 5, STEP_MS, 0, 1);
        window.reset();
        assert_eq!(window.sum(5, STEP_MS), [0]);
        window.add(1, 5, STEP_MS, 0, 1);
        assert_eq!(window.sum(5, STEP_MS), [1]);
    }

    #[test]
    fn after_a_long_rest_nothing_is_left() {
        let window = Window::<1>::new(1);
        window.add(0, 1, STEP_MS, 0, 9);
        assert_eq!(window.sum(1_000_000, STEP_MS), [0]);
    }

    #[test]
    fn while_cores_count_a_reader_never_sees_more_than_there_is() {
        let window = Arc::new(Window::<1>::new(2));
        let writers: Vec<_> = (0..2)
            .map(|core| {
                let window = window.clone();
                std::thread::spawn(move || (0..100_000).for_each(|now| window.add(core, now, 10, 0, 1)))
            })
            .collect();
        for now in 0..1000 {
            // 100 milliseconds of two cores that count once each.
            assert!(window.sum(now * 100, 10)[0] <= 200);
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(window.sum(99_999, 10), [200]);
    }
}
