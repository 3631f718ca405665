//! Addresses that an operator writes: where to listen, where origins are, whom to trust. Resolves no name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use toml::de::DeValue;

use crate::bounded::Int;
use crate::decode::{Decode, Keys, Section, Word, document, wrong_type};
use crate::http::dns_name;
use crate::place::Place;
use crate::problem::{Fault, Problems, quoted};
use crate::snapshot::{AccessTarget, Cidr, Endpoint, EndpointAddress};

/// `sun_path` of unix(7), less the closing zero.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// Where a listener listens: port 0 lets the kernel choose one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bind(pub(crate) SocketAddr);

impl Word for Bind {
    const SHAPE: &'static str = "\"ADDRESS:PORT\"";
    const EXAMPLE: &'static str = "\"0.0.0.0:8080\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        if let Some(port) = text.strip_prefix(':')
            && let Ok(port) = port.parse()
        {
            return Ok(Self(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let fault = Fault::new(format!("{} is not an address to listen on", quoted(text)));
        Err(match address_slip(text) {
            Some(cure) => fault.cure(cure),
            None if text.parse::<u16>().is_ok() => {
                fault.cure(format!("write \":{text}\" for that port on every address"))
            }
            None => fault.cure("write \"0.0.0.0:8080\", \"[::]:8080\" or \":8080\"; names are not resolved here"),
        })
    }
}

/// What both ends get wrong alike: a scheme, no port, no brackets.
fn address_slip(text: &str) -> Option<String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or_default();
        return Some(format!("leave out \"{scheme}://\" and the path: {}", quoted(rest)));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(format!("add a port: \"{address}:8080\""));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Some(format!("add brackets and a port: \"[{address}]:8080\""));
    }
    None
}

/// `None` for `"off"`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BindOrOff(pub(crate) Option<SocketAddr>);

impl Word for BindOrOff {
    const SHAPE: &'static str = "\"ADDRESS:PORT\" | \"off\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        if text == "off" { Ok(Self(None)) } else { Bind::parse(text).map(|Bind(address)| Self(Some(address))) }
    }
}

/// A path that does not depend on where the gateway was started.
#[derive(Debug)]
pub(crate) struct SocketPath(pub(crate) PathBuf);

impl Word for SocketPath {
    const SHAPE: &'static str = "absolute path";

    fn parse(text: &str) -> Result<Self, Fault> {
        let path = absolute(text)?;
        if text.len() > UNIX_PATH_BYTES_MAX {
            return Err(Fault::new(format!("{} is too long for a unix socket", quoted(text)))
                .cure(format!("at most {UNIX_PATH_BYTES_MAX} bytes")));
        }
        Ok(Self(path))
    }
}

pub(crate) fn absolute(text: &str) -> Result<PathBuf, Fault> {
    if text.starts_with('/') && text.len() > 1 && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    Err(Fault::new(format!("{} is not an absolute path", quoted(text))).cure("begin it with \"/\""))
}

impl Word for AccessTarget {
    const SHAPE: &'static str = "\"off\" | \"stdout\" | absolute path";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text {
            "off" => Ok(Self::Off),
            "stdout" => Ok(Self::Stdout),
            _ => absolute(text)
                .map(Self::File)
                .map_err(|fault| fault.cure("write \"off\", \"stdout\" or a path from \"/\"")),
        }
    }
}

impl Word for EndpointAddress {
    const SHAPE: &'static str = "\"ADDRESS:PORT\" | \"NAME:PORT\" | \"unix:/PATH\"";
    const EXAMPLE: &'static str = "\"10.0.0.1:8080\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        if let Some(path) = text.strip_prefix("unix:") {
            return SocketPath::parse(path).map(|SocketPath(path)| Self::Unix(path));
        }
        let no_port = || Fault::new(format!("{} has no port from 1 to 65535", quoted(text)));
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 { Err(no_port()) } else { Ok(Self::Ip(address)) };
        }
        if let Some(cure) = address_slip(text) {
            return Err(Fault::new(format!("{} is not an endpoint", quoted(text))).cure(cure));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| {
            let cure =
                if text.starts_with('/') { format!("write \"unix:{text}\"") } else { format!("write \"{text}:80\"") };
            if dns_name(text).is_ok() || text.starts_with('/') { no_port().cure(cure) } else { no_port() }
        })?;
        let port: u16 = port.parse().map_err(|_| no_port())?;
        if port == 0 {
            return Err(no_port());
        }
        let host = dns_name(host.strip_suffix('.').unwrap_or(host)).map_err(|mut fault| {
            fault.message = format!("{} is not an endpoint: {}", quoted(text), fault.message);
            fault
        })?;
        Ok(Self::Dns { host, port })
    }
}

document! {
    /// An endpoint that is more than an address.
    struct EndpointKeys {
        /// IP, unix socket, or a DNS name whose every address is an endpoint.
        address: EndpointAddress;
        /// Share of the cluster's requests, relative to its neighbours; also weighs `least_request`.
        weight: Int<1, 1000> = 1;
        /// Gets requests only as far as the others cannot take them.
        backup: bool = false;
    }
}

impl Decode for Endpoint {
    fn shape() -> String {
        "endpoint".to_owned()
    }

    fn example() -> String {
        EndpointAddress::EXAMPLE.to_owned()
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        match value {
            DeValue::String(_) => EndpointAddress::decode(value, place, problems).map(|address| Endpoint {
                address,
                weight: 1,
                backup: false,
            }),
            DeValue::Table(table) => EndpointKeys::from_table(table, place, problems).map(|keys| Endpoint {
                address: keys.address,
                weight: keys.weight.u32(),
                backup: keys.backup,
            }),
            _ => {
                problems.error(place, wrong_type("\"ADDRESS:PORT\" or { address = \"...\", weight = 1 }", value));
                None
            }
        }
    }

    fn sections(place: &str, sections: &mut Vec<Section>) {
        sections.push(EndpointKeys::section(place));
    }
}

impl FromStr for Cidr {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        Word::parse(text)
    }
}

impl Word for Cidr {
    const SHAPE: &'static str = "\"ADDRESS/PREFIX\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = || Fault::new(format!("{} is not an address range", quoted(text))).cure("write \"10.0.0.0/8\"");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let digits = |prefix: &str| !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = match prefix {
            None => bits,
            Some(prefix) if digits(prefix) => prefix.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if prefix > bits {
            return Err(wrong().cure(format!("a prefix of this family has at most {bits} bits")));
        }
        let network = network(address, prefix);
        if network != address {
            let cure = format!("write \"{network}/{prefix}\", or \"{address}\" for that address alone");
            return Err(Fault::new(format!("{} has bits set beyond its prefix", quoted(text))).cure(cure));
        }
        Ok(Self { address, prefix })
    }
}

/// The address with every bit beyond the prefix cleared.
fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}
