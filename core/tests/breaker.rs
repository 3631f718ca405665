//! The circuit breaker by Hystrix's rules, seen by clients and origins: when it opens, what it says, how it closes again.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use support::client::request;
use support::{Client, Gateway, Origin, SOON, cluster_all, endpoints, ms, wait_for, wait_until};

/// Answers with the status that is set, 200 at first; `/slow` not before it is let go.
struct Moody {
    origin: Origin,
    status: Arc<AtomicU16>,
    hold: Arc<AtomicBool>,
}

impl Moody {
    fn start() -> Moody {
        let (status, hold) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicBool::new(true)));
        let (say, held) = (status.clone(), hold.clone());
        let origin = Origin::start(move |x| {
            x.body()?;
            while x.target().starts_with("/slow") && held.load(Ordering::Acquire) {
                x.wait(ms(5));
            }
            x.reply(say.load(Ordering::Acquire), "", "said")
        });
        Moody { origin, status, hold }
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::Release);
    }

    fn let_go(&self) {
        self.hold.store(false, Ordering::Release);
    }

    fn gateway(&self, breaker: &str) -> Gateway {
        Gateway::start(&self.document(breaker))
    }

    fn document(&self, breaker: &str) -> String {
        cluster_all(&format!("{}\nretry.attempts_max = 1\nbreaker = {{ {breaker} }}", endpoints([&self.origin])))
    }
}

/// `count` requests, each on a connection of its own, so that they meet every core.
#[track_caller]
fn get_each(gateway: &Gateway, count: usize, status: u16) {
    for _ in 0..count {
        gateway.get("/").expect(status);
    }
}

#[track_caller]
fn refused(gateway: &Gateway) -> u64 {
    let answer = gateway.get("/").expect(503);
    assert_eq!(answer.problem()["code"], "circuit_open");
    answer.header("retry-after").expect("Retry-After").parse().expect("seconds")
}

#[test]
fn it_opens_at_the_volume_and_the_percentage_of_all_cores_and_says_for_how_long() {
    for shards in [1, 2, 4] {
        let moody = Moody::start();
        let toml = moody.document("requests_min = 20, error_percent = 50, sleep = \"30s\", snapshot = \"0ms\"");
        let gateway = Gateway::with(&toml).shards(shards).start();
        get_each(&gateway, 10, 200);
        moody.says(500);
        // 19 requests are below the volume, though nine of them are errors; the twentieth makes it half of 20.
        get_each(&gateway, 9, 500);
        get_each(&gateway, 1, 500);
        assert_eq!(moody.origin.count(), 20);
        let seconds = refused(&gateway);
        assert!((25..=30).contains(&seconds), "{shards} shards: Retry-After: {seconds}");
        for _ in 0..10 {
            refused(&gateway);
        }
        assert_eq!(moody.origin.count(), 20, "{shards} shards: an open circuit lets nothing through");
        wait_until("the flag of each refusal", SOON, || {
            gateway.log().iter().filter(|line| line.has_flag("UO") && line.status() == 503).count() == 11
        });
    }
}

#[test]
fn below_the_percentage_it_stays_closed_and_a_4xx_is_no_error() {
    let moody = Moody::start();
    let gateway = moody.gateway("requests_min = 10, error_percent = 60, sleep = \"30s\", snapshot = \"0ms\"");
    for status in [200, 500, 200, 500, 404, 429, 401, 499, 404, 404] {
        moody.says(status);
        get_each(&gateway, 3, status);
    }
    moody.says(404);
    get_each(&gateway, 20, 404);
    // A 501 is none of the listed failures.
    moody.says(501);
    get_each(&gateway, 40, 501);
    moody.says(200);
    get_each(&gateway, 1, 200);
}

#[test]
fn one_trial_decides_and_a_good_one_closes_and_empties_the_window() {
    let moody = Moody::start();
    let gateway = moody.gateway("requests_min = 10, sleep = \"700ms\", snapshot = \"0ms\", timeout = \"20s\"");
    moody.says(503);
    get_each(&gateway, 10, 503);
    refused(&gateway);
    // A trial that fails opens it anew.
    let before = moody.origin.count();
    wait_until("a trial", SOON, || {
        gateway.get("/").expect(503);
        moody.origin.count() > before
    });
    refused(&gateway);
    assert_eq!(moody.origin.count(), before + 1);
    // While a trial is under way everybody else is refused.
    moody.says(200);
    let mut trial = wait_for("another trial", SOON, || {
        let mut client = gateway.client();
        client.send(request("GET", "/slow", "", b""));
        wait_for("a trial or its refusal", SOON, || match moody.origin.count() > before + 1 {
            true => Some(Some(())),
            false if client.closed_within(ms(10)) != support::Closed::Open => Some(None),
            false => None,
        })?;
        Some(client)
    });
    for _ in 0..20 {
        refused(&gateway);
    }
    assert_eq!(moody.origin.count(), before + 2);
    moody.let_go();
    trial.response().expect(200);
    get_each(&gateway, 5, 200);
    // Four errors of nine requests and nothing from before: below the volume.
    moody.says(503);
    get_each(&gateway, 3, 503);
    moody.says(200);
    get_each(&gateway, 1, 200);
}

#[test]
fn an_answer_that_takes_more_than_a_second_is_a_failure_by_default() {
    let moody = Moody::start();
    let gateway = moody.gateway("requests_min = 4, sleep = \"30s\", snapshot = \"0ms\"");
    let mut clients: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(request("GET", "/slow", "", b""));
    }
    for client in &mut clients {
        assert_eq!(client.response().expect(504).problem()["code"], "origin_timeout");
    }
    refused(&gateway);
    moody.let_go();
}

#[test]
fn a_client_that_goes_away_counts_as_nothing() {
    let moody = Moody::start();
    let gateway = moody.gateway("requests_min = 5, error_percent = 10, sleep = \"30s\", timeout = \"20s\"");
    for n in 1..=20 {
        let mut client = gateway.client();
        client.send(request("GET", "/slow", "", b""));
        moody.origin.wait_count(n);
        client.reset();
    }
    wait_until("they are gone", SOON, || gateway.log().iter().filter(|line| line.has_flag("DC")).count() == 20);
    moody.let_go();
    get_each(&gateway, 20, 200);
}

#[test]
fn beyond_concurrent_max_it_refuses_at_once_and_counts_an_error() {
    let moody = Moody::start();
    let gateway =
        moody.gateway("concurrent_max = 3, requests_min = 8, sleep = \"30s\", timeout = \"20s\", snapshot = \"0ms\"");
    let mut held: Vec<Client> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut held {
        client.send(request("GET", "/slow", "", b""));
    }
    moody.origin.wait_count(3);
    for _ in 0..8 {
        let answer = gateway.get("/").expect(503);
        assert_eq!(answer.problem()["code"], "overflow");
    }
    refused(&gateway);
    assert_eq!(moody.origin.count(), 3);
    moody.let_go();
    held.iter_mut().for_each(|client| drop(client.response().expect(200)));
}

/// A refusal for want of a place is final: trying again would count it twice and spend the budget.
#[test]
fn a_refusal_for_want_of_a_place_is_not_tried_again() {
    let origins = [Moody::start(), Moody::start()];
    let gateway = Gateway::start(&cluster_all(&format!(
        "{}\nretry = {{ attempts_max = 3, backoff = \"1ms\" }}\n\
         breaker = {{ concurrent_max = 2, requests_min = 9, sleep = \"30s\", timeout = \"20s\", snapshot = \"0ms\" }}",
        endpoints(origins.iter().map(|moody| &moody.origin))
    )));
    let mut held: Vec<Client> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut held {
        client.send(request("GET", "/slow", "", b""));
    }
    wait_until("both are held", SOON, || origins.iter().map(|moody| moody.origin.count()).sum::<usize>() == 2);
    for _ in 0..8 {
        assert_eq!(gateway.get("/").expect(503).problem()["code"], "overflow", "eight errors are below the volume");
    }
    origins.iter().for_each(Moody::let_go);
    held.iter_mut().for_each(|client| drop(client.response().expect(200)));
}

#[test]
fn it_can_be_forced_open_and_closed() {
    let moody = Moody::start();
    let mut gateway = moody.gateway("force = \"open\", sleep = \"7s\"");
    assert_eq!(refused(&gateway), 7);
    assert_eq!(moody.origin.count(), 0);
    gateway.rewrite_and_reload(&moody.document("force = \"closed\", requests_min = 5, snapshot = \"0ms\""));
    moody.says(500);
    get_each(&gateway, 30, 500);
    assert_eq!(moody.origin.count(), 30);
    // What was counted under force is not held against it later.
    gateway.rewrite_and_reload(&moody.document("requests_min = 5, snapshot = \"0ms\""));
    moody.says(200);
    get_each(&gateway, 2, 200);
}

#[test]
fn an_endpoints_own_breaker_takes_it_alone_out() {
    let (bad, good) = (Moody::start(), Moody::start());
    bad.says(500);
    let gateway = Gateway::start(&cluster_all(&format!(
        "{}\nretry.attempts_max = 1\nendpoint_breaker = {{ requests_min = 5, sleep = \"1s\", snapshot = \"0ms\" }}",
        endpoints([&bad.origin, &good.origin])
    )));
    wait_until("five errors", SOON, || {
        gateway.get("/");
        bad.origin.count() == 5
    });
    for _ in 0..20 {
        assert_eq!(bad.origin.count(), 5);
        gateway.get("/").expect(200);
    }
    // Its trial is a request like any other; once it is well it has its share again.
    bad.says(200);
    wait_until("it is back", SOON, || {
        gateway.get("/").expect(200);
        bad.origin.count() > 10
    });
}

#[test]
fn with_every_endpoint_out_the_client_is_told_when_to_come_again() {
    let bad = Moody::start();
    bad.says(500);
    let gateway = Gateway::start(&cluster_all(&format!(
        "{}\nretry.attempts_max = 1\nendpoint_breaker = {{ requests_min = 5, sleep = \"30s\", snapshot = \"0ms\" }}",
        endpoints([&bad.origin])
    )));
    get_each(&gateway, 5, 500);
    for _ in 0..5 {
        let seconds = refused(&gateway);
        assert!((20..=30).contains(&seconds), "Retry-After: {seconds}");
    }
    assert_eq!(bad.origin.count(), 5);
}
