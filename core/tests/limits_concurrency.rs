//! How many requests may be under way at once, for each key: whatever ends one frees its place.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::client::request;
use support::{Client, Gateway, Metrics, Origin, SOON, ms, wait_until};

/// Answers once it is let go.
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
        Held { origin, hold: hold.clone() }
    }

    fn gateway(&self, limit: &str) -> Gateway {
        Gateway::with(&self.text(limit)).shards(2).start()
    }

    fn text(&self, limit: &str) -> String {
        format!(
            "[clusters.app]\nendpoints = [\"{}\"]\ntotal_timeout = \"700ms\"\n[[routes]]\nname = \"r\"\n\
             path_prefix = \"/\"\ncluster = \"app\"\nfilters = [{{ concurrency_limit = {{ {limit} }} }}]\n",
            self.origin.endpoint()
        )
    }
}

fn send(gateway: &Gateway, lines: &str) -> Client {
    let mut client = gateway.client();
    client.send(request("GET", "/", lines, b""));
    client
}

fn under_way(gateway: &Gateway, count: f64) {
    gateway.wait_metrics("requests are under way", |all| all.sum("ringway_core_requests_open", &[]) == count);
}

#[test]
fn no_more_than_the_maximum_are_under_way() {
    let held = Held::start();
    let gateway = held.gateway("name = \"few\", max = 3");
    let mut inside: Vec<Client> = (0..3).map(|_| send(&gateway, "")).collect();
    held.origin.wait_count(3);
    for _ in 0..8 {
        let refused = gateway.get("/").expect(429);
        assert_eq!((refused.header("retry-after"), refused.header("cache-control")), (Some("1"), Some("no-store")));
    }
    held.hold.store(false, Ordering::Release);
    inside.iter_mut().for_each(|client| drop(client.response().expect(200)));
    // Kept places of one core come to the other with its next tick at the latest.
    wait_until("the places are free", SOON, || gateway.get("/").status == 200);
    assert_eq!(held.origin.count(), 4);
    let labels = |decision| [("rule", "few"), ("decision", decision)];
    let shows = |all: &Metrics| all.count("ringway_ratelimit_decisions_total", &labels("allowed")) == 4;
    let all = gateway.wait_metrics("decisions are counted", shows);
    assert!(all.count("ringway_ratelimit_decisions_total", &labels("denied")) >= 8);
}

#[test]
fn whatever_ends_a_request_frees_its_place() {
    let held = Held::start();
    let gateway = held.gateway("max = 1");
    let client = send(&gateway, "");
    under_way(&gateway, 1.0);
    gateway.get("/").expect(429);
    client.reset();
    under_way(&gateway, 0.0);
    let mut late = send(&gateway, "");
    late.response().expect(504);
    held.origin.refuse(true);
    held.origin.drop_connections();
    assert_eq!([gateway.get("/").status, gateway.get("/").status], [502, 502], "a failure frees it");
}

#[test]
fn each_key_has_its_own_places_and_each_core_with_scope_core() {
    let held = Held::start();
    let gateway = held.gateway("max = 1, key = \"header:x-id\"");
    let _first = send(&gateway, "X-Id: a\r\n");
    let _second = send(&gateway, "X-Id: b\r\n");
    held.origin.wait_count(2);
    let refused = |id: &str| gateway.client().request("GET", "/", &format!("X-Id: {id}\r\n"), b"").status;
    assert_eq!([refused("a"), refused("b")], [429, 429]);
    let gateway = held.gateway("max = 1, key = \"global\", scope = \"core\"");
    let clients: Vec<Client> = (0..24).map(|_| send(&gateway, "")).collect();
    let labels = [("decision", "denied")];
    gateway
        .wait_metrics("each core has one place", |all| all.count("ringway_ratelimit_decisions_total", &labels) == 22);
    drop(clients);
}

/// `keys_max` is no way to have more than the maximum under way, nor to have less for ever.
#[test]
fn keys_share_places_only_while_the_table_is_full() {
    let held = Held::start();
    for scope in ["core", "node"] {
        let limit = format!("max = 1, scope = \"{scope}\", key = \"header:x-id\", keys_max = 1");
        let gateway = Gateway::with(&held.text(&limit)).shards(1).start();
        let before = held.origin.count();
        let mut inside: Vec<Client> = ["a", "b"].map(|id| send(&gateway, &format!("X-Id: {id}\r\n"))).into();
        held.origin.wait_count(before + 2);
        for id in ["b", "c"] {
            let answer = gateway.client().request("GET", "/", &format!("X-Id: {id}\r\n"), b"");
            assert_eq!(answer.status, 429, "{scope}: {id} has no places of its own");
        }
        held.hold.store(false, Ordering::Release);
        inside.iter_mut().for_each(|client| drop(client.response().expect(200)));
        held.hold.store(true, Ordering::Release);
        // Both at once: one of them has the key's own place, the other the shared one.
        wait_until("another key has the only place", SOON, || {
            let before = held.origin.count();
            let clients = ["d", "e"].map(|id| send(&gateway, &format!("X-Id: {id}\r\n")));
            std::thread::sleep(ms(100));
            let both = held.origin.count() == before + 2;
            clients.into_iter().for_each(Client::reset);
            under_way(&gateway, 0.0);
            both
        });
    }
}

#[test]
fn a_tunnel_holds_no_place() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        x.echo_until_end()
    });
    let held = Held { origin, hold: Arc::default() };
    let gateway = held.gateway("max = 1");
    let mut tunnels: Vec<Client> = Vec::new();
    for _ in 0..3 {
        let mut client = send(&gateway, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
        client.response().expect(101);
        client.send("x").expect_bytes(b"x");
        tunnels.push(client);
    }
}

#[test]
fn a_maximum_changes_with_a_reload() {
    let held = Held::start();
    let mut gateway = held.gateway("max = 1, key = \"global\"");
    let _inside = send(&gateway, "");
    held.origin.wait_count(1);
    gateway.get("/").expect(429);
    let text = std::fs::read_to_string(&gateway.config).expect("its document").replace("max = 1", "max = 2");
    gateway.rewrite_and_reload(&text);
    let _second = send(&gateway, "");
    held.origin.wait_count(2);
    gateway.get("/").expect(429);
}
