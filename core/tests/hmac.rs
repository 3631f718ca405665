//! Signed requests: which are taken, and what becomes of those that somebody has changed, kept or sent again.

mod support;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::cli::ringway;
use support::redis::{self, RedisServer};
use support::tokens::unix_s;
use support::{Gateway, Origin, Response};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn document(origin: &Origin, filter: &str) -> String {
    format!(
        "[consumers.alice]\nhmac_keys = {{ alice-1 = \"text:{SECRET}\" }}\ngroups = [\"signer\"]\n\
         [consumers.bob]\napi_keys = [\"text:bob-key\"]\nhmac_keys = {{ bob-1 = \"text:{}\" }}\n\
         [clusters.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n\
         filters = [{filter}]\n",
        "b".repeat(32),
        origin.endpoint()
    )
}

fn gateway(origin: &Origin, filter: &str) -> Gateway {
    Gateway::start(&document(origin, filter))
}

/// A request, and what is said of its signature.
#[derive(Clone)]
struct Signed {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    components: Vec<String>,
    created: u64,
    key_id: &'static str,
    secret: String,
    nonce: String,
    more: String,
}

impl Signed {
    fn get(target: &str) -> Signed {
        let mut random = [0; 12];
        rand::fill(&mut random).expect("random numbers");
        Signed {
            method: "GET",
            target: target.to_owned(),
            headers: vec![("Host".into(), "Api.Test".into())],
            body: Vec::new(),
            components: ["@method", "@authority", "@request-target"].map(String::from).to_vec(),
            created: unix_s(),
            key_id: "alice-1",
            secret: SECRET.to_owned(),
            nonce: STANDARD.encode(random),
            more: String::new(),
        }
    }

    fn post(target: &str, body: &[u8]) -> Signed {
        let signed = Signed { method: "POST", body: body.to_vec(), ..Signed::get(target) };
        let digest = STANDARD.encode(digest::digest(&digest::SHA256, body));
        signed.with("Content-Digest", &format!("sha-256=:{digest}:")).covering("content-digest")
    }

    fn with(mut self, name: &str, value: &str) -> Signed {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn covering(mut self, component: &str) -> Signed {
        self.components.push(component.into());
        self
    }

    fn params(&self) -> String {
        let components: Vec<String> = self.components.iter().map(|name| format!("\"{name}\"")).collect();
        let Signed { created, key_id, nonce, more, .. } = self;
        format!("({});created={created};keyid=\"{key_id}\";nonce=\"{nonce}\"{more}", components.join(" "))
    }

    fn value(&self, component: &str) -> String {
        let (path, query) = self.target.split_once('?').map_or((&*self.target, ""), |(path, query)| (path, query));
        match component {
            "@method" => self.method.to_owned(),
            "@authority" => "api.test".to_owned(),
            "@request-target" => self.target.clone(),
            "@path" => path.to_owned(),
            "@query" => format!("?{query}"),
            "@scheme" => "https".to_owned(),
            "@target-uri" => format!("https://api.test{}", self.target),
            name => {
                let found = self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            }
        }
    }

    /// The two fields of the signature.
    fn fields(&self) -> String {
        let mut base = String::new();
        for component in &self.components {
            base.push_str(&format!("\"{component}\": {}\n", self.value(component)));
        }
        base.push_str(&format!("\"@signature-params\": {}", self.params()));
        let tag = sign(&Key::new(HMAC_SHA256, self.secret.as_bytes()), base.as_bytes());
        format!("Signature-Input: sig1={}\r\nSignature: sig1=:{}:\r\n", self.params(), STANDARD.encode(tag))
    }

    /// As bytes, with these fields of a signature, which may be another one's.
    fn bytes(&self, fields: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n{fields}", self.method, self.target);
        self.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        if !self.body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    fn send_with(&self, gateway: &Gateway, fields: &str) -> Response {
        gateway.exchange(self.bytes(fields))
    }

    fn send(&self, gateway: &Gateway) -> Response {
        self.send_with(gateway, &self.fields())
    }
}

/// What it is called, and how a request is changed that was signed already.
type Change = (&'static str, fn(&mut Signed));

fn refused(answer: &Response, code: &str, what: &str) {
    assert_eq!(answer.status, 401, "{what}");
    assert_eq!(answer.problem()["code"], code, "{what}");
}

#[test]
fn a_signature_says_which_consumer_asks() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "{ hmac = {} }, { rbac = { roles = [\"signer\"] } }");
    Signed::get("/a%2Fb?x=1&x=2").send(&gateway).expect(200);
    let seen = origin.last();
    assert_eq!((seen.header("signature"), seen.header("signature-input")), (None, None));
    Signed::post("/orders", b"{\"amount\":1}").send(&gateway).expect(200);
    assert!(origin.last().header("content-digest").is_some());
    let other_names = |components: &[&str], target: &str| {
        let components = components.iter().map(|name| (*name).to_owned()).collect();
        Signed { components, ..Signed::get(target) }.send(&gateway)
    };
    other_names(&["@method", "@authority", "@path", "@query"], "/a?b=c").expect(200);
    other_names(&["@method", "@authority", "@path", "@query"], "/a").expect(200);
    other_names(&["@method", "@authority", "@scheme", "@target-uri"], "/a?b").expect(200);
    let more = format!(";alg=\"hmac-sha256\";expires={};tag=\"app\"", unix_s() + 60);
    Signed { more, ..Signed::get("/") }.send(&gateway).expect(200);
    Signed { key_id: "bob-1", secret: "b".repeat(32), ..Signed::get("/") }.send(&gateway).expect(403);
    assert_eq!(gateway.get("/").expect(401).problem()["code"], "unauthenticated");
    let lines = gateway.wait_log(8);
    assert!(lines.iter().any(|line| line.field("user.name").as_str() == Some("alice")), "{lines:?}");
}

/// RFC 9421 appendix B.2.5, except for what we ask for besides: made by other code than ours.
#[test]
fn what_another_implementation_has_signed_is_taken() {
    let origin = Origin::saying("x");
    // python3: hmac.new(b"0123456789abcdef0123456789abcdef", base, "sha256")
    let gateway = gateway(&origin, "{ hmac = { skew = \"1h\" } }");
    let script = "import sys,hmac,base64,time\n\
        p='(\"@method\" \"@authority\" \"@path\" \"@query\" \"x-a\");created=%d;keyid=\"alice-1\";nonce=\"py-%d\";alg=\"hmac-sha256\"'%(time.time(),time.time_ns())\n\
        b='\"@method\": GET\\n\"@authority\": api.test\\n\"@path\": /py\\n\"@query\": ?\\n\"x-a\": one, two\\n\"@signature-params\": '+p\n\
        t=base64.b64encode(hmac.new(b'0123456789abcdef0123456789abcdef',b.encode(),'sha256').digest()).decode()\n\
        sys.stdout.write('Signature-Input: sig1=%s\\r\\nSignature: sig1=:%s:\\r\\n'%(p,t))\n";
    let Ok(ran) = std::process::Command::new("python3").args(["-c", script]).output() else {
        eprintln!("SKIPPED: there is no python3");
        return;
    };
    let fields = String::from_utf8(ran.stdout).expect("text");
    Signed::get("/py").with("X-A", "one, two").send_with(&gateway, &fields).expect(200);
}

#[test]
fn a_signature_is_taken_once_on_all_cores_and_routes() {
    let origin = Origin::saying("x");
    let gateway = Gateway::with(&document(&origin, "{ hmac = {} }")).shards(3).start();
    for number in 0..20 {
        let request = Signed::post("/", format!("body {number}").as_bytes());
        request.send(&gateway).expect(200);
        for _ in 0..3 {
            refused(&request.send(&gateway), "replayed_signature", "again");
        }
    }
    // The nonce alone makes the difference, not the signature.
    let first = Signed::get("/1");
    first.send(&gateway).expect(200);
    let second = Signed { target: "/2".into(), created: first.created - 5, ..first.clone() };
    refused(&second.send(&gateway), "replayed_signature", "the same nonce");
    Signed { key_id: "bob-1", secret: "b".repeat(32), ..first }.send(&gateway).expect(200);
    // Many at once: one of them.
    let raced = Signed::get("/race");
    let (bytes, gateway) = (raced.bytes(&raced.fields()), &gateway);
    let statuses = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|_| scope.spawn(|| gateway.exchange(&bytes).status)).collect();
        all.into_iter().map(|one| one.join().expect("an answer")).collect::<Vec<_>>()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
}

#[test]
fn what_was_signed_cannot_be_changed() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "{ hmac = { headers_if_sent = [\"x-tenant\", \"content-type\"] } }");
    let base = || Signed::post("/orders?a=1", b"amount=1").with("X-Tenant", "one").covering("x-tenant");
    base().send(&gateway).expect(200);
    let changes: [Change; 12] = [
        ("method", |x| x.method = "PUT"),
        ("path", |x| x.target = "/Orders?a=1".into()),
        ("path in another spelling", |x| x.target = "/%6Frders?a=1".into()),
        ("query", |x| x.target = "/orders?a=1&a=2".into()),
        ("authority", |x| x.headers[0].1 = "other.test".into()),
        ("port", |x| x.headers[0].1 = "api.test:8080".into()),
        ("header", |x| x.headers[2].1 = "two".into()),
        ("header gone", |x| _ = x.headers.remove(2)),
        ("header twice", |x| x.headers.push(("x-tenant".into(), "one".into()))),
        ("header with an underscore", |x| x.headers.push(("X_Tenant".into(), "two".into()))),
        ("header for one hop", |x| x.headers.push(("Connection".into(), "x-tenant".into()))),
        ("header that must be covered", |x| x.headers.push(("Content-Type".into(), "text/plain".into()))),
    ];
    for (what, change) in changes {
        let signed = base();
        let fields = signed.fields();
        let mut changed = signed;
        change(&mut changed);
        refused(&changed.send_with(&gateway, &fields), "invalid_signature", what);
    }
    let signed = base();
    let fields = signed.fields();
    let body = Signed { body: b"amount=9".to_vec(), ..signed.clone() };
    refused(&body.send_with(&gateway, &fields), "wrong_digest", "the body");
    let short = Signed { body: b"amount=".to_vec(), ..signed.clone() };
    refused(&short.send_with(&gateway, &fields), "wrong_digest", "a shorter body");
    let none = Signed { body: Vec::new(), ..signed.clone() };
    refused(&none.send_with(&gateway, &fields), "wrong_digest", "no body");
    // Refusals use no nonce up: the real one passes.
    signed.send_with(&gateway, &fields).expect(200);
    // A field that nobody signed is nobody's business.
    Signed::get("/").with("X-Other", "1").send(&gateway).expect(200);
    assert_eq!(origin.count(), 3);
}

#[test]
fn bodies_are_compared_before_any_of_them_goes_on() {
    let origin = Origin::start(|x| {
        let body = x.body()?;
        x.ok(format!("{} bytes", body.len()))
    });
    let gateway = gateway(&origin, "{ hmac = { body_bytes_max = \"300KiB\" } }");
    for length in [1, 60_000, 200_000, 300_000] {
        let answer = Signed::post("/", &vec![b'a'; length]).send(&gateway).expect(200);
        assert_eq!(answer.text(), format!("{length} bytes"));
    }
    Signed::post("/", &vec![b'a'; 310_000]).send(&gateway).expect(413);
    let mut large = Signed::post("/", &vec![b'a'; 200_000]);
    let fields = large.fields();
    large.body[199_999] = b'b';
    refused(&large.send_with(&gateway, &fields), "wrong_digest", "the last byte");
    let mut undigested = Signed { method: "POST", body: b"x".to_vec(), ..Signed::get("/") };
    refused(&undigested.send(&gateway), "invalid_signature", "no digest");
    undigested = undigested.with("Content-Digest", "md5=:AAAA:").covering("content-digest");
    refused(&undigested.send(&gateway), "invalid_signature", "no digest that counts");
    // A body in chunks is a body; nothing says so but the field.
    let signed = Signed::post("/", b"hello");
    let head = signed.bytes(&signed.fields());
    let head = String::from_utf8(head).expect("text").replace("Content-Length: 5", "Transfer-Encoding: chunked");
    let (head, _) = head.split_once("\r\n\r\n").expect("a head");
    let chunked = |body: &str| gateway.exchange(format!("{head}\r\n\r\n{body}"));
    refused(&chunked("5\r\nhellO\r\n0\r\n\r\n"), "wrong_digest", "in chunks");
    assert_eq!(chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n").expect(200).text(), "5 bytes");
    let plain = Signed { method: "POST", ..Signed::get("/") };
    let head = String::from_utf8(plain.bytes(&plain.fields())).expect("text");
    let smuggled = head.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    refused(&gateway.exchange(smuggled), "invalid_signature", "a body that was added");
    assert_eq!(origin.count(), 5);
}

#[test]
fn old_and_future_signatures_are_refused() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "{ hmac = { skew = \"60s\" } }");
    let now = unix_s();
    for (created, status) in [(now - 50, 200), (now + 50, 200), (now - 70, 401), (now + 70, 401), (0, 401)] {
        let answer = Signed { created, ..Signed::get("/") }.send(&gateway).expect(status);
        assert!(status == 200 || answer.problem()["code"] == "expired_signature", "{created}");
    }
    for (expires, status) in [(now + 10, 200), (now - 1, 401), (now, 401), (1, 401)] {
        let more = format!(";expires={expires}");
        Signed { more, created: now - 20, ..Signed::get("/") }.send(&gateway).expect(status);
    }
    refused(&Signed { created: 999_999_999_999_999, ..Signed::get("/") }.send(&gateway), "expired_signature", "far");
}

#[test]
fn signatures_that_say_too_little_or_too_much_are_refused() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "{ hmac = { headers = [\"x-must\"] } }");
    let base = || Signed::get("/").with("X-Must", "1");
    let full = || base().covering("x-must");
    full().send(&gateway).expect(200);
    refused(&base().send(&gateway), "invalid_signature", "a header that must be covered");
    refused(&Signed::get("/").covering("x-must").send(&gateway), "invalid_signature", "and be there");
    for without in ["@method", "@authority", "@request-target"] {
        let mut signed = full();
        signed.components.retain(|name| name != without);
        refused(&signed.send(&gateway), "invalid_signature", without);
    }
    let mut path_alone = full();
    path_alone.components[2] = "@path".into();
    refused(&path_alone.send(&gateway), "invalid_signature", "no query");
    for odd in ["@status", "@query-param", "@unknown", "@method", "x-must", "x-none", "X-Must"] {
        refused(&full().covering(odd).send(&gateway), "invalid_signature", odd);
    }
    for more in [
        ";created=1",
        ";nonce=\"again\"",
        ";keyid=\"bob-1\"",
        ";alg=\"ed25519\"",
        ";alg=\"hmac-sha256\";alg=\"hmac-sha256\"",
        ";expires=soon",
        ";other=1",
    ] {
        refused(&Signed { more: more.into(), ..full() }.send(&gateway), "invalid_signature", more);
    }
    let signed = full();
    let fields = signed.fields();
    let changed = |from: &str, to: &str| {
        let changed = fields.replace(from, to);
        assert_ne!(changed, fields, "{from}");
        refused(&signed.send_with(&gateway, &changed), "invalid_signature", to);
    };
    changed(&format!(";nonce=\"{}\"", signed.nonce), "");
    changed(&signed.nonce, "");
    changed(&format!(";created={}", signed.created), "");
    changed(";keyid=\"alice-1\"", "");
    changed("alice-1", "nobody");
    changed("alice-1", "bob-1");
    changed("Signature: sig1=", "Signature: sig2=");
    changed("Signature: sig1=:", "Signature: sig1=:AAAA");
    changed("Signature-Input: sig1=(", "Signature-Input: sig1=( ");
    let [input, tag] = [0, 1].map(|at| format!("{}\r\n", fields.lines().nth(at).expect("two lines")));
    for odd in [
        input.clone(),
        tag.clone(),
        format!("{fields}{input}"),
        format!("{fields}{tag}"),
        format!("{fields}Signature_Input: x\r\n"),
        format!("{fields}Connection: signature\r\n"),
        fields.replace("Signature: ", "Signature: sig0=:AAAA:, "),
        format!("Signature: keyId=\"a\"\r\n{input}"),
        format!("Signature-Input: sig1=({});created=1\r\n{tag}", "\"a\" ".repeat(2000)),
        format!("Signature-Input: {}\r\n{tag}", "x".repeat(20_000)),
    ] {
        let answer = signed.send_with(&gateway, &odd);
        refused(&answer, "invalid_signature", &odd[..odd.len().min(200)]);
    }
    signed.send(&gateway).expect(200);
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_full_memory_of_nonces_refuses_and_forgets_none() {
    let origin = Origin::saying("x");
    // One in each of the 64 parts.
    let gateway = gateway(&origin, "{ hmac = { nonces_max = 64 } }");
    let (mut taken, mut full) = (Vec::new(), 0);
    for _ in 0..200 {
        let request = Signed::get("/");
        let answer = request.send(&gateway);
        match answer.status {
            200 => taken.push(request),
            status => {
                assert_eq!((status, answer.problem()["code"].as_str()), (503, Some("auth_unavailable")));
                assert!(answer.has("retry-after"));
                full += 1;
            }
        }
    }
    assert!(taken.len() <= 64 && full >= 136, "{} taken, {full} refused", taken.len());
    for request in &taken {
        refused(&request.send(&gateway), "replayed_signature", "all are known");
    }
}

#[test]
fn a_reload_forgets_no_nonce() {
    let origin = Origin::saying("x");
    let mut gateway = gateway(&origin, "{ hmac = {} }");
    let request = Signed::get("/");
    request.send(&gateway).expect(200);
    gateway.rewrite_and_reload(&document(&origin, "{ hmac = { skew = \"1m\" } }"));
    refused(&request.send(&gateway), "replayed_signature", "after a reload");
    // Nor does one that takes the filter away, and another one that brings it back.
    gateway.rewrite_and_reload(&document(&origin, ""));
    gateway.get("/").expect(200);
    gateway.rewrite_and_reload(&document(&origin, "{ hmac = {} }"));
    refused(&request.send(&gateway), "replayed_signature", "after three");
}

/// By a Redis that all gateways share, and never without it.
/// What another route would still take is not forgotten when this one would not.
#[test]
fn a_nonce_is_known_for_the_longest_skew() {
    let origin = Origin::saying("x");
    let text = document(&origin, "{ hmac = { skew = \"1s\" } }");
    let long =
        "[[routes]]\nname = \"long\"\nwhen = 'header.x-long == \"1\"'\ncluster = \"app\"\nfilters = [{ hmac = {} }]\n";
    let mut gateway = Gateway::start(&format!("{text}{long}"));
    let (request, other) = (Signed::get("/"), Signed::get("/"));
    for request in [&request, &other] {
        request.send(&gateway).expect(200);
    }
    std::thread::sleep(std::time::Duration::from_millis(2100));
    refused(&request.send(&gateway), "expired_signature", "too old");
    refused(&request.clone().with("X-Long", "1").send(&gateway), "replayed_signature", "by the other route");
    // Nor by one that a reload makes more patient.
    gateway.rewrite_and_reload(&document(&origin, "{ hmac = { skew = \"1h\" } }"));
    refused(&other.send(&gateway), "replayed_signature", "after a reload");
}

#[test]
fn a_signature_is_taken_once_on_all_gateways_of_a_fleet() {
    if redis::is_missing("a_signature_is_taken_once_on_all_gateways_of_a_fleet") {
        return;
    }
    let (origin, server) = (Origin::saying("x"), RedisServer::start(&[]));
    let fleet = format!("[redis.fleet]\nnodes = [\"{}\"]\n", server.address());
    let document = fleet + &document(&origin, "{ hmac = { redis = \"fleet\" } }");
    let gateways = [0, 1, 2].map(|_| Gateway::start(&document));
    for first in 0..3 {
        let signed = Signed::get("/");
        signed.send(&gateways[first]).expect(200);
        gateways.iter().for_each(|gateway| refused(&signed.send(gateway), "replayed_signature", "a second time"));
    }
    server.kill();
    let signed = Signed::get("/");
    assert_eq!(signed.send(&gateways[0]).expect(503).problem()["code"], "auth_unavailable");
    assert_eq!(origin.count(), 3);
}

/// A policy and a route may both ask for a signature: there is one, and it is this request's.
#[test]
fn two_filters_take_the_signature_of_one_request() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "{ hmac = {} }, { hmac = {} }");
    let signed = Signed::post("/x", b"hello");
    signed.send(&gateway).expect(200);
    refused(&signed.send(&gateway), "replayed_signature", "a second time");
    if redis::is_missing("two_filters_take_the_signature_of_one_request") {
        return;
    }
    let server = RedisServer::start(&[]);
    let filters = "{ hmac = {} }, { hmac = { redis = \"fleet\" } }, { hmac = {} }";
    let document = format!("[redis.fleet]\nnodes = [\"{}\"]\n{}", server.address(), document(&origin, filters));
    let gateways = [0, 1].map(|_| Gateway::start(&document));
    let signed = Signed::post("/x", b"hello");
    signed.send(&gateways[0]).expect(200);
    gateways.iter().for_each(|gateway| refused(&signed.send(gateway), "replayed_signature", "in the fleet"));
}

#[test]
fn it_is_one_of_several_kinds() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "{ any_of = [{ hmac = {} }, { api_key = {} }] }");
    Signed::post("/", b"x").send(&gateway).expect(200);
    Signed::get("/").with("X-API-Key", "bob-key").send_with(&gateway, "").expect(200);
    let mut wrong = Signed::get("/").with("X-API-Key", "bob-key");
    wrong.secret = "x".repeat(32);
    refused(&wrong.send(&gateway), "invalid_signature", "what is there decides");
}

#[test]
fn mistakes_are_named_with_their_cure() {
    let origin = Origin::saying("x");
    let dir = support::gateway::Dir::new();
    let check = |text: &str| {
        let file = dir.file("bad.toml", &format!("[listeners.main]\nbind = \":1\"\n{text}"));
        ringway(["check", file.to_str().expect("a path")])
    };
    for (filter, wanted) in [
        ("{ hmac = { skew = \"2h\" } }", "use 1s to 3600s"),
        ("{ hmac = { nonces_max = 0 } }", "use 1 to"),
        ("{ hmac = { headers = [\"connection\"] } }", "nobody can sign it"),
        ("{ hmac = { header = \"x\" } }", "did you mean \"headers\"?"),
        ("{ hmac = { body_bytes_max = \"1GiB\" } }", "the most is"),
    ] {
        let checked = check(&document(&origin, filter));
        assert!(checked.code == Some(1) && checked.err.contains(wanted), "{filter}: {checked:?}");
    }
    let checked = check(&document(&origin, "{ hmac = {} }").replace("hmac_keys", "# hmac_keys"));
    assert!(checked.err.contains("no consumer has a key to sign with"), "{checked:?}");
    let checked = check(&document(&origin, "{ hmac = {} }").replace(SECRET, "short"));
    assert!(checked.code == Some(1) && checked.err.contains("shorter than 32 bytes"), "{checked:?}");
}
