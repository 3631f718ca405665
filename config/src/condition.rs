//! What a route may ask of a request beyond listener, host, path and methods. Says what each condition means and which
//! follow from which; holds none against a request (`route`).

use std::fmt;
use std::str::FromStr;

use crate::decode::Word;
use crate::expression::Expression;
use crate::problem::Fault;
use crate::snapshot::Cidr;
use crate::when::When;

/// Displays as it would stand in `when`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    Is(Subject, Test),
    Not(Box<Condition>),
    /// Two or more.
    All(Vec<Condition>),
    /// Two or more.
    Any(Vec<Condition>),
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Any line of this name, in lower case.
    Header(String),
    /// Any parameter of this name in the query, both percent-decoded and with `+` as a space.
    Query(String),
    /// Any cookie of this name (RFC 6265 section 5.4).
    Cookie(String),
    Method,
    /// In lower case, without port and trailing dot; empty if it is longer than a name can be.
    Host,
    /// Normalised and decoded.
    Path,
    /// The client's address, through trusted proxies.
    ClientIp,
}

/// What is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// There, whatever its value; of a header, a query parameter or a cookie.
    Present,
    Equals(String),
    OneOf(Vec<String>),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Matches(Expression),
    /// In one of these networks; of an address alone.
    Within(Vec<Cidr>),
}

impl Condition {
    /// How many tests must come out as asked, at the least, for it to hold: of `a and b` both, of `a or b` those of the
    /// cheaper side. What "more conditions first" counts.
    pub fn weight(&self) -> usize {
        self.weight_if(true)
    }

    fn weight_if(&self, holds: bool) -> usize {
        match self {
            Condition::Is(..) => 1,
            Condition::Not(inner) => inner.weight_if(!holds),
            Condition::All(parts) | Condition::Any(parts) => {
                let each = parts.iter().map(|part| part.weight_if(holds));
                match (self, holds) {
                    (Condition::All(_), true) | (Condition::Any(_), false) => each.sum(),
                    _ => each.min().unwrap_or(0),
                }
            }
        }
    }

    /// True only if this holds wherever `other` does; not always when it does.
    pub fn follows_from(&self, other: &Condition) -> bool {
        if self == other {
            return true;
        }
        match (self, other) {
            (Condition::All(parts), _) => parts.iter().all(|part| part.follows_from(other)),
            (_, Condition::Any(known)) => known.iter().all(|known| self.follows_from(known)),
            (Condition::Any(parts), _) => parts.iter().any(|part| part.follows_from(other)),
            (_, Condition::All(parts)) => parts.iter().any(|part| self.follows_from(part)),
            (Condition::Not(wanted), Condition::Not(known)) => known.follows_from(wanted),
            (Condition::Is(subject, wanted), Condition::Is(of, known)) => subject == of && wanted.follows_from(known),
            _ => false,
        }
    }
}

/// As in `when`.
impl FromStr for Condition {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let When(mut parts) = When::parse(text)?;
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::All(parts) })
    }
}

impl Test {
    /// Of one and the same value.
    fn follows_from(&self, other: &Test) -> bool {
        if let (Test::Prefix(wanted), Test::Prefix(known)) = (self, other) {
            return known.starts_with(wanted.as_str());
        }
        if let (Test::Suffix(wanted), Test::Suffix(known)) = (self, other) {
            return known.ends_with(wanted.as_str());
        }
        match (self, other) {
            (Test::Present, _) => true,
            (Test::Contains(wanted), Test::Prefix(text) | Test::Suffix(text) | Test::Contains(text)) => {
                text.contains(wanted.as_str())
            }
            (Test::Within(networks), Test::Within(known)) => {
                known.iter().all(|inner| networks.iter().any(|outer| outer.covers(inner)))
            }
            (_, Test::Equals(value)) => self.takes(value),
            (_, Test::OneOf(values)) => values.iter().all(|value| self.takes(value)),
            _ => self == other,
        }
    }

    /// False also for what is not known here.
    fn takes(&self, value: &str) -> bool {
        match self {
            Test::Present => true,
            Test::Equals(text) => text == value,
            Test::OneOf(texts) => texts.iter().any(|text| text == value),
            Test::Prefix(text) => value.starts_with(text.as_str()),
            Test::Suffix(text) => value.ends_with(text.as_str()),
            Test::Contains(text) => value.contains(text.as_str()),
            Test::Matches(_) | Test::Within(_) => false,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |f: &mut fmt::Formatter<'_>, part: &Condition| match part {
            Condition::All(_) | Condition::Any(_) => write!(f, "({part})"),
            _ => write!(f, "{part}"),
        };
        match self {
            Condition::Is(subject, test) => write!(f, "{subject}{test}"),
            Condition::Not(inner) => match &**inner {
                Condition::Is(subject, Test::Equals(text)) => write!(f, "{subject} != {}", Text(text)),
                inner => {
                    f.write_str("not ")?;
                    part(f, inner)
                }
            },
            Condition::All(parts) | Condition::Any(parts) => {
                let word = if matches!(self, Condition::All(_)) { " and " } else { " or " };
                for (index, each) in parts.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { word })?;
                    part(f, each)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Subject::Header(name) => ("header", name),
            Subject::Query(name) => ("query", name),
            Subject::Cookie(name) => ("cookie", name),
            Subject::Method => return f.write_str("method"),
            Subject::Host => return f.write_str("host"),
            Subject::Path => return f.write_str("path"),
            Subject::ClientIp => return f.write_str("client_ip"),
        };
        match crate::when::is_bare(name) {
            true => write!(f, "{kind}.{name}"),
            false => write!(f, "{kind}[{}]", Text(name)),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Present => Ok(()),
            Test::Equals(text) => write!(f, " == {}", Text(text)),
            Test::OneOf(texts) => {
                let list: Vec<String> = texts.iter().map(|text| Text(text).to_string()).collect();
                write!(f, " in [{}]", list.join(", "))
            }
            Test::Prefix(text) => write!(f, " starts_with {}", Text(text)),
            Test::Suffix(text) => write!(f, " ends_with {}", Text(text)),
            Test::Contains(text) => write!(f, " contains {}", Text(text)),
            Test::Matches(expression) => write!(f, " matches {}", Text(expression.as_str())),
            Test::Within(networks) => {
                let list: Vec<String> =
                    networks.iter().map(|cidr| format!("\"{}/{}\"", cidr.address, cidr.prefix)).collect();
                write!(f, " in [{}]", list.join(", "))
            }
        }
    }
}

/// Quoted, on one line, harmless on a terminal.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}")?;
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?
            } else {
                write!(f, "{character}")?
            }
        }
        write!(f, "{quote}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Condition {
        text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    #[test]
    fn a_condition_weighs_what_must_hold_at_least() {
        for (text, weight) in [
            ("header.a", 1),
            ("not header.a", 1),
            ("header.a and header.b", 2),
            ("header.a or (header.b and header.c)", 1),
            ("not (header.a or header.b)", 2),
            ("not (header.a and header.b) and header.c", 2),
        ] {
            assert_eq!(read(text).weight(), weight, "{text}");
        }
    }

    #[test]
    fn what_follows_is_never_said_of_what_does_not() {
        for (wanted, known, follows) in [
            ("header.a", "header.a == \"x\"", true),
            ("header.a", "header.b", false),
            ("header.a", "not header.a == \"x\"", false),
            ("not header.a == \"x\"", "not header.a", true),
            ("not header.a", "not header.a == \"x\"", false),
            ("header.a starts_with \"x\"", "header.a starts_with \"xy\"", true),
            ("header.a starts_with \"xy\"", "header.a starts_with \"x\"", false),
            ("header.a contains \"y\"", "header.a ends_with \"xyz\"", true),
            ("header.a in [\"x\", \"y\"]", "header.a == \"y\"", true),
            ("header.a == \"y\"", "header.a in [\"x\", \"y\"]", false),
            ("client_ip in \"10.0.0.0/8\"", "client_ip in [\"10.1.0.0/16\", \"10.2.0.1\"]", true),
            ("client_ip in \"10.1.0.0/16\"", "client_ip in \"10.0.0.0/8\"", false),
            ("client_ip in \"::/0\"", "client_ip in \"10.0.0.0/8\"", false),
            ("header.a or header.b", "header.b", true),
            ("header.a", "header.a and header.b", true),
            ("header.a", "header.a or header.b", false),
            ("header.a or header.b", "header.b or header.a", true),
            ("header.a and header.b", "header.b and (header.a and header.c)", true),
        ] {
            assert_eq!(read(wanted).follows_from(&read(known)), follows, "{wanted} <= {known}");
        }
    }
}
