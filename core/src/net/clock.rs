//! The time of one core: when this turn began, milliseconds for its deadlines, milliseconds that all cores of the node
//! share. Arms nothing (`wheel`).

use std::cell::Cell;
use std::time::{self, Duration};

use quanta::Instant;

/// A turn or a wait that takes this much longer than it should does so because the core did not run: the process was
/// stopped, the machine suspended or its CPU taken away. No deadline may fall into such a time, for what came in it has
/// not been looked at.
const UNNOTICED: Duration = Duration::from_secs(1);
/// The node's time is read from the kernel's clock so often, and counted on by the CPU's counter in between. How long a
/// tick of that is was measured once: a machine that was busy then may be off by some 100 parts in a million, and the
/// kernel's own clock is disciplined by as much. Limits must not be.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const NS_PER_MS: u64 = 1_000_000;

pub(super) struct CoreClock {
    clock: quanta::Clock,
    started: Instant,
    /// When the completions of this turn were reaped.
    turn_at: Cell<Instant>,
    now_ms: Cell<u64>,
    /// Time that the deadlines leave out.
    left_out: Cell<Duration>,
    /// When the node's time began.
    epoch: Cell<time::Instant>,
    /// The last look at the kernel's clock, and what it said.
    looked: Cell<(Instant, u64)>,
    node_ns: Cell<u64>,
    node_ms: Cell<u64>,
}

impl CoreClock {
    pub(super) fn new() -> CoreClock {
        CoreClock::counting_by(quanta::Clock::new())
    }

    fn counting_by(clock: quanta::Clock) -> CoreClock {
        let started = clock.now();
        CoreClock {
            clock,
            started,
            turn_at: Cell::new(started),
            now_ms: Cell::new(0),
            left_out: Cell::new(Duration::ZERO),
            epoch: Cell::new(time::Instant::now()),
            looked: Cell::new((started, 0)),
            node_ns: Cell::new(0),
            node_ms: Cell::new(0),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Of the CPU's counter: the cheapest look at the time.
    #[inline]
    pub(super) fn ticks(&self) -> u64 {
        self.clock.raw()
    }

    /// What so many ticks are in time.
    pub(super) fn time_of(&self, ticks: u64) -> Duration {
        Duration::from_nanos(self.clock.delta_as_nanos(0, ticks))
    }

    /// How many ticks that is, about.
    pub(super) fn ticks_of(&self, time: Duration) -> u64 {
        const MANY: u64 = 1 << 30;
        (time.as_nanos() * u128::from(MANY) / self.time_of(MANY).as_nanos().max(1)) as u64
    }

    pub(super) fn turn_at(&self) -> Instant {
        self.turn_at.get()
    }

    /// Milliseconds since the clock was made, as of this turn; times in which the core could not run are left out.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    pub(super) fn ms_at(&self, now: Instant) -> u64 {
        (now - self.started).saturating_sub(self.left_out.get()).as_millis() as u64
    }

    pub(super) fn left_out(&self) -> Duration {
        self.left_out.get()
    }

    pub(super) fn node_ms(&self) -> u64 {
        self.node_ms.get()
    }

    pub(super) fn node_ns(&self) -> u64 {
        self.node_ns.get()
    }

    pub(super) fn set_epoch(&self, epoch: time::Instant) {
        self.epoch.set(epoch);
        self.look_at_node_time();
    }

    fn look_at_node_time(&self) {
        let ns = self.epoch.get().elapsed().as_nanos() as u64;
        // Asked second: a core that does not run in between has a time that is behind until the next look, never one that
        // is ahead and by which a limit gives what is not there yet.
        self.looked.set((self.clock.now(), ns));
        self.set_node_time(ns);
    }

    /// `ns` is of the moment itself: what is added up from rounded parts differs from core to core.
    fn set_node_time(&self, ns: u64) {
        let ns = ns.max(self.node_ns.get()); // two clocks may disagree, and time goes on
        self.node_ns.set(ns);
        self.node_ms.set(ns / NS_PER_MS);
    }

    /// Takes what `took` was longer than it should out of the deadlines' time.
    pub(super) fn leave_out(&self, took: Duration, should: Duration) {
        let beyond = took.saturating_sub(should);
        if beyond > UNNOTICED {
            self.left_out.set(self.left_out.get() + beyond);
        }
    }

    /// A turn begins; true if its millisecond is a new one.
    pub(super) fn begin_turn(&self, now: Instant) -> bool {
        self.turn_at.set(now);
        let (looked_at, looked_ns) = self.looked.get();
        let since = now.saturating_duration_since(looked_at);
        match since < LOOK_EVERY {
            true => self.set_node_time(looked_ns + since.as_nanos() as u64),
            false => self.look_at_node_time(),
        }
        let now_ms = self.ms_at(now);
        self.now_ms.replace(now_ms) != now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_time_is_the_kernels_however_fast_the_counter_goes() {
        let (counter, ticks) = quanta::Clock::mock();
        let (clock, epoch) = (CoreClock::counting_by(counter), time::Instant::now());
        clock.set_epoch(epoch);
        ticks.increment(3_600_000_000_000_u64);
        clock.begin_turn(clock.now());
        let ns = u128::from(clock.node_ns());
        assert!(ns <= epoch.elapsed().as_nanos(), "{ns}");
        // Within a millisecond the counter counts.
        ticks.increment(700_000_u64);
        clock.begin_turn(clock.now());
        assert_eq!(u128::from(clock.node_ns()), ns + 700_000);
        // The kernel's clock has not gone on by as much, and the node's does not go back.
        ticks.increment(1_000_000_u64);
        clock.begin_turn(clock.now());
        assert!(u128::from(clock.node_ns()) >= ns + 700_000);
    }

    #[test]
    fn cores_begin_at_the_nodes_time() {
        let epoch = time::Instant::now().checked_sub(Duration::from_secs(5)).expect("the machine is up");
        let clock = CoreClock::new();
        clock.set_epoch(epoch);
        let ms = u128::from(clock.node_ms());
        assert!((5_000..=epoch.elapsed().as_millis()).contains(&ms), "{ms}");
    }
}
