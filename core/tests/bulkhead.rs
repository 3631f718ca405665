//! What a cluster may have under way on the whole node: requests, the queue before them, a limit that follows the latency,
//! connections, connects.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use support::client::request;
use support::load::{Load, Result};
use support::odd::Deaf;
use support::{Client, Gateway, Origin, SOON, cluster_all, endpoints, ms, wait_for, wait_until};

/// Answers once it is let go; counts who is inside at the same time.
struct Held {
    origin: Origin,
    hold: Arc<AtomicBool>,
}

impl Held {
    fn start() -> Held {
        let hold = Arc::new(AtomicBool::new(true));
        let held = hold.clone();
        let origin = Origin::start(move |x| {
            while held.load(Ordering::Acquire) {
                x.wait(ms(3));
            }
            x.ok("x")
        });
        Held { origin, hold }
    }

    fn let_go(&self) {
        self.hold.store(false, Ordering::Release);
    }

    fn document(&self, lines: &str) -> String {
        cluster_all(&format!("{}\n{lines}", endpoints([&self.origin])))
    }
}

fn send(gateway: &Gateway, target: &str) -> Client {
    let mut client = gateway.client();
    client.send(request("GET", target, "", b""));
    client
}

/// Connections of the machine to `to` that are being opened: from the kernel's table (proc(5)).
fn connecting(to: &str) -> usize {
    const SYN_SENT: &str = "02";
    let to: SocketAddr = to.parse().expect("an address");
    let SocketAddr::V4(address) = to else { panic!("{to} is not IPv4") };
    let wanted = format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|f| f.len() > 3 && f[2] == wanted && f[3] == SYN_SENT).count()
}

#[test]
fn requests_max_is_the_nodes_whatever_core_asks() {
    for (shards, most) in [(1, 4), (2, 4), (4, 5), (7, 64)] {
        let held = Held::start();
        let toml = held.document(&format!("limits = {{ requests_max = {most} }}"));
        let gateway = Gateway::with(&toml).shards(shards).start();
        let mut inside = Vec::new();
        // A core may have kept some; what it does not need comes back.
        wait_until("every place is taken", SOON, || {
            let before = held.origin.count();
            let mut client = send(&gateway, "/");
            wait_until("an answer or a place", SOON, || {
                held.origin.count() > before || client.closed_within(ms(1)) != support::Closed::Open
            });
            if held.origin.count() > before {
                inside.push(client);
            }
            inside.len() == most
        });
        for _ in 0..10 {
            assert_eq!(gateway.get("/").expect(503).problem()["code"], "overflow", "{shards} shards");
        }
        assert_eq!(held.origin.count(), most, "{shards} shards");
        held.let_go();
        inside.iter_mut().for_each(|client| drop(client.response().expect(200)));
        gateway.get("/").expect(200);
        wait_until("the flag of refusals", SOON, || {
            gateway.log().iter().filter(|line| line.status() == 503).all(|line| line.has_flag("UO"))
        });
    }
}

#[test]
fn requests_wait_for_a_place_in_their_order_and_no_more_than_queue_max() {
    let held = Held::start();
    let toml = held.document("limits = { requests_max = 1, queue_max = 4, queue_timeout = \"30s\" }");
    let gateway = Gateway::with(&toml).shards(1).start();
    let mut clients = vec![send(&gateway, "/0")];
    held.origin.wait_count(1);
    for n in 1..=4 {
        let client = send(&gateway, &format!("/{n}"));
        clients.push(client);
        assert_eq!(clients[n].closed_within(ms(100)), support::Closed::Open, "{n} waits");
    }
    for _ in 0..3 {
        assert_eq!(gateway.get("/5").expect(503).problem()["code"], "overflow");
    }
    assert_eq!(held.origin.count(), 1);
    held.let_go();
    clients.iter_mut().for_each(|client| drop(client.response().expect(200)));
    assert_eq!(held.origin.targets(), ["/0", "/1", "/2", "/3", "/4"]);
}

#[test]
fn the_queue_is_the_nodes_and_a_wait_has_an_end() {
    let held = Held::start();
    let toml = held.document("limits = { requests_max = 2, queue_max = 3, queue_timeout = \"700ms\" }");
    let gateway = Gateway::with(&toml).shards(4).start();
    let mut inside: Vec<Client> = (0..2).map(|_| send(&gateway, "/in")).collect();
    held.origin.wait_count(2);
    let began = Instant::now();
    let mut waiting: Vec<Client> = (0..8).map(|_| send(&gateway, "/wait")).collect();
    let mut took = Vec::new();
    for client in &mut waiting {
        assert_eq!(client.response().expect(503).problem()["code"], "overflow");
        took.push(began.elapsed());
    }
    let lines = gateway.wait_log(8);
    let waited = |line: &&support::log::Line| line.field("event.duration").as_u64().unwrap_or(0) >= 650_000_000;
    assert_eq!(lines.iter().filter(waited).count(), 3, "{took:?}");
    // A place that comes free on one core is found by who waits on another.
    let mut late: Vec<Client> = (0..3).map(|_| send(&gateway, "/late")).collect();
    thread::sleep(ms(50));
    held.let_go();
    inside.iter_mut().chain(&mut late).for_each(|client| drop(client.response().expect(200)));
}

/// Serves `places` requests at once, each for some milliseconds; the others wait in a queue of its own without end.
fn saturating(places: u32) -> Origin {
    let free = Arc::new((Mutex::new(places), Condvar::new()));
    Origin::start(move |x| {
        let (count, changed) = &*free;
        let mut left = changed.wait_while(count.lock().expect("places"), |left| *left == 0).expect("places");
        *left -= 1;
        drop(left);
        x.wait(ms(10));
        *count.lock().expect("places") += 1;
        changed.notify_one();
        x.ok("x")
    })
}

#[test]
fn the_adaptive_limit_sheds_before_the_latency_grows() {
    let latency = |adaptive: &str| {
        let origin = saturating(4);
        let toml = cluster_all(&format!("{}\nretry.attempts_max = 1\n{adaptive}", endpoints([&origin])));
        let gateway = Gateway::with(&toml).shards(1).start();
        let load = Load::start(gateway.addr(), 80, &["/"]);
        let began = Instant::now();
        wait_until("it has settled", SOON, || began.elapsed() > ms(3000));
        let outcomes = load.end();
        let settled = outcomes.iter().filter(|outcome| outcome.began > began + ms(1500));
        let mut good: Vec<u128> = settled
            .filter(|outcome| outcome.result == Result::Whole(1))
            .map(|outcome| outcome.took.as_millis())
            .collect();
        good.sort_unstable();
        let shed = outcomes.iter().filter(|outcome| matches!(outcome.result, Result::Status(503, _))).count();
        assert!(good.len() > 100, "only {} answers", good.len());
        (good[good.len() / 2], shed)
    };
    let (unbounded_ms, none) = latency("");
    assert_eq!(none, 0);
    for by in ["by = \"gradient\"", "by = \"aimd\", target = \"40ms\""] {
        let (median_ms, shed) = latency(&format!("adaptive = {{ {by}, requests_min = 4 }}"));
        assert!(shed > 0 && median_ms * 2 < unbounded_ms, "{by}: {median_ms} of {unbounded_ms} ms, {shed} shed");
    }
}

#[test]
fn there_are_no_more_connections_to_an_endpoint_than_its_limit_whatever_core_asks() {
    for shards in [1, 2, 4, 7] {
        let origin = Origin::start(|x| {
            x.wait(ms(2));
            x.ok("x")
        });
        let toml = cluster_all(&format!(
            "{}\nconnect_timeout = \"20s\"\nlimits = {{ connections_per_endpoint_max = 3 }}",
            endpoints([&origin])
        ));
        let gateway = Gateway::with(&toml).shards(shards).start();
        let load = Load::start(gateway.addr(), 24, &["/"]);
        wait_until("some hundred answers", SOON, || load.count() > 600);
        let outcomes = load.end();
        let most = origin.most_connections();
        assert!((1..=3).contains(&most), "{shards} shards: {most} connections at once");
        let bad = outcomes.iter().find(|outcome| outcome.result != Result::Whole(1));
        assert!(bad.is_none(), "{shards} shards: {bad:?}");
        if shards == 1 {
            assert!(origin.connections() <= 3, "{} connections ever", origin.connections());
        }
    }
}

/// One connection for the whole node, and cores that ask in turn, each after the other's has come to rest.
#[test]
fn a_core_that_has_no_connection_gets_one_that_rests_on_another() {
    let origin = Origin::saying("x");
    let toml = cluster_all(&format!("{}\nlimits = {{ connections_per_endpoint_max = 1 }}", endpoints([&origin])));
    let gateway = Gateway::with(&toml).shards(4).start();
    let mut clients: Vec<Client> = (0..16).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.get("/").expect(200);
    }
    assert_eq!(origin.most_connections(), 1);
    let cores: std::collections::BTreeSet<u64> =
        gateway.wait_log(16).iter().filter_map(|line| line.field("ringway.core").as_u64()).collect();
    assert!(cores.len() > 1, "all clients met one core");
}

#[test]
fn a_wait_for_a_connection_has_an_end() {
    let held = Held::start();
    let toml = held.document("connect_timeout = \"300ms\"\nlimits = { connections_per_endpoint_max = 2 }");
    let gateway = Gateway::start(&toml);
    let mut inside: Vec<Client> = (0..2).map(|_| send(&gateway, "/")).collect();
    held.origin.wait_count(2);
    assert_eq!(gateway.get("/").expect(503).problem()["code"], "overflow");
    let mut late = send(&gateway, "/");
    thread::sleep(ms(30));
    held.let_go();
    inside.iter_mut().for_each(|client| drop(client.response().expect(200)));
    late.response().expect(200);
    assert!(held.origin.connections() <= 3);
}

#[test]
fn an_endpoint_sees_only_so_many_connects_at_once() {
    for shards in [1, 4] {
        let deaf = Deaf::start();
        let toml = cluster_all(&format!(
            "endpoints = [\"{}\"]\nconnect_timeout = \"1s\"\nretry.attempts_max = 1\n\
             limits = {{ connects_per_endpoint_max = 5 }}",
            deaf.endpoint()
        ));
        let gateway = Gateway::with(&toml).shards(shards).start();
        let before = connecting(&deaf.endpoint());
        let clients: Vec<Client> = (0..40).map(|_| send(&gateway, "/")).collect();
        let (ended, most) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
        let readers: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                let ended = ended.clone();
                thread::spawn(move || {
                    let status = client.response().status;
                    ended.fetch_add(1, Ordering::AcqRel);
                    status
                })
            })
            .collect();
        wait_until("all have failed", SOON, || {
            // The table is read in parts: in one look a socket may be there with the one that took its place.
            let now = connecting(&deaf.endpoint()).min(connecting(&deaf.endpoint())) - before;
            most.fetch_max(now as u64, Ordering::AcqRel);
            ended.load(Ordering::Acquire) == 40
        });
        assert_eq!(most.load(Ordering::Acquire), 5, "{shards} shards");
        for reader in readers {
            let status = reader.join().expect("a client");
            assert!(status == 503 || status == 504, "{status}");
        }
    }
}

/// After its refusals an origin is there again, slow to take connections: it is not stormed, and everybody is served.
#[test]
fn an_origin_that_comes_back_is_not_stormed() {
    let port = support::ports::Port::lease();
    let toml = cluster_all(&format!(
        "endpoints = [\"{}\"]\nconnect_timeout = \"20s\"\n\
         retry = {{ attempts_max = 10, backoff = \"200ms\", backoff_max = \"500ms\" }}\n\
         retry_budget.per_second_min = 1000\nlimits = {{ connects_per_endpoint_max = 4 }}",
        port.address()
    ));
    let gateway = Gateway::start(&toml);
    let mut clients: Vec<Client> = (0..40).map(|_| send(&gateway, "/")).collect();
    wait_for("a refusal", SOON, || {
        let failed = gateway.metrics().count("ringway_core_origin_connections_failed_total", &[]);
        (failed >= 10).then_some(())
    });
    let origin = Origin::on(&port.address(), |x| x.ok("back"));
    clients.iter_mut().for_each(|client| drop(client.response().expect(200)));
    assert!(origin.connections() <= 40);
}
