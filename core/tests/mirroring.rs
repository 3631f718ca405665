//! Copies of requests for a second cluster: what it sees, and that nobody else notices.

mod support;

use std::time::Instant;

use support::client::request;
use support::{Gateway, Origin, ms};

/// The gateway's limit of copies under way on one core.
const OPEN_MAX: u64 = 128;

fn gateway(origin: &Origin, shadow: &Origin, mirror: &str) -> Gateway {
    Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n\n[clusters.shadow]\nendpoints = [\"{}\"]\nhost = \"shadow.test\"\n\n\
         [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\nmirror = {{ cluster = \"shadow\", {mirror} }}\n\
         filters = [{{ rewrite = {{ to = \"/v2{{path}}\" }} }}, {{ request_headers = {{ set = {{ x-set = \"1\" }} }} }}]\n",
        origin.endpoint(),
        shadow.endpoint()
    ))
}

fn wait_outcome(gateway: &Gateway, outcome: &str, wanted: u64) {
    let of = [("outcome", outcome)];
    gateway.wait_metrics(outcome, |all| all.count("ringway_core_mirrors_total", &of) == wanted);
}

#[test]
fn the_mirror_sees_what_the_origin_sees() {
    let origin = Origin::saying("real");
    let shadow = Origin::start(|x| {
        x.body()?;
        x.reply(500, "", "nobody sees this")
    });
    let gateway = gateway(&origin, &shadow, "percent = 100");
    let mut client = gateway.client();
    // One copy after the other, so that they have one connection.
    let wait_copies = |count| wait_outcome(&gateway, "answered", count);
    assert_eq!(client.get("/a?b=c").expect(200).text(), "real");
    wait_copies(1);
    client.request("POST", "/sized", "X-Own: 1\r\n", b"a sized body").expect(200);
    wait_copies(2);
    client.send(
        "PUT /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
    );
    client.response_to("PUT").expect(200);
    wait_copies(3);
    client.send("POST /empty HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    client.response_to("POST").expect(200);
    wait_copies(4);
    client.request("HEAD", "/head", "", b"").expect(200);
    wait_copies(5);
    let find = |origin: &Origin, target: &str| {
        let seen = origin.requests().into_iter().find(|seen| seen.target == target);
        seen.unwrap_or_else(|| panic!("{target} is not among {:?}", origin.targets()))
    };
    for target in ["/v2/a?b=c", "/v2/sized", "/v2/chunked", "/v2/empty", "/v2/head"] {
        let (real, copy) = (find(&origin, target), find(&shadow, target));
        assert_eq!((&real.method, real.header("x-set")), (&copy.method, copy.header("x-set")), "{target}");
        assert_eq!(real.body, copy.body, "{target}");
        assert_eq!(copy.header("host"), Some("shadow.test"));
        assert_eq!(real.header("x-request-id"), copy.header("x-request-id"));
    }
    assert_eq!(find(&shadow, "/v2/sized").header("x-own"), Some("1"));
    assert!(shadow.faults().is_empty() && shadow.connections() == 1, "{:?}", shadow.faults());
    assert_eq!(gateway.wait_log(5)[0].text("ringway.cluster"), "app");
}

#[test]
fn a_mirror_that_fails_or_hangs_is_not_noticed() {
    let origin = Origin::saying("real");
    let hung = Origin::start(|x| {
        x.await_gone(ms(5000));
        Ok(())
    });
    let gateway = gateway(&origin, &hung, "timeout = \"1500ms\"");
    let mut client = gateway.client();
    let began = Instant::now();
    for _ in 0..20 {
        client.request("POST", "/", "", b"body").expect(200);
    }
    assert!(began.elapsed() < ms(1400), "{:?}", began.elapsed());
    wait_outcome(&gateway, "failed", 20);
    hung.refuse(true);
    client.get("/").expect(200);
    wait_outcome(&gateway, "failed", 21);
    let metrics = gateway.wait_metrics("none is left", |all| all.sum("ringway_core_mirrors_open", &[]) == 0.0);
    assert_eq!(metrics.count("ringway_requests_total", &[("code", "200"), ("flag", "-")]), 21);
}

#[test]
fn a_body_that_is_too_large_to_hold_is_not_mirrored() {
    let (origin, shadow) = (Origin::saying("real"), Origin::saying("copy"));
    let gateway = gateway(&origin, &shadow, "percent = 100");
    let mut client = gateway.client();
    let large = vec![b'a'; 64 * 1024 + 1];
    client.request("POST", "/sized", "", &large).expect(200);
    let mut chunked = request("POST", "/chunked", "Transfer-Encoding: chunked\r\n", b"");
    let length = b"Content-Length: 0\r\n";
    if let Some(at) = chunked.windows(length.len()).position(|window| window == length) {
        chunked.drain(at..at + length.len());
    }
    for piece in large.chunks(1000) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    client.send(chunked).response_to("POST").expect(200);
    wait_outcome(&gateway, "body_not_held", 2);
    client.request("POST", "/most", "", &large[1..]).expect(200);
    wait_outcome(&gateway, "answered", 1);
    assert_eq!(shadow.targets(), ["/v2/most"]);
    assert_eq!(origin.count(), 3);
}

#[test]
fn copies_under_way_are_bounded() {
    let origin = Origin::unrecorded("real");
    let hung = Origin::start(|x| {
        x.await_gone(ms(20_000));
        Ok(())
    });
    let gateway = gateway(&origin, &hung, "timeout = \"20s\"");
    let mut client = gateway.client();
    for _ in 0..OPEN_MAX + 50 {
        client.get("/").expect(200);
    }
    wait_outcome(&gateway, "dropped", 50);
    assert_eq!(gateway.metrics().sum("ringway_core_mirrors_open", &[]), OPEN_MAX as f64);
}

#[test]
fn a_share_of_the_requests_is_mirrored() {
    let (origin, shadow) = (Origin::unrecorded("real"), Origin::unrecorded("copy"));
    let gateway = gateway(&origin, &shadow, "percent = \"25%\"");
    let mut client = gateway.client();
    for _ in 0..1000 {
        client.get("/").expect(200);
    }
    let all = gateway.wait_metrics("none is left", |all| all.sum("ringway_core_mirrors_open", &[]) == 0.0);
    let mirrored = all.count("ringway_core_mirrors_total", &[]);
    // Five standard deviations of 250 are 68.
    assert!((182..=318).contains(&mirrored), "{mirrored} of 1000");
}
