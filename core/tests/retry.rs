//! Tries at one endpoint after another: what is tried again, what never is, how long, how often; and the second request
//! beside a slow first one.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use support::client::request;
use support::ports::Port;
use support::{Client, Ending, Exchange, Gateway, Origin, SOON, cluster_all, endpoints, ms, wait_until};

/// On one shard and in turns, so that of two requests in a row each endpoint is the first of one.
fn alone(origins: &[Origin], lines: &str) -> Gateway {
    Gateway::with(&cluster_all(&format!("{}\n{lines}", endpoints(origins)))).shards(1).start()
}

/// Of two endpoints the first does `script`, the second is good.
fn bad_and_good(script: impl Fn(&mut Exchange) -> std::io::Result<()> + Send + Sync + 'static) -> [Origin; 2] {
    [
        Origin::start(script),
        Origin::start(|x| {
            let body = x.body()?;
            x.ok(body)
        }),
    ]
}

fn attempts(gateway: &Gateway, requests: usize) -> Vec<u64> {
    gateway.wait_log(requests).iter().map(|line| line.field("ringway.attempts").as_u64().expect("a number")).collect()
}

/// Two requests of which one met the bad endpoint first: both must be good.
#[track_caller]
fn both_are_good(gateway: &Gateway, method: &str, body: &[u8]) {
    for _ in 0..2 {
        assert_eq!(gateway.client().request(method, "/", "", body).expect(200).body, body);
    }
}

/// Two requests of which one met the bad endpoint first: that one fails with `status`.
#[track_caller]
fn one_fails(gateway: &Gateway, method: &str, body: &[u8], status: u16) {
    let mut said: Vec<u16> = (0..2).map(|_| gateway.client().request(method, "/", "", body).status).collect();
    said.sort_unstable();
    assert_eq!(said, [200, status], "{method}");
}

#[test]
fn a_failed_connect_is_tried_elsewhere_whatever_the_method() {
    let (port, good) = (Port::lease(), Origin::saying("good"));
    let cluster =
        |lines: &str| cluster_all(&format!("endpoints = [\"{}\", \"{}\"]\n{lines}", port.address(), good.endpoint()));
    let mut gateway = Gateway::with(&cluster("")).shards(1).start();
    for method in ["GET", "POST", "PATCH", "DELETE"] {
        for _ in 0..2 {
            gateway.client().request(method, "/", "", b"body").expect(200);
        }
    }
    let tries = attempts(&gateway, 8);
    assert!(tries.contains(&2) && tries.iter().all(|&tries| tries <= 2), "{tries:?}");
    let one_shard = |lines: &str| format!("{}\n[cores]\ncount = 1\n", cluster(lines));
    gateway.rewrite_and_reload(&one_shard("retry.on = [\"reset\", \"timeout\"]"));
    one_fails(&gateway, "GET", b"", 502);
    gateway.rewrite_and_reload(&one_shard("retry.attempts_max = 1"));
    one_fails(&gateway, "GET", b"", 502);
}

#[test]
fn a_reset_before_the_answer_is_tried_elsewhere_for_what_may_run_twice() {
    let origins = bad_and_good(|x| {
        x.body()?;
        x.reset()
    });
    let gateway = alone(&origins, "retry_stale = false");
    both_are_good(&gateway, "GET", b"");
    both_are_good(&gateway, "PUT", b"a body");
    both_are_good(&gateway, "DELETE", b"");
    let before = origins[1].count();
    one_fails(&gateway, "POST", b"once", 502);
    one_fails(&gateway, "PATCH", b"once", 502);
    assert_eq!(origins[1].count(), before + 2, "what reached an origin was sent again");

    let gateway = alone(&origins, "retry_stale = false\nretry.on = [\"connect_failure\"]");
    one_fails(&gateway, "GET", b"", 502);
    let gateway = alone(&origins, "retry_stale = false\nretry.unsafe_methods = true");
    both_are_good(&gateway, "POST", b"twice");
}

#[test]
fn nothing_is_tried_again_once_an_answer_has_begun() {
    for said in ["HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"] {
        let origins = bad_and_good(move |x| {
            x.send(said)?;
            x.close()
        });
        let gateway = alone(&origins, "retry = { attempts_max = 5, backoff = \"1ms\" }");
        let cut = (0..2).map(|_| gateway.get("/")).filter(|r| r.status == 502 || r.cut.is_some()).count();
        assert_eq!((cut, origins[0].count(), origins[1].count()), (1, 1, 1));
    }
}

#[test]
fn an_answer_that_does_not_come_is_tried_elsewhere_if_the_rules_say_so() {
    let silent = || {
        bad_and_good(|x| {
            x.await_gone(SOON);
            Ok(())
        })
    };
    let origins = silent();
    let gateway = alone(&origins, "first_byte_timeout = \"100ms\"");
    one_fails(&gateway, "GET", b"", 504);
    let gateway = alone(&origins, "first_byte_timeout = \"100ms\"\nretry.on = [\"timeout\"]");
    both_are_good(&gateway, "GET", b"");
    one_fails(&gateway, "POST", b"once", 504);
    // Each try has its own time, long before the cluster's.
    let origins = silent();
    let gateway = alone(&origins, "retry = { on = [\"timeout\"], per_try_timeout = \"100ms\" }");
    let began = Instant::now();
    both_are_good(&gateway, "GET", b"");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[test]
fn all_tries_together_have_the_total_timeout() {
    let origins: Vec<Origin> = (0..8)
        .map(|_| {
            Origin::start(|x| {
                x.await_gone(SOON);
                Ok(())
            })
        })
        .collect();
    let rules = "retry = { attempts_max = 8, on = [\"timeout\"], per_try_timeout = \"250ms\" }";
    let gateway = alone(&origins, &format!("total_timeout = \"600ms\"\n{rules}"));
    let began = Instant::now();
    assert_eq!(gateway.get("/").expect(504).problem()["code"], "origin_timeout");
    assert!(began.elapsed() >= ms(450) && began.elapsed() < ms(4000), "{:?}", began.elapsed());
    let tried = origins.iter().map(Origin::count).sum::<usize>();
    assert!((1..=3).contains(&tried), "{tried} tries of 250 ms in 600 ms");
}

#[test]
fn each_try_goes_to_another_endpoint_and_there_are_so_many_at_most() {
    let origins: Vec<Origin> = (0..4).map(|_| Origin::start(|x| x.reply(503, "", "busy"))).collect();
    let gateway = alone(&origins, "retry = { attempts_max = 3, statuses = [503] }");
    assert_eq!(gateway.get("/").expect(503).text(), "busy", "the last answer is the client's");
    let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
    assert_eq!((counts.iter().sum::<usize>(), counts.iter().max()), (3, Some(&1)), "{counts:?}");
    assert_eq!(attempts(&gateway, 1), [3]);
    // With fewer endpoints than tries it ends with the endpoints.
    let gateway = alone(&origins[..2], "retry = { attempts_max = 5, statuses = [503] }");
    gateway.get("/").expect(503);
    assert_eq!(attempts(&gateway, 1), [2]);
}

#[test]
fn statuses_are_tried_again_by_the_list_and_only_for_what_may_run_twice() {
    let origins = bad_and_good(|x| {
        x.body()?;
        x.reply(502, "", "bad")
    });
    let gateway = alone(&origins, "retry.statuses = [502, 503]");
    both_are_good(&gateway, "GET", b"");
    both_are_good(&gateway, "PUT", b"a body");
    one_fails(&gateway, "POST", b"once", 502);
    let gateway = alone(&origins, "retry.statuses = [503]");
    one_fails(&gateway, "GET", b"", 502);
}

#[test]
fn a_grpc_status_in_the_head_is_tried_again_by_the_list() {
    let origins = [
        Origin::start(|x| {
            x.body()?;
            x.reply(200, "Content-Type: application/grpc\r\ngrpc-status: 14\r\n", "")
        }),
        Origin::start(|x| {
            x.body()?;
            x.reply(200, "Content-Type: application/grpc\r\ngrpc-status: 0\r\n", "")
        }),
    ];
    let said = |gateway: &Gateway| -> Vec<String> {
        let call = || gateway.client().request("POST", "/s/m", "", b"\0\0\0\0\0").expect(200);
        let mut said: Vec<String> =
            (0..2).map(|_| call().header("grpc-status").unwrap_or_default().to_owned()).collect();
        said.sort();
        said
    };
    let rules = |codes: &str| format!("retry = {{ grpc_codes = [\"{codes}\"], unsafe_methods = true }}");
    assert_eq!(said(&alone(&origins, &rules("unavailable"))), ["0", "0"]);
    assert_eq!(said(&alone(&origins, &rules("internal"))), ["0", "14"]);
}

/// Says 503 with `extra` twice, then 200.
fn third_time_lucky(extra: &'static str) -> Origin {
    Origin::start(move |x| if x.number < 2 { x.reply(503, extra, "not yet") } else { x.ok("now") })
}

#[test]
fn with_a_wait_the_only_endpoint_gets_it_again_and_without_it_does_not() {
    let origin = [third_time_lucky("")];
    let gateway = alone(&origin, "retry = { attempts_max = 3, statuses = [503] }");
    gateway.get("/").expect(503);
    assert_eq!(origin[0].count(), 1);
    let origin = [third_time_lucky("")];
    let rules = "retry = { attempts_max = 3, statuses = [503], backoff = \"40ms\", backoff_max = \"60ms\" }";
    let gateway = alone(&origin, rules);
    gateway.get("/").expect(200);
    assert_eq!((attempts(&gateway, 1), origin[0].count()), (vec![3], 3));
}

#[test]
fn waits_grow_up_to_backoff_max() {
    let origin = [Origin::start(|x| x.reply(503, "", "never"))];
    let rules = "retry = { attempts_max = 10, statuses = [503], backoff = \"20ms\", backoff_max = \"50ms\" }";
    let gateway = alone(&origin, rules);
    let began = Instant::now();
    gateway.get("/").expect(503);
    // Nine waits of at most 50 ms; doubled nine times without a bound they would be ten seconds.
    assert!(began.elapsed() < ms(4000), "{:?}", began.elapsed());
    assert_eq!(origin[0].count(), 10);
}

#[test]
fn retry_after_is_honoured_up_to_its_bound() {
    let origin = [third_time_lucky("Retry-After: 1\r\n")];
    let rules = |most: &str| {
        format!("retry = {{ attempts_max = 3, statuses = [503], backoff = \"1ms\", retry_after_max = \"{most}\" }}")
    };
    let gateway = alone(&origin, &rules("2s"));
    let began = Instant::now();
    gateway.get("/").expect(200);
    assert!(began.elapsed() >= ms(1900), "{:?}", began.elapsed());
    let origin = [third_time_lucky("Retry-After: 1\r\n")];
    let gateway = alone(&origin, &rules("900ms"));
    assert_eq!(gateway.get("/").expect(503).header("retry-after"), Some("1"));
    assert_eq!(origin[0].count(), 1);
}

#[test]
fn the_budget_ends_a_storm_of_retries_over_all_cores() {
    for shards in [1, 4] {
        let origins: Vec<Origin> = (0..3).map(|_| Origin::start(|x| x.reply(503, "", "busy"))).collect();
        let toml = cluster_all(&format!(
            "{}\nretry = {{ attempts_max = 3, statuses = [503] }}\n\
             retry_budget = {{ percent = 10, per_second_min = 2 }}",
            endpoints(&origins)
        ));
        let gateway = Gateway::with(&toml).shards(shards).start();
        const REQUESTS: usize = 300;
        for _ in 0..REQUESTS {
            gateway.get("/").expect(503);
        }
        let sent: usize = origins.iter().map(Origin::count).sum();
        // Two a second for ten seconds, and a tenth of the requests.
        let most = REQUESTS + 20 + REQUESTS / 10;
        assert!(sent > REQUESTS + 20 && sent <= most + shards, "{shards} shards: {sent} of {REQUESTS}");
    }
}

#[test]
fn a_body_is_sent_again_up_to_its_bound() {
    for chunked in [false, true] {
        for (bytes, again) in [(40_000, true), (64 * 1024, true), (64 * 1024 + 1, false), (300_000, false)] {
            let origins = bad_and_good(|x| {
                x.body()?;
                x.reset()
            });
            let gateway = alone(&origins, "retry_stale = false");
            let body: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
            let mut failed = 0;
            for _ in 0..2 {
                let mut client = gateway.client();
                if chunked {
                    client.send("PUT / HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n");
                    for part in body.chunks(10_000) {
                        client.send(format!("{:x}\r\n", part.len())).send(part).send("\r\n");
                    }
                    client.send("0\r\n\r\n");
                } else {
                    client.send(request("PUT", "/", "", &body));
                }
                let answer = client.response_to("PUT");
                match answer.status {
                    200 => assert!(answer.body == body, "another body came"),
                    status => failed += usize::from(status == 502),
                }
            }
            let seen = (failed, origins[1].count());
            assert_eq!(seen, if again { (0, 2) } else { (1, 1) }, "chunked {chunked}, {bytes} bytes");
        }
    }
}

#[test]
fn a_body_that_was_half_sent_is_sent_again_as_a_whole() {
    let origins = bad_and_good(|x| {
        x.body_prefix(5)?;
        x.reset()
    });
    let gateway = alone(&origins, "");
    for n in 0..4 {
        let mut client = gateway.client();
        let half = format!("PUT /{n} HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 10\r\n\r\n");
        client.send(half).send("01234");
        wait_until("it reached an origin", SOON, || {
            origins.iter().any(|origin| origin.targets().contains(&format!("/{n}")))
        });
        std::thread::sleep(ms(20));
        client.send("56789");
        assert_eq!(client.response_to("PUT").expect(200).text(), "0123456789");
    }
    assert!(origins[0].count() >= 1);
}

/// A gateway with one route to these, with a hedge after `after`.
fn hedged(origins: &[Origin], after: &str, lines: &str) -> Gateway {
    let toml =
        format!("{}hedge = {{ after = \"{after}\" }}\n", cluster_all(&format!("{}\n{lines}", endpoints(origins))));
    Gateway::with(&toml).shards(1).start()
}

/// Answers at once with its name, or once let go.
fn held(name: &'static str, hold: &Arc<AtomicBool>) -> Origin {
    let hold = hold.clone();
    Origin::start(move |x| {
        x.body()?;
        while hold.load(Ordering::Acquire) {
            if x.await_gone(ms(5)) != Ending::Silence {
                return Ok(());
            }
        }
        x.ok(name)
    })
}

#[test]
fn a_hedge_asks_another_endpoint_and_the_first_answer_wins() {
    let hold = Arc::new(AtomicBool::new(true));
    let origins = [held("slow", &hold), Origin::saying("fast")];
    let gateway = hedged(&origins, "50ms", "");
    let mut client = gateway.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").expect(200).text(), "fast");
    }
    let slow = origins[0].count();
    assert!((2..=4).contains(&slow) && origins[1].count() == 4, "{slow}");
    // The loser's connection is cut, not put back into the pool.
    assert!(matches!(origins[0].ending(0), Ending::Eof | Ending::Reset));
    assert_eq!(origins[0].connections(), slow);
    let lines = gateway.wait_log(4);
    let tries: u64 = lines.iter().filter_map(|line| line.field("ringway.attempts").as_u64()).sum();
    assert_eq!(tries as usize, 4 + slow);
    assert!(lines.iter().all(|line| line.text("ringway.endpoint") == origins[1].endpoint()));
    // The client's own body is sent to both.
    for _ in 0..2 {
        client.request("PUT", "/put", "", b"same").expect(200);
    }
    let puts = |origin: &Origin| origin.requests().iter().filter(|seen| seen.target == "/put").count();
    assert!(puts(&origins[0]) >= 1 && puts(&origins[1]) == 2);
    assert!(origins.iter().flat_map(Origin::requests).filter(|seen| seen.target == "/put").all(|p| p.text() == "same"));
}

#[test]
fn of_a_hedge_the_first_request_may_still_win() {
    let (one, other) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let origins = [held("one", &one), held("other", &other)];
    let gateway = hedged(&origins, "50ms", "");
    let mut client = gateway.client();
    client.send(request("GET", "/", "", b""));
    wait_until("both have it", SOON, || origins.iter().all(|origin| origin.count() == 1));
    one.store(false, Ordering::Release);
    assert_eq!(client.response().expect(200).text(), "one");
    assert!(matches!(origins[1].ending(0), Ending::Eof | Ending::Reset));
    other.store(false, Ordering::Release);
    // Before `after` there is no second request.
    for _ in 0..10 {
        client.get("/").expect(200);
    }
    assert_eq!(origins.iter().map(Origin::count).sum::<usize>(), 12);
}

#[test]
fn a_hedge_that_finds_no_room_is_not_begun_and_opens_no_circuit() {
    let late = || {
        Origin::start(|x| {
            x.body()?;
            x.wait(ms(60));
            x.ok("late")
        })
    };
    let origins = [late(), late()];
    let breaker = "breaker = { concurrent_max = 1, requests_min = 2, error_percent = 10, snapshot = \"0ms\" }";
    let gateway = hedged(&origins, "10ms", breaker);
    let mut client = gateway.client();
    for _ in 0..8 {
        client.get("/").expect(200);
    }
    assert_eq!(origins.iter().map(Origin::count).sum::<usize>(), 8);
}

#[test]
fn a_hedge_is_not_for_what_may_not_run_twice_nor_beyond_the_budget() {
    let hold = Arc::new(AtomicBool::new(true));
    let origins = [held("one", &hold), held("two", &hold)];
    let gateway = hedged(&origins, "20ms", "");
    let mut client = gateway.client();
    client.send(request("POST", "/", "", b"once"));
    assert_eq!(client.closed_within(ms(400)), support::Closed::Open);
    assert_eq!(origins.iter().map(Origin::count).sum::<usize>(), 1);

    let poor = hedged(&origins, "20ms", "retry_budget = { percent = 0, per_second_min = 0 }");
    let mut other = poor.client();
    other.send(request("GET", "/", "", b""));
    assert_eq!(other.closed_within(ms(400)), support::Closed::Open);
    assert_eq!(origins.iter().map(Origin::count).sum::<usize>(), 2);
    hold.store(false, Ordering::Release);
    let finish = |client: &mut Client, method: &str| drop(client.response_to(method).expect(200));
    finish(&mut client, "POST");
    finish(&mut other, "GET");
}
