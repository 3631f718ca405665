//! The time of one core: when this turn began, milliseconds for its deadlines, milliseconds that all cores of the node
//! share. Arms nothing (`wheel`).

use std::cell::Cell;
use std::time::Duration;

use quanta::Instant;

/// A turn or a wait that takes this much longer than it should does so because the core did not run: the process was
/// stopped, the machine suspended or its CPU taken away. No deadline may fall into such a time, for what came in it has
/// not been looked at.
const UNNOTICED: Duration = Duration::from_secs(1);
const NS_PER_MS: u64 = 1_000_000;

pub(super) struct CoreClock {
    clock: quanta::Clock,
    started: Instant,
    /// When the completions of this turn were reaped.
    turn_at: Cell<Instant>,
    now_ms: Cell<u64>,
    /// Time that the deadlines leave out.
    left_out: Cell<Duration>,
    /// From the beginning of the node's time to that of this clock.
    since_epoch: Cell<Duration>,
    node_ns: Cell<u64>,
    node_ms: Cell<u64>,
}

impl CoreClock {
    pub(super) fn new() -> CoreClock {
        let clock = quanta::Clock::new();
        let started = clock.now();
        CoreClock {
            clock,
            started,
            turn_at: Cell::new(started),
            now_ms: Cell::new(0),
            left_out: Cell::new(Duration::ZERO),
            since_epoch: Cell::new(Duration::ZERO),
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

    pub(super) fn set_epoch(&self, epoch: Instant) {
        self.since_epoch.set(self.started.saturating_duration_since(epoch));
        self.note_node_time(self.turn_at.get());
    }

    /// From the moment itself: what is added up from rounded parts differs from core to core.
    fn note_node_time(&self, now: Instant) {
        let ns = (now.saturating_duration_since(self.started) + self.since_epoch.get()).as_nanos() as u64;
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
        self.note_node_time(now);
        let now_ms = self.ms_at(now);
        self.now_ms.replace(now_ms) != now_ms
    }
}
