//! Endpoints that are left out for what their requests came to, and how they come back, seen by clients and origins.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Instant;

use support::{Gateway, Origin, SOON, cluster_all, endpoints, ms, wait_until};

/// Answers with the status that is set, after the time that is set.
struct Moody {
    origin: Origin,
    status: Arc<AtomicU16>,
    wait_ms: Arc<AtomicU64>,
}

impl Moody {
    fn start() -> Moody {
        let (status, wait_ms) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU64::new(0)));
        let (say, after_ms) = (status.clone(), wait_ms.clone());
        let origin = Origin::start(move |x| {
            x.body()?;
            x.wait(ms(after_ms.load(Ordering::Acquire)));
            x.reply(say.load(Ordering::Acquire), "", "said")
        });
        Moody { origin, status, wait_ms }
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::Release);
    }

    fn waits(&self, wait_ms: u64) {
        self.wait_ms.store(wait_ms, Ordering::Release);
    }
}

fn document(origins: &[Moody], outlier: &str) -> String {
    let list = endpoints(origins.iter().map(|moody| &moody.origin));
    cluster_all(&format!("{list}\nretry.attempts_max = 1\noutlier = {{ {outlier} }}"))
}

/// Requests, each on a connection of its own, until `origin` has had `count`.
#[track_caller]
fn get_until(gateway: &Gateway, moody: &Moody, count: usize) {
    wait_until(&format!("{count} requests at one endpoint"), SOON, || {
        gateway.get("/");
        moody.origin.count() >= count
    });
}

/// `count` requests, of which none may meet `out`.
#[track_caller]
fn assert_out(gateway: &Gateway, out: &Moody, count: usize) {
    let before = out.origin.count();
    for _ in 0..count {
        gateway.get("/").expect(200);
    }
    assert_eq!(out.origin.count(), before, "it is not left out");
}

#[test]
fn errors_in_a_row_are_counted_over_all_cores_and_eject() {
    for shards in [1, 2, 4] {
        let origins = [Moody::start(), Moody::start(), Moody::start()];
        let toml = document(&origins, "consecutive_errors = 5, ejection = \"60s\"");
        let gateway = Gateway::with(&toml).shards(shards).start();
        origins[0].says(503);
        get_until(&gateway, &origins[0], 5);
        assert_out(&gateway, &origins[0], 30);
        assert_eq!(origins[0].origin.count(), 5, "{shards} shards");
    }
}

#[test]
fn a_good_answer_ends_the_row_and_a_4xx_is_good() {
    let origins = [Moody::start(), Moody::start()];
    let gateway = Gateway::start(&document(&origins, "consecutive_errors = 3, ejection = \"60s\""));
    for status in [502, 502, 404, 502, 502, 200, 500, 500, 204] {
        origins[0].says(status);
        let before = origins[0].origin.count();
        get_until(&gateway, &origins[0], before + 1);
    }
    origins[0].says(200);
    let before = origins[0].origin.count();
    get_until(&gateway, &origins[0], before + 10);
}

#[test]
fn refused_and_reset_connections_and_timeouts_are_errors() {
    let silent = Origin::start(|x| {
        x.wait(ms(1500));
        x.close()
    });
    let resetting = Origin::start(|x| x.reset());
    let port = support::ports::Port::lease();
    for bad in [silent.endpoint(), resetting.endpoint(), port.address()] {
        let good = Origin::saying("good");
        let gateway = Gateway::start(&cluster_all(&format!(
            "endpoints = [\"{bad}\", \"{}\"]\nretry.attempts_max = 1\nretry_stale = false\n\
             first_byte_timeout = \"100ms\"\noutlier = {{ consecutive_errors = 2, ejection = \"60s\" }}",
            good.endpoint()
        )));
        let failed = |gateway: &Gateway| gateway.log().iter().filter(|line| line.status() >= 500).count();
        wait_until("two failures", SOON, || {
            gateway.get("/");
            failed(&gateway) >= 2
        });
        (0..20).for_each(|_| drop(gateway.get("/").expect(200)));
        assert_eq!(failed(&gateway), 2, "{bad}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    let broken = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nonly this")?;
        x.close()
    });
    let good = Origin::saying("good");
    let gateway = Gateway::start(&cluster_all(&format!(
        "{}\noutlier = {{ consecutive_errors = 3, ejection = \"60s\" }}",
        endpoints([&broken, &good])
    )));
    let mut cut = 0;
    for _ in 0..60 {
        cut += usize::from(gateway.get("/").cut.is_some());
    }
    assert_eq!((cut, broken.count()), (3, 3));
}

#[test]
fn the_share_of_errors_in_an_interval_ejects() {
    let origins = [Moody::start(), Moody::start(), Moody::start()];
    let rules =
        "consecutive_errors = 0, error_percent = 40, requests_min = 10, interval = \"500ms\", ejection = \"60s\"";
    let gateway = Gateway::start(&document(&origins, rules));
    // Half of its answers are errors, never two in a row.
    let began = Instant::now();
    let mut out_for = 0;
    while out_for < 30 {
        let before = origins[0].origin.count();
        origins[0].says(if before.is_multiple_of(2) { 500 } else { 200 });
        gateway.get("/");
        out_for = if origins[0].origin.count() == before { out_for + 1 } else { 0 };
        assert!(began.elapsed() < SOON, "not ejected after {before} requests");
    }
    assert!(origins[0].origin.count() >= 10);
}

#[test]
fn an_endpoint_that_is_slower_than_the_others_is_ejected() {
    let origins = [Moody::start(), Moody::start(), Moody::start()];
    let rules =
        "consecutive_errors = 0, latency_percent = 400, requests_min = 5, interval = \"500ms\", ejection = \"60s\"";
    let gateway = Gateway::start(&document(&origins, rules));
    origins[0].waits(60);
    origins[1].waits(2);
    origins[2].waits(2);
    let began = Instant::now();
    let mut out_for = 0;
    while out_for < 30 {
        let before = origins[0].origin.count();
        gateway.get("/").expect(200);
        out_for = if origins[0].origin.count() == before { out_for + 1 } else { 0 };
        assert!(began.elapsed() < SOON, "not ejected after {before} requests");
    }
}

#[test]
fn it_comes_back_by_itself_and_each_time_in_a_row_later() {
    let origins = [Moody::start(), Moody::start(), Moody::start()];
    let gateway = Gateway::start(&document(
        &origins,
        "consecutive_errors = 2, ejection = \"400ms\", ejection_max = \"60s\", interval = \"60s\"",
    ));
    origins[0].says(500);
    let mut away = Vec::new();
    for round in 0..3 {
        get_until(&gateway, &origins[0], 2 * round + 2);
        let began = Instant::now();
        get_until(&gateway, &origins[0], 2 * round + 3);
        away.push(began.elapsed());
    }
    for (round, away) in away.iter().enumerate() {
        let least = ms(400) * (round as u32 + 1);
        assert!(*away >= least - ms(50), "ejection {round} took {away:?}");
    }
    // Well again, it stays.
    origins[0].says(200);
    let before = origins[0].origin.count();
    get_until(&gateway, &origins[0], before + 20);
}

#[test]
fn no_more_than_the_share_is_ejected_and_one_always_may_be() {
    let origins: Vec<Moody> = (0..4).map(|_| Moody::start()).collect();
    let gateway =
        Gateway::start(&document(&origins, "consecutive_errors = 2, ejection = \"60s\", ejected_percent_max = 50"));
    origins[..3].iter().for_each(|moody| moody.says(500));
    for _ in 0..60 {
        gateway.get("/");
    }
    let counts: Vec<usize> = origins.iter().map(|moody| moody.origin.count()).collect();
    let out = counts[..3].iter().filter(|&&count| count == 2).count();
    assert_eq!(out, 2, "two of four: {counts:?}");
    assert!(counts[..3].iter().any(|&count| count > 10), "the third bad one stays: {counts:?}");

    let pair = [Moody::start(), Moody::start()];
    let gateway =
        Gateway::start(&document(&pair, "consecutive_errors = 2, ejection = \"60s\", ejected_percent_max = 0"));
    pair.iter().for_each(|moody| moody.says(500));
    for _ in 0..30 {
        gateway.get("/").expect(500);
    }
    let counts: Vec<usize> = pair.iter().map(|moody| moody.origin.count()).collect();
    assert!(counts.contains(&2) && counts.iter().sum::<usize>() == 30, "one out, one in: {counts:?}");
}
