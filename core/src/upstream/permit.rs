//! Who may have a request under way at a cluster: the limits of the node, the queue before them, the limit that follows
//! the latency. Gives back what it took when it is dropped.

use super::adaptive::Adaptive;
use super::forward::Origin;
use super::state::ClusterState;
use crate::exchange::Refusal;
use crate::mesh::Share;
use crate::observe::Flag;

/// A request's right to be under way.
#[derive(Default)]
pub struct Permit<'a> {
    place: Option<Place<'a>>,
    adaptive: Option<&'a Adaptive>,
}

/// A place of the node's limit.
struct Place<'a>(&'a ClusterState);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.requests.give();
        self.0.waiting.wake_first();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(adaptive) = self.adaptive {
            adaptive.leave();
        }
    }
}

/// A place in the queue.
struct Queued<'a>(&'a Share);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.give();
    }
}

impl<'a> Origin<'a> {
    /// # Errors
    /// What the client is told if there is no room.
    pub(super) async fn enter(&self) -> Result<Permit<'a>, Refusal> {
        let mut permit = Permit::default();
        if let (Some(rules), Some(adaptive)) = (&self.plan.config.adaptive, &self.state.adaptive) {
            if !adaptive.enter(rules) {
                return Err(self.overflow(format!(
                    "{} requests are under way on this core, which is the limit that its latency allows",
                    adaptive.limit()
                )));
            }
            permit.adaptive = Some(adaptive);
        }
        let limits = &self.plan.config.limits;
        if limits.requests_max == 0 {
            return Ok(permit);
        }
        let take = || {
            let taken = self.state.requests.take();
            taken.then(|| Place(self.state))
        };
        if self.state.waiting.is_empty()
            && let Some(place) = take()
        {
            permit.place = Some(place);
            return Ok(permit);
        }
        let full = || format!("{} requests are under way, which is the limit", limits.requests_max);
        if limits.queue_max == 0 {
            return Err(self.overflow(full()));
        }
        if !self.state.queued.take() {
            return Err(self.overflow(format!("{}, and {} wait, which is the limit, too", full(), limits.queue_max)));
        }
        let queued = Queued(&self.state.queued);
        self.plan.node.counts.waits.add(1);
        let until_ms = (self.net.now_ms() + limits.queue_timeout.as_millis() as u64).min(self.until_ms);
        let place = self.state.waiting.wait(self.net, until_ms, take).await;
        drop(queued);
        if place.is_none() {
            return Err(self.overflow(format!("{}; none ended in {:?}", full(), limits.queue_timeout)));
        }
        permit.place = place;
        Ok(permit)
    }

    pub(super) fn overflow(&self, reason: String) -> Refusal {
        self.plan.node.counts.overflows.add(1);
        Refusal::new(Flag::Overflow, reason)
    }
}
