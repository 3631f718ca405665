//! Another server decides who passes: what it is asked, what it may say, and what becomes of requests while it says nothing.

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::cli::ringway;
use support::{Gateway, Origin, Response, ms, wait_until};

/// Status, further lines, body, and how late.
type Says = (u16, String, String, Duration);

/// A server of decisions, which says what the test has told it.
struct Authority {
    origin: Origin,
    says: Arc<Mutex<Says>>,
}

impl Authority {
    fn new() -> Authority {
        let says = Arc::new(Mutex::new((200, String::new(), String::new(), Duration::ZERO)));
        let told = says.clone();
        let origin = Origin::start(move |x| {
            x.body()?;
            let (status, extra, body, after) = told.lock().unwrap().clone();
            x.wait(after);
            x.reply(status, &extra, body)
        })
        .without_lint();
        Authority { origin, says }
    }

    fn says(&self, status: u16, extra: &str, body: impl Into<String>) {
        *self.says.lock().unwrap() = (status, extra.to_owned(), body.into(), Duration::ZERO);
    }

    fn says_after(&self, after: Duration) {
        *self.says.lock().unwrap() = (200, String::new(), String::new(), after);
    }
}

fn document(origin: &Origin, authority: &Authority, keys: &str, before: &str) -> String {
    format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"open\"\npath = \"/open\"\ncluster = \"app\"\n\
         [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n\
         filters = [{before}{{ ext_authz = {{ url = \"http://{}/check/\", insecure = true{keys} }} }}]\n",
        origin.endpoint(),
        authority.origin.address()
    )
}

fn gateway(origin: &Origin, authority: &Authority, keys: &str) -> Gateway {
    Gateway::start(&document(origin, authority, keys, ""))
}

fn send(gateway: &Gateway, method: &str, target: &str, extra: &str, body: &[u8]) -> Response {
    gateway.client().request(method, target, extra, body)
}

#[test]
fn the_server_sees_the_request_and_may_set_headers() {
    let (origin, authority) = (Origin::saying("x"), Authority::new());
    let keys = ", headers = [\"authorization\", \"x-many\", \"x-set\", \"x-gone\", \"x-user\"], \
        allow_headers = [\"x-user\", \"x-groups\"], answer_headers = [\"set-cookie\"]";
    let before = "{ request_headers = { set = { x-set = \"ours\" }, remove = [\"x-gone\"] } }, ";
    let gateway = Gateway::start(&document(&origin, &authority, keys, before));
    authority.says(
        200,
        "X-User: alice\r\nX-Groups: a\r\nX-Groups: b\r\nX-Other: no\r\nSet-Cookie: s=1\r\nSet-Cookie: t=2\r\n",
        "ignored",
    );
    let extra = "Authorization: Bearer t\r\nX-Many: 1\r\nX-Many: 2\r\nX-Set: theirs\r\nX-Gone: 1\r\nX-User: root\r\n\
        X_Groups: root\r\nX-Secret: 1\r\nX-Forwarded-Uri: /evil\r\nConnection: x-hop\r\nX-Hop: 1\r\n";
    let answer = send(&gateway, "DELETE", "/a%2Fb/./c?d=%20e&f", extra, b"").expect(200);
    assert_eq!(answer.all("set-cookie"), ["s=1", "t=2"]);
    assert!(!answer.has("x-user"));
    let asked = authority.origin.request();
    assert_eq!((&*asked.method, &*asked.target), ("DELETE", "/check/a%2Fb/c?d=%20e&f"));
    assert_eq!(asked.header("host"), Some(&*authority.origin.address().to_string()));
    assert_eq!((asked.header("authorization"), asked.all("x-many")), (Some("Bearer t"), vec!["1", "2"]));
    assert_eq!((asked.header("x-set"), asked.header("x-gone"), asked.header("x-user")), (Some("ours"), None, None));
    assert_eq!((asked.header("x-secret"), asked.header("x-hop"), asked.header("connection")), (None, None, None));
    assert_eq!(asked.header("x-forwarded-uri"), Some("/a%2Fb/c?d=%20e&f"));
    assert_eq!(
        (asked.header("x-forwarded-method"), asked.header("x-forwarded-for")),
        (Some("DELETE"), Some("127.0.0.1"))
    );
    let seen = origin.request();
    assert_eq!((seen.header("x-user"), seen.all("x-groups")), (Some("alice"), vec!["a", "b"]));
    assert_eq!((seen.header("x_groups"), seen.header("x-other"), seen.header("x-secret")), (None, None, Some("1")));
    // On every route, and also if the server says nothing of them.
    send(&gateway, "GET", "/open", "X-User: root\r\nX_GROUPS: root\r\n", b"").expect(200);
    authority.says(204, "", "");
    send(&gateway, "GET", "/", "X-User: root\r\nx_groups: root\r\n", b"").expect(200);
    for seen in &origin.requests()[1..] {
        assert_eq!((seen.header("x-user"), seen.header("x_groups")), (None, None));
    }
    assert_eq!(authority.origin.count(), 2);
}

/// What other routes need is not taken from them; here it is the server's.
#[test]
fn the_server_may_exchange_the_credentials_themselves() {
    let (origin, authority) = (Origin::saying("x"), Authority::new());
    let gateway = gateway(&origin, &authority, ", allow_headers = [\"authorization\"]");
    let own = "Authorization: Bearer outside\r\n";
    authority.says(200, "Authorization: Bearer inside\r\n", "");
    send(&gateway, "GET", "/", own, b"").expect(200);
    assert_eq!(authority.origin.last().header("authorization"), Some("Bearer outside"));
    assert_eq!(origin.last().all("authorization"), ["Bearer inside"]);
    authority.says(200, "", "");
    send(&gateway, "GET", "/", own, b"").expect(200);
    assert_eq!(origin.last().header("authorization"), None);
    send(&gateway, "GET", "/open", own, b"").expect(200);
    assert_eq!(origin.last().header("authorization"), Some("Bearer outside"));
}

#[test]
fn a_refusal_is_the_servers() {
    let (origin, authority) = (Origin::saying("x"), Authority::new());
    let gateway = gateway(&origin, &authority, ", deny_headers = [\"www-authenticate\", \"x-why\"]");
    for status in [400, 401, 403, 404, 429, 451] {
        let extra = "Content-Type: text/plain\r\nWWW-Authenticate: Custom a=\"b\"\r\nX-Why: because\r\nX-Other: 1\r\n";
        authority.says(status, extra, "not you");
        let answer = send(&gateway, "POST", "/", "", b"body").expect(status);
        assert_eq!((answer.text(), answer.header("content-type")), ("not you".to_owned(), Some("text/plain")));
        assert_eq!(answer.header("www-authenticate"), Some("Custom a=\"b\""));
        assert_eq!((answer.header("x-why"), answer.header("x-other")), (Some("because"), None));
    }
    let head = send(&gateway, "HEAD", "/", "", b"");
    assert_eq!(head.status, 451);
    assert_eq!(origin.count(), 0);
    let lines = gateway.wait_log(7);
    assert!(lines.iter().any(|line| line.has_flag("UA")) && lines.iter().any(|line| line.has_flag("FB")));
    // The connection goes on.
    let mut client = gateway.client();
    client.get("/").expect(451);
    authority.says(200, "", "");
    client.get("/").expect(200);
}

#[test]
fn a_server_that_is_away_or_lies_lets_nobody_pass() {
    let (origin, authority) = (Origin::saying("x"), Authority::new());
    let closed = gateway(&origin, &authority, ", deadline = \"500ms\", allow_headers = [\"x-user\"]");
    let open = gateway(&origin, &authority, ", deadline = \"500ms\", allow_headers = [\"x-user\"], fail_open = true");
    let elsewhere = Origin::saying("x");
    let location = format!("Location: http://{}/\r\n", elsewhere.address());
    let both = |what: &str| {
        let answer = closed.get("/").expect(503);
        assert_eq!(answer.problem()["code"], "auth_unavailable", "{what}");
        assert!(answer.has("retry-after"), "{what}");
        open.get("/").expect(200);
    };
    for (status, extra, body) in [
        (500, "", String::new()),
        (503, "", String::new()),
        (302, &*location, String::new()),
        (307, &*location, String::new()),
        (304, "", String::new()),
        (200, "", "x".repeat(70_000)),
        (403, "", "x".repeat(70_000)),
        (200, "X-User: \u{e9}\r\n", String::new()),
    ] {
        authority.says(status, extra, body);
        both(&format!("{status} {extra}"));
    }
    assert_eq!(elsewhere.count(), 0, "no redirect is followed");
    authority.says_after(ms(1500));
    let began = Instant::now();
    both("late");
    assert!(began.elapsed() < ms(1400), "{:?}", began.elapsed());
    authority.origin.refuse(true);
    authority.origin.drop_connections();
    both("away");
    let checked = ringway(["check", open.config.to_str().expect("a path")]);
    assert!(checked.code == Some(0) && checked.err.contains("everybody passes while"), "{checked:?}");
    open.wait_output("everybody passes while the server does not answer");
    let checked = ringway(["check", closed.config.to_str().expect("a path")]);
    assert!(checked.code == Some(0) && checked.err.is_empty(), "{checked:?}");
    // A refusal is one all the same.
    authority.origin.refuse(false);
    authority.says(403, "", "");
    open.get("/").expect(403);
}

#[test]
fn redirects_are_passed_on_if_asked_for() {
    let (origin, authority) = (Origin::saying("x"), Authority::new());
    let gateway = gateway(&origin, &authority, ", pass_redirects = true, deny_headers = [\"set-cookie\"]");
    for status in [301, 302, 303, 307, 308] {
        authority.says(status, "Location: https://id.test/login?to=1\r\nSet-Cookie: state=1\r\n", "go");
        let answer = gateway.get("/x").expect(status);
        assert_eq!(answer.header("location"), Some("https://id.test/login?to=1"));
        assert_eq!((answer.header("set-cookie"), answer.text()), (Some("state=1"), "go".to_owned()));
    }
    authority.says(302, "", "no location");
    gateway.get("/").expect(503);
    authority.says(304, "Location: /\r\n", "");
    gateway.get("/").expect(503);
    assert_eq!(origin.count(), 0);
}

#[test]
fn the_server_may_see_the_body_first() {
    let origin = Origin::start(|x| {
        let body = x.body()?;
        x.ok(body)
    });
    let authority = Authority::new();
    let with = gateway(&origin, &authority, ", body_bytes_max = \"100KiB\"");
    let body = vec![b'a'; 100 * 1024];
    let answer = send(&with, "POST", "/", "", &body).expect(200);
    assert_eq!((answer.text().len(), authority.origin.last().body.len()), (body.len(), body.len()));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    assert_eq!(with.exchange(chunked).expect(200).text(), "hello");
    assert_eq!(authority.origin.last().text(), "hello");
    send(&with, "POST", "/", "", &[body, b"b".to_vec()].concat()).expect(413);
    assert_eq!((authority.origin.count(), origin.count()), (2, 2), "too long for a decision");
    authority.says(403, "", "");
    send(&with, "POST", "/", "", b"no").expect(403);
    assert_eq!(origin.count(), 2);
    authority.says(200, "", "");
    let without = gateway(&origin, &authority, "");
    assert_eq!(send(&without, "POST", "/", "", b"hello").expect(200).text(), "hello");
    let asked = authority.origin.last();
    assert_eq!((asked.body.len(), asked.has("transfer-encoding")), (0, false));
}

/// However a path is spelled, the server judges the one that the origin gets.
#[test]
fn the_server_judges_the_path_that_the_origin_gets() {
    let (origin, authority) = (Origin::saying("x"), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    let paths = [
        "/a",
        "/a/../b",
        "/a/%2e%2e/b",
        "/a%2fb",
        "/a%2F..%2Fb",
        "/a%5C..%5Cb",
        "/a\\..\\b",
        "/a/.%2e/b",
        "//evil.test/x",
        "/@evil.test",
        "/a;x=..%2f",
        "/%252e%252e/b",
        "/a%00b",
        "/a{b}|c\"d",
        "/a?x=/../y#z",
        "/a?x=\"<>'",
        "/a?",
        "/:80/x",
        "/a%20b/",
        "/.../b",
        "/%c3%a9",
    ];
    let mut passed = 0;
    for path in paths {
        let before = origin.count();
        let answer = send(&gateway, "GET", path, "", b"");
        assert!(answer.status == 200 || answer.status == 400, "{path}: {}", answer.status);
        if origin.count() > before {
            let plain = |target: &str| {
                target
                    .replace("%22", "\"")
                    .replace("%3C", "<")
                    .replace("%3E", ">")
                    .replace("%7B", "{")
                    .replace("%7D", "}")
                    .replace("%27", "'")
                    .replace("%7C", "|")
            };
            let (got, judged) = (origin.last().target, authority.origin.last().target);
            assert_eq!(plain(&judged), format!("/check{}", plain(&got)), "{path}");
            passed += 1;
        }
    }
    assert!(passed >= 10, "{passed} passed");
}

#[test]
fn questions_are_bounded_over_all_cores() {
    let (origin, authority) = (Origin::saying("x"), Authority::new());
    authority.says_after(ms(700));
    let keys = ", concurrent_max = 3, deadline = \"5s\"";
    let gateway = Gateway::with(&document(&origin, &authority, keys, "")).shards(2).start();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..12).map(|_| scope.spawn(|| gateway.get("/").status)).collect();
        all.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    let count = |status| statuses.iter().filter(|have| **have == status).count();
    assert_eq!((count(200), count(503), authority.origin.count()), (3, 9, 3), "{statuses:?}");
    // Who goes away gives its place back.
    authority.says_after(ms(300));
    for _ in 0..3 {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.reset();
    }
    wait_until("its places are free again", Duration::from_secs(10), || gateway.get("/").status == 200);
}

#[test]
fn mistakes_are_named_with_their_cure() {
    let (origin, authority) = (Origin::saying("x"), Authority::new());
    let dir = support::gateway::Dir::new();
    let url = format!("http://{}/check/", authority.origin.address());
    let check = |new_url: &str, keys: &str| {
        let text = document(&origin, &authority, keys, "").replace(&url, new_url);
        let file = dir.file("bad.toml", &format!("[listeners.main]\nbind = \":1\"\n{text}"));
        ringway(["check", file.to_str().expect("a path")])
    };
    for (new_url, keys, wanted) in [
        (&*url, ", headers = [\"te\"]", "belongs to one hop"),
        (&*url, ", allow_headers = [\"host\"]", "frames the message"),
        (&*url, ", deny_headers = [\"content-length\"]", "frames the message"),
        (&*url, ", body_bytes_max = \"1GiB\"", "the most is"),
        (&*url, ", answer_bytes_max = \"2MiB\"", "the most is"),
        (&*url, ", fail_opn = true", "did you mean \"fail_open\"?"),
        (&*url, ", deadline = \"2m\"", "use 1ms to 60s"),
        ("https://authz.test/?a=b", "", "leave out"),
        ("http://169.254.169.254/", "", "link-local or metadata address"),
        ("http://2852039166/", "", "link-local or metadata address"),
        ("http://[fe80::1]/", "", "link-local or metadata address"),
        ("file:///etc/passwd", "", "has the scheme file"),
    ] {
        let checked = check(new_url, keys);
        assert!(checked.code == Some(1) && checked.err.contains(wanted), "{new_url} {keys}: {checked:?}");
    }
    let plain = document(&origin, &authority, "", "").replace("insecure = true", "insecure = false");
    let file = dir.file("plain.toml", &format!("[listeners.main]\nbind = \":1\"\n{plain}"));
    let checked = ringway(["check", file.to_str().expect("a path")]);
    assert!(checked.code == Some(1) && checked.err.contains("say insecure = true"), "{checked:?}");
}
