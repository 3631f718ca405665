//! Limits and timeouts of the client's side: each is enforced where it says, with its status, and costs others nothing.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use support::client::request;
use support::{A_WHILE, Client, Closed, Ending, Gateway, Origin, ms, names, proxy_to, wait_until};

fn with(origin: &Origin, listener: &str) -> Gateway {
    Gateway::start(&format!("[listeners.main]\n{listener}\n\n{}", proxy_to(origin)))
}

/// Answers every path itself, so that the origin's side plays no part.
const FIXED: &str = "[[routes]]\nname = \"fixed\"\npath_prefix = \"/\"\nrespond = { status = 200, body = \"fixed\" }\n";

#[test]
fn a_head_beyond_the_limit_is_a_431() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "head_bytes_max = 4096\ntarget_bytes_max = 1024");
    let sized = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX-B: {}\r\n\r\n", "b".repeat(n));
    let frame = sized(0).len();
    gateway.exchange(sized(4096 - frame)).expect(200);
    let mut client = gateway.client();
    let got = client.send(sized(4097 - frame)).response().expect(431);
    got.problem();
    client.assert_closed();
    gateway.exchange(sized(100_000)).expect(431);
    assert_eq!(origin.count(), 1);
}

#[test]
fn too_many_headers_are_a_431() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "headers_max = 20");
    let many = |n: usize| (0..n).map(|i| format!("X-{i}: 1\r\n")).collect::<String>();
    gateway.client().request("GET", "/", &many(19), b"").expect(200);
    gateway.client().request("GET", "/", &many(20), b"").expect(431).problem();
}

#[test]
fn a_head_that_never_ends_is_cut_at_the_limit() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "head_bytes_max = 4096\ntarget_bytes_max = 1024");
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-B: ");
    let mut sent = 0;
    while sent < 50_000_000 && client.try_send([b'b'; 16 * 1024]).is_ok() {
        sent += 16 * 1024;
    }
    assert!(sent < 50_000_000, "took {sent} bytes of a head");
}

#[test]
fn a_target_beyond_the_limit_is_a_414() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "target_bytes_max = 100");
    gateway.get(&format!("/{}", "a".repeat(99))).expect(200);
    gateway.get(&format!("/{}", "a".repeat(100))).expect(414).problem();
    gateway.get(&format!("/?{}", "a".repeat(99))).expect(414);
    gateway.get(&format!("/{}", "a".repeat(60_000))).expect(414);
}

#[test]
fn the_default_limits_refuse_with_the_right_status() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "");
    gateway.get(&format!("/{}", "a".repeat(100_000))).expect(414);
    let big = format!("X-B: {}\r\n", "b".repeat(200_000));
    let mut client = gateway.client();
    client.try_send(request("GET", "/", &big, b"")).ok();
    client.response().expect(431);
    let many: String = (0..5000).map(|i| format!("X-{i}: 1\r\n")).collect();
    let mut client = gateway.client();
    client.try_send(request("GET", "/", &many, b"")).ok();
    client.response().expect(431);
}

#[test]
fn a_body_whose_length_is_beyond_the_limit_is_a_413_at_once() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "body_bytes_max = \"10KiB\"");
    gateway.client().request("POST", "/", "", &vec![b'x'; 10 * 1024]).expect(200);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10241\r\n\r\nxxxx");
    client.response_to("POST").expect(413).problem();
    client.assert_closed();
    assert_eq!(origin.count(), 1, "the refused one never reached the origin");
}

#[test]
fn an_expecting_client_gets_413_before_it_sends() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "body_bytes_max = 1024");
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n\r\n");
    assert_eq!(client.one("POST").expect("an answer").status, 413);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_chunked_body_beyond_the_limit_is_a_413() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "body_bytes_max = \"100KiB\"");
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
    for _ in 0..20 {
        if client.try_send(&chunk).is_err() {
            break;
        }
        std::thread::sleep(ms(2));
    }
    assert_eq!(client.response_to("POST").status, 413);
    assert!(origin.requests().iter().all(|r| !r.complete && r.body.len() <= 100 * 1024));
}

#[test]
fn a_route_has_its_own_body_limit() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!(
        "[listeners.main]\nbody_bytes_max = 1000\n\n[clusters.app]\nendpoints = [\"{}\"]\n\n\
         [[routes]]\nname = \"big\"\npath_prefix = \"/big\"\ncluster = \"app\"\nbody_bytes_max = 5000\n\n\
         [[routes]]\nname = \"small\"\npath_prefix = \"/small\"\ncluster = \"app\"\nbody_bytes_max = 10\n",
        origin.endpoint()
    ));
    gateway.client().request("POST", "/big", "", &[b'x'; 5000]).expect(200);
    gateway.client().request("POST", "/big", "", &[b'x'; 5001]).expect(413);
    gateway.client().request("POST", "/small", "", &[b'x'; 11]).expect(413);
}

#[test]
fn a_route_that_needs_no_origin_has_the_limit_too() {
    let gateway = Gateway::start(
        "[listeners.main]\nbody_bytes_max = 10\n\n[[routes]]\nname = \"all\"\nrespond = { body = \"here\" }\n",
    );
    gateway.client().request("POST", "/", "", &[b'x'; 10]).expect(200);
    gateway.client().request("POST", "/", "", &[b'x'; 11]).expect(413).problem();
}

#[test]
fn a_slow_head_is_a_408_and_a_close() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "header_timeout = \"300ms\"");
    for start in ["G", "GET /e HTTP/1.1\r\nHost: a\r\nX-"] {
        let mut client = gateway.client();
        let begun = Instant::now();
        let got = client.send(start).response();
        let took = begun.elapsed();
        assert_eq!(got.expect(408).header("connection"), Some("close"));
        client.assert_closed();
        assert!(took >= ms(250) && took < ms(2500), "408 after {took:?}");
    }
    assert!(gateway.wait_log(2).iter().all(|l| l.has_flag("DT") && l.status() == 408), "{:?}", gateway.log());
}

#[test]
fn dribbling_does_not_extend_the_head_timeout() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "header_timeout = \"400ms\"");
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-B: ");
    let begun = Instant::now();
    let cut = loop {
        if client.try_send("b").is_err() || client.wire.stream.try_clone().is_err() {
            break true;
        }
        if let Closed::Data(text) = client.closed_within(ms(40)) {
            assert!(text.starts_with("HTTP/1.1 408"), "{text}");
            break true;
        }
        if begun.elapsed() > ms(3000) {
            break false;
        }
    };
    assert!(cut, "dribbled for {:?}", begun.elapsed());
}

#[test]
fn a_slow_head_after_a_served_request_is_a_408_too() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "header_timeout = \"300ms\"");
    let mut client = gateway.client();
    client.get("/1").expect(200);
    client.send("GET /2 HTT");
    client.response().expect(408);
    client.assert_closed();
}

#[test]
fn a_slow_body_is_a_408_and_a_close() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "body_timeout = \"300ms\"");
    for framing in ["Content-Length: 10\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"] {
        let mut client = gateway.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}"));
        let begun = Instant::now();
        let got = client.response_to("POST");
        assert!(begun.elapsed() < ms(2500));
        assert_eq!(got.expect(408).header("connection"), Some("close"));
        client.assert_closed();
    }
    wait_until("the origin's half requests end", support::SOON, || origin.open_connections() == 0);
    assert!(origin.requests().iter().all(|r| !r.complete));
}

#[test]
fn a_slow_but_steady_body_is_taken() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "body_timeout = \"400ms\"");
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
    client.dribble(b"12345678", ms(100)).expect("send");
    client.response_to("POST").expect(200);
}

#[test]
fn an_unused_connection_is_closed_in_silence() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "unused_timeout = \"300ms\"");
    let mut client = gateway.client();
    let begun = Instant::now();
    assert_eq!(client.closed_within(ms(3000)), Closed::Eof);
    assert!(begun.elapsed() >= ms(250));
    std::thread::sleep(A_WHILE);
    assert!(gateway.log().is_empty(), "an unused connection is no request: {:?}", gateway.log());
}

#[test]
fn an_idle_connection_is_closed_in_silence() {
    let origin = Origin::saying("x");
    let gateway = with(&origin, "keepalive_timeout = \"300ms\"");
    let mut client = gateway.client();
    for _ in 0..3 {
        client.get("/").expect(200);
        std::thread::sleep(ms(150)); // within the limit, which starts anew after each answer
    }
    assert_eq!(client.closed_within(ms(3000)), Closed::Eof);
    assert_eq!(gateway.wait_log(3).len(), 3);
}

#[test]
fn a_long_answer_is_no_idle_connection() {
    let origin = Origin::start(|x| {
        x.wait(ms(900));
        x.ok("late")
    });
    let gateway =
        with(&origin, "keepalive_timeout = \"200ms\"\nheader_timeout = \"200ms\"\nunused_timeout = \"200ms\"");
    assert_eq!(gateway.client().get("/").expect(200).text(), "late");
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        for _ in 0..4000 {
            x.send(&chunk)?;
        }
        x.send("0\r\n\r\n")
    });
    let gateway = with(&origin, "send_timeout = \"400ms\"");
    let mut client = Client::with_small_window(gateway.addr());
    client.send(request("GET", "/", "", b""));
    assert_ne!(origin_end(&origin), Ending::Silence);
    let (ending, count) = client.drain(ms(4000));
    assert!(ending != Ending::Silence && count < 100_000_000, "{ending:?} after {count}");
    assert!(gateway.wait_log(1)[0].has_flag("DT"), "{:?}", gateway.log());
    gateway.wait_metrics("the connection is released", |m| m.sum(names::CORE_CONNECTIONS, &[]) == 0.0);
}

/// The only connection's end; its script may still be in its last write.
fn origin_end(origin: &Origin) -> Ending {
    origin.wait_count(1);
    origin.ending(0)
}

#[test]
fn a_slow_but_steady_reader_gets_everything() {
    let origin = Origin::start(|x| x.ok(vec![b'x'; 600_000]));
    let gateway = with(&origin, "send_timeout = \"500ms\"");
    let mut client = Client::with_small_window(gateway.addr());
    client.send(request("GET", "/", "", b""));
    let mut count = 0;
    let begun = Instant::now();
    while count < 600_000 {
        count += client.wire.some().expect("more of the answer").len();
        if begun.elapsed() < ms(1200) {
            std::thread::sleep(ms(50));
        }
    }
}

#[test]
fn readers_that_do_not_keep_up_leave_buffers_for_the_others() {
    const READERS: usize = 150;
    static PIECE: [u8; 1_000_000] = [b'x'; 1_000_000];
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n")?;
        (0..20).try_for_each(|_| x.send(PIECE.as_slice()))
    });
    let gateway = Gateway::start(&format!(
        "[cores]\ncount = 1\nbuffers_max = 1024\n[[routes]]\nname = \"fixed\"\npath = \"/fixed\"\nrespond = {{ body = \"x\" }}\n{}",
        proxy_to(&origin)
    ));
    let mut stalled: Vec<Client> = (0..READERS).map(|_| Client::with_small_window(gateway.addr())).collect();
    // No more at a time than the origin's backlog takes on a busy machine, or connects time out.
    for (served, some) in std::iter::zip((50..=READERS).step_by(50), stalled.chunks_mut(50)) {
        for client in some {
            client.send(request("GET", "/", "", b""));
        }
        gateway.wait_metrics("each has some of its answer", |m| m.sum(names::ORIGIN_OPENED, &[]) >= served as f64);
    }
    std::thread::sleep(ms(500));
    for _ in 0..20 {
        gateway.client().patience(ms(1000)).get("/fixed").expect(200);
    }
}

#[test]
fn a_stalled_reader_holds_the_origin_back_not_memory() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n")?;
        for _ in 0..400 {
            x.send(vec![b'x'; 1_000_000])?;
        }
        Ok(())
    });
    let gateway = with(&origin, "send_timeout = \"30s\"");
    let before = resident_kib(gateway.pid());
    let mut client = Client::with_small_window(gateway.addr());
    client.send(request("GET", "/", "", b""));
    origin.wait_count(1);
    std::thread::sleep(ms(600));
    let grown = resident_kib(gateway.pid()).saturating_sub(before);
    assert!(grown < 32 * 1024, "grew by {grown} KiB");
    client.reset();
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("KiB")
}

/// Served within a moment? Rejected connections are closed, answered 503, or left waiting: all count as no.
fn served(client: &mut Client) -> bool {
    client.wire.stream.read_timeout(ms(500));
    client.try_send(request("GET", "/", "", b"")).is_ok() && client.try_response("GET").is_ok_and(|r| r.status == 200)
}

#[test]
fn a_core_takes_no_more_connections_than_its_cap() {
    let gateway = Gateway::start(&format!("[cores]\ncount = 1\nconnections_max = 4\n\n{FIXED}"));
    let mut held: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut held {
        client.get("/").expect(200);
    }
    assert!(!served(&mut gateway.client()));
    gateway.wait_metrics("the refusal is counted", |m| {
        m.sum(names::CONNECTIONS_REJECTED, &[("reason", "core_limit")]) >= 1.0
    });
    for client in &mut held {
        client.get("/").expect(200);
    }
    held.pop();
    wait_until("a freed place is given", support::SOON, || served(&mut gateway.client()));
}

#[test]
fn one_address_takes_no_more_connections_than_its_cap() {
    let gateway =
        Gateway::start(&format!("[cores]\ncount = 1\n\n[listeners.main]\nconnections_per_ip_max = 3\n\n{FIXED}"));
    let from = |last: u8| Client::from_to(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), gateway.addr());
    let mut held: Vec<Client> = (0..3).map(|_| from(2)).collect();
    for client in &mut held {
        client.get("/").expect(200);
    }
    assert!(!served(&mut from(2)));
    assert!(served(&mut from(3)), "another address has its own places");
    gateway.wait_metrics("the refusal is counted", |m| {
        m.sum(names::CONNECTIONS_REJECTED, &[("reason", "ip_limit")]) >= 1.0
    });
    held.pop();
    wait_until("a freed place is given", support::SOON, || served(&mut from(2)));
}

#[test]
fn the_caps_hold_on_every_core() {
    let gateway = Gateway::start(&format!("[cores]\ncount = 2\nconnections_max = 3\n\n{FIXED}"));
    let mut held: Vec<Client> = (0..40).map(|_| gateway.client()).collect();
    let count = held.iter_mut().filter_map(|c| served(c).then_some(())).count();
    assert!((3..=6).contains(&count), "{count} of 40 served by two cores with room for 3 each");
}

#[test]
fn no_file_descriptor_left_pauses_accept_without_spinning() {
    // What the process inherits is not in its own count, so its caps do not keep it from the limit.
    let toml = format!("[cores]\ncount = 1\nconnections_max = 110\n\n{FIXED}");
    let gateway = Gateway::with(&toml).files(512, 512).junk_files(410).start();
    let mut old = gateway.client();
    old.get("/").expect(200);
    let mut held: Vec<Client> = (0..110).map(|_| gateway.client()).collect();
    std::thread::sleep(ms(200));
    let cpu = gateway.cpu_time();
    let begun = Instant::now();
    std::thread::sleep(ms(700));
    let used = gateway.cpu_time().saturating_sub(cpu);
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
    assert!(share < 0.25, "{used:?} of CPU while it cannot accept");
    old.get("/").expect(200);
    let mut waiting = held.split_off(60);
    drop(held);
    for client in &mut waiting {
        client.get("/").expect(200);
    }
    gateway.wait_metrics("the pause is counted", |m| m.sum(names::ACCEPT_ERRORS, &[("reason", "fd_limit")]) >= 1.0);
}

#[test]
fn a_full_ephemeral_port_range_is_a_503_with_its_own_flag() {
    support::odd::in_own_network(|| {
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        std::fs::write(range, "40000 40009").expect("a narrow range");
        let origin = Origin::on("127.0.0.1:9000", |x| {
            if x.target() == "/hold" {
                x.await_gone(Duration::from_secs(20));
                return x.close();
            }
            x.ok("x")
        });
        let toml = format!("[cores]\ncount = 1\n\n{}", proxy_to(&origin));
        let gateway = Gateway::start(&toml);
        let from = |last: u8| Client::from_to(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), gateway.addr());
        let mut held: Vec<Client> = Vec::new();
        for n in 0..10 {
            let mut client = from(10 + n);
            client.send(request("GET", "/hold", "", b""));
            held.push(client);
        }
        origin.wait_count(10);
        let got = from(30).get("/x");
        let problem = got.clone().expect(503).problem();
        assert_eq!(problem["code"], "no_free_port");
        assert!(gateway.wait_log(1)[0].has_flag("NP"), "{:?}", gateway.log());
    });
}
