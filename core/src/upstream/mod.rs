//! The way to an origin: which endpoint (`balance`), on which connection (`pool`), and the exchange on it (`forward`).
//! All of it is one core's own; what the configuration says comes from the plan.

mod balance;
mod cluster;
mod forward;
mod pool;

use std::cell::Cell;
use std::rc::Rc;

pub use cluster::{ClusterPlan, EndpointPlan};
pub use forward::{Origin, blame_for};
pub use pool::{ConnectError, Endpoint, Lease, PoolShare};

use crate::observe::Meters;
use balance::Balancer;

/// One core's view of a cluster: its endpoints' pools and the balancer's position.
pub struct ClusterState {
    pub endpoints: Vec<Rc<Endpoint>>,
    balancer: Balancer,
    random: Cell<u64>,
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
        let weights: Vec<u32> = plan.endpoints.iter().map(|endpoint| endpoint.weight).collect();
        let balancer = match before {
            Some(state) if state.balancer.weights() == weights => state.balancer.clone(),
            _ => Balancer::new(weights, core, cores),
        };
        let seed = 0x9e37_79b9_7f4a_7c15 ^ ((core as u64 + 1) << 32 | u64::from(std::process::id()));
        ClusterState { endpoints, balancer, random: Cell::new(seed) }
    }

    /// The endpoint for the next request; `None` if there is none.
    pub fn choose(&self, plan: &ClusterPlan) -> Option<&Rc<Endpoint>> {
        match self.endpoints.len() {
            0 => None,
            1 => self.endpoints.first(),
            _ if plan.least_request() => Some(self.less_busy_of_two()),
            _ => self.endpoints.get(self.balancer.next()),
        }
    }

    /// The power of two choices (Mitzenmacher, 2001): of two random endpoints the one with fewer requests under way
    /// for its weight.
    fn less_busy_of_two(&self) -> &Rc<Endpoint> {
        let count = self.endpoints.len() as u64;
        let first = self.random_below(count);
        let second = (first + 1 + self.random_below(count - 1)) % count;
        let (first, second) = (&self.endpoints[first as usize], &self.endpoints[second as usize]);
        let load = |one: &Endpoint, other: &Endpoint| (one.active() + 1) * u64::from(other.weight);
        if load(second, first) < load(first, second) { second } else { first }
    }

    /// xorshift64*, which is enough to choose by.
    fn random_below(&self, bound: u64) -> u64 {
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        let mixed = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(mixed) * u128::from(bound)) >> 64) as u64
    }
}
