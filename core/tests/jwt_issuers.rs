//! Whose tokens are whose: what is remembered of one issuer's says nothing of another's, nor of the same issuer once its
//! table or its keys have changed.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::key_server::KeyServer;
use support::tokens::{Signer, claims_with, jwks};
use support::{Gateway, Origin, Response, ms, wait_until};

/// An issuer whose keys are fetched. `https://NAME.test`, for the audience `api`.
fn issuer(name: &str, server: &KeyServer, extra: &str) -> String {
    let audiences = if extra.contains("audiences") { "" } else { "audiences = [\"api\"]\n" };
    format!(
        "[issuers.{name}]\nissuer = \"https://{name}.test\"\n{audiences}headers = {{ x-user = \"sub\" }}\n{}\n",
        server.issuer(extra)
    )
}

fn route(name: &str, filter: &str) -> String {
    format!(
        "[[routes]]\nname = \"{name}\"\npath_prefix = \"/{name}\"\ncluster = \"app\"\nfilters = [{{ {filter} }}]\n\n"
    )
}

/// One core, so that what was remembered is what is looked at.
fn document(origin: &Origin, issuers: &str, routes: &str) -> String {
    format!("[cores]\ncount = 1\n{issuers}[clusters.app]\nendpoints = [\"{}\"]\n{routes}", origin.endpoint())
}

fn of(issuer: &str, more: Value) -> Value {
    let mut claims = claims_with(more);
    claims["iss"] = format!("https://{issuer}.test").into();
    claims
}

fn ask(gateway: &Gateway, path: &str, token: &str) -> Response {
    gateway.client().request("GET", path, &format!("Authorization: Bearer {token}\r\n"), b"")
}

fn refused(answer: Response, why: &str) {
    let answer = answer.expect(401);
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains(why), "{challenge}");
}

#[test]
fn a_known_token_of_one_issuer_is_nothing_on_a_route_of_another() {
    let (origin, one, other) = (Origin::saying("x"), Signer::es256("one"), Signer::es256("other"));
    let [partner, corp] = [&one, &other].map(|signer| KeyServer::new(&[signer]));
    let issuers = issuer("partner", &partner, "") + &issuer("corp", &corp, "");
    let routes = route("partner", "jwt = { issuer = \"partner\" }") + &route("admin", "jwt = { issuer = \"corp\" }");
    let gateway = Gateway::start(&document(&origin, &issuers, &routes));
    let token = one.sign(&of("partner", json!({"sub": "root"})));
    for _ in 0..2 {
        ask(&gateway, "/partner", &token).expect(200);
        refused(ask(&gateway, "/admin", &token), "issuer is not known");
    }
    let own = other.sign(&of("corp", json!({})));
    ask(&gateway, "/admin", &own).expect(200);
    refused(ask(&gateway, "/partner", &own), "issuer is not known");
    assert_eq!(origin.count(), 3);
}

#[test]
fn each_issuer_of_a_filter_judges_its_own_known_tokens() {
    let (origin, one, other) = (Origin::saying("x"), Signer::es256("one"), Signer::es256("other"));
    let [corp, partner] = [&one, &other].map(|signer| KeyServer::new(&[signer]));
    let issuers =
        issuer("corp", &corp, "audiences = [\"inside\"]") + &issuer("partner", &partner, "audiences = [\"outside\"]");
    let routes = route("r", "jwt = { issuers = [\"corp\", \"partner\"] }");
    let gateway = Gateway::start(&document(&origin, &issuers, &routes));
    let token = other.sign(&of("partner", json!({"aud": "outside"})));
    for _ in 0..3 {
        ask(&gateway, "/r", &token).expect(200);
    }
    let foreign = other.sign(&of("partner", json!({"aud": "inside"})));
    for _ in 0..2 {
        refused(ask(&gateway, "/r", &foreign), "somebody else");
    }
}

#[test]
fn a_reload_that_changes_whose_keys_count_voids_what_is_known() {
    let (origin, signer, next) = (Origin::saying("x"), Signer::es256("a"), Signer::es256("a"));
    let [server, moved] = [&signer, &next].map(|signer| KeyServer::new(&[signer]));
    let text = |server: &KeyServer, iss: &str| {
        let issuer = issuer("corp", server, "").replace("https://corp.test", &format!("https://{iss}.test"));
        document(&origin, &issuer, &route("r", "jwt = { issuer = \"corp\" }"))
    };
    let mut gateway = Gateway::start(&text(&server, "corp"));
    let token = signer.sign(&of("corp", json!({})));
    ask(&gateway, "/r", &token).expect(200);
    gateway.rewrite_and_reload(&text(&server, "new"));
    refused(ask(&gateway, "/r", &token), "issuer is not known");
    gateway.rewrite_and_reload(&text(&server, "corp"));
    ask(&gateway, "/r", &token).expect(200);
    // Of the same name at another place, as after keys have leaked.
    gateway.rewrite_and_reload(&text(&moved, "corp"));
    wait_until("the keys are read", Duration::from_secs(5), || moved.origin.count() > 0);
    refused(ask(&gateway, "/r", &token), "signature is wrong");
    ask(&gateway, "/r", &next.sign(&of("corp", json!({})))).expect(200);
}

#[test]
fn keys_that_have_no_name_rotate_too() {
    let (origin, first, second) = (Origin::saying("x"), Signer::es256("a"), Signer::es256("a"));
    let unnamed = |signer: &Signer| jwks(&[signer]).replace("\"kid\":\"a\",", "").replace(",\"kid\":\"a\"", "");
    let sign = |signer: &Signer, number: u32| {
        signer.raw("{\"alg\":\"ES256\"}", &of("corp", json!({"jti": number})).to_string())
    };
    let server = KeyServer::new(&[&first]);
    server.say(200, unnamed(&first));
    let issuer = issuer("corp", &server, "refresh = \"1h\"\nrefetch_min = \"1s\"");
    let gateway = Gateway::start(&document(&origin, &issuer, &route("r", "jwt = { issuer = \"corp\" }")));
    ask(&gateway, "/r", &sign(&first, 1)).expect(200);
    std::thread::sleep(ms(1100));
    server.say(200, unnamed(&second));
    ask(&gateway, "/r", &sign(&second, 2)).expect(200);
    refused(ask(&gateway, "/r", &sign(&first, 1)), "signature is wrong");
    assert_eq!(server.origin.count(), 2);
}

/// A role is what stands in a list, whatever its name; a header with the list lets them be told apart.
#[test]
fn roles_of_a_list_are_taken_whole() {
    let (origin, signer) = (Origin::saying("x"), Signer::es256("a"));
    let server = KeyServer::new(&[&signer]);
    let more = "roles = [\"groups\", \"scope\"]";
    let issuer = issuer("corp", &server, more).replace("x-user = \"sub\"", "x-groups = \"groups\"");
    let jwt = "jwt = { issuer = \"corp\" }";
    let rbac = |keys: &str| format!("{jwt} }}, {{ rbac = {{ {keys} }}");
    let routes = [
        route("admin", &rbac("roles = [\"admin\"]")),
        route("domain", &rbac("roles = [\"Domain Admins\"]")),
        route("header", &rbac("roles = [\"admin\"], roles_header = \"x-groups\"")),
    ];
    let gateway = Gateway::start(&document(&origin, &issuer, &routes.concat()));
    for (claims, statuses) in [
        (json!({"groups": ["not an admin", "a,admin", " admin"]}), [403, 403, 403]),
        (json!({"groups": ["Domain Admins"]}), [403, 200, 403]),
        (json!({"groups": ["admin"]}), [200, 403, 200]),
        (json!({"scope": "read admin"}), [200, 403, 200]),
    ] {
        let token = signer.sign(&of("corp", claims.clone()));
        let told = ["/admin", "/domain", "/header"].map(|path| ask(&gateway, path, &token).status);
        assert_eq!(told, statuses, "{claims}");
    }
    let token = signer.sign(&of("corp", json!({"groups": ["admin", "a,b", " c", "50%"]})));
    ask(&gateway, "/admin", &token).expect(200);
    assert_eq!(origin.last().header("x-groups"), Some("admin,a%2Cb,%20c,50%25"));
}
