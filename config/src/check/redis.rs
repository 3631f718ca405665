//! Redis clusters: nodes that differ, one password.

use std::collections::HashSet;

use crate::bounded::Int;
use crate::place::Place;
use crate::problem::{Fault, Problems};
use crate::redis;
use crate::snapshot::{EndpointAddress, Redis};

pub(super) fn check(name: String, keys: redis::Redis, problems: &mut Problems) -> Redis {
    let all = Place::ROOT.key("redis");
    let place = all.key(&name);
    let nodes: Vec<EndpointAddress> = keys.nodes.0.into_iter().map(|node| node.0).collect();
    check_nodes(&nodes, &place.key("nodes"), problems);
    if keys.username.is_some() && keys.password.is_none() {
        let fault = Fault::new("a user without a password cannot log in");
        problems.error(&place.key("username"), fault.cure("add password = \"file:/run/secrets/redis\""));
    }
    Redis {
        nodes,
        username: keys.username.map(|user| user.0),
        password: keys.password,
        timeout: keys.timeout.duration(),
        connect_timeout: keys.connect_timeout.duration(),
        active_max: Int::usize(keys.active_max),
        wait: keys.wait,
        queue_max: Int::usize(keys.queue_max),
        idle_max: Int::usize(keys.idle_max),
        idle_timeout: keys.idle_timeout.duration(),
        read_from: keys.read_from,
        refresh: keys.refresh.duration(),
        evicts: keys.evicts,
        name,
    }
}

fn check_nodes(nodes: &[EndpointAddress], place: &Place<'_>, problems: &mut Problems) {
    if nodes.is_empty() {
        problems.error(place, Fault::new("is empty: there is nobody to ask").cure("name at least one node"));
    }
    let mut seen = HashSet::new();
    for (index, node) in nodes.iter().enumerate() {
        if !seen.insert(node) {
            problems.error(&place.index(index), Fault::new("is named twice").cure("leave it out"));
        }
    }
}
