//! Ejections as tables over an injected clock: what is reported by which core, and who may be used after it.

use super::*;
use crate::net::Address;
use crate::upstream::EndpointPlan;
use crate::upstream::node::{DRAINED, UNWELL};
use ringway_config::snapshot::Cluster;
use std::time::Duration;

const CORES: usize = 2;

fn rules() -> Rules {
    Rules {
        consecutive_errors: 3,
        statuses: vec![500, 502, 503, 504],
        interval: Duration::from_secs(10),
        error_percent: 0,
        latency_percent: 0,
        requests_min: 20,
        ejection: Duration::from_secs(30),
        ejection_max: Duration::from_secs(100),
        ejected_percent_max: 50,
    }
}

fn config() -> Cluster {
    let text = "[listeners.a]\nbind = \":1\"\n[clusters.b]\nendpoints = [\"10.0.0.1:80\"]\noutlier = {}\n\
        [[routes]]\nname = \"c\"\ncluster = \"b\"\n";
    let source = ringway_config::Source { name: String::new(), text: text.into() };
    ringway_config::load(&source).unwrap().snapshot.clusters.remove(0)
}

fn endpoints(numbers: std::ops::Range<u8>) -> Vec<EndpointPlan> {
    let endpoint = |number: u8| EndpointPlan {
        address: Address::Ip(([10, 0, 0, number], 80).into()),
        label: format!("e{number}"),
        weight: 1,
        backup: false,
    };
    numbers.map(endpoint).collect()
}

fn cluster(count: u8) -> ClusterNode {
    ClusterNode::next(&config(), &endpoints(0..count), None, CORES, 0)
}

fn fail(node: &ClusterNode, endpoint: usize, rules: &Rules, times: usize, now_ms: u64) {
    for core in 0..times {
        report(node, &node.endpoints[endpoint], rules, core % CORES, now_ms, None);
    }
}

fn answer(node: &ClusterNode, endpoint: usize, rules: &Rules, times: usize, latency_us: u64) {
    for core in 0..times {
        report(node, &node.endpoints[endpoint], rules, core % CORES, 0, Some(latency_us));
        well(&node.endpoints[endpoint]);
    }
}

/// Whom this look ejected, and why.
fn tick(node: &ClusterNode, rules: &Rules, now_ms: u64) -> Vec<(String, Why)> {
    let counts = |endpoint: &EndpointNode| Why::ALL.map(|why| endpoint.record.ejections(why));
    let before: Vec<_> = node.endpoints.iter().map(|endpoint| counts(endpoint)).collect();
    look(node, Some(rules), now_ms);
    let all = std::iter::zip(&node.endpoints, before);
    all.flat_map(|(endpoint, before)| {
        let more = Why::ALL.into_iter().filter(move |&why| endpoint.record.ejections(why) > before[why as usize]);
        more.map(|why| (endpoint.label.clone(), why))
    })
    .collect()
}

fn usable(node: &ClusterNode) -> Vec<usize> {
    (0..node.endpoints.len()).filter(|&at| node.endpoints[at].is_usable()).collect()
}

#[test]
fn errors_in_a_row_over_all_cores_eject_and_a_good_answer_ends_the_row() {
    let node = cluster(3);
    let version = node.version();
    fail(&node, 1, &rules(), 2, 0);
    answer(&node, 1, &rules(), 1, 5);
    fail(&node, 1, &rules(), 2, 0);
    assert_eq!(usable(&node), [0, 1, 2]);
    fail(&node, 1, &rules(), 1, 0);
    assert_eq!(usable(&node), [0, 2]);
    assert!(node.version() > version && node.endpoints[1].record.ejections(Why::InARow) == 1);
}

#[test]
fn an_answer_that_breaks_off_is_no_good_one() {
    let node = cluster(2);
    for _ in 0..3 {
        report(&node, &node.endpoints[0], &rules(), 0, 0, Some(1));
        failed(&node, &node.endpoints[0], &rules(), 0);
    }
    assert_eq!(usable(&node), [1]);
}

#[test]
fn it_comes_back_by_itself_and_each_time_later() {
    let node = cluster(3);
    let mut now_ms = 0;
    for time_s in [30, 60, 90, 100, 100] {
        fail(&node, 0, &rules(), 3, now_ms);
        tick(&node, &rules(), now_ms + time_s * 1000 - 1);
        assert_eq!(usable(&node), [1, 2], "{time_s} s from {now_ms}");
        now_ms += time_s * 1000;
        tick(&node, &rules(), now_ms);
        assert_eq!(usable(&node), [0, 1, 2], "{time_s} s from {now_ms}");
        assert_eq!(node.endpoints[0].since_ms(), now_ms, "for the slow start");
    }
}

#[test]
fn intervals_without_an_ejection_are_forgiven() {
    let node = cluster(3);
    fail(&node, 0, &rules(), 3, 0);
    tick(&node, &rules(), 30_000);
    tick(&node, &rules(), 40_000);
    fail(&node, 0, &rules(), 3, 40_000);
    tick(&node, &rules(), 70_000);
    assert_eq!(usable(&node), [0, 1, 2], "30 s again, not 60");
}

#[test]
fn never_more_than_the_share_and_never_the_last() {
    let node = cluster(4);
    (0..4).for_each(|endpoint| fail(&node, endpoint, &rules(), 9, 0));
    assert_eq!(usable(&node), [2, 3], "half of four");
    let one_of_several = Rules { ejected_percent_max: 0, ..rules() };
    let node = cluster(3);
    (0..3).for_each(|endpoint| fail(&node, endpoint, &one_of_several, 9, 0));
    assert_eq!(usable(&node), [1, 2]);
    let node = cluster(1);
    fail(&node, 0, &rules(), 9, 0);
    assert_eq!(usable(&node), [0]);
    let all = Rules { ejected_percent_max: 100, ..rules() };
    let node = cluster(2);
    node.endpoints[0].bar(UNWELL);
    fail(&node, 1, &all, 9, 0);
    assert_eq!(usable(&node), [1], "the only one that is well");
}

#[test]
fn errors_of_an_interval_eject_from_the_volume_on() {
    let rules = Rules { consecutive_errors: 0, error_percent: 40, ..rules() };
    let node = cluster(3);
    tick(&node, &rules, 0);
    fail(&node, 0, &rules, 8, 0);
    answer(&node, 0, &rules, 12, 5);
    fail(&node, 1, &rules, 19, 0);
    assert_eq!(tick(&node, &rules, 10_000), [("e0".to_owned(), Why::ErrorPercent)]);
    assert_eq!(usable(&node), [1, 2]);
    fail(&node, 1, &rules, 1, 10_000);
    assert_eq!(tick(&node, &rules, 20_000), [], "counts begin anew with each interval");
}

#[test]
fn an_endpoint_that_is_slower_than_the_others_is_ejected() {
    let rules = Rules { consecutive_errors: 0, latency_percent: 300, ..rules() };
    let node = cluster(3);
    tick(&node, &rules, 0);
    answer(&node, 0, &rules, 20, 1000);
    answer(&node, 1, &rules, 20, 3001);
    answer(&node, 2, &rules, 20, 900);
    assert_eq!(tick(&node, &rules, 10_000), [("e1".to_owned(), Why::Latency)]);
    answer(&node, 0, &rules, 20, 1000);
    answer(&node, 2, &rules, 19, 90_000);
    assert_eq!(tick(&node, &rules, 20_000), [], "one alone has nothing to be compared with");
}

#[test]
fn a_frozen_process_ejects_nobody_and_wakes_to_what_is_over() {
    let node = cluster(2);
    fail(&node, 0, &rules(), 3, 0);
    assert_eq!(tick(&node, &rules(), 3_600_000), []);
    assert_eq!(usable(&node), [0, 1]);
}

#[test]
fn one_of_many_cores_does_what_is_due() {
    let rules = Rules { consecutive_errors: 0, error_percent: 50, ..rules() };
    let node = std::sync::Arc::new(cluster(3));
    tick(&node, &rules, 0);
    fail(&node, 0, &rules, 20, 0);
    let cores: Vec<_> = (0..4)
        .map(|_| {
            let (node, rules) = (node.clone(), rules.clone());
            std::thread::spawn(move || look(&node, Some(&rules), 10_000))
        })
        .collect();
    cores.into_iter().for_each(|core| core.join().unwrap());
    assert_eq!(node.endpoints[0].record.ejections(Why::ErrorPercent), 1);
}

#[test]
fn a_reload_keeps_what_is_known_and_new_endpoints_start_slowly() {
    let node = cluster(3);
    fail(&node, 0, &rules(), 3, 0);
    node.endpoints[1].bar(DRAINED);
    node.endpoints[2].bar(UNWELL);
    let version = node.version();
    let next = ClusterNode::next(&config(), &endpoints(0..5), Some(&node), CORES, 777);
    assert!(!next.endpoints[2].is_usable(), "a plan that may yet be refused changes nothing");
    next.enforce(&config());
    assert_eq!((usable(&next), next.version() > version), (vec![2, 3, 4], true), "without checks nobody is unwell");
    assert_eq!([0, 3].map(|at| next.endpoints[at].since_ms()), [0, 777]);
    assert!(next.endpoints[0].is_ejected() && next.endpoints[1].barred() == DRAINED);
    tick(&node, &rules(), 30_000);
    assert!(next.endpoints[0].is_usable(), "who still serves by the old plan speaks of the same endpoint");
}
