//! Tokens at the door: which are taken, which are not, and what the origin gets to see.

mod support;

use std::time::{Duration, Instant};

use aws_lc_rs::rsa::KeySize;
use serde_json::{Value, json};
use support::key_server::KeyServer;
use support::tokens::{Signer, base64url, claims, claims_with, jwks, unix_s};
use support::{Gateway, Origin, Response, ms, wait_until};

/// A gateway whose route takes tokens of one issuer with this key; `issuer` and `filter` are further lines and keys.
fn gateway(origin: &Origin, signer: &Signer, issuer: &str, filter: &str) -> Gateway {
    let key = format!("{{ kid = \"{}\", pem = \"text:{}\" }}", signer.kid, signer.pem().replace('\n', "\\n"));
    start(origin, &format!("algorithms = \"{}\"\nkeys = [{key}]\n{issuer}", signer.algorithm), filter)
}

fn document(origin: &Origin, issuer: &str, filter: &str) -> String {
    let [issuer_keys, wanted] = match issuer.contains("audiences") || issuer.contains("may_lack") {
        true => [issuer, "issuer = \"https://id.test\""],
        false => [issuer, "issuer = \"https://id.test\"\naudiences = [\"api\"]"],
    };
    let wanted = if issuer.contains("may_lack = [\"iss\"") { "audiences = [\"api\"]" } else { wanted };
    format!(
        "[issuers.corp]\n{wanted}\n{issuer_keys}\n\n[clusters.app]\nendpoints = [\"{}\"]\n\n\
         [[routes]]\nname = \"open\"\npath = \"/open\"\ncluster = \"app\"\n\n\
         [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n\
         filters = [{{ jwt = {{ issuer = \"corp\"{filter} }} }}]\n",
        origin.endpoint()
    )
}

fn start(origin: &Origin, issuer: &str, filter: &str) -> Gateway {
    Gateway::start(&document(origin, issuer, filter))
}

fn ask(gateway: &Gateway, token: &str) -> Response {
    gateway.client().request("GET", "/", &format!("Authorization: Bearer {token}\r\n"), b"")
}

fn code(answer: &Response) -> (u16, String) {
    let code = if answer.status == 200 { String::new() } else { answer.problem()["code"].as_str().unwrap().to_owned() };
    (answer.status, code)
}

const INVALID: (u16, &str) = (401, "invalid_token");

fn refused(gateway: &Gateway, token: &str, why: &str) {
    let answer = ask(gateway, token);
    let (status, code) = code(&answer);
    assert_eq!((status, &*code), INVALID, "{token}");
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains(why), "{challenge} for {token}");
}

#[test]
fn each_algorithm_is_verified_and_a_changed_signature_refused() {
    let origin = Origin::saying("x");
    let mut signers = vec![Signer::es256("a"), Signer::es384("a"), Signer::es512("a"), Signer::ed25519("a")];
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        signers.push(Signer::rsa("a", algorithm, KeySize::Rsa2048));
    }
    for signer in &signers {
        let gateway = gateway(&origin, signer, "", "");
        let token = signer.sign(&claims());
        assert_eq!(code(&ask(&gateway, &token)), (200, String::new()), "{}", signer.algorithm);
        let mut signature = signer.signature(token.rsplit_once('.').unwrap().0.as_bytes());
        signature[7] ^= 1;
        let changed = format!("{}.{}", token.rsplit_once('.').unwrap().0, base64url(signature));
        refused(&gateway, &changed, "signature");
        let foreign = Signer::ed25519("a");
        refused(
            &gateway,
            &foreign.raw(&format!("{{\"alg\":\"{}\",\"kid\":\"a\"}}", signer.algorithm), &claims().to_string()),
            "signature",
        );
    }
    let secret = "text:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    for algorithm in ["HS256", "HS384", "HS512"] {
        let signer = Signer::secret("a", algorithm, secret.trim_start_matches("text:").as_bytes());
        let gateway =
            start(&origin, &format!("algorithms = \"{algorithm}\"\nkeys = [{{ secret = \"{secret}\" }}]"), "");
        // The key has no id here, so a token that names one finds none.
        let token = signer.raw(&json!({"alg": algorithm}).to_string(), &claims().to_string());
        assert_eq!(ask(&gateway, &token).status, 200, "{algorithm}");
        let other =
            Signer::secret("a", algorithm, &[7; 64]).raw(&json!({"alg": algorithm}).to_string(), &claims().to_string());
        refused(&gateway, &other, "signature");
    }
}

#[test]
fn without_a_token_the_answer_says_how_to_bring_one() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, &Signer::es256("a"), "", ", realm = \"reports\"");
    let answer = gateway.get("/").expect(401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"reports\""));
    assert_eq!(answer.problem()["code"], "unauthenticated");
    gateway.client().request("GET", "/", "Authorization: Basic YTpi\r\n", b"").expect(401);
    assert_eq!(origin.count(), 0);
    assert!(gateway.wait_log(1)[0].has_flag("UA"));
    gateway.get("/open").expect(200);
}

#[test]
fn claims_are_judged_on_every_request() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let gateway = gateway(&origin, &signer, "leeway = \"0s\"\nrequire = [\"sub\", \"tenant.id\"]", "");
    let with = |others: Value| {
        let mut all = json!({"tenant": {"id": 7}});
        others.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
        signer.sign(&claims_with(all))
    };
    let now = unix_s();
    ask(&gateway, &with(json!({}))).expect(200);
    ask(&gateway, &with(json!({"aud": ["other", "api"]}))).expect(200);
    ask(&gateway, &with(json!({"exp": now as f64 + 100.5}))).expect(200);
    for (others, why) in [
        (json!({"exp": now - 1}), "expired"),
        (json!({"exp": null}), "lacks a claim"),
        (json!({"exp": "soon"}), "lacks a claim"),
        (json!({"nbf": now + 60}), "not valid yet"),
        (json!({"nbf": [1]}), "lacks a claim"),
        (json!({"iss": "https://evil.test"}), "issuer"),
        (json!({"iss": "https://id.test/"}), "issuer"),
        (json!({"iss": null}), "lacks a claim"),
        (json!({"aud": "other"}), "somebody else"),
        (json!({"aud": []}), "lacks a claim"),
        (json!({"aud": [1]}), "lacks a claim"),
        (json!({"aud": null}), "lacks a claim"),
        (json!({"sub": null}), "lacks a claim"),
        (json!({"tenant": {}}), "lacks a claim"),
    ] {
        refused(&gateway, &with(others), why);
    }
    // One that is remembered ends all the same.
    let short = with(json!({"exp": unix_s() + 2}));
    ask(&gateway, &short).expect(200);
    wait_until("it has expired", Duration::from_secs(10), || ask(&gateway, &short).status == 401);
    refused(&gateway, &short, "expired");
}

#[test]
fn skew_is_allowed_up_to_the_leeway() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let gateway = gateway(&origin, &signer, "leeway = \"60s\"", "");
    let now = unix_s();
    ask(&gateway, &signer.sign(&claims_with(json!({"exp": now - 30})))).expect(200);
    ask(&gateway, &signer.sign(&claims_with(json!({"nbf": now + 30})))).expect(200);
    refused(&gateway, &signer.sign(&claims_with(json!({"exp": now - 90}))), "expired");
    refused(&gateway, &signer.sign(&claims_with(json!({"nbf": now + 90}))), "not valid yet");
}

/// What tokens say of their own keys and algorithms is not believed.
#[test]
fn attacks_on_the_header_come_to_nothing() {
    let (origin, signer) = (Origin::saying("x"), Signer::rsa("a", "RS256", KeySize::Rsa2048));
    let gateway = gateway(&origin, &signer, "", "");
    let claims_text = claims().to_string();
    let unsigned = |header: &str| format!("{}.{}.", base64url(header), base64url(&claims_text));
    for header in ["{\"alg\":\"none\"}", "{\"alg\":\"None\",\"kid\":\"a\"}", "{\"alg\":\"nOnE\"}", "{\"alg\":\"\"}"] {
        refused(&gateway, &unsigned(header), "algorithm");
    }
    refused(&gateway, &unsigned("{\"alg\":\"RS256\",\"kid\":\"a\"}"), "signature");
    // The public key as a shared secret.
    let confused = Signer::secret("a", "HS256", signer.pem().as_bytes());
    refused(&gateway, &confused.sign(&claims()), "algorithm");
    // Right key, another algorithm than the issuer allows.
    let header = json!({"alg": "RS512", "kid": "a"}).to_string();
    refused(&gateway, &signer.raw(&header, &claims_text), "algorithm");
    let evil = Signer::es256("a");
    for header in [
        json!({"alg": "ES256", "kid": "a"}),
        json!({"alg": "ES256", "jwk": evil.jwk()}),
        json!({"alg": "ES256", "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/", "x5c": ["AAAA"]}),
    ] {
        refused(&gateway, &evil.raw(&header.to_string(), &claims_text), "algorithm");
    }
    let with = |extra: &str| signer.raw(&format!("{{\"alg\":\"RS256\",\"kid\":\"a\"{extra}}}"), &claims_text);
    ask(&gateway, &with("")).expect(200);
    ask(&gateway, &with(",\"jku\":\"http://127.0.0.1:1/\",\"jwk\":{}")).expect(200);
    ask(&gateway, &with(",\"b64\":true")).expect(200);
    refused(&gateway, &with(",\"crit\":[\"exp\"]"), "not understood");
    refused(&gateway, &with(",\"crit\":[\"b64\"],\"b64\":false"), "not understood");
    refused(&gateway, &with(",\"b64\":false"), "not understood");
    refused(&gateway, &with(",\"alg\":\"none\""), "malformed");
    for kid in ["\"../../../dev/null\"", "\"a' OR 1=1\"", "\"\"", "\"b\""] {
        refused(&gateway, &signer.raw(&format!("{{\"alg\":\"RS256\",\"kid\":{kid}}}"), &claims_text), "not known");
    }
    refused(&gateway, &signer.raw("{\"alg\":\"RS256\",\"kid\":1}", &claims_text), "malformed");
    let twice = claims_text.replacen('{', "{\"sub\":\"root\",", 1);
    refused(&gateway, &signer.raw("{\"alg\":\"RS256\",\"kid\":\"a\"}", &twice), "malformed");
    assert_eq!(origin.count(), 3);
}

#[test]
fn what_is_no_token_is_refused_at_any_length() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let gateway = gateway(&origin, &signer, "", ", failures = { max = 1000000 }");
    let token = signer.sign(&claims());
    for cut in (0..token.len()).step_by(7) {
        let answer = ask(&gateway, &token[..cut]);
        assert_eq!(answer.status, 401, "{cut}");
    }
    for odd in
        ["a.b.c", "..", ".", "a.b.c.d", &format!("{token}="), &format!("{token}A"), &format!("{token}."), "é.é.é"]
    {
        assert_eq!(ask(&gateway, odd).status, 401, "{odd}");
    }
    let huge = signer.sign(&claims_with(json!({"pad": "x".repeat(16_000)})));
    refused(&gateway, &huge, "too long");
    assert_eq!(origin.count(), 0);
    ask(&gateway, &token).expect(200);
}

#[test]
fn a_token_comes_from_one_place_alone() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let places = ", header = \"authorization\", cookie = \"session\", query = \"access_token\"";
    let gateway = gateway(&origin, &signer, "", places);
    let token = signer.sign(&claims());
    let send = |target: &str, extra: &str| gateway.client().request("GET", target, extra, b"");
    let bearer = format!("Authorization: bearer {token}\r\n");
    let cookie = format!("Cookie: a=1; session={token}; b=2\r\n");
    let query = format!("/x?a=1&access_token={token}&b=2");
    send("/x", &bearer).expect(200);
    assert_eq!(origin.last().header("authorization"), Some(&*format!("bearer {token}")));
    send("/x", &cookie).expect(200);
    assert_eq!(origin.last().header("cookie"), Some("a=1; b=2"), "the others stay");
    send("/x", &format!("Cookie: session={token}\r\n")).expect(200);
    assert_eq!(origin.last().header("cookie"), None);
    send(&query, "").expect(200);
    assert_eq!(origin.targets().last().map(String::as_str), Some("/x?a=1&b=2"));
    // The page that leads here may have been asked for in the same way.
    let referrer = format!("Referer: https://a.test/p?c=1&access_token={token}\r\n");
    send(&format!("/x?access%5Ftoken={token}"), &referrer).expect(200);
    assert_eq!(origin.targets().last().map(String::as_str), Some("/x"));
    for (target, extra) in [
        ("/x", format!("{bearer}{cookie}")),
        (&*query, bearer.clone()),
        (&*query, cookie.clone()),
        ("/x", format!("{bearer}{bearer}")),
        ("/x", format!("{bearer}Authorization: Basic YTpi\r\n")),
        ("/x", format!("{cookie}Cookie: session=other\r\n")),
        (&*format!("{query}&access_token=x"), String::new()),
    ] {
        let answer = send(target, &extra).expect(401);
        assert!(answer.header("www-authenticate").unwrap_or_default().contains("invalid_request"), "{target} {extra}");
    }
    let shown = gateway.wait_log(12).iter().map(|line| format!("{line:?}")).collect::<String>();
    assert!(!shown.contains(&token[..40]), "the log has a token");
    assert!(shown.contains("https://a.test/p?c=1"), "{shown}");
}

#[test]
fn the_header_can_be_kept_from_the_origin() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let gateway = gateway(&origin, &signer, "", ", forward = false, header = \"x-token\"");
    gateway.client().request("GET", "/", &format!("X-Token: {}\r\n", signer.sign(&claims())), b"").expect(200);
    assert_eq!(origin.request().header("x-token"), None);
    ask(&gateway, &signer.sign(&claims())).expect(401);
}

#[test]
fn claims_become_headers_that_no_client_can_send() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let headers = "headers = { x-user = \"sub\", x-roles = \"realm.roles\", x-name = \"name\", x-none = \"no\" }";
    let gateway = gateway(&origin, &signer, headers, "");
    let token = signer.sign(&claims_with(json!({"realm": {"roles": ["a", "b"]}, "name": "Zoë\r\nX-Admin: 1 100%"})));
    let spoofed = "X-User: root\r\nx_user: root\r\nX.User: root\r\nX-ROLES: admin\r\nX-None: root\r\n";
    gateway.client().request("GET", "/", &format!("{spoofed}Authorization: Bearer {token}\r\n"), b"").expect(200);
    let seen = origin.last();
    assert_eq!((seen.header("x-user"), seen.header("x-roles")), (Some("alice"), Some("a,b")));
    assert_eq!((seen.header("x-name"), seen.header("x-admin")), (Some("Zo%C3%AB%0D%0AX-Admin: 1 100%25"), None));
    assert_eq!((seen.header("x-none"), seen.header("x_user"), seen.header("x.user")), (None, None, None));
    // On every route, whether it asks who somebody is or not.
    gateway.client().request("GET", "/open", spoofed, b"").expect(200);
    let seen = origin.last();
    for name in ["x-user", "x_user", "x.user", "x-roles", "x-none"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let lines = gateway.wait_log(2);
    let users: Vec<_> = lines.iter().filter_map(|line| line.field("user.name").as_str()).collect();
    assert_eq!(users, ["alice"], "{lines:?}");
}

#[test]
fn no_client_can_say_them_behind_its_body() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let gateway = gateway(&origin, &signer, "headers = { x-user = \"sub\" }", "");
    let token = signer.sign(&claims());
    for (path, more) in [("/open", ""), ("/", &*format!("Authorization: Bearer {token}\r\n"))] {
        let mut client = gateway.client();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\n{more}Trailer: X-User\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\nX-User: root\r\nX-Sum: 42\r\nx_user: root\r\nX-USER: root\r\n\r\n"
        ));
        client.response_to("POST").expect(200);
        let seen = origin.last();
        assert_eq!((&*seen.text(), &*seen.trailers), ("abc", &[("X-Sum".to_owned(), "42".to_owned())][..]), "{path}");
        client.get("/open").expect(200);
    }
}

#[test]
fn an_issuers_keys_verify_its_own_tokens_alone() {
    let (origin, one, two) = (Origin::saying("x"), Signer::es256("same"), Signer::es256("same"));
    let issuer = |name: &str, signer: &Signer| {
        format!(
            "[issuers.{name}]\nissuer = \"https://{name}.test\"\naudiences = [\"api\"]\nalgorithms = \"ES256\"\n\
             keys = [{{ kid = \"same\", pem = \"text:{}\" }}]\n",
            signer.pem().replace('\n', "\\n")
        )
    };
    let gateway = Gateway::start(&format!(
        "{}{}[clusters.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"r\"\ncluster = \"app\"\n\
         filters = [{{ jwt = {{ issuers = [\"one\", \"two\"] }} }}]\n",
        issuer("one", &one),
        issuer("two", &two),
        origin.endpoint()
    ));
    let of = |name: &str| claims_with(json!({"iss": format!("https://{name}.test")}));
    ask(&gateway, &one.sign(&of("one"))).expect(200);
    ask(&gateway, &two.sign(&of("two"))).expect(200);
    refused(&gateway, &one.sign(&of("two")), "signature");
    refused(&gateway, &two.sign(&of("one")), "signature");
    refused(&gateway, &one.sign(&of("three")), "issuer");
    gateway.wait_metrics("results are counted", |all| {
        all.count("ringway_jwt_total", &[("issuer", "one"), ("result", "ok")]) == 1
            && all.count("ringway_jwt_total", &[("issuer", "two"), ("result", "signature")]) == 1
    });
}

#[test]
fn routes_ask_for_their_own_audiences_and_claims() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let filter = ", audiences = [\"reports\"], claims = { tenant = [\"a\", \"b\"], \"realm.level\" = \"3\" }";
    let gateway = gateway(&origin, &signer, "", filter);
    let with = |aud: &str, tenant: &str, level: u8| {
        signer.sign(&claims_with(json!({"aud": aud, "tenant": tenant, "realm": {"level": level}})))
    };
    ask(&gateway, &with("reports", "b", 3)).expect(200);
    refused(&gateway, &with("api", "b", 3), "somebody else");
    refused(&gateway, &with("reports", "c", 3), "asked for");
    refused(&gateway, &with("reports", "a", 2), "asked for");
}

#[test]
fn bad_tokens_cost_their_address_the_next_verification() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let gateway = Gateway::with(&document(
        &origin,
        &format!(
            "algorithms = \"ES256\"\nkeys = [{{ kid = \"a\", pem = \"text:{}\" }}]",
            signer.pem().replace('\n', "\\n")
        ),
        ", failures = { max = 5, window = \"30s\" }",
    ))
    .shards(1)
    .start();
    let good = signer.sign(&claims());
    ask(&gateway, &good).expect(200);
    let evil = Signer::es256("a");
    for number in 0..5 {
        refused(&gateway, &evil.sign(&claims_with(json!({"jti": number}))), "signature");
    }
    let answer = ask(&gateway, &evil.sign(&claims())).expect(429);
    let wait: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((1..=30).contains(&wait), "{wait}");
    ask(&gateway, &signer.sign(&claims_with(json!({"jti": "new"})))).expect(429);
    ask(&gateway, &good).expect(200);
}

#[test]
fn keys_rotate_without_a_failed_request() {
    let (origin, first, second) = (Origin::saying("x"), Signer::es256("first"), Signer::es256("second"));
    let server = KeyServer::new(&[&first]);
    let gateway = start(&origin, &server.issuer("refresh = \"1h\"\nrefetch_min = \"1s\""), "");
    ask(&gateway, &first.sign(&claims())).expect(200);
    assert_eq!(server.origin.count(), 1, "read once, before anybody asked");
    std::thread::sleep(ms(1100));
    server.say(200, jwks(&[&first, &second]));
    // The new key's first token makes it be read, and waits for it.
    ask(&gateway, &second.sign(&claims())).expect(200);
    ask(&gateway, &first.sign(&claims())).expect(200);
    assert_eq!(server.origin.count(), 2);
    // A key that is taken away verifies nothing once the set was read, whatever is remembered.
    std::thread::sleep(ms(1100));
    server.say(200, jwks(&[&second]));
    refused(&gateway, &Signer::es256("third").sign(&claims()), "not known");
    refused(&gateway, &first.sign(&claims()), "not known");
    ask(&gateway, &second.sign(&claims())).expect(200);
}

#[test]
fn unknown_keys_fetch_so_often_at_most_over_all_cores() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let server = KeyServer::new(&[&signer]);
    let document = document(&origin, &server.issuer("refetch_min = \"30s\""), ", failures = { max = 100000 }");
    let gateway = Gateway::with(&document).shards(3).start();
    ask(&gateway, &signer.sign(&claims())).expect(200);
    let began = Instant::now();
    for number in 0..50 {
        let stranger = Signer::es256(&format!("kid {number}"));
        refused(&gateway, &stranger.sign(&claims()), "not known");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "nobody waits for a fetch that does not come");
    assert_eq!(server.origin.count(), 1);
}

#[test]
fn the_last_good_keys_stay_while_the_server_fails_or_lies() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let server = KeyServer::new(&[&signer]);
    let gateway = start(&origin, &server.issuer("refresh = \"1s\"\nrefetch_min = \"1s\"\ntimeout = \"1s\""), "");
    let token = |number: u32| signer.sign(&claims_with(json!({"jti": number})));
    ask(&gateway, &token(0)).expect(200);
    let lies: [(u16, String); 7] = [
        (500, "no".into()),
        (200, "no".into()),
        (200, "{\"keys\":[]}".into()),
        (200, "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}".into()),
        (200, format!("{{\"keys\":[{}]}}", "{},".repeat(300))),
        (200, "x".repeat(2 << 20)),
        (302, String::new()),
    ];
    for (number, (status, body)) in lies.into_iter().enumerate() {
        server.say(status, body);
        let failures = |all: &support::metrics::Metrics| all.count("ringway_jwks_refresh_failures_total", &[]);
        let before = failures(&gateway.metrics());
        gateway.wait_metrics("it was asked", |all| failures(all) > before);
        ask(&gateway, &token(1 + number as u32)).expect(200);
    }
    server.origin.refuse(true);
    ask(&gateway, &token(100)).expect(200);
    gateway.wait_metrics("the keys grow old", |all| all.sum("ringway_jwks_age_seconds", &[]) >= 3.0);
    gateway.wait_output("the last good ones stay");
}

#[test]
fn without_keys_nobody_passes() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let server = KeyServer::new(&[&signer]);
    server.say(500, "no");
    let gateway = start(&origin, &server.issuer("refetch_min = \"1s\"\ntimeout = \"1s\""), "");
    let answer = ask(&gateway, &signer.sign(&claims())).expect(503);
    assert_eq!(answer.problem()["code"], "auth_unavailable");
    assert!(answer.has("retry-after"));
    server.say(200, jwks(&[&signer]));
    wait_until("keys have come", Duration::from_secs(20), || ask(&gateway, &signer.sign(&claims())).status == 200);
    assert_eq!(origin.count(), 1);
}

/// A file that is not there refuses its routes, not the start; `check` says why.
#[test]
fn a_key_that_cannot_be_read_fails_closed() {
    let origin = Origin::saying("x");
    let issuer = "algorithms = \"ES256\"\nkeys = [{ pem = \"file:/nonexistent/key.pem\" }]";
    let gateway = start(&origin, issuer, "");
    ask(&gateway, &Signer::es256("a").sign(&claims())).expect(503);
    gateway.get("/open").expect(200);
    gateway.wait_output("nobody passes there");
    let checked = support::cli::ringway(["check", gateway.config.to_str().unwrap()]);
    assert!(checked.code == Some(1) && checked.err.contains("/nonexistent/key.pem cannot be read"), "{checked:?}");
    for (text, why) in [
        ("algorithms = \"RS256\"\nkeys = [{ pem = \"text:-----BEGIN PRIVATE KEY-----\" }]", "private key"),
        ("algorithms = \"HS512\"\nkeys = [{ secret = \"text:0123456789abcdef0123456789abcdef\" }]", "asks for 64"),
    ] {
        let gateway = start(&origin, text, "");
        ask(&gateway, &Signer::es256("a").sign(&claims())).expect(503);
        let checked = support::cli::ringway(["check", gateway.config.to_str().unwrap()]);
        assert!(checked.code == Some(1) && checked.err.contains(why), "{checked:?}");
    }
}

#[test]
fn a_stream_ends_with_its_token() {
    let signer = Signer::es256("a");
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..100 {
            x.send("2\r\n.\n\r\n")?;
            x.wait(ms(100));
        }
        x.send("0\r\n\r\n")
    });
    let token = |seconds: u64| signer.sign(&claims_with(json!({"exp": unix_s() + seconds})));
    let short = gateway(&origin, &signer, "leeway = \"0s\"", "");
    let began = Instant::now();
    let mut client = short.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", token(2)));
    let (_, bytes) = client.drain(Duration::from_secs(30));
    assert!(bytes > 50 && began.elapsed() < Duration::from_secs(6), "{bytes} in {:?}", began.elapsed());
    assert!(short.wait_log(1)[0].has_flag("UA"));
    let long = gateway(&origin, &signer, "leeway = \"0s\"", ", ends_with_token = false");
    ask(&long, &token(2)).expect(200);
}

#[test]
fn a_tunnel_ends_with_its_token() {
    let signer = Signer::es256("a");
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")?;
        x.echo_until_end()
    })
    .without_lint();
    let gateway = gateway(&origin, &signer, "leeway = \"0s\"", "");
    let token = signer.sign(&claims_with(json!({"exp": unix_s() + 3})));
    let mut client = gateway.client();
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    client.response().expect(101);
    client.send("hello");
    client.expect_bytes(b"hello");
    let began = Instant::now();
    client.drain(Duration::from_secs(30));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_changed_table_of_the_issuer_counts_for_tokens_that_are_known() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let key = format!("{{ kid = \"a\", pem = \"text:{}\" }}", signer.pem().replace('\n', "\\n"));
    let text = |lines: &str| {
        let issuer = format!("algorithms = \"ES256\"\nkeys = [{key}]\n{lines}");
        format!("[cores]\ncount = 1\n{}", document(&origin, &issuer, ""))
    };
    let mut gateway = Gateway::start(&text("headers = { x-user = \"sub\" }"));
    let token = signer.sign(&claims_with(json!({"email": "a@b.test"})));
    ask(&gateway, &token).expect(200);
    assert_eq!(origin.last().header("x-user"), Some("alice"));
    gateway.rewrite_and_reload(&text("headers = { x-mail = \"email\" }"));
    ask(&gateway, &token).expect(200);
    assert_eq!((origin.last().header("x-mail"), origin.last().header("x-user")), (Some("a@b.test"), None));
    gateway.rewrite_and_reload(&text("require = [\"tenant\"]"));
    ask(&gateway, &token).expect(401);
}
