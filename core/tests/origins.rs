//! Clusters: which endpoint gets a request, pools of its connections, timeouts, the one safe retry, and what a failure looks like.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use support::client::request;
use support::ports::Port;
use support::{Client, Ending, Gateway, Origin, SOON, cluster_all, ms, names, wait_until};

fn endpoints(origins: &[Origin]) -> String {
    let list: Vec<String> = origins.iter().map(|o| format!("\"{}\"", o.endpoint())).collect();
    format!("endpoints = [{}]", list.join(", "))
}

fn one(origin: &Origin, lines: &str) -> String {
    cluster_all(&format!("endpoints = [\"{}\"]\n{lines}", origin.endpoint()))
}

/// On one shard, where sequences are exact.
fn alone(toml: &str) -> Gateway {
    Gateway::with(toml).shards(1).start()
}

#[test]
fn round_robin_is_exact_on_one_core() {
    let origins = [Origin::saying("a"), Origin::saying("b"), Origin::saying("c")];
    let gateway = alone(&cluster_all(&format!("{}\nbalance = \"round_robin\"", endpoints(&origins))));
    let mut client = gateway.client();
    let said: String = (0..12).map(|_| client.get("/").expect(200).text()).collect();
    let turn = &said[..3];
    assert_eq!(said, turn.repeat(4), "not one after the other");
    assert!(origins.iter().all(|o| o.count() == 4));
}

#[test]
fn round_robin_is_round_robin_over_all_cores() {
    for shards in [1, 2, 4, 7] {
        let origins: Vec<Origin> = (0..shards).map(|_| Origin::saying("x")).collect();
        let toml = format!(
            "[listeners.main]\nsteering = \"least_loaded\"\n\n{}",
            cluster_all(&format!("{}\nbalance = \"round_robin\"", endpoints(&origins)))
        );
        let gateway = Gateway::with(&toml).shards(shards).start();
        // One connection on each core, which least-loaded steering gives.
        let mut clients = Vec::new();
        for n in 0..shards {
            clients.push(gateway.client());
            gateway.wait_metrics("a connection on another core", |m| {
                m.of(names::CORE_CONNECTIONS, &[]).filter(|s| s.value >= 1.0).count() > n
            });
        }
        for round in 1..=3 {
            for client in &mut clients {
                client.get("/").expect(200);
            }
            let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
            assert!(counts.iter().all(|&c| c == round), "{shards} shards after {round} rounds: {counts:?}");
        }
    }
}

#[test]
fn round_robin_stays_even_whatever_core_a_connection_meets() {
    for shards in [2, 4, 7] {
        let origins = [Origin::saying("a"), Origin::saying("b"), Origin::saying("c")];
        let toml = cluster_all(&format!("{}\nbalance = \"round_robin\"", endpoints(&origins)));
        let gateway = Gateway::with(&toml).shards(shards).start();
        for _ in 0..90 {
            gateway.get("/").expect(200);
        }
        let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
        let spread = counts.iter().max().expect("three") - counts.iter().min().expect("three");
        assert!(spread <= shards, "{shards} shards: {counts:?}");
    }
}

#[test]
fn weights_are_exact_and_smooth() {
    let origins = [Origin::saying("a"), Origin::saying("b"), Origin::saying("c")];
    let list = [5, 1, 1]
        .iter()
        .zip(&origins)
        .map(|(weight, o)| format!("{{ address = \"{}\", weight = {weight} }}", o.endpoint()))
        .collect::<Vec<_>>()
        .join(", ");
    let gateway = alone(&cluster_all(&format!("endpoints = [{list}]\nbalance = \"round_robin\"")));
    let mut client = gateway.client();
    let said: String = (0..70).map(|_| client.get("/").expect(200).text()).collect();
    assert_eq!([50, 10, 10], [0, 1, 2].map(|n: usize| origins[n].count()));
    assert!(!said.contains("aaaaaa"), "five of seven, but not in a row with the next turn's: {said}");
    for turn in said.as_bytes().chunks(7) {
        assert_eq!(turn.iter().filter(|&&c| c == b'a').count(), 5, "{said}");
    }
}

#[test]
fn least_request_avoids_the_busy_one() {
    let release = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&release);
    let slow = Origin::start(move |x| {
        while !gate.load(Ordering::Acquire) {
            x.wait(ms(5));
        }
        x.ok("slow")
    });
    let fast = Origin::saying("fast");
    let origins = [slow, fast];
    let gateway = alone(&cluster_all(&format!("{}\nbalance = \"least_request\"", endpoints(&origins))));
    let mut held: Vec<Client> = Vec::new();
    wait_until("the slow one is busy", SOON, || {
        if origins[0].count() == 0 {
            let mut client = gateway.client();
            client.send(request("GET", "/", "", b""));
            held.push(client);
            std::thread::sleep(ms(20));
        }
        origins[0].count() > 0
    });
    let mut client = gateway.client();
    for _ in 0..40 {
        assert_eq!(client.get("/").expect(200).text(), "fast");
    }
    assert_eq!(origins[0].count(), 1);
    release.store(true, Ordering::Release);
}

#[test]
fn a_unix_socket_is_an_endpoint() {
    let dir = support::gateway::Dir::new();
    let origin = Origin::on_unix(&dir.path().join("app.sock"), |x| {
        x.body()?;
        x.ok("unix")
    });
    let gateway = Gateway::start(&one(&origin, ""));
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.request("POST", "/", "", b"body").expect(200).text(), "unix");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_missing_unix_socket_is_a_502() {
    let gateway = Gateway::start(&cluster_all("endpoints = [\"unix:/nonexistent/ringway.sock\"]"));
    gateway.get("/").expect(502).problem();
}

#[test]
fn a_dns_name_is_an_endpoint() {
    let v4 = Origin::saying("v4");
    // `localhost` may have both addresses; either must find somebody.
    let _v6 = Origin::on(&format!("[::1]:{}", v4.port()), |x| x.ok("v6"));
    let gateway = Gateway::start(&cluster_all(&format!("endpoints = [\"localhost:{}\"]", v4.port())));
    for _ in 0..4 {
        let text = gateway.get("/").expect(200).text();
        assert!(["v4", "v6"].contains(&text.as_str()), "{text}");
    }
}

#[test]
fn a_name_that_nobody_knows_costs_only_its_own_route() {
    let origin = Origin::saying("fine");
    let gateway = Gateway::start(&format!(
        "[clusters.lost]\nendpoints = [\"nobody.invalid:80\"]\n\n[clusters.app]\nendpoints = [\"{}\"]\n\n\
         [[routes]]\nname = \"lost\"\npath_prefix = \"/lost\"\ncluster = \"lost\"\n\n\
         [[routes]]\nname = \"all\"\npath_prefix = \"/\"\ncluster = \"app\"\n",
        origin.endpoint()
    ));
    gateway.get("/").expect(200);
    let got = gateway.get("/lost").expect(503);
    assert_eq!(got.problem()["code"], "no_healthy_origin");
    wait_until("its line", SOON, || gateway.log().iter().any(|l| l.has_flag("UH")));
}

#[test]
fn ipv6_on_both_sides() {
    let origin = Origin::on("[::1]:0", |x| x.ok("six"));
    let port = Port::lease();
    let gateway =
        Gateway::start(&format!("[listeners.main]\nbind = \"[::1]:{}\"\n\n{}", port.number, one(&origin, "")));
    assert_eq!(gateway.get("/").expect(200).text(), "six");
}

#[test]
fn one_listener_binds_several_addresses() {
    let origin = Origin::saying("x");
    let port = Port::lease().number;
    let toml = format!("[listeners.main]\nbind = [\"127.0.0.1:{port}\", \"[::1]:{port}\"]\n\n{}", one(&origin, ""));
    let gateway = Gateway::start(&toml);
    gateway.get("/").expect(200);
    let six = format!("[::1]:{port}").parse().expect("an address");
    Client::to(six).get("/").expect(200);
}

#[test]
fn origin_connections_are_reused_by_later_clients() {
    let origin = Origin::saying("x");
    let gateway = alone(&one(&origin, ""));
    for _ in 0..10 {
        gateway.get("/").expect(200);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_origin_that_says_close_is_not_used_again() {
    let origin = Origin::start(|x| x.reply(200, "Connection: close\r\n", "x"));
    let gateway = alone(&one(&origin, ""));
    let mut client = gateway.client();
    for _ in 0..3 {
        client.get("/").expect(200);
    }
    assert_eq!(origin.connections(), 3);
    assert_eq!(origin.ending(0), Ending::Eof);
}

#[test]
fn idle_origin_connections_are_closed_in_time() {
    let origin = Origin::saying("x");
    let gateway = alone(&format!("[pool]\nidle_timeout = \"300ms\"\n\n{}", one(&origin, "")));
    gateway.get("/").expect(200);
    let begun = Instant::now();
    assert_eq!(origin.ending(0), Ending::Eof);
    assert!(begun.elapsed() < ms(3000), "{:?}", begun.elapsed());
}

#[test]
fn old_origin_connections_are_not_reused() {
    let origin = Origin::saying("x");
    let gateway = alone(&format!("[pool]\nlifetime_max = \"300ms\"\n\n{}", one(&origin, "")));
    let mut client = gateway.client();
    let begun = Instant::now();
    while begun.elapsed() < ms(1000) {
        client.get("/").expect(200);
        std::thread::sleep(ms(20));
    }
    assert!((2..=6).contains(&origin.connections()), "{} connections in a second", origin.connections());
}

#[test]
fn the_pool_keeps_no_more_than_its_share() {
    let origin = Origin::start(|x| {
        x.wait(ms(150));
        x.ok("x")
    });
    let gateway = alone(&format!("[pool]\nidle_per_endpoint_max = 2\n\n{}", one(&origin, "")));
    let mut clients: Vec<Client> = (0..6).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(request("GET", "/", "", b""));
    }
    for client in &mut clients {
        client.response().expect(200);
    }
    wait_until("two idle connections", SOON, || origin.open_connections() == 2);
    gateway.wait_metrics("two in the gauge", |m| m.sum(names::ORIGIN_IDLE, &[]) == 2.0);
}

#[test]
fn a_dead_idle_connection_is_noticed_before_use() {
    let origin = Origin::saying("x");
    let gateway = alone(&one(&origin, "retry_stale = false"));
    let mut client = gateway.client();
    for _ in 0..5 {
        client.request("POST", "/", "", b"body").expect(200);
        origin.drop_connections();
        std::thread::sleep(ms(60));
    }
    assert_eq!(origin.connections(), 5);
}

/// Dies on the second request of a connection, whole, after `said`; counts on fresh connections it answers.
fn stale(said: &'static str) -> Origin {
    Origin::start(move |x| {
        x.body()?;
        if x.seen.nth > 0 {
            x.send(said)?;
            x.wait(ms(30));
            return x.reset();
        }
        x.ok("x")
    })
}

#[test]
fn a_get_on_a_stale_connection_is_tried_once_more() {
    let origin = stale("");
    let gateway = alone(&one(&origin, ""));
    let mut client = gateway.client();
    for _ in 0..4 {
        client.get("/").expect(200);
    }
    assert!(gateway.wait_log(4).iter().all(|l| l.status() == 200));
}

#[test]
fn a_post_that_was_sent_is_never_sent_again() {
    let origin = stale("");
    let gateway = alone(&one(&origin, ""));
    let mut client = gateway.client();
    client.request("POST", "/1", "", b"a").expect(200);
    client.request("POST", "/2", "", b"b").expect(502).problem();
    let sent = origin.targets().iter().filter(|t| *t == "/2").count();
    assert_eq!(sent, 1);
}

/// Nothing of a body has been read then, so that only the method forbids another try.
#[test]
fn a_post_without_a_body_is_never_sent_again() {
    let origin = stale("");
    let gateway = alone(&one(&origin, ""));
    let mut client = gateway.client();
    client.get("/1").expect(200);
    client.send("POST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
    client.response_to("POST").expect(502).problem();
    let sent = origin.targets().iter().filter(|t| *t == "/2").count();
    assert_eq!(sent, 1);
}

#[test]
fn nothing_is_tried_again_after_a_byte_of_the_answer() {
    let origin = stale("HTTP/1.1 2");
    let gateway = alone(&one(&origin, ""));
    let mut client = gateway.client();
    client.get("/1").expect(200);
    client.get("/2").expect(502);
    assert_eq!(origin.targets(), ["/1", "/2"]);
}

#[test]
fn a_connection_that_dies_without_a_word_costs_a_get_one_more_try_and_a_post_none() {
    let origin = Origin::start(|x| {
        x.body()?;
        x.reset()
    });
    let gateway = alone(&one(&origin, ""));
    gateway.get("/get").expect(502).problem();
    gateway.client().request("POST", "/post", "", b"b").expect(502).problem();
    let sent = |path: &str| origin.targets().iter().filter(|t| *t == path).count();
    assert!(sent("/get") <= 2, "{} times", sent("/get"));
    assert_eq!(sent("/post"), 1);
}

#[test]
fn the_retry_can_be_off() {
    let origin = stale("");
    let gateway = alone(&one(&origin, "retry_stale = false"));
    let mut client = gateway.client();
    client.get("/1").expect(200);
    client.get("/2").expect(502);
    assert_eq!(origin.count(), 2);
}

#[test]
fn an_origin_that_restarts_all_the_time_loses_no_get() {
    let origin = Origin::start(|x| {
        x.ok("x")?;
        if x.number % 3 == 2 { x.close() } else { Ok(()) }
    });
    let gateway = Gateway::start(&one(&origin, ""));
    let mut client = gateway.client();
    for n in 0..150 {
        client.get(&format!("/{n}")).expect(200);
    }
}

#[test]
fn one_dead_endpoint_of_three_costs_no_request_by_default() {
    let origins = [Origin::saying("a"), Origin::saying("b")];
    let dead = Port::lease().address();
    let list = format!("endpoints = [\"{}\", \"{dead}\", \"{}\"]", origins[0].endpoint(), origins[1].endpoint());
    let gateway = Gateway::start(&cluster_all(&list));
    let mut client = gateway.client();
    // A third of them meet the dead one first, more than any budget of retries.
    (0..600).for_each(|_| drop(client.get("/").expect(200)));
    (0..100).for_each(|_| drop(client.request("POST", "/", "", b"x").expect(200)));
}

#[test]
fn a_second_try_takes_nobodys_turn() {
    let good = Origin::saying("good");
    let dead = Port::lease().address();
    let gateway = alone(&cluster_all(&format!("endpoints = [\"{}\", \"{dead}\"]", good.endpoint())));
    (0..20).for_each(|_| drop(gateway.get("/").expect(200)));
    let lines = gateway.wait_log(20);
    let twice = lines.iter().filter(|line| line.field("ringway.attempts").as_u64() == Some(2)).count();
    assert_eq!(twice, 10, "every second request begins at the good one");
}
