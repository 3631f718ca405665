//! The end of a gateway, and of a listener: in order, on time, and without losing a connection.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::client::request;
use support::{Client, Ending, Gateway, Origin, SOON, ms, proxy_to, wait_until};

const FIXED: &str = "[[routes]]\nname = \"fixed\"\npath_prefix = \"/\"\nrespond = { status = 200, body = \"fixed\" }\n";

fn draining(wait: &str, deadline: &str, rest: &str) -> Gateway {
    Gateway::start(&format!("[drain]\nwait = \"{wait}\"\ndeadline = \"{deadline}\"\n\n{rest}"))
}

fn not_ready(gateway: &Gateway) -> bool {
    gateway.try_telemetry("/readyz").is_some_and(|r| r.status == 503)
}

#[test]
fn readyz_fails_first_while_connections_are_still_accepted() {
    let mut gateway = draining("700ms", "5s", FIXED);
    let begun = Instant::now();
    gateway.signal(libc::SIGTERM);
    wait_until("readyz 503", ms(500), || not_ready(&gateway));
    while begun.elapsed() < ms(500) {
        gateway.get("/").expect(200);
    }
    let status = gateway.wait_exit(SOON).expect("an end");
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
    assert!(begun.elapsed() >= ms(650), "it did not wait: {:?}", begun.elapsed());
    assert!(Client::try_to(gateway.addr(), ms(200)).is_err(), "somebody still accepts");
}

#[test]
fn livez_stays_well_during_a_drain() {
    let gateway = draining("600ms", "5s", FIXED);
    gateway.signal(libc::SIGTERM);
    wait_until("readyz 503", ms(500), || not_ready(&gateway));
    assert_eq!(gateway.telemetry("/livez").status, 200);
}

#[test]
fn an_idle_gateway_ends_without_waiting_for_its_deadline() {
    let mut gateway = draining("50ms", "30s", FIXED);
    let begun = Instant::now();
    gateway.signal(libc::SIGTERM);
    assert_eq!(gateway.wait_exit(SOON).expect("an end").code(), Some(0));
    assert!(begun.elapsed() < ms(3000), "{:?}", begun.elapsed());
}

#[test]
fn what_is_in_flight_is_finished_and_says_close() {
    let origin = Origin::start(|x| {
        x.wait(ms(600));
        x.ok("finished")
    });
    let mut gateway = draining("50ms", "10s", &proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("GET", "/", "", b""));
    origin.wait_count(1);
    gateway.signal(libc::SIGTERM);
    let got = client.response().expect(200);
    assert_eq!(got.text(), "finished");
    assert!(got.says_close(), "{:?}", got.headers);
    client.assert_closed();
    assert_eq!(gateway.wait_exit(SOON).expect("an end").code(), Some(0));
}

#[test]
fn a_busy_keep_alive_client_is_told_to_go_and_loses_nothing() {
    let origin = Origin::start(|x| {
        x.wait(ms(10));
        x.ok("x")
    });
    let mut gateway = draining("100ms", "10s", &proxy_to(&origin));
    let mut client = gateway.client();
    client.get("/").expect(200);
    gateway.signal(libc::SIGTERM);
    let begun = Instant::now();
    while !client.get("/").expect(200).says_close() {
        assert!(begun.elapsed() < ms(5000), "never told");
    }
    client.assert_closed();
    assert_eq!(gateway.wait_exit(SOON).expect("an end").code(), Some(0));
}

#[test]
fn the_deadline_cuts_and_tells_what_was_cut() {
    let origin = Origin::start(|x| {
        x.await_gone(Duration::from_secs(20));
        x.close()
    });
    let mut gateway = draining("50ms", "700ms", &proxy_to(&origin));
    let mut clients: Vec<Client> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(request("GET", "/", "", b""));
    }
    origin.wait_count(3);
    let begun = Instant::now();
    gateway.signal(libc::SIGTERM);
    let status = gateway.wait_exit(SOON).expect("an end");
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
    assert!(took >= ms(600) && took < ms(3000), "{took:?}");
    let said = gateway.output();
    assert!(said.lines().any(|l| l.contains("cut") && l.contains('3')), "what was cut is not in: {said}");
    for mut client in clients {
        client.assert_closed();
    }
}

#[test]
fn an_open_tunnel_ends_with_the_deadline() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        x.echo_until_end()
    });
    let mut gateway = draining("50ms", "700ms", &proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("GET", "/", "Connection: Upgrade\r\nUpgrade: websocket\r\n", b""));
    assert_eq!(client.response().status, 101);
    gateway.signal(libc::SIGTERM);
    thread::sleep(ms(200));
    client.send("still").expect_bytes(b"still");
    client.assert_closed();
    assert_eq!(gateway.wait_exit(SOON).expect("an end").code(), Some(0));
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let origin = Origin::start(|x| {
        x.await_gone(Duration::from_secs(20));
        x.close()
    });
    let mut gateway = draining("5s", "30s", &proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("GET", "/", "", b""));
    origin.wait_count(1);
    gateway.signal(libc::SIGTERM);
    wait_until("readyz 503", ms(2000), || not_ready(&gateway));
    let begun = Instant::now();
    gateway.signal(libc::SIGTERM);
    gateway.wait_exit(SOON).expect("an end");
    assert!(begun.elapsed() < ms(1000), "{:?}", begun.elapsed());
}

#[test]
fn the_drain_command_drains() {
    let mut gateway = draining("50ms", "5s", FIXED);
    support::ringway(["drain", "-c", gateway.config.to_str().expect("a plain path")]).expect(0);
    assert_eq!(gateway.wait_exit(SOON).expect("an end").code(), Some(0));
}

/// Clients that connect, ask once and go, until nobody accepts; a connection that stood and got no answer is lost.
struct Churn {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Churn {
    fn on(address: SocketAddr, clients: usize) -> Self {
        let mut churn =
            Self { stop: Arc::default(), served: Arc::default(), lost: Arc::default(), threads: Vec::new() };
        for _ in 0..clients {
            let (stop, served, lost) = (Arc::clone(&churn.stop), Arc::clone(&churn.served), Arc::clone(&churn.lost));
            churn.threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    // Refused is an honest answer: nothing stood yet.
                    let Ok(mut client) = Client::try_to(address, ms(2000)) else {
                        thread::sleep(ms(1));
                        continue;
                    };
                    match ask(&mut client) {
                        Ok(()) => served.fetch_add(1, Ordering::Relaxed),
                        Err(ending) => {
                            eprintln!("lost: {ending:?}");
                            lost.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            }));
        }
        churn
    }

    fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().expect("a churning client");
        }
        (self.served.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }
}

fn ask(client: &mut Client) -> Result<(), Ending> {
    client.try_send(request("GET", "/", "Connection: close\r\n", b"")).map_err(|_| Ending::Reset)?;
    let got = client.try_response("GET")?;
    if got.status == 200 && got.cut.is_none() { Ok(()) } else { Err(Ending::Malformed(format!("{got:?}"))) }
}

#[test]
fn a_drain_under_churn_loses_no_connection() {
    for shards in [1, 2, 4] {
        let toml = format!("[drain]\nwait = \"150ms\"\ndeadline = \"5s\"\n\n{FIXED}");
        let mut gateway = Gateway::with(&toml).shards(shards).start();
        let churn = Churn::on(gateway.addr(), 6);
        thread::sleep(ms(150));
        gateway.signal(libc::SIGTERM);
        let status = gateway.wait_exit(SOON).expect("an end");
        let (served, lost) = churn.end();
        assert_eq!(status.code(), Some(0));
        assert!(served > 50, "{served} served: no churn to speak of");
        assert_eq!(lost, 0, "{shards} shards: of {served} served");
    }
}

#[test]
fn removing_a_listener_under_churn_loses_no_connection() {
    let two = format!("[listeners.main]\n\n[listeners.going]\n\n{FIXED}");
    let mut gateway = Gateway::with(&two).shards(2).start();
    let (staying, going) = (Churn::on(gateway.addr_of("main"), 2), Churn::on(gateway.addr_of("going"), 4));
    for _ in 0..4 {
        thread::sleep(ms(60));
        gateway.rewrite_and_reload(&format!("[cores]\ncount = 2\n\n[listeners.main]\n\n{FIXED}"));
        thread::sleep(ms(60));
        gateway.rewrite_and_reload(&format!("[cores]\ncount = 2\n\n{two}"));
    }
    let (served, lost) = going.end();
    assert_eq!(lost, 0, "of {served} on the listener that came and went");
    let (served, lost) = staying.end();
    assert_eq!(lost, 0, "of {served} on the listener that stayed");
    assert!(served > 50, "{served} served: no churn to speak of");
}

#[test]
fn a_keep_alive_client_of_a_removed_listener_is_told_to_go() {
    let two = format!("[listeners.main]\n\n[listeners.going]\n\n{FIXED}");
    let mut gateway = Gateway::start(&two);
    let mut client = Client::to(gateway.addr_of("going"));
    client.get("/").expect(200);
    let address = gateway.addr_of("going");
    gateway.rewrite_and_reload(&format!("[listeners.main]\n\n{FIXED}"));
    wait_until("nobody accepts there", SOON, || Client::try_to(address, ms(200)).is_err());
    client.send(request("GET", "/", "", b""));
    if let Ok(got) = client.try_response("GET") {
        assert!(got.expect(200).says_close());
    }
    client.assert_closed();
    gateway.get("/").expect(200);
}
