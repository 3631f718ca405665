//! One server of a cluster as this core knows it: what waits for it, its connections, whether it can be reached. Does not
//! know which slots it has (`slots`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringway_proto::resp::write_command;

use super::call::{Call, Fate};
use super::inner::Inner;
use super::link::{InFlight, Link};
use super::plan::LINKS_MAX;
use crate::observe::core_meters::{add, sub};

/// Bytes of commands that wait for one node.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Commands on one connection from which another one is opened. Below, one connection is best: what is sent within a turn
/// goes in one piece.
const LINK_DEPTH: usize = 128;
/// Of commands handed to the kernel at a time; the rest waits where it can still be taken back.
const SEND_BYTES_MAX: usize = 256 * 1024;
/// A node that said that the cluster is down may be cut off from it, and what it knows be old.
const DOUBT: Duration = Duration::from_secs(2);
/// After a failed connect none is tried for so long; twice as long each time, up to the longest.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);
const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(1);

const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

pub(super) struct Node {
    pub address: SocketAddr,
    /// For errors and reports.
    pub label: Rc<str>,
    /// A library of functions is being loaded.
    pub loading: Cell<bool>,
    queue: RefCell<Queue>,
    links: RefCell<Vec<Rc<Link>>>,
    in_flight: Cell<usize>,
    down: RefCell<Down>,
    /// Until then its word about the cluster is the last one to be asked for.
    doubted_until_ms: Cell<u64>,
    /// The cluster has no such node any more.
    retired: Cell<bool>,
}

/// Commands not sent yet, encoded.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Of `bytes`, what has been taken already.
    head: usize,
    calls: VecDeque<Queued>,
}

struct Queued {
    call: Rc<Call>,
    bytes: usize,
    /// Replies before its own.
    skip: u8,
}

#[derive(Default)]
struct Down {
    failures: u32,
    until_ms: u64,
    why: Option<Rc<str>>,
}

/// Why a command was not taken.
pub(super) enum NotTaken {
    Full,
    Down(Rc<str>),
}

impl Node {
    pub fn new(address: SocketAddr) -> Rc<Node> {
        Rc::new(Node {
            address,
            label: address.to_string().into(),
            loading: Cell::new(false),
            queue: RefCell::default(),
            links: RefCell::default(),
            in_flight: Cell::new(0),
            down: RefCell::default(),
            doubted_until_ms: Cell::new(0),
            retired: Cell::new(false),
        })
    }

    /// Takes a command; its answer comes through the call.
    pub fn submit(self: &Rc<Self>, inner: &Rc<Inner>, asking: bool, args: &[&[u8]]) -> Result<Rc<Call>, NotTaken> {
        if let Some(why) = self.down_for(inner.net.now_ms()) {
            return Err(NotTaken::Down(why));
        }
        let plan = inner.plan();
        let mut queue = self.queue.borrow_mut();
        let beyond = !plan.config.wait && self.in_flight.get() + queue.calls.len() >= plan.share.active_max;
        if beyond || queue.calls.len() >= plan.share.queue_max || queue.bytes.len() - queue.head > QUEUE_BYTES_MAX {
            return Err(NotTaken::Full);
        }
        let call = inner.calls.take();
        queue.push(call.clone(), asking, args);
        drop(queue);
        add(&inner.meters.waiting, 1);
        self.rouse(inner);
        Ok(call)
    }

    /// Sees to it that somebody sends what waits.
    fn rouse(self: &Rc<Self>, inner: &Rc<Inner>) {
        let links = self.links.borrow();
        let open = links.iter().filter(|link| link.is_open());
        let idlest = open.min_by_key(|link| link.in_flight.get());
        let more = match idlest {
            Some(link) => {
                link.wake();
                link.in_flight.get() >= LINK_DEPTH && links.len() < LINKS_MAX && links.iter().all(|link| link.is_open())
            }
            None => links.is_empty(),
        };
        drop(links);
        if more {
            self.links.borrow_mut().push(Link::start(inner.clone(), self.clone()));
        }
    }

    /// Why it is not even tried at the moment.
    pub fn down_for(&self, now_ms: u64) -> Option<Rc<str>> {
        let down = self.down.borrow();
        down.why.clone().filter(|_| now_ms < down.until_ms)
    }

    /// It cannot serve since it does not see the rest of the cluster, or a part of that is gone.
    pub fn doubt(&self, now_ms: u64) {
        self.doubted_until_ms.set(now_ms + DOUBT.as_millis() as u64);
    }

    pub fn is_doubted(&self, now_ms: u64) -> bool {
        now_ms < self.doubted_until_ms.get()
    }

    /// What may be sent now, with a place in `in_flight` for each of it; empty: nothing. Commands that nobody waits for any
    /// more are left out: none of them shall run.
    pub fn take(&self, inner: &Inner, in_flight: &mut VecDeque<InFlight>) -> Vec<u8> {
        let mut queue = self.queue.borrow_mut();
        let room = inner.plan().share.active_max.saturating_sub(self.in_flight.get());
        let mut out = inner.net.buffers().send_buffer();
        let (mut taken, mut seen) = (0, 0);
        while taken < room && out.len() < SEND_BYTES_MAX {
            let Some(next) = queue.calls.pop_front() else { break };
            seen += 1;
            let end = queue.head + next.bytes;
            if !next.call.is_left() {
                out.extend_from_slice(&queue.bytes[queue.head..end]);
                next.call.note_sent();
                in_flight.push_back(InFlight { call: next.call, skip: next.skip });
                taken += 1;
            }
            queue.head = end;
        }
        queue.compact();
        self.in_flight.set(self.in_flight.get() + taken);
        sub(&inner.meters.waiting, seen);
        add(&inner.meters.in_flight, taken as u64);
        out
    }

    /// So many of what was taken is over.
    pub fn release(&self, inner: &Inner, count: usize) {
        self.in_flight.set(self.in_flight.get() - count);
        sub(&inner.meters.in_flight, count as u64);
    }

    pub fn is_empty(&self) -> bool {
        self.queue.borrow().calls.is_empty()
    }

    pub fn connected(&self) {
        self.down.replace(Down::default());
    }

    pub fn connect_failed(&self, now_ms: u64, why: Rc<str>) {
        let mut down = self.down.borrow_mut();
        let wait = RECONNECT_AFTER * 2_u32.saturating_pow(down.failures.min(16));
        down.failures += 1;
        down.until_ms = now_ms + wait.min(RECONNECT_AFTER_MAX).as_millis() as u64;
        down.why = Some(why);
    }

    /// A connection is gone, and why if it never was. What was not sent waits for another one, or fails with it.
    pub fn link_gone(self: &Rc<Self>, inner: &Rc<Inner>, link: &Rc<Link>, failed: Option<Rc<str>>) {
        self.links.borrow_mut().retain(|one| !Rc::ptr_eq(one, link));
        if self.is_empty() {
            return;
        }
        let others = !self.links.borrow().is_empty();
        match failed {
            Some(why) if !others => self.fail_waiting(inner, &why),
            _ if inner.is_closed() => self.fail_waiting(inner, &"the gateway ends".into()),
            _ => self.rouse(inner),
        }
    }

    fn fail_waiting(&self, inner: &Inner, why: &Rc<str>) {
        let Queue { calls, .. } = self.queue.take();
        sub(&inner.meters.waiting, calls.len() as u64);
        for queued in calls {
            queued.call.finish(Err(Fate::NotSent(why.clone())));
        }
    }

    /// No more connections are open than may rest.
    pub fn may_rest(&self, inner: &Inner) -> bool {
        self.links.borrow().len() <= inner.plan().share.idle_max
    }

    pub fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// The cluster has it no more: its connections end with what is under way.
    pub fn retire(&self) {
        self.retired.set(true);
        self.wake_links();
    }

    pub fn wake_links(&self) {
        self.links.borrow().iter().for_each(|link| link.wake());
    }

    pub fn is_connected(&self) -> bool {
        self.links.borrow().iter().any(|link| link.is_open())
    }
}

impl Queue {
    fn push(&mut self, call: Rc<Call>, asking: bool, args: &[&[u8]]) {
        let before = self.bytes.len();
        if asking {
            self.bytes.extend_from_slice(ASKING);
        }
        write_command(&mut self.bytes, args);
        self.calls.push_back(Queued { call, bytes: self.bytes.len() - before, skip: u8::from(asking) });
    }

    /// Forgets the bytes that were taken, once that is no more work than taking them was.
    fn compact(&mut self) {
        /// A queue that held large values does not keep their memory.
        const KEPT_BYTES_MAX: usize = 256 * 1024;
        if self.head == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
            self.head = 0;
        } else if self.head > self.bytes.len() / 2 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
    }
}
