//! Policy on an exchange: one file per filter, which owns its table, its hooks, its docs and its tests.
//!
//! A route's filters run in the order they are written, on the request; on the answer in the reverse order. Adding one:
//! a file here, and a line in [`build`].

mod headers;
mod strip_prefix;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;

use crate::exchange::HeaderEdits;

/// What a filter may do. Compiled once on the control thread, shared read-only by every core.
pub trait Filter: Send + Sync {
    fn on_request<'p>(&'p self, _request: &mut RequestEdit<'p, '_>) {}
    fn on_answer<'p>(&'p self, _answer: &mut HeaderEdits<'p>) {}
}

/// What a filter may change about a request before it is forwarded.
pub struct RequestEdit<'p, 'r> {
    pub headers: HeaderEdits<'p>,
    /// The normalised path that the route matched.
    pub path: &'r [u8],
    /// Bytes of `path` that the origin does not see; what is left starts with `/` or is empty.
    pub stripped: usize,
}

/// The filters that routes can name.
const NAMES: [&str; 3] = ["request_headers", "response_headers", "strip_prefix"];

/// Builds the filter that a configuration names.
///
/// # Errors
/// An unknown name, or what the filter's own table has wrong.
pub fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
    match config.name.as_str() {
        "request_headers" => headers::RequestHeaders::build(config),
        "response_headers" => headers::ResponseHeaders::build(config),
        "strip_prefix" => strip_prefix::StripPrefix::build(config),
        name => Err(Fault::new(format!("no filter {name:?}"))
            .at(config.place.clone())
            .cure(format!("the filters are {}", NAMES.join(", ")))),
    }
}
