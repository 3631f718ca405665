//! Policy on an exchange: one file per filter, which owns its table, its hooks, its docs and its tests.
//!
//! A request passes the filters of policies from the outside in (`plan/README.md`), then those of its route in the order
//! they are written; its answer passes them in reverse. Adding one: a file here, and a line in [`build`].

mod accept;
mod answer;
mod api_key;
mod auth;
mod basic;
mod bearer;
mod building;
mod changed;
mod codings;
mod compress;
mod concurrency_limit;
mod cors;
mod credentials;
mod decompress;
mod error_pages;
mod ext_authz;
mod fault;
mod file;
mod headers;
mod hmac;
mod https_redirect;
mod introspect;
mod ip_access;
mod json;
mod json_schema;
mod jwt;
mod media;
mod oidc;
mod query;
mod rate_limit;
mod rbac;
mod rewrite;
mod schema_cost;
mod server;
mod state;
mod strip_prefix;
mod template;
mod trial;
mod unique;
mod version_notice;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_proto::{NormalPath, RequestHead};

use crate::exchange::{ClaimedNonce, HeaderEdits, HeldList, Identity, Refusal, RewriteError, Rewritten};
use crate::mesh::Calls;
use crate::net::Net;
use crate::observe::Flag;
use crate::route::{Captures, FieldSource, RouteId, RouteTable};

pub use answer::{Answer, AnswerEdit, ChangedBody, Hook, Received, drop_own_fields};
pub use building::{Building, Gathered, Withheld};
pub use concurrency_limit::PlacesSpec;
pub use credentials::{shown_query, shown_referrer};
pub use rate_limit::Spec as LimitSpec;
pub use state::{Chance, FilterState, Numbers};
pub use trial::{Outlook, Said, Trial};
pub use version_notice::VersionNotice;

/// What a filter may do. Compiled once on the control thread, shared read-only by every core.
pub trait Filter: Send + Sync {
    /// Edits of the answer are made here, too (`RequestEdit::answer`).
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p>;

    /// True if it lets nobody pass who has not said who he is.
    fn authenticates(&self) -> bool {
        false
    }

    /// For the operator: the file that it stands in.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>().rsplit("::").nth(1).unwrap_or_default()
    }

    /// True if it wants to see answers, too.
    fn sees_answers(&self) -> bool {
        false
    }

    /// The head of the request's answer is known. Asked from the innermost filter out, of those that the request has
    /// reached, if they say so ([`Filter::sees_answers`]). Not for `101`.
    fn on_answer<'p>(&'p self, _answer: &mut AnswerEdit<'p, '_>) {}

    /// True if it answers CORS preflights itself, whatever they ask for.
    fn answers_preflights(&self) -> bool {
        false
    }

    /// Whether it would let a request pass that nobody has sent; `None`: it is not asked who may.
    fn try_out<'p>(&'p self, _trial: &mut Trial<'p>) -> Option<Outlook> {
        None
    }

    /// What its routes must have.
    fn needs(&self) -> Option<&Needs> {
        None
    }
}

/// What a filter says of a request.
pub enum Verdict<'p> {
    Pass,
    /// It is answered here; neither the filters that stand further inside nor the origin see it.
    Reply(Box<Refusal>),
    /// The same, but not an error: this status, without a body, with the fields of [`RequestEdit::answer`].
    Answer(u16),
    /// The filter has to wait before it can say.
    Wait(Box<Waiting<'p>>),
    /// It must see the request's whole body first.
    Body(Box<WantsBody<'p>>),
}

/// A request that waits.
pub struct Waiting<'p> {
    pub until: Pin<Box<dyn Future<Output = Then<'p>> + 'p>>,
    /// Shown with it, unless something else goes wrong later.
    pub shown: Option<(Flag, &'static str)>,
}

/// A request that goes on once its body was read; it then stands in [`RequestEdit::body`].
pub struct WantsBody<'p> {
    /// A longer one is refused (413).
    pub bytes_max: usize,
    pub then: Then<'p>,
}

/// How a filter goes on after a wait.
pub type Then<'p> = Box<dyn FnOnce(&mut RequestEdit<'p, '_>) -> Verdict<'p> + 'p>;

/// What a filter asks of a route, and where it says so.
#[derive(Debug, Default)]
pub struct Needs {
    pub place: String,
    /// Params of the path.
    pub params: Vec<String>,
    /// `path_prefix`.
    pub prefix: bool,
}

/// What a filter may see and change of a request before it is forwarded.
pub struct RequestEdit<'p, 'r> {
    /// Edits of the request's head.
    pub headers: &'r mut HeaderEdits<'p>,
    /// Edits of the answer's head. Those of filters further outside apply later, whatever the order of the calls.
    pub answer: &'r mut HeaderEdits<'p>,
    pub request: &'r RequestHead,
    /// What `request` points into.
    pub bytes: &'r [u8],
    /// The whole body, if a filter has asked for it.
    pub body: Option<&'r [u8]>,
    /// Goes on in place of [`RequestEdit::body`], which must have been asked for.
    pub new_body: Option<Vec<u8>>,
    /// The normalised path that the route matched.
    pub path: &'r [u8],
    /// The same, with the ways in which an origin may read it.
    pub normal: &'r NormalPath,
    /// Bytes of `path` that the origin does not see; what is left starts with `/` or is empty.
    pub stripped: usize,
    /// As the client sent it.
    pub query: Option<&'r [u8]>,
    pub fields: &'r dyn FieldSource,
    pub rewritten: &'r mut Rewritten,
    pub matched: Matched<'r>,
    /// Who sends it, once a filter knows.
    pub identity: &'r mut Option<Rc<Identity>>,
    /// When its credentials end, and with them what has no end of its own.
    pub ends_unix_s: &'r mut Option<u64>,
    /// Of its signature, once it has been claimed for this request.
    pub nonce: &'r mut Option<ClaimedNonce>,
    /// What is given back once the exchange is over.
    pub held: &'r mut HeldList,
    pub state: &'r FilterState,
    pub net: &'r Rc<Net>,
    /// For work that takes long.
    pub calls: &'r Rc<Calls>,
    /// The wall clock, in seconds since 1970.
    pub unix_s: &'r dyn Fn() -> u64,
}

/// The route and what it captured.
#[derive(Clone, Copy)]
pub struct Matched<'r> {
    pub table: &'r RouteTable,
    pub route: RouteId,
    pub captures: &'r Captures,
}

impl RequestEdit<'_, '_> {
    /// The path as the filters so far have left it.
    fn current_path(&self) -> &[u8] {
        match self.rewritten.path() {
            Some(path) => path,
            None if self.stripped == self.path.len() => b"/",
            None => &self.path[self.stripped..],
        }
    }

    /// The query as the filters so far have left it.
    fn current_query(&self) -> Option<&[u8]> {
        self.rewritten.query().unwrap_or(self.query)
    }

    /// What the param `name` of the route captured, still percent-encoded.
    fn param(&self, name: &str) -> &[u8] {
        let Matched { table, route, captures } = self.matched;
        let index = table.param_names(route).iter().position(|known| **known == *name);
        index.and_then(|index| captures.get(self.path, index)).unwrap_or_default()
    }
}

fn refuse_rewrite<'p>(result: Result<(), RewriteError>) -> Verdict<'p> {
    match result {
        Ok(()) => Verdict::Pass,
        Err(RewriteError::TooLong) => {
            Verdict::Reply(Box::new(Refusal::new(Flag::TargetTooLong, RewriteError::TooLong.to_string())))
        }
        Err(error) => {
            let refusal = Refusal::new(Flag::BadRequest, error.to_string());
            Verdict::Reply(Box::new(Refusal { code: "bad_rewrite", ..refusal }))
        }
    }
}

/// The filters that routes and policies can name.
const NAMES: [&str; 25] = [
    "request_headers",
    "response_headers",
    "strip_prefix",
    "rewrite",
    "query",
    "fault",
    "jwt",
    "api_key",
    "basic",
    "hmac",
    "introspect",
    "oidc",
    "any_of",
    "rbac",
    "cors",
    "ip_access",
    "https_redirect",
    "error_pages",
    "compress",
    "decompress",
    "json_schema",
    "rate_limit",
    "quota",
    "concurrency_limit",
    "ext_authz",
];

/// Builds the filter that a configuration names.
///
/// # Errors
/// An unknown name, or what the filter's own table has wrong.
pub fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Filter>, Fault> {
    match config.name.as_str() {
        "request_headers" => headers::RequestHeaders::build(config),
        "response_headers" => headers::ResponseHeaders::build(config),
        "strip_prefix" => strip_prefix::StripPrefix::build(config),
        "rewrite" => rewrite::build(config, &mut building.numbers),
        "query" => query::QueryEdits::build(config),
        "rate_limit" => rate_limit::RateLimit::build(config, building),
        "quota" => rate_limit::RateLimit::build_quota(config, building),
        "concurrency_limit" => concurrency_limit::ConcurrencyLimit::build(config, building),
        "fault" => fault::Fault::build(config),
        "any_of" => auth::build_any(config, building),
        "rbac" => rbac::build(config, building),
        "ip_access" => ip_access::IpAccess::build(config),
        "https_redirect" => https_redirect::HttpsRedirect::build(config),
        "error_pages" => error_pages::ErrorPages::build(config),
        "compress" => compress::Compress::build(config),
        "decompress" => decompress::Decompress::build(config),
        "json_schema" => json_schema::JsonSchema::build(config),
        "cors" => cors::Cors::build(config, &mut building.numbers),
        "oidc" => oidc::build(config, building),
        "ext_authz" => ext_authz::build(config, building),
        name => auth::build(config, building).unwrap_or_else(|| {
            Err(Fault::new(format!("no filter {name:?}"))
                .at(config.place.clone())
                .cure(format!("the filters are {}", NAMES.join(", "))))
        }),
    }
}

#[cfg(test)]
mod tests;
