//! A try's leave to go on, from the breakers, and what it reports to those who watch endpoints: breakers, outlier, the
//! balance by latency, the limit by latency. A try that ends without a word (a client that went, a race that was lost)
//! counts as nothing.

use std::time::Duration;

use super::breaker::{Admission, Breaker, Outcome};
use super::cluster::ClusterPlan;
use super::forward::Origin;
use super::state::ClusterState;
use super::{choose, outlier};
use crate::exchange::Refusal;
use crate::net::Net;
use crate::observe::Flag;

/// A request under way by the breaker's count, until this is dropped.
pub struct Slot<'a>(&'a ClusterState);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.attempts.give();
    }
}

/// One try under the cluster's breaker and its endpoint's.
pub(super) struct Ticket<'a> {
    plan: &'a ClusterPlan,
    state: &'a ClusterState,
    /// Where it goes, once that is known.
    at: Option<u16>,
    /// By breaker, the cluster's first: whether it is under it, and then whether it is the trial.
    trials: [Option<bool>; 2],
    net: &'a Net,
    /// When it began, of the times in which the core could not run: a measure across one of them says nothing.
    left_out: Duration,
    slot: Option<Slot<'a>>,
}

/// How a try ended, for those who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The head of an answer came.
    Answered(u16),
    Failed(Flag),
}

impl<'a> Origin<'a> {
    /// `full`: see `choose_admitted`.
    ///
    /// # Errors
    /// What the client is told if the cluster's breaker does not let it through.
    pub(super) fn admit(&self, full: Outcome) -> Result<Ticket<'a>, Refusal> {
        let (plan, state, net) = (self.plan, self.state, self.net);
        let mut ticket =
            Ticket { plan, state, at: None, trials: [None; 2], net, left_out: self.net.left_out(), slot: None };
        let (Some(rules), Some(breaker)) = (&plan.config.breaker, &plan.node.breaker) else { return Ok(ticket) };
        match breaker.admit(rules, net.node_ms()) {
            Admission::Refused { after_ms } => return Err(refuse(&plan.config.name, after_ms)),
            Admission::Pass => ticket.trials[0] = Some(false),
            Admission::Trial => ticket.trials[0] = Some(true),
        }
        if rules.concurrent_max > 0 {
            if !state.attempts.take() {
                ticket.report(full);
                let reason = format!("{} requests are under way, which is the breaker's limit", rules.concurrent_max);
                return Err(self.overflow(reason));
            }
            ticket.slot = Some(Slot(state));
        }
        Ok(ticket)
    }

    /// What the client is told if somebody else could take the request, were it not for the breakers of endpoints.
    pub(super) fn refusal_of_breakers(&self, tried: &[u16]) -> Option<Refusal> {
        let rules = self.plan.config.endpoint_breaker.as_ref().filter(|_| self.state.has_other_than(tried))?;
        let now_ms = self.net.node_ms();
        let breakers = self.plan.node.endpoints.iter().filter_map(|endpoint| endpoint.breaker.as_ref());
        let after_ms = breakers.map(|breaker| breaker.retry_after_ms(rules, now_ms)).min()?;
        Some(refuse(&self.plan.config.name, after_ms))
    }
}

/// The whole seconds of `Retry-After`, at least one.
fn refuse(name: &str, after_ms: u64) -> Refusal {
    let retry_after_s = after_ms.div_ceil(1000).clamp(1, u32::MAX.into()) as u32;
    let refusal = Refusal::new(Flag::CircuitOpen, format!("the circuit of {name} is open for {after_ms} ms more"));
    Refusal { retry_after_s: Some(retry_after_s), ..refusal }
}

impl<'a> Ticket<'a> {
    /// The try goes to the endpoint `at`.
    ///
    /// # Errors
    /// What the client is told if that one's breaker does not let it through.
    pub fn go_to(&mut self, at: u16) -> Result<(), Refusal> {
        self.at = Some(at);
        let (Some(rules), Some(breaker)) = (&self.plan.config.endpoint_breaker, self.endpoint_breaker()) else {
            return Ok(());
        };
        match breaker.admit(rules, self.net.node_ms()) {
            Admission::Refused { after_ms } => Err(refuse(&self.plan.endpoints[usize::from(at)].label, after_ms)),
            Admission::Pass => {
                self.trials[1] = Some(false);
                Ok(())
            }
            Admission::Trial => {
                self.trials[1] = Some(true);
                Ok(())
            }
        }
    }

    fn endpoint_breaker(&self) -> Option<&'a Breaker> {
        self.plan.node.endpoints[usize::from(self.at?)].breaker.as_ref()
    }

    /// Tells everybody how it ended. What is left is the request's place, which is kept until the answer's end.
    pub fn end(mut self, end: End, took_ns: u64) -> Option<Slot<'a>> {
        let now_ms = self.net.node_ms();
        let stood_still = self.left_out != self.net.left_out();
        let config = &self.plan.config;
        let failed = |statuses: &[u16]| match end {
            End::Answered(status) => statuses.contains(&status),
            End::Failed(_) => true,
        };
        if counts_as_nothing(end) {
            return self.slot.take();
        }
        if self.trials != [None; 2] {
            let outcome = |statuses: &[u16]| match end {
                End::Failed(Flag::OriginTimeout | Flag::ConnectTimeout) => Outcome::Timeout,
                _ if failed(statuses) => Outcome::Failure,
                _ => Outcome::Success,
            };
            self.report_each(|rules| outcome(&rules.statuses));
        }
        if stood_still && matches!(end, End::Answered(_)) {
            return self.slot.take(); // its time is the stop's, not the endpoint's
        }
        if let Some(at) = self.at {
            if let Some(rules) = &config.outlier {
                let node = &self.plan.node;
                let latency_us = (!failed(&rules.statuses)).then_some(took_ns / 1000);
                outlier::report(node, &node.endpoints[usize::from(at)], rules, self.state.core, now_ms, latency_us);
            }
            choose::observe(self.plan, self.state, at, took_ns, self.net);
        }
        if let (Some(rules), Some(adaptive)) = (&config.adaptive, &self.state.adaptive) {
            adaptive.observe(rules, now_ms, took_ns / 1000);
        }
        self.slot.take()
    }

    fn report(&mut self, outcome: Outcome) {
        self.report_each(|_| outcome);
    }

    fn report_each(&mut self, outcome: impl Fn(&ringway_config::snapshot::Breaker) -> Outcome) {
        let (config, core, now_ms) = (&self.plan.config, self.state.core, self.net.node_ms());
        let under = [
            config.breaker.as_ref().zip(self.plan.node.breaker.as_deref()),
            config.endpoint_breaker.as_ref().zip(self.endpoint_breaker()),
        ];
        for (trial, under) in std::iter::zip(&mut self.trials, under) {
            if let (Some(trial), Some((rules, breaker))) = (trial.take(), under) {
                breaker.report(rules, core, now_ms, trial, outcome(rules));
            }
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.trials != [None; 2] {
            self.report(Outcome::Void);
        }
    }
}

/// What is nobody's fault, or ours, or the client's.
fn counts_as_nothing(end: End) -> bool {
    match end {
        End::Answered(_) => false,
        End::Failed(flag) => !matches!(
            flag,
            Flag::ConnectFailed
                | Flag::ConnectTimeout
                | Flag::OriginTimeout
                | Flag::OriginClosed
                | Flag::OriginReset
                | Flag::OriginProtocol
        ),
    }
}
