//! The client of Redis against real servers: every slot, pipelining, redirects, logins, functions, what it reports. What
//! happens when servers die or lie is in `redis_faults`.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringway::net::spawn;
use ringway::redis::{Library, RedisError, Reply, Who};
use ringway_proto::resp::key_slot;

use support::bare_core::{all, on_core, until};
use support::redis::{RedisCluster, RedisServer, client, is_missing};
use support::{SOON, ms, wait_until};

const LONG: Duration = Duration::from_secs(60);

fn text(text: &str) -> Reply {
    Reply::Text(text.as_bytes().to_vec().into())
}

/// One key for each slot.
fn key_of_each_slot() -> Vec<String> {
    let mut keys = vec![String::new(); 16384];
    let mut left = keys.len();
    for number in 0_u64.. {
        let key = format!("key-{number}");
        let place = &mut keys[usize::from(key_slot(key.as_bytes()))];
        if place.is_empty() {
            *place = key;
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    keys
}

#[test]
fn every_slot_is_served_by_its_master() {
    if is_missing("every_slot_is_served_by_its_master") {
        return;
    }
    let cluster = RedisCluster::start();
    let one = format!("nodes = [\"{}\"]\ntimeout = \"5s\"", cluster.servers[4].address());
    on_core(LONG, move |net| async move {
        let redis = client(&net, &one);
        let keys = key_of_each_slot();
        for keys in keys.chunks(400) {
            let pair = |key: &String| {
                let (redis, key) = (redis.clone(), key.clone());
                async move {
                    let value = format!("value of {key}");
                    let args: [&[u8]; 3] = [b"SET", key.as_bytes(), value.as_bytes()];
                    assert_eq!(redis.command(key.as_bytes(), &args).await.unwrap(), text("OK"));
                    let got = redis.read(key.as_bytes(), &[b"GET", key.as_bytes()]).await.unwrap();
                    assert_eq!(got, text(&value));
                }
            };
            all(&net, keys.iter().map(pair)).await;
        }
        let meters = redis.meters();
        assert_eq!(meters.commands.get(), 2 * 16384);
        assert_eq!((meters.in_flight.get(), meters.waiting.get()), (0, 0));
        // Those of the first turn, when only a replica was known.
        assert!(meters.moved.get() <= 400, "{} redirects", meters.moved.get());
        assert_eq!(meters.reachable.get(), 1);
    });
    for (index, master) in cluster.masters().iter().enumerate() {
        assert!(matches!(master.ask(&["DBSIZE"]), Reply::Integer(5461 | 5462)), "master {index}");
    }
}

#[test]
fn commands_of_a_turn_go_out_together_and_on_one_connection() {
    if is_missing("commands_of_a_turn_go_out_together_and_on_one_connection") {
        return;
    }
    let server = RedisServer::start(&[]);
    let address = server.address();
    on_core(LONG, move |net| {
        async move {
            let redis = client(&net, &format!("nodes = [\"{address}\"]\ntimeout = \"5s\""));
            redis.command(b"n", &[b"SET", b"n", b"0"]).await.unwrap();
            // Both numbers come over connections of their own, which have their part in them.
            let before = server.info("total_reads_processed");
            let add = |_| {
                let redis = redis.clone();
                async move { redis.command(b"n", &[b"INCR", b"n"]).await.unwrap().integer().unwrap() }
            };
            let counted = all(&net, (0..100).map(add)).await;
            assert_eq!(counted, (1..=100).collect::<Vec<i64>>(), "replies in the order of the commands");
            let after = server.info("total_reads_processed") - before;
            assert!(after <= 6, "{after} reads for 100 commands");
            assert_eq!(redis.meters().connections_open.get(), 1);
            assert_eq!(redis.meters().connects_ok.get(), 1);
        }
    });
}

#[test]
fn a_single_server_is_a_cluster_of_one() {
    if is_missing("a_single_server_is_a_cluster_of_one") {
        return;
    }
    // The second one does not know HELLO, as servers before Redis 6.
    for options in [&[][..], &["--rename-command", "HELLO", ""], &["--requirepass", "swordfish"]] {
        let server = RedisServer::start(options);
        let address = server.address();
        let dir = support::gateway::Dir::new();
        let login = match options {
            ["--requirepass", password] => {
                let file = dir.file("password", &format!("{password}\n"));
                format!("password = \"file:{}\"", file.display())
            }
            _ => String::new(),
        };
        on_core(LONG, move |net| async move {
            let redis = client(&net, &format!("nodes = [\"{address}\"]\n{login}\ntimeout = \"2s\""));
            for key in ["a", "b", "foo"] {
                let key = key.as_bytes();
                assert_eq!(redis.command(key, &[b"SET", key, key]).await.unwrap(), text("OK"));
                assert_eq!(redis.read(key, &[b"GET", key]).await.unwrap(), Reply::Text(key.to_vec().into()));
            }
            assert_eq!(redis.read(b"none", &[b"GET", b"none"]).await.unwrap(), Reply::Nil);
            assert_eq!(redis.command(b"l", &[b"LRANGE", b"l", b"0", b"9"]).await.unwrap(), Reply::List(Vec::new()));
            let moved = redis.meters().moved.get();
            assert_eq!(moved, 0);
        });
    }
}

#[test]
fn large_values_come_whole() {
    if is_missing("large_values_come_whole") {
        return;
    }
    let server = RedisServer::start(&[]);
    let address = server.address();
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("nodes = [\"{address}\"]\ntimeout = \"10s\""));
        let round = |number: u8| {
            let redis = redis.clone();
            async move {
                let key = [b'k', number];
                let value: Vec<u8> =
                    (0..3_000_000_u32 + u32::from(number)).map(|at| (at % 251) as u8 ^ number).collect();
                redis.command(&key, &[b"SET", &key, &value]).await.unwrap();
                let got = redis.read(&key, &[b"GET", &key]).await.unwrap();
                assert!(got.text().is_some_and(|got| *got == value), "value {number}");
            }
        };
        all(&net, (0..8).map(round)).await;
    });
}

#[test]
fn a_moved_slot_is_followed_once() {
    if is_missing("a_moved_slot_is_followed_once") {
        return;
    }
    let cluster = RedisCluster::start();
    let slot = key_slot(b"foo");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let nodes = cluster.nodes();
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("{nodes}\ntimeout = \"2s\"\nrefresh = \"1h\""));
        redis.command(b"foo", &[b"SET", b"foo", b"1"]).await.unwrap();
        until(&net, "the first table", SOON, || redis.meters().refreshes_ok.get() > 0).await;
        redis.command(b"foo", &[b"DEL", b"foo"]).await.unwrap();
        let before = redis.meters().moved.get();
        let slot = slot.to_string();
        let id = cluster.servers[to].id();
        for master in [to, from, (to + 1) % 3] {
            cluster.servers[master].text(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
        }
        let round = |number: i64| {
            let redis = redis.clone();
            async move {
                let number = number.to_string();
                redis.command(b"foo", &[b"RPUSH", b"foo", number.as_bytes()]).await.unwrap();
            }
        };
        all(&net, (0..20).map(round)).await;
        let moved = redis.meters().moved.get() - before;
        assert!((1..=20).contains(&moved), "{moved}");
        let refreshes = redis.meters().refreshes_ok.get();
        until(&net, "a refresh that a redirect asked for", SOON, || redis.meters().refreshes_ok.get() > 1).await;
        all(&net, (0..20).map(round)).await;
        assert_eq!(redis.meters().moved.get() - before, moved, "the table is not right again");
        assert!(redis.meters().refreshes_ok.get() <= refreshes + 1, "a refresh for each command");
        assert_eq!(cluster.servers[to].ask(&["LLEN", "foo"]), Reply::Integer(40));
    });
}

/// Nodes then name each other by names that this core does not resolve; their addresses come along.
#[test]
fn a_cluster_that_prefers_host_names_is_found_by_addresses() {
    if is_missing("a_cluster_that_prefers_host_names_is_found_by_addresses") {
        return;
    }
    let cluster = RedisCluster::start();
    for (index, server) in cluster.servers.iter().enumerate() {
        server.text(&["CONFIG", "SET", "cluster-announce-hostname", &format!("redis-{index}.invalid")]);
        server.text(&["CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname"]);
    }
    let other = (cluster.owner(key_slot(b"foo")) + 1) % 3;
    let by_name = |text: &[u8]| text.starts_with(b"MOVED 12182 redis-");
    let moved = || cluster.servers[other].ask(&["GET", "foo"]);
    wait_until("redirects by name", SOON, || matches!(moved(), Reply::Error(text) if by_name(&text)));
    let node = cluster.servers[other].address();
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("nodes = [\"{node}\"]\ntimeout = \"2s\""));
        for number in 0..100 {
            let key = format!("key-{number}");
            redis.command(key.as_bytes(), &[b"SET", key.as_bytes(), b"1"]).await.unwrap();
        }
        assert_eq!(redis.meters().moved.get(), 0, "no redirect names an address");
        assert!(redis.meters().refreshes_ok.get() >= 1);
    });
}

#[test]
fn a_slot_on_its_way_is_served_on_both_sides() {
    if is_missing("a_slot_on_its_way_is_served_on_both_sides") {
        return;
    }
    let cluster = RedisCluster::start();
    let slot = key_slot(b"{t}");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    cluster.servers.iter().for_each(|server| allow(server, &["+del"]));
    let dir = support::gateway::Dir::new();
    let keys = format!("{}\n{}\ntimeout = \"2s\"", cluster.nodes(), login(&dir));
    on_core(LONG, move |net| async move {
        let redis = client(&net, &keys);
        redis.command(b"{t}old", &[b"SET", b"{t}old", b"1"]).await.unwrap();
        let (source, target) = (&cluster.servers[from], &cluster.servers[to]);
        let (slot, port) = (slot.to_string(), target.port().to_string());
        send_off(&slot, source, target);
        let before = redis.meters().moved.get();
        // What is still there is served there; what is new is made at the other side, among others on the same connection.
        let round = |number: usize| {
            let redis = redis.clone();
            async move {
                let key = format!("{{t}}new-{number}");
                let value = number.to_string();
                let set = redis.command(key.as_bytes(), &[b"SET", key.as_bytes(), value.as_bytes()]).await.unwrap();
                assert_eq!(set, text("OK"));
                let got = redis.read(key.as_bytes(), &[b"GET", key.as_bytes()]).await.unwrap();
                assert_eq!(got, text(&value));
                let old = redis.read(b"{t}old", &[b"GET", b"{t}old"]).await.unwrap();
                assert_eq!(old, text("1"));
            }
        };
        all(&net, (0..50).map(round)).await;
        assert_eq!(redis.meters().asked.get(), 100);
        assert_eq!(redis.meters().moved.get(), before, "a slot on its way has not moved yet");
        // One key here, one there: both sides say TRYAGAIN until the slot has arrived.
        let (arrives, waits, third) = (cluster.clone(), net.clone(), 3 - from - to);
        spawn(async move {
            waits.sleep(ms(100)).await;
            let (source, target) = (&arrives.servers[from], &arrives.servers[to]);
            source.text(&["MIGRATE", "127.0.0.1", &port, "{t}old", "0", "1000"]);
            for server in [target, source, &arrives.servers[third]] {
                server.text(&["CLUSTER", "SETSLOT", &slot, "NODE", &target.id()]);
            }
        });
        let deleted = redis.command(b"{t}", &[b"DEL", b"{t}old", b"{t}new-1"]).await;
        assert_eq!(deleted.unwrap(), Reply::Integer(2));
        assert!(redis.meters().retries.get() > 0);
    });
}

fn send_off(slot: &str, source: &RedisServer, target: &RedisServer) {
    target.text(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &source.id()]);
    source.text(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &target.id()]);
}

/// Without ASKING the side that a slot goes to sends all back; what is told is the refusal. Both replies are taken: the
/// next command on the connection has its own.
#[test]
fn asking_that_is_refused_is_told() {
    if is_missing("asking_that_is_refused_is_told") {
        return;
    }
    let cluster = RedisCluster::start();
    let slot = key_slot(b"{t}");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    cluster.servers.iter().for_each(|server| allow(server, &["-asking"]));
    let dir = support::gateway::Dir::new();
    let keys = format!("{}\n{}\ntimeout = \"2s\"", cluster.nodes(), login(&dir));
    on_core(LONG, move |net| async move {
        let redis = client(&net, &keys);
        until(&net, "the first table", SOON, || redis.meters().refreshes_ok.get() > 0).await;
        send_off(&slot.to_string(), &cluster.servers[from], &cluster.servers[to]);
        // Their neighbours on the connections to the other side.
        let mine = |key: &String| cluster.owner(key_slot(key.as_bytes())) == to;
        let others: Vec<String> = (0..).map(|number| format!("other-{number}")).filter(mine).take(20).collect();
        let round = |other: String| {
            let redis = redis.clone();
            async move {
                let refused = redis.command(b"{t}new", &[b"SET", b"{t}new", b"1"]).await.unwrap_err();
                let RedisError::Refused { text: why, .. } = &refused else { panic!("{refused}") };
                assert!(why.starts_with(b"NOPERM") && refused.to_string().contains("asking"), "{refused}");
                let other = other.as_bytes();
                assert_eq!(redis.command(other, &[b"SET", other, other]).await.unwrap(), text("OK"));
                let got = redis.read(other, &[b"GET", other]).await.unwrap();
                assert_eq!(got, Reply::Text(other.to_vec().into()));
            }
        };
        all(&net, others.into_iter().map(round)).await;
        assert_eq!(redis.meters().asked.get(), 20);
    });
}

/// Makes the user of the README, word for word, who may use any key here, and what the functions of the tests need.
#[track_caller]
fn allow(server: &RedisServer, more: &[&str]) {
    let readme = include_str!("../src/redis/README.md");
    let rights = readme.lines().find_map(|line| line.trim().strip_prefix("ACL SETUSER gateway on >PASSWORD "));
    let rights: Vec<&str> = rights.expect("the README names the rights").split(' ').collect();
    let user = ["ACL", "SETUSER", "gateway", "on", ">swordfish"];
    server.text(&[&user[..], &rights, &["~*", "+hmget", "+hset"], more].concat());
}

fn login(dir: &support::gateway::Dir) -> String {
    format!("username = \"gateway\"\npassword = \"file:{}\"", dir.file("right", "swordfish\n").display())
}

#[test]
fn a_user_with_few_rights_is_enough() {
    if is_missing("a_user_with_few_rights_is_enough") {
        return;
    }
    let server = RedisServer::start(&[]);
    allow(&server, &[]);
    server.text(&["ACL", "SETUSER", "default", "off"]);
    let address = server.address();
    let dir = support::gateway::Dir::new();
    let right = login(&dir);
    let wrong = dir.file("wrong", "salmon\n");
    on_core(LONG, move |net| async move {
        let base = format!("nodes = [\"{address}\"]\ntimeout = \"2s\"");
        let redis = client(&net, &format!("{base}\n{right}"));
        assert_eq!(redis.command(b"a", &[b"SET", b"a", b"1"]).await.unwrap(), text("OK"));
        assert_eq!(take(&redis, b"bucket", "10", "5").await.unwrap().list().map(<[Reply]>::len), Some(3));
        let error = redis.command(b"a", &[b"DEL", b"a"]).await.unwrap_err();
        assert!(matches!(&error, RedisError::Refused { text, .. } if text.starts_with(b"NOPERM")), "{error}");
        assert_eq!((error.who(), error.is_worth_a_retry()), (Who::Command, false));
        let wrong = format!("username = \"gateway\"\npassword = \"file:{}\"", wrong.display());
        let intruder = client(&net, &format!("{base}\n{wrong}"));
        let error = intruder.command(b"a", &[b"GET", b"a"]).await.unwrap_err();
        assert!(matches!(error, RedisError::Unreachable { .. }) && !error.may_have_run(), "{error}");
        let said = error.to_string();
        assert!(said.contains("cannot log in: WRONGPASS") && !said.contains("salmon"), "{said}");
    });
}

#[test]
fn a_password_is_not_shown_by_a_server_that_repeats_it() {
    if is_missing("a_password_is_not_shown_by_a_server_that_repeats_it") {
        return;
    }
    let server = RedisServer::start(&["--rename-command", "HELLO", "", "--rename-command", "AUTH", ""]);
    let address = server.address();
    let dir = support::gateway::Dir::new();
    let file = dir.file("password", "swordfish\n");
    on_core(LONG, move |net| async move {
        let redis = client(
            &net,
            &format!("nodes = [\"{address}\"]\npassword = \"file:{}\"\nrefresh = \"100ms\"", file.display()),
        );
        let error = redis.command(b"a", &[b"GET", b"a"]).await.unwrap_err().to_string();
        assert!(error.contains("cannot log in: ERR unknown command") && !error.contains("swordfish"), "{error}");
        let mut notices = Vec::new();
        until(&net, "a report", SOON, || {
            notices.extend(redis.take_notices());
            !notices.is_empty()
        })
        .await;
        assert!(notices[0].text.contains("cannot log in") && !notices[0].text.contains("swordfish"), "{notices:?}");
    });
}

const BUCKET: Library = Library {
    name: "gw",
    code: "#!lua name=gw
local function take(keys, args)
  local rate, burst, cost = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local h = redis.call('HMGET', keys[1], 'n', 't')
  local n, last = tonumber(h[1]) or burst, tonumber(h[2]) or now
  n = math.min(burst, n + math.max(0, now - last) * rate / 1000)
  local ok, wait = 0, 0
  if n >= cost then n = n - cost; ok = 1 else wait = math.ceil((cost - n) * 1000 / rate) end
  redis.call('HSET', keys[1], 'n', n, 't', now)
  redis.call('PEXPIRE', keys[1], math.ceil(burst * 1000 / rate) + 1000)
  return {ok, math.floor(n * 1000), wait}
end
redis.register_function('take', take)
",
};

async fn take(redis: &ringway::redis::Cluster, key: &[u8], rate: &str, burst: &str) -> Result<Reply, RedisError> {
    redis.function(&BUCKET, "take", &[key], &[rate.as_bytes(), burst.as_bytes(), b"1"]).await
}

#[test]
fn a_master_without_our_function_gets_it() {
    if is_missing("a_master_without_our_function_gets_it") {
        return;
    }
    let cluster = RedisCluster::start();
    let nodes = cluster.nodes();
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("{nodes}\ntimeout = \"2s\""));
        // Keys of all three masters, none of which has it; each is asked by many at once.
        let rounds = |redis: &Rc<ringway::redis::Cluster>| {
            let redis = redis.clone();
            (0..60).map(move |number| {
                let redis = redis.clone();
                async move {
                    let key = format!("bucket-{}", number % 12);
                    let reply = take(&redis, key.as_bytes(), "1", "1000").await.unwrap();
                    assert_eq!(reply.list().unwrap()[0], Reply::Integer(1));
                }
            })
        };
        all(&net, rounds(&redis)).await;
        let loaded = redis.meters().functions_loaded.get();
        assert!((3..=6).contains(&loaded), "{loaded} loads on three masters");
        all(&net, rounds(&redis)).await;
        assert_eq!(redis.meters().functions_loaded.get(), loaded, "loaded again without need");
        cluster.servers[1].text(&["FUNCTION", "FLUSH"]);
        all(&net, rounds(&redis)).await;
        assert!(redis.meters().functions_loaded.get() > loaded);
        let broken = Library { name: "broken", code: "#!lua name=broken\nthis is no Lua" };
        let error = redis.function(&broken, "absent", &[b"k"], &[]).await.unwrap_err();
        assert!(error.to_string().contains("library broken: ERR"), "{error}");
        assert_eq!(error.who(), Who::Command);
    });
}

#[test]
fn what_a_node_pushes_reaches_its_hearer() {
    if is_missing("what_a_node_pushes_reaches_its_hearer") {
        return;
    }
    let server = RedisServer::start(&[]);
    let address = server.address();
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("nodes = [\"{address}\"]\ntimeout = \"2s\""));
        let heard: Rc<RefCell<Vec<Reply>>> = Rc::default();
        let hears = heard.clone();
        redis.on_push(move |from, push| {
            assert_eq!(from, address);
            hears.borrow_mut().extend_from_slice(push);
        });
        redis.command(b"k", &[b"CLIENT", b"TRACKING", b"ON"]).await.unwrap();
        redis.read(b"k", &[b"GET", b"k"]).await.unwrap();
        server.text(&["SET", "k", "changed"]);
        until(&net, "a push", SOON, || !heard.borrow().is_empty()).await;
        assert_eq!(*heard.borrow(), [text("invalidate"), Reply::List(vec![text("k")])]);
        assert_eq!(redis.read(b"k", &[b"GET", b"k"]).await.unwrap(), text("changed"));
    });
}

#[test]
fn replicas_answer_reads_and_reads_alone() {
    if is_missing("replicas_answer_reads_and_reads_alone") {
        return;
    }
    let cluster = RedisCluster::start();
    let nodes = cluster.nodes();
    let counted = Arc::clone(&cluster);
    on_core(LONG, move |net| async move {
        let redis = client(&net, &format!("{nodes}\ntimeout = \"2s\"\nread_from = \"replica\""));
        until(&net, "the first table", SOON, || redis.meters().refreshes_ok.get() > 0).await;
        for number in 0..60 {
            let key = format!("key-{number}");
            redis.command(key.as_bytes(), &[b"SET", key.as_bytes(), b"1"]).await.unwrap();
        }
        until(&net, "replicas that have caught up", SOON, || {
            (0..3).all(|index| counted.servers[index].ask(&["DBSIZE"]) == counted.servers[index + 3].ask(&["DBSIZE"]))
        })
        .await;
        for number in 0..60 {
            let key = format!("key-{number}");
            assert_eq!(redis.read(key.as_bytes(), &[b"GET", key.as_bytes()]).await.unwrap(), text("1"));
        }
        assert_eq!(redis.meters().moved.get(), 0);
    });
    let calls = |range: std::ops::Range<usize>, command: &str| -> u64 {
        cluster.servers[range].iter().map(|server| server.calls(command)).sum()
    };
    assert_eq!((calls(0..3, "get"), calls(3..6, "get")), (0, 60));
    assert_eq!(calls(0..3, "set"), 60);
}

#[test]
fn a_node_that_may_drop_limits_is_reported_once() {
    if is_missing("a_node_that_may_drop_limits_is_reported_once") {
        return;
    }
    let server = RedisServer::start(&["--maxmemory-policy", "volatile-lru"]);
    let address = server.address();
    on_core(LONG, move |net| async move {
        let base = format!("nodes = [\"{address}\"]\ntimeout = \"2s\"\nrefresh = \"100ms\"");
        let (limits, cache) = (client(&net, &base), client(&net, &format!("{base}\nevicts = true")));
        net.sleep(ms(700)).await;
        let notices = limits.take_notices();
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(!notices[0].well && notices[0].subject.contains(&address.to_string()), "{notices:?}");
        assert!(notices[0].text.contains("maxmemory-policy is volatile-lru"), "{notices:?}");
        server.text(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        let mut notices = Vec::new();
        until(&net, "a word that it is well", SOON, || {
            notices.extend(limits.take_notices());
            !notices.is_empty()
        })
        .await;
        assert!(notices[0].well, "{notices:?}");
        assert!(cache.meters().refreshes_ok.get() > 3);
        assert_eq!(cache.take_notices(), [], "a cache may evict");
    });
}
