//! A plan's way into every core: prepare, wait for all, commit, or abort for all; and where old plans are freed.
//! Decides nothing (`mesh::broadcast` does) and builds no plan (`reload`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Control;
use crate::mesh::{Adoption, Blocker, Outcome, Sent, ToShard};
use crate::plan::Plan;

/// For all cores to get ready; beyond it nothing changes anywhere.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(5);
/// For all cores to confirm; beyond it the late ones are named.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(5);
/// For all cores to begin with their first plan.
const FIRST_TIME_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The adoption that is under way.
pub struct Adopting {
    adoption: Adoption,
    /// The cores were started with it: there is nothing to commit.
    is_first: bool,
    done: Option<oneshot::Sender<Adopted>>,
}

/// Cores that have not confirmed yet, or what kept the plan from being adopted at all.
pub type Adopted = Result<Vec<usize>, Vec<Blocker>>;

impl Control {
    /// Waits until every core serves by the plan that it was started with.
    pub async fn first_adopted(&self, plan: &Arc<Plan>) -> Adopted {
        self.plans.borrow_mut().push(plan.clone());
        let done = self.begin(plan.generation, true, FIRST_TIME_MAX);
        self.finish(done).await
    }

    /// Two phases: all cores or none.
    pub async fn adopt(&self, plan: Arc<Plan>) -> Adopted {
        self.plans.borrow_mut().push(plan.clone());
        let generation = plan.generation;
        let done = self.begin(generation, false, PREPARE_TIME_MAX);
        for core in 0..self.cores() {
            let sent = self.port.send(core, ToShard::Prepare { generation, plan: plan.clone() });
            if matches!(sent, Sent::Refused(_)) {
                self.on_adoption(|adoption| adoption.on_unreachable(core));
                break;
            }
        }
        let adopted = self.finish(done).await;
        if adopted.is_err() {
            // Sockets that no core has taken are closed now, not when the last core has given the plan back.
            (0..self.cores()).for_each(|core| drop(plan.sockets.take(core)));
        }
        drop(plan);
        self.sweep_plans();
        adopted
    }

    /// Frees the plans that no core holds any more: here, since freeing a large one would stall a shard.
    pub fn sweep_plans(&self) {
        self.plans.borrow_mut().retain(|plan| Arc::strong_count(plan) > 1);
    }

    /// What a core's answer means for the adoption that is under way.
    pub fn on_adoption(&self, answer: impl FnOnce(&mut Adoption) -> Outcome) {
        let mut adopting = self.adopting.borrow_mut();
        let Some(Adopting { adoption, is_first, done }) = adopting.as_mut() else { return };
        let generation = adoption.generation();
        let adopted = match answer(adoption) {
            Outcome::Waiting => return,
            Outcome::Commit if *is_first => Ok(Vec::new()),
            Outcome::Commit => {
                self.tell_all(|| ToShard::Commit { generation });
                return adoption.set_commit_deadline(Instant::now() + COMMIT_TIME_MAX);
            }
            Outcome::Abort { blockers } => {
                self.tell_all(|| ToShard::Abort { generation });
                Err(blockers)
            }
            Outcome::Adopted => Ok(Vec::new()),
            Outcome::Late { cores } => Ok(cores),
        };
        if let Some(done) = done.take() {
            let _ = done.send(adopted);
        }
    }

    fn begin(&self, generation: u64, is_first: bool, time_max: Duration) -> oneshot::Receiver<Adopted> {
        let (done, result) = oneshot::channel();
        let adoption = Adoption::start(generation, self.cores(), Instant::now() + time_max);
        self.adopting.replace(Some(Adopting { adoption, is_first, done: Some(done) }));
        result
    }

    async fn finish(&self, mut done: oneshot::Receiver<Adopted>) -> Adopted {
        loop {
            match timeout(LOOK_EVERY, &mut done).await {
                Ok(Ok(adopted)) => return adopted,
                Ok(Err(_)) => return Err(Vec::new()),
                Err(_) => {
                    self.port.flush();
                    self.on_adoption(|adoption| adoption.on_tick(Instant::now()));
                }
            }
        }
    }
}

/// "core 1 did not answer in time; core 2: no memory"
pub fn say_blockers(blockers: &[Blocker]) -> String {
    let say = |blocker: &Blocker| match &blocker.error {
        Some(error) => format!("core {}: {error}", blocker.core),
        None => format!("core {} did not answer in time", blocker.core),
    };
    blockers.iter().map(say).collect::<Vec<_>>().join("; ")
}
