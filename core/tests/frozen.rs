//! An origin that freezes (SIGSTOP) under a load of constant rate, with the rules that `resilient.toml` tells
//! operators to copy: how long clients feel it. `scripts/bench --frozen` measures the same on a quiet machine, without
//! the room that is left here for a loaded one.

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Gateway, ms};
use toml::Table;

const EXAMPLE: &str = include_str!("../../config/examples/resilient.toml");

/// Requests per second, and who sends them: a request without a free client waits for one, and that counts.
const RATE: usize = 300;
const CLIENTS: usize = 24;
const SLICE: Duration = ms(500);
const SLICE_REQUESTS: usize = RATE / 2;
const BEFORE_SLICES: usize = 6;
const AFTER_SLICES: usize = 14;
/// By then clients feel no more of it.
const BACK_SLICES: usize = 6; // 3 s
/// Of the slices after that, so many may be slow: the machine is shared.
const NOISY_SLICES_MAX: usize = 2;
const NOISE: Duration = ms(20);
/// The example's wait for the first byte.
const FIRST_BYTE: Duration = ms(500);

/// A process that answers everything, and can be stopped as a whole.
fn origin() -> Gateway {
    let all = "[[routes]]\nname = \"all\"\npath_prefix = \"/\"\nrespond = { status = 200, body = \"well\" }\n";
    Gateway::with(all).shards(1).start()
}

/// The example's cluster with these endpoints.
fn document(origins: &[Gateway], checked: bool) -> String {
    let mut example: Table = EXAMPLE.parse().expect("the example is TOML");
    example.remove("listeners");
    let cluster = example["clusters"]["app"].as_table_mut().expect("the example's cluster");
    let endpoints: Vec<String> = origins.iter().map(|origin| origin.addr().to_string()).collect();
    cluster.insert("endpoints".to_owned(), endpoints.into());
    assert_eq!(cluster["first_byte_timeout"].as_str(), Some("500ms"));
    assert_eq!(cluster["connect_timeout"].as_str(), Some("250ms"));
    assert_eq!(cluster["outlier"]["consecutive_errors"].as_integer(), Some(3));
    assert_eq!(cluster["checks"]["interval"].as_str(), Some("1s"));
    if !checked {
        cluster.remove("checks");
    }
    example.to_string()
}

/// The latency of every request of the run, counted from the moment it was planned for. Calls `freeze` in the midst.
fn load(gateway: &Gateway, freeze: impl FnOnce()) -> Vec<Duration> {
    let total = (BEFORE_SLICES + AFTER_SLICES) * SLICE_REQUESTS;
    let (next, latencies) = (AtomicUsize::new(0), Mutex::new(vec![Duration::MAX; total]));
    let started = Instant::now() + ms(100);
    let due = |request: usize| started + SLICE.mul_f64(request as f64 / SLICE_REQUESTS as f64);
    let until = |moment: Instant| thread::sleep(moment.saturating_duration_since(Instant::now()));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = gateway.client();
                loop {
                    let request = next.fetch_add(1, Ordering::Relaxed);
                    if request >= total {
                        return;
                    }
                    until(due(request));
                    client.get("/").expect(200);
                    latencies.lock().expect("latencies")[request] = due(request).elapsed();
                }
            });
        }
        until(due(BEFORE_SLICES * SLICE_REQUESTS));
        freeze();
    });
    latencies.into_inner().expect("latencies")
}

fn p99(slice: &[Duration]) -> Duration {
    let mut sorted = slice.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}

fn assert_clients_hardly_feel_it(checked: bool) {
    let origins = [origin(), origin(), origin()];
    let gateway = Gateway::start(&document(&origins, checked));
    let latencies = load(&gateway, || origins[1].signal(libc::SIGSTOP));
    gateway.wait_output(&format!("{} is ", origins[1].addr()));
    let slices: Vec<Duration> = latencies.chunks(SLICE_REQUESTS).map(p99).collect();
    let (before, after) = slices.split_at(BEFORE_SLICES);
    let mut sorted = before.to_vec();
    sorted.sort_unstable();
    let normal = sorted[BEFORE_SLICES / 2];
    let limit = normal.mul_f64(1.5).max(normal + NOISE);
    let slow = after[BACK_SLICES..].iter().filter(|p99| **p99 > limit).count();
    assert!(slow <= NOISY_SLICES_MAX, "{slow} slow slices; normal is {normal:?}: {before:?}, then {after:?}");
    let frozen_from = BEFORE_SLICES * SLICE_REQUESTS;
    let waited = latencies[frozen_from..].iter().filter(|latency| **latency >= FIRST_BYTE).count();
    assert!(waited >= 3, "the frozen one had no three requests");
}

#[test]
fn a_frozen_origin_is_left_out_for_what_its_requests_came_to() {
    assert_clients_hardly_feel_it(false);
}

#[test]
fn a_frozen_origin_is_left_out_with_active_checks_as_well() {
    assert_clients_hardly_feel_it(true);
}
