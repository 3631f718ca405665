//! What of a request an endpoint or an arm is chosen by: a header, a cookie, the client, the path, a parameter of the
//! route. Chooses nothing.

use ringway_config::snapshot::HashOn;
use ringway_proto::{Field, Known};
use xxhash_rust::xxh3::xxh3_64;

use super::{Serving, client_of};
use crate::exchange::Exchange;
use crate::plan::RoutePlan;

/// The hash of the request's key, the same on every gateway; `None` if it has none.
pub fn hash(serving: &Serving<'_>, x: &Exchange, rule: &RoutePlan, on: &HashOn) -> Option<u64> {
    let bytes = x.request_bytes.bytes();
    match on {
        HashOn::Header(name) => {
            let named = |field: &&Field| !field.twin && field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes());
            let value = x.request.fields.iter().find(named)?.value.of(bytes);
            (!value.is_empty()).then(|| xxh3_64(value))
        }
        HashOn::Cookie(name) => cookie(&x.request.fields, bytes, name).map(xxh3_64),
        HashOn::ClientIp => Some(match client_of(serving, x).to_canonical() {
            std::net::IpAddr::V4(address) => xxh3_64(&address.octets()),
            std::net::IpAddr::V6(address) => xxh3_64(&address.octets()),
        }),
        HashOn::Path => Some(xxh3_64(&x.path.bytes)),
        HashOn::Param(name) => {
            let names = serving.adopted.plan.table.param_names(rule.id);
            let at = names.iter().position(|known| **known == **name)?;
            x.captures.get(&x.path.bytes, at).map(xxh3_64)
        }
    }
}

/// The first cookie of this name (RFC 6265 section 5.4), without the quotes that some put around values.
pub fn cookie<'a>(fields: &[Field], bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let lines = fields.iter().filter(|field| field.known == Known::Cookie && !field.twin);
    let pairs = lines.flat_map(|field| field.value.of(bytes).split(|byte| *byte == b';'));
    let value = pairs.into_iter().find_map(|pair| {
        let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?.trim_ascii_start();
        rest.strip_prefix(b"=").map(|value| value.trim_ascii())
    })?;
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(unquoted.unwrap_or(value)).filter(|value| !value.is_empty())
}
