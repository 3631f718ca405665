//! Who gets which request, over all cores of a node: shares by weight, by load and by latency, keys and cookies that stay,
//! slow starts, backups, and what happens when few are well.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use support::chi_square::assert_weighted;
use support::client::request;
use support::{Client, Gateway, Origin, Response, SOON, cluster_all, ms, wait_until};

fn origins(count: usize) -> Vec<Origin> {
    (0..count)
        .map(|n| {
            Origin::start(move |x| {
                x.body()?;
                x.ok(n.to_string())
            })
        })
        .collect()
}

/// With a table of its own for each endpoint: `weight = 2` and the like.
fn list(origins: &[Origin], each: &[&str]) -> String {
    let one = |(n, origin): (usize, &Origin)| {
        let more = each.get(n).map_or(String::new(), |more| format!(", {more}"));
        format!("{{ address = \"{}\"{more} }}", origin.endpoint())
    };
    format!("endpoints = [{}]", origins.iter().enumerate().map(one).collect::<Vec<_>>().join(", "))
}

/// `count` requests over a dozen connections that the kernel spreads over the cores.
fn ask(gateway: &Gateway, count: usize) {
    let mut clients: Vec<Client> = (0..12).map(|_| gateway.client()).collect();
    for n in 0..count {
        clients[n % 12].get("/").expect(200);
    }
}

fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(Origin::count).collect()
}

/// Who answers a request with these header lines.
#[track_caller]
fn who(gateway: &Gateway, target: &str, header: &str) -> String {
    gateway.client().request("GET", target, &format!("{header}Connection: close\r\n"), b"").expect(200).text()
}

#[test]
fn shares_are_by_weight_over_all_cores() {
    for shards in [1, 2, 4, 7] {
        for balance in ["round_robin", "least_request"] {
            let origins = origins(4);
            let endpoints = list(&origins, &["weight = 1", "weight = 2", "weight = 3", "weight = 6"]);
            let toml = cluster_all(&format!("{endpoints}\nbalance = \"{balance}\""));
            let gateway = Gateway::with(&toml).shards(shards).start();
            ask(&gateway, 600);
            assert_weighted(&format!("{balance}, {shards} shards"), &counts(&origins), &[1, 2, 3, 6]);
        }
    }
}

#[test]
fn equals_have_equal_shares_by_every_balance() {
    for balance in ["round_robin", "least_request", "random_two", "ring_hash", "maglev"] {
        let origins = origins(5);
        // Without its header a request has no key: it is spread at random.
        let hash = if ["ring_hash", "maglev"].contains(&balance) { "hash_on = \"header:x-none\"" } else { "" };
        let toml = cluster_all(&format!("{}\nbalance = \"{balance}\"\n{hash}", list(&origins, &[])));
        let gateway = Gateway::with(&toml).shards(4).start();
        ask(&gateway, 1000);
        match balance {
            // A ring's arcs are not quite equal.
            "ring_hash" => {
                assert!(counts(&origins).iter().all(|count| (100..=320).contains(count)), "{:?}", counts(&origins))
            }
            _ => assert_weighted(balance, &counts(&origins), &[1; 5]),
        }
    }
}

#[test]
fn an_endpoint_that_answers_slowly_gets_less_by_ewma() {
    let slow = Origin::start(|x| {
        x.wait(ms(25));
        x.ok("slow")
    });
    let mut origins = origins(2);
    origins.push(slow);
    for shards in [1, 4] {
        let before = counts(&origins);
        let toml = cluster_all(&format!("{}\nbalance = \"ewma\"", list(&origins, &[])));
        let gateway = Gateway::with(&toml).shards(shards).start();
        ask(&gateway, 400);
        let its = counts(&origins)[2] - before[2];
        assert!(its <= 60, "{shards} shards: {its} of 400");
        let fast = std::iter::zip(counts(&origins), before).take(2).map(|(now, before)| now - before);
        fast.for_each(|its| assert!(its >= 100, "{shards} shards: {its} of 400"));
    }
}

#[test]
fn random_two_avoids_the_busy_one() {
    let release = Arc::new(AtomicBool::new(false));
    let gate = release.clone();
    let mut origins = origins(2);
    origins.push(Origin::start(move |x| {
        while !gate.load(Ordering::Acquire) {
            x.wait(ms(5));
        }
        x.ok("busy")
    }));
    let toml = cluster_all(&format!("{}\nbalance = \"random_two\"", list(&origins, &[])));
    let gateway = Gateway::with(&toml).shards(1).start();
    let mut held = Vec::new();
    wait_until("one is busy", SOON, || {
        let mut client = gateway.client();
        client.send(request("GET", "/", "", b""));
        std::thread::sleep(ms(10));
        held.push(client);
        origins[2].count() == 1
    });
    ask(&gateway, 100);
    assert_eq!(origins[2].count(), 1, "of two, one is always at rest");
    release.store(true, Ordering::Release);
}

/// Whom each of these keys meets, asked on three connections of their own.
fn homes(gateway: &Gateway, keys: usize) -> BTreeMap<usize, String> {
    (0..keys)
        .map(|key| {
            let header = format!("X-User: user-{key}\r\n");
            let found: BTreeSet<String> = (0..3).map(|_| who(gateway, "/", &header)).collect();
            assert_eq!(found.len(), 1, "key {key} has no home: {found:?}");
            (key, found.into_iter().next().expect("one"))
        })
        .collect()
}

#[test]
fn a_key_stays_with_its_endpoint_over_cores_and_reloads_and_only_those_of_a_lost_one_move() {
    for balance in ["ring_hash", "maglev"] {
        let origins = origins(5);
        let toml = |list: &str, more: &str| {
            cluster_all(&format!("{list}\nbalance = \"{balance}\"\nhash_on = \"header:x-user\"\n{more}"))
        };
        let whole = list(&origins, &[]);
        let alone = homes(&Gateway::with(&toml(&whole, "")).shards(1).start(), 60);
        assert_eq!(alone.values().collect::<BTreeSet<_>>().len(), 5, "{balance}: not all are somebody's home");
        for shards in [2, 7] {
            assert_eq!(
                homes(&Gateway::with(&toml(&whole, "")).shards(shards).start(), 60),
                alone,
                "{balance}, {shards}"
            );
        }
        let mut gateway = Gateway::start(&toml(&whole, ""));
        gateway.rewrite_and_reload(&toml(&whole, "connect_timeout = \"2s\""));
        assert_eq!(homes(&gateway, 60), alone, "{balance}: a reload moved keys");
        // Maglev's table moves a few others, too (Eisenbud and others 2016, section 5.3); the ring none.
        gateway.rewrite_and_reload(&toml(&list(&origins[..4], &[]), ""));
        let moved = homes(&gateway, 60).iter().filter(|(key, home)| alone[key] != "4" && alone[key] != **home).count();
        assert!(moved <= if balance == "maglev" { 6 } else { 0 }, "{balance}: {moved} of 60 keys moved without need");
        gateway.rewrite_and_reload(&toml(&whole, ""));
        assert_eq!(homes(&gateway, 60), alone, "{balance}: keys did not come home");
    }
}

#[test]
fn with_bounded_loads_a_hot_key_spreads_over_the_next_ones() {
    for balance in ["ring_hash", "maglev"] {
        let release = Arc::new(AtomicBool::new(false));
        let origins: Vec<Origin> = (0..4)
            .map(|_| {
                let gate = release.clone();
                Origin::start(move |x| {
                    while !gate.load(Ordering::Acquire) {
                        x.wait(ms(5));
                    }
                    x.ok("x")
                })
            })
            .collect();
        let rules = format!("balance = \"{balance}\"\nhash_on = \"path\"\nhash_load_max_percent = 150");
        let toml = cluster_all(&format!("{}\n{rules}", list(&origins, &[])));
        let gateway = Gateway::with(&toml).shards(1).start();
        let mut held: Vec<Client> = (0..16).map(|_| gateway.client()).collect();
        for (n, client) in held.iter_mut().enumerate() {
            client.send(request("GET", "/hot", "", b""));
            wait_until("it is under way", SOON, || counts(&origins).iter().sum::<usize>() > n);
        }
        // At most half more than a quarter of 16 each; the key's own endpoint has all of that.
        let most = *counts(&origins).iter().max().expect("four");
        assert!((4..=6).contains(&most), "{balance}: {:?}", counts(&origins));
        release.store(true, Ordering::Release);
        held.iter_mut().for_each(|client| drop(client.response().expect(200)));
    }
}

#[test]
fn a_key_may_be_a_header_a_cookie_the_client_the_path_or_a_param() {
    let origins = origins(4);
    let spread = |hash_on: &str, ask: &dyn Fn(&Gateway, usize) -> String| {
        let toml = format!(
            "[clusters.app]\n{}\nbalance = \"maglev\"\nhash_on = \"{hash_on}\"\n\n\
             [[routes]]\nname = \"item\"\npath = \"/items/{{id}}/{{more}}\"\ncluster = \"app\"\n\n\
             [[routes]]\nname = \"all\"\npath_prefix = \"/\"\ncluster = \"app\"\n",
            list(&origins, &[])
        );
        let gateway = Gateway::start(&toml);
        let homes: Vec<String> = (0..12).map(|key| ask(&gateway, key)).collect();
        for (key, home) in homes.iter().enumerate() {
            assert_eq!(ask(&gateway, key), *home, "{hash_on}: key {key} moved");
        }
        assert!(homes.iter().collect::<BTreeSet<_>>().len() > 1, "{hash_on}: all keys have one home");
    };
    spread("header:x-user", &|gateway, key| who(gateway, "/", &format!("x-USER: {key}\r\n")));
    spread("cookie:session", &|gateway, key| {
        who(gateway, "/", &format!("Cookie: theme={}; session={key}; other=1\r\n", key % 5))
    });
    spread("path", &|gateway, key| who(gateway, &format!("/a/{key}?{key}"), ""));
    // What else is in the path does not matter.
    let turn = std::cell::Cell::new(0);
    spread("param:id", &|gateway, key| {
        turn.set(turn.get() + 1);
        who(gateway, &format!("/items/{key}/{}", turn.get()), "")
    });
    spread("client_ip", &|gateway, key| {
        let source = Ipv4Addr::new(127, 0, 7, key as u8 + 1);
        Client::from_to(source.into(), gateway.addr()).get("/").expect(200).text()
    });
}

fn set_cookie(answer: &Response) -> Option<(String, String)> {
    let (pair, attributes) = answer.header("set-cookie")?.split_once(';')?;
    Some((pair.to_owned(), attributes.trim().to_owned()))
}

#[test]
fn a_sticky_cookie_keeps_a_client_and_moves_with_a_new_one_when_its_endpoint_is_gone() {
    let origins = origins(3);
    let rules = "sticky = { cookie = \"home\", ttl = \"1h\", path = \"/app\", secure = true, same_site = \"none\" }";
    let toml = |list: &str| cluster_all(&format!("{list}\n{rules}"));
    let mut gateway = Gateway::start(&toml(&list(&origins, &[])));
    let get = |gateway: &Gateway, cookie: &str| {
        let header = format!("Cookie: a=b; {cookie}; c=d\r\nConnection: close\r\n");
        gateway.client().request("GET", "/", &header, b"").expect(200)
    };
    let first = gateway.get("/").expect(200);
    let (pair, attributes) = set_cookie(&first).expect("a cookie");
    assert_eq!(attributes, "Path=/app; Max-Age=3600; Secure; HttpOnly; SameSite=None");
    assert!(pair.starts_with("home=") && !pair.contains("127."), "{pair}");
    for _ in 0..20 {
        let again = get(&gateway, &pair);
        assert_eq!((again.text(), set_cookie(&again)), (first.text(), None));
    }
    // A cookie that names nobody is replaced.
    assert!(set_cookie(&get(&gateway, "home=0123456789abcdef")).is_some());

    let lost: usize = first.text().parse().expect("a number");
    let left: Vec<String> = (0..3).filter(|&n| n != lost).map(|n| format!("\"{}\"", origins[n].endpoint())).collect();
    gateway.rewrite_and_reload(&toml(&format!("endpoints = [{}]", left.join(", "))));
    let moved = get(&gateway, &pair);
    let (new_pair, _) = set_cookie(&moved).expect("a new cookie");
    assert!(moved.text() != first.text() && new_pair != pair);
    for _ in 0..10 {
        let again = get(&gateway, &new_pair);
        assert_eq!((again.text(), set_cookie(&again)), (moved.text(), None));
    }
}

#[test]
fn a_sticky_client_of_a_dead_endpoint_is_served_by_another_and_told_so() {
    let (origin, port) = (Origin::saying("alive"), support::ports::Port::lease());
    let listener = std::net::TcpListener::bind(port.address()).expect("bind");
    let gateway = Gateway::with(&cluster_all(&format!(
        "endpoints = [\"{}\", \"{}\"]\nsticky.cookie = \"home\"\nretry_stale = false",
        origin.endpoint(),
        port.address()
    )))
    .shards(1)
    .start();
    let told = std::thread::spawn(move || {
        // Answers once, and then is gone.
        let (mut stream, _) = listener.accept().expect("a connection");
        drop(listener);
        std::io::Read::read(&mut stream, &mut [0; 4096]).expect("a request");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndead";
        std::io::Write::write_all(&mut stream, answer).expect("an answer");
    });
    let mut pair = String::new();
    wait_until("the mortal one answers", SOON, || {
        let answer = gateway.get("/").expect(200);
        pair = set_cookie(&answer).expect("a cookie").0;
        answer.text() == "dead"
    });
    told.join().expect("the mortal one");
    let answer = gateway.client().request("GET", "/", &format!("Cookie: {pair}\r\n"), b"").expect(200);
    assert_eq!(answer.text(), "alive");
    let (new_pair, _) = set_cookie(&answer).expect("a new cookie");
    assert_ne!(new_pair, pair);
}

#[test]
fn a_new_endpoint_starts_slowly() {
    for balance in ["round_robin", "least_request", "random_two", "ewma"] {
        let origins = origins(3);
        let rules = format!("balance = \"{balance}\"\nslow_start = {{ window = \"20s\", min_percent = 10 }}");
        let toml = |origins: &[Origin]| cluster_all(&format!("{}\n{rules}", list(origins, &[])));
        let mut gateway = Gateway::start(&toml(&origins[..2]));
        ask(&gateway, 40);
        gateway.rewrite_and_reload(&toml(&origins));
        ask(&gateway, 200);
        let its = origins[2].count();
        // A tenth and a bit of a third; a random share of it.
        assert!((1..=45).contains(&its), "{balance}: {its} of 200");
        if balance == "ewma" {
            continue; // goes by what the first answers took
        }
        // The first configuration of a cluster spares nobody.
        let gateway = Gateway::start(&toml(&origins));
        let before = origins[2].count();
        ask(&gateway, 150);
        assert!(origins[2].count() - before >= 25, "{balance}: {} of 150", origins[2].count() - before);
    }
}

/// Four primaries and two backups; those that are to fail say 500 until they are ejected.
struct Tiers {
    origins: Vec<Origin>,
    status: Vec<Arc<AtomicU16>>,
    gateway: Gateway,
}

impl Tiers {
    fn start(lines: &str) -> Tiers {
        let status: Vec<Arc<AtomicU16>> = (0..6).map(|_| Arc::new(AtomicU16::new(200))).collect();
        let origins: Vec<Origin> = status
            .iter()
            .map(|status| {
                let status = status.clone();
                Origin::start(move |x| x.reply(status.load(Ordering::Acquire), "", "x"))
            })
            .collect();
        let endpoints = list(&origins, &["", "", "", "", "backup = true", "backup = true"]).replace(",  }", " }");
        let rules = "retry.attempts_max = 1\n\
                     outlier = { consecutive_errors = 1, ejection = \"60s\", ejected_percent_max = 100 }";
        let gateway = Gateway::start(&cluster_all(&format!("{endpoints}\n{rules}\n{lines}")));
        Tiers { origins, status, gateway }
    }

    fn eject(&self, those: std::ops::Range<usize>) {
        for n in those {
            self.status[n].store(500, Ordering::Release);
            wait_until("it has failed", SOON, || self.gateway.get("/").status == 500);
            self.status[n].store(200, Ordering::Release);
        }
    }

    /// How many of `count` requests went to each.
    fn ask(&self, count: usize) -> Vec<usize> {
        let before = counts(&self.origins);
        ask(&self.gateway, count);
        std::iter::zip(counts(&self.origins), before).map(|(now, before)| now - before).collect()
    }
}

#[test]
fn backups_take_what_their_primaries_cannot() {
    let tiers = Tiers::start("");
    let all = tiers.ask(120);
    assert_eq!(all[4..], [0, 0], "{all:?}");
    // Three of four, times 140 %, is all of the load.
    tiers.eject(0..1);
    let all = tiers.ask(120);
    assert_eq!((all[0], all[4] + all[5]), (0, 0), "{all:?}");
    // Two of four, times 140 %: 70 %.
    tiers.eject(1..2);
    let all = tiers.ask(600);
    assert_eq!(all[..2], [0, 0]);
    assert_weighted("spill", &[all[2] + all[3], all[4] + all[5]], &[70, 30]);
    tiers.eject(2..4);
    let all = tiers.ask(120);
    assert_eq!((all[..4].iter().sum::<usize>(), all[4] + all[5]), (0, 120), "{all:?}");
}

#[test]
fn with_too_few_well_all_are_used() {
    let tiers = Tiers::start("panic_percent = 60");
    tiers.eject(0..2);
    let all = tiers.ask(120);
    assert_eq!(all[..2], [0, 0], "four of six are enough: {all:?}");
    tiers.eject(2..3);
    // Three of six are not: health counts no more, and the primaries take everything.
    let all = tiers.ask(400);
    assert!(all[..4].iter().all(|&count| count > 50) && all[4] + all[5] == 0, "{all:?}");
}
