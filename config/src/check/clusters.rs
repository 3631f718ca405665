//! Clusters: endpoints that differ, a key where one is hashed, times and limits that fit together.

use std::collections::HashMap;
use std::time::Duration;

use crate::bounded::Int;
use crate::cluster::{self, AdaptiveWord, CheckWord, RetryOn};
use crate::decode::{List, Table};
use crate::place::Place;
use crate::problem::{Fault, Problems};
use crate::snapshot::{
    Adaptive, AdaptiveBy, Breaker, CheckKind, Checks, Cluster, Endpoint, Hedge, Limits, Outlier, Retry, RetryBudget,
    SameSite, SlowStart, Sticky,
};

/// Of an active check, where the operator sets none.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn check(name: String, keys: cluster::Cluster, problems: &mut Problems) -> Cluster {
    let clusters = Place::ROOT.key("clusters");
    let place = clusters.key(&name);
    check_endpoints(&keys.endpoints.0, &place.key("endpoints"), problems);
    check_balance(&keys, &place, problems);
    let breaker = |table: Option<Table<cluster::Breaker>>| table.map(|Table(keys)| breaker(keys));
    Cluster {
        endpoints: keys.endpoints.0,
        balance: keys.balance,
        hash_on: keys.hash_on,
        hash_load_max_percent: keys.hash_load_max_percent.map(Int::u32),
        sticky: keys.sticky.map(|Table(keys)| sticky(keys, &place.key("sticky"), problems)),
        slow_start: keys
            .slow_start
            .map(|Table(keys)| SlowStart { window: keys.window.duration(), min_percent: keys.min_percent.u32() }),
        panic_percent: keys.panic_percent.u32(),
        spill_percent: keys.spill_percent.u32(),
        connect_timeout: keys.connect_timeout.duration(),
        first_byte_timeout: keys.first_byte_timeout.duration(),
        between_bytes_timeout: keys.between_bytes_timeout.duration(),
        total_timeout: keys.total_timeout.map(|time| time.duration()),
        response_head_bytes_max: keys.response_head_bytes_max.usize(),
        host: keys.host,
        dns_refresh: keys.dns_refresh.duration(),
        retry_stale: keys.retry_stale,
        retry: retry(keys.retry.0, &place.key("retry"), problems),
        retry_budget: RetryBudget {
            percent: keys.retry_budget.0.percent.u32(),
            per_second_min: keys.retry_budget.0.per_second_min.u32(),
        },
        checks: keys.checks.map(|Table(keys)| checks(keys, &place.key("checks"), problems)),
        outlier: keys.outlier.map(|Table(keys)| outlier(keys, &place.key("outlier"), problems)),
        breaker: breaker(keys.breaker),
        endpoint_breaker: breaker(keys.endpoint_breaker),
        limits: limits(&keys.limits.0),
        adaptive: keys.adaptive.and_then(|Table(keys)| adaptive(keys, &place.key("adaptive"), problems)),
        name,
    }
}

fn check_endpoints(endpoints: &[Endpoint], place: &Place<'_>, problems: &mut Problems) {
    if endpoints.is_empty() {
        problems.error(place, Fault::new("is empty").cure("name at least one, such as \"10.0.0.1:8080\""));
    } else if endpoints.iter().all(|endpoint| endpoint.backup) {
        let fault = Fault::new("every endpoint is a backup: there is nothing that they back up");
        problems.error(place, fault.cure("leave backup out of those that serve first"));
    }
    let mut known = HashMap::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        if let Some(first) = known.insert(&endpoint.address, index) {
            let fault = Fault::new(format!("the same address as endpoints[{first}]"));
            problems.error(&place.index(index), fault.cure("give one of them a weight instead"));
        }
    }
}

fn check_balance(keys: &cluster::Cluster, place: &Place<'_>, problems: &mut Problems) {
    if keys.balance.is_hashed() && keys.hash_on.is_none() {
        let fault = Fault::new("a hash needs a key");
        problems.error(&place.key("balance"), fault.cure("add hash_on, such as \"client_ip\" or \"header:x-user\""));
    }
    let for_hashes =
        [("hash_on", keys.hash_on.is_some()), ("hash_load_max_percent", keys.hash_load_max_percent.is_some())];
    if !keys.balance.is_hashed() {
        for (key, _) in for_hashes.iter().filter(|(_, written)| *written) {
            let fault = Fault::new("serves nobody: the balance is no hash");
            let cure = "add balance = \"maglev\" or \"ring_hash\", or leave it out";
            problems.error(&place.key(key), fault.cure(cure));
        }
    } else if keys.slow_start.is_some() {
        let fault = Fault::new("a hash knows no slow start: it would send every key elsewhere and back");
        problems.error(&place.key("slow_start"), fault.cure("leave it out, or choose another balance"));
    }
}

fn sticky(keys: cluster::Sticky, place: &Place<'_>, problems: &mut Problems) -> Sticky {
    if keys.same_site == SameSite::None && !keys.secure {
        let fault = Fault::new("browsers drop a cookie with SameSite=None that is not secure");
        problems.error(&place.key("same_site"), fault.cure("add secure = true"));
    }
    Sticky {
        cookie: keys.cookie.0,
        ttl: keys.ttl.map(|time| time.duration()),
        path: keys.path.0,
        secure: keys.secure,
        http_only: keys.http_only,
        same_site: keys.same_site,
    }
}

pub(super) fn retry(keys: cluster::Retry, place: &Place<'_>, problems: &mut Problems) -> Retry {
    let (backoff, backoff_max) = (keys.backoff.duration(), keys.backoff_max.duration());
    if backoff > backoff_max {
        problems.error(&place.key("backoff"), Fault::new("longer than backoff_max").cure("raise that, or lower this"));
    }
    let on = |condition| keys.on.0.contains(&condition);
    Retry {
        attempts_max: keys.attempts_max.u32(),
        connect_failure: on(RetryOn::ConnectFailure),
        reset: on(RetryOn::Reset),
        timeout: on(RetryOn::Timeout),
        statuses: numbers(&keys.statuses),
        grpc_codes: keys.grpc_codes.0.iter().map(|code| code.0).collect(),
        unsafe_methods: keys.unsafe_methods,
        per_try_timeout: keys.per_try_timeout.map(|time| time.duration()),
        backoff,
        backoff_max,
        retry_after_max: keys.retry_after_max.duration(),
        body_bytes_max: keys.body_bytes_max.usize(),
    }
}

pub(super) fn hedge(keys: &cluster::Hedge) -> Hedge {
    Hedge { after: keys.after.duration() }
}

fn checks(keys: cluster::Checks, place: &Place<'_>, problems: &mut Problems) -> Checks {
    if !matches!(keys.method.0.as_str(), "GET" | "HEAD") {
        problems.error(&place.key("method"), Fault::new("a check changes nothing").cure("use GET or HEAD"));
    }
    let interval = keys.interval.duration();
    let timeout = keys.timeout.map_or(CHECK_TIMEOUT.min(interval), |time| time.duration());
    if timeout > interval {
        let fault = Fault::new("longer than the interval: checks would overlap");
        problems.error(&place.key("timeout"), fault.cure("at most the interval"));
    }
    let kind = match keys.kind {
        CheckWord::Tcp => CheckKind::Tcp,
        CheckWord::Http => CheckKind::Http {
            method: keys.method.0,
            path: keys.path.0,
            host: keys.host.map(|host| host.0),
            statuses: numbers(&keys.statuses),
        },
    };
    Checks { kind, port: keys.port.map(Int::u16), interval, timeout, rise: keys.rise.u32(), fall: keys.fall.u32() }
}

fn outlier(keys: cluster::Outlier, place: &Place<'_>, problems: &mut Problems) -> Outlier {
    if keys.ejection.duration() > keys.ejection_max.duration() {
        let fault = Fault::new("longer than ejection_max");
        problems.error(&place.key("ejection"), fault.cure("raise that, or lower this"));
    }
    let slow = keys.latency_percent.u32();
    if (1..=100).contains(&slow) {
        let fault = Fault::new(format!("{slow} % of the median would eject what is no slower than the others"));
        problems.error(&place.key("latency_percent"), fault.cure("300 is three times as slow; 0 is off"));
    }
    Outlier {
        consecutive_errors: keys.consecutive_errors.u32(),
        statuses: numbers(&keys.statuses),
        interval: keys.interval.duration(),
        error_percent: keys.error_percent.u32(),
        latency_percent: slow,
        requests_min: keys.requests_min.u32(),
        ejection: keys.ejection.duration(),
        ejection_max: keys.ejection_max.duration(),
        ejected_percent_max: keys.ejected_percent_max.u32(),
    }
}

fn breaker(keys: cluster::Breaker) -> Breaker {
    Breaker {
        error_percent: keys.error_percent.u32(),
        requests_min: keys.requests_min.u32(),
        window: keys.window.duration(),
        sleep: keys.sleep.duration(),
        snapshot: keys.snapshot.duration(),
        concurrent_max: keys.concurrent_max.u32(),
        timeout: keys.timeout.duration(),
        statuses: numbers(&keys.statuses),
        force: keys.force,
    }
}

fn limits(keys: &cluster::Limits) -> Limits {
    Limits {
        requests_max: keys.requests_max.u32(),
        queue_max: keys.queue_max.u32(),
        queue_timeout: keys.queue_timeout.duration(),
        connections_per_endpoint_max: keys.connections_per_endpoint_max.u32(),
        connects_per_endpoint_max: keys.connects_per_endpoint_max.u32(),
    }
}

fn adaptive(keys: cluster::Adaptive, place: &Place<'_>, problems: &mut Problems) -> Option<Adaptive> {
    let (requests_min, requests_max) = (keys.requests_min.u32(), keys.requests_max.u32());
    if requests_min > requests_max {
        let fault = Fault::new("more than requests_max");
        problems.error(&place.key("requests_min"), fault.cure("raise that, or lower this"));
    }
    let by = match (keys.by, keys.target) {
        (AdaptiveWord::Gradient, None) => AdaptiveBy::Gradient,
        (AdaptiveWord::Aimd, Some(target)) => AdaptiveBy::Aimd { target: target.duration() },
        (AdaptiveWord::Aimd, None) => {
            let fault = Fault::new("aimd needs a target");
            problems.error(&place.key("by"), fault.cure("add target = \"50ms\", a latency that is still good"));
            return None;
        }
        (AdaptiveWord::Gradient, Some(_)) => {
            let fault = Fault::new("gradient finds its own target");
            problems.error(&place.key("target"), fault.cure("leave it out, or set by = \"aimd\""));
            return None;
        }
    };
    Some(Adaptive { by, requests_min, requests_max })
}

fn numbers<const MIN: i64, const MAX: i64, const MOST: usize>(list: &List<Int<MIN, MAX>, MOST>) -> Vec<u16> {
    list.0.iter().map(|status| status.u16()).collect()
}
