//! CORS: what a browser would be told, on answers, on errors and on preflights.

mod support;

use support::{Gateway, Origin, Response};

const APP: &str = "Origin: https://app.test\r\n";
const EVIL: &str = "Origin: https://evil.test\r\n";
/// Fields of CORS that an origin server says itself.
const THEIRS: &str = "Access-Control-Allow-Origin: https://evil.test\r\naccess-control-allow-methods: BREW\r\n\
    ACCESS-CONTROL-ALLOW-CREDENTIALS: true\r\nVary: Accept-Language\r\n";

const CORS: &str = "{ cors = { allow_origins = [\"https://app.test\", \"https://*.app.test\"], credentials = true, \
    methods = [\"GET\", \"PUT\"], headers = [\"x-a\", \"authorization\"], expose_headers = [\"x-total\"], \
    max_age = \"10m\", private_network = true } }";

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n
        [policies.open]\nfilters = [{{ cors = {{ allow_origins = [\"*\"], headers = [\"*\"] }} }}]\n
        [[routes]]\nname = \"api\"\npath = \"/api\"\nmethods = [\"GET\", \"PUT\"]\ncluster = \"app\"\nbody_bytes_max = 10\n
        filters = [{CORS}, {{ fault = {{ abort = {{ status = 429 }}, header = \"x-fail\" }} }}]\n
        [[routes]]\nname = \"open\"\npath = \"/open\"\nmethods = [\"GET\"]\npolicies = [\"open\"]\ncluster = \"app\"\n
        [[routes]]\nname = \"regex\"\npath = \"/regex\"\ncluster = \"app\"\n
        filters = [{{ cors = {{ allow_origin_regex = ['^https://[a-c]\\.test$'] }} }}]\n
        [[routes]]\nname = \"plain\"\npath = \"/plain\"\nmethods = [\"GET\"]\ncluster = \"app\"\n
        [[routes]]\nname = \"rest\"\npath_prefix = \"/rest\"\nmethods = [\"GET\", \"OPTIONS\"]\ncluster = \"app\"\n",
        origin.endpoint()
    ))
}

fn origin() -> Origin {
    Origin::start(|x| x.reply(200, THEIRS, "x"))
}

fn preflight(gateway: &Gateway, path: &str, origin: &str, method: &str, more: &str) -> Response {
    let extra = format!("{origin}Access-Control-Request-Method: {method}\r\n{more}");
    gateway.client().request("OPTIONS", path, &extra, b"")
}

/// What an answer says of CORS, without `access-control-`, sorted.
fn said(answer: &Response) -> Vec<String> {
    let ours = answer.headers.iter().filter_map(|(name, value)| {
        Some(format!("{}: {value}", name.to_ascii_lowercase().strip_prefix("access-control-")?))
    });
    let mut said: Vec<String> = ours.collect();
    said.sort();
    said
}

fn varies(answer: &Response) -> String {
    answer.all("vary").join(", ")
}

#[test]
fn a_page_of_an_allowed_origin_may_read_the_answer() {
    let (origin, wanted) =
        (origin(), ["allow-credentials: true", "allow-origin: https://app.test", "expose-headers: x-total"]);
    let gateway = gateway(&origin);
    let got = gateway.client().request("GET", "/api", APP, b"").expect(200);
    assert_eq!(said(&got), wanted, "and nothing of what the origin server said");
    assert_eq!(varies(&got), "Accept-Language, Origin");
    let got = gateway.client().request("GET", "/api", "Origin: https://b.c.app.test\r\n", b"").expect(200);
    assert!(said(&got).contains(&"allow-origin: https://b.c.app.test".to_owned()), "{:?}", got.headers);
    assert_eq!(origin.last().header("origin"), Some("https://b.c.app.test"), "the origin server sees who asks");
}

#[test]
fn an_origin_that_is_not_allowed_passes_and_is_told_nothing() {
    let origin = origin();
    let gateway = gateway(&origin);
    for extra in [EVIL, "", "Origin: null\r\n", "Origin: https://app.test\r\nOrigin: https://app.test\r\n"] {
        let got = gateway.client().request("GET", "/api", extra, b"").expect(200);
        assert_eq!((said(&got), varies(&got).as_str()), (vec![], "Accept-Language, Origin"), "{extra}");
    }
    assert_eq!(origin.count(), 4);
    let got = preflight(&gateway, "/api", EVIL, "PUT", "").expect(204);
    assert!(said(&got).is_empty() && varies(&got).starts_with("Origin, Access-Control-Request-Method"), "{got:?}");
    assert_eq!(origin.count(), 4, "a preflight goes no further");
}

#[test]
fn a_preflight_reaches_the_route_of_the_method_it_asks_about() {
    let origin = origin();
    let gateway = gateway(&origin);
    let more = "Access-Control-Request-Headers: x-a\r\nAccess-Control-Request-Private-Network: true\r\n";
    let got = preflight(&gateway, "/api", APP, "PUT", more).expect(204);
    let wanted = [
        "allow-credentials: true",
        "allow-headers: x-a, authorization",
        "allow-methods: GET, PUT",
        "allow-origin: https://app.test",
        "allow-private-network: true",
        "max-age: 600",
    ];
    assert_eq!(said(&got), wanted);
    assert_eq!(
        varies(&got),
        "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
    );
    assert!(!got.has("content-length") && got.body.is_empty());
    let got = preflight(&gateway, "/open", EVIL, "GET", "Access-Control-Request-Headers: X-B, authorization\r\n");
    let wanted = ["allow-headers: X-B, authorization", "allow-methods: GET", "allow-origin: *"];
    assert_eq!(said(&got.expect(204)), wanted, "what may be used is said back");
    assert_eq!(origin.count(), 0);
    assert_eq!(gateway.wait_log(1)[0].field("http.request.method").as_str(), Some("OPTIONS"));
}

#[test]
fn preflights_open_nothing_else() {
    let origin = origin();
    let gateway = gateway(&origin);
    preflight(&gateway, "/api", APP, "DELETE", "").expect(405);
    preflight(&gateway, "/plain", APP, "GET", "").expect(405);
    preflight(&gateway, "/nowhere", APP, "GET", "").expect(404);
    gateway.client().request("OPTIONS", "/api", APP, b"").expect(405);
    let no_origin = "Access-Control-Request-Method: PUT\r\n";
    gateway.client().request("OPTIONS", "/api", no_origin, b"").expect(405);
    assert_eq!(origin.count(), 0);
    preflight(&gateway, "/rest", APP, "GET", "").expect(200);
    assert_eq!(origin.count(), 1, "without the filter it is a request like any other");
}

#[test]
fn errors_can_be_read_too() {
    let origin = origin();
    let gateway = gateway(&origin);
    let may_read =
        |got: Response| assert!(said(&got).contains(&"allow-origin: https://app.test".to_owned()), "{got:?}");
    may_read(gateway.client().request("GET", "/api", &format!("{APP}x-fail: 1\r\n"), b"").expect(429));
    may_read(gateway.client().request("PUT", "/api", APP, &[0; 11]).expect(413));
    origin.refuse(true);
    may_read(gateway.client().request("PUT", "/api", APP, b"").expect(502));
}

#[test]
fn everybody_is_told_the_same_so_that_answers_can_be_kept() {
    let origin = origin();
    let gateway = gateway(&origin);
    for extra in [EVIL, ""] {
        let got = gateway.client().request("GET", "/open", extra, b"").expect(200);
        assert_eq!((said(&got), varies(&got)), (vec!["allow-origin: *".to_owned()], "Accept-Language".to_owned()));
    }
}

#[test]
fn a_regular_expression_names_whole_origins() {
    let origin = origin();
    let gateway = gateway(&origin);
    let allowed = |from: &str| {
        let got = gateway.client().request("GET", "/regex", &format!("Origin: {from}\r\n"), b"").expect(200);
        got.has("access-control-allow-origin")
    };
    assert!(allowed("https://b.test"));
    for from in ["https://d.test", "https://b.test.evil", "xhttps://b.test", "https://bxtest"] {
        assert!(!allowed(from), "{from}");
    }
}
