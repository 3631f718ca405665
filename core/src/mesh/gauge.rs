//! How many connections each core holds, for steering new ones. Written on accept, close and hand-off only, never by a
//! request; nothing is decided from it but where a fresh socket goes.
//!
//! One cache line per core that only its owner writes (a plain relaxed store, no locked instruction) and others read.

use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

struct Slot {
    connections: AtomicU32,
    /// Sockets that arrived from core i, ever (wraps). With what core i has sent, i knows what is still under way:
    /// without that, a burst that lands on one core would all go to the same "empty" neighbour.
    arrived: Box<[AtomicU32]>,
}

/// All cores' gauges. Made once; each core takes its own.
#[derive(Clone)]
pub struct CoreGauges {
    slots: Arc<[CachePadded<Slot>]>,
}

impl CoreGauges {
    pub fn new(cores: usize) -> CoreGauges {
        let counters = |_| AtomicU32::new(0);
        let slot = |_| Slot { connections: AtomicU32::new(0), arrived: (0..cores).map(counters).collect() };
        CoreGauges { slots: (0..cores).map(|core| CachePadded::new(slot(core))).collect() }
    }

    pub fn connections(&self, core: usize) -> u32 {
        self.slots[core].connections.load(Ordering::Relaxed)
    }

    /// One per core: two owners of one gauge would lose counts (not memory).
    pub fn own(&self, core: usize) -> CoreGauge {
        assert!(core < self.slots.len(), "core {core} of {}", self.slots.len());
        CoreGauge { all: self.clone(), core, sent: vec![Cell::new(0); self.slots.len()].into() }
    }
}

/// The gauge of one core, in its owner's hands.
pub struct CoreGauge {
    all: CoreGauges,
    core: usize,
    /// Sockets this core has handed to core i, ever (wraps).
    sent: Box<[Cell<u32>]>,
}

impl CoreGauge {
    pub fn opened(&self) {
        let own = &self.all.slots[self.core].connections;
        own.store(own.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub fn closed(&self) {
        let own = &self.all.slots[self.core].connections;
        let open = own.load(Ordering::Relaxed);
        debug_assert!(open > 0, "a connection closed that never opened");
        own.store(open.saturating_sub(1), Ordering::Relaxed);
    }

    /// This core has put a socket into core `to`'s inbox.
    pub fn handed_off(&self, to: usize) {
        self.sent[to].set(self.sent[to].get().wrapping_add(1));
    }

    /// A socket came from core `from`. Call `opened` first, so that it is not missing from both counts in between.
    pub fn arrived(&self, from: usize) {
        let own = &self.all.slots[self.core].arrived[from];
        own.store(own.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    pub fn connections(&self) -> u32 {
        self.all.connections(self.core)
    }

    /// The core with the fewest connections, those that this core has under way to it included. Ties: this core first
    /// (a hand-off costs a message and cold caches), then the next one after it, so that cores do not all pick the
    /// same.
    pub fn least_loaded(&self) -> usize {
        let cores = self.all.slots.len();
        let from_own = (0..cores).map(|step| (self.core + step) % cores);
        from_own.min_by_key(|core| self.load(*core)).unwrap_or(self.core)
    }

    fn load(&self, core: usize) -> u32 {
        let slot = &self.all.slots[core];
        let under_way = self.sent[core].get().wrapping_sub(slot.arrived[self.core].load(Ordering::Relaxed));
        slot.connections.load(Ordering::Relaxed).saturating_add(under_way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(cores: usize) -> Vec<CoreGauge> {
        let all = CoreGauges::new(cores);
        (0..cores).map(|core| all.own(core)).collect()
    }

    #[test]
    fn ties_stay_at_home_then_go_round() {
        let node = node(3);
        assert_eq!(node[1].least_loaded(), 1);
        node[1].opened();
        assert_eq!(node[1].least_loaded(), 2);
        node[2].opened();
        assert_eq!(node[1].least_loaded(), 0);
        node[0].opened();
        assert_eq!(node[1].least_loaded(), 1);
    }

    #[test]
    fn the_least_loaded_core_is_found_and_closing_counts() {
        let node = node(2);
        (0..5).for_each(|_| node[0].opened());
        (0..3).for_each(|_| node[1].opened());
        assert_eq!((node[0].least_loaded(), node[1].least_loaded()), (1, 1));
        (0..4).for_each(|_| node[0].closed());
        assert_eq!((node[0].least_loaded(), node[1].least_loaded()), (0, 0));
        assert_eq!((node[0].connections(), node[1].connections()), (1, 3));
    }

    /// 60 connections land on core 0 before the others have turned their loops once.
    #[test]
    fn a_burst_is_spread_before_anyone_has_answered() {
        let node = node(3);
        let mut handed = [0; 3];
        for _ in 0..60 {
            let to = node[0].least_loaded();
            handed[to] += 1;
            if to == 0 { node[0].opened() } else { node[0].handed_off(to) }
        }
        assert_eq!(handed, [20, 20, 20]);
        for _ in 0..20 {
            node[1].opened();
            node[1].arrived(0);
        }
        assert_eq!(node[0].load(1), 20, "arrived is no longer under way");
        assert_eq!(node[0].load(2), 20, "still under way");
    }

    #[test]
    fn each_core_has_its_own_cache_line() {
        let all = CoreGauges::new(2);
        let [first, second] = [0, 1].map(|core| &raw const *all.slots[core] as usize);
        assert!(second - first >= 128, "adjacent-line prefetch pulls pairs of 64-byte lines");
    }
}
