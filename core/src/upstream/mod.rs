//! The way to an origin: which endpoint (`balance`), on which connection (`pool`), and the exchange on it (`forward`).
//! All of it is one core's own; what the configuration says comes from the plan.

pub mod balance;
mod cluster;
mod forward;
mod pool;

use std::rc::Rc;

pub use cluster::{ClusterPlan, EndpointPlan};
pub use forward::{Origin, blame_for};
pub use pool::{ConnectError, Endpoint, Lease, PoolShare};

use crate::observe::Meters;
use balance::{Load, Random, RoundRobin, of_two};

/// One core's view of a cluster: its endpoints' pools and the balancer's position.
pub struct ClusterState {
    pub endpoints: Vec<Rc<Endpoint>>,
    turns: RoundRobin,
    /// All of them.
    usable: Vec<u16>,
    random: Random,
}

impl ClusterState {
    /// The state for `plan`; what `before` knew of the same endpoints lives on.
    pub fn adopt(
        plan: &ClusterPlan,
        before: Option<&ClusterState>,
        core: usize,
        cores: usize,
        meters: &Rc<Meters>,
    ) -> ClusterState {
        let endpoints: Vec<Rc<Endpoint>> = plan
            .endpoints
            .iter()
            .map(|wanted| {
                let same = before.and_then(|state| state.endpoints.iter().find(|known| known.is(wanted)));
                same.cloned().unwrap_or_else(|| Rc::new(Endpoint::new(wanted, meters)))
            })
            .collect();
        let usable: Vec<u16> = (0..endpoints.len() as u16).collect();
        let weighted = usable.iter().zip(&plan.endpoints).map(|(&index, endpoint)| (index, endpoint.weight));
        let turns = RoundRobin::new(&weighted.collect::<Vec<_>>(), core, cores);
        if let Some(state) = before {
            turns.follow(&state.turns);
        }
        let random = Random::new((core as u64) << 32 | u64::from(std::process::id()));
        ClusterState { endpoints, turns, usable, random }
    }

    /// The endpoint for the next request; `None` if there is none.
    pub fn choose(&self, plan: &ClusterPlan) -> Option<&Rc<Endpoint>> {
        match self.endpoints.len() {
            0 => None,
            1 => self.endpoints.first(),
            _ if plan.least_request() => Some(self.less_busy_of_two()),
            _ => self.endpoints.get(usize::from(self.turns.next())),
        }
    }

    /// Of two random endpoints the one with fewer requests under way for its weight.
    fn less_busy_of_two(&self) -> &Rc<Endpoint> {
        let endpoint = |index: u16| &self.endpoints[usize::from(index)];
        let load = |index: u16| Load::new(endpoint(index).active() + 1, endpoint(index).weight);
        endpoint(of_two(&self.usable, &self.random, load))
    }
}
