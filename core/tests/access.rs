//! Who may do what: consumers by key and by password, roles, policies that no route drops by accident.

mod support;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::cli::ringway;
use support::tokens::{Signer, claims_with};
use support::{Gateway, Metrics, Origin, Response, ms};

/// bcrypt of `correct horse`, at the lowest cost.
fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).expect("a hash")
}

fn gateway(origin: &Origin, consumers: &str, filters: &str) -> Gateway {
    Gateway::start(&document(origin, consumers, filters))
}

fn document(origin: &Origin, consumers: &str, filters: &str) -> String {
    format!(
        "{consumers}\n[clusters.app]\nendpoints = [\"{}\"]\n\n[[routes]]\nname = \"open\"\npath = \"/open\"\n\
         cluster = \"app\"\n\n[[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\nfilters = [{filters}]\n",
        origin.endpoint()
    )
}

fn send(gateway: &Gateway, target: &str, extra: &str) -> Response {
    gateway.client().request("GET", target, extra, b"")
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

const KEYS: &str = "[consumers.alice]\napi_keys = [\"text:alice-key\"]\ngroups = [\"reader\"]\n\
    [consumers.bob]\napi_keys = [\"sha256:7a8db4b2d11c69c5ee20ce4ec8f3e9c4b3a1c1c30a34aaeb8fd8c9bb7c0f1d22\", \"text:bob-key\"]\n";

#[test]
fn a_key_says_which_consumer_asks() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, KEYS, "{ api_key = {} }");
    send(&gateway, "/", "X-API-Key: alice-key\r\n").expect(200);
    assert_eq!(origin.last().header("x-api-key"), None, "the key is not the origin's business");
    send(&gateway, "/", "x-api-key: bob-key\r\n").expect(200);
    for wrong in ["X-API-Key: nobody\r\n", "X-API-Key: \r\n", "X-API-Key: alice-key \u{1}\r\n"] {
        assert!([400, 401].contains(&send(&gateway, "/", wrong).status), "{wrong}");
    }
    let twice = send(&gateway, "/", "X-API-Key: alice-key\r\nX-API-Key: bob-key\r\n").expect(401);
    assert_eq!(twice.problem()["code"], "invalid_api_key");
    assert_eq!(gateway.get("/").expect(401).problem()["code"], "unauthenticated");
    let lines = gateway.wait_log(5);
    assert!(lines.iter().any(|line| line.field("user.name").as_str() == Some("alice")), "{lines:?}");
    let logged = std::fs::read_to_string(gateway.dir.path().join("access.log")).expect("a log");
    assert!(!logged.contains("alice-key"));
}

#[test]
fn a_key_by_its_digest_or_from_a_file_is_the_same() {
    let origin = Origin::saying("x");
    let digest: String = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"secret-one")
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let file = std::env::temp_dir().join(format!("ringway-key-{}", std::process::id()));
    std::fs::write(&file, "secret-two\n").expect("written");
    let consumers = format!("[consumers.alice]\napi_keys = [\"sha256:{digest}\", \"file:{}\"]\n", file.display());
    let gateway = gateway(&origin, &consumers, "{ api_key = { query = \"key\", header = \"x-key\" } }");
    send(&gateway, "/", "X-Key: secret-one\r\n").expect(200);
    send(&gateway, "/?a=1&key=secret-two", "").expect(200);
    assert_eq!(origin.targets().last().map(String::as_str), Some("/?a=1"));
    send(&gateway, "/?key=secret-three", "").expect(401);
    std::fs::remove_file(file).expect("it was there");
}

#[test]
fn a_password_says_which_consumer_asks() {
    let origin = Origin::saying("x");
    let consumers =
        format!("[consumers.alice]\npassword = \"{}\"\n[consumers.bob]\ngroups = [\"x\"]\n", hash("correct horse"));
    let gateway = gateway(&origin, &consumers, "{ basic = { realm = \"reports\" } }");
    let answer = gateway.get("/").expect(401);
    assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"reports\", charset=\"UTF-8\""));
    send(&gateway, "/", &basic("alice", "correct horse")).expect(200);
    assert_eq!(origin.last().header("authorization"), None);
    for (user, password) in
        [("alice", "wrong"), ("alice", ""), ("bob", "x"), ("nobody", "correct horse"), ("", "correct horse")]
    {
        let answer = send(&gateway, "/", &basic(user, password)).expect(401);
        assert!(answer.has("www-authenticate"), "{user}:{password}");
    }
    for wrong in ["Authorization: Basic !!!\r\n", "Authorization: Basic YWxpY2U=\r\n"] {
        send(&gateway, "/", wrong).expect(401);
    }
    assert_eq!(origin.count(), 1);
}

/// A hash of a second holds no loop up, and is paid once.
#[test]
fn a_slow_hash_holds_nobody_else_up() {
    let origin = Origin::saying("x");
    let consumers =
        format!("[consumers.alice]\npassword = \"{}\"\n", bcrypt::hash("correct horse", 14).expect("a hash"));
    let gateway = Gateway::with(&document(&origin, &consumers, "{ basic = { deadline = \"30s\" } }")).shards(1).start();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let began = Instant::now();
            send(&gateway, "/", &basic("alice", "correct horse")).expect(200);
            began.elapsed()
        });
        std::thread::sleep(ms(20));
        let began = Instant::now();
        let mut longest = Duration::ZERO;
        let mut client = gateway.client();
        while !slow.is_finished() && began.elapsed() < Duration::from_secs(60) {
            let asked = Instant::now();
            client.get("/open").expect(200);
            longest = longest.max(asked.elapsed());
        }
        let slow = slow.join().expect("it passes");
        assert!(longest < slow / 3, "somebody waited {longest:?} of {slow:?}");
    });
    let again = Instant::now();
    send(&gateway, "/", &basic("alice", "correct horse")).expect(200);
    assert!(again.elapsed() < ms(300), "remembered: {:?}", again.elapsed());
}

/// Signatures that take long are verified where passwords are hashed: behind one, not before it.
#[test]
fn a_slow_signature_is_verified_on_another_thread() {
    let (origin, slow, fast) = (Origin::saying("x"), Signer::es512("a"), Signer::es256("a"));
    let of = |name: &str, signer: &Signer| {
        issuer(signer).replace("issuers.corp", &format!("issuers.{name}")).replace("id.test", &format!("{name}.test"))
    };
    let password = bcrypt::hash("correct horse", 15).expect("a hash");
    let setup = format!(
        "[workers]\nthreads = 1\n{}{}[consumers.alice]\npassword = \"{password}\"\n",
        of("slow", &slow).replace("ES256", "ES512"),
        of("fast", &fast)
    );
    let filters = "{ any_of = [{ jwt = { issuers = [\"slow\", \"fast\"] } }, { basic = { deadline = \"60s\" } }] }";
    let gateway = gateway(&origin, &setup, filters);
    let token = |signer: &Signer, name: &str| bearer(signer, json!({"iss": format!("https://{name}.test")}));
    let jobs = |metrics: &Metrics, result| metrics.count("ringway_workers_jobs_total", &[("result", result)]);
    std::thread::scope(|scope| {
        scope.spawn(|| send(&gateway, "/hash", &basic("alice", "correct horse")).expect(200));
        gateway.wait_metrics("the hash has begun", |metrics| metrics.count("ringway_workers_running", &[]) == 1);
        scope.spawn(|| send(&gateway, "/slow", &token(&slow, "slow")).expect(200));
        gateway.wait_metrics("the signature waits", |metrics| metrics.count("ringway_workers_waiting", &[]) == 1);
        send(&gateway, "/fast", &token(&fast, "fast")).expect(200);
        assert_eq!(jobs(&gateway.metrics(), "done"), 0, "it passed while the worker was busy");
    });
    assert_eq!(origin.targets()[0], "/fast");
    assert_eq!(jobs(&gateway.metrics(), "done"), 2);
    // Once verified it is remembered like any other.
    let same = token(&slow, "slow");
    send(&gateway, "/", &same).expect(200);
    send(&gateway, "/", &same).expect(200);
}

#[test]
fn hashes_that_do_not_fit_are_refused_in_time() {
    let origin = Origin::saying("x");
    let password = bcrypt::hash("correct horse", 12).expect("a hash");
    let consumers = format!("[workers]\nthreads = 1\nqueue_max = 1\n[consumers.alice]\npassword = \"{password}\"\n");
    let gateway = gateway(&origin, &consumers, "{ basic = { deadline = \"30s\" } }");
    let statuses = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let gateway = &gateway;
            scope.spawn(move || send(gateway, "/", &basic("alice", &format!("guess {number}"))).status)
        };
        let asked: Vec<_> = (0..8).map(ask).collect();
        asked.into_iter().map(|one| one.join().expect("no client fails")).collect::<Vec<_>>()
    });
    let count = |status| statuses.iter().filter(|have| **have == status).count();
    assert!(count(401) >= 1 && count(503) >= 1 && count(401) + count(503) == 8, "{statuses:?}");
    let refused = gateway.metrics().count("ringway_workers_jobs_total", &[("result", "refused")]);
    assert_eq!(refused, count(503) as u64);
    let late = gateway_with_deadline(&origin, &consumers);
    let began = Instant::now();
    let answer = send(&late, "/", &basic("alice", "correct horse")).expect(503);
    assert!(answer.has("retry-after") && began.elapsed() < ms(1000), "{:?}", began.elapsed());
}

fn gateway_with_deadline(origin: &Origin, consumers: &str) -> Gateway {
    gateway(origin, consumers, "{ basic = { deadline = \"10ms\" } }")
}

fn issuer(signer: &Signer) -> String {
    format!(
        "[issuers.corp]\nissuer = \"https://id.test\"\naudiences = [\"api\"]\nalgorithms = \"ES256\"\n\
         roles = [\"realm.roles\", \"scope\"]\nconsumer = \"azp\"\nkeys = [{{ kid = \"a\", pem = \"text:{}\" }}]\n",
        signer.pem().replace('\n', "\\n")
    )
}

fn bearer(signer: &Signer, others: serde_json::Value) -> String {
    format!("Authorization: Bearer {}\r\n", signer.sign(&claims_with(others)))
}

#[test]
fn any_of_takes_the_first_kind_that_is_there() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let setup = format!("{}{KEYS}", issuer(&signer));
    let gateway = gateway(&origin, &setup, "{ any_of = [{ jwt = { issuer = \"corp\" } }, { api_key = {} }] }");
    send(&gateway, "/", &bearer(&signer, json!({}))).expect(200);
    send(&gateway, "/", "X-API-Key: bob-key\r\n").expect(200);
    send(&gateway, "/", "X-API-Key: nobody\r\n").expect(401);
    let stranger = Signer::es256("a");
    send(&gateway, "/", &format!("{}X-API-Key: nobody\r\n", bearer(&stranger, json!({})))).expect(401);
    let answer = gateway.get("/").expect(401);
    assert_eq!(answer.all("www-authenticate"), ["Bearer realm=\"ringway\"", "ApiKey realm=\"ringway\""]);
    // A token that is nobody's here is not in the way of a key that is somebody's.
    send(&gateway, "/", "Authorization: Bearer opaque\r\nX-API-Key: bob-key\r\n").expect(200);
    assert_eq!(origin.count(), 3);
}

#[test]
fn any_of_takes_out_the_credentials_of_all_its_kinds() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let setup = format!("{}{KEYS}", issuer(&signer));
    let kinds = "{ any_of = [{ jwt = { issuer = \"corp\", forward = false } }, { api_key = {} }, \
        { hmac = {} }, { api_key = { header = \"x-other\", cookie = \"key\" } }] }";
    let setup = format!("{setup}[consumers.carol.hmac_keys]\nk = \"text:{}\"\n", "k".repeat(32));
    let gateway = gateway(&origin, &setup, kinds);
    let others = "X-API-Key: alice-key\r\nX-Other: nobody\r\nCookie: key=alice-key; a=1\r\nSignature: s=:x:\r\n";
    let seen = |credentials: &str| {
        send(&gateway, "/", credentials).expect(200);
        let last = origin.last();
        ["authorization", "x-api-key", "x-other", "signature", "cookie"]
            .map(|name| last.header(name).map(str::to_owned))
    };
    let rest = [None, None, None, None, Some("a=1".to_owned())];
    assert_eq!(seen(&format!("{}{others}", bearer(&signer, json!({})))), rest);
    assert_eq!(seen(&format!("Authorization: Bearer opaque\r\n{others}")), rest);
    // A token that is to be forwarded is not in the way of another scheme of the same header.
    let setup = format!("{}[consumers.dan]\npassword = \"{}\"\n", issuer(&signer), hash("x"));
    let kept = self::gateway(&origin, &setup, "{ any_of = [{ jwt = { issuer = \"corp\" } }, { basic = {} }] }");
    let token = bearer(&signer, json!({}));
    send(&kept, "/", &token).expect(200);
    assert_eq!(origin.last().header("authorization"), token.trim_end().strip_prefix("Authorization: "));
}

#[test]
fn roles_come_from_claims_groups_and_filters() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let setup = format!("{}{KEYS}", issuer(&signer));
    let filters =
        "{ any_of = [{ jwt = { issuer = \"corp\" } }, { api_key = {} }] }, { rbac = { roles = [\"reader\"] } }";
    let gateway = gateway(&origin, &setup, filters);
    send(&gateway, "/", &bearer(&signer, json!({"realm": {"roles": ["x", "reader"]}}))).expect(200);
    send(&gateway, "/", &bearer(&signer, json!({"scope": "openid reader"}))).expect(200);
    send(&gateway, "/", &bearer(&signer, json!({"azp": "alice"}))).expect(200);
    send(&gateway, "/", "X-API-Key: alice-key\r\n").expect(200);
    for others in [json!({}), json!({"scope": "readers"}), json!({"azp": "bob"}), json!({"roles": "reader"})] {
        let answer = send(&gateway, "/", &bearer(&signer, others.clone()));
        assert_eq!((answer.status, answer.problem()["code"].as_str()), (403, Some("forbidden")), "{others}");
    }
    send(&gateway, "/", "X-API-Key: bob-key\r\n").expect(403);
    assert!(gateway.wait_log(5).iter().any(|line| line.has_flag("FB")));
    assert_eq!(origin.count(), 4);
}

#[test]
fn a_role_in_a_header_is_a_filters_word_never_a_clients() {
    let origin = Origin::saying("x");
    let rbac = "{ rbac = { roles = [\"admin\"], roles_header = \"x-roles\" } }";
    let set = "{ request_headers = { set = { x-roles = \"a, admin\" } } }";
    let by_filter = gateway(&origin, "", &format!("{set}, {rbac}"));
    send(&by_filter, "/", "").expect(200);
    let by_nobody = gateway(&origin, "", rbac);
    for spoofed in ["X-Roles: admin\r\n", "x_roles: admin\r\n", "X-ROLES: admin\r\nX-Roles: admin\r\n"] {
        send(&by_nobody, "/", spoofed).expect(401);
        send(&by_nobody, "/open", spoofed).expect(200);
        assert_eq!((origin.last().header("x-roles"), origin.last().header("x_roles")), (None, None));
    }
}

/// What one filter says and another one takes back is not there.
#[test]
fn a_role_that_was_taken_out_again_is_none() {
    let origin = Origin::saying("x");
    let edit = |edit: &str| format!("{{ request_headers = {{ {edit} }} }}");
    let filters = [
        edit("set = { x-roles = \"admin\" }"),
        edit("remove = [\"x-roles\"]"),
        "{ rbac = { roles = [\"admin\"], roles_header = \"x-roles\" } }".to_owned(),
    ];
    send(&gateway(&origin, "", &filters.join(", ")), "/", "").expect(401);
    assert_eq!(origin.count(), 0);
}

/// RFC 9110 section 15.5.2.
#[test]
fn each_401_says_how_one_may_say_who_one_is() {
    let origin = Origin::saying("x");
    let consumers = format!("{KEYS}[consumers.carol]\nhmac_keys = {{ c = \"text:{}\" }}\n", "c".repeat(32));
    for (filter, wrong, wanted) in [
        ("{ api_key = {} }", "X-API-Key: nobody\r\n", "ApiKey realm=\"ringway\""),
        ("{ hmac = {} }", "Signature: x\r\n", "Signature realm=\"ringway\""),
        ("{ rbac = { roles = [\"reader\"] } }", "", "Ringway realm=\"ringway\""),
    ] {
        let gateway = gateway(&origin, &consumers, filter);
        for extra in ["", wrong] {
            let answer = send(&gateway, "/", extra).expect(401);
            assert_eq!(answer.header("www-authenticate"), Some(wanted), "{filter} {extra}");
        }
    }
}

#[test]
fn a_key_of_several_consumers_lets_none_of_them_in() {
    let origin = Origin::saying("x");
    let three = ["one", "two", "three"].map(|name| format!("[consumers.{name}]\napi_keys = [\"text:shared\"]\n"));
    let gateway = gateway(&origin, &format!("{}{KEYS}", three.concat()), "{ api_key = {} }");
    send(&gateway, "/", "X-API-Key: shared\r\n").expect(401);
    send(&gateway, "/", "X-API-Key: alice-key\r\n").expect(200);
    gateway.wait_output("has the same key");
}

#[test]
fn credentials_in_cookies_are_taken_out_by_each_filter_that_reads_one() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let setup = format!("{}{KEYS}", issuer(&signer));
    let filters = "{ jwt = { issuer = \"corp\", cookie = \"session\" } }, { api_key = { cookie = \"key\" } }";
    let gateway = gateway(&origin, &setup, filters);
    let session = signer.sign(&claims_with(json!({})));
    send(&gateway, "/", &format!("Cookie: a=1; session={session}; key=alice-key\r\nCookie: b=2\r\n")).expect(200);
    assert_eq!(origin.last().all("cookie"), ["a=1; b=2"]);
    send(&gateway, "/", &format!("Cookie: session={session}; key=alice-key\r\n")).expect(200);
    assert_eq!(origin.last().header("cookie"), None);
}

#[test]
fn rules_decide_by_method_path_and_route() {
    let origin = Origin::saying("x");
    let consumers = "[consumers.reader]\napi_keys = [\"text:r\"]\ngroups = [\"reader\"]\n\
        [consumers.admin]\napi_keys = [\"text:a\"]\ngroups = [\"admin\"]\n[consumers.plain]\napi_keys = [\"text:p\"]\n";
    let rules = "{ api_key = { optional = true } }, { rbac = { rules = [\
        { paths = [\"/health\"], anyone = true }, \
        { methods = [\"GET\"], paths = [\"/reports/**\"], roles = [\"reader\", \"admin\"] }, \
        { paths = [\"/reports/**\"], roles = [\"admin\"] }, \
        { paths = [\"/closed/**\"], deny = true }, \
        { paths = [\"/me/*\"], authenticated = true }, \
        { paths = [\"/plain\"], consumers = [\"plain\"] }] } }";
    let gateway = gateway(&origin, consumers, rules);
    let ask = |method: &str, target: &str, key: &str| {
        let extra = if key.is_empty() { String::new() } else { format!("X-API-Key: {key}\r\n") };
        gateway.client().request(method, target, &extra, b"").status
    };
    for (method, target, key, status) in [
        ("GET", "/health", "", 200),
        ("GET", "/reports/7", "r", 200),
        ("HEAD", "/reports/7", "r", 200),
        ("DELETE", "/reports/7", "r", 403),
        ("DELETE", "/reports/7", "a", 200),
        ("GET", "/reports/7", "p", 403),
        ("GET", "/reports/7", "", 401),
        ("GET", "/closed/x", "a", 403),
        ("GET", "/me/x", "p", 200),
        ("GET", "/me/x", "", 401),
        ("GET", "/me/x/y", "p", 403),
        ("GET", "/plain", "p", 200),
        ("GET", "/plain", "a", 403),
        ("GET", "/elsewhere", "a", 403),
        ("GET", "/elsewhere", "", 403),
        ("GET", "/%72eports/7", "p", 403),
        ("GET", "/x/../reports/7", "p", 403),
        ("GET", "/health/../closed/x", "a", 403),
        ("GET", "/health%2f..%2fclosed/x", "a", 403),
        ("GET", "/me/a%2fb", "p", 403),
    ] {
        let got = ask(method, target, key);
        // A path that hides segments may be refused before any route, too.
        assert!(got == status || (got == 400 && target.contains("%2f")), "{method} {target} {key}: {got}");
    }
}

#[test]
fn a_required_policy_is_dropped_by_public_alone() {
    let origin = Origin::saying("x");
    let text = |line: &str| {
        format!(
            "{KEYS}[policies.auth]\nrequired = true\nfilters = [{{ api_key = {{}} }}]\n[hosts.\"a.test\"]\npolicies = [\"auth\"]\n\
             [clusters.app]\nendpoints = [\"{}\"]\n[groups.g]\npolicies = [\"auth\"]\n\
             [[routes]]\nname = \"closed\"\npath = \"/closed\"\nhost = \"a.test\"\ncluster = \"app\"\n\
             [[routes]]\nname = \"grouped\"\npath = \"/grouped\"\ngroup = \"g\"\ncluster = \"app\"\n\
             [[routes]]\nname = \"health\"\npath = \"/health\"\ngroup = \"g\"\n{line}\ncluster = \"app\"\n",
            origin.endpoint()
        )
    };
    let gateway = Gateway::start(&text("public = true"));
    let ask = |target: &str| {
        gateway.exchange(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")).status
    };
    assert_eq!([ask("/closed"), ask("/grouped"), ask("/health")], [401, 401, 200]);
    let checked = ringway(["check", gateway.config.to_str().unwrap()]);
    assert!(checked.code == Some(0), "{checked:?}");
    assert!(checked.out.contains("reachable without authentication: 1 of 3 routes: health\n"), "{checked:?}");
    let listed = ringway(["routes", gateway.config.to_str().unwrap()]);
    let wanted = "closed  any  a.test/closed  authenticated\ngrouped  any  /grouped  authenticated\n\
        health  any  /health  open (public)\n";
    assert!(listed.code == Some(0) && listed.out == wanted, "{listed:?}");
    let bad = gateway.dir.file("bad.toml", &text("without = [\"auth\"]"));
    let checked = ringway(["check", bad.to_str().unwrap()]);
    assert!(checked.code == Some(1) && checked.err.contains("\"auth\" is required"), "{checked:?}");
}

#[test]
fn mistakes_in_these_filters_are_named_with_their_cure() {
    let origin = Origin::saying("x");
    let dir = support::gateway::Dir::new();
    for (filters, wanted) in [
        ("{ jwt = { issuer = \"corb\" } }", "no issuer named \"corb\""),
        ("{ jwt = {} }", "names no issuer"),
        ("{ api_key = { heder = \"x\" } }", "did you mean \"header\"?"),
        ("{ basic = {} }", "no consumer has a password"),
        ("{ any_of = [{ api_key = {} }] }", "2 to 8 make sense"),
        ("{ any_of = [{ api_key = {} }, { rbac = { roles = [\"a\"] } }] }", "does not ask who somebody is"),
        ("{ rbac = {} }", "one of `roles` and `rules`"),
        ("{ rbac = { rules = [{ roles = [\"a\"], anyone = true }] } }", "keep one"),
        ("{ rbac = { rules = [{ paths = [\"a\"], anyone = true }] } }", "does not begin with a slash"),
        ("{ rbac = { rules = [{ paths = [\"/a b/**\"], deny = true }] } }", "is no path"),
        ("{ rbac = { rules = [{ paths = [\"/a/../b\"], deny = true }] } }", "normal form: /b"),
        ("{ rbac = { rules = [{ routes = [\"x\"], anyone = true }] } }", "no route named \"x\""),
        ("{ rbac = { rules = [{ consumers = [\"x\"] }] } }", "no consumer named \"x\""),
    ] {
        let text = format!("[listeners.main]\nbind = \":1\"\n{}", document(&origin, KEYS, filters));
        let file = dir.file("bad.toml", &text);
        let checked = ringway(["check", file.to_str().unwrap()]);
        assert!(
            checked.code == Some(1) && checked.err.contains(wanted) && checked.err.contains("routes[1]"),
            "{filters}: {checked:?}"
        );
    }
}
