//! Origins that die, hang, and lie, under load: no request fails that may run twice and of which no answer had begun, and
//! an answer that had begun is visibly cut. Origins are processes where they must die as processes do.

mod support;

use std::time::{Duration, Instant};

use support::load::{Load, Outcome, Result};
use support::ports::Port;
use support::process::{LARGE_BYTES, OriginProcess, SMALL_BYTES, serve_if_asked};
use support::{Gateway, Origin, SOON, cluster_all, ms, wait_until};

/// Not a test by itself: the processes of origins run it.
#[test]
fn origin_process() {
    serve_if_asked();
}

const CONNECTIONS: usize = 64;

fn three() -> Vec<OriginProcess> {
    (0..3).map(|_| OriginProcess::start("origin_process")).collect()
}

fn document(origins: &[OriginProcess], lines: &str) -> String {
    let list: Vec<String> = origins.iter().map(|origin| format!("\"{}\"", origin.endpoint())).collect();
    cluster_all(&format!("endpoints = [{}]\n{lines}", list.join(", ")))
}

/// Every answer is whole or visibly cut, and only answers of `died` are cut.
#[track_caller]
fn assert_none_failed(outcomes: &[Outcome], died: Option<&OriginProcess>) {
    let died = died.map(port_of);
    for outcome in outcomes {
        let wanted = if outcome.target == "/small" { SMALL_BYTES } else { LARGE_BYTES };
        let fine = match &outcome.result {
            Result::Whole(bytes) => *bytes == wanted,
            Result::Cut => Some(&outcome.origin) == died.as_ref(),
            _ => false,
        };
        assert!(fine, "{outcome:?}; {} requests in all", outcomes.len());
    }
}

fn port_of(origin: &OriginProcess) -> String {
    origin.endpoint().rsplit(':').next().expect("a port").to_owned()
}

/// Requests that began from `from` on and for `time`: all, and those that `origin` answered.
fn share(outcomes: &[Outcome], origin: &OriginProcess, from: Instant, time: Duration) -> (usize, usize) {
    let port = port_of(origin);
    let within: Vec<&Outcome> = outcomes.iter().filter(|o| o.began >= from && o.began < from + time).collect();
    (within.len(), within.iter().filter(|o| o.origin == port).count())
}

fn wait_more(load: &Load, what: &str, count: usize) {
    let before = load.count();
    wait_until(what, SOON, || load.count() >= before + count);
}

fn killed_and_back(balance: &str) {
    let mut origins = three();
    let gateway = Gateway::start(&document(
        &origins,
        &format!(
            "balance = \"{balance}\"\noutlier = {{ consecutive_errors = 5, ejection = \"500ms\" }}\n\
             slow_start = {{ window = \"3s\", min_percent = 5 }}"
        ),
    ));
    let load = Load::start(gateway.addr(), CONNECTIONS, &["/small", "/large", "/small", "/chunked"]);
    wait_more(&load, "some load", 1000);
    origins[0].kill();
    wait_more(&load, "load without the first", 2000);
    assert!(load.count_of(|outcome| outcome.result == Result::Cut) > 0, "nothing was under way when it died");
    // Ejections were renewed while it was dead; now it comes back, little by little.
    let (restarted, port) = (Instant::now(), port_of(&origins[0]));
    origins[0].restart();
    wait_until("it answers again", SOON, || load.count_of(|o| o.began >= restarted && o.origin == port) > 0);
    let back = Instant::now();
    wait_until("the slow start's end", SOON, || back.elapsed() > ms(4200));
    let outcomes = load.end();
    assert_none_failed(&outcomes, Some(&origins[0]));
    // By quarters of a second since it is back.
    let shares: Vec<usize> = (0..16)
        .map(|n| share(&outcomes, &origins[0], back + ms(250) * n, ms(250)))
        .map(|(all, its)| its * 100 / all.max(1))
        .collect();
    let mean = |of: &[usize]| of.iter().sum::<usize>() / of.len();
    assert!(mean(&shares[..2]) < 18, "not filled slowly: {shares:?}");
    // Having half of its weight, by load, too, though it is the least busy one all the time.
    assert!(mean(&shares[3..6]) < 23, "filled too early: {shares:?}");
    assert!(mean(&shares[13..]) > 22, "not filled: {shares:?}");
}

#[test]
fn a_killed_origin_costs_no_answer_that_had_not_begun_and_is_filled_slowly_in_turns() {
    killed_and_back("round_robin");
}

#[test]
fn a_killed_origin_costs_no_answer_that_had_not_begun_and_is_filled_slowly_by_load() {
    killed_and_back("least_request");
}

#[test]
fn a_stopped_origin_costs_no_answer_and_comes_back() {
    let origins = three();
    let gateway = Gateway::start(&document(
        &origins,
        "retry = { on = [\"connect_failure\", \"reset\", \"timeout\"], per_try_timeout = \"400ms\" }\n\
         outlier = { consecutive_errors = 5, ejection = \"1s\" }",
    ));
    let load = Load::start(gateway.addr(), CONNECTIONS, &["/small"]);
    wait_more(&load, "some load", 500);
    origins[0].stop();
    let stopped = Instant::now();
    wait_more(&load, "load without the first", 3000);
    wait_until("an ejection ends", SOON, || stopped.elapsed() > ms(1800));
    origins[0].go_on();
    let (on, port) = (Instant::now(), port_of(&origins[0]));
    wait_until("it answers again", SOON, || load.count_of(|o| o.began >= on && o.origin == port) > 50);
    assert_none_failed(&load.end(), None);
}

/// One bad origin of three, four clients, no failure.
fn one_bad_of_three(what: &str, bad: &str, lines: &str) -> Vec<Outcome> {
    let good = || Origin::start(|x| x.ok("x".repeat(SMALL_BYTES)));
    let (one, other) = (good(), good());
    let gateway = Gateway::start(&cluster_all(&format!(
        "endpoints = [\"{bad}\", \"{}\", \"{}\"]\n{lines}\n\
         outlier = {{ consecutive_errors = 5, ejection = \"60s\" }}",
        one.endpoint(),
        other.endpoint()
    )));
    let load = Load::start(gateway.addr(), 8, &["/small"]);
    wait_until(what, SOON, || load.count() > 300);
    load.end()
}

#[test]
fn origins_that_refuse_hang_reset_dribble_and_fail_by_schedule_cost_no_get() {
    let retry = "retry = { on = [\"connect_failure\", \"reset\", \"timeout\"], per_try_timeout = \"200ms\", \
                 statuses = [500, 502, 503, 504] }";
    let refusing = Port::lease();
    let hanging = Origin::start(|x| {
        x.await_gone(SOON);
        Ok(())
    });
    let closing = Origin::start(|x| x.close());
    let resetting = Origin::start(|x| x.reset());
    let dribbling = Origin::start(|x| x.dribble(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ms(40)));
    let by_schedule = Origin::start(|x| match x.number % 4 {
        0 => x.reply(500, "", "no"),
        1 => x.reply(503, "Retry-After: 3600\r\n", "no"),
        _ => x.ok("x".repeat(SMALL_BYTES)),
    });
    // Its queue is full and nobody takes connections from it.
    let deaf = support::odd::Deaf::start();
    let kinds = [
        ("refuses", refusing.address()),
        ("hangs", hanging.endpoint()),
        ("closes", closing.endpoint()),
        ("resets", resetting.endpoint()),
        ("dribbles", dribbling.endpoint()),
        ("is deaf", deaf.endpoint()),
    ];
    for (what, bad) in kinds {
        assert_none_failed(&one_bad_of_three(what, &bad, retry), None);
    }
    // A 503 that asks for an hour's wait ends the trying: its client is told the truth.
    let outcomes = one_bad_of_three("fails by schedule", &by_schedule.endpoint(), retry);
    for outcome in outcomes {
        let fine = matches!(outcome.result, Result::Whole(SMALL_BYTES) | Result::Status(503, _));
        assert!(fine, "{outcome:?}");
    }
}

#[test]
fn an_origin_that_lies_about_its_length_spoils_no_other_answer() {
    let short = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nless")?;
        x.close()
    });
    let outcomes = one_bad_of_three("says more than it sends", &short.endpoint(), "");
    let cut = outcomes.iter().filter(|outcome| outcome.result == Result::Cut).count();
    assert!((5..20).contains(&cut), "{cut} cut answers until it is ejected");
    assert!(outcomes.iter().all(|o| matches!(o.result, Result::Whole(SMALL_BYTES) | Result::Cut)), "{outcomes:?}");

    let long = Origin::start(|x| {
        let body = "x".repeat(SMALL_BYTES);
        x.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SMALL_BYTES}\r\n\r\n{body}HTTP/1.1 500 No\r\n\r\n"))
    });
    let outcomes = one_bad_of_three("sends more than it says", &long.endpoint(), "");
    assert!(outcomes.iter().all(|o| o.result == Result::Whole(SMALL_BYTES)), "{outcomes:?}");
}
