//! Rate limits and quotas: who passes, who is told what, what counts together, what a reload keeps.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use support::gateway::Dir;
use support::{Client, Gateway, Metrics, Origin, Response, SOON, ms, ringway, wait_until};

const DECISIONS: &str = "ringway_ratelimit_decisions_total";

/// One route with these filters, answered by the gateway itself.
fn route(name: &str, filters: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\npath_prefix = \"/{name}\"\nrespond = {{}}\nfilters = [{filters}]\n")
}

fn limited(rules: &str) -> Gateway {
    Gateway::start(&route("r", &format!("{{ rate_limit = {rules} }}")))
}

/// Statuses of so many requests, each with these header lines.
fn statuses(gateway: &Gateway, count: usize, lines: &str) -> Vec<u16> {
    let mut client = gateway.client();
    (0..count).map(|_| client.request("GET", "/r", lines, b"").status).collect()
}

fn passed(gateway: &Gateway, count: usize, lines: &str) -> usize {
    let statuses = statuses(gateway, count, lines);
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    statuses.iter().filter(|status| **status == 200).count()
}

/// What passes of a load without pauses, and what may; `None`: the machine paused it for so long that the bucket was full.
fn round_of_a_bucket(scope: &str) -> Option<(usize, usize)> {
    let gateway = limited(&format!("{{ rate = \"10/s\", burst = 5, scope = \"{scope}\" }}"));
    let began = Instant::now();
    let (mut client, mut passed, mut last, mut pause) = (gateway.client(), 0, began, ms(0));
    while began.elapsed() < ms(1500) {
        passed += usize::from(client.get("/r").status == 200);
        pause = pause.max(last.elapsed());
        last = Instant::now();
    }
    let most = 5 + (began.elapsed().as_secs_f64() * 10.0) as usize;
    assert!(passed <= most + 1, "{scope}: {passed} of {most}");
    (pause < ms(300)).then_some((passed, most))
}

#[test]
fn a_bucket_passes_its_burst_and_then_its_rate() {
    for scope in ["core", "node"] {
        let (passed, most) = (0..4).find_map(|_| round_of_a_bucket(scope)).expect("a round without long pauses");
        assert!((most - 1..=most + 1).contains(&passed), "{scope}: {passed} of {most}");
    }
}

#[test]
fn all_cores_share_the_nodes_budget_and_each_has_its_own_by_core() {
    // Connections go to cores as these have time for them: however unevenly, both get some.
    for (scope, budget) in [("node", 20), ("core", 40)] {
        let rule = format!("{{ rate_limit = {{ rate = \"1/h\", burst = 20, scope = \"{scope}\" }} }}");
        let gateway = Gateway::with(&route("r", &rule)).shards(2).start();
        let count = |connections: usize| (0..connections).filter(|_| gateway.get("/r").status == 200).count();
        let mut passed = 0;
        for _ in 0..50 {
            passed += count(20);
            if passed >= budget {
                break;
            }
        }
        assert_eq!((passed, count(40)), (budget, 0), "{scope}");
    }
}

#[test]
fn a_refused_request_says_when_to_come_again() {
    let gateway = limited("{ name = \"api\", rate = \"1/m\", burst = 1 }");
    gateway.get("/r").expect(200);
    let refused = gateway.get("/r").expect(429);
    assert_eq!(refused.problem()["code"].as_str(), Some("rate_limited"));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    let wait: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
    assert!((58..=60).contains(&wait), "{wait}");
    // Lines of different cores come in any order.
    let lines = gateway.wait_log(2);
    assert!(lines.iter().any(|line| line.status() == 429 && line.has_flag("RL")), "{lines:?}");
    let fast = limited("{ rate = \"1000/s\", burst = 1 }");
    let mut client = fast.client();
    client.send("GET /r HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20));
    let answers: Vec<Response> = (0..20).map(|_| client.response()).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("they came in one piece");
    assert_eq!(refused.header("retry-after"), Some("1"), "never 0");
}

#[test]
fn every_answer_says_where_the_client_stands() {
    let told = |headers: &str| {
        let gateway = limited(&format!("{{ name = \"api\", rate = \"1/m\", burst = 2, {headers} }}"));
        let mut client = gateway.client();
        let answers = [client.get("/r"), client.get("/r"), client.get("/r")];
        assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 200, 429]);
        answers.map(|answer| {
            let fields = answer.headers.iter().filter(|(name, _)| name.to_ascii_lowercase().contains("ratelimit"));
            fields.map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase())).collect::<Vec<_>>()
        })
    };
    let reset = |lines: &[String], left: &str| {
        let [limit, remaining, reset] = lines else { panic!("{lines:?}") };
        assert_eq!((limit.as_str(), remaining.as_str()), ("ratelimit-limit: 2", left));
        let seconds: u64 = reset.strip_prefix("ratelimit-reset: ").and_then(|text| text.parse().ok()).expect(reset);
        seconds
    };
    let [first, second, third] = told("");
    assert!((59..=60).contains(&reset(&first, "ratelimit-remaining: 1")));
    assert!((119..=120).contains(&reset(&second, "ratelimit-remaining: 0")));
    assert!((119..=120).contains(&reset(&third, "ratelimit-remaining: 0")));
    let [first, _, third] = told("headers = \"draft10\"");
    assert_eq!(first, ["ratelimit-policy: \"api\";q=2;w=120", "ratelimit: \"api\";r=1;t=60"]);
    assert!(third[1].starts_with("ratelimit: \"api\";r=0;t=1"), "{third:?}");
    let [first, ..] = told("headers = \"x\"");
    assert_eq!(first[..2], ["x-ratelimit-limit: 2", "x-ratelimit-remaining: 1"]);
    assert!(told("headers = \"off\"").iter().all(Vec::is_empty));
}

#[test]
fn an_origins_answer_says_it_too_and_a_refused_request_does_not_reach_it() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n\n[[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n\
         filters = [{{ rate_limit = {{ rate = \"1/h\", burst = 1 }} }}]\n",
        origin.endpoint()
    ));
    assert_eq!(gateway.get("/").expect(200).header("ratelimit-remaining"), Some("0"));
    gateway.get("/").expect(429);
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_answer_in_the_origins_place_says_it_too() {
    let gateway = Gateway::start(
        "[clusters.app]\nendpoints = [\"127.0.0.1:1\"]\n\n[[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n\
         filters = [{ response_headers = { set = { content-type = \"text/x\", x-edge = \"1\" } } }, \
         { rate_limit = { rate = \"1/h\", burst = 3 } }]\n",
    );
    let failed = gateway.get("/").expect(502);
    failed.problem();
    assert_eq!((failed.header("ratelimit-remaining"), failed.header("x-edge")), (Some("2"), Some("1")));
}

#[test]
fn requests_are_told_apart_by_their_key() {
    let gateway = limited("{ rate = \"1/h\", burst = 2, key = \"header:X-Tenant\" }");
    assert_eq!(passed(&gateway, 3, "X-Tenant: a\r\n"), 2);
    assert_eq!(passed(&gateway, 3, "x-tenant: b\r\n"), 2);
    assert_eq!(passed(&gateway, 3, ""), 2, "those without have one budget together");
    assert_eq!(passed(&gateway, 3, "X-Tenant: a\r\n"), 0);
    let gateway = limited("{ rate = \"1/h\", burst = 1, key = [\"query:q\", \"cookie:c\"] }");
    let ask = |query: &str, cookie: &str| {
        let lines = format!("Cookie: x=1; c={cookie}\r\n");
        gateway.client().request("GET", &format!("/r?{query}"), &lines, b"").status
    };
    assert_eq!([ask("q=1", "a"), ask("q=1", "b"), ask("q=2", "a"), ask("q=1", "a")], [200, 200, 200, 429]);
    assert_eq!([ask("%71=%31", "a"), ask("x=y&q=1", "a")], [429, 429], "however it is written");
}

#[test]
fn a_param_or_a_host_is_a_key() {
    let text = "[[routes]]\nname = \"r\"\npath = \"/users/{id}\"\nrespond = {}\n\
                filters = [{ rate_limit = { rate = \"1/h\", burst = 1, key = [\"param:id\", \"host\"] } }]\n";
    let gateway = Gateway::start(text);
    let ask = |host: &str, id: &str| {
        let head = format!("GET /users/{id} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        gateway.exchange(head).status
    };
    assert_eq!([ask("a.test", "1"), ask("a.test", "2"), ask("b.test", "1")], [200; 3]);
    assert_eq!([ask("A.test:80", "1"), ask("a.test.", "%31"), ask("b.test", "1")], [429; 3]);
    let bad = Dir::new();
    let file = bad.file("bad.toml", &text.replace("param:id", "param:ids").replace("[[routes]]", LISTENER));
    let said = ringway(["check".as_ref(), file.as_os_str()]).expect(1).all();
    assert!(said.contains("has no {ids}; it has id"), "{said}");
}

const LISTENER: &str = "[listeners.main]\nbind = \"127.0.0.1:18080\"\n[[routes]]";

#[test]
fn addresses_count_by_their_prefix() {
    let from = |gateway: &Gateway, last: u8| {
        let source = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
        Client::from_to(source, gateway.addr()).get("/r").status
    };
    let gateway = limited("{ rate = \"1/h\", burst = 1 }");
    assert_eq!([from(&gateway, 2), from(&gateway, 3), from(&gateway, 2)], [200, 200, 429]);
    let gateway = limited("{ rate = \"1/h\", burst = 1, ipv4_prefix = 24 }");
    assert_eq!([from(&gateway, 2), from(&gateway, 3)], [200, 429]);
    let trusting = "[listeners.main]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let rule = route("r", "{ rate_limit = { rate = \"1/h\", burst = 1 } }");
    let gateway = Gateway::start(&format!("{trusting}{rule}"));
    let through = |client: &str| {
        let lines = format!("X-Forwarded-For: {client}\r\n");
        gateway.client().request("GET", "/r", &lines, b"").status
    };
    assert_eq!([through("2001:db8:1:2::1"), through("2001:db8:1:3::1")], [200, 200]);
    assert_eq!(through("2001:db8:1:2:ffff::9"), 429, "who has one address has its /64");
}

#[test]
fn of_a_list_either_all_are_charged_or_none_is() {
    let gateway = limited(
        "[{ name = \"all\", rate = \"1/h\", burst = 5, key = \"global\" }, \
          { name = \"each\", rate = \"1/h\", burst = 1, key = \"header:x-id\" }]",
    );
    assert_eq!(passed(&gateway, 4, "X-Id: a\r\n"), 1);
    for id in ["b", "c", "d", "e"] {
        assert_eq!(passed(&gateway, 1, &format!("X-Id: {id}\r\n")), 1, "{id}: refusals have taken nothing");
    }
    assert_eq!(passed(&gateway, 1, "X-Id: f\r\n"), 0);
    let decided = |rule: &str, decision: &str, count: u64| {
        let labels = [("rule", rule), ("decision", decision)];
        gateway.wait_metrics(&format!("{rule} {decision}"), |all| all.count(DECISIONS, &labels) == count);
    };
    decided("all", "allowed", 5);
    decided("each", "denied", 3);
    decided("all", "denied", 1);
}

#[test]
fn a_request_that_is_refused_takes_nothing_further_inside() {
    let gateway = Gateway::start(&route(
        "r",
        "{ rate_limit = { name = \"outer\", rate = \"1/h\", burst = 2 } }, \
         { rate_limit = { name = \"inner\", rate = \"1/h\", burst = 9 } }",
    ));
    assert_eq!(passed(&gateway, 6, ""), 2);
    let labels = |decision| [("rule", "inner"), ("decision", decision)];
    let shows = |all: &Metrics| all.count(DECISIONS, &labels("allowed")) == 2;
    let all = gateway.wait_metrics("two came through", shows);
    assert_eq!(all.count(DECISIONS, &labels("denied")), 0);
    assert_eq!(gateway.get("/r").header("ratelimit-limit"), Some("2"), "the one that leaves least is told");
}

#[test]
fn routes_that_name_one_limit_share_it() {
    let rule = "{ rate_limit = { name = \"both\", rate = \"1/h\", burst = 3 } }";
    let gateway = Gateway::start(&(route("a", rule) + &route("b", rule)));
    let asked: Vec<u16> = ["/a", "/b", "/a", "/b"].map(|path| gateway.get(path).status).to_vec();
    assert_eq!(asked, [200, 200, 200, 429]);
    let other = route("b", &rule.replace("burst = 3", "burst = 4"));
    let dir = Dir::new();
    let file = dir.file("two.toml", &(route("a", rule).replace("[[routes]]", LISTENER) + &other));
    let said = ringway(["check".as_ref(), file.as_os_str()]).expect(1).all();
    assert!(said.contains("another limit named \"both\" says something else: routes[0].filters[0]"), "{said}");
}

#[test]
fn windows_begin_anew() {
    for algorithm in ["fixed_window", "sliding_window"] {
        let gateway =
            limited(&format!("{{ limit = 3, window = \"1s\", algorithm = \"{algorithm}\", headers = \"draft10\" }}"));
        let mut most = 0;
        let began = Instant::now();
        let mut client = gateway.client();
        let mut all = 0;
        while began.elapsed() < ms(3200) {
            let answer = client.get("/r");
            all += usize::from(answer.status == 200);
            most = most.max(usize::from(answer.all("ratelimit-policy").len() == 1));
            std::thread::sleep(ms(5));
        }
        assert_eq!(most, 1);
        let wanted = if algorithm == "fixed_window" { 9..=15 } else { 7..=13 };
        assert!(wanted.contains(&all), "{algorithm}: {all}");
    }
}

#[test]
fn a_quota_ends_with_its_day() {
    let gateway = Gateway::start(&route("r", "{ quota = { limit = 2, per = \"day\", key = \"global\" } }"));
    assert_eq!(passed(&gateway, 2, ""), 2);
    let refused = gateway.get("/r").expect(429);
    let wait: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
    let day = 24 * 3600;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(wait.abs_diff(day - now % day) <= 2, "{wait}");
}

#[test]
fn a_reload_gives_nobody_more_than_he_had() {
    let rule =
        |burst: u64, rest: &str| route("r", &format!("{{ rate_limit = {{ rate = \"1/h\", burst = {burst}{rest} }} }}"));
    let mut gateway = Gateway::start(&rule(10, ""));
    assert_eq!(passed(&gateway, 7, ""), 7);
    gateway.rewrite_and_reload(&(route("other", "") + &rule(10, "")));
    let left = |gateway: &Gateway| gateway.get("/r").header("ratelimit-remaining").map(str::to_owned);
    assert_eq!(left(&gateway).as_deref(), Some("2"), "an unchanged rule keeps its level, wherever its route stands");
    gateway.rewrite_and_reload(&rule(100, ""));
    assert_eq!(left(&gateway).as_deref(), Some("1"), "a larger burst is not a present");
    gateway.rewrite_and_reload(&rule(1, ""));
    assert_eq!(passed(&gateway, 3, ""), 1);
    gateway.rewrite_and_reload(&rule(5, ", key = \"global\""));
    assert_eq!(passed(&gateway, 9, ""), 5, "another key is another limit");
}

#[test]
fn many_keys_do_not_pass_a_full_table() {
    let gateway = limited("{ name = \"few\", rate = \"1/h\", burst = 2, key = \"header:x-id\", keys_max = 4 }");
    for id in 0..4 {
        assert_eq!(passed(&gateway, 1, &format!("X-Id: {id}\r\n")), 1, "{id}");
    }
    let new: usize = (4..40).map(|id| passed(&gateway, 1, &format!("X-Id: {id}\r\n"))).sum();
    assert_eq!(new, 2, "all new keys have one budget");
    assert_eq!(passed(&gateway, 2, "X-Id: 0\r\n"), 1, "who was there before keeps its own");
    let shows = |all: &Metrics| all.count("ringway_ratelimit_overflow_total", &[("rule", "few")]) == 36;
    let all = gateway.wait_metrics("the overflow is counted", shows);
    assert_eq!(all.count("ringway_ratelimit_keys", &[("rule", "few")]), 4);
}

/// However many have come before, on however many cores: who stays away long enough leaves his place to others.
#[test]
fn a_full_table_has_room_for_new_keys_when_old_ones_are_idle() {
    let gateway = limited("{ name = \"few\", rate = \"100/s\", burst = 1, key = \"header:x-id\", keys_max = 4 }");
    let overflowed = || gateway.metrics().count("ringway_ratelimit_overflow_total", &[("rule", "few")]);
    let ask = |id: usize| passed(&gateway, 1, &format!("X-Id: {id}\r\n"));
    let mut ids = 0..;
    // Before, some in a row found no place for good. A core lets go of what it has met with its next tick.
    wait_until("a new key has a budget of its own in a table that was full", SOON, || {
        ids.by_ref().take(8).for_each(|id| {
            ask(id);
        });
        std::thread::sleep(ms(200));
        let before = overflowed();
        let passed: usize = ids.by_ref().take(3).map(ask).sum();
        std::thread::sleep(ms(100));
        (passed, overflowed() - before) == (3, 0)
    });
    assert!(ids.start > 8, "the table was full");
}

#[test]
fn check_says_how_exact_each_limit_is() {
    let dir = Dir::new();
    let rules = "{ rate_limit = { name = \"api\", rate = \"10000/s\", burst = 200 } }, \
                 { rate_limit = { name = \"own\", rate = \"10/s\", scope = \"core\" } }, \
                 { rate_limit = { name = \"hour\", limit = 10, window = \"1h\", algorithm = \"fixed_window\" } }";
    let text = format!("[cores]\ncount = 2\n{}", route("r", rules).replace("[[routes]]", LISTENER));
    let file = dir.file("limits.toml", &text);
    let said = ringway(["check".as_ref(), file.as_os_str()]).expect(0).out;
    for line in [
        "limit \"api\" of the node, 2 cores: at most 0 % over, 0.2 % under in any second",
        "limit \"own\" of each core, 2 cores: at most 100 % over, 0 % under in any second",
        "limit \"hour\" of the node, 2 cores: at most 100 % over, 0 % under in any stretch as long as its window",
    ] {
        assert!(said.contains(line), "{line}\nis not in\n{said}");
    }
    let url = "http://a.test/r";
    let said =
        ringway(["explain".as_ref(), "GET".as_ref(), url.as_ref(), "-c".as_ref(), file.as_os_str()]).expect(0).out;
    assert!(said.contains("limit    api, by client_ip (IPv4 /32, IPv6 /64)"), "{said}");
}

#[test]
fn what_is_no_limit_is_refused() {
    for (rule, part) in [
        ("{}", "rate_limit: has no rate"),
        ("{ rate = \"0/s\" }", "rate_limit.rate: "),
        ("{ rate = \"20000000/s\" }", "faster than 10000000 a second"),
        ("{ rate = \"1/365d\", burst = 11 }", "more than ten years"),
        ("{ rate = \"1/s\", burst = 0 }", "burst: 0 is out of range"),
        ("{ rate = \"1/s\", burst = 2, cost = 3 }", "cost: no request can pass"),
        ("{ rate = \"1/s\", limit = 3 }", "limit: says nothing here"),
        ("{ rate = \"1/s\", nodelay = true }", "nodelay: says nothing here"),
        ("{ limit = 3, algorithm = \"fixed_window\" }", "a window needs both"),
        ("{ limit = 3, window = \"1ms\", algorithm = \"fixed_window\" }", "window: 1ms is out of range"),
        ("{ rate = \"1/s\", scope = \"fleet\" }", "redis: a fleet shares through Redis"),
        ("{ rate = \"1/s\", scope = \"nodes\" }", "did you mean \"node\"?"),
        ("{ rate = \"1/s\", brust = 2 }", "did you mean \"burst\"?"),
        ("{ rate = \"1/s\", key = \"ip\" }", "key: no key \"ip\""),
        ("{ rate = \"1/s\", name = \"a b\" }", "name: \"a b\" cannot be a name"),
        ("[]", "a filter has 1 to 8 rules"),
        ("[{ rate = \"1/s\" }, { rate = \"1/x\" }]", "rate_limit[1].rate"),
    ] {
        let dir = Dir::new();
        let text = route("r", &format!("{{ rate_limit = {rule} }}")).replace("[[routes]]", LISTENER);
        let file = dir.file("bad.toml", &text);
        let said = ringway(["check".as_ref(), file.as_os_str()]).expect(1).all();
        assert!(said.contains(part) && said.contains("bad.toml:"), "{rule}: {said}");
    }
}
