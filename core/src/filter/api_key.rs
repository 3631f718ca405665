//! `api_key`: who asks, as a key of a configured consumer says.
//!
//! ```toml
//! [consumers.alice]
//! api_keys = ["env:ALICE_KEY"]
//! groups = ["reader"]
//!
//! [policies.auth]
//! filters = [{ api_key = {} }]                       # X-API-Key
//! filters = [{ api_key = { query = "key" } }]
//! ```
//! The key is taken from the header `x-api-key`, or from `header`, `cookie` or `query`, and taken out before the request is
//! forwarded, unless `forward = true` and it came in a header. The consumer's groups are its roles.

use std::rc::Rc;
use std::sync::Arc;

use ringway_config::Fault;
use ringway_config::http::HeaderName;
use ringway_config::snapshot::FilterConfig;
use serde::Deserialize;

use super::auth::{Auth, Authenticator, Denied};
use super::credentials::{Found, Places, Sources};
use super::{Building, RequestEdit};
use crate::exchange::{Identity, Refusal};
use crate::identity::{Consumer, Consumers};
use crate::observe::Flag;

/// RFC 9110 section 15.5.2: a 401 has one. No registered scheme (section 16.4.1) fits.
const CHALLENGE: &str = "ApiKey realm=\"ringway\"";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    header: Option<HeaderName>,
    cookie: Option<String>,
    query: Option<String>,
    #[serde(default)]
    forward: bool,
    #[serde(default)]
    optional: bool,
}

struct ApiKey {
    sources: Sources,
    optional: bool,
    consumers: Arc<Consumers>,
}

pub(super) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Authenticator>, Fault> {
    let Table { header, cookie, query, forward, optional } = ringway_config::filter::table(config)?;
    let sources = Sources::build(Places { header, cookie, query }, ("x-api-key", None), forward, config, building)?;
    let configured = building.snapshot.consumers.iter().any(|consumer| !consumer.api_keys.is_empty());
    if !configured {
        let fault = Fault::new("no consumer has a key: nobody could pass").at(config.place.clone());
        return Err(fault.cure("add [consumers.NAME] with api_keys = [\"env:...\"]"));
    }
    Ok(Box::new(ApiKey { sources, optional, consumers: building.consumers.clone() }))
}

impl Authenticator for ApiKey {
    fn authenticate<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Auth<'p> {
        let found = self.sources.find(request);
        let wrong = |reason| {
            let refusal = Refusal { code: "invalid_api_key", ..Refusal::new(Flag::Unauthenticated, reason) };
            Auth::Denied(Denied::new(refusal, Some(CHALLENGE.to_owned())))
        };
        let auth = match &found {
            Found::Nothing => return Auth::Absent,
            Found::Several => wrong("the request brings several API keys"),
            Found::One(key) => match self.consumers.of_api_key(key) {
                Some(consumer) => Auth::Known(identity("api_key", consumer)),
                None => wrong("the API key is nobody's"),
            },
        };
        self.sources.strip(request);
        auth
    }

    fn strip<'p>(&'p self, request: &mut RequestEdit<'p, '_>) {
        self.sources.strip(request);
    }

    fn challenge(&self) -> &str {
        CHALLENGE
    }

    fn optional(&self) -> bool {
        self.optional
    }
}

/// A consumer as a request's sender.
pub(super) fn identity(by: &'static str, consumer: &Consumer) -> Rc<Identity> {
    Rc::new(Identity {
        by,
        subject: consumer.name.as_str().into(),
        consumer: Some(consumer.name.as_str().into()),
        roles: consumer.groups.iter().map(|group| group.as_str().into()).collect(),
        ..Identity::default()
    })
}
