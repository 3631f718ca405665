//! A core that does not turn its loop holds up nothing of what the node decides in common: the others open one breaker,
//! eject an endpoint once and send one trial without it, and when it wakes it knows. `--features failpoints`

mod inside;
mod support;

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use inside::Core;
use ringway::net::{EngineKind, failpoint};
use support::client::request;
use support::{Client, Origin, SOON, ms, wait_for, wait_until};

const STALL: Duration = ms(2500);
const SLEEP: Duration = ms(300);

/// The stall is the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers with a status, and while it is held not at all.
struct Moody {
    origin: Origin,
    status: Arc<AtomicU16>,
    hold: Arc<AtomicBool>,
}

impl Moody {
    fn start(status: u16) -> Moody {
        let (status, hold) = (Arc::new(AtomicU16::new(status)), Arc::new(AtomicBool::new(false)));
        let (say, held) = (status.clone(), hold.clone());
        let origin = Origin::start(move |x| {
            while held.load(Ordering::Acquire) {
                x.wait(ms(2));
            }
            x.reply(say.load(Ordering::Acquire), "", "said")
        });
        Moody { origin, status, hold }
    }
}

/// A filter that holds a core's loop is counted; who it was is told to the control thread.
#[test]
fn a_filter_that_holds_the_loop_is_named() {
    let _alone = alone();
    let origin = Origin::saying("x");
    let toml = format!(
        "[listeners.a]\nbind = \"127.0.0.1:0\"\n[clusters.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"slow\"\n\
         cluster = \"app\"\nfilters = [{{ request_headers = {{ set = {{ x-a = \"1\" }} }} }}]\n",
        origin.endpoint()
    );
    let mut core = Core::start(&toml, EngineKind::Epoll, || ());
    failpoint::hold_in_filter(ms(50));
    Client::to(core.address).get("/").expect(200);
    let held = core.held();
    assert!(matches!(&held[..], [("headers", route, ns)] if route == "slow" && *ns >= 50_000_000), "{held:?}");
    assert_eq!(core.metric("ringway_core_filter_holds_total"), 1);
}

struct Node {
    /// By core.
    clients: Vec<Client>,
    breaker: Moody,
    trial: Moody,
    bad: Moody,
    _good: Moody,
    _cores: Vec<Core>,
}

impl Node {
    fn start(shards: usize, engine: EngineKind) -> Node {
        let [breaker, trial, bad] = [500, 500, 500].map(Moody::start);
        let good = Moody::start(200);
        let rules = "requests_min = 10, snapshot = '0ms', timeout = '30s'";
        let toml = format!(
            "[telemetry]\nbind = 'off'\n[listeners.l]\nbind = '127.0.0.1:0'\n\
             [clusters.breaker]\nretry.attempts_max = 1\nendpoints = ['{}']\nbreaker = {{ {rules}, sleep = '60s' }}\n\
             [clusters.trial]\nretry.attempts_max = 1\nendpoints = ['{}']\nbreaker = {{ {rules}, sleep = '{}ms' }}\n\
             [clusters.eject]\nretry.attempts_max = 1\nendpoints = ['{}', '{}']\n\
             outlier = {{ consecutive_errors = 5, ejection = '60s' }}\n\
             [[routes]]\nname = 'breaker'\npath = '/breaker'\ncluster = 'breaker'\n\
             [[routes]]\nname = 'trial'\npath = '/trial'\ncluster = 'trial'\n\
             [[routes]]\nname = 'eject'\npath = '/eject'\ncluster = 'eject'\n\
             [[routes]]\nname = 'here'\npath = '/here'\nrespond = {{ body = 'here' }}\n",
            breaker.origin.endpoint(),
            trial.origin.endpoint(),
            SLEEP.as_millis(),
            bad.origin.endpoint(),
            good.origin.endpoint(),
        );
        let mut cores = Core::start_all(&toml, engine, shards, failpoint::this_is);
        let clients = one_on_each(&mut cores);
        Node { clients, breaker, trial, bad, _good: good, _cores: cores }
    }

    /// Asks on each of `cores`; the statuses, and the codes of refusals.
    fn ask(&mut self, cores: std::ops::Range<usize>, path: &str) -> Vec<(u16, String)> {
        let said = |client: &mut Client| {
            let answer = client.get(path);
            let code = if answer.has("retry-after") { answer.problem()["code"].to_string() } else { String::new() };
            (answer.status, code)
        };
        self.clients[cores].iter_mut().map(said).collect()
    }
}

/// The kernel spreads connections over the cores; the first that each core gets.
fn one_on_each(cores: &mut [Core]) -> Vec<Client> {
    let mut found: Vec<Option<Client>> = cores.iter().map(|_| None).collect();
    let open = |cores: &mut [Core]| -> Vec<u64> {
        cores.iter_mut().map(|core| core.metric("ringway_core_connections_total")).collect()
    };
    wait_until("a connection on each core", SOON, || {
        let before = open(cores);
        let mut client = Client::to(cores[0].address);
        client.get("/here").expect(200);
        let mine =
            wait_for("its core", SOON, || std::iter::zip(&before, open(cores)).position(|(before, now)| *before < now));
        found[mine].get_or_insert(client);
        found.iter().all(Option::is_some)
    });
    found.into_iter().flatten().collect()
}

fn refusals(count: usize) -> Vec<(u16, String)> {
    vec![(503, "\"circuit_open\"".to_owned()); count]
}

fn without_the_stalled_one(shards: usize, engine: EngineKind) {
    let mut node = Node::start(shards, engine);
    let began = Instant::now();
    failpoint::stall(0, STALL);
    // What the stalled core finds when it wakes.
    for path in ["/breaker", "/eject", "/eject", "/eject", "/eject", "/trial"] {
        node.clients[0].send(request("GET", path, "", b""));
    }
    wait_until("the stall", SOON, || !failpoint::stalls_yet());
    // The only core of a node has nobody to act without it.
    let others = if shards == 1 { 0..1 } else { 1..shards };
    let mut late = Vec::new();
    if shards == 1 {
        late.extend((0..6).map(|_| node.clients[0].response().status));
    }
    let count = others.len();

    // One breaker.
    wait_until("errors over all cores", SOON, || {
        node.ask(others.clone(), "/breaker");
        node.breaker.origin.count() >= 10
    });
    for _ in 0..3 {
        assert_eq!(node.ask(others.clone(), "/breaker"), refusals(count), "{shards} shards");
    }
    assert_eq!(node.breaker.origin.count(), 10, "{shards} shards");

    // One ejection.
    wait_until("errors in a row over all cores", SOON, || {
        node.ask(others.clone(), "/eject");
        node.bad.origin.count() >= 5
    });
    for _ in 0..6 {
        node.ask(others.clone(), "/eject").iter().for_each(|(status, _)| assert_eq!(*status, 200, "{shards} shards"));
    }
    assert_eq!(node.bad.origin.count(), 5, "{shards} shards");

    // One trial.
    wait_until("errors over all cores", SOON, || {
        node.ask(others.clone(), "/trial");
        node.trial.origin.count() >= 10
    });
    node.ask(others.clone(), "/trial");
    let before = node.trial.origin.count();
    node.trial.status.store(200, Ordering::Release);
    node.trial.hold.store(true, Ordering::Release);
    std::thread::sleep(SLEEP + ms(50));
    for client in &mut node.clients[others.clone()] {
        client.send(request("GET", "/trial", "", b""));
    }
    node.trial.origin.wait_count(before + 1);
    let refused = |client: &mut Client| client.closed_within(ms(40)) != support::Closed::Open;
    wait_until("everybody but the trial is refused", SOON, || {
        node.clients[others.clone()].iter_mut().filter_map(|client| refused(client).then_some(())).count() == count - 1
    });
    assert_eq!(node.trial.origin.count(), before + 1, "{shards} shards");
    node.trial.hold.store(false, Ordering::Release);
    let said: Vec<u16> = node.clients[others.clone()].iter_mut().map(|client| client.response().status).collect();
    assert_eq!(said.iter().filter(|&&status| status == 200).count(), 1, "{shards} shards: {said:?}");
    node.ask(others.clone(), "/trial").iter().for_each(|(status, _)| assert_eq!(*status, 200, "{shards} shards"));
    if shards == 1 {
        return;
    }
    assert!(began.elapsed() < STALL, "{shards} shards: the stalled core held the others up: {:?}", began.elapsed());

    // It wakes to what the others have found.
    late.extend((0..6).map(|_| node.clients[0].response().status));
    assert_eq!(late, [503, 200, 200, 200, 200, 200], "{shards} shards");
    assert_eq!((node.breaker.origin.count(), node.bad.origin.count()), (10, 5), "{shards} shards");
}

#[test]
fn a_stalled_core_holds_up_no_breaker_ejection_or_trial_on_io_uring() {
    let _alone = alone();
    for shards in [1, 2, 4, 7] {
        without_the_stalled_one(shards, EngineKind::IoUring);
    }
}

#[test]
fn a_stalled_core_holds_up_no_breaker_ejection_or_trial_on_epoll() {
    let _alone = alone();
    without_the_stalled_one(2, EngineKind::Epoll);
}
