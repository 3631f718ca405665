//! Limits that a fleet of gateways shares through a real Redis Cluster: three gateways, each a process of its own.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringway_proto::resp::key_slot;
use support::cli::ringway;
use support::redis::{self, RedisCluster, RedisServer};
use support::{Gateway, ms, wait_until};

const GATEWAYS: usize = 3;
const BATCH: usize = 20;

fn nodes(cluster: &RedisCluster) -> String {
    let addresses: Vec<String> = cluster.masters().iter().map(|node| format!("\"{}\"", node.address())).collect();
    addresses.join(", ")
}

fn document(nodes: &str, rule: &str) -> String {
    format!(
        "[redis.limits]\nnodes = [{nodes}]\n[[routes]]\nname = \"r\"\npath_prefix = \"/\"\nrespond = {{}}\n\
         filters = [{{ {rule} }}]\n"
    )
}

fn limit(keys: &str) -> String {
    format!("rate_limit = {{ name = \"api\", scope = \"fleet\", key = \"global\", headers = \"off\", {keys} }}")
}

fn gateways(nodes: &str, rule: &str) -> Vec<Gateway> {
    let fleet: Vec<_> = (0..GATEWAYS).map(|_| Gateway::start(&document(nodes, rule))).collect();
    for gateway in &fleet {
        let all = |metrics: &support::Metrics| metrics.count("ringway_fleet_gateways", &[("redis", "limits")]) == 3;
        gateway.wait_metrics("three gateways", all);
    }
    fleet
}

/// A connection that asks many at a time.
struct Asker(TcpStream);

impl Asker {
    fn of(gateway: &Gateway) -> Asker {
        let stream = TcpStream::connect(gateway.addr()).expect("connect");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Asker(stream)
    }

    /// Answers with 200, with 429, and with 503.
    fn batch(&mut self, count: usize) -> [usize; 3] {
        self.0.write_all("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(count).as_bytes()).expect("sent");
        let (mut text, mut piece) = (Vec::new(), [0; 65536]);
        let of = |text: &[u8], what: &str| text.windows(what.len()).filter(|part| *part == what.as_bytes()).count();
        loop {
            let length = self.0.read(&mut piece).expect("answers");
            assert!(length > 0, "the connection ended");
            text.extend_from_slice(&piece[..length]);
            let ends = text.ends_with(b"}\n") || text.ends_with(b"\r\n\r\n");
            if ends && of(&text, "HTTP/1.1 ") == count {
                return ["HTTP/1.1 200", "HTTP/1.1 429", "HTTP/1.1 503"].map(|status| of(&text, status));
            }
        }
    }
}

/// What passes at each gateway in a second when all ask as often as their weight says: more than the rate together.
fn passed(fleet: &[Gateway], weights: [u32; GATEWAYS], time: Duration) -> ([usize; GATEWAYS], Duration) {
    let began = Instant::now();
    let mut passed = [0; GATEWAYS];
    thread::scope(|scope| {
        for ((gateway, weight), passed) in std::iter::zip(std::iter::zip(fleet, weights), &mut passed) {
            scope.spawn(move || {
                let mut asker = Asker::of(gateway);
                while weight > 0 && began.elapsed() < time {
                    *passed += asker.batch(BATCH)[0];
                    thread::sleep(ms(10) * 10 / weight);
                }
            });
        }
    });
    (passed, began.elapsed())
}

fn skip(test: &str) -> bool {
    redis::is_missing(test)
}

#[test]
fn gateways_share_one_budget_however_the_load_is_spread() {
    if skip("gateways_share_one_budget_however_the_load_is_spread") {
        return;
    }
    let (cluster, rate, burst) = (RedisCluster::start(), 1000.0, 100.0);
    for weights in [[10, 0, 0], [10, 10, 10], [10, 1, 1]] {
        let rule = limit(&format!("rate = \"{rate}/s\", burst = {burst}"))
            .replace("api", &format!("api{weights:?}").replace(['[', ']', ',', ' '], "-"));
        let fleet = gateways(&nodes(&cluster), &rule);
        let (passed, time) = passed(&fleet, weights, Duration::from_secs(4));
        let (all, most) = (passed.iter().sum::<usize>() as f64, rate * time.as_secs_f64() + burst);
        println!("{weights:?}: {passed:?}, {:+.2} % of the bound", (all / most - 1.0) * 100.0);
        assert!(all <= most, "{weights:?}: {passed:?} is over {most}");
        // Two hundredths by the leases; what the machine costs on top is no limit's fault.
        assert!(all >= 0.93 * most, "{weights:?}: {passed:?} of {most}");
    }
}

#[test]
fn redis_is_asked_far_less_often_than_requests_come() {
    if skip("redis_is_asked_far_less_often_than_requests_come") {
        return;
    }
    let server = RedisServer::start(&[]);
    // More than any machine asks for here: an empty budget is asked for more often.
    let rule = limit("rate = \"1000000/s\", burst = 200000");
    let gateway = Gateway::start(&document(&format!("\"{}\"", server.address()), &rule));
    let mut asker = Asker::of(&gateway);
    assert_eq!(asker.batch(1), [1, 0, 0]);
    let (began, before) = (Instant::now(), server.calls("fcall"));
    let mut passed = 0;
    while began.elapsed() < Duration::from_secs(2) {
        passed += asker.batch(BATCH)[0];
    }
    let asked = server.calls("fcall") - before;
    println!("{passed} requests, {asked} questions");
    assert!(passed > 5000, "{passed} in two seconds");
    let a_second = asked as f64 / began.elapsed().as_secs_f64();
    assert!(a_second < 250.0, "{a_second} questions a second for {passed} requests");
}

#[test]
fn what_a_gateway_has_not_used_comes_back() {
    if skip("what_a_gateway_has_not_used_comes_back") {
        return;
    }
    let server = RedisServer::start(&[]);
    let nodes = format!("\"{}\"", server.address());
    let rule = "quota = { name = \"q\", limit = 100000000, per = \"day\", scope = \"fleet\", key = \"global\" }";
    let [one, other] = [0, 1].map(|_| Gateway::start(&document(&nodes, rule)));
    let mut asker = Asker::of(&one);
    let (began, mut passed) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(1) {
        passed += asker.batch(BATCH)[0];
    }
    let left = || -> usize {
        let answer = other.get("/");
        answer.expect(200).header("ratelimit-remaining").expect("it is told").parse().expect("a number")
    };
    let mut seen = 0;
    wait_until("the rest to come back", Duration::from_secs(5), || {
        seen += 1;
        left() + passed + seen == 100_000_000
    });
}

#[test]
fn gateways_share_windows_and_keys_have_budgets_of_their_own() {
    if skip("gateways_share_windows_and_keys_have_budgets_of_their_own") {
        return;
    }
    let cluster = RedisCluster::start();
    for algorithm in ["fixed_window", "sliding_window"] {
        let rule = format!(
            "rate_limit = {{ name = \"{algorithm}\", scope = \"fleet\", limit = 10, window = \"1h\", \
             algorithm = \"{algorithm}\", key = \"header:X-Key\" }}"
        );
        let fleet = gateways(&nodes(&cluster), &rule);
        for key in ["a", "b"] {
            let status =
                |at: usize| fleet[at % GATEWAYS].client().request("GET", "/", &format!("X-Key: {key}\r\n"), b"").status;
            let passed = (0..20).filter(|at| status(*at) == 200).count();
            assert_eq!(passed, 10, "{algorithm} {key}");
        }
    }
}

#[test]
fn a_burst_is_there_at_once_and_only_once() {
    if skip("a_burst_is_there_at_once_and_only_once") {
        return;
    }
    let cluster = RedisCluster::start();
    let fleet = gateways(&nodes(&cluster), &limit("rate = \"1/h\", burst = 30"));
    let passed: usize = fleet.iter().map(|gateway| Asker::of(gateway).batch(BATCH)[0]).sum();
    assert_eq!(passed, 30);
    let refused = fleet[0].get("/").expect(429);
    assert!(refused.header("retry-after").expect("when").parse::<u64>().expect("seconds") > 3000);
}

/// The master that has the budget dies under load.
#[test]
fn a_failover_costs_no_more_than_is_said() {
    if skip("a_failover_costs_no_more_than_is_said") {
        return;
    }
    for (when_away, rate, burst) in [("local_share", 300.0, 60.0), ("closed", 300.0, 60.0)] {
        let cluster = RedisCluster::start();
        let rule = limit(&format!("rate = \"{rate}/s\", burst = {burst}, when_away = \"{when_away}\""));
        let fleet = gateways(&nodes(&cluster), &rule);
        let _ = Asker::of(&fleet[0]).batch(1);
        let name = "ringway:limit:api:b:";
        let key = cluster.masters().iter().find_map(|node| {
            let keys = node.talk().ask(&["KEYS", &format!("{name}*")]);
            format!("{keys:?}").split('"').find(|text| text.starts_with(name)).map(str::to_owned)
        });
        let key = key.expect("the budget's key");
        let owner = cluster.owner(key_slot(key.as_bytes()));
        let (began, time) = (Instant::now(), Duration::from_secs(8));
        let counts: Vec<[usize; 3]> = thread::scope(|scope| {
            let threads: Vec<_> = fleet
                .iter()
                .map(|gateway| {
                    scope.spawn(move || {
                        let (mut asker, mut sum) = (Asker::of(gateway), [0; 3]);
                        while began.elapsed() < time {
                            std::iter::zip(&mut sum, asker.batch(BATCH)).for_each(|(sum, more)| *sum += more);
                            thread::sleep(ms(40));
                        }
                        sum
                    })
                })
                .collect();
            thread::sleep(Duration::from_secs(2));
            cluster.masters()[owner].kill();
            threads.into_iter().map(|thread| thread.join().expect("an asker")).collect()
        });
        let [passed, _, closed] = [0, 1, 2].map(|at| counts.iter().map(|count| count[at]).sum::<usize>());
        let plain = rate * began.elapsed().as_secs_f64() + burst;
        let more = if when_away == "closed" { burst } else { 2.0 * burst };
        println!("{when_away}: {counts:?}, {passed} of {plain} and {more} for the failover");
        assert!(passed as f64 <= plain + more, "{when_away}: {passed} of {plain} + {more}");
        match when_away {
            "closed" => assert!(closed > 0 && passed as f64 > 0.4 * plain, "{closed} refused, {passed} of {plain}"),
            _ => assert!(closed == 0 && passed as f64 > 0.85 * plain, "{passed} of {plain}"),
        }
    }
}

#[test]
fn without_redis_the_rule_says_who_passes() {
    if skip("without_redis_the_rule_says_who_passes") {
        return;
    }
    let server = RedisServer::start(&[]);
    let nodes = format!("\"{}\"", server.address());
    let of = |when_away: &str| {
        let rule = limit(&format!("rate = \"1/h\", burst = 10, when_away = \"{when_away}\", gateways_min = 2"));
        Gateway::start(&document(&nodes, &rule.replace("api", when_away)))
    };
    let [open, closed, share] = ["open", "closed", "local_share"].map(of);
    server.kill();
    assert_eq!(Asker::of(&open).batch(BATCH), [BATCH, 0, 0]);
    assert_eq!(Asker::of(&closed).batch(BATCH), [0, 0, BATCH]);
    let refused = closed.get("/").expect(503);
    assert_eq!(
        (refused.problem()["code"].clone(), refused.header("retry-after")),
        ("limit_unavailable".into(), Some("1"))
    );
    // Three gateways are there by their heartbeats, or two at least: a share of ten is three to five.
    let [passed, denied, _] = Asker::of(&share).batch(BATCH);
    assert!((3..=5).contains(&passed) && passed + denied == BATCH, "{passed} and {denied}");
    server.restart();
    // What has passed meanwhile is paid for: an empty Redis knows only what it is told.
    let back = || closed.get("/").status == 200;
    wait_until("Redis to be asked again", Duration::from_secs(10), back);
    wait_until("the debt to be told", Duration::from_secs(10), || {
        share.metrics().count("ringway_ratelimit_questions_total", &[("rule", "local_share"), ("answer", "lent")]) > 0
            || Asker::of(&share).batch(1)[0] == 1
    });
    let more: usize = (0..20).map(|_| Asker::of(&share).batch(1)[0]).sum();
    assert!(passed + more <= 10, "{passed}, then {more}, of 10");
}

#[test]
fn a_reload_keeps_the_level_of_a_changed_rule() {
    if skip("a_reload_keeps_the_level_of_a_changed_rule") {
        return;
    }
    let server = RedisServer::start(&[]);
    let nodes = format!("\"{}\"", server.address());
    let of = |burst: u32| document(&nodes, &limit(&format!("rate = \"1/h\", burst = {burst}")));
    let mut gateway = Gateway::start(&of(20));
    assert_eq!(Asker::of(&gateway).batch(15), [15, 0, 0]);
    gateway.rewrite_and_reload(&of(50));
    let passed = Asker::of(&gateway).batch(BATCH)[0];
    assert!((4..=5).contains(&passed), "{passed}, and 5 were left");
}

#[test]
fn check_says_how_exact_a_limit_of_the_fleet_is() {
    let dir = support::gateway::Dir::new();
    let check = |rule: &str| {
        let text = format!("[listeners.a]\nbind = \":1\"\n{}", document("\"127.0.0.1:1\"", rule));
        let file = dir.file("ringway.toml", &text);
        ringway(["check", file.to_str().expect("a path")])
    };
    let said = check(&limit("rate = \"1000/s\", burst = 200")).out;
    assert!(
        said.contains("limit \"api\" of the fleet, leases of 20ms: at most 0 % over, 2 % under in any second"),
        "{said}"
    );
    assert!(said.contains("equal share, one request at least, and no more, then at most 400 more requests"), "{said}");
    let said = check(&limit("rate = \"1000/s\", burst = 200, when_away = \"open\"")).out;
    assert!(said.contains("without Redis everybody passes"), "{said}");
    for (rule, needle) in [
        (limit("rate = \"1/s\", redis = \"other\""), "there is no [redis.other]"),
        (limit("rate = \"1/s\", lease = \"1ms\""), "use 5ms to 10s"),
        (limit("rate = \"1/s\", mode = \"smooth\""), "gateways have no queue together"),
        ("rate_limit = { rate = \"1/s\", when_away = \"open\" }".to_owned(), "it belongs to scope = \"fleet\""),
    ] {
        let ran = check(&rule);
        assert!(ran.err.contains(needle), "{rule}: {}", ran.err);
    }
    let text = "[listeners.a]\nbind = \":1\"\n[[routes]]\nname = \"r\"\npath = \"/\"\nrespond = {}\n\
                filters = [{ rate_limit = { rate = \"1/s\", scope = \"fleet\" } }]\n";
    let file = dir.file("none.toml", text);
    let ran = ringway(["check", file.to_str().expect("a path")]);
    assert!(ran.err.contains("a fleet shares through Redis"), "{}", ran.err);
}

/// Gateways that come and go are counted.
#[test]
fn gateways_are_counted_by_their_heartbeats() {
    if skip("gateways_are_counted_by_their_heartbeats") {
        return;
    }
    let server = RedisServer::start(&[]);
    let nodes = format!("\"{}\"", server.address());
    let rule = limit("rate = \"1/s\"");
    let first = Gateway::start(&document(&nodes, &rule));
    let second = Arc::new(Gateway::start(&document(&nodes, &rule)));
    let counts = |count: u64| {
        move |metrics: &support::Metrics| metrics.count("ringway_fleet_gateways", &[("redis", "limits")]) == count
    };
    first.wait_metrics("two gateways", counts(2));
    drop(second);
    wait_until("one gateway", Duration::from_secs(10), || counts(1)(&first.metrics()));
}
