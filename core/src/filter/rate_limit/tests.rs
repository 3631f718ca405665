//! Rules that are asked by requests nobody sent: by who sends them, and with what they cost.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use ringway_config::{Source, load};
use ringway_proto::{NormalPath, RequestHead};

use super::super::{FilterState, Matched, build};
use super::*;
use crate::exchange::{HeaderEdits, HeldList, Identity, Rewritten};
use crate::mesh::{Calls, Workers};
use crate::net::{EngineKind, Net, NetLimits};
use crate::route::{Captures, FieldSource, RouteTable};

struct NoFields;

impl FieldSource for NoFields {
    fn any(&self, _name: &str, _test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn client_ip(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
}

/// Which of these requests pass, at one moment of the clock in seconds.
fn passed(filter: &str, requests: &[(Option<Identity>, u64)]) -> Vec<bool> {
    let text = format!(
        "[listeners.a]\nbind = \":1\"\n[[routes]]\nname = \"r\"\npath = \"/\"\nfilters = [{{ {filter} }}]\nrespond = {{}}\n"
    );
    let loaded = load(&Source { name: "t".into(), text }).unwrap_or_else(|errors| panic!("{errors}"));
    let mut building = Building::new(&loaded.snapshot, Default::default(), 2);
    let built = build(&loaded.snapshot.routes[0].filters[0], &mut building).unwrap_or_else(|fault| panic!("{fault}"));
    let state = FilterState::new(&building.finish().numbers, 0, 0, &Rc::from([]), None);
    let table = RouteTable::build(&loaded.snapshot).unwrap();
    let net = Net::new(EngineKind::Epoll, &NetLimits { ring_entries: 8, buffer_bytes: 4096, buffers_max: 1 }).unwrap();
    let calls = Calls::new(Workers::start(1, 1).unwrap().0, Arc::new(|_| {}));
    let mut answers = Vec::new();
    for (identity, unix_s) in requests {
        let mut identity = identity.as_ref().map(|who| {
            let Identity { consumer, claims, .. } = who;
            Rc::new(Identity { consumer: consumer.clone(), claims: claims.clone(), ..Identity::default() })
        });
        let mut edit = RequestEdit {
            headers: &mut HeaderEdits::default(),
            answer: &mut HeaderEdits::default(),
            request: &RequestHead::new(),
            bytes: b"",
            body: None,
            new_body: None,
            path: b"/",
            normal: &NormalPath::new(),
            stripped: 0,
            query: None,
            fields: &NoFields,
            rewritten: &mut Rewritten::default(),
            matched: Matched { table: &table, route: 0, captures: &Captures::default() },
            identity: &mut identity,
            ends_unix_s: &mut None,
            nonce: &mut None,
            held: &mut HeldList::new(),
            state: &state,
            net: &net,
            calls: &calls,
            unix_s: &|| *unix_s,
        };
        answers.push(matches!(built.on_request(&mut edit), Verdict::Pass));
    }
    answers
}

fn consumer(name: &str) -> (Option<Identity>, u64) {
    (Some(Identity { consumer: Some(name.into()), ..Identity::default() }), 0)
}

#[test]
fn consumers_have_budgets_of_their_own_and_the_others_one_together() {
    let requests = [consumer("a"), consumer("b"), (None, 0), consumer("a"), (None, 0), consumer("c")];
    let rule = "rate_limit = { rate = \"1/h\", burst = 1, key = \"consumer\" }";
    assert_eq!(passed(rule, &requests), [true, true, true, false, false, true]);
}

#[test]
fn a_claim_is_a_key_whatever_its_kind() {
    let claims = |text: &str| {
        let claims = serde_json::from_str(text).unwrap();
        (Some(Identity { claims, ..Identity::default() }), 0)
    };
    let of = [r#"{"t":{"id":1}}"#, r#"{"t":{"id":"x"}}"#, r#"{"t":{"id":1}}"#, r#"{"t":null}"#, "{}"];
    let rule = "rate_limit = { rate = \"1/h\", burst = 1, key = \"claim:t.id\" }";
    assert_eq!(passed(rule, &of.map(claims)), [true, true, false, true, false]);
}

#[test]
fn a_cost_is_met_as_a_whole_or_not_at_all() {
    let requests = [(); 5].map(|()| (None, 0));
    let rule = "rate_limit = { rate = \"1/h\", burst = 7, cost = 3 }";
    assert_eq!(passed(rule, &requests), [true, true, false, false, false]);
    let both = "rate_limit = [{ rate = \"1/h\", burst = 7, cost = 3 }, { name = \"one\", rate = \"1/h\", burst = 9 }]";
    assert_eq!(passed(both, &requests), [true, true, false, false, false]);
}

#[test]
fn a_quota_begins_anew_with_the_month() {
    let at = |unix_s: u64| (None, unix_s);
    // 2024-02-29T23:59:59Z, and the second after it.
    let requests = [at(1_709_251_199), at(1_709_251_200), at(1_709_251_201)];
    let rule = "quota = { limit = 1, per = \"month\", key = \"global\" }";
    assert_eq!(passed(rule, &requests), [true, true, false]);
    let back = [at(1_709_251_200), at(1_709_251_199 - 40 * 86_400), at(1_709_251_199 - 40 * 86_400)];
    assert_eq!(passed(rule, &back), [true, true, false], "a clock that is set back locks nobody out");
}

#[test]
fn what_a_core_has_borrowed_comes_back_with_its_tick() {
    const BURST: usize = 400;
    let text = "[listeners.a]\nbind = \":1\"\n[[routes]]\nname = \"r\"\nrespond = {}\n\
                filters = [{ rate_limit = { rate = \"1000/s\", burst = 400 } }]\n";
    let loaded = load(&Source { name: "t".into(), text: text.into() }).unwrap_or_else(|errors| panic!("{errors}"));
    let mut building = Building::new(&loaded.snapshot, Default::default(), 2);
    let _filter = build(&loaded.snapshot.routes[0].filters[0], &mut building).unwrap_or_else(|fault| panic!("{fault}"));
    let numbers = building.finish().numbers;
    let cores = [0, 1].map(|core| FilterState::new(&numbers, 0, core, &Rc::from([]), None));
    let now = |us: u64| Moment { ns: NS + us * 1000, unix_s: 0 };
    let taken = |core: &FilterState, count: usize, now: &Moment| {
        (0..count).filter(|_| core.limit(0).take(7, now, NonZeroU64::MIN).is_ok()).count()
    };
    assert_eq!(taken(&cores[0], 2, &now(0)), 2);
    let others = taken(&cores[1], BURST, &now(0));
    assert!((BURST - 4..BURST - 2).contains(&others), "{others}: the first core holds one or two");
    assert_eq!(taken(&cores[1], 9, &now(0)), 0);
    cores[0].lend(&now(1));
    assert_eq!(taken(&cores[1], 9, &now(100)), 0, "its time is not over");
    // In six milliseconds six are refilled, and what was borrowed is back.
    cores[0].lend(&now(6_000));
    assert_eq!(taken(&cores[1], 20, &now(6_000)), BURST - 2 - others + 6);
}

#[test]
fn names_tell_the_place_by_names() {
    let text = "[listeners.a]\nbind = \":1\"\n[policies.edge]\nfilters = [{ rate_limit = { rate = \"1/s\" } }]\n\
                [[routes]]\nname = \"first\"\nrespond = {}\n[[routes]]\nname = \"users\"\npath = \"/u\"\nrespond = {}\n";
    let loaded = load(&Source { name: "t".into(), text: text.into() }).unwrap_or_else(|errors| panic!("{errors}"));
    let building = Building::new(&loaded.snapshot, Default::default(), 1);
    let name = |place: &str| building.limit_name(None, place);
    assert_eq!(name("routes[1].filters[2].rate_limit"), "route/users/2");
    assert_eq!(name("routes[1].filters[2].rate_limit[1]"), "route/users/2/1");
    assert_eq!(name("policies.edge.filters[0].quota"), "policy/edge/0");
    assert_eq!(building.limit_name(Some("own"), "routes[1].filters[2].rate_limit"), "own");
}
