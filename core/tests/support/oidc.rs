//! An OpenID provider that says what a test has told it, and a browser that keeps cookies as browsers do. Shows no pages:
//! its user is whoever the test says.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::tokens::{Signer, base64url, jwks, unix_s};
use super::{Client, Exchange, Origin, Response};

pub const CLIENT: &str = "shop";
pub const SECRET: &str = "s3cret&more";
pub const REDIRECT: &str = "https://shop.test/oidc/callback";

pub struct Provider {
    pub origin: Origin,
    pub says: Arc<Mutex<Says>>,
}

/// What a provider knows and says.
pub struct Says {
    pub signer: Arc<Signer>,
    /// In the key set; the signer's if empty.
    pub published: Vec<Arc<Signer>>,
    /// By code: what its authorization request said.
    codes: HashMap<String, BTreeMap<String, String>>,
    pub refresh_token: Option<String>,
    /// It stays good when it was used.
    pub keeps_refresh_token: bool,
    /// Members of the next id_tokens; null takes one away.
    pub claims: Value,
    /// Of the next answers of the token endpoint.
    pub members: Value,
    /// In place of the next id_tokens.
    pub id_token: Option<String>,
    /// In place of all answers of the token endpoint: status and body.
    pub instead: Option<(u16, String)>,
    /// Members of the discovery document.
    pub document: Value,
    pub after: Duration,
    /// Forms that came to the token endpoint.
    pub forms: Vec<BTreeMap<String, String>>,
    pub authorizations: Vec<String>,
    count: usize,
}

impl Provider {
    pub fn new() -> Provider {
        let says = Says {
            signer: Arc::new(Signer::es256("a")),
            published: Vec::new(),
            codes: HashMap::new(),
            refresh_token: None,
            keeps_refresh_token: false,
            claims: json!({}),
            members: json!({}),
            id_token: None,
            instead: None,
            document: json!({}),
            after: Duration::ZERO,
            forms: Vec::new(),
            authorizations: Vec::new(),
            count: 0,
        };
        let says = Arc::new(Mutex::new(says));
        let told = says.clone();
        let origin = Origin::start(move |x| match x.target() {
            "/jwks" => {
                let says = told.lock().unwrap();
                let own = [says.signer.clone()];
                let list = if says.published.is_empty() { &own[..] } else { &says.published[..] };
                let set = jwks(&list.iter().map(|one| &**one).collect::<Vec<_>>());
                drop(says);
                x.ok(set)
            }
            "/token" => token(x, &told),
            "/id/.well-known/openid-configuration" => {
                let base = format!("http://{}", x.seen.header("host").unwrap_or_default());
                let mut document = json!({"issuer": format!("{base}/id"),
                    "authorization_endpoint": format!("{base}/authorize?tenant=1"), "token_endpoint": format!("{base}/token"),
                    "end_session_endpoint": format!("{base}/end")});
                merge(&mut document, &told.lock().unwrap().document);
                x.ok(document.to_string())
            }
            _ => x.reply(404, "", ""),
        });
        Provider { origin, says }
    }

    pub fn says(&self) -> MutexGuard<'_, Says> {
        self.says.lock().unwrap()
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.origin.address())
    }

    pub fn issuer(&self) -> String {
        format!("{}/id", self.base())
    }

    /// Questions to the token endpoint.
    pub fn token_calls(&self) -> usize {
        self.says().forms.len()
    }

    /// `[issuers.corp]`.
    pub fn issuer_table(&self) -> String {
        format!(
            "[issuers.corp]\nissuer = \"{}\"\naudiences = [\"unused\"]\nalgorithms = [\"ES256\", \"EdDSA\"]\n\
             jwks_url = \"{}/jwks\"\ninsecure = true\nrefetch_min = \"1s\"\n",
            self.issuer(),
            self.base()
        )
    }

    /// Endpoints of the filter that stand in the configuration.
    pub fn endpoints(&self) -> String {
        let base = self.base();
        format!(
            ", authorization_url = \"{base}/authorize\", token_url = \"{base}/token\", end_session_url = \"{base}/end\""
        )
    }

    /// The user logs in: where the browser is sent then.
    #[track_caller]
    pub fn authorize(&self, location: &str) -> String {
        assert!(location.starts_with(&format!("{}/authorize?", self.base())), "{location}");
        let params = params(location.split_once('?').expect("a query").1);
        let mut says = self.says();
        says.count += 1;
        let code = format!("code-{}", says.count);
        let target = format!("/oidc/callback?code={code}&state={}", params["state"]);
        says.codes.insert(code, params);
        target
    }
}

/// Pairs of a form or a query.
#[track_caller]
pub fn params(text: &str) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://a/?{text}")).expect("a query");
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn merge(all: &mut Value, others: &Value) {
    for (name, value) in others.as_object().expect("an object") {
        match value {
            Value::Null => drop(all.as_object_mut().expect("an object").remove(name)),
            value => all[name] = value.clone(),
        }
    }
}

fn token(x: &mut Exchange, says: &Mutex<Says>) -> std::io::Result<()> {
    let form = params(&String::from_utf8(x.body()?).expect("a form"));
    let host = x.seen.header("host").unwrap_or_default().to_owned();
    let authorization = x.seen.header("authorization").unwrap_or_default().to_owned();
    let mut says = says.lock().unwrap();
    says.forms.push(form.clone());
    says.authorizations.push(authorization);
    let after = says.after;
    let answer = says.instead.clone().unwrap_or_else(|| says.answer(&form, &host));
    drop(says);
    x.wait(after);
    x.reply(answer.0, "Content-Type: application/json\r\nCache-Control: no-store\r\n", answer.1)
}

impl Says {
    fn answer(&mut self, form: &BTreeMap<String, String>, host: &str) -> (u16, String) {
        let refuse = || (400, "{\"error\":\"invalid_grant\",\"error_description\":\"<b>no</b>\"}".to_owned());
        let text = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let mut claims = json!({"iss": format!("http://{host}/id"), "aud": CLIENT, "sub": "alice",
            "iat": unix_s(), "exp": unix_s() + 300});
        match text("grant_type") {
            "authorization_code" => {
                let Some(asked) = self.codes.remove(text("code")) else { return refuse() };
                let challenge = base64url(digest(&SHA256, text("code_verifier").as_bytes()));
                if challenge != asked["code_challenge"] || text("redirect_uri") != asked["redirect_uri"] {
                    return refuse();
                }
                claims["nonce"] = asked["nonce"].clone().into();
            }
            "refresh_token" if Some(text("refresh_token")) == self.refresh_token.as_deref() => {}
            _ => return refuse(),
        }
        merge(&mut claims, &self.claims);
        self.count += 1;
        if self.refresh_token.is_some() && !self.keeps_refresh_token {
            self.refresh_token = Some(format!("refresh-{}", self.count));
        }
        let id_token = self.id_token.clone().unwrap_or_else(|| self.signer.sign(&claims));
        let mut answer = json!({"token_type": "Bearer", "access_token": format!("access-{}", self.count),
            "id_token": id_token, "refresh_token": self.refresh_token});
        merge(&mut answer, &self.members);
        (200, answer.to_string())
    }
}

/// A browser that knows one site.
#[derive(Debug, Clone)]
pub struct Browser {
    pub address: SocketAddr,
    pub cookies: BTreeMap<String, String>,
}

/// What a browser says when it shows a page.
pub const PAGE: &str =
    "Accept: text/html,application/xhtml+xml;q=0.9\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\n";

impl Browser {
    pub fn new(address: SocketAddr) -> Browser {
        Browser { address, cookies: BTreeMap::new() }
    }

    pub fn cookie_line(&self) -> String {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { String::new() } else { format!("Cookie: {}\r\n", pairs.join("; ")) }
    }

    /// Shows the page.
    #[track_caller]
    pub fn page(&mut self, target: &str) -> Response {
        self.ask("GET", target, PAGE)
    }

    #[track_caller]
    pub fn ask(&mut self, method: &str, target: &str, extra: &str) -> Response {
        let answer = Client::to(self.address).request(method, target, &format!("{extra}{}", self.cookie_line()), b"");
        for cookie in answer.all("set-cookie") {
            self.take(cookie);
        }
        answer
    }

    #[track_caller]
    fn take(&mut self, cookie: &str) {
        let mut parts = cookie.split("; ");
        let (name, value) = parts.next().expect("a pair").split_once('=').expect("a pair");
        let attributes: Vec<&str> = parts.collect();
        if name.starts_with("__Host-") {
            for wanted in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
                assert!(attributes.contains(&wanted), "{cookie}");
            }
            assert!(!cookie.contains("Domain") && cookie.len() <= 4096, "{cookie}");
        }
        match attributes.contains(&"Max-Age=0") {
            true => drop(self.cookies.remove(name)),
            false => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
        }
    }

    /// Logs in on the way to a page: the answer that leads back to it.
    #[track_caller]
    pub fn log_in(&mut self, provider: &Provider, target: &str) -> Response {
        let location = self.page(target).expect(303).header("location").expect("a location").to_owned();
        let back = provider.authorize(&location);
        self.page(&back)
    }

    /// The session's cookies alone.
    pub fn session(&self) -> BTreeMap<String, String> {
        let is_session = |name: &String| name.starts_with("__Host-ringway") && !name.contains("login");
        self.cookies.iter().filter(|(name, _)| is_session(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
    }

    pub fn logins(&self) -> Vec<String> {
        self.cookies.keys().filter(|name| name.contains(".login.")).cloned().collect()
    }
}
