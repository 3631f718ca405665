//! The filter's table: what it may say, what must fit together, and what is made of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use ringway_config::Fault;
use ringway_config::http::HeaderName;
use ringway_config::snapshot::{ControlUrl, FilterConfig, Secret};
use ringway_config::units::DurationText;
use ringway_proto::NormalPath;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::Oidc;
use super::cookies::Names;
use super::login::asks_for;
use super::provider::{ClientAuth, Endpoints, Provider, ProviderNode, discovery_url};
use super::seal::{SECRET_BYTES_MIN, Sealer};
use super::tokens::ANSWER_BYTES_MAX;
use crate::fetch;
use crate::filter::server::{Said, Server, basic};
use crate::filter::{Building, Filter};
use crate::identity::fingerprint;
use crate::secret;

const KEYS_MAX: usize = 16;
const SCOPES_MAX: usize = 32;
const PARAMETERS_MAX: usize = 16;
/// Of a text that becomes part of a URL.
const TEXT_BYTES_MAX: usize = 1024;
const COOKIE_BYTES_MAX: usize = 64;
const SESSION_TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
const LOGIN_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Those that an authorization request has of its own.
const OWN_PARAMETERS: [&str; 8] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    issuer: String,
    client_id: String,
    client_secret: Option<Secret>,
    client_auth: Option<AuthWord>,
    redirect_uri: String,
    keys: Vec<Secret>,
    #[serde(default = "scopes")]
    scopes: Vec<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    authorization_url: Option<ControlUrl>,
    token_url: Option<ControlUrl>,
    end_session_url: Option<ControlUrl>,
    logout_path: Option<String>,
    post_logout_uri: Option<String>,
    #[serde(default = "session_time")]
    session_time: DurationText,
    #[serde(default = "login_time")]
    login_time: DurationText,
    #[serde(default = "refresh_before")]
    refresh_before: DurationText,
    access_token_header: Option<HeaderName>,
    #[serde(default = "cookie")]
    cookie: String,
    #[serde(default = "yes")]
    ends_with_token: bool,
    ca_file: Option<String>,
    #[serde(default = "deadline")]
    deadline: DurationText,
    #[serde(default = "concurrent_max")]
    concurrent_max: u32,
    #[serde(default)]
    insecure: bool,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum AuthWord {
    Basic,
    Post,
    None,
}

fn scopes() -> Vec<String> {
    vec!["openid".to_owned()]
}

fn session_time() -> DurationText {
    DurationText(Duration::from_secs(8 * 3600))
}

fn login_time() -> DurationText {
    DurationText(Duration::from_secs(600))
}

fn refresh_before() -> DurationText {
    DurationText(Duration::from_secs(30))
}

fn cookie() -> String {
    "ringway".to_owned()
}

fn yes() -> bool {
    true
}

fn deadline() -> DurationText {
    DurationText(Duration::from_secs(5))
}

fn concurrent_max() -> u32 {
    64
}

/// Where in the configuration a filter stands.
struct Place<'c>(&'c FilterConfig);

impl Place<'_> {
    fn wrong(&self, key: &str, why: impl Into<String>) -> Fault {
        Fault::new(why.into()).at(format!("{}.{key}", self.0.place))
    }
}

pub(in crate::filter) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Filter>, Fault> {
    let table: Table = ringway_config::filter::table(config)?;
    let place = Place(config);
    let issuer = building.issuer(&table.issuer).map_err(|fault| fault.at(format!("{}.issuer", config.place)))?;
    let Some(name) = issuer.config.issuer.clone() else {
        let fault = place.wrong("issuer", format!("{:?} has no issuer, which its id_tokens must name", table.issuer));
        return Err(fault.cure(format!("add issuer = \"https://...\" to [issuers.{}]", table.issuer)));
    };
    judge(&table, &place)?;
    let redirect = own_url(&table.redirect_uri, "redirect_uri", &table, &place)?;
    let (configured, server) = endpoints(&table, &name, &place, building)?;
    let unbuilt = building.unbuilt.len();
    let mut stamp = format!("{}{:?}", config.table, issuer.config).into_bytes();
    let auth = client_auth(&table, &place, building, &mut stamp)?;
    let secrets = cookie_secrets(&table, &place, building, &mut stamp);
    // A filter of which anything is missing opens no session, and makes none.
    let sealer = secrets.filter(|_| building.unbuilt.len() == unbuilt);
    let sealer = sealer.and_then(|secrets| Sealer::new(&secrets, &name, &table.client_id));
    let node_name = format!("{:?}", (&name, &table.client_id, &table.ca_file, &table.end_session_url, table.insecure));
    let node = building.node.get("oidc", &node_name, ProviderNode::default);
    // As long as its cookie could be brought again.
    node.states.keep_for(table.login_time.0.as_secs());
    if let Some(header) = table.access_token_header.as_ref().map(HeaderName::as_str) {
        building.secret_headers.insert(header.to_owned());
        // `Authorization` is what clients say on other routes; here it is overwritten.
        if header != "authorization" {
            building.withheld.insert(header.to_owned());
        }
    }
    building.secret_queries.insert("code".to_owned());
    let scope = table.scopes.join(" ");
    let own = [
        ("response_type", "code"),
        ("client_id", &*table.client_id),
        ("redirect_uri", &*table.redirect_uri),
        ("scope", &*scope),
    ];
    let more = table.parameters.iter().map(|(name, value)| (&**name, &**value));
    let access_token_header = table.access_token_header.map(HeaderName::into_string);
    let provider = Provider {
        issuer,
        name,
        auth,
        redirect_uri: table.redirect_uri.clone(),
        configured: configured.map(Arc::new),
        end_session: table.end_session_url.map(|url| url.text),
        insecure: table.insecure,
        sealer,
        session_s: table.session_time.0.as_secs(),
        renew_before_s: table.refresh_before.0.as_secs(),
        keeps_access_token: access_token_header.is_some(),
        node,
        client_id: table.client_id.clone(),
    };
    Ok(Box::new(Oidc {
        provider: Arc::new(provider),
        server,
        deadline: table.deadline.0,
        names: Names::new(&table.cookie),
        origin: redirect.origin().ascii_serialization(),
        callback_path: redirect.path().to_owned(),
        logout_path: table.logout_path,
        post_logout_uri: table.post_logout_uri,
        asks_for: asks_for(&own.into_iter().chain(more).collect::<Vec<_>>()),
        login_s: table.login_time.0.as_secs(),
        access_is_bearer: access_token_header.as_deref() == Some("authorization"),
        access_token_header,
        ends_with_token: table.ends_with_token,
        stamp: xxh3_64(&stamp),
    }))
}

/// What does not fit together.
fn judge(table: &Table, place: &Place<'_>) -> Result<(), Fault> {
    let (scopes, parameters) = (&table.scopes, &table.parameters);
    let is_scope =
        |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b));
    if scopes.len() > SCOPES_MAX || !scopes.iter().all(is_scope) {
        return Err(place.wrong("scopes", format!("use at most {SCOPES_MAX}, without spaces, quotes and backslashes")));
    }
    if !scopes.iter().any(|scope| scope == "openid") {
        return Err(place.wrong("scopes", "without \"openid\" there is no id_token").cure("add \"openid\""));
    }
    if let Some(name) = parameters.keys().find(|name| OWN_PARAMETERS.contains(&name.as_str())) {
        let cure = "leave it out: other keys say it, or it is made for each login";
        return Err(place.wrong("parameters", format!("{name:?} has its value already")).cure(cure));
    }
    let texts = parameters.iter().flat_map(|(name, value)| [name, value]).chain([&table.client_id]).chain(scopes);
    if parameters.len() > PARAMETERS_MAX || texts.clone().any(|text| text.len() > TEXT_BYTES_MAX) {
        let why = format!("{} parameters, or a text of more than {TEXT_BYTES_MAX} bytes", parameters.len());
        return Err(place.wrong("parameters", why).cure(format!("use at most {PARAMETERS_MAX}")));
    }
    if table.client_id.is_empty() {
        return Err(place.wrong("client_id", "is empty"));
    }
    if table.keys.is_empty() || table.keys.len() > KEYS_MAX {
        let fault = place.wrong("keys", format!("has {} keys; 1 to {KEYS_MAX} make sense", table.keys.len()));
        return Err(fault.cure("make one with: openssl rand -base64 32"));
    }
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !(1..=COOKIE_BYTES_MAX).contains(&table.cookie.len()) || !is_name(&table.cookie) {
        let fault = place.wrong("cookie", format!("{:?} cannot be a name", table.cookie));
        return Err(fault.cure("use letters, digits, dashes and underscores; __Host- is put before it"));
    }
    for (key, time, [min_s, max_s]) in [
        ("session_time", table.session_time.0, [1, SESSION_TIME_MAX.as_secs()]),
        ("login_time", table.login_time.0, [1, LOGIN_TIME_MAX.as_secs()]),
        ("refresh_before", table.refresh_before.0, [0, LOGIN_TIME_MAX.as_secs()]),
    ] {
        if !(min_s..=max_s).contains(&time.as_secs()) {
            return Err(place.wrong(key, format!("use {min_s}s to {max_s}s")));
        }
    }
    if let Some(name) = table.access_token_header.as_ref().filter(|name| name.is_ours() || name.as_str() == "host") {
        let why = format!("{:?} frames the message or belongs to one hop", name.as_str());
        return Err(place.wrong("access_token_header", why));
    }
    judge_logout(table, place)
}

fn judge_logout(table: &Table, place: &Place<'_>) -> Result<(), Fault> {
    if let Some(path) = &table.logout_path {
        judge_path(path, "logout_path", place)?;
        if Url::parse(&table.redirect_uri).is_ok_and(|url| url.path() == path) {
            return Err(place.wrong("logout_path", "is the path of redirect_uri").cure("choose another one"));
        }
    } else if table.post_logout_uri.is_some() {
        let fault = place.wrong("post_logout_uri", "there is no logout_path that would lead to it");
        return Err(fault.cure("add logout_path"));
    }
    match &table.post_logout_uri {
        Some(uri) => own_url(uri, "post_logout_uri", table, place).map(drop),
        None => Ok(()),
    }
}

/// A path as requests have it when they are compared.
fn judge_path(path: &str, key: &str, place: &Place<'_>) -> Result<(), Fault> {
    let mut normal = NormalPath::new();
    match normal.set(path.as_bytes()) {
        Ok(()) if path.starts_with('/') && normal.bytes == path.as_bytes() => Ok(()),
        _ => Err(place.wrong(key, format!("{path:?} is no path in normal form")).cure("write \"/oidc/...\"")),
    }
}

/// An address of ours that browsers are led to.
fn own_url(text: &str, key: &str, table: &Table, place: &Place<'_>) -> Result<Url, Fault> {
    let cure = "write \"https://host/path\" as the provider has it";
    let url = Url::parse(text).map_err(|error| place.wrong(key, error.to_string()).cure(cure))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err(place.wrong(key, format!("{text:?} is no address of a page")).cure(cure));
    }
    if url.scheme() == "http" && !table.insecure {
        return Err(place.wrong(key, "is not encrypted: browsers keep the cookies of https alone").cure(cure));
    }
    let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    // What is compared must be what was written: providers compare character by character.
    if !is_bare || url.as_str() != text || text.len() > TEXT_BYTES_MAX {
        return Err(place
            .wrong(key, "has a user or a fragment, is too long, or is not written as browsers do")
            .cure(cure));
    }
    if key == "redirect_uri" {
        if url.query().is_some() {
            return Err(place.wrong(key, "has a query: the provider adds its own").cure(cure));
        }
        judge_path(url.path(), key, place)?;
    }
    Ok(url)
}

/// Where the provider is asked, and the server that is.
fn endpoints(
    table: &Table,
    issuer: &str,
    place: &Place<'_>,
    building: &mut Building<'_>,
) -> Result<(Option<Endpoints>, Server), Fault> {
    for (key, url) in [("authorization_url", &table.authorization_url), ("end_session_url", &table.end_session_url)] {
        if url.as_ref().is_some_and(|url| !url.encrypted && !table.insecure) {
            let fault = place.wrong(key, "is not encrypted: whoever is on the way could log in as anybody");
            return Err(fault.cure("use https, or say insecure = true"));
        }
    }
    let (configured, key, url) = match (&table.authorization_url, &table.token_url) {
        (Some(authorization), Some(token)) => {
            let url = fetch::allowed(&token.text).map_err(|why| place.wrong("token_url", why))?;
            let end_session = table.end_session_url.as_ref().map(|url| url.text.clone());
            let authorization = authorization.text.clone();
            let endpoints = Endpoints { authorization, token: url, end_session, says_issuer: false };
            (Some(endpoints), "token_url", token.clone())
        }
        (None, None) => {
            let text = discovery_url(issuer);
            let wrong = |why: &str| {
                let fault = place.wrong("issuer", format!("{text:?} {why}"));
                fault.cure("say where the provider is: authorization_url and token_url")
            };
            let url = Url::parse(&text).map_err(|_| wrong("is no URL"))?;
            if !matches!(url.scheme(), "https" | "http") {
                return Err(wrong("cannot be asked"));
            }
            (None, "issuer", ControlUrl { encrypted: url.scheme() == "https", text })
        }
        (Some(_), None) => return Err(place.wrong("authorization_url", "stands alone").cure("add token_url")),
        (None, Some(_)) => return Err(place.wrong("token_url", "stands alone").cure("add authorization_url")),
    };
    let said = Said {
        key,
        url: &url,
        insecure: table.insecure,
        ca_file: table.ca_file.as_deref(),
        deadline: table.deadline.0,
        concurrent_max: table.concurrent_max,
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    Ok((configured, Server::build(said, place.0, building)?))
}

/// RFC 6749 section 2.3.1. A secret that cannot be read is noted: nobody logs in.
fn client_auth(
    table: &Table,
    place: &Place<'_>,
    building: &mut Building<'_>,
    stamp: &mut Vec<u8>,
) -> Result<ClientAuth, Fault> {
    let secret = match (&table.client_secret, table.client_auth) {
        (None, None | Some(AuthWord::None)) => return Ok(ClientAuth::None),
        (Some(_), Some(AuthWord::None)) => {
            return Err(place.wrong("client_auth", "\"none\" has no secret").cure("leave out client_secret"));
        }
        (None, Some(_)) => return Err(place.wrong("client_auth", "needs a secret").cure("add client_secret")),
        (Some(secret), _) => secret,
    };
    match secret::read(secret) {
        Ok(secret) => {
            stamp.extend_from_slice(&fingerprint(&secret));
            Ok(match table.client_auth {
                Some(AuthWord::Post) => ClientAuth::Post(secret),
                _ => ClientAuth::Basic(basic(&table.client_id, &secret)),
            })
        }
        Err(why) => {
            building.unbuilt.push(place.wrong("client_secret", why));
            Ok(ClientAuth::None)
        }
    }
}

/// `None`: one cannot be read or is too short, which is noted.
fn cookie_secrets(
    table: &Table,
    place: &Place<'_>,
    building: &mut Building<'_>,
    stamp: &mut Vec<u8>,
) -> Option<Vec<Vec<u8>>> {
    let mut secrets = Vec::with_capacity(table.keys.len());
    for (number, key) in table.keys.iter().enumerate() {
        let long_enough = |secret: &Vec<u8>| secret.len() >= SECRET_BYTES_MIN;
        let short = || format!("it has fewer than {SECRET_BYTES_MIN} bytes: make one with openssl rand -base64 32");
        match secret::read(key).and_then(|secret| Some(secret).filter(long_enough).ok_or_else(short)) {
            Ok(secret) => {
                stamp.extend_from_slice(&fingerprint(&secret));
                secrets.push(secret);
            }
            Err(why) => building.unbuilt.push(place.wrong(&format!("keys[{number}]"), why)),
        }
    }
    (secrets.len() == table.keys.len()).then_some(secrets)
}
