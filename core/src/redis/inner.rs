//! What this core knows of a Redis: its nodes, its slots, its plan, what is to be reported. The commands' story is `cluster`'s,
//! the keeping up to date `keeper`'s.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ahash::{AHashMap, AHashSet};
use ringway_proto::resp::Reply;

use super::call::Calls;
use super::node::Node;
use super::plan::RedisPlan;
use super::slots::{SHARDS_MAX, Slots};
use crate::mesh::Notice;
use crate::net::Net;
use crate::observe::RedisMeters;

/// Nodes that are known at a time; a cluster beyond is served through redirects.
const NODES_MAX: usize = 2 * SHARDS_MAX;
/// Reports that wait to be fetched; beyond, the oldest are dropped.
const NOTICES_MAX: usize = 64;

/// Gets what a node pushes, with the node's address.
pub type PushHook = Rc<dyn Fn(SocketAddr, &[Reply])>;

pub(super) struct Inner {
    pub core: usize,
    pub net: Rc<Net>,
    pub meters: Rc<RedisMeters>,
    pub calls: Calls,
    plan: RefCell<Rc<RedisPlan>>,
    pub slots: RefCell<Slots>,
    nodes: RefCell<AHashMap<SocketAddr, Rc<Node>>>,
    /// Where the search for any node goes on.
    turn: Cell<usize>,
    push: RefCell<Option<PushHook>>,
    notices: RefCell<Vec<Notice>>,
    closed: Cell<bool>,
    refresh_wanted: Cell<bool>,
    keeper: RefCell<Option<Waker>>,
}

impl Inner {
    pub fn new(core: usize, net: Rc<Net>, plan: RedisPlan, meters: Rc<RedisMeters>) -> Rc<Inner> {
        Rc::new(Inner {
            core,
            net,
            meters,
            calls: Calls::default(),
            plan: RefCell::new(Rc::new(plan)),
            slots: RefCell::new(Slots::empty()),
            nodes: RefCell::default(),
            // Cores begin at different nodes.
            turn: Cell::new(core),
            push: RefCell::default(),
            notices: RefCell::default(),
            closed: Cell::new(false),
            refresh_wanted: Cell::new(true),
            keeper: RefCell::default(),
        })
    }

    pub fn plan(&self) -> Rc<RedisPlan> {
        self.plan.borrow().clone()
    }

    pub fn follow(&self, plan: RedisPlan) {
        self.plan.replace(Rc::new(plan));
        self.want_refresh();
    }

    /// The node at an address. `None`: too many are known already.
    pub fn node(&self, address: SocketAddr) -> Option<Rc<Node>> {
        let mut nodes = self.nodes.borrow_mut();
        if let Some(node) = nodes.get(&address) {
            return Some(node.clone());
        }
        if nodes.len() >= NODES_MAX {
            return None;
        }
        Some(nodes.entry(address).or_insert_with(|| Node::new(address)).clone())
    }

    /// Who has the slot, as far as is known; for reads perhaps a replica. Without that, anybody: it knows better.
    pub fn node_for(&self, slot: u16, replica: bool) -> Option<Rc<Node>> {
        let slots = self.slots.borrow();
        let found = if replica { slots.replica(slot, self.net.now_ms()) } else { slots.master(slot) };
        if let Some(node) = found {
            return Some(node.clone());
        }
        drop(slots);
        self.candidates().into_iter().next()
    }

    /// Every node that may be asked about the others: first those that answer now, last those that do not.
    pub fn candidates(&self) -> Vec<Rc<Node>> {
        let seeds = self.plan().seeds.clone();
        let mut all: Vec<Rc<Node>> = seeds.into_iter().filter_map(|seed| self.node(seed)).collect();
        all.extend(self.slots.borrow().nodes().cloned());
        all.sort_by_key(|node| node.address);
        all.dedup_by_key(|node| node.address);
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        if !all.is_empty() {
            let first = turn % all.len();
            all.rotate_left(first);
        }
        let now_ms = self.net.now_ms();
        all.sort_by_key(|node| (node.down_for(now_ms).is_some(), !node.is_connected()));
        all
    }

    /// Serves by another table; nodes that are in neither it nor the seeds are let go.
    pub fn adopt(&self, slots: Slots) {
        let plan = self.plan();
        let mut nodes = self.nodes.borrow_mut();
        let seeds = plan.seeds.iter().copied();
        let wanted: AHashSet<SocketAddr> = slots.nodes().map(|node| node.address).chain(seeds).collect();
        let gone: Vec<Rc<Node>> = nodes.values().filter(|node| !wanted.contains(&node.address)).cloned().collect();
        gone.iter().for_each(|node| drop(nodes.remove(&node.address)));
        drop(nodes);
        self.slots.replace(slots);
        gone.iter().for_each(|node| node.retire());
    }

    pub fn set_push_hook(&self, hook: PushHook) {
        self.push.replace(Some(hook));
    }

    pub fn on_push(&self, node: &Node, push: &[Reply]) {
        let hook = self.push.borrow().clone();
        if let Some(hook) = hook {
            hook(node.address, push);
        }
    }

    pub fn notice(&self, notice: Notice) {
        let mut notices = self.notices.borrow_mut();
        if notices.len() == NOTICES_MAX {
            notices.remove(0);
        }
        notices.push(notice);
    }

    pub fn take_notices(&self) -> Vec<Notice> {
        self.notices.take()
    }

    /// Something does not look as the table says.
    pub fn want_refresh(&self) {
        self.refresh_wanted.set(true);
        self.wake_keeper();
    }

    fn wake_keeper(&self) {
        if let Some(waker) = &*self.keeper.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Ready once a refresh is wanted, or nobody needs one any more.
    pub fn poll_wanted(&self, waker: &Waker) -> Poll<()> {
        if self.refresh_wanted.get() || self.closed.get() {
            return Poll::Ready(());
        }
        self.keeper.replace(Some(waker.clone()));
        Poll::Pending
    }

    pub fn refresh_begins(&self) {
        self.refresh_wanted.set(false);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Nobody uses it any more: its connections end with what is under way.
    pub fn close(&self) {
        self.closed.set(true);
        self.wake_keeper();
        let nodes: Vec<Rc<Node>> = self.nodes.borrow().values().cloned().collect();
        nodes.iter().for_each(|node| node.wake_links());
    }
}
