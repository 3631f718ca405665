//! What of a request an endpoint or an arm is chosen by: a header, a cookie, the client, the path, a parameter of the
//! route. Chooses nothing.

use ringway_config::snapshot::HashOn;
use ringway_proto::{Field, Known, cookies, named};
use xxhash_rust::xxh3::xxh3_64;

use super::{Serving, client_of};
use crate::exchange::Exchange;
use crate::plan::RoutePlan;

/// The hash of the request's key, the same on every gateway; `None` if it has none.
pub fn hash(serving: &Serving<'_>, x: &Exchange, rule: &RoutePlan, on: &HashOn) -> Option<u64> {
    let bytes = x.request_bytes.bytes();
    match on {
        HashOn::Header(name) => {
            let value = named(&x.request.fields, bytes, name).find(|field| !field.twin)?.value.of(bytes);
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

/// The first cookie of this name (RFC 6265 section 5.4) that has a value.
pub fn cookie<'a>(fields: &[Field], bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let lines = fields.iter().filter(|field| field.known == Known::Cookie && !field.twin);
    let mut all = lines.flat_map(|field| cookies(field.value.of(bytes)));
    all.find(|(found, value)| *found == name.as_bytes() && !value.is_empty()).map(|(_, value)| value)
}
