//! Keeps the table of slots up to date: at start, when something does not fit, and now and then. Reports what an operator
//! should know of the cluster. Gives no command of anybody's (`cluster`).

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ringway_proto::resp::{Reply, SLOTS};

use super::call::Fate;
use super::cluster::set;
use super::inner::Inner;
use super::node::{Node, NotTaken};
use super::slots::{Range, Slots, parse};
use crate::mesh::Notice;
use crate::observe::core_meters::add;

/// However many commands find the table wrong, the cluster is asked no more often than this.
const EVERY_MIN: Duration = Duration::from_millis(50);
/// After a round in which nobody answered.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// For one node to answer; a stopped one must not keep us from the next for long.
const ANSWER_TIME_MIN: Duration = Duration::from_millis(100);
/// Rounds without an answer before it is said that the cluster is out of reach.
const ROUNDS_UNTIL_SAID: u32 = 2;

/// For as long as somebody uses the cluster.
pub(super) async fn keep(inner: Rc<Inner>) {
    let mut keeper = Keeper { inner, rounds_failed: 0, is_said: false, policies: HashMap::new() };
    loop {
        let is_asked = keeper.wait().await;
        if keeper.inner.is_closed() {
            return;
        }
        keeper.inner.refresh_begins();
        keeper.refresh().await;
        let first = keeper.policies.is_empty();
        if keeper.inner.core == 0 && !keeper.inner.plan().config.evicts && (first || !is_asked) {
            keeper.check_policies().await;
        }
        keeper.inner.net.sleep(EVERY_MIN).await;
    }
}

struct Keeper {
    inner: Rc<Inner>,
    /// In a row.
    rounds_failed: u32,
    /// That it is out of reach.
    is_said: bool,
    /// By master: whether its policy is a good one.
    policies: HashMap<SocketAddr, bool>,
}

impl Keeper {
    /// True: somebody wants it; else it is time.
    async fn wait(&self) -> bool {
        let period = self.inner.plan().config.refresh;
        let wait = if self.rounds_failed > 0 { period.min(AGAIN_AFTER) } else { period };
        let mut sleep = pin!(self.inner.net.sleep(wait));
        poll_fn(|cx| {
            if self.inner.poll_wanted(cx.waker()).is_ready() {
                return Poll::Ready(true);
            }
            sleep.as_mut().poll(cx).map(|()| false)
        })
        .await
    }

    async fn refresh(&mut self) {
        let mut why: Rc<str> = "no name of its nodes is resolved".into();
        for node in self.inner.candidates() {
            match self.ranges(&node).await {
                Ok(ranges) => {
                    let node = |address| self.inner.node(address).unwrap_or_else(|| Node::new(address));
                    let slots = Slots::new(&ranges, node);
                    self.inner.adopt(slots);
                    add(&self.inner.meters.refreshes_ok, 1);
                    return self.note_reached(None);
                }
                Err(reason) => why = format!("{}: {reason}", node.label).into(),
            }
            if self.inner.is_closed() {
                return;
            }
        }
        add(&self.inner.meters.refreshes_failed, 1);
        self.note_reached(Some(&why));
    }

    async fn ranges(&self, node: &Rc<Node>) -> Result<Vec<Range>, String> {
        let all = |node: &Rc<Node>| vec![Range { first: 0, last: SLOTS - 1, nodes: vec![node.address] }];
        match self.ask(node, &[b"CLUSTER", b"SLOTS"]).await? {
            Reply::Error(text) if text.windows(24).any(|part| part == b"cluster support disabled") => Ok(all(node)),
            Reply::Error(text) => Err(String::from_utf8_lossy(&text).into_owned()),
            reply => parse(&reply, node.address).ok_or_else(|| "it knows no slots of the cluster".to_owned()),
        }
    }

    async fn ask(&self, node: &Rc<Node>, args: &[&[u8]]) -> Result<Reply, String> {
        let inner = &self.inner;
        let time = inner.plan().config.timeout.max(ANSWER_TIME_MIN);
        let call = node.submit(inner, false, args).map_err(|why| match why {
            NotTaken::Full => "too many commands wait".to_owned(),
            NotTaken::Down(why) => why.to_string(),
        })?;
        let until_ms = inner.net.now_ms() + time.as_millis() as u64;
        inner.calls.answer(&inner.net, call, until_ms).await.map_err(|fate| match fate {
            Fate::NotSent(why) | Fate::Unanswered(why) => why.to_string(),
            Fate::TimedOut { .. } => format!("no answer in {time:?}"),
        })
    }

    fn note_reached(&mut self, failed: Option<&str>) {
        let plan = self.inner.plan();
        let name = &plan.config.name;
        self.rounds_failed = if failed.is_some() { self.rounds_failed + 1 } else { 0 };
        let lost = self.rounds_failed >= ROUNDS_UNTIL_SAID;
        set(&self.inner.meters.reachable, self.rounds_failed == 0 || (!lost && self.inner.meters.reachable.get() > 0));
        if lost == self.is_said || self.rounds_failed > 0 && !lost {
            return;
        }
        self.is_said = lost;
        let text = match failed {
            Some(why) => format!("redis {name}: none of its nodes can be asked; the last one, {why}"),
            None => format!("redis {name}: its nodes answer again"),
        };
        self.inner.notice(Notice { subject: format!("redis {name} reachable"), well: !lost, text });
    }

    /// Limits that a full memory drops begin anew: an operator must hear of nodes that may.
    async fn check_policies(&mut self) {
        let masters: Vec<Rc<Node>> = self.inner.slots.borrow().masters().cloned().collect();
        for node in &masters {
            // `CONFIG GET` is forbidden in most of the Redis that one can rent.
            let Ok(Reply::Text(text)) = self.ask(node, &[b"INFO", b"memory"]).await else { continue };
            let text = String::from_utf8_lossy(&text);
            let Some(policy) = text.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")) else { continue };
            let well = policy == "noeviction";
            if self.policies.insert(node.address, well).unwrap_or(true) == well {
                continue;
            }
            let name = &self.inner.plan().config.name;
            let text = match well {
                true => format!("redis {name}: {} keeps what it holds: maxmemory-policy is noeviction", node.label),
                false => format!(
                    "redis {name}: {} may drop limits when its memory is full: maxmemory-policy is {policy}; set it to \
                     noeviction, or `evicts = true` if it holds no limits",
                    node.label
                ),
            };
            self.inner.notice(Notice { subject: format!("redis {name} {} policy", node.label), well, text });
        }
        self.policies.retain(|address, _| masters.iter().any(|node| node.address == *address));
    }
}
