//! A new document takes the old one's place between two requests: no restart, no failed request, and a bad one changes nothing.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::client::request;
use support::{Client, Gateway, Origin, SOON, cluster_all, ms, names, ports::Port, proxy_to, wait_until};

fn saying(word: &str) -> String {
    format!("[[routes]]\nname = \"all\"\npath_prefix = \"/\"\nrespond = {{ status = 200, body = \"{word}\" }}\n")
}

#[test]
fn a_route_changes_between_two_requests_of_one_connection() {
    let mut gateway = Gateway::start(&saying("old"));
    let mut client = gateway.client();
    assert_eq!(client.get("/").expect(200).text(), "old");
    gateway.rewrite_and_reload(&saying("new"));
    let got = client.get("/").expect(200);
    assert_eq!((got.text().as_str(), got.says_close()), ("new", false));
}

#[test]
fn an_endpoint_changes() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let mut gateway = Gateway::start(&proxy_to(&one));
    let mut client = gateway.client();
    assert_eq!(client.get("/").expect(200).text(), "one");
    gateway.rewrite_and_reload(&proxy_to(&two));
    for _ in 0..10 {
        assert_eq!(client.get("/").expect(200).text(), "two");
        assert_eq!(gateway.get("/").expect(200).text(), "two");
    }
    assert_eq!(one.count(), 1);
    wait_until("the old endpoint's idle connections end", SOON, || one.open_connections() == 0);
}

#[test]
fn an_unchanged_endpoint_keeps_its_connections() {
    let origin = Origin::saying("x");
    let mut gateway = Gateway::with(&proxy_to(&origin)).shards(1).start();
    let mut client = gateway.client();
    client.get("/").expect(200);
    for n in 0..3 {
        gateway.rewrite_and_reload(&format!(
            "{}\n[[routes]]\nname = \"r{n}\"\npath = \"/r{n}\"\ncluster = \"app\"\n[cores]\ncount = 1\n",
            proxy_to(&origin)
        ));
        client.get("/").expect(200);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_listener_comes_and_goes() {
    let one = format!("[listeners.main]\n\n{}", saying("x"));
    let two = format!("[listeners.extra]\n\n{one}");
    let mut gateway = Gateway::start(&one);
    let mut old = gateway.client();
    old.get("/").expect(200);
    gateway.rewrite_and_reload(&two);
    let extra = gateway.addr_of("extra");
    Client::to(extra).get("/").expect(200);
    old.get("/").expect(200);
    gateway.rewrite_and_reload(&one);
    wait_until("nobody accepts there", SOON, || Client::try_to(extra, ms(200)).is_err());
    old.get("/").expect(200);
}

#[test]
fn a_listeners_limits_change_in_place() {
    let origin = Origin::saying("x");
    let with = |bytes: usize| format!("[listeners.main]\nbody_bytes_max = {bytes}\n\n{}", proxy_to(&origin));
    let mut gateway = Gateway::start(&with(10));
    gateway.client().request("POST", "/", "", &[b'x'; 20]).expect(413);
    gateway.rewrite_and_reload(&with(100));
    gateway.client().request("POST", "/", "", &[b'x'; 20]).expect(200);
}

#[test]
fn every_core_moves_to_the_new_generation() {
    let mut gateway = Gateway::with(&saying("0")).shards(4).start();
    let generations = |gateway: &Gateway| {
        let metrics = gateway.metrics();
        let each: Vec<f64> = metrics.of(names::CORE_GENERATION, &[]).map(|s| s.value).collect();
        assert_eq!(each.len(), 4, "one for each core");
        each
    };
    let mut last = generations(&gateway);
    for n in 1..=3 {
        gateway.rewrite_and_reload(&format!("[cores]\ncount = 4\n\n{}", saying(&n.to_string())));
        // The command returns only after every core's word.
        let now = generations(&gateway);
        assert!(now.iter().zip(&last).all(|(now, last)| now > last), "{last:?} became {now:?}");
        assert!(now.windows(2).all(|w| w[0] == w[1]), "{now:?}");
        last = now;
    }
}

#[test]
fn a_bad_file_changes_nothing_and_says_where() {
    let mut gateway = Gateway::start(&saying("good"));
    let bad: [(&str, &str); 4] = [
        ("[[routes]]\nname = \"a\"\npath = \"/\"\ncluster = \"nowhere\"\n", "nowhere"),
        ("[listeners.main]\nheader_timeout = \"soon\"\n", "soon"),
        ("[listeners.main]\nheader_timeuot = \"1s\"\n", "header_timeout"),
        (
            "[clusters.app]\nendpoints = [\"127.0.0.1:1\"]\n\n[[routes]]\nname = \"a\"\npath = \"/\"\n\
             filters = [{ strip_prefx = \"/x\" }]\ncluster = \"app\"\n",
            "strip_prefix",
        ),
    ];
    for (text, word) in bad {
        gateway.rewrite(text);
        let ran = gateway.reload().expect(1);
        let at = ran.all().find("ringway.toml:").map(|at| at + "ringway.toml:".len());
        let digit = at.and_then(|at| ran.all().as_bytes().get(at).copied());
        assert!(digit.is_some_and(|d| d.is_ascii_digit()), "no file:line in {}", ran.all());
        assert!(ran.all().contains(word), "{word} is not in {}", ran.all());
        assert_eq!(gateway.get("/").expect(200).text(), "good");
    }
    std::fs::write(&gateway.config, "not [ toml").expect("write");
    assert!(gateway.reload().expect(1).all().contains("ringway.toml:1"));
    std::fs::remove_file(&gateway.config).expect("remove");
    // `reload -c FILE` reads the file itself to find the control socket: without it there is nothing to ask.
    let gone = gateway.reload();
    assert!(gone.code == Some(1), "{:?} {}", gone.code, gone.all());
    assert_eq!(gateway.get("/").expect(200).text(), "good");
}

#[test]
fn a_listener_that_cannot_bind_changes_nothing() {
    let busy = Port::lease();
    let _holder = std::net::TcpListener::bind(busy.address()).expect("hold the port");
    let mut gateway = Gateway::start(&saying("good"));
    gateway.rewrite(&format!(
        "[listeners.main]\n\n[listeners.extra]\nbind = \"{}\"\n\n{}",
        busy.address(),
        saying("new")
    ));
    let ran = gateway.reload().expect(1);
    assert!(ran.all().contains(&busy.address()), "{}", ran.all());
    assert_eq!(gateway.get("/").expect(200).text(), "good");
}

#[test]
fn what_is_read_at_start_cannot_be_reloaded() {
    let mut gateway = Gateway::with(&saying("old")).shards(2).start();
    gateway.rewrite(&format!("[cores]\ncount = 1\n\n{}", saying("new")));
    let ran = gateway.reload().expect(1);
    assert!(ran.all().contains("cores"), "it is named: {}", ran.all());
    assert_eq!(gateway.get("/").expect(200).text(), "old");
}

#[test]
fn sighup_reloads() {
    let mut gateway = Gateway::start(&saying("old"));
    gateway.rewrite(&saying("new"));
    gateway.signal(libc::SIGHUP);
    wait_until("the new route", SOON, || gateway.get("/").expect(200).text() == "new");
}

#[test]
fn a_bad_file_at_sighup_is_reported_and_left_out() {
    let mut gateway = Gateway::start(&saying("good"));
    gateway.rewrite("[listeners.main]\nheader_timeuot = \"1s\"\n");
    gateway.signal(libc::SIGHUP);
    gateway.wait_output("header_timeout");
    assert!(gateway.output().contains("ringway.toml:"), "{}", gateway.output());
    assert_eq!(gateway.get("/").expect(200).text(), "good");
    gateway.rewrite(&saying("mended"));
    gateway.signal(libc::SIGHUP);
    wait_until("the mended file", SOON, || gateway.get("/").expect(200).text() == "mended");
}

#[test]
fn a_request_in_flight_is_finished_by_the_old_document() {
    let origin = Origin::start(|x| {
        x.wait(ms(500));
        x.ok("old origin")
    });
    let mut gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("GET", "/", "", b""));
    origin.wait_count(1);
    gateway.rewrite_and_reload(&saying("new"));
    assert_eq!(client.response().expect(200).text(), "old origin");
    assert_eq!(client.get("/").expect(200).text(), "new");
}

#[test]
fn a_tunnel_outlives_a_reload() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        x.echo_until_end()
    });
    let mut gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("GET", "/", "Connection: Upgrade\r\nUpgrade: websocket\r\n", b""));
    assert_eq!(client.response().status, 101);
    for n in 0..3 {
        gateway.rewrite_and_reload(&saying(&n.to_string()));
        client.send("still").expect_bytes(b"still");
    }
}

#[test]
fn counters_never_go_back() {
    let mut gateway = Gateway::start(&saying("a"));
    let mut last = 0;
    for n in 0..4 {
        for _ in 0..5 {
            gateway.get("/").expect(200);
        }
        let wanted = 5 * (n + 1);
        let metrics = gateway.wait_metrics("all so far", |m| m.count(names::REQUESTS, &[]) >= wanted);
        let now = metrics.count(names::REQUESTS, &[]);
        assert!(now == wanted && now > last, "{last} became {now}");
        last = now;
        let path = if n % 2 == 0 { "path_prefix = \"/\"" } else { "path = \"/\"" };
        gateway.rewrite_and_reload(&format!("[[routes]]\nname = \"r{n}\"\n{path}\nrespond = {{ body = \"x\" }}\n"));
    }
}

/// Keep-alive clients and fresh ones; whatever is not one of the two bodies is a failure.
fn load(address: SocketAddr, stop: &Arc<AtomicBool>, fresh: bool) -> thread::JoinHandle<(usize, Vec<String>)> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let (mut count, mut failures) = (0, Vec::new());
        let mut client = Client::to(address);
        while !stop.load(Ordering::Acquire) {
            if fresh {
                client = Client::to(address);
            }
            client.try_send(request("GET", "/", "", b"")).ok();
            match client.try_response("GET") {
                Ok(got) if got.status == 200 && ["a", "b"].contains(&got.text().as_str()) && got.cut.is_none() => {
                    count += 1;
                    if got.says_close() {
                        client = Client::to(address);
                    }
                }
                other => {
                    failures.push(format!("{other:?}"));
                    client = Client::to(address);
                }
            }
        }
        (count, failures)
    })
}

#[test]
fn reloads_under_load_fail_no_request() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let document = |n: usize| {
        let origin = if n.is_multiple_of(2) { &a } else { &b };
        let extra = if n.is_multiple_of(3) { "[listeners.extra]\n\n" } else { "" };
        format!(
            "[listeners.main]\n\n{extra}{}\n[[routes]]\nname = \"r{n}\"\npath = \"/r{n}\"\nrespond = {{ body = \"r\" }}\n",
            cluster_all(&format!("endpoints = [\"{}\"]", origin.endpoint()))
        )
    };
    let mut gateway = Gateway::start(&document(0));
    let stop = Arc::new(AtomicBool::new(false));
    let address = gateway.addr_of("main");
    let threads: Vec<_> = (0..4).map(|n| load(address, &stop, n == 3)).collect();
    for n in 1..=25 {
        gateway.rewrite_and_reload(&document(n));
        assert_eq!(Client::to(address).get(&format!("/r{n}")).expect(200).text(), "r");
    }
    stop.store(true, Ordering::Release);
    let mut total = 0;
    for thread in threads {
        let (count, failures) = thread.join().expect("a client");
        assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
        total += count;
    }
    assert!(total > 100, "{total} requests: no load to speak of");
}
