//! An origin that cannot be reached or takes too long: the status, the flag, the problem body, and what becomes of its connection.

mod support;

use std::time::{Duration, Instant};

use support::client::request;
use support::odd::Deaf;
use support::ports::Port;
use support::{Client, Ending, Gateway, Origin, SOON, cluster_all, ms, names};

fn one(origin: &Origin, lines: &str) -> String {
    cluster_all(&format!("endpoints = [\"{}\"]\n{lines}", origin.endpoint()))
}

/// Asks once; the answer's status must come within `limit`, with this flag in the log.
#[track_caller]
fn fails_with(gateway: &Gateway, status: u16, flags: &[&str], limit: Duration) {
    let begun = Instant::now();
    let got = gateway.get("/").expect(status);
    let took = begun.elapsed();
    assert!(took < limit, "{status} after {took:?}");
    let problem = got.problem();
    let line = &gateway.wait_log(1)[0];
    assert!(flags.iter().any(|f| line.has_flag(f)), "{flags:?} in {line:?}");
    assert_eq!(line.status(), u64::from(status));
    let id = problem[names::PROBLEM_REQUEST_ID].as_str().expect("an id");
    assert_eq!(line.text(names::LOG_REQUEST_ID), id, "one id for the client and the log");
    assert!(!got.text().contains("127.0.0.1"), "the full reason is for the log only: {}", got.text());
}

#[test]
fn a_connect_timeout_is_a_504() {
    let deaf = Deaf::start();
    let toml = cluster_all(&format!("endpoints = [\"{}\"]\nconnect_timeout = \"300ms\"", deaf.endpoint()));
    fails_with(&Gateway::start(&toml), 504, &["UF", "UT"], ms(2500));
}

#[test]
fn a_first_byte_timeout_is_a_504() {
    let origin = Origin::start(|x| {
        x.await_gone(SOON);
        x.close()
    });
    fails_with(&Gateway::start(&one(&origin, "first_byte_timeout = \"300ms\"")), 504, &["UT"], ms(2500));
    assert_ne!(origin.ending(0), Ending::Silence, "the origin's connection is closed, not left working");
}

#[test]
fn half_a_head_does_not_stop_the_clock() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nX-")?;
        x.await_gone(SOON);
        x.close()
    });
    let toml = one(&origin, "first_byte_timeout = \"300ms\"\nbetween_bytes_timeout = \"300ms\"");
    fails_with(&Gateway::start(&toml), 504, &["UT"], ms(2500));
}

#[test]
fn a_total_timeout_is_a_504() {
    let origin = Origin::start(|x| {
        x.await_gone(SOON);
        x.close()
    });
    fails_with(&Gateway::start(&one(&origin, "total_timeout = \"300ms\"")), 504, &["UT"], ms(2500));
}

#[test]
fn a_route_has_its_own_total_timeout() {
    let origin = Origin::start(|x| {
        x.await_gone(SOON);
        x.close()
    });
    let toml = format!(
        "[clusters.app]\nendpoints = [\"{}\"]\ntotal_timeout = \"20s\"\n\n\
         [[routes]]\nname = \"all\"\npath_prefix = \"/\"\ncluster = \"app\"\ntotal_timeout = \"300ms\"\n",
        origin.endpoint()
    );
    fails_with(&Gateway::start(&toml), 504, &["UT"], ms(2500));
}

/// A body that stalls or never ends is cut: the status is out already.
#[track_caller]
fn cut_by(cluster: &str, endless: bool) {
    let origin = Origin::start(move |x| {
        x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
        if endless {
            loop {
                x.wait(ms(30));
                x.send("5\r\nhello\r\n")?;
            }
        }
        x.await_gone(SOON);
        x.close()
    });
    let gateway = Gateway::start(&one(&origin, cluster));
    let begun = Instant::now();
    let got = gateway.client().get("/");
    assert!(got.cut.is_some(), "{got:?}");
    assert!(begun.elapsed() < ms(2500));
    assert!(gateway.wait_log(1)[0].has_flag("UT"), "{:?}", gateway.log());
    assert_ne!(origin.ending(0), Ending::Silence);
}

#[test]
fn a_stall_between_bytes_cuts_the_answer() {
    cut_by("between_bytes_timeout = \"300ms\"", false);
}

#[test]
fn a_total_timeout_cuts_an_endless_answer() {
    cut_by("total_timeout = \"400ms\"", true);
}

#[test]
fn a_slow_but_steady_answer_is_not_cut() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")?;
        x.dribble(b"hello, world", ms(80))
    });
    let toml = one(&origin, "first_byte_timeout = \"400ms\"\nbetween_bytes_timeout = \"400ms\"");
    assert_eq!(Gateway::start(&toml).client().get("/").expect(200).text(), "hello, world");
}

#[test]
fn an_origin_that_does_not_take_the_body_is_a_504() {
    let origin = Origin::start(|x| {
        x.wait(ms(3000));
        x.close()
    });
    let toml = format!(
        "[listeners.main]\nbody_bytes_max = \"64MiB\"\n\n{}",
        one(&origin, "between_bytes_timeout = \"400ms\"\nfirst_byte_timeout = \"400ms\"")
    );
    let gateway = Gateway::start(&toml);
    let mut client = gateway.client();
    let mut sender = client.wire.stream.try_clone().expect("a second handle");
    let sending = std::thread::spawn(move || {
        sender.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000000\r\n\r\n").ok();
        for _ in 0..40 {
            if sender.write_all(&[b'x'; 1_000_000]).is_err() {
                return;
            }
        }
    });
    let begun = Instant::now();
    let got = client.try_response("POST");
    assert!(begun.elapsed() < ms(2500), "{:?}", begun.elapsed());
    assert!(got.as_ref().map_or(true, |r| r.status == 504), "{got:?}");
    drop(client);
    sending.join().expect("sender");
}

#[test]
fn a_refused_connection_is_a_502() {
    let nobody = Port::lease();
    let gateway = Gateway::start(&cluster_all(&format!("endpoints = [\"{}\"]", nobody.address())));
    fails_with(&gateway, 502, &["UF"], ms(2000));
}

#[test]
fn one_slow_origin_does_not_slow_the_others() {
    let slow = Origin::start(|x| {
        x.await_gone(Duration::from_secs(6));
        x.close()
    });
    let fast = Origin::saying("fast");
    let gateway = Gateway::start(&format!(
        "[clusters.slow]\nendpoints = [\"{}\"]\n\n[clusters.fast]\nendpoints = [\"{}\"]\n\n\
         [[routes]]\nname = \"slow\"\npath_prefix = \"/slow\"\ncluster = \"slow\"\n\n\
         [[routes]]\nname = \"fast\"\npath_prefix = \"/\"\ncluster = \"fast\"\n",
        slow.endpoint(),
        fast.endpoint()
    ));
    let mut held: Vec<Client> = (0..50).map(|_| gateway.client()).collect();
    for client in &mut held {
        client.send(request("GET", "/slow", "", b""));
    }
    slow.wait_count(50);
    let begun = Instant::now();
    for _ in 0..50 {
        gateway.get("/").expect(200);
    }
    assert!(begun.elapsed() < ms(2500), "{:?}", begun.elapsed());
}
