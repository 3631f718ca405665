//! What `ringway explain` says of a token that is brought to a route: filter by filter, and what comes of it.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::cli::{binary, ringway, run, run_with_input};
use support::gateway::Dir;
use support::tokens::{Signer, base64url, claims_with, jwks, unix_s};

/// One route `r` with these filters, and further tables.
fn document(filters: &str, tables: &str) -> String {
    format!(
        "[listeners.main]\nbind = \"127.0.0.1:18080\"\n\n[[routes]]\nname = \"r\"\npath_prefix = \"/\"\n\
         respond = {{ body = \"x\" }}\nfilters = [\n{filters}\n]\n\n{tables}"
    )
}

/// An issuer `corp` of `https://id.test` for `api`, with a key of the configuration.
fn issuer(signer: &Signer) -> String {
    let pem = signer.pem().replace('\n', "\\n");
    format!(
        "[issuers.corp]\nissuer = \"https://id.test\"\naudiences = [\"api\"]\nalgorithms = \"{}\"\n\
         keys = [{{ kid = \"{}\", pem = \"text:{pem}\" }}]\nroles = [\"roles\"]\nleeway = \"0s\"\n",
        signer.algorithm, signer.kid
    )
}

struct Desk {
    dir: Dir,
    config: PathBuf,
}

impl Desk {
    fn new(text: &str) -> Desk {
        let dir = Dir::new();
        let config = dir.file("e.toml", text);
        Desk { dir, config }
    }

    fn explain(&self, url: &str, token: &str, more: &[&str]) -> String {
        let file = self.dir.file("token", token);
        self.explain_file(url, &file, more, token)
    }

    /// `token` never shows up in what is said.
    fn explain_file(&self, url: &str, file: &Path, more: &[&str], token: &str) -> String {
        let mut command = Command::new(binary());
        command.args(["explain", "GET", url, "-c"]).arg(&self.config).arg("--token-file").arg(file).args(more);
        let ran = run(&mut command).expect(0);
        hides(&ran.all(), token);
        ran.out
    }
}

#[track_caller]
fn hides(said: &str, token: &str) {
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!said.contains(part), "{part} is in {said}");
    }
}

#[track_caller]
fn has(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

/// The last line.
fn outcome(said: &str) -> &str {
    said.trim_end().rsplit('\n').next().unwrap_or_default()
}

const JWT: &str = "  { jwt = { issuer = \"corp\" } },";

#[test]
fn the_filters_stand_in_the_order_they_run_with_their_places() {
    let text = document(
        "  { strip_prefix = \"/a\" },\n  { rbac = { roles = [\"user\"] } },",
        &format!(
            "{}\n[policies.auth]\nrequired = true\nfilters = [\n{JWT}\n]\n\n[policies.own]\nfilters = [{{ fault = \
             {{ abort = {{ status = 500, percent = 0 }} }} }}]\n",
            issuer(&Signer::es256("a"))
        ),
    );
    let text = text.replace("[listeners.main]\n", "[listeners.main]\npolicies = [\"auth\"]\n");
    let text = text.replace("name = \"r\"\n", "name = \"r\"\npolicies = [\"own\"]\n");
    let file = Dir::new();
    let path = file.file("e.toml", &text);
    let line = |what: &str| 1 + text.lines().position(|line| line.contains(what)).expect(what);
    let said = ringway(["explain".as_ref(), "GET".as_ref(), "/a".as_ref(), "-c".as_ref(), path.as_os_str()]).expect(0);
    let filters: Vec<&str> = said.out.lines().filter(|line| line.starts_with("  filter")).collect();
    let wanted = [
        ("1. jwt", format!("(required policy auth of listener main, e.toml:{})", line("{ jwt"))),
        ("2. fault", format!("(policy own of route, e.toml:{})", line("{ fault"))),
        ("3. strip_prefix", format!("(route, e.toml:{})", line("strip_prefix"))),
        ("4. rbac", format!("(route, e.toml:{})", line("rbac"))),
    ];
    assert_eq!(filters.len(), wanted.len(), "{}", said.out);
    for (filter, (name, place)) in std::iter::zip(filters, &wanted) {
        let place = place.replace("e.toml", &path.display().to_string());
        assert!(filter.contains(name) && filter.ends_with(&place), "{filter} is not {name} {place}");
    }
}

#[test]
fn a_secret_that_is_written_out_is_not_shown() {
    let filters = "  { introspect = { url = \"https://id.test/i\", client_id = \"gateway\", \
                   client_secret = \"text:hush-hush\" } },";
    let desk = Desk::new(&document(filters, ""));
    let said = desk.explain("/x", "opaque", &[]);
    has(&said, &["introspect", "client_id = \"gateway\""]);
    assert!(!said.contains("hush"), "{said}");
    assert!(outcome(&said).starts_with("access: not known: "), "{said}");
}

#[test]
fn a_good_token_passes_and_its_roles_decide() {
    let signer = Signer::es256("a");
    let rules = "  { rbac = { rules = [\n    { paths = [\"/health\"], anyone = true },\n    \
                 { paths = [\"/admin/**\"], roles = [\"admin\"] },\n    { roles = [\"reader\", \"user\"] },\n  ] } },";
    let desk = Desk::new(&document(&format!("{JWT}\n{rules}"), &issuer(&signer)));
    let token = signer.sign(&claims_with(json!({"roles": ["reader", "night\u{1b}[2J"]})));
    let said = desk.explain("/x", &token, &[]);
    has(&said, &["issuer     corp", "signature  good: ES256, key \"a\"", "claims     fit", "sender     \"alice\""]);
    has(&said, &["roles      reader", "(jwt)", "rules[2]", "reader, user"]);
    assert!(!said.contains('\u{1b}'), "nothing in a token moves the cursor");
    assert_eq!(outcome(&said), "access: passes");
    let said = desk.explain("/admin/x", &token, &[]);
    has(&said, &["rules[1]"]);
    assert!(outcome(&said).starts_with("access: refused with 403 by rbac"), "{said}");
    has(outcome(&said), &["e.toml:10"]);
    has(&said, &["e.toml:12)"]);
    // A newline behind the token is no part of it.
    assert_eq!(outcome(&desk.explain("/x", &format!("{token}\n"), &[])), "access: passes");
}

#[test]
fn each_reason_of_a_refusal_is_told() {
    let signer = Signer::es256("a");
    let filter = "  { jwt = { issuer = \"corp\", claims = { tenant = [\"t1\", \"t2\"] } } },";
    let desk = Desk::new(&document(filter, &format!("{}require = [\"sub\"]\n", issuer(&signer))));
    let now = unix_s();
    let sign = |others: Value| {
        let mut all = json!({"tenant": "t1"});
        others.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
        signer.sign(&claims_with(all))
    };
    let good = sign(json!({}));
    assert_eq!(outcome(&desk.explain("/x", &good, &[])), "access: passes");
    for (token, why) in [
        (sign(json!({"exp": now - 100})), "expired, 100 s ago"),
        (sign(json!({"nbf": now + 100})), "not valid yet, for another"),
        (sign(json!({"aud": "other"})), "it must be for api"),
        (sign(json!({"sub": null})), "`sub` is missing or of the wrong type"),
        (sign(json!({"exp": null})), "`exp` is missing or of the wrong type"),
        (sign(json!({"aud": [7]})), "`aud` is missing or of the wrong type"),
        (sign(json!({"tenant": "t3"})), "`tenant` must be one of t1, t2"),
        (sign(json!({"iss": "https://evil.test"})), "issuer is not known"),
        (Signer::es256("a").sign(&claims_with(json!({}))), "signature is wrong"),
        (Signer::es256("b").sign(&claims_with(json!({}))), "key is not known"),
        (Signer::es384("a").sign(&claims_with(json!({}))), "algorithm is not allowed"),
        (format!("{}.e30.", base64url("{\"alg\":\"none\"}")), "algorithm is not allowed"),
        ("no-token-at-all".to_owned(), "malformed"),
        ("x".repeat(20_000), "too long"),
    ] {
        let said = desk.explain("/x", &token, &[]);
        assert!(outcome(&said).starts_with("access: refused with 401 by jwt"), "{said}");
        has(&said, &[why]);
    }
}

#[test]
fn keys_that_are_fetched_are_said_to_be_unknown() {
    let signer = Signer::es256("a");
    let issuer = "[issuers.corp]\nissuer = \"https://id.test\"\naudiences = [\"api\"]\nalgorithms = \"ES256\"\n\
                  jwks_url = \"https://id.test/jwks\"\nroles = [\"roles\"]\n";
    let rbac = "  { rbac = { roles = [\"admin\"] } },";
    let desk = Desk::new(&document(&format!("{JWT}\n{rbac}"), issuer));
    let said = desk.explain("/x", &signer.sign(&claims_with(json!({"roles": "admin"}))), &[]);
    has(&said, &["signature  not known here", "https://id.test/jwks", "claims     fit", "unverified"]);
    assert!(outcome(&said).starts_with("access: not known: "), "{said}");
    // What is refused whatever the signature is, is refused.
    let said = desk.explain("/x", &signer.sign(&claims_with(json!({"roles": "user"}))), &[]);
    assert!(outcome(&said).starts_with("access: refused with 401 or 403"), "{said}");
    let said = desk.explain("/x", &signer.sign(&claims_with(json!({"exp": 1}))), &[]);
    assert!(outcome(&said).starts_with("access: refused with 401 by jwt"), "{said}");
}

#[test]
fn a_file_of_keys_is_read() {
    let signer = Signer::ed25519("a");
    let dir = Dir::new();
    let file = dir.file("keys.json", &jwks(&[&signer]));
    let issuer = format!(
        "[issuers.corp]\nissuer = \"https://id.test\"\naudiences = [\"api\"]\nalgorithms = \"EdDSA\"\n\
         jwks_file = \"{}\"\n",
        file.display()
    );
    let desk = Desk::new(&document(JWT, &issuer));
    let token = signer.sign(&claims_with(json!({})));
    let said = desk.explain("/x", &token, &[]);
    has(&said, &["signature  good: EdDSA, key \"a\""]);
    assert_eq!(outcome(&said), "access: passes");
    std::fs::remove_file(&file).expect("it is there");
    let said = desk.explain("/x", &token, &[]);
    assert!(outcome(&said).starts_with("access: refused with 503 by jwt"), "{said}");
    has(&said, &["keys.json cannot be read"]);
}

#[test]
fn one_of_several_kinds_decides_and_others_need_a_request() {
    let signer = Signer::es256("a");
    let any = "  { any_of = [{ api_key = {} }, { jwt = { issuer = \"corp\" } }] },";
    let consumer = "\n[consumers.shop]\napi_keys = [\"text:0123456789abcdef0123456789abcdef\"]\n\
                    hmac_keys = { k = \"text:0123456789abcdef0123456789abcdef\" }\npassword = \"$2y$04$abcdefghijklmnopqrstuuu\"\ngroups = [\"shops\"]\n";
    let consumers = format!("{}consumer = \"client\"\n{consumer}", issuer(&signer));
    let desk = Desk::new(&document(&format!("{any}\n  {{ rbac = {{ roles = [\"shops\"] }} }},"), &consumers));
    let said = desk.explain("/x", &signer.sign(&claims_with(json!({"client": "shop"}))), &[]);
    has(&said, &["api_key    needs a request with its credentials", "shops (groups of consumer shop)"]);
    assert_eq!(outcome(&said), "access: passes");
    for kind in ["api_key", "basic", "hmac"] {
        let desk = Desk::new(&document(&format!("  {{ {kind} = {{}} }},"), consumer));
        let said = desk.explain("/x", "opaque", &[]);
        has(&said, &[&format!("{kind:<10} needs a request with its credentials")]);
        assert!(outcome(&said).starts_with(&format!("access: not known: {kind}")), "{said}");
    }
    let desk = Desk::new(&document("  { ext_authz = { url = \"https://authz.test/\" } },", ""));
    let said = desk.explain("/x", "opaque", &[]);
    assert!(outcome(&said).starts_with("access: not known: ext_authz"), "{said}");
}

#[test]
fn addresses_are_judged_and_what_was_not_tried_is_named() {
    let signer = Signer::es256("a");
    let filters = "  { ip_access = { allow = [\"10.0.0.0/8\"] } },\n  { rate_limit = { rate = \"1/s\" } },";
    let desk = Desk::new(&document(&format!("{filters}\n{JWT}"), &issuer(&signer)));
    let token = signer.sign(&claims_with(json!({})));
    let said = desk.explain("/x", &token, &["--client", "10.1.2.3"]);
    assert_eq!(outcome(&said), "access: passes; not tried: rate_limit");
    let said = desk.explain("/x", &token, &[]);
    assert!(outcome(&said).starts_with("access: refused with 403 by ip_access"), "{said}");
}

#[test]
fn a_token_comes_from_a_file_or_from_stdin_and_nowhere_else() {
    let signer = Signer::es256("a");
    let desk = Desk::new(&document(JWT, &issuer(&signer)));
    let token = signer.sign(&claims_with(json!({})));
    let mut command = Command::new(binary());
    command.args(["explain", "GET", "/x", "--token-file", "-", "-c"]).arg(&desk.config);
    let ran = run_with_input(&mut command, token.as_bytes()).expect(0);
    hides(&ran.all(), &token);
    assert_eq!(outcome(&ran.out), "access: passes");
    let config = desk.config.to_str().expect("a plain path");
    let ran = ringway(["explain", "GET", "/x", "-c", config, "--token-file", "/nowhere/token"]).expect(1);
    has(&ran.err, &["--token-file"]);
    // Somebody pastes the token in the place of the file's name.
    let ran = ringway(["explain", "GET", "/x", "-c", config, "--token-file", &token]).expect(1);
    hides(&ran.all(), &token);
    hides(&ringway(["explain", "GET", "/x", "-c", config, "--token", &token]).expect(2).all(), &token);
    let large = desk.dir.file("large", &"x".repeat(1 << 20));
    has(
        &ringway(["explain", "GET", "/x", "-c", config, "--token-file", large.to_str().unwrap()]).expect(1).err,
        &["64KiB"],
    );
    let none = desk.explain_none("/x");
    has(&none, &["access: no route"]);
}

impl Desk {
    /// For a method that no route takes.
    fn explain_none(&self, url: &str) -> String {
        let text = std::fs::read_to_string(&self.config).expect("it was written");
        let config = self.dir.file("none.toml", &text.replace("path_prefix = \"/\"", "path = \"/other\""));
        let file = self.dir.file("token", "x");
        let mut command = Command::new(binary());
        command.args(["explain", "GET", url, "-c"]).arg(config).arg("--token-file").arg(file);
        run(&mut command).expect(1).out
    }
}
