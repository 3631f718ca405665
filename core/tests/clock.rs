//! Times in which the process does not run, and steps of the wall clock: neither ends, ejects, opens or storms anything.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use support::client::request;
use support::{Client, Gateway, Origin, Response, cluster_all, endpoints, ms};

/// What watches the cluster, each easily tripped.
const RULES: &str = "retry.attempts_max = 1\nretry_stale = false\nfirst_byte_timeout = \"1500ms\"\n\
     breaker = { requests_min = 3, error_percent = 10, snapshot = \"0ms\", sleep = \"60s\", timeout = \"1500ms\" }\n\
     outlier = { consecutive_errors = 1, latency_percent = 800, requests_min = 2, interval = \"1s\", ejection = \"60s\", \
     ejected_percent_max = 100 }\n";

/// Answers after a short while; `/held` once it is let go.
fn origins(count: usize, hold: &Arc<AtomicBool>) -> Vec<Origin> {
    (0..count)
        .map(|_| {
            let hold = hold.clone();
            Origin::start(move |x| {
                x.wait(ms(10));
                while x.target() == "/held" && hold.load(Ordering::Acquire) {
                    x.wait(ms(5));
                }
                x.ok("x")
            })
        })
        .collect()
}

fn document(origins: &[Origin]) -> String {
    format!(
        "[listeners.main]\nkeepalive_timeout = \"2s\"\nunused_timeout = \"2s\"\nheader_timeout = \"2s\"\n\n{}",
        cluster_all(&format!("{}\n{RULES}", endpoints(origins)))
    )
}

fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(Origin::count).collect()
}

fn in_turn(clients: &mut [Client], count: usize) {
    let turns = clients.len();
    (0..count).for_each(|n| drop(clients[n % turns].get("/").expect(200)));
}

#[test]
fn a_stopped_process_wakes_to_what_it_left() {
    let hold = Arc::new(AtomicBool::new(true));
    let origins = origins(3, &hold);
    let gateway = Gateway::start(&document(&origins));
    let mut resting: Vec<Client> = (0..6).map(|_| gateway.client()).collect();
    in_turn(&mut resting, 24);
    let mut unused: Vec<Client> = (0..2).map(|_| gateway.client()).collect();
    let mut begun = gateway.client();
    begun.send("GET / HTTP/1.1\r\nHost: gw");
    // Two of three endpoints have something under way: the third must not look fast beside them.
    let mut under_way: Vec<Client> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut under_way {
        client.send(request("GET", "/held", "", b""));
    }
    support::wait_until("they are under way", support::SOON, || counts(&origins).iter().sum::<usize>() == 26);
    let connections: usize = origins.iter().map(Origin::connections).sum();
    gateway.signal(libc::SIGSTOP);
    hold.store(false, Ordering::Release);
    thread::sleep(ms(5000));
    gateway.signal(libc::SIGCONT);

    under_way.iter_mut().for_each(|client| drop(client.response().expect(200)));
    begun.send(".test\r\n\r\n").response().expect(200);
    resting.iter_mut().chain(&mut unused).for_each(|client| drop(client.get("/").expect(200)));
    // Past the interval in which it stood still everybody is still used, and nothing was sent twice.
    thread::sleep(ms(1200));
    in_turn(&mut resting, 30);
    let before = counts(&origins);
    in_turn(&mut resting, 30);
    let after = counts(&origins);
    assert!(std::iter::zip(&before, &after).all(|(before, after)| after - before >= 8), "{before:?}, {after:?}");
    assert_eq!(after.iter().sum::<usize>(), 26 + 1 + 8 + 60);
    let opened = origins.iter().map(Origin::connections).sum::<usize>() - connections;
    assert!(opened <= 6, "{opened} connections opened anew");
}

/// From Debian's package `libfaketime`.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

fn hours_ahead(answer: &Response) -> i64 {
    let date = httpdate::parse_http_date(answer.header("date").expect("a date")).expect("an HTTP date");
    let apart = |one: SystemTime, other: SystemTime| one.duration_since(other).ok().map(|d| d.as_secs() as i64);
    let now = SystemTime::now();
    let seconds = apart(date, now).unwrap_or_else(|| -apart(now, date).expect("one is earlier"));
    (seconds as f64 / 3600.0).round() as i64
}

#[test]
fn steps_of_the_wall_clock_end_nothing_and_trip_nothing() {
    if !Path::new(FAKETIME).exists() {
        eprintln!("SKIPPED steps_of_the_wall_clock: there is no {FAKETIME}; scripts/setup --test installs it");
        return;
    }
    let hold = Arc::new(AtomicBool::new(true));
    let origins = origins(2, &hold);
    let dir = support::gateway::Dir::new();
    let clock = dir.file("clock", "+0");
    let variables = [
        format!("LD_PRELOAD={FAKETIME}"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_NO_CACHE=1".to_owned(),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
    ];
    let wrapper: Vec<&str> = std::iter::once("env").chain(variables.iter().map(String::as_str)).collect();
    let document = document(&origins).replace("\"2s\"", "\"60s\"");
    let gateway = Gateway::with(&document).under(&wrapper).start();
    let mut resting: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    let refused = |gateway: &Gateway| gateway.exchange("TRACE / HTTP/1.1\r\nHost: gw.test\r\n\r\n");
    let step = |offset: &str, hours: i64| {
        // Renamed into its place, so that nobody reads half of it.
        let next = dir.file("next", offset);
        std::fs::rename(next, &clock).expect("set the clock");
        support::wait_until("the gateway's clock", Duration::from_secs(8), || hours_ahead(&refused(&gateway)) == hours);
    };
    for (offset, hours) in [("+0", 0), ("+3600", 1), ("-3600", -1), ("+0", 0)] {
        let mut held = gateway.client();
        hold.store(true, Ordering::Release);
        held.send(request("GET", "/held", "", b""));
        let letting_go = {
            let hold = hold.clone();
            thread::spawn(move || {
                thread::sleep(ms(400));
                hold.store(false, Ordering::Release);
            })
        };
        step(offset, hours);
        held.response().expect(200);
        letting_go.join().expect("a thread");
        let before = counts(&origins);
        in_turn(&mut resting, 24);
        let after = counts(&origins);
        assert!(std::iter::zip(&before, &after).all(|(one, other)| other - one >= 8), "{offset}: {before:?} {after:?}");
    }
}
