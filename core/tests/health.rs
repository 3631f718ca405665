//! Who is well: active checks, their verdict on every core, drains by hand, and what an operator sees of all of it.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Instant;

use support::ports::Port;
use support::{Gateway, Origin, SOON, cluster_all, ms, ringway, wait_until};

const UP: &str = "ringway_upstream_up";
const OUT: &str = "ringway_upstream_out";
const CHECKED: &str = "ringway_upstream_checks_total";

/// Answers checks of `/up` with a status that the test sets, and everything else with its name.
fn origin(name: &'static str) -> (Origin, Arc<AtomicU16>, Arc<AtomicUsize>) {
    let (status, checks) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
    let (says, counts) = (Arc::clone(&status), Arc::clone(&checks));
    let origin = Origin::start(move |x| match x.target() {
        "/up" => {
            counts.fetch_add(1, Ordering::Relaxed);
            x.reply(says.load(Ordering::Relaxed), "", "")
        }
        _ => x.ok(name),
    });
    (origin, status, checks)
}

fn two(one: &Origin, other: &Origin, lines: &str) -> String {
    cluster_all(&format!("endpoints = [\"{}\", \"{}\"]\n{lines}", one.endpoint(), other.endpoint()))
}

const FAST: &str = "checks = { path = \"/up\", interval = \"100ms\", timeout = \"100ms\", rise = 2, fall = 2 }";

/// Who answers `count` requests, each on a connection of its own, so that every core is met.
fn answered(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|_| gateway.get("/").expect(200).text()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn an_endpoint_that_fails_its_checks_gets_no_requests_until_it_is_back() {
    for shards in [1, 4] {
        let ((a, ..), (b, status, _)) = (origin("a"), origin("b"));
        let gateway = Gateway::with(&two(&a, &b, FAST)).shards(shards).start();
        assert_eq!(answered(&gateway, 20), ["a", "b"]);
        status.store(500, Ordering::Relaxed);
        let endpoint = b.endpoint();
        let is = |up: f64| {
            gateway.wait_metrics("the verdict", |m| m.sum(UP, &[("cluster", "app"), ("endpoint", &endpoint)]) == up)
        };
        let metrics = is(0.0);
        assert_eq!(metrics.count(OUT, &[("endpoint", &endpoint), ("reason", "check")]), 1);
        assert!(metrics.count(CHECKED, &[("endpoint", &endpoint), ("result", "failed")]) >= 2);
        assert_eq!(answered(&gateway, 20), ["a"], "{shards} shards");
        gateway.wait_output(&format!("cluster app: {endpoint} is out: 2 checks failed; the answer was 500"));
        status.store(204, Ordering::Relaxed);
        is(1.0);
        assert_eq!(answered(&gateway, 20), ["a", "b"], "{shards} shards");
        gateway.wait_output(&format!("cluster app: {endpoint} is back"));
    }
}

#[test]
fn each_endpoint_is_asked_once_an_interval_whatever_the_number_of_cores() {
    let ((a, _, asked), (b, ..)) = (origin("a"), origin("b"));
    let gateway = Gateway::with(&two(&a, &b, FAST)).shards(7).start();
    wait_until("a few checks", SOON, || asked.load(Ordering::Relaxed) >= 3);
    let (before, began) = (asked.load(Ordering::Relaxed), Instant::now());
    std::thread::sleep(ms(1000));
    let (more, intervals) = (asked.load(Ordering::Relaxed) - before, began.elapsed().as_millis() as usize / 90);
    assert!(more <= intervals + 1, "{more} checks in {intervals} of the shortest intervals");
    drop(gateway);
}

#[test]
fn checks_of_one_interval_are_spread_over_it() {
    let origins: Vec<_> = (0..16).map(|_| origin("x")).collect();
    let list: Vec<String> = origins.iter().map(|(origin, ..)| format!("\"{}\"", origin.endpoint())).collect();
    let checks = "checks = { path = \"/up\", interval = \"2s\" }";
    let gateway = Gateway::start(&cluster_all(&format!("endpoints = [{}]\n{checks}", list.join(", "))));
    let asked = || origins.iter().filter(|(.., asked)| asked.load(Ordering::Relaxed) > 0).count();
    wait_until("half of them", SOON, || asked() >= 8);
    assert!(asked() < 16, "all at once");
    wait_until("all of them", SOON, || asked() == 16);
    drop(gateway);
}

#[test]
fn a_tcp_check_only_connects() {
    let port = Port::lease();
    let (a, ..) = origin("a");
    let toml = cluster_all(&format!(
        "endpoints = [\"{}\", \"{}\"]\nretry.attempts_max = 1\n\
         checks = {{ kind = \"tcp\", interval = \"100ms\", timeout = \"100ms\", fall = 1, rise = 1 }}",
        a.endpoint(),
        port.address()
    ));
    let gateway = Gateway::start(&toml);
    let up = |count| gateway.wait_metrics("the verdict", |m| m.sum(UP, &[]) == f64::from(count));
    up(1);
    assert_eq!(answered(&gateway, 10), ["a"]);
    let b = Origin::on(&port.address(), |x| x.ok("b"));
    up(2);
    assert_eq!(answered(&gateway, 10), ["a", "b"]);
    assert!(b.requests().iter().all(|seen| seen.target == "/"), "a TCP check says nothing");
}

#[test]
fn a_check_can_have_its_own_port_host_and_statuses() {
    let (a, ..) = origin("a");
    let checked = Origin::start(|x| x.reply(418, "", ""));
    let toml = cluster_all(&format!(
        "endpoints = [\"{}\"]\nchecks = {{ path = \"/tea?x=1\", method = \"HEAD\", host = \"pot.example\", port = {}, \
         statuses = [418], interval = \"100ms\", timeout = \"100ms\", fall = 1 }}",
        a.endpoint(),
        checked.port()
    ));
    let gateway = Gateway::start(&toml);
    gateway.wait_metrics("good checks", |m| m.count(CHECKED, &[("result", "ok")]) >= 2);
    let seen = checked.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("HEAD", "/tea?x=1"));
    assert_eq!(seen.all("host"), ["pot.example"]);
    assert_eq!(gateway.metrics().sum(UP, &[]), 1.0);
}

#[test]
fn an_endpoint_that_hangs_fails_its_checks() {
    let hangs = Origin::start(|x| {
        x.await_gone(SOON);
        Ok(())
    });
    let (a, ..) = origin("a");
    let gateway = Gateway::start(&two(&a, &hangs, FAST));
    gateway.wait_metrics("the verdict", |m| m.sum(UP, &[("endpoint", &hangs.endpoint())]) == 0.0);
    gateway.wait_output("no answer in 100ms");
}

#[test]
fn a_reload_keeps_verdicts_and_follows_new_checks() {
    let ((a, ..), (b, status, asked)) = (origin("a"), origin("b"));
    status.store(500, Ordering::Relaxed);
    let mut gateway = Gateway::start(&two(&a, &b, FAST));
    let out = || gateway.metrics().sum(UP, &[("endpoint", &b.endpoint())]) == 0.0;
    wait_until("the verdict", SOON, out);
    gateway.rewrite_and_reload(&two(&a, &b, &format!("{FAST}\nconnect_timeout = \"2s\"")));
    assert_eq!(gateway.metrics().sum(UP, &[("endpoint", &b.endpoint())]), 0.0, "forgotten");
    assert_eq!(answered(&gateway, 10), ["a"]);
    gateway.rewrite_and_reload(&two(&a, &b, ""));
    assert_eq!(answered(&gateway, 10), ["a", "b"], "without checks nobody is unwell");
    let before = asked.load(Ordering::Relaxed);
    std::thread::sleep(ms(400));
    assert_eq!(asked.load(Ordering::Relaxed), before, "still asked");
}

#[test]
fn when_hardly_anybody_is_well_health_is_ignored() {
    let ((a, status, _), (b, other, _)) = (origin("a"), origin("b"));
    status.store(500, Ordering::Relaxed);
    other.store(500, Ordering::Relaxed);
    let gateway = Gateway::start(&two(&a, &b, FAST));
    gateway.wait_metrics("both out", |m| m.sum(UP, &[]) == 0.0);
    assert_eq!(answered(&gateway, 20), ["a", "b"]);
    gateway.wait_metrics("what was risked", |m| m.count("ringway_upstream_panic_requests_total", &[]) >= 20);
}

#[test]
fn without_panic_nobody_is_503() {
    let ((a, status, _), (b, other, _)) = (origin("a"), origin("b"));
    status.store(500, Ordering::Relaxed);
    other.store(500, Ordering::Relaxed);
    let gateway = Gateway::start(&two(&a, &b, &format!("{FAST}\npanic_percent = 0")));
    gateway.wait_metrics("both out", |m| m.sum(UP, &[]) == 0.0);
    let refused = gateway.get("/").expect(503);
    assert_eq!(refused.problem()["code"], "no_healthy_origin");
}

#[test]
fn an_operator_drains_an_endpoint_and_takes_it_back() {
    let ((a, ..), (b, ..)) = (origin("a"), origin("b"));
    let mut gateway = Gateway::start(&two(&a, &b, ""));
    let config = gateway.config.to_str().expect("a plain path").to_owned();
    let endpoint = b.endpoint();
    let act = |act: &str, which: &[&str]| ringway([&["endpoints", act], which, &["-c", &config]].concat());
    assert_eq!(answered(&gateway, 20), ["a", "b"]);
    act("drain", &["app", &endpoint]).expect(0);
    assert_eq!(answered(&gateway, 20), ["a"]);
    let listed = act("list", &[]).expect(0).out;
    assert!(listed.lines().any(|line| line.contains(&endpoint) && line.contains("out: drained")), "{listed}");
    gateway.rewrite_and_reload(&two(&a, &b, "connect_timeout = \"2s\""));
    assert_eq!(answered(&gateway, 20), ["a"], "a reload takes nobody back");
    act("resume", &["app", &endpoint]).expect(0);
    assert_eq!(answered(&gateway, 20), ["a", "b"]);
    let unknown = act("drain", &["app", "10.9.9.9:1"]).expect(1);
    assert!(unknown.err.contains("no endpoint \"10.9.9.9:1\" in app; there are "), "{}", unknown.err);
    let unknown = act("drain", &["nope", &endpoint]).expect(1);
    assert!(unknown.err.contains("no cluster \"nope\""), "{}", unknown.err);
}

#[test]
fn a_request_under_way_survives_the_drain_of_its_endpoint() {
    let slow = Origin::start(|x| {
        x.wait(ms(400));
        x.ok("slow")
    });
    let (a, ..) = origin("a");
    let gateway = Gateway::with(&two(&slow, &a, "")).shards(1).start();
    let mut client = gateway.client();
    client.send(support::client::request("GET", "/", "", b""));
    slow.wait_count(1);
    let config = gateway.config.to_str().expect("a plain path");
    ringway(["endpoints", "drain", "app", &slow.endpoint(), "-c", config]).expect(0);
    assert_eq!(client.response().expect(200).text(), "slow");
}

#[test]
fn each_try_is_in_the_log() {
    let (a, ..) = origin("a");
    let dead = Port::lease().address();
    let fails = Origin::start(|x| x.reply(503, "", "no"));
    let cluster = |name: &str, first: &str| {
        format!(
            "[clusters.{name}]\nendpoints = [\"{first}\", \"{}\"]\nretry.statuses = [503]\n\
             [[routes]]\nname = \"{name}\"\npath = \"/{name}\"\ncluster = \"{name}\"\n",
            a.endpoint()
        )
    };
    let toml = cluster("dead", &dead) + &cluster("fails", &fails.endpoint());
    let gateway = Gateway::with(&toml).shards(1).start();
    for (count, (path, tried)) in
        [("/dead", format!("{dead} UF")), ("/fails", format!("{} 503", fails.endpoint()))].into_iter().enumerate()
    {
        gateway.get(path).expect(200);
        let line = gateway.wait_log(count + 1).remove(count);
        let tries = line.field("ringway.tries").as_array().expect("a list").clone();
        assert_eq!(tries, [serde_json::Value::from(tried)]);
        assert_eq!((line.field("ringway.attempts").as_u64(), line.text("ringway.endpoint")), (Some(2), a.endpoint()));
    }
    let metrics = gateway.metrics();
    let of = |name: &str, cluster: &str| metrics.count(name, &[("cluster", cluster)]);
    let counts = ["dead", "fails"]
        .map(|cluster| (of("ringway_upstream_retries_total", cluster), of("ringway_upstream_budget_retries", cluster)));
    assert_eq!(counts, [(1, 0), (1, 1)], "of a failed connect no origin has seen anything");
}

#[test]
fn circuits_and_ejections_are_metrics_and_lines() {
    let fails = Origin::start(|x| x.reply(500, "", "no"));
    let (a, ..) = origin("a");
    let toml = format!(
        "{}\n[clusters.broken]\nendpoints = [\"{}\"]\nbreaker = {{ requests_min = 3, snapshot = \"0ms\" }}\n\
         [[routes]]\nname = \"broken\"\npath_prefix = \"/broken\"\ncluster = \"broken\"\n",
        two(&a, &fails, "outlier = { consecutive_errors = 2, ejection = \"30s\" }"),
        fails.endpoint()
    );
    let gateway = Gateway::start(&toml);
    assert_eq!(gateway.metrics().count("ringway_circuit_state", &[("cluster", "broken"), ("endpoint", "")]), 0);
    (0..3).for_each(|_| drop(gateway.get("/broken").expect(500)));
    let refused = gateway.get("/broken").expect(503);
    assert_eq!(refused.problem()["code"], "circuit_open");
    assert_eq!(refused.header("retry-after"), Some("5"));
    let metrics = gateway.metrics();
    assert_eq!(metrics.count("ringway_circuit_state", &[("cluster", "broken"), ("endpoint", "")]), 2);
    assert_eq!(metrics.count("ringway_circuit_refused_total", &[("cluster", "broken")]), 1);
    gateway.wait_output("cluster broken: the circuit is open");
    let endpoint = fails.endpoint();
    wait_until("an ejection", SOON, || {
        gateway.get("/");
        let labels = [("cluster", "app"), ("endpoint", endpoint.as_str()), ("rule", "consecutive_errors")];
        gateway.metrics().count("ringway_upstream_ejections_total", &labels) == 1
    });
    gateway.wait_output(&format!("cluster app: {endpoint} is ejected for"));
    assert_eq!(gateway.metrics().count(OUT, &[("endpoint", &endpoint), ("reason", "outlier")]), 1);
}

#[test]
fn explain_says_how_a_cluster_is_served() {
    let (a, ..) = origin("a");
    let lines = "balance = \"maglev\"\nhash_on = \"header:x-user\"\nbreaker = {}\noutlier = {}\nchecks.path = \"/up\"\n\
        limits = { requests_max = 9 }\nadaptive = {}\nretry = { statuses = [503] }";
    let toml = two(&a, &a, lines).replacen(&a.endpoint(), "127.0.0.9:1", 1) + "hedge.after = \"50ms\"\n";
    let gateway = Gateway::start(&toml);
    let said = ringway(["explain", "GET", "/x", "-c", gateway.config.to_str().expect("a plain path")]).expect(0).out;
    for wanted in [
        "balance    maglev on header:x-user",
        "breaker    open for 5s from 50 % errors of 20 requests in 10s on; 1s for each try",
        "outlier    out for 30s and longer after 5 errors in a row",
        "checks     GET /up every 5s, 2s each; out after 3 failed, back after 2 good",
        "limit      9 requests under way, 0 more wait up to 100ms",
        "adaptive   8 to 1000 requests under way on each core, by its own latency",
        "retry    up to 2 tries on connect_failure, reset, 503  (cluster app)",
        "hedge    a second request after 50ms  (route)",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is not in\n{said}");
    }
}
