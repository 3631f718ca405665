//! Plain HTTP sent to HTTPS, and browsers told to stay there.

mod support;

use support::{Client, Gateway, Origin};

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "[listeners.main]\npolicies = [\"https\"]\n
        [listeners.trusting]\npolicies = [\"https\"]\ntrusted_proxies = [\"127.0.0.0/8\"]\n
        [policies.https]\nfilters = [{{ https_redirect = {{ strict_transport_security = {{ max_age = \"365d\", \
        include_subdomains = true, preload = true }} }} }}]\n
        [clusters.app]\nendpoints = [\"{}\"]\n
        [[routes]]\nname = \"port\"\npath = \"/port\"\nwithout = [\"https\"]\nrespond = {{}}\n
        filters = [{{ https_redirect = {{ status = 301, port = 8443 }} }}]\n
        [[routes]]\nname = \"fails\"\npath = \"/fails\"\nrespond = {{}}\n
        filters = [{{ fault = {{ abort = {{ status = 503 }} }} }}]\n
        [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n",
        origin.endpoint()
    ))
}

const STRICT: &str = "max-age=31536000; includeSubDomains; preload";

#[test]
fn plain_http_is_redirected_to_the_same_url() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin);
    let location = |host: &str, target: &str, status: u16| {
        let mut client = Client::to(gateway.addr_of("main"));
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let got = client.response().expect(status);
        assert!(!got.has("strict-transport-security"), "not over plain HTTP: {:?}", got.headers);
        got.header("location").unwrap_or_default().to_owned()
    };
    assert_eq!(location("a.test", "/x/y%20z?q=1&r", 308), "https://a.test/x/y%20z?q=1&r");
    assert_eq!(location("a.test:8080", "/", 308), "https://a.test/");
    assert_eq!(location("[::1]:8080", "//evil.test/a", 308), "https://[::1]//evil.test/a");
    assert_eq!(location("a.test:80", "/port?", 301), "https://a.test:8443/port?");
    let mut client = Client::to(gateway.addr_of("main"));
    client.request("POST", "/a", "", b"body").expect(308);
    client.get("/b").expect(308);
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().expect(400).problem()["code"].as_str(), Some("bad_request"));
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_trusted_proxy_says_what_the_client_speaks() {
    let origin = Origin::start(|x| x.reply(200, "Strict-Transport-Security: max-age=1\r\n", "x"));
    let gateway = gateway(&origin);
    let asked =
        |listener: &str, path: &str, said: &str| Client::to(gateway.addr_of(listener)).request("GET", path, said, b"");
    let https = "X-Forwarded-Proto: https\r\n";
    let got = asked("trusting", "/", https).expect(200);
    assert_eq!(got.all("strict-transport-security"), [STRICT]);
    let got = asked("trusting", "/fails", https).expect(503);
    assert_eq!(got.all("strict-transport-security"), [STRICT], "on errors, too");
    asked("trusting", "/", "X-Forwarded-Proto: http\r\n").expect(308);
    asked("trusting", "/", "").expect(308);
    asked("trusting", "/", "X-Forwarded-Proto: https, http\r\n").expect(308);
    asked("trusting", "/", "X_Forwarded_Proto: https\r\n").expect(308);
    asked("main", "/", https).expect(308);
}
