//! How exact a limit of the node is when cores share it unevenly: never over its bound, and hardly under. Alone in its
//! file, since it needs the machine for itself.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use support::{Gateway, ms, names};

const RATE: f64 = 10_000.0;
const BURST: f64 = 200.0;
const TIME: Duration = Duration::from_secs(10);
/// Requests in one write, and how often: twice the rate when all ask at once.
const BATCH: usize = 40;
const EVERY: Duration = ms(2);
const UNDER_MAX: f64 = 0.01;
/// A bucket is full after so long without requests: what a load that stops for longer does not take, no limit can give.
const LATE_MAX: Duration = ms(20);
/// A machine that keeps stopping the load proves nothing.
const ROUNDS_MAX: usize = 4;

const DOCUMENT: &str = "[[routes]]\nname = \"r\"\npath_prefix = \"/\"\nrespond = {}\n\
    filters = [{ rate_limit = { rate = \"10000/s\", burst = 200, key = \"global\", headers = \"off\" } }]\n";

/// A connection that its core is known of.
struct Asker(TcpStream);

impl Asker {
    /// Answers with 200 to a batch.
    fn batch(&mut self) -> usize {
        self.0.write_all("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(BATCH).as_bytes()).expect("sent");
        let (mut text, mut piece) = (Vec::new(), [0; 65536]);
        let count = |text: &[u8], what: &str| text.windows(what.len()).filter(|part| *part == what.as_bytes()).count();
        loop {
            let length = self.0.read(&mut piece).expect("answers");
            assert!(length > 0, "the connection ended");
            text.extend_from_slice(&piece[..length]);
            // The last answer is whole if its body, or its empty one, is there.
            let ends = text.ends_with(b"}\n") || text.ends_with(b"\r\n\r\n");
            if ends && count(&text, "HTTP/1.1 ") == BATCH {
                return count(&text, "HTTP/1.1 200");
            }
        }
    }
}

/// One on each core.
fn one_on_each(gateway: &Gateway) -> [Asker; 2] {
    let served = |core: &str| gateway.metrics().count(names::CORE_REQUESTS, &[("core", core)]);
    let mut found: [Option<Asker>; 2] = [None, None];
    for _ in 0..64 {
        let before = [served("0"), served("1")];
        let mut asker = Asker(TcpStream::connect(gateway.addr()).expect("connect"));
        asker.0.set_nodelay(true).expect("TCP_NODELAY");
        asker.batch();
        let core = usize::from(served("1") > before[1]);
        assert!(served("0") + served("1") > before[0] + before[1]);
        found[core].get_or_insert(asker);
        if let [Some(_), Some(_)] = &found {
            // What finding them has cost is there again, and no core remembers a refusal.
            thread::sleep(ms(500));
            return found.map(|one| one.expect("both"));
        }
    }
    panic!("64 connections, and all on one core");
}

/// Asks in a rhythm until the time is over: what passed, and how far it fell behind.
fn ask(asker: &mut Asker, began: Instant, every: Duration, when: When) -> (usize, Duration) {
    let (mut passed, mut next, mut late) = (0, began, Duration::ZERO);
    while began.elapsed() < TIME {
        if when(began.elapsed()) {
            passed += asker.batch();
        }
        next += every;
        let now = Instant::now();
        late = late.max(now.saturating_duration_since(next));
        thread::sleep(next.saturating_duration_since(now));
    }
    (passed, late)
}

/// Whether an asker asks then.
type When = fn(Duration) -> bool;

/// What passed as a share of what may, and how far the load fell behind.
fn round(pattern: [(Duration, When); 2]) -> (f64, Duration) {
    let gateway = Gateway::with(DOCUMENT).shards(2).start();
    let mut askers = one_on_each(&gateway);
    let began = Instant::now();
    let came: Vec<(usize, Duration)> = thread::scope(|scope| {
        let threads: Vec<_> = std::iter::zip(&mut askers, pattern)
            .map(|(asker, (every, when))| scope.spawn(move || ask(asker, began, every, when)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("an asker")).collect()
    });
    let most = RATE * began.elapsed().as_secs_f64() + BURST;
    let passed: usize = came.iter().map(|(passed, _)| passed).sum();
    assert!(passed as f64 <= most, "{passed} is over the bound of {most}");
    (passed as f64 / most, came.iter().map(|(_, late)| *late).max().unwrap_or_default())
}

#[test]
fn a_limit_of_the_node_is_exact_however_its_load_is_spread() {
    let patterns: [(&str, [(Duration, When); 2]); 3] = [
        ("all on one core", [(EVERY, |_| true), (EVERY, |_| false)]),
        (
            "alternating",
            [
                (EVERY, |time| (time.as_millis() / 100).is_multiple_of(2)),
                (EVERY, |time| !(time.as_millis() / 100).is_multiple_of(2)),
            ],
        ),
        ("one to nine", [(EVERY, |_| true), (EVERY * 9, |_| true)]),
    ];
    for (name, pattern) in patterns {
        let exact = (0..ROUNDS_MAX).any(|_| {
            let (share, late) = round(pattern);
            println!("{name}: {:+.3} % of the bound, the load at most {late:?} late", (share - 1.0) * 100.0);
            assert!(share >= 1.0 - UNDER_MAX || late > LATE_MAX, "{name}: {share} of the bound, under a steady load");
            share >= 1.0 - UNDER_MAX
        });
        assert!(exact, "{name}: the load was late in each of {ROUNDS_MAX} rounds");
    }
}
