//! Hystrix's circuit breaker for a cluster or an endpoint: one for the whole node, whichever core counts. Knows no
//! request and reads no clock.
//!
//! Counted are successes, failures, timeouts and refusals for want of a place; what an open circuit refuses is not, nor
//! is a client that went away. Closed, it is judged at most once in `snapshot`: from `requests_min` requests in the
//! window, and `error_percent` of errors on, it opens. Open, it refuses; once `sleep` is over the one who moves it to
//! half-open is let through. What becomes of that trial decides: a success closes and empties the window, anything else
//! (its end without a word, too) opens anew. (HystrixCircuitBreaker.java, HystrixCommandMetrics.java.)
//!
//! Unlike there, only the trial itself closes a half-open circuit: a request that had been sent before it opened and
//! comes back well says nothing of now.

use ringway_config::snapshot::{Breaker as Rules, Force};

use crate::mesh::window::STEPS;
use crate::mesh::{Window, Word};

/// What a request under a breaker came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    Timeout,
    /// No place was free.
    Refused,
    /// Its client went away, or it never got to an origin: counts as nothing.
    Void,
}

/// May this request go on?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Pass,
    /// As the one that finds out.
    Trial,
    /// Try again after so many milliseconds.
    Refused {
        after_ms: u64,
    },
}

/// As `ringway_circuit_state` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

const KINDS: usize = 4;

#[derive(Debug)]
pub struct Breaker {
    /// The circuit in two bits, and since when in milliseconds: both change as one.
    state: Word,
    /// When the window was last judged.
    judged_ms: Word,
    window: Window<KINDS>,
    opened: Word,
    refused: Word,
}

fn pack(circuit: Circuit, since_ms: u64) -> u64 {
    since_ms << 2 | circuit as u64
}

fn unpack(state: u64) -> (Circuit, u64) {
    let circuit = match state & 3 {
        0 => Circuit::Closed,
        1 => Circuit::HalfOpen,
        _ => Circuit::Open,
    };
    (circuit, state >> 2)
}

impl Breaker {
    pub fn new(cores: usize) -> Breaker {
        Breaker {
            state: Word::new(pack(Circuit::Closed, 0)),
            judged_ms: Word::default(),
            window: Window::new(cores),
            opened: Word::default(),
            refused: Word::default(),
        }
    }

    pub fn circuit(&self, rules: &Rules) -> Circuit {
        match rules.force {
            Force::Open => Circuit::Open,
            Force::Closed => Circuit::Closed,
            Force::No => unpack(self.state.get()).0,
        }
    }

    /// How often it has opened.
    pub fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// Requests that it has refused.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// True if [`Breaker::admit`] would let a request go on.
    pub fn admits(&self, rules: &Rules, now_ms: u64) -> bool {
        match (rules.force, unpack(self.state.get())) {
            (Force::Open, _) => false,
            (Force::Closed, _) | (Force::No, (Circuit::Closed, _)) => true,
            (Force::No, (Circuit::HalfOpen, since_ms)) => now_ms > since_ms + trial_ms_max(rules),
            (Force::No, (Circuit::Open, since_ms)) => now_ms > since_ms + sleep_ms(rules),
        }
    }

    /// How long until it lets somebody through.
    pub fn retry_after_ms(&self, rules: &Rules, now_ms: u64) -> u64 {
        match (rules.force, unpack(self.state.get())) {
            (Force::No, (Circuit::Open, since_ms)) => (since_ms + sleep_ms(rules)).saturating_sub(now_ms),
            _ => sleep_ms(rules),
        }
    }

    /// Whoever gets anything but a refusal tells [`Breaker::report`] how it ended.
    pub fn admit(&self, rules: &Rules, now_ms: u64) -> Admission {
        match rules.force {
            Force::Open => return self.refuse(rules, now_ms),
            Force::Closed => return Admission::Pass,
            Force::No => {}
        }
        let state = self.state.get();
        match unpack(state) {
            (Circuit::Closed, _) => self.judge(rules, now_ms),
            (Circuit::Open, since_ms) if now_ms > since_ms + sleep_ms(rules) => self.begin_trial(state, rules, now_ms),
            // Its core does not turn its loop, or it would have ended: another one finds out.
            (Circuit::HalfOpen, since_ms) if now_ms > since_ms + trial_ms_max(rules) => {
                self.begin_trial(state, rules, now_ms)
            }
            (Circuit::Open | Circuit::HalfOpen, _) => self.refuse(rules, now_ms),
        }
    }

    fn begin_trial(&self, state: u64, rules: &Rules, now_ms: u64) -> Admission {
        if self.state.change(state, pack(Circuit::HalfOpen, now_ms)) {
            return Admission::Trial;
        }
        self.refuse(rules, now_ms)
    }

    fn refuse(&self, rules: &Rules, now_ms: u64) -> Admission {
        self.refused.add(1);
        Admission::Refused { after_ms: self.retry_after_ms(rules, now_ms) }
    }

    /// Looks at the window if it is time to, and opens if it is bad.
    fn judge(&self, rules: &Rules, now_ms: u64) -> Admission {
        // Without a snapshot each request judges, whatever another core, a moment ahead, has judged.
        if !rules.snapshot.is_zero() {
            let judged_ms = self.judged_ms.get();
            let due = now_ms >= judged_ms + rules.snapshot.as_millis() as u64;
            if !due || !self.judged_ms.change(judged_ms, now_ms) {
                return Admission::Pass;
            }
        }
        let [successes, failures, timeouts, refused] = self.window.sum(now_ms, step_ms(rules));
        let errors = failures + timeouts + refused;
        let total = successes + errors;
        if total < u64::from(rules.requests_min) || errors * 100 < u64::from(rules.error_percent) * total {
            return Admission::Pass;
        }
        let state = self.state.get();
        if unpack(state).0 == Circuit::Closed && self.state.change(state, pack(Circuit::Open, now_ms)) {
            self.opened.add(1);
        }
        self.refuse(rules, now_ms)
    }

    /// `core` is the caller's.
    pub fn report(&self, rules: &Rules, core: usize, now_ms: u64, trial: bool, outcome: Outcome) {
        if rules.force == Force::No {
            let kind = match outcome {
                Outcome::Success => 0,
                Outcome::Failure => 1,
                Outcome::Timeout => 2,
                Outcome::Refused => 3,
                Outcome::Void => KINDS,
            };
            if kind < KINDS {
                self.window.add(core, now_ms, step_ms(rules), kind, 1);
            }
        }
        if trial {
            self.end_trial(outcome, now_ms);
        }
    }

    fn end_trial(&self, outcome: Outcome, now_ms: u64) {
        let state = self.state.get();
        if unpack(state).0 != Circuit::HalfOpen {
            return;
        }
        if outcome == Outcome::Success {
            // Emptied first: who sees the circuit closed must not judge what was before.
            self.window.reset();
            self.judged_ms.set(now_ms);
            self.state.change(state, pack(Circuit::Closed, now_ms));
        } else if self.state.change(state, pack(Circuit::Open, now_ms)) {
            self.opened.add(1);
        }
    }
}

fn step_ms(rules: &Rules) -> u64 {
    (rules.window.as_millis() as u64 / STEPS as u64).max(1)
}

/// A trial has ended by then, whatever became of it.
fn trial_ms_max(rules: &Rules) -> u64 {
    rules.timeout.as_millis() as u64 + sleep_ms(rules)
}

fn sleep_ms(rules: &Rules) -> u64 {
    rules.sleep.as_millis() as u64
}

#[cfg(test)]
mod tests;
