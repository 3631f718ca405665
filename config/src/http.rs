//! Words of HTTP that an operator writes: methods, header names and values, hosts; for the document and for every
//! filter's table. Reads no request (`ringway-proto`).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::de::{Deserialize, Deserializer, Error};
use toml::de::DeValue;

use crate::decode::{Decode, Word, wrong_type};
use crate::place::Place;
use crate::problem::{Fault, Problems, quoted};
use crate::snapshot::{HostHeader, HostPattern};

const HEADER_NAME_BYTES_MAX: usize = 256;
const HEADER_VALUE_BYTES_MAX: usize = 8 * 1024;
const METHOD_BYTES_MAX: usize = 32;
/// Fields that one table may name.
pub(crate) const HEADERS_MAX: usize = 64;

/// RFC 1035 section 2.3.4, less the root's dot.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// RFC 9110 section 7.6.1, and what frames a message: the gateway writes these itself.
const OURS: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "date",
];

/// A header's name, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(String);

impl HeaderName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_string(self) -> String {
        self.0
    }

    /// Framing and hop-by-hop fields cannot be set by configuration: they would contradict what is really sent.
    pub fn is_ours(&self) -> bool {
        OURS.contains(&self.0.as_str())
    }
}

/// A header's value: visible ASCII, spaces and tabs, none of the latter two at an end (RFC 9110 section 5.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderValue(String);

impl HeaderValue {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

/// A request method, which is case-sensitive (RFC 9110 section 9.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Method(pub(crate) String);

/// The name of a query parameter, decoded.
#[derive(Debug)]
pub(crate) struct ParamName(pub(crate) String);

/// A decoded value of a query parameter, or a piece of one.
#[derive(Debug)]
pub(crate) struct ParamText(pub(crate) String);

/// A cookie's name, which is case-sensitive.
#[derive(Debug)]
pub(crate) struct CookieName(pub(crate) String);

/// A cookie's value, or a piece of one, as it is sent: nothing is decoded, quotes are part of it.
#[derive(Debug)]
pub(crate) struct CookieText(pub(crate) String);

/// RFC 9110 section 5.6.2.
fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

impl Word for HeaderName {
    const SHAPE: &'static str = "header name";
    const EXAMPLE: &'static str = "\"x-env\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        if (1..=HEADER_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_token_byte) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        let fault = Fault::new(format!("{} is not a header name", quoted(text)));
        Err(match text.strip_suffix(':') {
            Some(name) => fault.cure(format!("leave the colon out: {}", quoted(name))),
            None => fault.cure("use letters, digits and dashes, such as \"x-request-id\""),
        })
    }
}

impl Word for HeaderValue {
    const SHAPE: &'static str = "header value";

    fn parse(text: &str) -> Result<Self, Fault> {
        let plain = text.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~'));
        let fault = Fault::new(format!("{} is not a header value", quoted(text)));
        if text.len() > HEADER_VALUE_BYTES_MAX {
            return Err(fault.cure(format!("at most {HEADER_VALUE_BYTES_MAX} bytes")));
        }
        if !plain {
            return Err(fault.cure("use visible ASCII and spaces; no line breaks, nothing that needs another encoding"));
        }
        if text.trim_ascii() != text {
            return Err(fault.cure("leave out the spaces at its ends; no receiver would see them"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Word for ParamName {
    const SHAPE: &'static str = "query parameter's name";
    const EXAMPLE: &'static str = "\"debug\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        if (1..=HEADER_NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        let fault = Fault::new(format!("{} is not the name of a query parameter", quoted(text)));
        Err(fault.cure(format!("write 1 to {HEADER_NAME_BYTES_MAX} bytes, decoded: \"a b\", not \"a%20b\"")))
    }
}

impl Word for ParamText {
    const SHAPE: &'static str = "text";

    fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() <= HEADER_VALUE_BYTES_MAX && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        let fault = Fault::new(format!("{} is no text to compare with", quoted(text)));
        Err(fault.cure(format!("at most {HEADER_VALUE_BYTES_MAX} bytes, no line breaks")))
    }
}

impl Word for CookieName {
    const SHAPE: &'static str = "cookie's name";
    const EXAMPLE: &'static str = "\"beta\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        if (1..=HEADER_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_token_byte) {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(format!("{} is not a cookie's name", quoted(text))).cure("use letters, digits, dashes"))
    }
}

impl Word for CookieText {
    const SHAPE: &'static str = "cookie's value";

    fn parse(text: &str) -> Result<Self, Fault> {
        let HeaderValue(value) = HeaderValue::parse(text)?;
        if value.contains(';') {
            let fault = Fault::new(format!("{} is not a cookie's value", quoted(text)));
            return Err(fault.cure("a \";\" ends the value: write two conditions"));
        }
        Ok(Self(value))
    }
}

impl Word for Method {
    const SHAPE: &'static str = "method";

    fn parse(text: &str) -> Result<Self, Fault> {
        if !(1..=METHOD_BYTES_MAX).contains(&text.len()) || !text.bytes().all(is_token_byte) {
            return Err(Fault::new(format!("{} is not a method", quoted(text))).cure("such as \"GET\" or \"POST\""));
        }
        let upper = text.to_ascii_uppercase();
        if upper != text {
            return Err(Fault::new(format!("no client sends {text:?}: methods are case-sensitive"))
                .cure(format!("write {upper:?}")));
        }
        if matches!(text, "CONNECT" | "TRACE") {
            return Err(Fault::new(format!("{text} is refused before routing, so that no route can serve it")));
        }
        Ok(Self(upper))
    }
}

/// RFC 6265 section 4.1.1: a token.
pub(crate) fn cookie_name(text: &str) -> Result<String, Fault> {
    if (1..=HEADER_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_token_byte) {
        return Ok(text.to_owned());
    }
    Err(Fault::new(format!("{} is not a cookie's name", quoted(text))).cure("use letters, digits, dashes, underscores"))
}

impl Word for HostPattern {
    const SHAPE: &'static str = "host, or \"*.example.com\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        if text == "*" {
            return Err(Fault::new("\"*\" is no host").cure("leave the key out to serve any host"));
        }
        match text.strip_prefix("*.") {
            Some(below) => dns_name(below).map(HostPattern::Wildcard),
            None => host(text).map(HostPattern::Exact),
        }
        .map_err(|mut fault| {
            fault.message = format!("{} is not a host: {}", quoted(text), fault.message);
            fault
        })
    }
}

/// A name or an address, no port; IPv6 in brackets, as a `Host` field has it.
fn host(text: &str) -> Result<String, Fault> {
    if let Some(inside) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr =
            inside.parse().map_err(|_| Fault::new("it has no IPv6 address between the brackets"))?;
        return Ok(format!("[{address}]"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Fault::new("an IPv6 address stands in brackets").cure(format!("write \"[{text}]\"")));
    }
    if let Some((name, port)) = text.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
        && !name.contains("//")
    {
        return Err(Fault::new("it has a port").cure(format!("write {}; a route serves every port", quoted(name))));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(address.to_string());
    }
    dns_name(text)
}

/// Lower-cased. Underscores are let through: they are no host names, but they are in use.
pub(crate) fn dns_name(text: &str) -> Result<String, Fault> {
    if text.contains("//") {
        return Err(Fault::new("it has a scheme").cure("write the name alone, without \"http://\""));
    }
    if text.contains('*') {
        return Err(Fault::new("it has a \"*\" inside").cure("a wildcard is the whole first label: \"*.example.com\""));
    }
    if !text.is_ascii() {
        return Err(Fault::new("it is not ASCII").cure("write the name in its \"xn--\" form, as clients send it"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if let Some(odd) = text.bytes().find(|b| *b != b'.' && !plain(*b)) {
        return Err(Fault::new(format!("it contains {:?}", char::from(odd))));
    }
    if text.is_empty() || text.len() > HOST_BYTES_MAX {
        return Err(Fault::new(format!("a name has 1 to {HOST_BYTES_MAX} bytes")));
    }
    if let Some(name) = text.strip_suffix('.') {
        return Err(Fault::new("it ends in a dot").cure(format!("write {}", quoted(name))));
    }
    let labels: Vec<&str> = text.split('.').collect();
    if labels.iter().any(|label| label.is_empty() || label.len() > LABEL_BYTES_MAX) {
        return Err(Fault::new(format!("a label has 1 to {LABEL_BYTES_MAX} bytes")));
    }
    let numeric = labels.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if numeric && labels.len() > 1 {
        return Err(Fault::new("it is neither an IPv4 address nor a name"));
    }
    Ok(text.to_ascii_lowercase())
}

impl Word for HostHeader {
    const SHAPE: &'static str = "\"preserve\" | \"endpoint\" | host[:port]";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text {
            "preserve" => return Ok(Self::Preserve),
            "endpoint" => return Ok(Self::Endpoint),
            _ => {}
        }
        if let Some(near) = crate::near::nearest(text, ["preserve", "endpoint"]) {
            return Err(
                Fault::new(format!("{} looks like a slip", quoted(text))).cure(format!("did you mean {near:?}?"))
            );
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !text.ends_with(']') && !text.contains("//") => (name, Some(port)),
            _ => (text, None),
        };
        let whole = host(name).map_err(|mut fault| {
            fault.message = format!("{} is not a host: {}", quoted(text), fault.message);
            fault
        })?;
        match port.map(str::parse::<u16>) {
            None => Ok(Self::Literal(whole)),
            Some(Ok(port)) if port > 0 => Ok(Self::Literal(format!("{whole}:{port}"))),
            _ => Err(Fault::new(format!("{} has no port from 1 to 65535", quoted(text)))),
        }
    }
}

/// Header fields to send, in the order written.
#[derive(Debug)]
pub(crate) struct Fields(pub(crate) Vec<(HeaderName, HeaderValue)>);

impl Decode for Fields {
    fn shape() -> String {
        "header values by name".to_owned()
    }

    fn range() -> String {
        format!("at most {HEADERS_MAX}")
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let DeValue::Table(table) = value else {
            problems.error(place, wrong_type("a table { x-name = \"value\" }", value));
            return None;
        };
        if table.len() > HEADERS_MAX {
            problems.error(place, Fault::new(format!("{} fields; the most is {HEADERS_MAX}", table.len())));
            return None;
        }
        let mut read = Vec::with_capacity(table.len());
        for (key, value) in table {
            let here = place.key(key.get_ref());
            let name = HeaderName::parse(key.get_ref()).map_err(|fault| problems.error(&here, fault)).ok();
            let value = HeaderValue::decode(value.get_ref(), &here, problems);
            read.push(name.zip(value));
        }
        read.into_iter().collect::<Option<Vec<_>>>().map(Self)
    }
}

/// What stands after the version in `Via` (RFC 9110 section 7.6.3): a pseudonym or host[:port]; empty for none.
#[derive(Debug)]
pub(crate) struct Via(pub(crate) String);

impl Word for Via {
    const SHAPE: &'static str = "text";

    fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() <= HOST_BYTES_MAX && text.bytes().all(|b| is_token_byte(b) || b":[]".contains(&b)) {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(format!("{} cannot stand in Via", quoted(text)))
            .cure("use a word such as \"ringway\", or \"\" for none"))
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn deserialize<'de, T: Word, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    T::parse(&text).map_err(|fault| match fault.cure {
        Some(cure) => Error::custom(format!("{}; {cure}", fault.message)),
        None => Error::custom(fault.message),
    })
}

impl<'de> Deserialize<'de> for HeaderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer)
    }
}

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer)
    }
}
