//! What `explain` says of a cluster: how an endpoint is chosen, what is tried again, and what protects it.

use std::fmt::Write;

use ringway_config::snapshot::{
    AdaptiveBy, Balance, Breaker, CheckKind, Checks, Cluster, EndpointAddress, Force, Hedge, Limits, Outlier, Retry,
};
use ringway_config::units::duration_text;

pub fn describe(out: &mut String, cluster: &Cluster) {
    // Writing to a String cannot fail, here and below.
    let list: Vec<String> = cluster
        .endpoints
        .iter()
        .map(|endpoint| {
            let backup = if endpoint.backup { " (backup)" } else { "" };
            format!("{}{backup}", endpoint_text(&endpoint.address))
        })
        .collect();
    let _ = writeln!(out, "  cluster  {}: {}", cluster.name, list.join(", "));
    let mut say = |what: &str, text: String| {
        let _ = writeln!(out, "    {what:<10} {text}");
    };
    if cluster.endpoints.len() > 1 {
        say("balance", balance(cluster));
    }
    if let Some(sticky) = &cluster.sticky {
        say("sticky", format!("by the cookie {}", sticky.cookie));
    }
    if let Some(slow) = cluster.slow_start {
        say("slow start", format!("from {} % over {}", slow.min_percent, duration_text(slow.window)));
    }
    if let Some(rules) = &cluster.checks {
        say("checks", checks(rules));
    }
    if let Some(rules) = &cluster.outlier {
        say("outlier", outlier(rules));
    }
    for (what, rules) in [("breaker", &cluster.breaker), ("breakers", &cluster.endpoint_breaker)] {
        if let Some(rules) = rules {
            say(what, breaker(rules));
        }
    }
    limits(&cluster.limits).into_iter().for_each(|text| say("limit", text));
    if let Some(adaptive) = &cluster.adaptive {
        let by = match adaptive.by {
            AdaptiveBy::Gradient => "its own latency".to_owned(),
            AdaptiveBy::Aimd { target } => format!("a latency of {}", duration_text(target)),
        };
        let (least, most) = (adaptive.requests_min, adaptive.requests_max);
        say("adaptive", format!("{least} to {most} requests under way on each core, by {by}"));
    }
}

fn balance(cluster: &Cluster) -> String {
    let word = match cluster.balance {
        Balance::RoundRobin => "round_robin",
        Balance::LeastRequest => "least_request",
        Balance::RandomTwo => "random_two",
        Balance::Ewma => "ewma",
        Balance::RingHash => "ring_hash",
        Balance::Maglev => "maglev",
    };
    let on = cluster.hash_on.as_ref().map(|on| format!(" on {on}")).unwrap_or_default();
    let bound = cluster.hash_load_max_percent.map(|most| format!(", at most {most} % of the mean load"));
    format!("{word}{on}{}", bound.unwrap_or_default())
}

fn checks(rules: &Checks) -> String {
    let what = match &rules.kind {
        CheckKind::Tcp => "a TCP connect".to_owned(),
        CheckKind::Http { method, path, .. } => format!("{method} {path}"),
    };
    let (every, timeout) = (duration_text(rules.interval), duration_text(rules.timeout));
    format!("{what} every {every}, {timeout} each; out after {} failed, back after {} good", rules.fall, rules.rise)
}

fn outlier(rules: &Outlier) -> String {
    let mut by = Vec::new();
    if rules.consecutive_errors > 0 {
        by.push(format!("{} errors in a row", rules.consecutive_errors));
    }
    if rules.error_percent > 0 {
        by.push(format!("{} % of errors", rules.error_percent));
    }
    if rules.latency_percent > 0 {
        by.push(format!("{} % of the median latency", rules.latency_percent));
    }
    format!("out for {} and longer after {}", duration_text(rules.ejection), by.join(" or "))
}

fn breaker(rules: &Breaker) -> String {
    match rules.force {
        Force::Open => return "forced open: refuses everything".to_owned(),
        Force::Closed => return "forced closed: refuses nothing".to_owned(),
        Force::No => {}
    }
    let (window, sleep) = (duration_text(rules.window), duration_text(rules.sleep));
    let (percent, least, timeout) = (rules.error_percent, rules.requests_min, duration_text(rules.timeout));
    format!("open for {sleep} from {percent} % errors of {least} requests in {window} on; {timeout} for each try")
}

fn limits(rules: &Limits) -> Vec<String> {
    let mut all = Vec::new();
    if rules.requests_max > 0 {
        let (queue, time) = (rules.queue_max, duration_text(rules.queue_timeout));
        all.push(format!("{} requests under way, {queue} more wait up to {time}", rules.requests_max));
    }
    if rules.connections_per_endpoint_max > 0 {
        all.push(format!("{} connections to each endpoint", rules.connections_per_endpoint_max));
    }
    all
}

/// What is tried again, in one line; `whose` says so.
pub fn retry(rules: &Retry, whose: &str) -> String {
    let mut on = Vec::new();
    let named = [("connect_failure", rules.connect_failure), ("reset", rules.reset), ("timeout", rules.timeout)];
    on.extend(named.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()));
    on.extend(rules.statuses.iter().map(ToString::to_string));
    on.extend(rules.grpc_codes.iter().map(|code| format!("grpc-status {code}")));
    let methods = if rules.unsafe_methods { ", any method" } else { "" };
    let each = rules.per_try_timeout.map(|time| format!(", {} each", duration_text(time))).unwrap_or_default();
    match rules.attempts_max {
        1 => format!("none  ({whose})"),
        most => format!("up to {most} tries on {}{each}{methods}  ({whose})", on.join(", ")),
    }
}

pub fn hedge(rules: Hedge, whose: &str) -> String {
    format!("a second request after {}  ({whose})", duration_text(rules.after))
}

fn endpoint_text(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Ip(address) => address.to_string(),
        EndpointAddress::Unix(path) => format!("unix:{}", path.display()),
        EndpointAddress::Dns { host, port } => format!("{host}:{port}"),
    }
}
