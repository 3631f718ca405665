//! `introspect`: who asks, as the server that has issued a token says when it is asked (OAuth 2.0 token introspection,
//! RFC 7662). For tokens that say nothing themselves, or that may be revoked.
//!
//! ```toml
//! [[policies.auth.filters]]
//! introspect = { url = "https://id.example.com/introspect", client_id = "gateway", client_secret = "env:SECRET" }
//! ```
//! The token is taken from where `jwt` takes it. What the server says of a token is remembered by each core, for `cache` if
//! the token is active, for `cache_negative` if it is not; its dates are judged on every request. A token that several
//! requests of a core bring at once is asked for once. At most `concurrent_max` questions are open at one server, each for
//! `deadline` at most; if it does not answer, answers nonsense, or too much is open, the answer is 503: nobody passes.
//!
//! `issuer` and `audiences` are what `iss` and `aud` must say, `clients` those whose `client_id` is taken, `claims` further
//! values, `require` claims that must be there. `roles`, `consumer` and `headers` make an identity of the answer as an issuer
//! does (`[issuers]`). A token that its server calls other than a bearer's is refused: whoever holds it would have to prove
//! more.

mod memory;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use ringway_config::Fault;
use ringway_config::http::HeaderName;
use ringway_config::snapshot::{ControlUrl, FilterConfig, Issuer, KeySource, Required, Secret};
use ringway_config::units::DurationText;
use ringway_proto::credentials::jws::TOKEN_BYTES_MAX;
use ringway_proto::json;
use serde::Deserialize;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::auth::{Auth, Authenticator, Tried, unavailable};
use super::bearer::{Bearer, Claims, Failures, realm, yes};
use super::credentials::{Places, Sources};
use super::server::{Said, Server, basic, form_encoded};
use super::{Building, RequestEdit, Then, Trial, Waiting};
use crate::exchange::{Identity, claim};
use crate::fetch::{Answer, Question};
use crate::identity::{Refused, Verified, fingerprint};
use crate::secret;
use memory::Told;

pub(super) use memory::Memory;

/// What a server says of one token.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A token that was revoked is taken for so long at most.
const CACHE_MAX: Duration = Duration::from_secs(3600);
/// Claims that one list names.
const LIST_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    url: ControlUrl,
    #[serde(default)]
    insecure: bool,
    ca_file: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    #[serde(default = "deadline")]
    deadline: DurationText,
    #[serde(default = "concurrent_max")]
    concurrent_max: u32,
    #[serde(default = "cache")]
    cache: DurationText,
    #[serde(default = "cache_negative")]
    cache_negative: DurationText,
    header: Option<HeaderName>,
    cookie: Option<String>,
    query: Option<String>,
    #[serde(default = "yes")]
    forward: bool,
    #[serde(default)]
    optional: bool,
    issuer: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    clients: Vec<String>,
    #[serde(default)]
    claims: Claims,
    #[serde(default)]
    require: Vec<String>,
    #[serde(default = "leeway")]
    leeway: DurationText,
    #[serde(default)]
    roles: Vec<String>,
    consumer: Option<String>,
    #[serde(default)]
    headers: BTreeMap<HeaderName, String>,
    #[serde(default = "realm")]
    realm: String,
    #[serde(default)]
    failures: Failures,
    #[serde(default = "yes")]
    ends_with_token: bool,
}

fn deadline() -> DurationText {
    DurationText(Duration::from_secs(2))
}

fn concurrent_max() -> u32 {
    64
}

fn cache() -> DurationText {
    DurationText(Duration::from_secs(30))
}

fn cache_negative() -> DurationText {
    DurationText(Duration::from_secs(5))
}

fn leeway() -> DurationText {
    DurationText(Duration::from_secs(30))
}

struct Introspect {
    server: Server,
    url: Url,
    /// Basic, with the client's id and secret; `None`: the server wants none.
    authorization: Option<HeaderValue>,
    sources: Sources,
    optional: bool,
    bearer: Bearer,
    /// What the answer must say, in the words of an issuer.
    rules: Arc<Issuer>,
    clients: Vec<String>,
    cache: Duration,
    cache_negative: Duration,
    /// Tells one configuration from another.
    stamp: u64,
}

pub(super) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Authenticator>, Fault> {
    let table: Table = ringway_config::filter::table(config)?;
    judge_table(&table, config)?;
    let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
    let mut server = Server::build(
        Said {
            key: "url",
            url: &table.url,
            insecure: table.insecure,
            ca_file: table.ca_file.as_deref(),
            deadline: table.deadline.0,
            concurrent_max: table.concurrent_max,
            answer_bytes_max: ANSWER_BYTES_MAX,
        },
        config,
        building,
    )?;
    let mut stamp = config.table.to_string().into_bytes();
    let mut authorization = None;
    if let (Some(id), Some(secret)) = (&table.client_id, &table.client_secret) {
        match secret::read(secret) {
            Ok(secret) => {
                stamp.extend_from_slice(&fingerprint(&secret));
                authorization = Some(basic(id, &secret));
            }
            Err(why) => {
                building.unbuilt.push(wrong("client_secret", why));
                server.close();
            }
        }
    }
    let url = Url::parse(&table.url.text).map_err(|error| wrong("url", error.to_string()))?;
    let places = Places { header: table.header, cookie: table.cookie, query: table.query };
    let sources = Sources::build(places, ("authorization", Some("Bearer")), table.forward, config, building)?;
    building.withheld.extend(table.headers.keys().map(|name| name.as_str().to_owned()));
    let required = [(Required::Iss, table.issuer.is_some()), (Required::Aud, !table.audiences.is_empty())];
    let may_lack = required.into_iter().filter(|(_, required)| !required).map(|(claim, _)| claim);
    let rules = Issuer {
        name: String::new(),
        issuer: table.issuer,
        audiences: table.audiences,
        algorithms: Vec::new(),
        source: no_keys(),
        remember: true,
        leeway: table.leeway.0,
        may_lack: may_lack.chain([Required::Exp]).collect(),
        require: table.require,
        roles: table.roles,
        consumer: table.consumer,
        headers: table.headers.into_iter().map(|(name, path)| (name.into_string(), path)).collect(),
    };
    Ok(Box::new(Introspect {
        server,
        url,
        authorization,
        sources,
        optional: table.optional,
        bearer: Bearer::build(table.claims, &table.failures, table.realm, table.ends_with_token, config)?,
        rules: Arc::new(rules),
        clients: table.clients,
        cache: table.cache.0,
        cache_negative: table.cache_negative.0,
        stamp: xxh3_64(&stamp),
    }))
}

/// What does not fit together.
fn judge_table(table: &Table, config: &FilterConfig) -> Result<(), Fault> {
    let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
    if table.client_id.is_some() != table.client_secret.is_some() {
        let fault = wrong("client_id", "id and secret of the client belong together".to_owned());
        return Err(fault.cure("add the one that is missing"));
    }
    for (key, time) in [("cache", table.cache.0), ("cache_negative", table.cache_negative.0)] {
        if time > CACHE_MAX {
            return Err(wrong(key, format!("the most is {}s", CACHE_MAX.as_secs())));
        }
    }
    let lists =
        [table.audiences.len(), table.clients.len(), table.require.len(), table.roles.len(), table.headers.len()];
    if lists.iter().any(|length| *length > LIST_MAX) {
        return Err(Fault::new(format!("a list has more than {LIST_MAX} entries")).at(config.place.clone()));
    }
    match table.headers.keys().find(|name| name.is_ours() || name.as_str() == "host") {
        Some(name) => Err(wrong("headers", format!("{:?} frames the message or belongs to one hop", name.as_str()))),
        None => Ok(()),
    }
}

/// The server verifies.
fn no_keys() -> KeySource {
    let time = Duration::ZERO;
    let (keys, file, url, ca_file) = (Vec::new(), None, None, None);
    KeySource { keys, file, url, ca_file, refresh: time, refetch_min: time, timeout: time }
}

impl Authenticator for Introspect {
    fn authenticate<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Auth<'p> {
        self.bearer.take(&self.sources, request, |request, token| self.examine(request, token))
    }

    fn strip<'p>(&'p self, request: &mut RequestEdit<'p, '_>) {
        self.sources.strip(request);
    }

    fn challenge(&self) -> &str {
        self.bearer.challenge()
    }

    fn optional(&self) -> bool {
        self.optional
    }

    fn try_out<'p>(&'p self, trial: &mut Trial<'p>) -> Tried {
        if let Some(refused) = unfit(trial.token) {
            return Tried::Denied(self.bearer.denial(refused.text()));
        }
        let host = self.url.host_str().unwrap_or_default();
        trial.say("introspect", format!("asks {host} about each token; it is not asked here"));
        Tried::Unknown("introspect asks its server about the token".to_owned())
    }
}

/// A token that no server is asked about.
fn unfit(token: &[u8]) -> Option<Refused> {
    match token.len() {
        0 => Some(Refused::Malformed),
        1..=TOKEN_BYTES_MAX => None,
        _ => Some(Refused::TooLong),
    }
}

impl Introspect {
    fn examine<'p>(&'p self, request: &mut RequestEdit<'p, '_>, token: &[u8]) -> Auth<'p> {
        if let Some(refused) = unfit(token) {
            self.bearer.note_failure(request);
            return Auth::Denied(self.bearer.denial(refused.text()));
        }
        let memory = request.state.introspected.clone();
        if let Some(told) = memory.recall(self.stamp, token, request.net.now_ms()) {
            return self.conclude(request, told);
        }
        if let Some(held_off) = self.bearer.hold_off(request) {
            return Auth::Denied(held_off);
        }
        let waiter = match memory.join(self.stamp, token, |key| self.ask(request, token, key)) {
            Ok(waiter) => waiter,
            Err(why) => return unavailable(why),
        };
        let until = async move {
            let told = waiter.await;
            let then: Then<'p> = Box::new(move |request| self.conclude(request, told).verdict(request));
            then
        };
        Auth::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    fn conclude<'p>(&'p self, request: &mut RequestEdit<'p, '_>, told: Told) -> Auth<'p> {
        match told {
            Told::Active(verified) => match self.judge(request, &verified) {
                Ok(identity) => Auth::Known(identity),
                Err(refused) => Auth::Denied(self.bearer.denial(refused.text())),
            },
            Told::Inactive => {
                self.bearer.note_failure(request);
                Auth::Denied(self.bearer.denial("the token is not active"))
            }
            Told::Failed(why) => unavailable(why.to_string()),
        }
    }

    fn judge<'p>(&'p self, request: &mut RequestEdit<'p, '_>, verified: &Verified) -> Result<Rc<Identity>, Refused> {
        let claims = &verified.identity.claims;
        let text = |name| claim(claims, name).and_then(Value::as_str);
        if !self.clients.is_empty() && !text("client_id").is_some_and(|id| self.clients.iter().any(|one| one == id)) {
            return Err(Refused::ClaimValue);
        }
        // RFC 7662 section 2.2, RFC 6749 section 7.1: a type that is not understood must not be used.
        if claims.contains_key("token_type")
            && !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))
        {
            return Err(Refused::ClaimValue);
        }
        self.bearer.judge(request, &self.rules, &self.rules.audiences, verified)
    }

    /// Begins to ask the server of a token; what it says is remembered under `key`.
    fn ask(
        &self,
        request: &RequestEdit<'_, '_>,
        token: &[u8],
        key: Rc<[u8]>,
    ) -> Result<impl Future<Output = Told> + 'static, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.extend(self.authorization.clone().map(|value| (AUTHORIZATION, value)));
        let body = format!("token={}&token_type_hint=access_token", form_encoded(token)).into_bytes();
        let question = Question { method: Method::POST, url: self.url.clone(), headers, body };
        let answer = self.server.ask(request.calls, request.net, question)?;
        let (net, rules, memory) = (request.net.clone(), self.rules.clone(), request.state.introspected.clone());
        let [cache_ms, negative_ms] = [self.cache, self.cache_negative].map(|time| time.as_millis() as u64);
        Ok(async move {
            let answer = answer.await;
            let bytes = answer.as_ref().map_or(0, |answer| answer.body.len());
            let told = answer.and_then(|answer| read(&answer, &rules));
            let told = told.unwrap_or_else(|why| Told::Failed(format!("the server of tokens: {why}").into()));
            let time_ms = if let Told::Active(_) = told { cache_ms } else { negative_ms };
            memory.keep(&key, &told, bytes, net.now_ms() + time_ms);
            told
        })
    }
}

/// # Errors
/// It says nothing of the token.
fn read(answer: &Answer, rules: &Issuer) -> Result<Told, String> {
    match answer.status {
        200 => {}
        300..400 => return Err(format!("it answers {}; redirects are not followed", answer.status)),
        status => return Err(format!("it answers {status}")),
    }
    let claims = json::object(&answer.body).ok_or("its answer is no JSON object")?;
    match claims.get("active") {
        Some(Value::Bool(true)) => Ok(Told::Active(Rc::new(Verified::new("introspect", claims, rules)))),
        Some(Value::Bool(false)) => Ok(Told::Inactive),
        _ => Err("its answer does not say whether the token is active".to_owned()),
    }
}
