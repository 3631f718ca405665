//! What a cluster's tables become: every key of each, set to something that is not its default, and the defaults.

use super::*;

/// What a cluster has that says nothing of retries.
pub(super) fn default_retry() -> Retry {
    Retry {
        attempts_max: 2,
        connect_failure: true,
        reset: true,
        timeout: false,
        statuses: Vec::new(),
        grpc_codes: Vec::new(),
        unsafe_methods: false,
        per_try_timeout: None,
        backoff: Duration::ZERO,
        backoff_max: seconds(1),
        retry_after_max: seconds(1),
        body_bytes_max: 64 * 1024,
    }
}

fn cluster(lines: &str) -> Cluster {
    let text = SMALLEST.replace("endpoints = [\"10.0.0.1:80\"]", &format!("endpoints = [\"10.0.0.1:80\"]\n{lines}"));
    snapshot(&text).clusters.remove(0)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn choosing() {
    let read = cluster(
        "balance = \"maglev\"\nhash_on = \"header:X-User\"\nhash_load_max_percent = 125\npanic_percent = 50\n\
        spill_percent = 100\nsticky = { cookie = \"r\", ttl = \"1h\", path = \"/a\", secure = true, \
        http_only = false, same_site = \"none\" }",
    );
    assert_eq!((read.balance, read.hash_on), (Balance::Maglev, Some(HashOn::Header("x-user".to_owned()))));
    assert_eq!((read.hash_load_max_percent, read.panic_percent, read.spill_percent), (Some(125), 50, 100));
    let (cookie, path, ttl) = ("r".to_owned(), "/a".to_owned(), Some(seconds(3600)));
    let sticky = Sticky { cookie, ttl, path, secure: true, http_only: false, same_site: SameSite::None };
    assert_eq!(read.sticky, Some(sticky));
    let words = [("client_ip", HashOn::ClientIp), ("path", HashOn::Path), ("param:id", HashOn::Param("id".to_owned()))];
    for (word, wanted) in words {
        let read = cluster(&format!("balance = \"ring_hash\"\nhash_on = \"{word}\""));
        assert_eq!((read.balance, read.hash_on), (Balance::RingHash, Some(wanted)));
    }
    let read = cluster("balance = \"ewma\"\nslow_start = { window = \"10s\", min_percent = 5 }");
    assert_eq!(read.slow_start, Some(SlowStart { window: seconds(10), min_percent: 5 }));
}

#[test]
fn a_backup() {
    let text = SMALLEST.replace("80\"]", "80\", { address = \"10.0.0.2:80\", weight = 3, backup = true }]");
    let [first, second] = &snapshot(&text).clusters[0].endpoints[..] else { panic!("two endpoints") };
    assert!(!first.backup && second.backup && second.weight == 3);
}

#[test]
fn retries() {
    let all = "attempts_max = 4\non = [\"timeout\"]\nstatuses = [502, 503]\ngrpc_codes = [\"unavailable\", \"aborted\"]\n\
        unsafe_methods = true\nper_try_timeout = \"1s\"\nbackoff = \"5ms\"\nbackoff_max = \"50ms\"\n\
        retry_after_max = \"2s\"\nbody_bytes_max = 0\n";
    let wanted = Retry {
        attempts_max: 4,
        connect_failure: false,
        reset: false,
        timeout: true,
        statuses: vec![502, 503],
        grpc_codes: vec![14, 10],
        unsafe_methods: true,
        per_try_timeout: Some(seconds(1)),
        backoff: millis(5),
        backoff_max: millis(50),
        retry_after_max: seconds(2),
        body_bytes_max: 0,
    };
    assert_eq!(cluster(&format!("[clusters.b.retry]\n{all}")).retry, wanted);
    let read = snapshot(&format!("{SMALLEST}hedge.after = \"30ms\"\n[routes.retry]\n{all}"));
    let Settings { retry, hedge, .. } = &read.routes[0].settings;
    assert_eq!((retry, hedge), (&Some(wanted), &Some(Hedge { after: millis(30) })));
    assert_eq!(read.clusters[0].retry, default_retry());
    let read = cluster("retry_budget = { percent = 0, per_second_min = 3 }");
    assert_eq!(read.retry_budget, RetryBudget { percent: 0, per_second_min: 3 });
}

#[test]
fn health() {
    let read = cluster(
        "checks = { path = \"/up?x=1\", method = \"HEAD\", host = \"app:81\", statuses = [204], port = 81, \
        interval = \"1s\", timeout = \"500ms\", rise = 1, fall = 2 }",
    );
    let (method, path) = ("HEAD".to_owned(), "/up?x=1".to_owned());
    let kind = CheckKind::Http { method, path, host: Some("app:81".to_owned()), statuses: vec![204] };
    let (interval, timeout) = (seconds(1), millis(500));
    assert_eq!(read.checks, Some(Checks { kind, port: Some(81), interval, timeout, rise: 1, fall: 2 }));
    let kind = cluster("checks.kind = \"tcp\"").checks.map(|checks| checks.kind);
    assert_eq!(kind, Some(CheckKind::Tcp));
    let read = cluster(
        "outlier = { consecutive_errors = 3, statuses = [500], interval = \"1s\", error_percent = 40, \
        latency_percent = 300, requests_min = 9, ejection = \"2s\", ejection_max = \"20s\", ejected_percent_max = 34 }",
    );
    let wanted = Outlier {
        consecutive_errors: 3,
        statuses: vec![500],
        interval: seconds(1),
        error_percent: 40,
        latency_percent: 300,
        requests_min: 9,
        ejection: seconds(2),
        ejection_max: seconds(20),
        ejected_percent_max: 34,
    };
    assert_eq!(read.outlier, Some(wanted));
}

#[test]
fn protection() {
    let defaults = Breaker {
        error_percent: 50,
        requests_min: 20,
        window: seconds(10),
        sleep: seconds(5),
        snapshot: millis(500),
        concurrent_max: 100,
        timeout: seconds(1),
        statuses: vec![500, 502, 503, 504],
        force: Force::No,
    };
    let read = cluster("breaker = {}\nendpoint_breaker = {}");
    assert_eq!((read.breaker, read.endpoint_breaker), (Some(defaults.clone()), Some(defaults)));
    let read = cluster(
        "breaker = { error_percent = 20, requests_min = 5, window = \"1s\", sleep = \"2s\", snapshot = \"0ms\", \
        concurrent_max = 0, timeout = \"3s\", statuses = [501], force = \"open\" }",
    );
    let wanted = Breaker {
        error_percent: 20,
        requests_min: 5,
        window: seconds(1),
        sleep: seconds(2),
        snapshot: Duration::ZERO,
        concurrent_max: 0,
        timeout: seconds(3),
        statuses: vec![501],
        force: Force::Open,
    };
    assert_eq!(read.breaker, Some(wanted));
    let read = cluster(
        "limits = { requests_max = 7, queue_max = 8, queue_timeout = \"1s\", connections_per_endpoint_max = 9, \
        connects_per_endpoint_max = 0 }\nadaptive = { by = \"aimd\", target = \"20ms\", requests_min = 2, \
        requests_max = 50 }",
    );
    let wanted = Limits {
        requests_max: 7,
        queue_max: 8,
        queue_timeout: seconds(1),
        connections_per_endpoint_max: 9,
        connects_per_endpoint_max: 0,
    };
    assert_eq!(read.limits, wanted);
    let by = AdaptiveBy::Aimd { target: millis(20) };
    assert_eq!(read.adaptive, Some(Adaptive { by, requests_min: 2, requests_max: 50 }));
}
