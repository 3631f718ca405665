//! What a limit counts by: the client's address, a consumer, a header, or several of these as one. Keys are compared by
//! a digest of 128 bits with seeds of this process, so that long ones cost no memory and nobody can make two meet; gateways
//! of a fleet tell each other of a key by a digest that is slower and the same everywhere.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use ahash::{AHasher, RandomState};
use aws_lc_rs::digest;
use ringway_config::Fault;
use ringway_config::http::HeaderName;
use ringway_proto::{cookies, host_of};
use serde_json::Value;

use super::super::RequestEdit;
use crate::mesh::budget::KeyName;
use crate::route::Query;

/// Parts of one key.
const PARTS_MAX: usize = 8;
const IPV4_BITS: u8 = 32;
const IPV6_BITS: u8 = 128;
/// `::ffff:0:0`: where IPv4 addresses stand among the others (RFC 4291 section 2.5.5.2).
const V4_MAPPED: u128 = 0xffff_0000_0000;
/// What a provider gives to one customer, who has all addresses in it.
const IPV6_PREFIX: u8 = 64;

/// What requests are told apart by.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    parts: Vec<Part>,
    ipv4_prefix: u8,
    ipv6_prefix: u8,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    ClientIp,
    Consumer,
    Route,
    Host,
    Global,
    Header(String),
    Claim(String),
    Param(String),
    /// A parameter of the query string.
    Query(String),
    Cookie(String),
}

const FORMS: &str = "\"client_ip\", \"consumer\", \"route\", \"host\", \"global\", \"header:NAME\", \"claim:PATH\", \
                     \"param:NAME\", \"query:NAME\", \"cookie:NAME\"";

/// As it is written.
#[derive(Debug, Default)]
pub struct Written<'a> {
    pub key: Option<&'a toml::Value>,
    pub ipv4_prefix: Option<u8>,
    pub ipv6_prefix: Option<u8>,
    /// The table it stands in.
    pub place: &'a str,
}

impl Key {
    /// # Errors
    /// No key, or a prefix that is longer than an address.
    pub fn read(written: &Written<'_>) -> Result<Key, Fault> {
        let place = format!("{}.key", written.place);
        let parts = match written.key {
            None => vec![Part::ClientIp],
            Some(toml::Value::Array(list)) if (1..=PARTS_MAX).contains(&list.len()) => {
                list.iter().map(|part| Part::read(part, &place)).collect::<Result<_, _>>()?
            }
            Some(toml::Value::Array(_)) => {
                return Err(Fault::new(format!("a key has 1 to {PARTS_MAX} parts")).at(place));
            }
            Some(one) => vec![Part::read(one, &place)?],
        };
        let prefix = |name: &str, bits: Option<u8>, usual: u8, most: u8| match bits.unwrap_or(usual) {
            bits if bits <= most => Ok(bits),
            bits => {
                let fault =
                    Fault::new(format!("an address has no {bits} bits")).at(format!("{}.{name}", written.place));
                Err(fault.cure(format!("write 0 to {most}")))
            }
        };
        Ok(Key {
            parts,
            ipv4_prefix: prefix("ipv4_prefix", written.ipv4_prefix, IPV4_BITS, IPV4_BITS)?,
            ipv6_prefix: prefix("ipv6_prefix", written.ipv6_prefix, IPV6_PREFIX, IPV6_BITS)?,
        })
    }

    /// Params of the path that it asks for.
    pub fn params(&self) -> impl Iterator<Item = &String> {
        self.parts.iter().filter_map(|part| match part {
            Part::Param(name) => Some(name),
            _ => None,
        })
    }

    /// The key of a request. Parts that it does not have are all the same.
    pub fn digest(&self, request: &RequestEdit<'_, '_>, seeds: &Seeds) -> u128 {
        if let [Part::ClientIp] = &*self.parts {
            return seeds.digest_of_number(self.number_of(request.fields.client_ip()));
        }
        let mut digest = seeds.digest();
        self.parts.iter().for_each(|part| part.add(&mut digest, request, self));
        digest.finish()
    }

    /// What of an address is the key.
    #[inline]
    fn number_of(&self, address: IpAddr) -> u128 {
        match address.to_canonical() {
            IpAddr::V4(ip) => V4_MAPPED | u128::from(masked_v4(ip.to_bits(), self.ipv4_prefix)),
            IpAddr::V6(ip) => masked_v6(ip.to_bits(), self.ipv6_prefix),
        }
    }

    /// The same for all gateways: by SHA-256, so that nobody can make two keys meet.
    pub fn name(&self, request: &RequestEdit<'_, '_>) -> KeyName {
        let mut digest = Sha(digest::Context::new(&digest::SHA256));
        self.parts.iter().for_each(|part| part.add(&mut digest, request, self));
        let mut name = KeyName::default();
        name.copy_from_slice(&digest.0.finish().as_ref()[..size_of::<KeyName>()]);
        name
    }
}

impl Part {
    fn read(written: &toml::Value, place: &str) -> Result<Part, Fault> {
        let wrong = |text: &str| {
            Err(Fault::new(format!("no key {text:?}"))
                .at(place)
                .cure(format!("the keys are {FORMS}, or a list of them")))
        };
        let Some(text) = written.as_str() else { return wrong(&written.to_string()) };
        Ok(match text.split_once(':') {
            None => match text {
                "client_ip" => Part::ClientIp,
                "consumer" => Part::Consumer,
                "route" => Part::Route,
                "host" => Part::Host,
                "global" => Part::Global,
                _ => return wrong(text),
            },
            Some((_, "")) => return wrong(text),
            Some(("header", name)) => match toml::Value::from(name).try_into::<HeaderName>() {
                Ok(name) => Part::Header(name.into_string()),
                Err(_) => return wrong(text),
            },
            Some(("claim", path)) => Part::Claim(path.to_owned()),
            Some(("param", name)) => Part::Param(name.to_owned()),
            Some(("query", name)) => Part::Query(name.to_owned()),
            Some(("cookie", name)) => Part::Cookie(name.to_owned()),
            Some(_) => return wrong(text),
        })
    }

    fn add(&self, digest: &mut impl Digest, request: &RequestEdit<'_, '_>, key: &Key) {
        match self {
            Part::ClientIp => digest.number(key.number_of(request.fields.client_ip())),
            Part::Global => digest.none(),
            Part::Route => digest.part(request.matched.table.name(request.matched.route).as_bytes()),
            Part::Host => digest.host(host_of(request.request.authority.of(request.bytes))),
            Part::Consumer => {
                let consumer = request.identity.as_ref().and_then(|identity| identity.consumer.as_deref());
                digest.optional(consumer.map(str::as_bytes));
            }
            Part::Claim(path) => match request.identity.as_ref().and_then(|identity| identity.claim(path)) {
                None | Some(Value::Null) => digest.none(),
                Some(Value::String(text)) => digest.part(text.as_bytes()),
                Some(other) => digest.part(other.to_string().as_bytes()),
            },
            Part::Param(name) => digest.optional(Some(request.param(name)).filter(|value| !value.is_empty())),
            // All lines: a second one makes another key, and no way around the limit of the first.
            Part::Header(name) => {
                request.fields.any(name, &mut |value| {
                    digest.part(value);
                    false
                });
                digest.none();
            }
            Part::Cookie(name) => {
                let mut found = false;
                request.fields.any("cookie", &mut |line| {
                    let cookie = cookies(line).find(|(known, value)| *known == name.as_bytes() && !value.is_empty());
                    cookie.into_iter().for_each(|(_, value)| digest.part(value));
                    found = cookie.is_some();
                    found
                });
                if !found {
                    digest.none();
                }
            }
            Part::Query(name) => {
                let asked = Query {
                    listener: 0,
                    host: b"",
                    path: b"",
                    query_string: request.query.unwrap_or_default(),
                    method: b"",
                    fields: request.fields,
                };
                let found = asked.any_param(name, |value| {
                    digest.part(value);
                    true
                });
                if !found {
                    digest.none();
                }
            }
        }
    }
}

/// As it is written, and for addresses with how much of them counts.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.parts.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { " + " })?;
            match part {
                Part::ClientIp => write!(f, "client_ip (IPv4 /{}, IPv6 /{})", self.ipv4_prefix, self.ipv6_prefix)?,
                Part::Consumer => f.write_str("consumer")?,
                Part::Route => f.write_str("route")?,
                Part::Host => f.write_str("host")?,
                Part::Global => f.write_str("global")?,
                Part::Header(name) => write!(f, "header:{name}")?,
                Part::Claim(path) => write!(f, "claim:{path}")?,
                Part::Param(name) => write!(f, "param:{name}")?,
                Part::Query(name) => write!(f, "query:{name}")?,
                Part::Cookie(name) => write!(f, "cookie:{name}")?,
            }
        }
        Ok(())
    }
}

/// Of this process, and the same on all its cores.
#[derive(Debug)]
pub struct Seeds([RandomState; 2]);

impl Default for Seeds {
    fn default() -> Seeds {
        Seeds([RandomState::new(), RandomState::new()])
    }
}

impl Seeds {
    /// For keys that are one number: half of the digest is the number itself, so that one hash is enough. Tables look at
    /// the other half.
    #[inline]
    fn digest_of_number(&self, number: u128) -> u128 {
        let folded = number as u64 ^ (number >> 64) as u64;
        u128::from(folded) << 64 | u128::from(self.0[0].hash_one(number))
    }

    fn digest(&self) -> Seeded {
        Seeded([self.0[0].build_hasher(), self.0[1].build_hasher()])
    }
}

/// What the parts of a key become.
trait Digest {
    fn bytes(&mut self, bytes: &[u8]);

    fn number(&mut self, number: u128);

    /// Its length, too, so that parts cannot flow into each other.
    fn part(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u128);
        self.bytes(bytes);
    }

    /// No length that a part can have.
    fn none(&mut self) {
        self.number(u128::MAX);
    }

    fn optional(&mut self, part: Option<&[u8]>) {
        match part {
            Some(part) => self.part(part),
            None => self.none(),
        }
    }

    /// Names of hosts have no case, and may end in a dot.
    fn host(&mut self, host: &[u8]) {
        let host = host.strip_suffix(b".").unwrap_or(host);
        self.number(host.len() as u128);
        host.iter().for_each(|byte| self.bytes(&[byte.to_ascii_lowercase()]));
    }
}

/// Of this process.
struct Seeded([AHasher; 2]);

impl Seeded {
    fn finish(&self) -> u128 {
        u128::from(self.0[0].finish()) << 64 | u128::from(self.0[1].finish())
    }
}

impl Digest for Seeded {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|hasher| hasher.write(bytes));
    }

    fn number(&mut self, number: u128) {
        self.0.iter_mut().for_each(|hasher| hasher.write_u128(number));
    }
}

/// Of the fleet.
struct Sha(digest::Context);

impl Digest for Sha {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn number(&mut self, number: u128) {
        self.0.update(&number.to_be_bytes());
    }
}

fn masked_v4(bits: u32, prefix: u8) -> u32 {
    bits & u32::MAX.checked_shl((IPV4_BITS - prefix).into()).unwrap_or(0)
}

fn masked_v6(bits: u128, prefix: u8) -> u128 {
    bits & u128::MAX.checked_shl((IPV6_BITS - prefix).into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Key, String> {
        let table: toml::Table = text.parse().unwrap();
        let bits = |name: &str| table.get(name).and_then(toml::Value::as_integer).map(|bits| bits as u8);
        let (ipv4_prefix, ipv6_prefix) = (bits("ipv4_prefix"), bits("ipv6_prefix"));
        let written = Written { key: table.get("key"), ipv4_prefix, ipv6_prefix, place: "here" };
        Key::read(&written).map_err(|fault| fault.to_string())
    }

    #[test]
    fn keys_are_read() {
        for (text, parts) in [
            ("", vec![Part::ClientIp]),
            ("key = 'global'", vec![Part::Global]),
            ("key = ['consumer', 'header:X-Tenant']", vec![Part::Consumer, Part::Header("x-tenant".into())]),
            ("key = 'claim:realm.id'", vec![Part::Claim("realm.id".into())]),
        ] {
            assert_eq!(read(text).map(|key| key.parts), Ok(parts), "{text}");
        }
        for bad in ["key = 'ip'", "key = 'header:'", "key = 'header:a b'", "key = 3", "key = []", "key = ['x']"] {
            assert!(read(bad).unwrap_err().starts_with("here.key: "), "{bad}");
        }
        assert!(read("ipv4_prefix = 33").unwrap_err().contains("here.ipv4_prefix: an address has no 33 bits"));
    }

    #[test]
    fn addresses_of_one_prefix_are_one_key() {
        let (seeds, key) = (Seeds::default(), read("ipv4_prefix = 24").unwrap());
        let of = |ip: &str| seeds.digest_of_number(key.number_of(ip.parse().unwrap()));
        assert_eq!(of("10.1.2.3"), of("10.1.2.255"));
        assert_eq!(of("10.1.2.3"), of("::ffff:10.1.2.4"));
        assert_ne!(of("10.1.2.3"), of("10.1.3.3"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!((masked_v4(u32::MAX, 0), masked_v6(u128::MAX, 0)), (0, 0));
    }

    #[test]
    fn parts_do_not_flow_into_each_other() {
        let seeds = Seeds::default();
        let of = |parts: &[Option<&str>]| {
            let mut digest = seeds.digest();
            parts.iter().for_each(|part| digest.optional(part.map(str::as_bytes)));
            digest.finish()
        };
        assert_ne!(of(&[Some("ab"), Some("c")]), of(&[Some("a"), Some("bc")]));
        assert_ne!(of(&[None, Some("a")]), of(&[Some("a"), None]));
        assert_ne!(of(&[None]), of(&[Some("")]));
    }
}
