//! A panic planted at each wait of a connection ends that connection, gives back everything it held, and touches no
//! other. `cargo test --release --features failpoints --test panics`

mod inside;
mod support;

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use inside::Core;
use ringway::net::{EngineKind, failpoint};
use support::{Client, Origin, SOON, ms, wait_until};

/// A scenario ends long before so many waits; more means that the countdown was never reached.
const WAITS_MAX: u64 = 400;

/// By then a connection that was just served has come to rest and passes no wait of its own accord.
const AT_REST: Duration = ms(700);

/// What must be as before once the dust has settled.
const HELD: [&str; 4] = [
    "ringway_core_connections_open",
    "ringway_core_requests_open",
    "ringway_core_tunnels_open",
    "ringway_core_origin_connections_open",
];

fn core(origin: &Origin, engine: EngineKind) -> Core {
    let toml = format!(
        "[telemetry]\nbind = 'off'\n[pool]\nidle_timeout = '50ms'\n[listeners.l]\nbind = '127.0.0.1:0'\n\
         [clusters.o]\nendpoints = ['{}']\n[[routes]]\nname = 'all'\ncluster = 'o'\n\
         [[routes]]\nname = 'fixed'\npath = '/fixed'\nrespond = {{ body = 'here' }}\n",
        origin.address()
    );
    Core::start(&toml, engine, || {})
}

fn origin() -> Origin {
    Origin::start(|x| {
        if x.target().starts_with("/tunnel") {
            x.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")?;
            let got = x.some()?;
            return x.send(&got);
        }
        x.body()?;
        x.ok("x".repeat(100_000))
    })
}

type Scenario = fn(&mut Client) -> Option<()>;

fn get(client: &mut Client) -> Option<()> {
    client.try_send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    client.try_response("GET").ok().map(drop)
}

fn post_and_get(client: &mut Client) -> Option<()> {
    client.try_send("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").ok()?;
    for _ in 0..3 {
        client.try_send("5\r\nhello\r\n").ok()?;
        std::thread::sleep(ms(1));
    }
    client.try_send("0\r\n\r\n").ok()?;
    client.try_response("POST").ok()?;
    get(client)
}

fn refused(client: &mut Client) -> Option<()> {
    client.try_send("GET /a HTTP/1.1\r\n").ok()?;
    client.try_send("Bad Header: x\r\n\r\n").ok()?;
    client.try_response("GET").ok().map(drop)
}

fn fixed_twice(client: &mut Client) -> Option<()> {
    client.try_send("GET /fixed HTTP/1.1\r\nHost: a\r\n\r\nGET /fixed HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    client.try_response("GET").ok()?;
    client.try_response("GET").ok().map(drop)
}

fn tunnel(client: &mut Client) -> Option<()> {
    client.try_send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").ok()?;
    client.try_response("GET").ok()?;
    client.try_send("ping").ok()?;
    client.drain(ms(500));
    Some(())
}

/// The countdown is the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn every_wait(engine: EngineKind) {
    let _alone = alone();
    let origin = origin();
    let mut core = core(&origin, engine);
    let mut witness = Client::to(core.address);
    let scenarios: [(&str, Scenario); 5] =
        [("get", get), ("post", post_and_get), ("refused", refused), ("fixed", fixed_twice), ("tunnel", tunnel)];
    let mut planted = 0;
    for (name, scenario) in scenarios {
        assert_eq!(witness.get("/fixed").text(), "here", "before {name}");
        std::thread::sleep(AT_REST);
        for count in 0..=WAITS_MAX {
            assert!(count < WAITS_MAX, "{name}: no end of waits");
            let before = core.metric("ringway_core_panics_total");
            failpoint::arm(count);
            let mut client = Client::to(core.address).patience(ms(1500));
            let _ = scenario(&mut client);
            drop(client);
            settle(&mut core, name, count);
            failpoint::disarm();
            if core.metric("ringway_core_panics_total") == before {
                break; // the scenario ended before its countdown: every wait has been tried
            }
            planted += 1;
        }
        assert_eq!(witness.get("/fixed").text(), "here", "{name} touched another connection");
    }
    assert!(planted > 20, "only {planted} waits were reached");
    let _ = std::io::stderr().write_all(format!("{planted} panics planted\n").as_bytes());
}

/// Only the witness is left: the panic ended one connection and no other.
fn settle(core: &mut Core, name: &str, count: u64) {
    wait_until(&format!("{name}: wait {count}: something is still held"), SOON, || {
        let meters = core.meters();
        HELD.iter().all(|metric| {
            meters.own.total(metric) == u64::from(metric.ends_with("connections_open") && !metric.contains("origin"))
        })
    });
}

#[test]
fn a_panic_at_each_wait_ends_one_connection_on_io_uring() {
    every_wait(EngineKind::IoUring);
}

#[test]
fn a_panic_at_each_wait_ends_one_connection_on_epoll() {
    every_wait(EngineKind::Epoll);
}
