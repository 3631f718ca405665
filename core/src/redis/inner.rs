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

    /// Every node that may be asked about the others, the best first: one that answers and sees the cluster; one of the table,
    /// so that of single servers the same one stays in use; one that is connected. Among equals they take turns.
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
        let slots = self.slots.borrow();
        let known: AHashSet<SocketAddr> = slots.nodes().map(|node| node.address).collect();
        all.sort_by_cached_key(|node| {
            let is_known = known.contains(&node.address);
            (node.down_for(now_ms).is_some(), node.is_doubted(now_ms), !is_known, !node.is_connected())
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{EngineKind, NetLimits};
    use crate::redis::slots::Range;

    fn inner(nodes: &str) -> Rc<Inner> {
        let text = format!(
            "[redis.limits]\nnodes = [{nodes}]\n[listeners.a]\nbind = \":1\"\n[[routes]]\nname = \"a\"\n\
             respond = {{ body = \"a\" }}\n"
        );
        let loaded = ringway_config::load(&ringway_config::Source { name: "test".into(), text }).unwrap();
        let plan = RedisPlan::new(&loaded.snapshot.process.redis[0], |_| Vec::new(), 1).unwrap();
        let limits = NetLimits { ring_entries: 64, buffer_bytes: 4096, buffers_max: 64 };
        let net = Net::new(EngineKind::Epoll, &limits).unwrap();
        Inner::new(0, net, plan, Rc::new(RedisMeters::new("limits")))
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::new("127.0.0.1".parse().unwrap(), port)
    }

    #[test]
    fn who_is_asked_first() {
        let inner = inner("\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3\"");
        let order = || inner.candidates().iter().map(|node| node.address.port()).collect::<Vec<u16>>();
        assert_eq!([order(), order(), order(), order()], [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]], "in turn");
        // A table with the second alone, as of a single server: it stays.
        let ranges = [Range { first: 0, last: 16383, nodes: vec![at(2)] }];
        let slots = Slots::new(&ranges, |address| inner.node(address).unwrap());
        inner.adopt(slots);
        assert!((0..3).all(|_| order()[0] == 2));
        // One that sees no cluster is asked after those that may; one that does not answer, last.
        inner.node(at(2)).unwrap().doubt(0);
        inner.node(at(1)).unwrap().connect_failed(0, "refused".into());
        assert_eq!(order(), [3, 2, 1]);
        // A node that is in neither the table nor the plan is forgotten.
        let stranger = inner.node(at(9)).unwrap();
        inner.slots.borrow_mut().learn(7, stranger.clone());
        assert_eq!(inner.node_for(7, false).unwrap().address, at(9));
        let slots = Slots::new(&ranges, |address| inner.node(address).unwrap());
        inner.adopt(slots);
        assert_eq!(inner.node_for(7, false).unwrap().address, at(2));
        assert!(!Rc::ptr_eq(&inner.node(at(9)).unwrap(), &stranger));
    }

    #[test]
    fn reports_that_nobody_fetches_do_not_pile_up() {
        let inner = inner("\"127.0.0.1:1\"");
        for number in 0..2 * NOTICES_MAX {
            inner.notice(Notice { subject: number.to_string(), well: true, text: String::new() });
        }
        let left = inner.take_notices();
        assert_eq!((left.len(), left[0].subject.as_str()), (NOTICES_MAX, "64"), "the oldest go first");
    }
}
