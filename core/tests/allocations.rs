//! Memory of the hot path: a keep-alive request in steady state allocates nothing, an idle connection holds little.
//! A counting allocator watches the core's own thread.

mod inside;
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use inside::{Core, exchange};
use ringway::net::EngineKind;
use support::Origin;
use support::bare_core::on_core;
use support::redis::{FakeRedis, client};

const WARM_UP: usize = 2_000;
const COUNTED: usize = 10_000;
const IDLE: usize = 2_000;
const IDLE_BYTES_MAX: i64 = 1024;
/// Buffers that wait in the ring for whoever receives next, however many connections there are.
const IN_THE_RING_MAX: u64 = 512;

struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static IS_CORE: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call goes on to the system's allocator unchanged; counting touches atomics and a const thread local.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller's own promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if IS_CORE.try_with(Cell::get).unwrap_or(false) {
            BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        }
        // SAFETY: the caller's own promise.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(bytes: i64) {
    if IS_CORE.try_with(Cell::get).unwrap_or(false) {
        BYTES.fetch_add(bytes, Ordering::Relaxed);
        if COUNTING.load(Ordering::Relaxed) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The counters are the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn core(origin: &Origin, engine: EngineKind) -> Core {
    let toml = format!(
        "[telemetry]\nbind = 'off'\n[listeners.l]\nbind = '127.0.0.1:0'\n[clusters.o]\nendpoints = ['{}']\n\
         [[routes]]\nname = 'api'\npath_prefix = '/api'\ncluster = 'o'\n\
         [[routes]]\nname = 'asked'\npath_regex = '/v(?<major>[0-9]+)/(?<name>.*)/(?<rest>.*)'\n\
         headers = [{{ name = 'x-a', matches = 'o.*' }}]\nqueries = [{{ name = 'q r', equals = 'a b' }}]\n\
         cookies = [{{ name = 'beta', present = true }}]\n\
         when = 'client_ip in \"127.0.0.0/8\" and (path contains \"x y\" or host == \"b.test\")'\ncluster = 'o'\n\
         [hosts.'*.test']\npolicies = ['edge']\n\
         [policies.edge]\nfilters = [{{ request_headers = {{ set = {{ x-edge = '1' }} }} }}]\n\
         [[routes]]\nname = 'user'\npath = '/users/{{id}}'\ncluster = 'o'\n\
         filters = [{{ rewrite = {{ to = '/v2/{{id}}' }} }}, {{ query = {{ set = {{ id = '{{id}}' }}, remove = ['x'] }} }}]\n\
         [[routes]]\nname = 'pages'\npath = '/pages'\ncluster = 'o'\n\
         filters = [{{ cors = {{ allow_origins = ['https://a.test', 'https://b.test'], credentials = true, \
         expose_headers = ['x-total'] }} }}]\n\
         [[routes]]\nname = 'old'\npath_prefix = '/old'\ncluster = 'o'\n\
         filters = [{{ rewrite = {{ regex = '^/old/(.*)$', to = '/new/$1' }} }}]\n\
         [[routes]]\nname = 'limited'\npath_prefix = '/limited'\ncluster = 'o'\n\
         filters = [{{ rate_limit = {{ rate = '100000/s', burst = 5000 }} }}, \
         {{ rate_limit = {{ limit = 1000000, window = '1h', algorithm = 'sliding_window', headers = 'off' }} }}, \
         {{ concurrency_limit = {{ max = 100, key = ['host', 'header:user-agent'] }} }}]\n",
        origin.address()
    );
    Core::start(&toml, engine, || IS_CORE.with(|core| core.set(true)))
}

fn steady(name: &str, address: SocketAddr, request: &[u8], status: &[u8]) {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    let mut answer = [0; 4096];
    for round in 0..WARM_UP + COUNTED {
        if round == WARM_UP {
            ALLOCATIONS.store(0, Ordering::SeqCst);
            COUNTING.store(true, Ordering::SeqCst);
        }
        exchange(&mut client, request, &mut answer, status);
    }
    COUNTING.store(false, Ordering::SeqCst);
    assert_eq!(ALLOCATIONS.load(Ordering::SeqCst), 0, "{name}: allocations in {COUNTED} requests");
}

fn no_allocation(engine: EngineKind) {
    let _alone = alone();
    let origin = Origin::saying("hello");
    let core = core(&origin, engine);
    steady("GET", core.address, b"GET /api/a?b=c HTTP/1.1\r\nHost: a.test\r\nUser-Agent: t\r\n\r\n", b"HTTP/1.1 200");
    let post = b"POST /api/a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello";
    steady("POST with a body", core.address, post, b"HTTP/1.1 200");
    let asked = b"GET /v1/x%20y/z/z?%71+r=a%20b HTTP/1.1\r\nHost: a.test\r\nCookie: a=1; beta=2\r\nX-A: on\r\n\r\n";
    steady("every kind of condition", core.address, asked, b"HTTP/1.1 200");
    let host = "HTTP/1.1\r\nHost: a.test\r\n\r\n";
    steady("a rewrite", core.address, format!("GET /users/a%20b?x=1&y=2 {host}").as_bytes(), b"HTTP/1.1 200");
    steady("a regular expression", core.address, format!("GET /old/a/b {host}").as_bytes(), b"HTTP/1.1 200");
    let page = b"GET /pages HTTP/1.1\r\nHost: a.test\r\nOrigin: https://b.test\r\n\r\n";
    steady("cors", core.address, page, b"HTTP/1.1 200");
    let limited = b"GET /limited HTTP/1.1\r\nHost: a.test\r\nUser-Agent: t\r\n\r\n";
    steady("limits, and what they tell", core.address, limited, b"HTTP/1.1 200");
    steady("404", core.address, b"GET /nowhere HTTP/1.1\r\nHost: a.test\r\n\r\n", b"HTTP/1.1 404");
}

#[test]
fn a_request_in_steady_state_allocates_nothing_on_io_uring() {
    no_allocation(EngineKind::IoUring);
}

#[test]
fn a_request_in_steady_state_allocates_nothing_on_epoll() {
    no_allocation(EngineKind::Epoll);
}

#[test]
fn an_idle_connection_holds_at_most_a_kibibyte() {
    let _alone = alone();
    let origin = Origin::saying("hello");
    let mut core = core(&origin, EngineKind::IoUring);
    let request = b"GET /api/a HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut answer = [0; 4096];
    let mut first = TcpStream::connect(core.address).unwrap();
    exchange(&mut first, request, &mut answer, b"HTTP/1.1 200");
    let before = BYTES.load(Ordering::SeqCst);
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut client = TcpStream::connect(core.address).unwrap();
        exchange(&mut client, request, &mut answer, b"HTTP/1.1 200");
        idle.push(client);
    }
    // Within a second they come to rest, and the gauge of buffers is brought up to date.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(core.metric("ringway_core_connections_open"), IDLE as u64 + 1);
    let held = (BYTES.load(Ordering::SeqCst) - before) / IDLE as i64;
    println!("an idle connection that has served holds {held} bytes");
    assert!(held <= IDLE_BYTES_MAX, "{held} bytes");
    let lent = core.metric("ringway_core_buffers_in_use");
    assert!(lent <= IN_THE_RING_MAX, "{lent} receive buffers for {IDLE} idle connections");
}

/// Nothing leaves the core for a plain request: no message, and so no wake of another core.
#[test]
fn a_plain_request_sends_no_message_between_cores() {
    let _alone = alone();
    let origin = Origin::saying("hello");
    let mut core = core(&origin, EngineKind::IoUring);
    let mut client = TcpStream::connect(core.address).unwrap();
    let mut answer = [0; 4096];
    let sent = |core: &mut Core| -> u64 {
        let meters = core.meters();
        meters.mesh.iter().filter(|row| row.kind != "meters").map(|row| row.delivered + row.kept + row.refused).sum()
    };
    let before = sent(&mut core);
    for _ in 0..1000 {
        exchange(&mut client, b"GET /api/a HTTP/1.1\r\nHost: a.test\r\n\r\n", &mut answer, b"HTTP/1.1 200");
    }
    assert_eq!(sent(&mut core), before);
}

/// A number costs nothing, a string shares the buffer it came in; a list is one at each of three steps of its decoding.
#[test]
fn a_command_to_redis_allocates_nothing_and_its_answer_little() {
    let _alone = alone();
    let fake = FakeRedis::start(|args| match &args[0][..] {
        b"INCR" => b":1\r\n".to_vec(),
        b"GET" => b"$5\r\nhello\r\n".to_vec(),
        _ => b"*3\r\n:1\r\n:2\r\n:3\r\n".to_vec(),
    });
    on_core(Duration::from_secs(60), move |net| async move {
        IS_CORE.with(|core| core.set(true));
        let redis = client(&net, &format!("nodes = [\"{}\"]\ntimeout = \"2s\"\nrefresh = \"1h\"", fake.address));
        for (command, allowed_percent) in [("INCR", 0), ("GET", 1), ("FCALL", 300)] {
            let args: [&[u8]; 2] = [command.as_bytes(), b"key"];
            for round in 0..WARM_UP + COUNTED {
                if round == WARM_UP {
                    ALLOCATIONS.store(0, Ordering::SeqCst);
                    COUNTING.store(true, Ordering::SeqCst);
                }
                redis.command(b"key", &args).await.unwrap();
            }
            COUNTING.store(false, Ordering::SeqCst);
            let percent = ALLOCATIONS.load(Ordering::SeqCst) * 100 / COUNTED as u64;
            assert!(percent <= allowed_percent, "{command}: {percent} allocations for 100 commands");
        }
    });
}
