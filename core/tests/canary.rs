//! Splits of a route: 95 to 5 over all cores, by header, by cookie, by the key of a user that stays where it is.

mod support;

use std::collections::BTreeMap;

use support::client::request;
use support::{Client, Gateway, Origin, ringway};

fn site(v1: &Origin, v2: &Origin, arms: &str, lines: &str) -> String {
    format!(
        "[clusters.v1]\nendpoints = [\"{}\"]\n[clusters.v2]\nendpoints = [\"{}\"]\n\
         [[routes]]\nname = \"all\"\nsplit = [{arms}]\n{lines}\n",
        v1.endpoint(),
        v2.endpoint()
    )
}

const FIVE: &str = "{ cluster = \"v1\", weight = 95 }, { cluster = \"v2\", weight = 5 }";
const TEN: &str = "{ cluster = \"v1\", weight = 90 }, { cluster = \"v2\", weight = 10 }";

fn origins() -> (Origin, Origin) {
    (Origin::saying("v1"), Origin::saying("v2"))
}

fn asked(client: &mut Client, header: &str) -> String {
    client.send(request("GET", "/", header, b"")).response().expect(200).text()
}

#[test]
fn five_percent_are_five_percent_whatever_the_number_of_cores() {
    for shards in [1, 2, 4, 7] {
        let (v1, v2) = origins();
        let gateway = Gateway::with(&site(&v1, &v2, FIVE, "")).shards(shards).start();
        let clients: Vec<_> = (0..40)
            .map(|_| {
                let mut client = gateway.client();
                std::thread::spawn(move || (0..50).for_each(|_| drop(client.get("/").expect(200))))
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("a client"));
        let (stable, canary) = (v1.count(), v2.count());
        assert_eq!(stable + canary, 2000);
        // Each core keeps to the weights by itself, up to one request in a hundred.
        assert!((90..=110).contains(&canary), "{shards} shards: {canary} of 2000");
        gateway.wait_metrics("both arms' counts", |m| {
            let of = |cluster| m.count("ringway_upstream_requests_total", &[("cluster", cluster)]) as usize;
            (of("v1"), of("v2")) == (stable, canary)
        });
    }
}

#[test]
fn a_header_or_a_cookie_pins_a_request_to_an_arm() {
    let (v1, v2) = origins();
    let arms = "{ cluster = \"v1\", weight = 100 }, \
        { cluster = \"v2\", when = 'header.x-canary == \"on\" or cookie.beta' }";
    let gateway = Gateway::start(&site(&v1, &v2, arms, ""));
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(asked(&mut client, ""), "v1");
        assert_eq!(asked(&mut client, "X-Canary: on\r\n"), "v2");
        assert_eq!(asked(&mut client, "X-Canary: off\r\n"), "v1");
        assert_eq!(asked(&mut client, "Cookie: a=1; beta=1\r\n"), "v2");
    }
}

/// Which arm each user gets, everybody asked on a connection of their own.
fn arms_of_users(gateway: &Gateway, users: usize) -> BTreeMap<usize, String> {
    let arm = |user: &usize| {
        let header = format!("X-User: user-{user}\r\nConnection: close\r\n");
        gateway.client().request("GET", "/", &header, b"").expect(200).text()
    };
    (0..users).map(|user| (user, arm(&user))).collect()
}

#[test]
fn a_user_stays_with_an_arm_over_cores_and_reloads_and_moves_only_when_a_weight_does() {
    let (v1, v2) = origins();
    let on = "split_on = \"header:x-user\"";
    let mut gateway = Gateway::start(&site(&v1, &v2, FIVE, on));
    let first = arms_of_users(&gateway, 400);
    assert_eq!(arms_of_users(&gateway, 400), first, "on other connections, so on other cores");
    let canary = |arms: &BTreeMap<usize, String>| arms.values().filter(|arm| *arm == "v2").count();
    assert!((6..=40).contains(&canary(&first)), "5 % of 400 are about 20, not {}", canary(&first));
    gateway.rewrite_and_reload(&site(&v1, &v2, FIVE, &format!("{on}\npriority = 1")));
    assert_eq!(arms_of_users(&gateway, 400), first, "after a reload");
    gateway.rewrite_and_reload(&site(&v1, &v2, TEN, on));
    let grown = arms_of_users(&gateway, 400);
    assert!(canary(&grown) > canary(&first));
    assert!(first.iter().all(|(user, arm)| arm == "v1" || grown[user] == "v2"), "who is in stays in");
    let other = Gateway::start(&site(&v1, &v2, TEN, on));
    assert_eq!(arms_of_users(&other, 400), grown, "every gateway of a fleet agrees");
}

#[test]
fn who_has_no_key_is_spread() {
    let (v1, v2) = origins();
    let arms = "{ cluster = \"v1\", weight = 1 }, { cluster = \"v2\", weight = 1 }";
    let gateway = Gateway::start(&site(&v1, &v2, arms, "split_on = \"cookie:uid\""));
    let mut client = gateway.client();
    (0..40).for_each(|_| drop(client.get("/").expect(200)));
    assert!((15..=25).contains(&v2.count()), "{}", v2.count());
    let mut arms: Vec<String> = (0..40).map(|_| asked(&mut client, "Cookie: uid=7\r\n")).collect();
    arms.dedup();
    assert_eq!(arms.len(), 1, "{arms:?}");
}

#[test]
fn explain_shows_the_arms() {
    let (v1, v2) = origins();
    let arms = "{ cluster = \"v1\", weight = 95 }, { cluster = \"v2\", weight = 5, when = 'cookie.beta' }";
    let gateway = Gateway::start(&site(&v1, &v2, arms, "split_on = \"client_ip\""));
    let said = ringway(["explain", "GET", "/x", "-c", gateway.config.to_str().expect("a plain path")]).expect(0).out;
    for wanted in ["split    by client_ip", "arm      v1, weight 95", "arm      v2, weight 5, always if cookie.beta"] {
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn the_log_names_the_arm_that_served() {
    let (v1, v2) = origins();
    let gateway =
        Gateway::start(&site(&v1, &v2, "{ cluster = \"v1\", weight = 1 }, { cluster = \"v2\", when = 'query.b' }", ""));
    gateway.get("/?b=1").expect(200);
    let line = gateway.wait_log(1).remove(0);
    assert_eq!((line.text("ringway.cluster"), line.text("ringway.endpoint")), ("v2".to_owned(), v2.endpoint()));
}
