//! Tokens whose server is asked: which are taken, for how long, and what becomes of requests while it does not answer.

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::cli::ringway;
use support::tokens::unix_s;
use support::{Gateway, Origin, Response, ms, wait_until};

/// A server of tokens, which says what the test has told it.
struct TokenServer {
    origin: Origin,
    says: Arc<Mutex<Says>>,
}

#[derive(Default)]
struct Says {
    tokens: HashMap<String, Value>,
    /// In the place of all else: status, further lines, body.
    instead: Option<(u16, String, String)>,
    after: Duration,
}

impl TokenServer {
    fn new() -> TokenServer {
        let says = Arc::new(Mutex::new(Says::default()));
        let told = says.clone();
        let origin = Origin::start(move |x| {
            let form = String::from_utf8(x.body()?).expect("a form");
            let token = form.split('&').find_map(|pair| pair.strip_prefix("token=")).unwrap_or_default().to_owned();
            let (answer, after) = {
                let says = told.lock().unwrap();
                let inactive = json!({"active": false});
                let plain = says.tokens.get(&token).unwrap_or(&inactive).to_string();
                (says.instead.clone().unwrap_or((200, String::new(), plain)), says.after)
            };
            x.wait(after);
            x.reply(answer.0, &format!("Content-Type: application/json\r\n{}", answer.1), answer.2)
        });
        TokenServer { origin, says }
    }

    fn knows(&self, token: &str, claims: Value) -> &TokenServer {
        let mut all = json!({"active": true, "sub": "alice", "exp": unix_s() + 300});
        claims.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
        self.says.lock().unwrap().tokens.insert(token.to_owned(), all);
        self
    }

    fn forgets(&self, token: &str) {
        self.says.lock().unwrap().tokens.remove(token);
    }

    fn says_instead(&self, status: u16, extra: &str, body: impl Into<String>) {
        self.says.lock().unwrap().instead = Some((status, extra.to_owned(), body.into()));
    }

    fn waits(&self, after: Duration) {
        self.says.lock().unwrap().after = after;
    }

    fn url(&self) -> String {
        format!("http://{}/introspect", self.origin.address())
    }
}

fn document(origin: &Origin, url: &str, keys: &str) -> String {
    format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"open\"\npath = \"/open\"\ncluster = \"app\"\n\
         [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n\
         filters = [{{ introspect = {{ url = \"{url}\", insecure = true{keys} }} }}]\n",
        origin.endpoint()
    )
}

fn gateway(origin: &Origin, server: &TokenServer, keys: &str) -> Gateway {
    Gateway::with(&document(origin, &server.url(), keys)).shards(1).start()
}

fn ask(gateway: &Gateway, token: &str) -> Response {
    gateway.client().request("GET", "/", &format!("Authorization: Bearer {token}\r\n"), b"")
}

fn refused(gateway: &Gateway, token: &str, why: &str) {
    let answer = ask(gateway, token).expect(401);
    assert_eq!(answer.problem()["code"], "invalid_token", "{token}");
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains(why), "{challenge} for {token}");
}

#[test]
fn a_server_says_who_brings_a_token() {
    let (origin, server) = (Origin::saying("x"), TokenServer::new());
    server.knows("one", json!({"sub": "alice", "realm": {"roles": ["admin"]}, "name": "Zoë\r\nX: 1"}));
    let keys = ", client_id = \"the gateway\", client_secret = \"text:s:e&c\", roles = [\"realm.roles\"], \
        headers = { x-user = \"sub\", x-name = \"name\" } } }, { rbac = { roles = [\"admin\"]";
    let gateway = gateway(&origin, &server, keys);
    let spoofed = "X-User: root\r\nx_name: root\r\n";
    gateway.client().request("GET", "/", &format!("{spoofed}Authorization: Bearer one\r\n"), b"").expect(200);
    let seen = origin.last();
    assert_eq!((seen.header("x-user"), seen.header("x_name")), (Some("alice"), None));
    assert_eq!(seen.header("x-name"), Some("Zo%C3%AB%0D%0AX: 1"));
    gateway.client().request("GET", "/open", spoofed, b"").expect(200);
    assert_eq!((origin.last().header("x-user"), origin.last().header("x_name")), (None, None));
    let asked = server.origin.last();
    assert_eq!(
        (&*asked.method, &*asked.target, &*asked.text()),
        ("POST", "/introspect", "token=one&token_type_hint=access_token")
    );
    // the%20gateway:s%3Ae%26c
    assert_eq!(asked.header("authorization"), Some("Basic dGhlJTIwZ2F0ZXdheTpzJTNBZSUyNmM="));
    assert_eq!(asked.header("accept"), Some("application/json"));
    let answer = gateway.get("/").expect(401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"ringway\""));
    refused(&gateway, "two", "not active");
    assert_eq!((origin.count(), server.origin.count()), (2, 2));
    assert!(gateway.wait_log(4).iter().any(|line| line.field("user.name").as_str() == Some("alice")));
}

#[test]
fn what_a_server_says_is_judged_on_every_request() {
    let (origin, server) = (Origin::saying("x"), TokenServer::new());
    let keys = ", issuer = \"https://id.test\", audiences = [\"api\"], clients = [\"web\", \"app\"], leeway = \"0s\", \
        claims = { tenant = \"a\" }, require = [\"sub\"], cache = \"1h\", failures = { max = 1000 }";
    let gateway = gateway(&origin, &server, keys);
    let with = |token: &str, others: Value| {
        let mut all = json!({"iss": "https://id.test", "aud": ["x", "api"], "client_id": "app", "tenant": "a"});
        others.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
        server.knows(token, all);
    };
    with("good", json!({"token_type": "bearer", "exp": null}));
    // A date that is there has to be one.
    refused(&gateway, "good", "lacks a claim");
    with("fine", json!({"token_type": "Bearer"}));
    ask(&gateway, "fine").expect(200);
    for (number, (others, why)) in [
        (json!({"iss": "https://evil.test"}), "issuer"),
        (json!({"iss": null}), "lacks a claim"),
        (json!({"aud": "other"}), "somebody else"),
        (json!({"aud": []}), "lacks a claim"),
        (json!({"client_id": "other"}), "asked for"),
        (json!({"client_id": null}), "asked for"),
        (json!({"tenant": "b"}), "asked for"),
        (json!({"sub": null}), "lacks a claim"),
        (json!({"exp": unix_s() - 1}), "expired"),
        (json!({"nbf": unix_s() + 60}), "not valid yet"),
        (json!({"token_type": "DPoP"}), "asked for"),
        (json!({"token_type": 1}), "asked for"),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("odd{number}");
        with(&token, others);
        refused(&gateway, &token, why);
    }
    // One that is remembered ends all the same.
    with("short", json!({"exp": unix_s() + 2}));
    ask(&gateway, "short").expect(200);
    let asked = server.origin.count();
    wait_until("it has expired", Duration::from_secs(10), || ask(&gateway, "short").status == 401);
    refused(&gateway, "short", "expired");
    assert_eq!(server.origin.count(), asked);
}

#[test]
fn answers_are_remembered_for_their_time() {
    let (origin, server) = (Origin::saying("x"), TokenServer::new());
    server.knows("one", json!({}));
    let gateway = gateway(&origin, &server, ", cache = \"2s\", cache_negative = \"1s\", failures = { max = 1000000 }");
    for _ in 0..10 {
        ask(&gateway, "one").expect(200);
        refused(&gateway, "two", "not active");
    }
    assert_eq!(server.origin.count(), 2);
    server.forgets("one");
    server.knows("two", json!({}));
    wait_until("a refusal is forgotten", Duration::from_secs(5), || ask(&gateway, "two").status == 200);
    wait_until("a revocation is noticed", Duration::from_secs(5), || ask(&gateway, "one").status == 401);
    assert_eq!(server.origin.count(), 4);
}

#[test]
fn a_change_of_the_configuration_asks_anew() {
    let (origin, server) = (Origin::saying("x"), TokenServer::new());
    server.knows("one", json!({"role": "a", "other": "b"}));
    let text = |claim: &str| {
        let keys = format!(", headers = {{ x-role = \"{claim}\" }}");
        format!("[cores]\ncount = 1\n{}", document(&origin, &server.url(), &keys))
    };
    let mut gateway = Gateway::start(&text("role"));
    ask(&gateway, "one").expect(200);
    assert_eq!(origin.last().header("x-role"), Some("a"));
    gateway.rewrite_and_reload(&text("other"));
    ask(&gateway, "one").expect(200);
    assert_eq!(origin.last().header("x-role"), Some("b"));
    assert_eq!(server.origin.count(), 2);
}

#[test]
fn many_requests_with_one_token_ask_once() {
    let (origin, server) = (Origin::saying("x"), TokenServer::new());
    server.knows("one", json!({})).waits(ms(500));
    let gateway = gateway(&origin, &server, ", cache = \"0s\"");
    std::thread::scope(|scope| {
        // Some go before the answer is there; the others are answered all the same.
        for number in 0..24 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.client();
                client.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer one\r\n\r\n");
                if number % 3 == 0 {
                    std::thread::sleep(ms(100));
                    return client.reset();
                }
                client.response().expect(200);
            });
        }
    });
    assert_eq!(server.origin.count(), 1);
    assert_eq!(origin.count(), 16);
    ask(&gateway, "one").expect(200);
    assert_eq!(server.origin.count(), 2, "nothing is remembered with cache = 0s");
}

#[test]
fn questions_that_do_not_fit_or_take_too_long_are_refused_in_time() {
    let (origin, server) = (Origin::saying("x"), TokenServer::new());
    server.waits(ms(1500));
    let document = document(&origin, &server.url(), ", concurrent_max = 2, deadline = \"600ms\"");
    let gateway = Gateway::with(&document).shards(2).start();
    let began = Instant::now();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let gateway = &gateway;
            scope.spawn(move || ask(gateway, &format!("token{number}")).status)
        };
        let all: Vec<_> = (0..10).map(ask).collect();
        all.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    assert!(began.elapsed() < ms(1400), "{:?}", began.elapsed());
    assert_eq!(server.origin.count(), 2, "over all cores");
    assert_eq!(origin.count(), 0);
    server.waits(Duration::ZERO);
    server.knows("one", json!({}));
    wait_until("its places are free again", Duration::from_secs(5), || ask(&gateway, "one").status == 200);
}

#[test]
fn a_server_that_is_away_or_lies_lets_nobody_pass() {
    let (origin, server) = (Origin::saying("x"), TokenServer::new());
    server.knows("good", json!({}));
    let gateway = gateway(&origin, &server, ", cache = \"1h\", failures = { max = 1000 }");
    ask(&gateway, "good").expect(200);
    let elsewhere = Origin::saying("{\"active\":true}");
    let location = format!("Location: http://{}/\r\n", elsewhere.address());
    let active = "{\"active\":true,\"sub\":\"x\"}";
    for (number, (status, extra, body)) in [
        (500, "", active.to_owned()),
        (404, "", active.to_owned()),
        (401, "", active.to_owned()),
        (204, "", String::new()),
        (302, &*location, active.to_owned()),
        (307, &*location, active.to_owned()),
        (200, "", "active".to_owned()),
        (200, "", String::new()),
        (200, "", "{}".to_owned()),
        (200, "", "[true]".to_owned()),
        (200, "", "{\"active\":\"true\"}".to_owned()),
        (200, "", "{\"active\":1}".to_owned()),
        (200, "", "{\"active\":false,\"active\":true}".to_owned()),
        (200, "", format!("{{\"active\":true,\"pad\":\"{}\"}}", "x".repeat(70_000))),
    ]
    .into_iter()
    .enumerate()
    {
        server.says_instead(status, extra, body);
        let answer = ask(&gateway, &format!("new{number}")).expect(503);
        assert_eq!(answer.problem()["code"], "auth_unavailable", "{number}");
        assert!(answer.has("retry-after"));
    }
    assert_eq!(elsewhere.count(), 0, "no redirect is followed");
    server.origin.refuse(true);
    server.origin.drop_connections();
    ask(&gateway, "away").expect(503);
    ask(&gateway, "good").expect(200);
    assert_eq!(origin.count(), 2);
}

#[test]
fn an_opaque_token_is_one_of_several_kinds() {
    let (origin, server) = (Origin::saying("x"), TokenServer::new());
    server.knows("opaque", json!({}));
    let text =
        document(&origin, &server.url(), "").replace("filters = [{ introspect", "filters = [{ any_of = [{ introspect");
    let text = text.replace("insecure = true } }]", "insecure = true } }, { api_key = {} }] }]");
    let gateway = Gateway::start(&format!("[consumers.bob]\napi_keys = [\"text:bob-key\"]\n{text}"));
    ask(&gateway, "opaque").expect(200);
    gateway.client().request("GET", "/", "X-API-Key: bob-key\r\n", b"").expect(200);
    gateway.get("/").expect(401);
    let twice = "Authorization: Bearer opaque\r\nAuthorization: Bearer opaque\r\n";
    gateway.client().request("GET", "/", twice, b"").expect(401);
    refused(&gateway, &"x".repeat(17_000), "too long");
    refused(&gateway, "a%26b", "not active");
    assert_eq!(server.origin.last().text(), "token=a%2526b&token_type_hint=access_token");
}

/// A token that another kind takes is no failure, and one that nobody takes is.
#[test]
fn only_what_nobody_takes_counts_as_a_failure() {
    let (origin, server) = (Origin::saying("x"), TokenServer::new());
    server.knows("opaque", json!({}));
    let jwt = |keys: &str| format!("{{ jwt = {{ issuer = \"corp\", failures = {{ max = 3 }}{keys} }} }}");
    let text = document(&origin, &server.url(), "");
    let text = text.replace("filters = [{ introspect", &format!("filters = [{{ any_of = [{}, {{ introspect", jwt("")));
    let text = text.replace("insecure = true } }]", "insecure = true } }] }]");
    let only = format!("[[routes]]\nname = \"only\"\npath = \"/only\"\ncluster = \"app\"\nfilters = [{}]\n", jwt(""));
    let issuer = "[issuers.corp]\nissuer = \"https://id.test\"\naudiences = [\"api\"]\nalgorithms = \"HS256\"\n\
        keys = [{ secret = \"text:0123456789abcdef0123456789abcdef\" }]\n";
    let gateway = Gateway::with(&format!("{issuer}{text}{only}")).shards(1).start();
    for _ in 0..8 {
        ask(&gateway, "opaque").expect(200);
    }
    let at_only =
        |token: &str| gateway.client().request("GET", "/only", &format!("Authorization: Bearer {token}\r\n"), b"");
    for number in 0..3 {
        at_only(&format!("garbage{number}")).expect(401);
    }
    let answer = at_only("garbage").expect(429);
    let wait: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((58..=60).contains(&wait), "{wait}");
    ask(&gateway, "opaque").expect(200);
}

#[test]
fn mistakes_are_named_with_their_cure() {
    let origin = Origin::saying("x");
    let dir = support::gateway::Dir::new();
    let check = |text: &str| {
        let file = dir.file("bad.toml", &format!("[listeners.main]\nbind = \":1\"\n{text}"));
        ringway(["check", file.to_str().expect("a path")])
    };
    let url = "https://id.test/introspect";
    for (url, keys, wanted) in [
        (url, ", client_id = \"a\"", "belong together"),
        (url, ", cache = \"2h\"", "the most is 3600s"),
        (url, ", deadline = \"0s\"", "use 1ms to 60s"),
        (url, ", concurrent_max = 0", "use 1 to 4096"),
        (url, ", headers = { host = \"sub\" }", "frames the message"),
        (url, ", client = \"a\"", "did you mean \"clients\"?"),
        (url, ", client_id = \"a\", client_secret = \"hunter2\"", "does not say where the secret is"),
        (url, ", client_id = \"a\", client_secret = \"env:RINGWAY_NO_SUCH\"", "the environment has no RINGWAY_NO_SUCH"),
        (url, ", ca_file = \"/nonexistent.pem\"", "/nonexistent.pem cannot be used"),
        ("http://169.254.169.254/latest", "", "link-local or metadata address"),
        ("https://[fd00:ec2::254]/", "", "link-local or metadata address"),
        ("https://[64:ff9b::a9fe:a9fe]/", "", "link-local or metadata address"),
        ("https://168.63.129.16/", "", "link-local or metadata address"),
        ("ftp://id.test/", "", "has the scheme ftp"),
        ("https://a:b@id.test/", "", "has a user"),
    ] {
        let checked = check(&document(&origin, url, keys));
        assert!(checked.code == Some(1) && checked.err.contains(wanted), "{url} {keys}: {checked:?}");
        assert!(!checked.err.contains("hunter2"), "{checked:?}");
    }
    let plain = document(&origin, "http://id.test/", "").replace("insecure = true", "insecure = false");
    let checked = check(&plain);
    assert!(checked.code == Some(1) && checked.err.contains("say insecure = true"), "{checked:?}");
    // What cannot be read refuses its routes, not the start.
    let unbuilt = document(&origin, url, ", client_id = \"a\", client_secret = \"env:RINGWAY_NO_SUCH\"");
    ask(&Gateway::start(&unbuilt), "one").expect(503);
}
