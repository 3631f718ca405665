//! Browsers that log in at an OpenID provider: who gets a session, how long it lasts, and what nobody gets in by.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::cli::ringway;
use support::oidc::{Browser, CLIENT, PAGE, Provider, REDIRECT, SECRET, params};
use support::oidc_real::RealProvider;
use support::tokens::{Signer, base64url, unix_s};
use support::{Gateway, Origin, Response, ms, wait_until};

const KEYS: &str = "keys = [\"text:0123456789abcdef0123456789abcdef\"]";

/// A filter for a provider: the endpoints that are configured, or none, and further keys.
fn filter(keys: &str) -> String {
    let keys = if keys.contains(" keys = [") { keys.to_owned() } else { format!(", {KEYS}{keys}") };
    let secret = if keys.contains("client_auth = \"none\"") { "" } else { ", client_secret = \"text:s3cret&more\"" };
    let keys = if keys.contains("client_id") { keys } else { format!(", client_id = \"{CLIENT}\"{keys}") };
    format!("oidc = {{ issuer = \"corp\"{secret}, redirect_uri = \"{REDIRECT}\", insecure = true{keys} }}")
}

/// `issuer`: further lines of its table. `filters`: further filters.
fn document(origin: &Origin, provider: &Provider, issuer: &str, keys: &str, filters: &str) -> String {
    format!(
        "{}{issuer}\n[clusters.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"open\"\npath = \"/open\"\ncluster = \"app\"\n\
         [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\nfilters = [{{ {} }}{filters}]\n",
        provider.issuer_table(),
        origin.endpoint(),
        filter(keys)
    )
}

fn start(origin: &Origin, provider: &Provider, keys: &str) -> Gateway {
    let keys = format!("{}{keys}", provider.endpoints());
    Gateway::start(&document(origin, provider, "", &keys, ""))
}

fn logged_in(gateway: &Gateway, provider: &Provider) -> Browser {
    let mut browser = Browser::new(gateway.addr());
    browser.log_in(provider, "/").expect(303);
    browser
}

#[track_caller]
fn code(answer: Response, status: u16) -> String {
    let answer = answer.expect(status);
    answer.problem()["code"].as_str().expect("a code").to_owned()
}

#[test]
fn a_browser_logs_in_and_the_origin_gets_its_claims() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    provider.says().claims = json!({"realm": {"roles": ["admin"]}, "azp": CLIENT, "name": "Zoë"});
    let issuer = "roles = [\"realm.roles\"]\nconsumer = \"azp\"\nheaders = { x-user = \"sub\", x-name = \"name\" }\n\
        [log]\nheaders = [\"cookie\", \"x-access\"]\n[consumers.shop]";
    let filters = ", { rbac = { roles = [\"admin\"] } }, { rbac = { rules = [{ consumers = [\"shop\"] }] } }, \
        { rate_limit = { name = \"by_user\", rate = \"1/h\", burst = 2, key = \"claim:sub\" } }";
    let keys =
        format!("{}, access_token_header = \"x-access\", scopes = [\"openid\", \"email\"]", provider.endpoints());
    let gateway = Gateway::start(&document(&origin, &provider, issuer, &keys, filters));
    let mut browser = Browser::new(gateway.addr());
    let answer = browser.page("/a/b?c=%20d&e").expect(303);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let location = answer.header("location").expect("a location");
    let asked = params(location.split_once('?').expect("a query").1);
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", REDIRECT),
        ("scope", "openid email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(asked[name], value);
    }
    assert!(["state", "nonce", "code_challenge"].iter().all(|name| asked[*name].len() == 43), "{asked:?}");
    let back = provider.authorize(location);
    let answer = browser.page(&back).expect(303);
    assert_eq!(answer.header("location"), Some("https://shop.test/a/b?c=%20d&e"));
    assert!(browser.logins().is_empty() && browser.session().len() == 1, "{browser:?}");
    let form = provider.says().forms[0].clone();
    assert_eq!((&*form["grant_type"], &*form["redirect_uri"]), ("authorization_code", REDIRECT));
    let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:s3cret%26more")));
    assert_eq!((&provider.says().authorizations[0], form.get("client_id")), (&basic, None));
    assert_eq!(origin.count(), 0);
    browser.cookies.insert("theme".to_owned(), "dark".to_owned());
    browser.ask("GET", "/a/b", "X-User: root\r\nx_access: root\r\n").expect(200);
    let seen = origin.last();
    assert_eq!((seen.header("x-user"), seen.header("x-name")), (Some("alice"), Some("Zo%C3%AB")));
    assert_eq!((seen.header("x-access"), seen.header("x_access")), (Some("access-2"), None));
    assert_eq!(seen.header("cookie"), Some("theme=dark"), "the session is not the origin's");
    browser.cookies.remove("theme");
    browser.ask("POST", "/a/b", "").expect(200);
    assert_eq!(origin.last().header("cookie"), None);
    browser.ask("GET", "/", "").expect(429);
    assert_eq!(provider.token_calls(), 1, "a session asks nobody");
    let log = gateway.wait_log(5);
    assert!(log.iter().any(|line| line.field("user.name").as_str() == Some("alice")));
    let text = format!("{log:?}{}", gateway.output());
    let session = browser.session().into_values().next().expect("a session");
    for secret in [&*session, "code-1", "access-2", &form["code_verifier"]] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn who_shows_no_page_gets_401() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, "");
    for (method, extra, wanted) in [
        ("GET", PAGE, 303),
        ("HEAD", PAGE, 303),
        ("GET", "Accept: image/png, Text/HTML;q=0.5\r\n", 303),
        ("GET", "", 401),
        ("GET", "Accept: */*\r\n", 401),
        ("GET", "Accept: application/json\r\nSec-Fetch-Mode: navigate\r\n", 401),
        ("GET", "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n", 401),
        ("GET", "Accept: text/html\r\nSec-Fetch-Mode: no-cors\r\n", 401),
        ("GET", "Accept: text/html\r\nX-Requested-With: XMLHttpRequest\r\n", 401),
        ("POST", PAGE, 401),
        ("DELETE", PAGE, 401),
    ] {
        let answer = gateway.client().request(method, "/", extra, b"").expect(wanted);
        assert_eq!(answer.has("location") && answer.has("set-cookie"), wanted == 303, "{method} {extra}");
        assert_eq!(answer.has("www-authenticate"), wanted == 401, "{method} {extra}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_state_is_good_once_in_the_browser_that_has_begun() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, ", login_time = \"3s\"");
    let mut browser = Browser::new(gateway.addr());
    let first = provider.authorize(browser.page("/one").expect(303).header("location").unwrap());
    let second = provider.authorize(browser.page("/two").expect(303).header("location").unwrap());
    assert_eq!(browser.logins().len(), 2, "tabs log in side by side");
    // Another browser, with no login or one of its own.
    let mut other = Browser::new(gateway.addr());
    assert_eq!(code(other.page(&first), 400), "bad_state");
    other.page("/").expect(303);
    assert_eq!(code(other.page(&first), 400), "bad_state");
    for state in ["", "x", "%00", "%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9", "__Host-ringway.login."] {
        assert_eq!(code(browser.page(&format!("/oidc/callback?code=a&state={state}")), 400), "bad_state", "{state}");
    }
    let state = &params(first.split_once('?').unwrap().1)["state"];
    for wrong in [
        "/oidc/callback".to_owned(),
        format!("{first}&state={state}"),
        format!("{first}&code=b"),
        // The cookie's name has the beginning of it.
        format!("/oidc/callback?code=a&state={}", &state[..16]),
        format!("/oidc/callback?code=a&state={state}x"),
    ] {
        let mut copy = browser.clone();
        assert_eq!(code(copy.page(&wrong), 400), "bad_state", "{wrong}");
    }
    assert_eq!(provider.token_calls(), 0);
    let before = browser.clone();
    let mut tampered = browser.clone();
    for value in tampered.cookies.values_mut() {
        let at = value.len() - 20;
        let other = if &value[at..=at] == "A" { "Q" } else { "A" };
        value.replace_range(at..=at, other);
    }
    assert_eq!(code(tampered.page(&first), 400), "bad_state");
    browser.page(&second).expect(303);
    assert_eq!(browser.page(&first).expect(303).header("location"), Some("https://shop.test/one"));
    assert!(browser.logins().is_empty());
    // With the cookies that the login had, on whatever core.
    for _ in 0..4 {
        assert_eq!(code(before.clone().page(&first), 400), "bad_state");
    }
    assert_eq!(provider.token_calls(), 2);
    let mut late = Browser::new(gateway.addr());
    let back = provider.authorize(late.page("/").expect(303).header("location").unwrap());
    std::thread::sleep(ms(3100));
    assert_eq!(code(late.page(&back), 400), "bad_state");
    browser.ask("POST", &first, "").expect(405);
    // Of many that are begun and never ended, the oldest give way.
    let mut many = Browser::new(gateway.addr());
    for _ in 0..20 {
        many.page("/").expect(303);
    }
    assert_eq!(many.logins().len(), 8);
    assert_eq!((provider.token_calls(), origin.count()), (2, 0));
}

#[test]
fn an_id_token_must_be_of_this_login() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, "");
    let attempt = || {
        let mut browser = Browser::new(gateway.addr());
        let answer = browser.log_in(&provider, "/");
        assert_eq!(browser.session().len(), usize::from(answer.status == 303));
        answer
    };
    attempt().expect(303);
    for claims in [
        json!({"nonce": "another"}),
        json!({"nonce": null}),
        json!({"nonce": 1}),
        json!({"aud": "other"}),
        json!({"aud": null}),
        json!({"aud": []}),
        json!({"aud": [CLIENT, "other"]}),
        json!({"aud": [CLIENT, "other"], "azp": "other"}),
        json!({"azp": "other"}),
        json!({"azp": 1}),
        json!({"iss": "https://evil.test"}),
        json!({"iss": null}),
        json!({"exp": unix_s() - 60}),
        json!({"exp": null}),
        json!({"nbf": unix_s() + 600}),
        json!({"sub": null}),
        json!({"sub": ""}),
    ] {
        provider.says().claims = claims.clone();
        assert_eq!(code(attempt(), 403), "login_failed", "{claims}");
    }
    for claims in [json!({"aud": [CLIENT]}), json!({"aud": ["other", CLIENT], "azp": CLIENT}), json!({"azp": CLIENT})] {
        provider.says().claims = claims.clone();
        attempt().expect(303);
    }
    provider.says().claims = json!({});
    // Who signs, and how.
    let good = json!({"iss": provider.issuer(), "aud": CLIENT, "sub": "alice", "exp": unix_s() + 300, "nonce": "x"});
    let signer = provider.says().signer.clone();
    let public = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, signer.pem().as_bytes()), b"x");
    for id_token in [
        format!("{}.{}.", base64url("{\"alg\":\"none\"}"), base64url(good.to_string())),
        Signer::es256("a").sign(&good),
        Signer::secret("a", "HS256", signer.pem().as_bytes()).sign(&good),
        Signer::ed25519("a").sign(&good),
        format!("{}.{}", signer.sign(&good).rsplit_once('.').unwrap().0, base64url(public)),
        "no.to.ken".to_owned(),
        String::new(),
    ] {
        provider.says().id_token = Some(id_token.clone());
        assert_eq!(code(attempt(), 403), "login_failed", "{id_token}");
    }
    provider.says().id_token = None;
    for members in [
        json!({"id_token": null}),
        json!({"id_token": 1}),
        json!({"token_type": "DPoP"}),
        json!({"token_type": null}),
        json!({"expires_in": 0}),
        json!({"expires_in": -1}),
        json!({"expires_in": "soon"}),
        json!({"access_token": "a\r\nb"}),
    ] {
        provider.says().members = members.clone();
        assert_eq!(code(attempt(), 403), "login_failed", "{members}");
    }
    let reasons = gateway.wait_log(1);
    assert!(reasons.iter().all(|line| !format!("{line:?}").contains("eyJ")), "no token in the log");
    assert_eq!(origin.count(), 0);
}

#[test]
fn new_keys_of_the_issuer_are_read_when_they_are_needed() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, "");
    logged_in(&gateway, &provider);
    provider.says().signer = Arc::new(Signer::es256("b"));
    logged_in(&gateway, &provider);
    // One that was never published.
    {
        let mut says = provider.says();
        says.published = vec![says.signer.clone()];
        says.signer = Arc::new(Signer::es256("c"));
    }
    assert_eq!(code(Browser::new(gateway.addr()).log_in(&provider, "/"), 403), "login_failed");
}

#[test]
fn a_cookie_is_ours_whole_and_of_this_filter() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, "");
    let browser = logged_in(&gateway, &provider);
    let session = browser.session()["__Host-ringway"].clone();
    let status = |cookies: &str| gateway.client().request("GET", "/", &format!("Cookie: {cookies}\r\n"), b"").status;
    assert_eq!(status(&format!("a=1; __Host-ringway={session}; b=2")), 200);
    for at in [0, 1, 2, 20, session.len() / 2, session.len() - 1] {
        let mut changed = session.clone().into_bytes();
        changed[at] = if changed[at] == b'4' { b'3' } else { b'4' };
        assert_eq!(status(&format!("__Host-ringway={}", String::from_utf8(changed).unwrap())), 401, "{at}");
    }
    for other in ["", "1", "0", "9", "1.", &session[1..], &format!("{session}A"), &session[..session.len() - 4]] {
        assert_eq!(status(&format!("__Host-ringway={other}")), 401, "{other}");
    }
    assert_eq!(status(&format!("__Host-ringway={session}; __Host-ringway={session}")), 401, "twice");
    assert_eq!(status(&format!("__Host-ringway=2{}", &session[1..])), 401, "a part is missing");
    assert_eq!(status(&format!("ringway={session}; __host-ringway={session}")), 401);
    // What is sealed for a login is no session.
    let mut fresh = Browser::new(gateway.addr());
    fresh.page("/").expect(303);
    let login = fresh.cookies.values().next().expect("a login").clone();
    assert_eq!(status(&format!("__Host-ringway=1{login}")), 401);
    // A filter with the same keys for another client, or another issuer's.
    let keys = format!("{}, client_id = \"other\"", provider.endpoints());
    let others = Gateway::start(&document(&origin, &provider, "", &keys, ""));
    let cookie = format!("Cookie: __Host-ringway={session}\r\n");
    others.client().request("GET", "/", &cookie, b"").expect(401);
    let text = document(&origin, &provider, "", &provider.endpoints(), "");
    let elsewhere = Gateway::start(&text.replace("/id\"", "/ID\""));
    elsewhere.client().request("GET", "/", &cookie, b"").expect(401);
    // Gateways with the same document share sessions.
    let twin = start(&origin, &provider, "");
    twin.client().request("GET", "/", &cookie, b"").expect(200);
}

#[test]
fn keys_of_cookies_are_exchanged_while_sessions_live() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let text = |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|key| format!("\"text:{}\"", key.repeat(32))).collect();
        let keys = format!("{}, keys = [{}]", provider.endpoints(), keys.join(", "));
        document(&origin, &provider, "", &keys, "")
    };
    let mut gateway = Gateway::start(&text(&["a"]));
    let mut old = logged_in(&gateway, &provider);
    gateway.rewrite_and_reload(&text(&["b", "a"]));
    old.ask("GET", "/", "").expect(200);
    let mut new = logged_in(&gateway, &provider);
    new.ask("GET", "/", "").expect(200);
    gateway.rewrite_and_reload(&text(&["b"]));
    // Also on a core that has known it.
    for _ in 0..8 {
        old.ask("GET", "/", "").expect(401);
        new.ask("GET", "/", "").expect(200);
    }
}

#[test]
fn a_session_ends_with_its_tokens_and_its_time() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, ", session_time = \"6s\"");
    provider.says().members = json!({"expires_in": 3});
    let mut browser = logged_in(&gateway, &provider);
    browser.ask("GET", "/", "").expect(200);
    provider.says().members = json!({"expires_in": 3600});
    let mut longer = logged_in(&gateway, &provider);
    wait_until("the tokens end", Duration::from_secs(6), || browser.ask("GET", "/", "").status == 401);
    browser.page("/").expect(303);
    longer.ask("GET", "/", "").expect(200);
    wait_until("the session's time ends", Duration::from_secs(8), || longer.ask("GET", "/", "").status == 401);
    // Without expires_in the id_token says it.
    provider.says().members = json!({});
    provider.says().claims = json!({"exp": unix_s() + 2});
    let mut third = logged_in(&gateway, &provider);
    third.ask("GET", "/", "").expect(200);
    wait_until("the id_token ends", Duration::from_secs(6), || third.ask("GET", "/", "").status == 401);
}

#[test]
fn a_stream_ends_with_the_tokens() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..60 {
            x.send("2\r\n.\n\r\n")?;
            x.wait(ms(100));
        }
        x.send("0\r\n\r\n")
    });
    let provider = Provider::new();
    for (keys, is_whole) in [("", false), (", ends_with_token = false", true)] {
        let gateway = start(&origin, &provider, keys);
        provider.says().members = json!({"expires_in": 3});
        let browser = logged_in(&gateway, &provider);
        let mut client = gateway.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", browser.cookie_line()));
        assert_eq!(client.response().cut.is_none(), is_whole, "{keys}");
    }
}

/// By a provider whose refresh tokens stay the same, too, and however soon its tokens end.
#[test]
fn a_session_of_short_tokens_is_renewed_again_and_again() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, "");
    (provider.says().refresh_token, provider.says().keeps_refresh_token) = (Some("refresh".to_owned()), true);
    provider.says().members = json!({"expires_in": 3});
    let mut browser = logged_in(&gateway, &provider);
    for _ in 0..24 {
        browser.ask("GET", "/", "").expect(200);
        std::thread::sleep(ms(300));
    }
    assert!((3..=5).contains(&provider.token_calls()), "{}", provider.token_calls());
}

/// Whoever can begin logins could fill the memory of used states with them else.
#[test]
fn an_error_uses_no_state() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, "");
    let mut browser = Browser::new(gateway.addr());
    let back = provider.authorize(browser.page("/a").expect(303).header("location").unwrap());
    let state = &params(back.split_once('?').unwrap().1)["state"];
    for _ in 0..3 {
        let error = format!("/oidc/callback?error=access_denied&state={state}");
        assert_eq!(code(browser.clone().page(&error), 403), "login_refused");
        assert_eq!(code(browser.clone().page(&format!("/oidc/callback?state={state}")), 400), "bad_state");
    }
    let before = browser.clone();
    browser.page(&back).expect(303);
    assert_eq!(code(before.clone().page(&back), 400), "bad_state");
    browser.ask("GET", "/", "").expect(200);
}

#[test]
fn a_session_is_renewed_once_for_all_cores() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, ", access_token_header = \"authorization\"");
    provider.says().refresh_token = Some("refresh".to_owned());
    provider.says().members = json!({"expires_in": 4});
    let browser = logged_in(&gateway, &provider);
    browser.clone().ask("GET", "/", "Authorization: Bearer mine\r\n").expect(200);
    let first = origin.last().header("authorization").map(str::to_owned);
    assert!(first.as_ref().is_some_and(|value| value.starts_with("Bearer access-")), "{first:?}");
    std::thread::sleep(ms(2500));
    provider.says().after = ms(400);
    provider.says().members = json!({"expires_in": 3600, "id_token": null});
    // Some go before the answer is there; the work goes on for the others.
    let renewed: Vec<Browser> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let mut browser = browser.clone();
            scope.spawn(move || {
                if number.is_multiple_of(4) {
                    let mut client = support::Client::to(browser.address);
                    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", browser.cookie_line()));
                    std::thread::sleep(ms(100));
                    client.reset();
                    return None;
                }
                browser.ask("GET", "/", "").expect(200);
                Some(browser)
            })
        };
        let all: Vec<_> = (0..24).map(ask).collect();
        all.into_iter().filter_map(|one| one.join().expect("an answer")).collect()
    });
    assert_eq!(provider.token_calls(), 2, "one login, one renewal");
    let form = provider.says().forms[1].clone();
    assert_eq!((&*form["grant_type"], form["refresh_token"].starts_with("refresh-")), ("refresh_token", true));
    let second = origin.last().header("authorization").map(str::to_owned);
    assert!(second.is_some() && second != first, "{second:?}");
    assert!(renewed.iter().all(|one| one.session() == renewed[0].session() && one.session() != browser.session()));
    renewed[0].clone().ask("GET", "/", "").expect(200);
    // The loser's old cookie: the refresh token in it is void at the provider.
    let mut late = browser.clone();
    late.ask("GET", "/", "").expect(200);
    assert_eq!(late.session(), renewed[0].session());
    assert_eq!(provider.token_calls(), 2);
}

#[test]
fn a_session_that_is_not_renewed_ends() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, "");
    let fresh = |expires_in: u64| {
        let mut says = provider.says();
        (says.refresh_token, says.instead) = (Some("refresh".to_owned()), None);
        (says.members, says.claims) = (json!({"expires_in": expires_in}), json!({}));
        drop(says);
        logged_in(&gateway, &provider)
    };
    // Refused: a page leads to the login, the rest is refused; asked once.
    let mut browser = fresh(2);
    provider.says().refresh_token = Some("another".to_owned());
    std::thread::sleep(ms(1100));
    let calls = provider.token_calls();
    wait_until("it is renewed", Duration::from_secs(3), || browser.ask("GET", "/", "").status == 401);
    browser.page("/").expect(303);
    assert_eq!(provider.token_calls(), calls + 1);
    // Of another user.
    for claims in [json!({"sub": "mallory"}), json!({"nonce": "x"}), json!({"aud": "other"}), json!({"exp": 1})] {
        let mut browser = fresh(2);
        provider.says().claims = claims.clone();
        wait_until("it is renewed", Duration::from_secs(3), || browser.ask("GET", "/", "").status == 401);
        assert!(!claims.is_null());
    }
    // Away: the session goes on to its end, and is not known then.
    let mut browser = fresh(4);
    provider.says().instead = Some((500, String::new()));
    std::thread::sleep(ms(2200));
    let calls = provider.token_calls();
    browser.ask("GET", "/", "").expect(200);
    browser.ask("GET", "/", "").expect(200);
    assert_eq!(provider.token_calls(), calls + 1, "asked now and then");
    wait_until("its end", Duration::from_secs(5), || browser.ask("GET", "/", "").status == 503);
    assert_eq!(code(browser.page("/"), 503), "auth_unavailable");
    provider.says().instead = None;
    wait_until("it is back", Duration::from_secs(5), || browser.ask("GET", "/", "").status == 200);
}

#[test]
fn a_login_leads_back_to_our_host_alone() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, "");
    let long = format!("/{}", "a".repeat(3000));
    for target in [
        "//evil.test/x",
        "/%5Cevil.test",
        "/\\evil.test",
        "/.//evil.test",
        "http://evil.test/x",
        &long,
        "/a?b=//evil.test",
    ] {
        let mut browser = Browser::new(gateway.addr());
        let answer = browser.page(target);
        if answer.status == 400 {
            continue;
        }
        let location = answer.expect(303).header("location").expect("a location").to_owned();
        assert_eq!(params(location.split_once('?').unwrap().1)["redirect_uri"], REDIRECT, "{target}");
        let back = provider.authorize(&location);
        let answer = browser.page(&back).expect(303);
        let to = answer.header("location").expect("a location");
        let rest = to.strip_prefix("https://shop.test/").unwrap_or_else(|| panic!("{target}: {to}"));
        assert!(!rest.starts_with(['/', '\\']) && to.len() < 2100, "{target}: {to}");
    }
    // Whatever `Host` says.
    let head = format!("GET /a HTTP/1.1\r\nHost: evil.test\r\nX-Forwarded-Host: evil.test\r\n{PAGE}\r\n");
    let answer = gateway.exchange(head).expect(303);
    let location = answer.header("location").expect("a location");
    assert!(!location.contains("evil") && location.starts_with(&provider.base()), "{location}");
}

#[test]
fn logging_out_is_asked_by_pages_of_ours() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let keys = ", logout_path = \"/oidc/logout\", post_logout_uri = \"https://shop.test/bye\"";
    let gateway = start(&origin, &provider, keys);
    let mut browser = logged_in(&gateway, &provider);
    for (method, extra) in [
        ("GET", ""),
        ("GET", "Sec-Fetch-Site: cross-site\r\n"),
        ("GET", "Sec-Fetch-Site: same-site\r\n"),
        ("GET", "Sec-Fetch-Site: none\r\n"),
        ("GET", "Origin: https://shop.test\r\n"),
        ("POST", "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.test\r\n"),
        ("POST", "Sec-Fetch-Site: cross-site\r\n"),
        ("POST", "Origin: https://evil.test\r\n"),
        ("POST", "Origin: null\r\n"),
    ] {
        let answer = browser.ask(method, "/oidc/logout", extra);
        assert!(!answer.has("set-cookie"));
        assert_eq!(code(answer, 403), "cross_site", "{method} {extra}");
    }
    browser.ask("DELETE", "/oidc/logout", "").expect(405);
    browser.ask("GET", "/", "").expect(200);
    for (method, extra) in [
        ("GET", "Sec-Fetch-Site: same-origin\r\n"),
        ("POST", "Sec-Fetch-Site: same-origin\r\nOrigin: https://shop.test\r\n"),
        ("POST", "Origin: https://shop.test\r\n"),
        ("POST", ""),
    ] {
        let mut browser = logged_in(&gateway, &provider);
        let answer = browser.ask(method, "/oidc/logout", extra).expect(303);
        let (to, query) = answer.header("location").expect("a location").split_once('?').expect("a query");
        assert_eq!(to, format!("{}/end", provider.base()));
        let said = params(query);
        assert_eq!((&*said["client_id"], &*said["post_logout_redirect_uri"]), (CLIENT, "https://shop.test/bye"));
        assert_eq!(said["id_token_hint"].split('.').count(), 3);
        assert!(browser.cookies.is_empty());
        browser.ask("GET", "/", "").expect(401);
    }
    // Who is not logged in gets there, too.
    let answer = Browser::new(gateway.addr()).ask("POST", "/oidc/logout", "").expect(303);
    assert!(!answer.header("location").unwrap().contains("id_token_hint"));
    // A provider without such a page: the cookies go.
    let ends = format!(", end_session_url = \"{}/end\"", provider.base());
    for (keys, status) in [(", logout_path = \"/oidc/logout\"", 204), (keys, 303)] {
        let keys = format!("{}{keys}", provider.endpoints().replace(&ends, ""));
        let gateway = Gateway::start(&document(&origin, &provider, "", &keys, ""));
        let mut browser = logged_in(&gateway, &provider);
        let answer = browser.ask("POST", "/oidc/logout", "").expect(status);
        assert_eq!(answer.header("location"), (status == 303).then_some("https://shop.test/bye"));
        assert!(browser.cookies.is_empty());
    }
}

#[test]
fn a_provider_that_refuses_fails_or_is_away_lets_nobody_in() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, ", deadline = \"1s\"");
    let back_with = |says: &str| {
        let mut browser = Browser::new(gateway.addr());
        let location = browser.page("/").expect(303).header("location").unwrap().to_owned();
        let state = params(location.split_once('?').unwrap().1)["state"].clone();
        let answer = browser.page(&format!("/oidc/callback?state={state}&{says}"));
        assert!(browser.cookies.is_empty(), "the login is over");
        answer
    };
    let answer = back_with("error=access_denied&error_description=%3Cscript%3E").expect(403);
    let problem = answer.problem();
    assert_eq!((&problem["code"], &problem["error"]), (&json!("login_refused"), &json!("access_denied")));
    assert!(!answer.text().contains("script"));
    for error in ["%22%3Cscript%3E", "", "a%0D%0Ab", "Access_Denied", &"a".repeat(100)] {
        let answer = back_with(&format!("error={error}&code=x")).expect(403);
        assert_eq!(answer.problem()["error"], "unknown", "{error}");
    }
    assert_eq!(code(back_with("error=temporarily_unavailable"), 503), "auth_unavailable");
    assert_eq!(code(back_with("code=stolen"), 403), "login_refused");
    assert_eq!(code(back_with("code=a&iss=https%3A%2F%2Fevil.test"), 400), "bad_state");
    assert_eq!(code(back_with("nothing=1"), 400), "bad_state");
    assert_eq!(code(Browser::new(gateway.addr()).page("/oidc/callback?error=access_denied"), 400), "bad_state");
    let elsewhere = Origin::saying("{}");
    for (status, body) in [
        (500, "{\"error\":\"invalid_grant\"}".to_owned()),
        (401, "{\"error\":\"invalid_client\"}".to_owned()),
        (400, "<html>".to_owned()),
        (302, String::new()),
        (200, "{".to_owned()),
        (200, "[]".to_owned()),
        (200, "{\"a\":1,\"a\":2}".to_owned()),
        (200, format!("{{\"pad\":\"{}\"}}", "x".repeat(70_000))),
    ] {
        provider.says().instead = Some((status, body.clone()));
        let answer = Browser::new(gateway.addr()).log_in(&provider, "/");
        assert!(answer.has("retry-after"));
        assert_eq!(code(answer, 503), "auth_unavailable", "{status} {body:.20}");
    }
    assert_eq!(elsewhere.count(), 0);
    provider.says().instead = None;
    provider.says().after = ms(1500);
    assert_eq!(code(Browser::new(gateway.addr()).log_in(&provider, "/"), 503), "auth_unavailable");
    provider.says().after = Duration::ZERO;
    let browser = logged_in(&gateway, &provider);
    provider.origin.refuse(true);
    provider.origin.drop_connections();
    assert_eq!(code(Browser::new(gateway.addr()).log_in(&provider, "/"), 503), "auth_unavailable");
    browser.clone().ask("GET", "/", "").expect(200);
    assert_eq!(origin.count(), 1);
}

#[test]
fn endpoints_are_found_by_discovery() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let text = document(&origin, &provider, "", ", logout_path = \"/out\", parameters = { prompt = \"login\" }", "");
    let asked = || provider.origin.targets().iter().filter(|target| target.contains("well-known")).count();
    let wrong = [
        json!({"issuer": "https://evil.test"}),
        json!({"issuer": format!("{}/", provider.issuer())}),
        json!({"issuer": null}),
        json!({"authorization_endpoint": null}),
        json!({"token_endpoint": "file:///etc/passwd"}),
        json!({"token_endpoint": "http://169.254.169.254/token"}),
        json!({"authorization_endpoint": "http://a:b@id.test/"}),
        json!({"end_session_endpoint": 1}),
    ];
    let gateway = Gateway::start(&text);
    for document in wrong {
        provider.says().document = document.clone();
        // What failed is asked again after a second.
        std::thread::sleep(ms(1050));
        assert_eq!(code(Browser::new(gateway.addr()).page("/"), 503), "auth_unavailable", "{document}");
    }
    provider.says().document = json!({});
    let before = asked();
    wait_until("it is asked again", Duration::from_secs(5), || Browser::new(gateway.addr()).page("/").status == 303);
    let mut browser = Browser::new(gateway.addr());
    let location = browser.page("/").expect(303).header("location").unwrap().to_owned();
    assert!(location.starts_with(&format!("{}/authorize?tenant=1&response_type=code", provider.base())), "{location}");
    assert_eq!(params(location.split_once('?').unwrap().1)["prompt"], "login");
    browser.log_in(&provider, "/").expect(303);
    browser.ask("GET", "/", "").expect(200);
    let answer = browser.ask("POST", "/out", "").expect(303);
    assert!(answer.header("location").unwrap().starts_with(&format!("{}/end?client_id=shop", provider.base())));
    assert_eq!(asked(), before + 1, "asked once");
    // One that says of itself that it says who it is (RFC 9207).
    provider.says().document = json!({"authorization_response_iss_parameter_supported": true});
    let gateway = Gateway::start(&text);
    let mut browser = Browser::new(gateway.addr());
    let back = |browser: &mut Browser| provider.authorize(browser.page("/").expect(303).header("location").unwrap());
    let target = back(&mut browser);
    assert_eq!(code(browser.page(&target), 400), "bad_state");
    let target = format!("{}&iss={}", back(&mut browser), provider.issuer());
    browser.page(&target).expect(303);
    // Away when a user logs out: the cookies go all the same.
    let gateway = Gateway::start(&text);
    browser.address = gateway.addr();
    provider.origin.refuse(true);
    provider.origin.drop_connections();
    browser.ask("POST", "/out", "").expect(503);
    assert!(browser.session().is_empty());
}

#[test]
fn a_client_says_who_it_is_as_it_is_told() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    for (keys, id, secret, basic) in [
        (", client_auth = \"basic\"", None, None, true),
        (", client_auth = \"post\"", Some(CLIENT), Some(SECRET), false),
        (", client_auth = \"none\"", Some(CLIENT), None, false),
    ] {
        let gateway = start(&origin, &provider, keys);
        logged_in(&gateway, &provider);
        let form: BTreeMap<String, String> = provider.says().forms.last().unwrap().clone();
        let text = |name: &str| form.get(name).map(String::as_str);
        assert_eq!((text("client_id"), text("client_secret")), (id, secret), "{keys}");
        assert_eq!(provider.says().authorizations.last().unwrap().starts_with("Basic "), basic, "{keys}");
        assert_eq!(form["code_verifier"].len(), 43);
    }
}

#[test]
fn a_large_session_is_split_and_one_too_large_refused() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let gateway = start(&origin, &provider, "");
    provider.says().claims = json!({"groups": "g".repeat(6000)});
    let mut browser = logged_in(&gateway, &provider);
    assert_eq!(
        browser.session().keys().collect::<Vec<_>>(),
        ["__Host-ringway", "__Host-ringway.1", "__Host-ringway.2"]
    );
    browser.cookies.insert("a".to_owned(), "b".to_owned());
    browser.ask("GET", "/", "").expect(200);
    assert_eq!(origin.last().header("cookie"), Some("a=b"));
    let mut broken = browser.clone();
    broken.cookies.remove("__Host-ringway.1");
    broken.ask("GET", "/", "").expect(401);
    // A smaller one takes the other parts back.
    provider.says().claims = json!({});
    let mut smaller = broken.clone();
    smaller.log_in(&provider, "/").expect(303);
    assert_eq!(smaller.session().len(), 1);
    provider.says().claims = json!({"groups": "g".repeat(9000)});
    let answer = Browser::new(gateway.addr()).log_in(&provider, "/");
    assert_eq!(code(answer, 503), "session_too_large");
    let log = gateway.wait_log(8);
    assert!(log.iter().any(|line| format!("{line:?}").contains("fit into its cookies")), "{log:?}");
}

#[test]
fn mistakes_are_named_with_their_cure() {
    let (origin, provider) = (Origin::saying("x"), Provider::new());
    let dir = support::gateway::Dir::new();
    let check = |text: &str| {
        let file = dir.file("bad.toml", &format!("[listeners.main]\nbind = \":1\"\n{text}"));
        ringway(["check", file.to_str().expect("a path")])
    };
    let with = |keys: &str| document(&origin, &provider, "", &format!("{}{keys}", provider.endpoints()), "");
    assert_eq!(check(&with("")).code, Some(0));
    let wrong = |text: &str, wanted: &str| {
        let checked = check(text);
        assert!(checked.code == Some(1) && checked.err.contains(wanted), "{wanted}: {checked:?}");
        assert!(!checked.err.contains("hunter2"), "{checked:?}");
    };
    for (keys, wanted) in [
        (", client_auth = \"digest\"", "the choices here are basic, post, none"),
        (", scopes = [\"email\"]", "add \"openid\""),
        (", scopes = [\"openid email\"]", "without spaces"),
        (", parameters = { state = \"1\" }", "has its value already"),
        (", cookie = \"a b\"", "__Host- is put before it"),
        (", login_time = \"0s\"", "use 1s to 86400s"),
        (", session_time = \"366d\"", "the most is 365d"),
        (", refresh_before = \"365d\"", "use 0s to 86400s"),
        (", logout_path = \"/oidc/callback\"", "choose another one"),
        (", logout_path = \"out\"", "no path in normal form"),
        (", logout_path = \"/a/../b\"", "no path in normal form"),
        (", post_logout_uri = \"https://shop.test/\"", "add logout_path"),
        (", access_token_header = \"host\"", "frames the message"),
        (", deadline = \"0s\"", "use 1ms to 60s"),
        (", client_ids = \"a\"", "did you mean \"client_id\"?"),
        (", keys = []", "openssl rand -base64 32"),
        (", keys = [\"hunter2\"]", "does not say where the secret is"),
        (", keys = [\"text:hunter2\"]", "fewer than 32 bytes"),
        (", keys = [\"env:RINGWAY_NO_SUCH\"]", "the environment has no RINGWAY_NO_SUCH"),
        (", ca_file = \"/nonexistent.pem\"", "/nonexistent.pem cannot be used"),
    ] {
        wrong(&with(keys), wanted);
    }
    let text = with("");
    for (from, to, wanted) in [
        ("https://shop.test/oidc/callback", "/oidc/callback", "as the provider has it"),
        ("https://shop.test/oidc/callback", "https://shop.test/a?b", "has a query"),
        ("https://shop.test/oidc/callback", "https://SHOP.test/a", "not written as browsers do"),
        ("issuer = \"corp\"", "issuer = \"crop\"", "the issuers are corp"),
        ("insecure = true, client_id", "insecure = false, client_id", "is not encrypted"),
        ("text:s3cret&more", "env:RINGWAY_NO_SUCH", "the environment has no RINGWAY_NO_SUCH"),
        (", client_secret = \"text:s3cret&more\"", ", client_auth = \"post\"", "add client_secret"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        wrong(&text.replace(from, to), wanted);
    }
    let alone = provider.endpoints();
    let alone = alone.split(", token_url").next().unwrap();
    wrong(&document(&origin, &provider, "", alone, ""), "add token_url");
    let nameless = with("").replace(&format!("issuer = \"{}\"\n", provider.issuer()), "may_lack = [\"iss\"]\n");
    wrong(&nameless, "has no issuer");
    // What cannot be read refuses its routes, not the start.
    for text in [with(", keys = [\"env:RINGWAY_NO_SUCH\"]"), text.replace("text:s3cret&more", "env:RINGWAY_NO_SUCH")] {
        let gateway = Gateway::start(&text);
        gateway.get("/").expect(503);
        gateway.get("/open").expect(200);
    }
}

/// The npm package oidc-provider, with the pages of its own that ask who one is and what one allows.
#[test]
fn a_real_provider_logs_in_renews_and_logs_out() {
    let bye = "https://shop.test/bye";
    let Some(mut provider) = RealProvider::start("a_real_provider_logs_in_renews_and_logs_out", REDIRECT, bye) else {
        return;
    };
    let (origin, issuer) = (Origin::saying("x"), provider.issuer());
    let gateway = Gateway::start(&format!(
        "[issuers.corp]\nissuer = \"{issuer}\"\naudiences = [\"{CLIENT}\"]\nalgorithms = \"RS256\"\n\
         jwks_url = \"{issuer}/jwks\"\ninsecure = true\nheaders = {{ x-user = \"sub\" }}\n\
         [clusters.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n\
         filters = [{{ {} }}]\n",
        origin.endpoint(),
        filter(&format!(
            ", scopes = [\"openid\", \"offline_access\"], parameters = {{ prompt = \"consent\" }}, logout_path = \"/out\", \
             access_token_header = \"x-access\", post_logout_uri = \"{bye}\""
        ))
    ));
    let mut browser = Browser::new(gateway.addr());
    let location = browser.page("/a?b=c").expect(303).header("location").expect("a location").to_owned();
    let back = provider.visit(&location, Some("alice"));
    let back = back.strip_prefix("https://shop.test").expect("our host");
    let before = browser.clone();
    let answer = browser.page(back).expect(303);
    assert_eq!(answer.header("location"), Some("https://shop.test/a?b=c"));
    assert_eq!(code(before.clone().page(back), 400), "bad_state");
    browser.ask("GET", "/", "X-User: root\r\n").expect(200);
    let first = origin.last();
    assert_eq!((first.header("x-user"), first.header("cookie")), (Some("alice"), None));
    // Renewed after half of its four seconds, with another refresh token each time.
    let mut access = first.header("x-access").expect("a token").to_owned();
    for _ in 0..2 {
        let old = browser.clone();
        wait_until("it is renewed", Duration::from_secs(6), || {
            std::thread::sleep(ms(100));
            browser.ask("GET", "/", "").expect(200);
            origin.last().header("x-access").is_some_and(|new| new != access)
        });
        access = origin.last().header("x-access").expect("a token").to_owned();
        old.clone().ask("GET", "/", "").expect(200);
        assert_eq!(origin.last().header("x-access"), Some(&*access), "the old cookie finds the new session");
        assert_eq!(origin.last().header("x-user"), Some("alice"));
    }
    let answer = browser.ask("POST", "/out", "Sec-Fetch-Site: same-origin\r\n").expect(303);
    assert!(browser.cookies.is_empty());
    let end = answer.header("location").expect("a location");
    assert_eq!(provider.visit(end, Some("alice")).split('?').next(), Some(bye));
    browser.ask("GET", "/", "").expect(401);
    // It asks anew who one is; a user who says no gets no session.
    let location = browser.page("/").expect(303).header("location").expect("a location").to_owned();
    let back = provider.visit(&location, None);
    let answer = browser.page(back.strip_prefix("https://shop.test").expect("our host")).expect(403);
    assert_eq!(answer.problem()["error"], "access_denied");
    assert!(browser.cookies.is_empty() && origin.count() > 4);
}
