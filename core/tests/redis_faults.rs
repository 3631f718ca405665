//! The client of Redis when servers die, stop, lie or drown: no reply reaches the wrong command, every wait has an end, and
//! what comes back is used again.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringway::net::{Net, spawn};
use ringway::redis::{Cluster, RedisError, Reply, Who};

use support::bare_core::{all, on_core, until};
use support::ports::Port;
use support::redis::{FakeRedis, RedisCluster, RedisServer, client, is_missing};
use support::{Gateway, SOON, ms, ringway, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// Says its argument, where the key lives: whatever comes back must be that.
const SAY: &[u8] = b"return ARGV[1]";

async fn say(redis: &Cluster, key: &str, word: &str) -> Result<Reply, RedisError> {
    let args: [&[u8]; 5] = [b"EVAL", SAY, b"1", key.as_bytes(), word.as_bytes()];
    redis.command(key.as_bytes(), &args).await
}

fn text(text: &str) -> Reply {
    Reply::Text(text.as_bytes().to_vec().into())
}

/// What a load saw.
#[derive(Default)]
struct Seen {
    answered: Cell<usize>,
    swapped: Cell<usize>,
    /// When each failed, in milliseconds of the reactor.
    errors: RefCell<Vec<(u64, RedisError)>>,
}

/// `tasks` that say something again and again until `stop`, each waiting for the answer.
fn load(net: &Rc<Net>, redis: &Rc<Cluster>, tasks: usize, stop: &Rc<Cell<bool>>) -> Rc<Seen> {
    let seen: Rc<Seen> = Rc::default();
    for task in 0..tasks {
        let (net, redis, stop, seen) = (net.clone(), redis.clone(), stop.clone(), seen.clone());
        spawn(async move {
            for number in 0_u64.. {
                if stop.get() {
                    return;
                }
                let (key, word) = (format!("key-{task}-{}", number % 100), format!("{task}.{number}"));
                match say(&redis, &key, &word).await {
                    Ok(reply) if reply == text(&word) => seen.answered.set(seen.answered.get() + 1),
                    Ok(_) => seen.swapped.set(seen.swapped.get() + 1),
                    Err(error) => {
                        seen.errors.borrow_mut().push((net.now_ms(), error));
                        net.sleep(ms(5)).await;
                    }
                }
            }
        });
    }
    seen
}

#[test]
fn a_killed_master_costs_its_failover_and_no_reply_is_swapped() {
    if is_missing("a_killed_master_costs_its_failover_and_no_reply_is_swapped") {
        return;
    }
    let cluster = RedisCluster::start();
    let nodes = cluster.nodes();
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("{nodes}\ntimeout = \"50ms\"\nrefresh = \"1h\""));
        until(&net, "the first table", SOON, || redis.meters().refreshes_ok.get() > 0).await;
        let stop = Rc::new(Cell::new(false));
        let seen = load(&net, &redis, 32, &stop);
        net.sleep(ms(500)).await;
        assert!(seen.answered.get() > 1000 && seen.errors.borrow().len() < 20, "{:?}", seen.errors.borrow());
        seen.errors.borrow_mut().clear();
        let killed_ms = net.now_ms();
        cluster.servers[0].kill();
        net.sleep(ms(8000)).await;
        let errors = seen.errors.take();
        let last_ms = errors.last().map_or(0, |(at, _)| at - killed_ms);
        eprintln!(
            "{} answered, {} errors, the last one {last_ms} ms after the kill",
            seen.answered.get(),
            errors.len()
        );
        assert!(!errors.is_empty() && last_ms < 6000, "{last_ms} ms");
        assert!(errors.iter().all(|(_, error)| error.who() == Who::Redis), "{errors:?}");
        // Its replica has its keys; and the two others never stopped.
        assert!(seen.answered.get() > 20_000, "{}", seen.answered.get());
        cluster.servers[0].restart();
        net.sleep(ms(1500)).await;
        stop.set(true);
        assert_eq!(seen.errors.borrow().len(), 0, "{:?}", seen.errors.borrow());
        net.sleep(ms(200)).await;
        assert_eq!(seen.swapped.get(), 0);
        assert_eq!((redis.meters().in_flight.get(), redis.meters().waiting.get()), (0, 0));
    });
}

/// Its kernel still takes connections, and its own never end: only time tells.
#[test]
fn a_frozen_master_is_replaced_as_well() {
    if is_missing("a_frozen_master_is_replaced_as_well") {
        return;
    }
    let cluster = RedisCluster::start();
    let nodes = cluster.nodes();
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("{nodes}\ntimeout = \"50ms\"\nrefresh = \"1h\""));
        until(&net, "the first table", SOON, || redis.meters().refreshes_ok.get() > 0).await;
        let stop = Rc::new(Cell::new(false));
        let seen = load(&net, &redis, 16, &stop);
        net.sleep(ms(300)).await;
        cluster.servers[1].stop();
        let stopped_ms = net.now_ms();
        net.sleep(ms(8000)).await;
        cluster.servers[1].go_on();
        net.sleep(ms(1500)).await;
        stop.set(true);
        net.sleep(ms(200)).await;
        let errors = seen.errors.take();
        let last_ms = errors.last().map_or(0, |(at, _)| at - stopped_ms);
        eprintln!(
            "{} answered, {} errors, the last one {last_ms} ms after the stop",
            seen.answered.get(),
            errors.len()
        );
        assert!(!errors.is_empty() && last_ms < 6000, "{last_ms} ms");
        assert_eq!(seen.swapped.get(), 0);
        assert_eq!((redis.meters().in_flight.get(), redis.meters().waiting.get()), (0, 0));
    });
}

#[test]
fn a_stopped_node_costs_each_command_its_time_and_late_replies_are_nobodys() {
    if is_missing("a_stopped_node_costs_each_command_its_time_and_late_replies_are_nobodys") {
        return;
    }
    let server = RedisServer::start(&[]);
    let address = server.address();
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("nodes = [\"{address}\"]\ntimeout = \"100ms\""));
        say(&redis, "k", "first").await.unwrap();
        server.stop();
        let began = Instant::now();
        let late = |number: usize| {
            let redis = redis.clone();
            async move { say(&redis, "k", &format!("late {number}")).await.unwrap_err() }
        };
        let errors = all(&net, (0..20).map(late)).await;
        let took = began.elapsed();
        assert!((ms(90)..ms(400)).contains(&took), "{took:?}");
        assert!(errors.iter().all(|error| matches!(error, RedisError::TimedOut { sent: true, .. })), "{errors:?}");
        assert!(errors[0].may_have_run() && errors[0].is_worth_a_retry());
        server.go_on();
        let next = |number: usize| {
            let redis = redis.clone();
            async move {
                let word = format!("next {number}");
                assert_eq!(say(&redis, "k", &word).await.unwrap(), text(&word));
            }
        };
        all(&net, (0..20).map(next)).await;
        let meters = redis.meters();
        assert!(meters.late_replies.get() >= 20, "{}", meters.late_replies.get());
        assert_eq!((meters.connects_ok.get(), meters.in_flight.get()), (1, 0), "still the same connection");
    });
}

#[test]
fn a_node_that_stays_stopped_is_given_up_and_found_again() {
    if is_missing("a_node_that_stays_stopped_is_given_up_and_found_again") {
        return;
    }
    let server = RedisServer::start(&[]);
    let address = server.address();
    on_core(LONG, move |net| async move {
        let keys = format!("nodes = [\"{address}\"]\ntimeout = \"20ms\"\nconnect_timeout = \"100ms\"");
        let redis = client(&net, &keys);
        say(&redis, "k", "first").await.unwrap();
        server.stop();
        say(&redis, "k", "unheard").await.unwrap_err();
        until(&net, "the connection given up", SOON, || redis.meters().connections_open.get() == 0).await;
        until(&net, "a connect in vain", SOON, || redis.meters().connects_failed.get() > 0).await;
        let error = say(&redis, "k", "unsent").await.unwrap_err();
        assert!(!error.may_have_run(), "{error:?}");
        let mut notices = Vec::new();
        until(&net, "a word that it is out of reach", SOON, || {
            notices.extend(redis.take_notices());
            !notices.is_empty()
        })
        .await;
        assert!(!notices[0].well && notices[0].text.contains("none of its nodes can be asked"), "{notices:?}");
        assert_eq!(redis.meters().reachable.get(), 0);
        server.go_on();
        until(&net, "a word that it answers again", SOON, || {
            notices.extend(redis.take_notices());
            notices.len() > 1
        })
        .await;
        assert!(notices[1].well && notices.len() == 2, "{notices:?}");
        assert_eq!(say(&redis, "k", "again").await.unwrap(), text("again"));
        assert_eq!(redis.meters().reachable.get(), 1);
    });
}

/// What no server may send ends the connection, whatever else is under way on it; the next one is good.
#[test]
fn replies_that_are_none_end_their_connection() {
    let deep: Vec<u8> = b"*1\r\n".repeat(200_000);
    let lies: [(&'static str, Vec<u8>); 7] = [
        ("deep", deep),
        ("long", b"$16777217\r\n".to_vec()),
        ("many", b"*1000000000\r\n".to_vec()),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        ("streamed", b"$?\r\n;1\r\na\r\n;0\r\n".to_vec()),
        ("torn", b"$3\r\nabcdef\r\n".to_vec()),
        ("twice", b"+OK\r\n+OK\r\n".to_vec()),
    ];
    let names: Vec<&'static str> = lies.iter().map(|(name, _)| *name).collect();
    let fake = FakeRedis::start(move |args| match &args[1][..] {
        b"fine" => b"+fine\r\n".to_vec(),
        name => lies.iter().find(|lie| lie.0.as_bytes() == name).map(|lie| lie.1.clone()).unwrap_or_default(),
    });
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("nodes = [\"{}\"]\ntimeout = \"2s\"", fake.address));
        for (number, name) in names.iter().enumerate() {
            assert_eq!(redis.read(b"k", &[b"GET", b"fine"]).await.unwrap(), text("fine"));
            let answer = redis.command(b"k", &[b"GET", name.as_bytes()]).await;
            if *name == "twice" {
                // Which of the two was meant cannot be known; the second one belongs to nobody.
                assert_eq!(answer.unwrap(), text("OK"));
            } else {
                let error = answer.unwrap_err();
                assert!(matches!(error, RedisError::Lost { .. }) && error.may_have_run(), "{name}: {error}");
            }
            until(&net, name, SOON, || redis.meters().connections_open.get() == 0 || *name != "twice").await;
            assert_eq!(redis.read(b"k", &[b"GET", b"fine"]).await.unwrap(), text("fine"), "{name}");
            assert_eq!(fake.connections.load(Ordering::SeqCst), number + 2, "{name}");
        }
    });
}

/// Without a password, too: it is no server that is too old for the first words.
#[test]
fn who_refuses_with_an_error_is_left_alone_longer_and_longer() {
    for refusal in ["ERR max number of clients reached", "DENIED Redis is running in protected mode"] {
        let fake = FakeRedis::refusing(refusal);
        on_core(LONG, move |net| async move {
            let redis = client(&net, &format!("nodes = [\"{}\"]\ntimeout = \"500ms\"", fake.address));
            net.sleep(ms(2000)).await;
            // One for each question of the table, every 50 ms, would be forty.
            let connects = fake.connections.load(Ordering::SeqCst);
            assert!((2..=10).contains(&connects), "{connects}: {refusal}");
            let error = redis.command(b"k", &[b"GET", b"k"]).await.unwrap_err();
            assert!(matches!(error, RedisError::Unreachable { .. }) && error.to_string().contains(refusal), "{error}");
            let notices = redis.take_notices();
            assert!(notices.len() == 1 && !notices[0].well && notices[0].text.contains(refusal), "{notices:?}");
            assert_eq!(redis.meters().connects_ok.get(), 0, "{refusal}");
        });
    }
}

#[test]
fn a_lost_read_is_asked_again_and_a_lost_command_is_not() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    // Every second time it answers with nonsense.
    let fake = FakeRedis::start(move |_| match counts.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => b"?".to_vec(),
        _ => b"+fine\r\n".to_vec(),
    });
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("nodes = [\"{}\"]\ntimeout = \"2s\"", fake.address));
        assert_eq!(redis.read(b"k", &[b"GET", b"k"]).await.unwrap(), text("fine"));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        let error = redis.command(b"k", &[b"INCR", b"k"]).await.unwrap_err();
        assert!(matches!(error, RedisError::Lost { .. }), "{error}");
        net.sleep(ms(50)).await;
        assert_eq!(asked.load(Ordering::SeqCst), 3, "it was sent twice");
    });
}

#[test]
fn redirects_that_go_round_come_to_an_end() {
    let own = Arc::new(AtomicUsize::new(0));
    let port = Arc::clone(&own);
    let fake = FakeRedis::start(move |_| format!("-MOVED 1 127.0.0.1:{}\r\n", port.load(Ordering::SeqCst)).into());
    own.store(usize::from(fake.address.port()), Ordering::SeqCst);
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("nodes = [\"{}\"]\ntimeout = \"2s\"", fake.address));
        let error = redis.command(b"k", &[b"GET", b"k"]).await.unwrap_err();
        assert!(matches!(error, RedisError::Redirected { .. }), "{error}");
        assert_eq!(redis.meters().moved.get(), 5);
    });
}

#[test]
fn a_full_queue_refuses_at_once() {
    let silent = FakeRedis::start(|_| Vec::new());
    on_core(LONG, move |net| async move {
        let start =
            |keys: &str| client(&net, &format!("nodes = [\"{}\"]\ntimeout = \"300ms\"\n{keys}", silent.address));
        // The first two are on their way when the others come.
        let give = |redis: &Rc<Cluster>, number: usize| {
            let (net, redis) = (net.clone(), redis.clone());
            async move {
                net.sleep(if number < 2 { ms(0) } else { ms(20) }).await;
                redis.command(b"k", &[b"GET", b"k"]).await.unwrap_err()
            }
        };
        let count = |errors: &[RedisError]| {
            let full = errors.iter().filter(|error| matches!(error, RedisError::QueueFull { .. })).count();
            let sent = errors.iter().filter(|error| matches!(error, RedisError::TimedOut { sent: true, .. })).count();
            (full, sent, errors.len() - full - sent)
        };
        // Two under way, three wait; the rest is refused, and those that waited were never sent.
        let redis = start("active_max = 2\nqueue_max = 3");
        until(&net, "the first table", SOON, || redis.meters().refreshes_ok.get() > 0).await;
        let (looks, seen) = (net.clone(), redis.clone());
        spawn(async move {
            looks.sleep(ms(100)).await;
            let meters = seen.meters();
            assert_eq!((meters.in_flight.get(), meters.waiting.get(), meters.errors_queue_full.get()), (2, 3, 7));
        });
        let began = Instant::now();
        let mut errors = all(&net, (0..12).map(|number| give(&redis, number))).await;
        assert_eq!(count(&errors), (7, 2, 3), "{errors:?}");
        assert!(began.elapsed() < ms(700));
        errors.retain(|error| matches!(error, RedisError::QueueFull { .. }));
        assert!(errors.iter().all(|error| error.who() == Who::Gateway && !error.may_have_run()));
        // Without waiting, what is beyond `active_max` is refused.
        let redis = start("active_max = 2\nwait = false");
        until(&net, "the first table", SOON, || redis.meters().refreshes_ok.get() > 0).await;
        let errors = all(&net, (0..10).map(|number| give(&redis, number))).await;
        assert_eq!(count(&errors), (8, 2, 0), "{errors:?}");
    });
}

#[test]
fn what_nobody_waits_for_any_more_is_not_sent() {
    let asked: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let hears = Arc::clone(&asked);
    let fake = FakeRedis::start(move |args| {
        hears.lock().unwrap().push(args[1].clone());
        if args[1] == "slow" {
            std::thread::sleep(ms(250));
        }
        b"+fine\r\n".to_vec()
    });
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("nodes = [\"{}\"]\ntimeout = \"100ms\"\nactive_max = 1", fake.address));
        until(&net, "the first table", SOON, || redis.meters().refreshes_ok.get() > 0).await;
        let give = |name: &'static str| {
            let redis = redis.clone();
            async move { redis.command(b"k", &[b"DEL", name.as_bytes()]).await.unwrap_err() }
        };
        let errors = all(&net, ["slow", "too late"].map(give)).await;
        assert!(errors[0].may_have_run() && !errors[1].may_have_run(), "{errors:?}");
        net.sleep(ms(200)).await;
        redis.command(b"k", &[b"DEL", b"in time"]).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), ["slow", "in time"]);
        assert_eq!(redis.meters().late_replies.get(), 1);
    });
}

#[test]
fn many_commands_under_way_open_more_connections_and_no_more_than_four() {
    let fake = FakeRedis::start(|_| {
        std::thread::sleep(ms(1));
        b"+fine\r\n".to_vec()
    });
    on_core(LONG, move |net| async move {
        let keys = format!("nodes = [\"{}\"]\ntimeout = \"20s\"\nactive_max = 5000\nidle_max = 1", fake.address);
        let redis = client(&net, &keys);
        until(&net, "the first table", SOON, || redis.meters().refreshes_ok.get() > 0).await;
        let give = |number: u64| {
            let (net, redis) = (net.clone(), redis.clone());
            async move {
                net.sleep(ms(number / 10)).await;
                redis.command(b"k", &[b"DEL", b"k"]).await.unwrap();
            }
        };
        all(&net, (0..100).map(give)).await;
        assert_eq!(redis.meters().connections_open.get(), 1, "few are better off on one");
        all(&net, (0..1500).map(give)).await;
        assert_eq!(fake.connections.load(Ordering::SeqCst), 4);
        until(&net, "the end of those beyond idle_max", SOON, || redis.meters().connections_open.get() == 1).await;
    });
}

#[test]
fn connections_at_rest_are_closed_and_opened_again() {
    let fake = FakeRedis::start(|_| b"+fine\r\n".to_vec());
    on_core(LONG, move |net| async move {
        let keys =
            format!("nodes = [\"{}\"]\ntimeout = \"2s\"\nidle_timeout = \"200ms\"\nrefresh = \"1h\"", fake.address);
        let redis = client(&net, &keys);
        for round in 1..=3 {
            assert_eq!(redis.read(b"k", &[b"GET", b"k"]).await.unwrap(), text("fine"));
            assert_eq!(redis.meters().connections_open.get(), 1);
            until(&net, "the end of an idle connection", SOON, || redis.meters().connections_open.get() == 0).await;
            assert_eq!(fake.connections.load(Ordering::SeqCst), round);
        }
        assert_eq!(redis.meters().refreshes_ok.get(), 1, "an idle connection's end is no alarm");
    });
}

#[test]
fn a_client_that_is_dropped_leaves_nothing_behind() {
    let fake = FakeRedis::start(|_| b"+fine\r\n".to_vec());
    on_core(LONG, move |net| async move {
        let (tasks, descriptors) = (ringway::net::alive(), net.descriptors());
        for _ in 0..5 {
            let redis = client(&net, &format!("nodes = [\"{}\"]\ntimeout = \"2s\"", fake.address));
            redis.read(b"k", &[b"GET", b"k"]).await.unwrap();
        }
        until(&net, "the end of its tasks", SOON, || {
            ringway::net::alive() == tasks && net.descriptors() == descriptors
        })
        .await;
    });
}

fn gateway_with(address: &str, more: &str) -> String {
    format!(
        "[redis.limits]\nnodes = [\"{address}\"]\nrefresh = \"200ms\"\n{more}\n\
         [[routes]]\nname = \"a\"\npath_prefix = \"/\"\nrespond = {{ body = \"a\" }}\n"
    )
}

#[test]
fn a_gateway_serves_without_its_redis_and_says_once_that_it_is_gone_and_back() {
    if is_missing("a_gateway_serves_without_its_redis_and_says_once_that_it_is_gone_and_back") {
        return;
    }
    let server = RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    server.kill();
    // A name, which the control thread resolves.
    let gateway = Gateway::start(&gateway_with(&format!("localhost:{}", server.port()), ""));
    assert_eq!(gateway.get("/").status, 200);
    let said = |what: &str| gateway.output().matches(what).count();
    wait_until("a word that it is out of reach", SOON, || said("none of its nodes can be asked") > 0);
    server.restart();
    wait_until("a word that it answers", SOON, || said("its nodes answer again") > 0);
    wait_until("a word about its policy", SOON, || said("maxmemory-policy is allkeys-lru") > 0);
    let reaching = || gateway.metrics().sum("ringway_redis_cores_reaching", &[("redis", "limits")]);
    wait_until("every core that reaches it", SOON, || {
        reaching() == gateway.metrics().sum("ringway_core_answered", &[])
    });
    std::thread::sleep(ms(500));
    let counts = ["none of its nodes can be asked", "its nodes answer again", "allkeys-lru"].map(said);
    assert_eq!(counts, [1, 1, 1], "{}", gateway.output());
    assert!(gateway.metrics().sum("ringway_redis_refreshes_total", &[("result", "ok")]) >= 2.0);
}

/// Each key comes once while Redis is away, and not again until what it owes is told. Some are not even asked for: that
/// their part of the slots is away is known by then.
#[test]
fn what_passed_during_an_outage_is_told_of_keys_that_do_not_come_back() {
    if is_missing("what_passed_during_an_outage_is_told_of_keys_that_do_not_come_back") {
        return;
    }
    const CLIENTS: usize = 16;
    const KEYS: usize = 12;
    const LIMIT: usize = 3;
    let server = RedisServer::start(&[]);
    let rule = format!(
        "rate_limit = {{ name = \"api\", scope = \"fleet\", when_away = \"open\", algorithm = \"fixed_window\", \
         limit = {LIMIT}, window = \"24h\", key = \"header:X-Key\", headers = \"off\" }}"
    );
    let toml = gateway_with(&server.address().to_string(), "timeout = \"200ms\"");
    let gateway = Gateway::start(&format!("{toml}filters = [{{ {rule} }}]\n"));
    let reaching = || gateway.metrics().sum("ringway_redis_cores_reaching", &[("redis", "limits")]);
    wait_until("a core that reaches it", SOON, || reaching() > 0.0);
    // How many pass of so many requests for each key.
    let passed = |times: usize| -> Vec<usize> {
        std::thread::scope(|scope| {
            let of = |of: usize| {
                let mut client = gateway.client();
                let mut ask = move |key| client.request("GET", "/", &format!("X-Key: {of}-{key}\r\n"), b"").status;
                move || -> Vec<usize> { (0..KEYS).map(|key| (0..times).filter(|_| ask(key) == 200).count()).collect() }
            };
            let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(of(client))).collect();
            clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
        })
    };
    server.kill();
    assert_eq!(passed(1), [1; CLIENTS * KEYS]);
    server.restart();
    let told = || server.ask(&["KEYS", "ringway:limit:api:*"]).list().map_or(0, <[Reply]>::len);
    wait_until("what every key owes", 2 * SOON, || told() == CLIENTS * KEYS);
    // Once, and not twice.
    assert_eq!(passed(LIMIT + 1), [LIMIT - 1; CLIENTS * KEYS]);
}

#[test]
fn a_new_password_is_taken_with_a_reload() {
    if is_missing("a_new_password_is_taken_with_a_reload") {
        return;
    }
    let server = RedisServer::start(&["--requirepass", "old"]);
    let dir = support::gateway::Dir::new();
    let file = dir.file("password", "old\n");
    let mut gateway = Gateway::start(&gateway_with(
        &server.address().to_string(),
        &format!("password = \"file:{}\"", file.display()),
    ));
    let reaching = || gateway.metrics().sum("ringway_redis_cores_reaching", &[]);
    wait_until("a core that reaches it", SOON, || reaching() > 0.0);
    let mut talk = server.talk();
    talk.ask(&["AUTH", "old"]);
    talk.ask(&["CONFIG", "SET", "requirepass", "new"]);
    talk.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    wait_until("a word that it is out of reach", SOON, || gateway.output().contains("cannot log in: WRONGPASS"));
    dir.file("password", "new\n");
    gateway.reload().expect(0);
    wait_until("a word that it answers", SOON, || gateway.output().contains("its nodes answer again"));
    let toml = gateway_with("127.0.0.1:1", "");
    gateway.rewrite(&toml);
    let refused = gateway.reload();
    assert!(
        refused.code != Some(0) && refused.all().contains("redis: changed, and is read only at start"),
        "{refused:?}"
    );
}

#[test]
fn a_password_that_cannot_be_read_is_told_by_its_place() {
    let dir = support::gateway::Dir::new();
    let port = Port::lease();
    let missing = dir.path().join("no-password");
    let toml = gateway_with(&port.address(), &format!("password = \"file:{}\"", missing.display()));
    let file = dir.file("ringway.toml", &format!("[listeners.public]\nbind = \"127.0.0.1:0\"\n{toml}"));
    let ran = ringway(["check", file.to_str().expect("a path")]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("redis.limits.password: ") && ran.err.contains("no-password"), "{ran:?}");
}
