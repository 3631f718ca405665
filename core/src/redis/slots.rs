//! Which node has which slot: read from `CLUSTER SLOTS`, corrected by what nodes say. Asks nobody (`keeper`).
//!
//! `CLUSTER SLOTS` and not `CLUSTER SHARDS`: every version since 3.0 answers it, and it leaves out replicas that are down.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use ringway_proto::resp::{Reply, SLOTS};

use super::node::Node;
use super::redirect::address;

/// Masters with their replicas; Redis advises against more than 1000 nodes.
pub(super) const SHARDS_MAX: usize = 2048;
const REPLICAS_MAX: usize = 64;
const NOBODY: u16 = u16::MAX;

/// A run of slots, and who has it: its master first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub first: u16,
    pub last: u16,
    pub nodes: Vec<SocketAddr>,
}

/// The answer to `CLUSTER SLOTS` of the node at `asked`; `None`: it is none, or names no node that can be reached.
pub(super) fn parse(reply: &Reply, asked: SocketAddr) -> Option<Vec<Range>> {
    let mut ranges = Vec::new();
    for row in reply.list()? {
        let [first, last, nodes @ ..] = row.list()? else { return None };
        let slot =
            |reply: &Reply| reply.integer().and_then(|slot| u16::try_from(slot).ok()).filter(|slot| *slot < SLOTS);
        let (first, last) = (slot(first)?, slot(last)?);
        let mut nodes = nodes.iter();
        // Without its master a range is nobody's; a replica that cannot be reached is left out.
        let Some(master) = node_address(nodes.next()?, asked.ip()) else { continue };
        let replicas = nodes.filter_map(|node| node_address(node, asked.ip())).take(REPLICAS_MAX);
        if first <= last {
            ranges.push(Range { first, last, nodes: std::iter::once(master).chain(replicas).collect() });
        }
    }
    (!ranges.is_empty()).then_some(ranges)
}

/// `[host, port, id, [name, value, ...]]`. Where the cluster prefers host names, the address is among the values.
fn node_address(node: &Reply, asked: IpAddr) -> Option<SocketAddr> {
    let [host, port, rest @ ..] = node.list()? else { return None };
    let port = u16::try_from(port.integer()?).ok().filter(|port| *port > 0)?;
    let text = |reply: &Reply| reply.text().and_then(|text| str::from_utf8(text).ok()).map(str::to_owned);
    let host = match host {
        Reply::Nil => String::new(),
        host => text(host)?,
    };
    let by_ip = || rest.get(1).and_then(|values| values.field("ip")).and_then(text);
    address(&host, port, asked).or_else(|| address(&by_ip().filter(|ip| !ip.is_empty())?, port, asked))
}

/// This core's table.
pub(super) struct Slots {
    /// By slot: which of `shards`.
    owners: Box<[u16]>,
    shards: Vec<Shard>,
}

struct Shard {
    master: Rc<Node>,
    replicas: Vec<Rc<Node>>,
    /// Whose turn it is to answer a read.
    turn: Cell<usize>,
}

impl Slots {
    pub fn empty() -> Slots {
        Slots { owners: vec![NOBODY; usize::from(SLOTS)].into(), shards: Vec::new() }
    }

    /// `node` finds or makes the one at an address.
    pub fn new(ranges: &[Range], mut node: impl FnMut(SocketAddr) -> Rc<Node>) -> Slots {
        let mut slots = Slots::empty();
        for range in ranges {
            let known = slots.shards.iter().position(|shard| shard.master.address == range.nodes[0]);
            let owner = known.unwrap_or(slots.shards.len());
            if known.is_none() {
                if slots.shards.len() == SHARDS_MAX {
                    break;
                }
                let mut nodes = range.nodes.iter().map(|address| node(*address));
                let master = nodes.next().expect("a range has a master");
                slots.shards.push(Shard { master, replicas: nodes.collect(), turn: Cell::new(0) });
            }
            slots.owners[usize::from(range.first)..=usize::from(range.last)].fill(owner as u16);
        }
        slots
    }

    pub fn master(&self, slot: u16) -> Option<&Rc<Node>> {
        self.shard(slot).map(|shard| &shard.master)
    }

    /// A replica in its turn, one that can be reached if there is any; else the master.
    pub fn replica(&self, slot: u16, now_ms: u64) -> Option<&Rc<Node>> {
        let shard = self.shard(slot)?;
        let count = shard.replicas.len();
        let turn = shard.turn.get();
        shard.turn.set(turn.wrapping_add(1));
        let mut in_turn = (0..count).map(|step| &shard.replicas[turn.wrapping_add(step) % count]);
        Some(in_turn.find(|replica| replica.down_for(now_ms).is_none()).unwrap_or(&shard.master))
    }

    fn shard(&self, slot: u16) -> Option<&Shard> {
        self.shards.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    pub fn masters(&self) -> impl Iterator<Item = &Rc<Node>> {
        self.shards.iter().map(|shard| &shard.master)
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Rc<Node>> {
        self.shards.iter().flat_map(|shard| std::iter::once(&shard.master).chain(&shard.replicas))
    }

    /// A node said so. False: no more masters are taken in.
    pub fn learn(&mut self, slot: u16, master: Rc<Node>) -> bool {
        let known = self.shards.iter().position(|shard| Rc::ptr_eq(&shard.master, &master));
        let owner = known.unwrap_or(self.shards.len());
        if owner == SHARDS_MAX || slot >= SLOTS {
            return false;
        }
        if known.is_none() {
            self.shards.push(Shard { master, replicas: Vec::new(), turn: Cell::new(0) });
        }
        self.owners[usize::from(slot)] = owner as u16;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn text(text: &str) -> Reply {
        Reply::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn node(host: Reply, port: i64, values: &[&str]) -> Reply {
        Reply::List(vec![host, Reply::Integer(port), text("id"), Reply::List(values.iter().map(|v| text(v)).collect())])
    }

    fn row(first: i64, last: i64, nodes: Vec<Reply>) -> Reply {
        Reply::List([vec![Reply::Integer(first), Reply::Integer(last)], nodes].concat())
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_is_read() {
        let reply = Reply::List(vec![
            row(0, 5460, vec![node(text("10.0.0.1"), 7001, &[]), node(text("10.0.0.4"), 7004, &[])]),
            row(5461, 10922, vec![node(Reply::Nil, 7002, &[])]),
            row(
                10923,
                16383,
                vec![node(text("redis-3.test"), 7003, &["ip", "10.0.0.3"]), node(text("x.test"), 7, &[])],
            ),
        ]);
        let ranges = parse(&reply, at("10.0.0.9:7009")).unwrap();
        let nodes: Vec<Vec<String>> =
            ranges.iter().map(|range| range.nodes.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(nodes, [vec!["10.0.0.1:7001", "10.0.0.4:7004"], vec!["10.0.0.9:7002"], vec!["10.0.0.3:7003"]]);
        let mut made = 0;
        let mut slots = Slots::new(&ranges, |address| {
            made += 1;
            Node::new(address)
        });
        assert_eq!((made, slots.masters().count(), slots.nodes().count()), (4, 3, 4));
        assert_eq!(slots.master(5460).unwrap().address, at("10.0.0.1:7001"));
        assert_eq!(slots.master(5461).unwrap().address, at("10.0.0.9:7002"));
        assert_eq!(slots.replica(3, 0).unwrap().address, at("10.0.0.4:7004"));
        assert_eq!(slots.replica(16383, 0).unwrap().address, at("10.0.0.3:7003"), "without replicas, the master");
        assert!(slots.learn(3, Node::new(at("10.0.0.8:7008"))));
        assert_eq!(slots.master(3).unwrap().address, at("10.0.0.8:7008"));
        assert_eq!(slots.master(4).unwrap().address, at("10.0.0.1:7001"));
        assert!(!slots.learn(SLOTS, Node::new(at("10.0.0.8:7008"))));
    }

    #[test]
    fn what_is_no_answer_changes_nothing() {
        let nobody = row(0, 5, vec![node(text("nowhere.test"), 7001, &[])]);
        let backwards = row(5, 0, vec![node(text("10.0.0.1"), 7001, &[])]);
        let beyond = row(0, 16384, vec![node(text("10.0.0.1"), 7001, &[])]);
        let no_port = row(0, 1, vec![node(text("10.0.0.1"), 0, &[])]);
        for reply in [nobody, backwards, beyond, no_port, row(0, 1, Vec::new()), Reply::Nil] {
            assert_eq!(parse(&Reply::List(vec![reply]), at("10.0.0.9:1")), None);
        }
        assert_eq!(parse(&Reply::List(Vec::new()), at("10.0.0.9:1")), None);
        assert!(Slots::empty().master(0).is_none() && Slots::empty().replica(0, 0).is_none());
    }
}
