//! The text of `when`: conditions joined by `and`, `or`, `not` and parentheses. Reads it; what a condition means is
//! `condition`'s.

mod tokens;

#[cfg(test)]
mod tests;

use crate::condition::{Condition, Subject, Test};
use crate::decode::Word;
use crate::expression::Expression;
use crate::http::{CookieName, CookieText, HeaderName, HeaderValue, Method, ParamName, ParamText, dns_name};
use crate::near::nearest;
use crate::problem::{Fault, quoted};
use crate::snapshot::Cidr;
use tokens::{Token, Tokens};

pub(crate) use tokens::is_bare;

const WHEN_BYTES_MAX: usize = 4096;
const TESTS_MAX: usize = 64;
const NESTED_MAX: usize = 16;
const LISTED_MAX: usize = 256;

const SUBJECTS: [&str; 7] = ["header", "query", "cookie", "method", "host", "path", "client_ip"];
const OPERATORS: [&str; 7] = ["==", "!=", "starts_with", "ends_with", "contains", "matches", "in"];

/// All of them must hold.
#[derive(Debug)]
pub(crate) struct When(pub(crate) Vec<Condition>);

impl Word for When {
    const SHAPE: &'static str = "condition";
    const EXAMPLE: &'static str = "'header.x-canary == \"on\" or cookie.beta'";

    fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > WHEN_BYTES_MAX {
            let fault = Fault::new(format!("{} bytes; the most is {WHEN_BYTES_MAX}", text.len()));
            return Err(fault.cure("make two routes of it"));
        }
        let mut parser = Parser { tokens: Tokens::new(text)?, nested: 0, tests: 0 };
        let whole = parser.any()?;
        match parser.tokens.peek() {
            None => {}
            Some(Token::Close) => return Err(parser.tokens.fault("\")\" without its \"(\"").cure("remove it")),
            Some(_) => return Err(parser.unjoined()),
        }
        Ok(Self(match whole {
            Condition::All(parts) => parts,
            one => vec![one],
        }))
    }
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    nested: usize,
    tests: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Condition, Fault> {
        let mut parts = vec![self.all()?];
        while self.tokens.take_word("or") {
            parts.push(self.all()?);
        }
        Ok(joined(parts, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, Fault> {
        let mut parts = Vec::new();
        loop {
            match self.negated()? {
                // `a and (b and c)` is `a and b and c`.
                Condition::All(inner) => parts.extend(inner),
                part => parts.push(part),
            }
            if !self.tokens.take_word("and") {
                return Ok(joined(parts, Condition::All));
            }
        }
    }

    fn negated(&mut self) -> Result<Condition, Fault> {
        if !self.tokens.take_word("not") {
            return self.operand();
        }
        self.deeper()?;
        let inner = self.negated()?;
        self.nested -= 1;
        Ok(not(inner))
    }

    fn operand(&mut self) -> Result<Condition, Fault> {
        if self.tokens.peek() != Some(Token::Open) {
            return self.test();
        }
        let opened = self.tokens.place();
        self.tokens.advance();
        self.deeper()?;
        let inner = self.any()?;
        self.nested -= 1;
        match self.tokens.peek() {
            Some(Token::Close) => {
                self.tokens.advance();
                Ok(inner)
            }
            Some(_) => Err(self.unjoined()),
            None => Err(self.tokens.fault(format!("the \"(\" at {opened} is not closed")).cure("add \")\"")),
        }
    }

    fn deeper(&mut self) -> Result<(), Fault> {
        self.nested += 1;
        if self.nested <= NESTED_MAX {
            return Ok(());
        }
        let fault = self.tokens.fault(format!("nested deeper than {NESTED_MAX}"));
        Err(fault.cure("`a and (b and c)` needs no parentheses"))
    }

    /// `SUBJECT`, or `SUBJECT OPERATOR VALUE`.
    fn test(&mut self) -> Result<Condition, Fault> {
        self.tests += 1;
        if self.tests > TESTS_MAX {
            let fault = self.tokens.fault(format!("more than {TESTS_MAX} tests"));
            return Err(fault.cure("write `in [...]` for many values, or make two routes of it"));
        }
        let subject = self.subject()?;
        let Some(Token::Word(operator)) = self.tokens.peek() else { return self.bare(subject) };
        if matches!(operator, "and" | "or") {
            return self.bare(subject);
        }
        if !OPERATORS.contains(&operator) {
            return Err(self.no_operator(operator));
        }
        self.tokens.advance();
        let is = self.value(&subject, operator)?;
        Ok(match operator {
            "!=" => not(Condition::Is(subject, is)),
            _ => Condition::Is(subject, is),
        })
    }

    fn bare(&self, subject: Subject) -> Result<Condition, Fault> {
        match subject {
            Subject::Header(_) | Subject::Query(_) | Subject::Cookie(_) => Ok(Condition::Is(subject, Test::Present)),
            always => {
                let fault = self.tokens.fault_before(format!("{always} is always there"));
                Err(fault.cure(format!("compare it: {always} == \"...\"")))
            }
        }
    }

    fn subject(&mut self) -> Result<Subject, Fault> {
        let word = match self.tokens.peek() {
            Some(Token::Word(word)) => word,
            Some(Token::Text(text)) => {
                let fault = self.tokens.fault(format!("{} stands where a subject should", quoted(text)));
                return Err(fault.cure("the subject goes first: header.x-env == \"blue\""));
            }
            _ => return Err(self.tokens.fault("a condition is missing").cure(format!("write one of {}", subjects()))),
        };
        let (kind, name) = word.split_once('.').map_or((word, None), |(kind, name)| (kind, Some(name)));
        let name = match (kind, name) {
            ("method" | "host" | "path" | "client_ip", Some(_)) => {
                return Err(self.tokens.fault(format!("{kind} has no parts")).cure(format!("write {kind} alone")));
            }
            ("method", None) => return self.take(Subject::Method),
            ("host", None) => return self.take(Subject::Host),
            ("path", None) => return self.take(Subject::Path),
            ("client_ip", None) => return self.take(Subject::ClientIp),
            ("header" | "query" | "cookie", Some(name)) => name,
            ("header" | "query" | "cookie", None) => match self.tokens.bracketed() {
                Some(name) => name,
                None => {
                    let fault = self.tokens.fault(format!("{kind} of which name"));
                    return Err(fault.cure(format!("write {kind}.NAME, or {kind}[\"NAME\"]")));
                }
            },
            _ => return Err(self.no_subject(word, kind)),
        };
        let subject = match kind {
            "header" => HeaderName::parse(name).map(|name| Subject::Header(name.into_string())),
            "query" => ParamName::parse(name).map(|name| Subject::Query(name.0)),
            _ => CookieName::parse(name).map(|name| Subject::Cookie(name.0)),
        };
        let subject = subject.map_err(|fault| self.tokens.locate(fault))?;
        self.take(subject)
    }

    fn take(&mut self, subject: Subject) -> Result<Subject, Fault> {
        self.tokens.advance();
        Ok(subject)
    }

    fn value(&mut self, subject: &Subject, operator: &str) -> Result<Test, Fault> {
        if operator == "in" {
            return self.list(subject);
        }
        let text = self.text(subject)?;
        if *subject == Subject::ClientIp {
            if !matches!(operator, "==" | "!=") {
                let fault = self.tokens.fault_before(format!("an address is not compared by {operator}"));
                return Err(fault.cure("write client_ip in \"10.0.0.0/8\""));
            }
            return self.network(text).map(|network| Test::Within(vec![network]));
        }
        let located = |result: Result<String, Fault>| result.map_err(|fault| self.tokens.locate_before(fault));
        if matches!(operator, "starts_with" | "ends_with" | "contains") && text.is_empty() {
            let fault = self.tokens.fault_before("an empty text is in every value");
            return Err(fault.cure(format!("write {subject} alone for any value")));
        }
        Ok(match operator {
            "starts_with" => Test::Prefix(located(part(subject, text))?),
            "ends_with" => Test::Suffix(located(part(subject, text))?),
            "contains" => Test::Contains(located(part(subject, text))?),
            "matches" => Test::Matches(Expression::parse(text).map_err(|fault| self.tokens.locate_before(fault))?),
            _ => Test::Equals(located(whole(subject, text))?),
        })
    }

    /// One value, or several in brackets.
    fn list(&mut self, subject: &Subject) -> Result<Test, Fault> {
        let (mut texts, mut networks) = (Vec::new(), Vec::new());
        let bracketed = self.tokens.peek() == Some(Token::OpenList);
        if bracketed {
            self.tokens.advance();
        }
        loop {
            let text = self.text(subject)?;
            match subject {
                Subject::ClientIp => networks.push(self.network(text)?),
                _ => texts.push(whole(subject, text).map_err(|fault| self.tokens.locate_before(fault))?),
            }
            if texts.len() + networks.len() > LISTED_MAX {
                return Err(self.tokens.fault(format!("more than {LISTED_MAX} values")).cure("make two tests of it"));
            }
            match self.tokens.peek() {
                _ if !bracketed => break,
                Some(Token::Comma) => self.tokens.advance(),
                Some(Token::CloseList) => {
                    self.tokens.advance();
                    break;
                }
                _ => return Err(self.tokens.fault("a list goes on").cure("write [\"a\", \"b\"]")),
            }
        }
        Ok(if *subject == Subject::ClientIp { Test::Within(networks) } else { Test::OneOf(texts) })
    }

    fn text(&mut self, subject: &Subject) -> Result<&'a str, Fault> {
        match self.tokens.peek() {
            Some(Token::Text(text)) => {
                self.tokens.advance();
                Ok(text)
            }
            Some(Token::Word(word)) => {
                let fault = self.tokens.fault(format!("{} stands where a value should", quoted(word)));
                Err(fault.cure(format!("quote it: \"{word}\"")))
            }
            _ => Err(self.tokens.fault(format!("what {subject} is compared with is missing")).cure("add \"...\"")),
        }
    }

    fn network(&self, text: &str) -> Result<Cidr, Fault> {
        Cidr::parse(text).map_err(|fault| self.tokens.locate_before(fault))
    }

    fn no_subject(&self, word: &str, kind: &str) -> Fault {
        let fault = self.tokens.fault(format!("no subject {}", quoted(word)));
        let shown = |subject: &str| match subject {
            "header" | "query" | "cookie" => format!("{subject}.NAME"),
            whole => whole.to_owned(),
        };
        let slip = match kind.to_ascii_lowercase().as_str() {
            "headers" => Some("header"),
            "queries" => Some("query"),
            "cookies" => Some("cookie"),
            "ip" | "remote_addr" | "src" => Some("client_ip"),
            "args" | "arg" | "param" => Some("query"),
            _ => nearest(kind, SUBJECTS),
        };
        match slip {
            _ if matches!(word, "!" | "&&" | "||") => fault.cure("write and, or, not"),
            Some(near) => fault.cure(format!("did you mean {}?", shown(near))),
            None => fault.cure(format!("the subjects are {}", subjects())),
        }
    }

    fn no_operator(&self, word: &str) -> Fault {
        let fault = self.tokens.fault(format!("no operator {}", quoted(word)));
        let slip = match word {
            "=" | "===" | "eq" | "is" | "equals" => Some("=="),
            "<>" | "ne" => Some("!="),
            "~" | "=~" => Some("matches"),
            "^=" | "prefix" => Some("starts_with"),
            "$=" | "suffix" => Some("ends_with"),
            "*=" => Some("contains"),
            _ => nearest(word, OPERATORS.into_iter().chain(["and", "or"])),
        };
        match slip {
            Some(near) => fault.cure(format!("did you mean {near}?")),
            None if matches!(word, "&&" | "||" | "!") => fault.cure("write and, or, not"),
            None => fault.cure(format!("the operators are {}", OPERATORS.join(", "))),
        }
    }

    /// Two conditions side by side.
    fn unjoined(&self) -> Fault {
        match self.tokens.peek() {
            Some(Token::Word(word)) if !word.contains('.') && !SUBJECTS.contains(&word) => self.no_operator(word),
            _ => self.tokens.fault("the condition ends here, and the text goes on").cure("join two by `and` or `or`"),
        }
    }
}

fn subjects() -> String {
    "header.NAME, query.NAME, cookie.NAME, method, host, path, client_ip".to_owned()
}

fn joined(mut parts: Vec<Condition>, by: fn(Vec<Condition>) -> Condition) -> Condition {
    if parts.len() == 1 { parts.remove(0) } else { by(parts) }
}

fn not(inner: Condition) -> Condition {
    match inner {
        Condition::Not(inner) => *inner,
        inner => Condition::Not(Box::new(inner)),
    }
}

/// A whole value; one that the subject can never have is refused.
fn whole(subject: &Subject, text: &str) -> Result<String, Fault> {
    match subject {
        Subject::Method => Method::parse(text).map(|method| method.0),
        Subject::Host => dns_name(text).or_else(|fault| match text.starts_with('[') || text.is_empty() {
            true => Ok(text.to_ascii_lowercase()),
            false => Err(fault),
        }),
        Subject::Path if !text.starts_with('/') => {
            Err(Fault::new(format!("{} does not begin with \"/\"", quoted(text))).cure("write the whole path"))
        }
        other => part(other, text),
    }
}

fn part(subject: &Subject, text: &str) -> Result<String, Fault> {
    match subject {
        Subject::Header(_) => HeaderValue::parse(text).map(HeaderValue::into_string),
        Subject::Cookie(_) => CookieText::parse(text).map(|text| text.0),
        Subject::Host => Ok(text.to_ascii_lowercase()),
        _ => ParamText::parse(text).map(|text| text.0),
    }
}
