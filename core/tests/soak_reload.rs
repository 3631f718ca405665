//! Thousands of reloads under load, each changing a route, an endpoint and a listener: no failed request, every core moves,
//! memory stays. `RINGWAY_SOAK_RELOADS` sets how many.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::client::request;
use support::{Client, Gateway, Origin, cluster_all, names};

const RELOADS: usize = 200;

/// Different routes that come and go. Meters of retired routes are kept on purpose (counters must not go back), so without
/// end ever new ones would only fill that table.
const ROUTES: usize = 16;

/// Memory is compared with what it was after so many, when every table has its size.
const SETTLED_MAX: usize = 1000;

/// RSS after the last reload, over RSS when settled.
const GROWTH_MAX: f64 = 1.05;

fn resident_kib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("KiB")
}

fn ask_for_ever(address: SocketAddr, stop: &Arc<AtomicBool>) -> thread::JoinHandle<Result<usize, String>> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let (mut client, mut count) = (Client::to(address), 0);
        while !stop.load(Ordering::Acquire) {
            client.try_send(request("GET", "/", "", b"")).map_err(|e| format!("after {count}: {e}"))?;
            let got = client.try_response("GET").map_err(|e| format!("after {count}: {e:?}"))?;
            if got.status != 200 || got.cut.is_some() {
                return Err(format!("after {count}: {got:?}"));
            }
            count += 1;
            if got.says_close() || count % 100 == 0 {
                client = Client::to(address);
            }
        }
        Ok(count)
    })
}

#[test]
fn reloads_under_load_leak_nothing_and_fail_nothing() {
    let reloads = std::env::var("RINGWAY_SOAK_RELOADS").map_or(RELOADS, |n| n.parse().expect("a number"));
    let origins = ["a", "b", "c"].map(Origin::unrecorded);
    let document = |n: usize| {
        let (route, extra) = (n % ROUTES, n % 4);
        format!(
            "[listeners.main]\n\n[listeners.extra-{extra}]\n\n{}\n\
             [[routes]]\nname = \"r{route}\"\npath = \"/r{route}\"\nrespond = {{ body = \"{n}\" }}\n",
            cluster_all(&format!("endpoints = [\"{}\"]", origins[n % 3].endpoint()))
        )
    };
    let mut gateway = Gateway::start(&document(0));
    let address = gateway.addr_of("main");
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..3).map(|_| ask_for_ever(address, &stop)).collect();
    let settled = (reloads / 2).clamp(1, SETTLED_MAX);
    let mut early = 0.0;
    let mut generation = 0.0;
    for n in 1..=reloads {
        gateway.rewrite_and_reload(&document(n));
        assert_eq!(Client::to(address).get(&format!("/r{}", n % ROUTES)).expect(200).text(), n.to_string());
        let metrics = gateway.metrics();
        let each: Vec<f64> = metrics.of(names::CORE_GENERATION, &[]).map(|s| s.value).collect();
        assert!(!each.is_empty() && each.iter().all(|g| *g > generation && *g == each[0]), "reload {n}: {each:?}");
        generation = each[0];
        if n == settled {
            early = resident_kib(gateway.pid());
        }
    }
    stop.store(true, Ordering::Release);
    let served: Vec<_> = threads.into_iter().map(|t| t.join().expect("a client")).collect();
    assert!(served.iter().all(Result::is_ok), "{served:?}");
    let growth = resident_kib(gateway.pid()) / early;
    println!("{reloads} reloads, {served:?} requests, memory grew by a factor of {growth:.3}");
    assert!(growth <= GROWTH_MAX, "RSS grew by a factor of {growth:.3} over {reloads} reloads");
}
