//! `ip_access`: lets clients in by their address.
//!
//! ```toml
//! filters = [{ ip_access = { allow = ["10.0.0.0/8", "2001:db8::/32"], deny = ["10.6.6.6"] } }]
//! filters = [{ ip_access = { deny_file = "/etc/ringway/blocked.txt" } }]
//! ```
//! **`deny` goes before `allow`:** who is in `deny` gets 403, however precisely `allow` names it; if there is an `allow`,
//! so does everybody who is not in it. The order of a list means nothing.
//!
//! `allow_file` and `deny_file` add one address or prefix a line; what follows a `#` is left out. They are read when a
//! configuration is loaded. Lists may be long: a lookup halves what is left of the list until one range remains.
//!
//! The client is whom `trusted_proxies` of the listener says it is. An IPv4 address that came as an IPv6 one
//! (`::ffff:10.0.0.1`) is IPv4; `::/0` is every IPv6 address and no IPv4 one.

use std::net::IpAddr;

use ringway_config::Fault;
use ringway_config::snapshot::{Cidr, FilterConfig};
use serde::Deserialize;

use super::{Filter, Outlook, RequestEdit, Trial, Verdict, file};
use crate::exchange::Refusal;
use crate::observe::Flag;

/// Addresses and prefixes of one list: 32 MiB of ranges, were all of them IPv6.
const ENTRIES_MAX: usize = 1_000_000;
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// An IPv4 address as an IPv6 one: `::ffff:0:0/96`.
const MAPPED_BITS: u8 = 96;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    allow: Option<Vec<String>>,
    allow_file: Option<String>,
    #[serde(default)]
    deny: Vec<String>,
    deny_file: Option<String>,
}

pub(super) struct IpAccess {
    /// `None`: everybody.
    allow: Option<Addresses>,
    deny: Addresses,
}

/// A set of addresses: ranges that neither overlap nor touch, in order, both ends included.
#[derive(Debug, Default, PartialEq)]
struct Addresses {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl IpAccess {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
        let table: Table = ringway_config::filter::table(config)?;
        let names_allow = table.allow.is_some() || table.allow_file.is_some();
        let allow = list(config, "allow", &table.allow.unwrap_or_default(), table.allow_file.as_deref())?;
        let deny = list(config, "deny", &table.deny, table.deny_file.as_deref())?;
        if !names_allow && deny.is_empty() {
            let fault = Fault::new("lets everybody in").at(config.place.clone());
            return Err(fault.cure("add allow = [\"10.0.0.0/8\"] or deny = [\"192.0.2.0/24\"]"));
        }
        if names_allow && allow.is_empty() {
            let fault = Fault::new("lets nobody in").at(format!("{}.allow", config.place));
            return Err(fault.cure("name the addresses that may come in"));
        }
        let deny = Addresses::new(&deny);
        Ok(Box::new(IpAccess { allow: names_allow.then(|| Addresses::new(&allow)), deny }))
    }
}

impl Filter for IpAccess {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        match self.refusal(request.fields.client_ip()) {
            None => Verdict::Pass,
            Some(refusal) => Verdict::Reply(Box::new(refusal)),
        }
    }

    fn try_out<'p>(&'p self, trial: &mut Trial<'p>) -> Option<Outlook> {
        trial.say("address", trial.client.to_string());
        Some(self.refusal(trial.client).map_or(Outlook::Passes, Outlook::Refused))
    }
}

impl IpAccess {
    fn refusal(&self, client: IpAddr) -> Option<Refusal> {
        let reason = match &self.allow {
            _ if self.deny.contains(client) => "the client's address is denied",
            Some(allow) if !allow.contains(client) => "the client's address is not allowed",
            _ => return None,
        };
        Some(Refusal::new(Flag::Forbidden, reason))
    }
}

/// What `key` and the file of `key` name.
fn list(config: &FilterConfig, key: &str, inline: &[String], path: Option<&str>) -> Result<Vec<Cidr>, Fault> {
    let mut list = Vec::new();
    for (at, text) in inline.iter().enumerate() {
        list.push(text.parse().map_err(|fault: Fault| fault.at(format!("{}.{key}[{at}]", config.place)))?);
    }
    if let Some(path) = path {
        let key = format!("{key}_file");
        for (at, line) in file::read(config, &key, path, FILE_BYTES_MAX)?.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if !entry.is_empty() {
                list.push(entry.parse().map_err(|fault: Fault| {
                    let message = format!("line {} of {path:?}: {}", at + 1, fault.message);
                    Fault { message, ..fault }.at(format!("{}.{key}", config.place))
                })?);
            }
        }
    }
    match list.len() > ENTRIES_MAX {
        true => Err(Fault::new(format!("more than {ENTRIES_MAX} addresses")).at(format!("{}.{key}", config.place))),
        false => Ok(list),
    }
}

impl Addresses {
    fn new(list: &[Cidr]) -> Addresses {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for cidr in list {
            match (cidr.address, cidr.address.to_canonical()) {
                (IpAddr::V4(address), _) => {
                    v4.push((address.to_bits(), address.to_bits() | low_bits(32 - cidr.prefix) as u32));
                }
                (IpAddr::V6(_), IpAddr::V4(address)) if cidr.prefix >= MAPPED_BITS => {
                    v4.push((address.to_bits(), address.to_bits() | low_bits(128 - cidr.prefix) as u32));
                }
                (IpAddr::V6(address), _) => {
                    v6.push((address.to_bits(), address.to_bits() | low_bits(128 - cidr.prefix)));
                }
            }
        }
        let next = |end: u32| end.checked_add(1);
        let next_v6 = |end: u128| end.checked_add(1);
        Addresses { v4: joined(v4, next), v6: joined(v6, next_v6) }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => within(&self.v6, address.to_bits()),
        }
    }
}

fn low_bits(count: u8) -> u128 {
    u128::MAX.checked_shr(128 - u32::from(count)).unwrap_or(0)
}

/// The same ranges in order, those that overlap or touch as one.
fn joined<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::new();
    for (start, end) in ranges {
        match joined.last_mut() {
            Some(last) if next(last.1).is_none_or(|next| start <= next) => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined.into()
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= address);
    after > 0 && address <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(list: &[&str]) -> Addresses {
        Addresses::new(&list.iter().map(|text| text.parse().expect(text)).collect::<Vec<_>>())
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let joined =
            set(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7", "255.255.255.255", "::ffff:10.0.2.0/120", "ff::/16"]);
        assert_eq!(joined.v4.len(), 2);
        assert_eq!(joined.v4[0], (0x0a00_0000, 0x0a00_02ff));
        assert_eq!(set(&["0.0.0.0/0", "10.0.0.0/8"]).v4[..], [(0, u32::MAX)]);
        assert_eq!(set(&["::/0", "::ffff:0:0/96"]).v6[..], [(0, u128::MAX)]);
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let list = set(&["10.0.0.0/8", "::/0"]);
        let contains = |text: &str| list.contains(text.parse().unwrap());
        assert!(contains("::ffff:10.1.2.3") && contains("10.1.2.3") && contains("::1"));
        assert!(!contains("::ffff:11.1.2.3") && !contains("11.1.2.3"));
    }

    fn cidr() -> impl Strategy<Value = Cidr> {
        let v4 = (any::<u16>(), 8..=32_u8).prop_map(|(bits, prefix)| (u128::from(bits) << 16, prefix, true));
        let v6 = (any::<u16>(), 0..=128_u8).prop_map(|(bits, prefix)| (u128::from(bits) << 104, prefix, false));
        prop_oneof![v4, v6].prop_map(|(bits, prefix, is_v4)| match is_v4 {
            true => {
                let bits = bits as u32 & !(low_bits(32 - prefix) as u32);
                Cidr { address: IpAddr::V4(bits.into()), prefix }
            }
            false => Cidr { address: IpAddr::V6((bits & !low_bits(128 - prefix)).into()), prefix },
        })
    }

    proptest! {
        #[test]
        fn a_set_contains_what_one_of_its_prefixes_does(
            list in proptest::collection::vec(cidr(), 0..20),
            near in any::<prop::sample::Index>(),
            offset in -2..3_i128,
        ) {
            let addresses = Addresses::new(&list);
            let mut asked: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
            if !list.is_empty() {
                let cidr = list[near.index(list.len())];
                asked.push(match cidr.address {
                    IpAddr::V4(ip) => IpAddr::V4(ip.to_bits().wrapping_add(offset as u32).into()),
                    IpAddr::V6(ip) => IpAddr::V6(ip.to_bits().wrapping_add(offset as u128).into()),
                });
            }
            for ip in asked {
                prop_assert_eq!(addresses.contains(ip), list.iter().any(|cidr| cidr.contains(ip)), "{}", ip);
            }
        }
    }
}
