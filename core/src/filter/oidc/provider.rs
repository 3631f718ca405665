//! The provider as it is asked on the control thread: where its endpoints are, and what they are to be. A document that
//! says where (OpenID Connect Discovery 1.0) is fetched once for the node and remembered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use ringway_proto::json;
use serde_json::{Map, Value};

use super::seal::Sealer;
use super::tokens::{Failed, Issued};
use crate::fetch::{self, Question};
use crate::filter::server::Asking;
use crate::identity::IssuerPlan;
use crate::mesh::{Joint, Nonces, Progress, Published, Turn};

/// How long endpoints that were found are used before they are looked up again.
const FOUND_TIME: Duration = Duration::from_secs(3600);
/// After a failure nobody asks for so long; what was found before stays in use for longer.
const FAILED_TIME: Duration = Duration::from_secs(1);
const KEPT_TIME: Duration = Duration::from_secs(60);
/// How often work looks whether others have done it.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Sessions whose renewal is under way or just over, of the node.
const RENEWALS_MAX: usize = 16_384;
/// Of a URL that a document names.
const URL_BYTES_MAX: usize = 2048;

/// What cores and plans share of a provider.
pub(super) struct ProviderNode {
    found: Arc<Joint<Found>>,
    last: Published<Endpoints>,
    pub(super) renewals: Arc<Joint<Result<Arc<Issued>, Failed>>>,
    /// States of logins that were used.
    pub(super) states: Nonces,
}

pub(super) type Found = Result<Arc<Endpoints>, Arc<str>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) authorization: String,
    pub(super) token: Url,
    pub(super) end_session: Option<String>,
    /// The provider says who it is when it sends a browser back (RFC 9207).
    pub(super) says_issuer: bool,
}

/// How the client proves who it is.
pub(super) enum ClientAuth {
    /// Only by PKCE.
    None,
    Basic(HeaderValue),
    Post(Vec<u8>),
}

/// All that an errand needs.
pub(super) struct Provider {
    pub(super) issuer: Arc<IssuerPlan>,
    /// Its `iss`.
    pub(super) name: String,
    pub(super) client_id: String,
    pub(super) auth: ClientAuth,
    pub(super) redirect_uri: String,
    /// `None`: they are looked up.
    pub(super) configured: Option<Arc<Endpoints>>,
    /// Of a provider whose others are looked up.
    pub(super) end_session: Option<String>,
    pub(super) insecure: bool,
    /// `None`: it cannot be built, and the operator knows why.
    pub(super) sealer: Option<Sealer>,
    pub(super) session_s: u64,
    pub(super) renew_before_s: u64,
    pub(super) keeps_access_token: bool,
    pub(super) node: Arc<ProviderNode>,
}

impl Default for ProviderNode {
    fn default() -> Self {
        ProviderNode {
            found: Arc::new(Joint::new(1)),
            last: Published::default(),
            renewals: Arc::new(Joint::new(RENEWALS_MAX)),
            states: Nonces::default(),
        }
    }
}

impl Provider {
    /// Those that are known without a question.
    pub(super) fn known_endpoints(&self) -> Option<Found> {
        match (&self.configured, self.node.found.progress(FOUND_KEY, Instant::now())) {
            (Some(configured), _) => Some(Ok(configured.clone())),
            (None, Progress::Done(found)) => Some(found),
            (None, _) => None,
        }
    }

    /// Looks them up, once for all who want them.
    pub(super) async fn endpoints(&self, asking: &Asking) -> Found {
        if let Some(configured) = &self.configured {
            return Ok(configured.clone());
        }
        loop {
            match self.node.found.turn(FOUND_KEY, Instant::now()) {
                Turn::Done(found) => return found,
                Turn::Mine(doing) => {
                    let (found, time) = self.discover(asking).await;
                    doing.done(found.clone(), Instant::now() + time);
                    return found;
                }
                Turn::Others | Turn::Full => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// And how long it is to be known.
    async fn discover(&self, asking: &Asking) -> (Found, Duration) {
        let url = discovery_url(&self.name);
        let found = match Url::parse(&url) {
            Ok(url) => self.ask_for_document(asking, url).await,
            Err(error) => Err(error.to_string()),
        };
        match (found, self.node.last.get()) {
            (Ok(endpoints), _) => {
                self.node.last.publish(endpoints.clone());
                (Ok(Arc::new(endpoints)), FOUND_TIME)
            }
            (Err(_), Some(last)) => (Ok(last), KEPT_TIME),
            (Err(why), None) => (Err(format!("{url}: {why}").into()), FAILED_TIME),
        }
    }

    async fn ask_for_document(&self, asking: &Asking, url: Url) -> Result<Endpoints, String> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let question = Question { method: Method::GET, url, headers, body: Vec::new() };
        let answer = asking.ask(question).await?;
        if answer.status != 200 {
            return Err(format!("it answers {}", answer.status));
        }
        let document = json::object(&answer.body).ok_or("it is no JSON object, or has a member twice")?;
        self.read(&document)
    }

    /// # Errors
    /// The document is of another issuer, or names what must not be asked.
    fn read(&self, document: &Map<String, Value>) -> Result<Endpoints, String> {
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        // Discovery 1.0 section 4.3: exactly.
        if text("issuer") != Some(&*self.name) {
            return Err("it is of another issuer".to_owned());
        }
        let url = |name: &str| {
            let text = text(name).filter(|text| text.len() <= URL_BYTES_MAX).ok_or(format!("it has no {name}"))?;
            let url = fetch::allowed(text).map_err(|why| format!("its {name}: {why}"))?;
            match url.scheme() {
                "https" => {}
                "http" if self.insecure => {}
                _ => return Err(format!("its {name} is not encrypted")),
            }
            if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
                return Err(format!("its {name} has a user or a fragment"));
            }
            Ok(url)
        };
        let end_session = match (&self.end_session, document.contains_key("end_session_endpoint")) {
            (Some(configured), _) => Some(configured.clone()),
            (None, true) => Some(url("end_session_endpoint")?.into()),
            (None, false) => None,
        };
        Ok(Endpoints {
            authorization: url("authorization_endpoint")?.into(),
            token: url("token_endpoint")?,
            end_session,
            says_issuer: document.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
        })
    }
}

/// There is one document for each provider.
const FOUND_KEY: [u64; 2] = [0, 0];

/// OpenID Connect Discovery 1.0 section 4.
pub(super) fn discovery_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}
