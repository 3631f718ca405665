//! In which order, and when, a process winds down. Pure: sends nothing, reads no clock.

use std::time::{Duration, Instant};

use crate::mesh::DrainStep;

/// What a cut core may take to say how many connections it has cut.
const LAST_WORD_TIME_MAX: Duration = Duration::from_secs(1);

/// What the control thread has to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing before that moment, unless news comes.
    Wait(Instant),
    /// To every core, in this order.
    Send(&'static [DrainStep]),
    /// Every connection has ended by itself, or has been cut.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not ready any more, but accepting: whoever balances the load has to notice first.
    Refusing,
    /// What is queued is accepted, and every answer says `Connection: close`.
    Closing,
    Cut,
}

#[derive(Debug)]
pub struct Drain {
    phase: Phase,
    close_at: Instant,
    cut_at: Instant,
    /// By core: what was still open when it had done its last step.
    left: Vec<Option<usize>>,
}

impl Drain {
    /// `wait` and `deadline` both count from `now`.
    pub fn new(cores: usize, now: Instant, wait: Duration, deadline: Duration) -> Drain {
        let cut_at = now + deadline;
        Drain { phase: Phase::Refusing, close_at: (now + wait).min(cut_at), cut_at, left: vec![None; cores] }
    }

    pub fn on_drained(&mut self, core: usize, open: usize) {
        if let Some(left) = self.left.get_mut(core) {
            *left = Some(open);
        }
    }

    /// Says each `Send` once.
    pub fn advance(&mut self, now: Instant) -> Act {
        if self.phase != Phase::Refusing && self.left.iter().all(Option::is_some) {
            return Act::Over;
        }
        match self.phase {
            Phase::Refusing if now < self.close_at => Act::Wait(self.close_at),
            Phase::Refusing => {
                self.phase = Phase::Closing;
                // One after the other in each core's inbox: its sockets close before it turns clients away.
                Act::Send(&[DrainStep::CloseListeners, DrainStep::LastAnswers])
            }
            Phase::Closing if now < self.cut_at => Act::Wait(self.cut_at),
            Phase::Closing => {
                self.phase = Phase::Cut;
                Act::Send(&[DrainStep::Cut])
            }
            Phase::Cut if now < self.cut_at + LAST_WORD_TIME_MAX => Act::Wait(self.cut_at + LAST_WORD_TIME_MAX),
            Phase::Cut => Act::Over,
        }
    }

    /// One line, if anything was cut. `tunnels` by core, among the connections.
    pub fn report(&self, tunnels: &[u64]) -> Option<String> {
        let cut: usize = self.left.iter().flatten().sum();
        let silent: Vec<usize> = (0..self.left.len()).filter(|core| self.left[*core].is_none()).collect();
        if cut == 0 && silent.is_empty() {
            return None;
        }
        let each = self.left.iter().enumerate().filter_map(|(core, left)| {
            let tunnels = tunnels.get(core).copied().unwrap_or(0);
            Some(format!("core {core}: {}, {tunnels} of them tunnels", left.filter(|left| *left > 0)?))
        });
        let silent = silent.iter().map(|core| format!("core {core} did not answer"));
        let each: Vec<String> = each.chain(silent).collect();
        let plural = if cut == 1 { "" } else { "s" };
        Some(format!("at the deadline, cut {cut} connection{plural} ({})", each.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);
    const DEADLINE: Duration = Duration::from_secs(30);
    const MS: Duration = Duration::from_millis(1);

    fn start(cores: usize) -> (Drain, Instant) {
        let now = Instant::now();
        (Drain::new(cores, now, WAIT, DEADLINE), now)
    }

    #[test]
    fn listeners_close_after_the_wait_and_not_before() {
        let (mut drain, begun) = start(1);
        assert_eq!(drain.advance(begun), Act::Wait(begun + WAIT));
        assert_eq!(drain.advance(begun + WAIT - MS), Act::Wait(begun + WAIT));
        assert_eq!(drain.advance(begun + WAIT), Act::Send(&[DrainStep::CloseListeners, DrainStep::LastAnswers]));
        assert_eq!(drain.advance(begun + WAIT), Act::Wait(begun + DEADLINE), "said once");
    }

    #[test]
    fn it_is_over_when_every_core_is_done() {
        let (mut drain, begun) = start(2);
        let _ = drain.advance(begun + WAIT);
        drain.on_drained(1, 0);
        assert_eq!(drain.advance(begun + WAIT + MS), Act::Wait(begun + DEADLINE));
        drain.on_drained(0, 0);
        assert_eq!(drain.advance(begun + WAIT + 2 * MS), Act::Over);
        assert_eq!(drain.report(&[0, 0]), None);
    }

    #[test]
    fn the_deadline_cuts_and_names_what_it_cut() {
        let (mut drain, begun) = start(3);
        let _ = drain.advance(begun + WAIT);
        drain.on_drained(2, 0);
        assert_eq!(drain.advance(begun + DEADLINE), Act::Send(&[DrainStep::Cut]));
        drain.on_drained(0, 4);
        assert_eq!(drain.advance(begun + DEADLINE + MS), Act::Wait(begun + DEADLINE + LAST_WORD_TIME_MAX));
        let report = drain.report(&[1, 0, 0]).unwrap();
        assert_eq!(report, "at the deadline, cut 4 connections (core 0: 4, 1 of them tunnels; core 1 did not answer)");
        assert_eq!(drain.advance(begun + DEADLINE + LAST_WORD_TIME_MAX), Act::Over);
    }

    #[test]
    fn a_wait_beyond_the_deadline_is_cut_short() {
        let now = Instant::now();
        let mut drain = Drain::new(1, now, DEADLINE, WAIT);
        assert_eq!(drain.advance(now), Act::Wait(now + WAIT));
        assert!(matches!(drain.advance(now + WAIT), Act::Send(&[DrainStep::CloseListeners, _])));
        assert_eq!(drain.advance(now + WAIT), Act::Send(&[DrainStep::Cut]));
    }
}
