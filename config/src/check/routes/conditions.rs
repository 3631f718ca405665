//! The conditions of one route: each element of a list says exactly one thing; `when` was read as a whole.

use crate::decode::Table;
use crate::document::{CookieCondition, HeaderCondition, QueryCondition};
use crate::http::{HeaderName, HeaderValue};
use crate::place::Place;
use crate::problem::{Fault, Problems};
use crate::snapshot::{Condition, Expression, Subject, Test};
use crate::when::When;

pub(super) struct Lists {
    pub(super) headers: Vec<Table<HeaderCondition>>,
    pub(super) queries: Vec<Table<QueryCondition>>,
    pub(super) cookies: Vec<Table<CookieCondition>>,
}

/// An element of any of the lists.
struct Element {
    subject: Subject,
    present: Option<bool>,
    absent: Option<bool>,
    equals: Option<String>,
    prefix: Option<String>,
    suffix: Option<String>,
    contains: Option<String>,
    matches: Option<Expression>,
}

/// From a table of the document, whose words were checked by what kind of thing they name.
macro_rules! element {
    ($keys:expr, $subject:expr, $text:expr) => {
        Element {
            subject: $subject,
            present: $keys.present,
            absent: $keys.absent,
            equals: $keys.equals.map($text),
            prefix: $keys.prefix.map($text),
            suffix: $keys.suffix.map($text),
            contains: $keys.contains.map($text),
            matches: $keys.matches,
        }
    };
}

impl Lists {
    /// Those of `headers`, `queries`, `cookies`, then the parts of `when`. `None` if one could not be built.
    pub(super) fn check(
        self,
        when: Option<When>,
        place: &Place<'_>,
        problems: &mut Problems,
    ) -> Option<Vec<Condition>> {
        let header = |Table(keys): Table<HeaderCondition>| {
            element!(keys, Subject::Header(HeaderName::into_string(keys.name)), HeaderValue::into_string)
        };
        let query = |Table(keys): Table<QueryCondition>| element!(keys, Subject::Query(keys.name.0), |text| text.0);
        let cookie = |Table(keys): Table<CookieCondition>| element!(keys, Subject::Cookie(keys.name.0), |text| text.0);
        let lists: [(&str, Vec<Element>); 3] = [
            ("headers", self.headers.into_iter().map(header).collect()),
            ("queries", self.queries.into_iter().map(query).collect()),
            ("cookies", self.cookies.into_iter().map(cookie).collect()),
        ];
        let mut checked = Vec::new();
        for (key, elements) in lists {
            let place = place.key(key);
            let each = elements.into_iter().enumerate();
            checked.extend(each.map(|(index, element)| element.check(&place.index(index), problems)));
        }
        checked.extend(when.into_iter().flat_map(|When(parts)| parts).map(Some));
        checked.into_iter().collect()
    }
}

impl Element {
    fn check(self, place: &Place<'_>, problems: &mut Problems) -> Option<Condition> {
        for (key, flag) in [("present", self.present), ("absent", self.absent)] {
            if flag == Some(false) {
                let other = if key == "present" { "absent" } else { "present" };
                let fault = Fault::new("can only be true").cure(format!("write {other} = true for the opposite"));
                problems.error(&place.key(key), fault);
            }
        }
        for (key, text) in [("prefix", &self.prefix), ("suffix", &self.suffix), ("contains", &self.contains)] {
            if text.as_ref().is_some_and(String::is_empty) {
                problems.error(&place.key(key), Fault::new("is empty").cure("write present = true for any value"));
            }
        }
        let tests = [
            self.present.map(|_| Test::Present),
            self.equals.map(Test::Equals),
            self.prefix.map(Test::Prefix),
            self.suffix.map(Test::Suffix),
            self.contains.map(Test::Contains),
            self.matches.map(Test::Matches),
        ];
        let mut tests = tests.into_iter().flatten();
        match (tests.next(), tests.next(), self.absent) {
            (Some(test), None, None) => return Some(Condition::Is(self.subject, test)),
            (None, None, Some(_)) => {
                return Some(Condition::Not(Box::new(Condition::Is(self.subject, Test::Present))));
            }
            _ => {}
        }
        let cure =
            "write one of present, absent, equals, prefix, suffix, contains, matches; two tests are two elements";
        problems.error(place, Fault::new("needs exactly one test").cure(cure));
        None
    }
}
