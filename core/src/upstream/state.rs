//! One core's view of a cluster: its endpoints' pools, the balance's position, its share of the node's limits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ahash::AHashMap;

use super::adaptive::Adaptive;
use super::balance::Random;
use super::choose::{Choice, View};
use super::cluster::ClusterPlan;
use super::pool::Endpoint;
use super::waiting::WaitList;
use super::{outlier, retry};
use crate::mesh::Share;
use crate::net::{Address, Net};
use crate::observe::Meters;

pub struct ClusterState {
    pub endpoints: Vec<Rc<Endpoint>>,
    pub random: Random,
    view: RefCell<View>,
    /// Of the view.
    version: Cell<u64>,
    /// Nobody else may be used, so that there is no choice.
    only: Cell<Option<u16>>,
    /// Of the node's requests under way, by `limits`.
    pub requests: Share,
    /// Of the node's requests under way, by the breaker.
    pub attempts: Share,
    /// Of the node's requests that wait.
    pub queued: Share,
    /// Those that wait here.
    pub waiting: WaitList,
    pub adaptive: Option<Rc<Adaptive>>,
    /// Requests that the node's budget has not been told of.
    uncounted: Cell<u64>,
    pub core: usize,
    cores: usize,
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
        plan.node.enforce(&plan.config);
        let known: AHashMap<(&Address, &str), &Rc<Endpoint>> = before
            .iter()
            .flat_map(|state| &state.endpoints)
            .map(|endpoint| ((&endpoint.address, &*endpoint.label), endpoint))
            .collect();
        let endpoints = std::iter::zip(&plan.endpoints, &plan.node.endpoints).map(|(wanted, node)| {
            let same = known.get(&(&wanted.address, wanted.label.as_str())).copied();
            same.cloned().unwrap_or_else(|| Rc::new(Endpoint::new(wanted, node, cores, meters)))
        });
        let view_before = before.map(|state| state.view.borrow());
        let adaptive = plan.config.adaptive.as_ref().map(|rules| {
            let known = before.and_then(|state| state.adaptive.clone());
            known.unwrap_or_else(|| Rc::new(Adaptive::new(rules)))
        });
        let view = View::new(plan, view_before.as_deref(), core, cores);
        let seed = (core as u64 + 1) << 32 | u64::from(std::process::id());
        ClusterState {
            endpoints: endpoints.collect(),
            random: before.map_or_else(|| Random::new(seed), |state| state.random.clone()),
            version: Cell::new(view.version),
            only: Cell::new(view.only(plan)),
            view: RefCell::new(view),
            requests: Share::new(plan.node.requests.clone(), cores),
            attempts: Share::new(plan.node.attempts.clone(), cores),
            queued: Share::new(plan.node.queued.clone(), cores),
            waiting: WaitList::default(),
            adaptive,
            uncounted: Cell::new(0),
            core,
            cores,
        }
    }

    /// The endpoint for a request; `None` if nobody may be used. `own` is the one that the client's cookie names.
    pub fn choose(
        &self,
        plan: &ClusterPlan,
        net: &Net,
        key: Option<u64>,
        own: Option<u16>,
        tried: &[u16],
    ) -> Option<u16> {
        if net.node_ms() >= plan.node.due_ms.get() {
            outlier::look(&plan.node, plan.config.outlier.as_ref(), net.node_ms());
        }
        if self.version.get() != plan.node.version() {
            self.refresh(plan);
        }
        if let Some(only) = self.only.get() {
            return (!tried.contains(&only)).then_some(only);
        }
        let view = self.view.borrow();
        let choice = Choice { plan, state: self, view: &view, net, key, tried };
        let chosen = match own {
            Some(own) if choice.may_keep(own) => Some(own),
            _ => choice.make(),
        };
        if view.panics && chosen.is_some_and(|at| !plan.node.endpoints[usize::from(at)].is_usable()) {
            plan.node.counts.panics.add(1);
        }
        chosen
    }

    /// True if somebody who has not had the request may be used.
    pub fn has_other_than(&self, tried: &[u16]) -> bool {
        self.view.borrow().has_other_than(tried)
    }

    #[cold]
    fn refresh(&self, plan: &ClusterPlan) {
        let next = View::new(plan, Some(&self.view.borrow()), self.core, self.cores);
        self.version.set(next.version);
        self.only.set(next.only(plan));
        self.view.replace(next);
    }

    /// One more request, for the budget of retries.
    pub fn count_request(&self) {
        self.uncounted.set(self.uncounted.get() + 1);
    }

    /// Tells the node of what was counted here.
    pub fn tell_counts(&self, plan: &ClusterPlan, now_ms: u64) {
        let requests = self.uncounted.take();
        if requests > 0 {
            plan.node.counts.requests.add(requests);
            retry::count(&plan.node, self.core, now_ms, retry::REQUESTS, requests);
        }
    }

    /// The core's tick: what is not needed goes to the other cores.
    pub fn tick(&self, plan: &ClusterPlan, now_ms: u64) {
        self.tell_counts(plan, now_ms);
        self.requests.tick();
        self.attempts.tick();
        self.queued.tick();
    }
}
