//! Two-phase adoption of a plan by all cores, seen from the control thread: who acked, who failed, what now. Pure: it
//! sends nothing and reads no clock.
//!
//! Prepare → every core acks → Commit → every core confirms. Until the last ack nothing has changed anywhere, so one
//! core that cannot (or does not answer in time) aborts the whole: never half applied. After the last ack there is no
//! way back, only cores that are late; they are named, and serve the old plan until they turn their loop again.

use std::time::Instant;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Core {
    Asked,
    Acked,
    Failed(String),
    Committed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Preparing,
    Committing,
    Done,
    Aborted,
}

/// One core that stood in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    pub core: usize,
    /// Its error, or none: it did not answer in time.
    pub error: Option<String>,
}

/// What the caller has to do now. `Commit` and `Abort` are said once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: answers are still to come.
    Waiting,
    /// Send `Commit` to all.
    Commit,
    /// Send `Abort` to all and report why.
    Abort { blockers: Vec<Blocker> },
    /// Every core serves by the new plan.
    Adopted,
    /// Committed, but the deadline has passed and these cores have not confirmed. They still may.
    Late { cores: Vec<usize> },
}

/// The adoption of one generation.
#[derive(Debug)]
pub struct Adoption {
    generation: u64,
    cores: Vec<Core>,
    phase: Phase,
    deadline: Instant,
}

impl Adoption {
    /// The caller sends `Prepare` to cores `0..cores`. `deadline` is for the acks.
    pub fn start(generation: u64, cores: usize, deadline: Instant) -> Adoption {
        assert!(cores > 0, "an adoption needs a core");
        Adoption { generation, cores: vec![Core::Asked; cores], phase: Phase::Preparing, deadline }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// No more answers are expected.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Aborted)
    }

    /// An answer of another generation (an earlier one that was aborted) or of an unknown core changes nothing. The
    /// first failure aborts: the others need not finish their work.
    pub fn on_ack(&mut self, core: usize, generation: u64, result: Result<(), String>) -> Outcome {
        let expected = generation == self.generation && self.phase == Phase::Preparing;
        let Some(state) = self.cores.get_mut(core).filter(|_| expected) else { return Outcome::Waiting };
        *state = match result {
            Ok(()) => Core::Acked,
            Err(error) => Core::Failed(error),
        };
        if matches!(state, Core::Failed(_)) {
            return self.abort(false);
        }
        if !self.cores.iter().all(|core| *core == Core::Acked) {
            return Outcome::Waiting;
        }
        self.phase = Phase::Committing;
        Outcome::Commit
    }

    /// A `Prepare` that could not even be handed over.
    pub fn on_unreachable(&mut self, core: usize) -> Outcome {
        self.on_ack(core, self.generation, Err("its inbox is full".to_string()))
    }

    pub fn on_committed(&mut self, core: usize, generation: u64) -> Outcome {
        let expected = generation == self.generation && self.phase == Phase::Committing;
        let Some(state) = self.cores.get_mut(core).filter(|_| expected) else { return Outcome::Waiting };
        *state = Core::Committed;
        if !self.cores.iter().all(|core| *core == Core::Committed) {
            return Outcome::Waiting;
        }
        self.phase = Phase::Done;
        Outcome::Adopted
    }

    /// Starts the clock of the second phase; the caller does so when it has sent `Commit`.
    pub fn set_commit_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    pub fn on_tick(&mut self, now: Instant) -> Outcome {
        if now < self.deadline {
            return Outcome::Waiting;
        }
        match self.phase {
            Phase::Preparing => self.abort(true),
            Phase::Committing => {
                let late = self.cores.iter().enumerate().filter(|(_, state)| **state != Core::Committed);
                Outcome::Late { cores: late.map(|(core, _)| core).collect() }
            }
            Phase::Done | Phase::Aborted => Outcome::Waiting,
        }
    }

    /// `timed_out`: silent cores are to blame too.
    fn abort(&mut self, timed_out: bool) -> Outcome {
        self.phase = Phase::Aborted;
        let blockers = self.cores.iter().enumerate().filter_map(|(core, state)| match state {
            Core::Failed(error) => Some(Blocker { core, error: Some(error.clone()) }),
            Core::Asked if timed_out => Some(Blocker { core, error: None }),
            _ => None,
        });
        Outcome::Abort { blockers: blockers.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const GENERATION: u64 = 7;

    fn start(cores: usize) -> (Adoption, Instant) {
        let deadline = Instant::now() + Duration::from_secs(5);
        (Adoption::start(GENERATION, cores, deadline), deadline)
    }

    fn failed(core: usize, error: &str) -> Blocker {
        Blocker { core, error: Some(error.to_string()) }
    }

    #[test]
    fn it_commits_when_all_have_acked_and_is_adopted_when_all_have_confirmed() {
        let (mut adoption, _) = start(2);
        assert_eq!(adoption.on_ack(1, GENERATION, Ok(())), Outcome::Waiting);
        assert_eq!(adoption.on_ack(0, GENERATION, Ok(())), Outcome::Commit);
        assert_eq!(adoption.on_committed(0, GENERATION), Outcome::Waiting);
        assert!(!adoption.is_over());
        assert_eq!(adoption.on_committed(1, GENERATION), Outcome::Adopted);
        assert!(adoption.is_over());
    }

    #[test]
    fn one_failure_aborts_at_once_with_its_reason() {
        let (mut adoption, _) = start(3);
        assert_eq!(adoption.on_ack(0, GENERATION, Ok(())), Outcome::Waiting);
        let outcome = adoption.on_ack(2, GENERATION, Err("no listener".into()));
        assert_eq!(outcome, Outcome::Abort { blockers: vec![failed(2, "no listener")] });
        assert!(adoption.is_over());
        assert_eq!(adoption.on_ack(1, GENERATION, Ok(())), Outcome::Waiting, "a late ack revives nothing");
        assert_eq!(adoption.on_committed(1, GENERATION), Outcome::Waiting);
    }

    #[test]
    fn a_silent_core_aborts_at_the_deadline_and_is_named() {
        let (mut adoption, deadline) = start(2);
        assert_eq!(adoption.on_ack(0, GENERATION, Ok(())), Outcome::Waiting);
        assert_eq!(adoption.on_tick(deadline - Duration::from_millis(1)), Outcome::Waiting);
        let silent = Blocker { core: 1, error: None };
        assert_eq!(adoption.on_tick(deadline), Outcome::Abort { blockers: vec![silent] });
        assert_eq!(adoption.on_tick(deadline), Outcome::Waiting, "said once");
    }

    #[test]
    fn answers_to_another_generation_do_not_count() {
        let (mut adoption, _) = start(1);
        assert_eq!(adoption.on_ack(0, GENERATION - 1, Ok(())), Outcome::Waiting);
        assert_eq!(adoption.on_ack(0, GENERATION - 1, Err("old".into())), Outcome::Waiting);
        assert_eq!(adoption.on_ack(5, GENERATION, Err("who?".into())), Outcome::Waiting);
        assert_eq!(adoption.on_ack(0, GENERATION, Ok(())), Outcome::Commit);
        assert_eq!(adoption.on_committed(0, GENERATION - 1), Outcome::Waiting);
        assert_eq!(adoption.on_committed(0, GENERATION), Outcome::Adopted);
    }

    #[test]
    fn an_ack_said_twice_counts_once() {
        let (mut adoption, _) = start(2);
        assert_eq!(adoption.on_ack(0, GENERATION, Ok(())), Outcome::Waiting);
        assert_eq!(adoption.on_ack(0, GENERATION, Ok(())), Outcome::Waiting);
        assert_eq!(adoption.on_ack(1, GENERATION, Ok(())), Outcome::Commit);
    }

    #[test]
    fn after_commit_there_is_no_abort_only_lateness() {
        let (mut adoption, deadline) = start(2);
        let _ = adoption.on_ack(0, GENERATION, Ok(()));
        assert_eq!(adoption.on_ack(1, GENERATION, Ok(())), Outcome::Commit);
        let commit_deadline = deadline + Duration::from_secs(5);
        adoption.set_commit_deadline(commit_deadline);
        assert_eq!(adoption.on_tick(deadline), Outcome::Waiting);
        assert_eq!(adoption.on_committed(0, GENERATION), Outcome::Waiting);
        assert_eq!(adoption.on_ack(1, GENERATION, Err("too late to fail".into())), Outcome::Waiting);
        assert_eq!(adoption.on_tick(commit_deadline), Outcome::Late { cores: vec![1] });
        assert_eq!(adoption.on_committed(1, GENERATION), Outcome::Adopted);
    }

    #[test]
    fn an_unreachable_core_aborts() {
        let (mut adoption, _) = start(2);
        assert_eq!(adoption.on_unreachable(1), Outcome::Abort { blockers: vec![failed(1, "its inbox is full")] });
    }
}
