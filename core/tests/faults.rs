//! Faults made on purpose: requests that fail or wait although nothing is wrong.

mod support;

use std::time::Instant;

use support::{Gateway, Origin, ms};

const SHARES_OF: usize = 2000;

fn gateway(origin: &Origin, fault: &str) -> Gateway {
    Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n\n[[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n\
         filters = [{{ request_headers = {{ set = {{ x-outer = \"1\" }} }} }}, \
         {{ response_headers = {{ set = {{ x-seen = \"1\" }} }} }}, {{ fault = {{ {fault} }} }}]\n",
        origin.endpoint()
    ))
}

#[test]
fn a_share_of_the_requests_fails() {
    let origin = Origin::unrecorded("x");
    let gateway = gateway(&origin, "abort = { status = 503, percent = 30 }");
    let failed = std::thread::scope(|scope| {
        let ask = || {
            let mut client = gateway.client();
            (0..SHARES_OF / 4).filter(|_| client.get("/").status == 503).count()
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().expect("no client fails")).sum::<usize>()
    });
    // Five standard deviations of 600 are 102.
    assert!((500..=700).contains(&failed), "{failed} of {SHARES_OF}");
    let flagged = [("flag", "FI"), ("code", "503"), ("source", "gateway")];
    gateway.wait_metrics("each is counted", |all| all.count("ringway_requests_total", &flagged) == failed as u64);
}

#[test]
fn an_aborted_request_does_not_reach_its_origin() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "abort = { status = 418 }");
    let mut client = gateway.client();
    let got = client.request("POST", "/a", "", b"body").expect(418);
    assert_eq!((got.problem()["code"].as_str(), got.header("x-seen")), (Some("fault_abort"), Some("1")));
    client.get("/b").expect(418);
    assert_eq!(origin.count(), 0);
    let line = &gateway.wait_log(1)[0];
    assert!(line.has_flag("FI") && line.status() == 418, "{line:?}");
}

#[test]
fn a_delayed_request_is_answered_later() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "delay = { time = \"300ms\" }");
    let began = Instant::now();
    gateway.get("/").expect(200);
    // A core dates a wait from the beginning of its turn, which is a little earlier.
    assert!(began.elapsed() >= ms(270), "{:?}", began.elapsed());
    assert_eq!(origin.request().header("x-outer"), Some("1"), "what filters did before is still there");
    let line = &gateway.wait_log(1)[0];
    assert!(line.has_flag("DI") && line.status() == 200, "{line:?}");
    assert!(
        line.field("ringway.overhead_us").as_u64().is_some_and(|us| us < 200_000),
        "held is not overhead: {line:?}"
    );
}

#[test]
fn a_delayed_request_may_still_fail() {
    let origin = Origin::saying("x");
    let both = gateway(&origin, "delay = { time = \"200ms\" }, abort = { status = 500 }");
    let began = Instant::now();
    both.get("/").expect(500);
    assert!(began.elapsed() >= ms(180));
    assert!(both.wait_log(1)[0].has_flag("FI"));
    let held = gateway(&origin, "delay = { time = \"200ms\" }");
    origin.refuse(true);
    let status = held.get("/").status;
    let line = &held.wait_log(1)[0];
    assert!(status == 502 && !line.has_flag("DI"), "what really went wrong is said: {status} {line:?}");
}

#[test]
fn a_header_asks_for_it() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "abort = { status = 503 }, header = \"X-Fault\"");
    let mut client = gateway.client();
    client.get("/").expect(200);
    client.request("GET", "/", "x-fault:\r\n", b"").expect(503);
}

#[test]
fn a_client_that_goes_while_it_is_held_is_let_go() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "delay = { time = \"10m\" }");
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    gateway.wait_metrics("it is being served", |all| all.sum("ringway_core_requests_open", &[]) == 1.0);
    client.reset();
    let line = &gateway.wait_log(1)[0];
    assert!(line.has_flag("DC"), "{line:?}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn what_stands_inside_of_it_is_not_asked() {
    let gateway = Gateway::start(
        "[policies.fail]\nfilters = [{ fault = { abort = { status = 503 } } }]\n
         [policies.inner]\nfilters = [{ response_headers = { set = { x-inner = \"1\" } } }]\n
         [listeners.main]\npolicies = [\"fail\"]\n
         [[routes]]\nname = \"r\"\npolicies = [\"inner\"]\nrespond = {}\n",
    );
    let got = gateway.get("/").expect(503);
    assert!(!got.has("x-inner"), "{:?}", got.headers);
}
