//! APIs in several versions: how a request says which, and when a version ends. What routes make of it is `check`'s.

use toml::de::DeValue;
use toml::value::{Datetime, Offset};

use crate::decode::{Decode, Named, Table, Word, choice, document, refuse_unknown, wrong_type};
use crate::http::HeaderName;
use crate::place::Place;
use crate::problem::{Fault, Problems, quoted};
use crate::snapshot::{AfterSunset, VersionBy};

const VERSIONS_MAX: usize = 64;
const QUERY_NAME_BYTES_MAX: usize = 64;
const LINK_BYTES_MAX: usize = 2048;

document! {
    /// An API that exists in several versions. A route serves one of them with `api` and `version`.
    struct Api {
        /// "path": `{version}` in the routes' paths stands for it. { header = "x-api-version" } and
        /// { query = "version" }: the compiler adds the condition to each route. A version that is none of these is a
        /// 404 with the code `unknown_version`, which lists them; in a path it is like any other path without a route.
        by: VersionBy;
        /// Of requests that name no version in header or query. Without it, they are like an unknown version.
        default: Option<String>;
        /// At least one.
        versions: Named<Table<ApiVersion>, VERSIONS_MAX>;
    }

    /// A version, as in `[apis.users.versions.v1]`. Answers of its routes say when it ends.
    struct ApiVersion {
        /// Since when it should not be used any more: `Deprecation` (RFC 9745). 2026-06-30 is its first second in UTC.
        deprecated: Option<Date>;
        /// When it is going to end: `Sunset` (RFC 8594). Not before `deprecated`.
        sunset: Option<Date>;
        /// What to do instead: `Link` with rel="deprecation" and rel="sunset".
        link: Option<Link>;
        /// From `sunset` on: `serve` as before, or answer with 410 (`gone`).
        after_sunset: AfterSunset = "serve";
    }
}

choice!(AfterSunset { "serve" => Self::Serve, "gone" => Self::Gone });

impl Decode for VersionBy {
    fn shape() -> String {
        "\"path\" | { header = ... } | { query = ... }".to_owned()
    }

    fn example() -> String {
        "\"path\"".to_owned()
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        const KEYS: [&str; 2] = ["header", "query"];
        match value {
            DeValue::String(text) if text == "path" => Some(Self::Path),
            DeValue::Table(table) => {
                refuse_unknown(table, &KEYS, place, problems);
                let one = (table.len() == 1).then(|| table.iter().next()).flatten();
                let (key, value) = one.or_else(|| {
                    problems.error(place, Fault::new("needs one of header and query"));
                    None
                })?;
                let here = place.key(key.get_ref());
                match key.get_ref().as_ref() {
                    "header" => HeaderName::decode(value.get_ref(), &here, problems)
                        .map(|name| Self::Header(name.into_string())),
                    "query" => QueryName::decode(value.get_ref(), &here, problems).map(|name| Self::Query(name.0)),
                    _ => None,
                }
            }
            other => {
                problems.error(place, wrong_type(&Self::shape(), other));
                None
            }
        }
    }
}

/// The name of a query parameter that nobody needs to encode.
#[derive(Debug)]
struct QueryName(String);

impl Word for QueryName {
    const SHAPE: &'static str = "text";

    fn parse(text: &str) -> Result<Self, Fault> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if (1..=QUERY_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        let fault = Fault::new(format!("{} cannot name a query parameter", quoted(text)));
        Err(fault.cure(format!("use 1 to {QUERY_NAME_BYTES_MAX} letters, digits, or any of - . _ ~")))
    }
}

/// A moment, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Date(pub(crate) u64);

impl Decode for Date {
    fn shape() -> String {
        "date".to_owned()
    }

    fn range() -> String {
        "from 1970 on".to_owned()
    }

    fn example() -> String {
        "2026-06-30".to_owned()
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let read = match value {
            DeValue::Datetime(written) => Some(*written),
            DeValue::String(text) => text.parse::<Datetime>().ok(),
            _ => None,
        };
        let Some(written) = read else {
            let fault = wrong_type("a date", value);
            problems.error(place, fault.cure("write it like 2026-06-30 or 2026-06-30T12:00:00Z"));
            return None;
        };
        let seconds = unix_seconds(&written);
        if seconds.is_none() {
            let fault = Fault::new(format!("{written} is no moment from 1970 on"));
            problems
                .error(place, fault.cure("write a date, or a date and a time with its offset: 2026-06-30T12:00:00Z"));
        }
        seconds.map(Self)
    }
}

/// A date alone is its first second in UTC; a time needs its offset.
fn unix_seconds(written: &Datetime) -> Option<u64> {
    let date = written.date?;
    let of_day = match (written.time, written.offset) {
        (None, None) => 0,
        (Some(time), Some(offset)) => {
            let offset_s = match offset {
                Offset::Z => 0,
                Offset::Custom { minutes } => i64::from(minutes) * 60,
            };
            let second = i64::from(time.second.unwrap_or(0)).min(59); // a leap second is not counted
            i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + second - offset_s
        }
        _ => return None,
    };
    u64::try_from(days_since_1970(date.year.into(), date.month.into(), date.day.into()) * 86_400 + of_day).ok()
}

/// Of the Gregorian calendar; years begin in March here, so that a leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    const FROM_MARCH_0000_TO_1970: i64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - FROM_MARCH_0000_TO_1970
}

/// The target of a `Link` field (RFC 8288 section 3).
#[derive(Debug)]
pub(crate) struct Link(pub(crate) String);

impl Word for Link {
    const SHAPE: &'static str = "URL";
    const EXAMPLE: &'static str = "\"https://example.com/changes\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        let fault = Fault::new(format!("{} is no link", quoted(text)));
        if !text.starts_with("https://") && !text.starts_with("http://") && !text.starts_with('/') {
            return Err(fault.cure("begin it with \"https://\" or \"/\""));
        }
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&byte));
        if !plain || text.len() > LINK_BYTES_MAX {
            return Err(fault.cure(format!("percent-encode what a URL cannot hold; at most {LINK_BYTES_MAX} bytes")));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds() {
        let seconds = |text: &str| text.parse::<Datetime>().ok().and_then(|written| unix_seconds(&written));
        assert_eq!(seconds("1970-01-01"), Some(0));
        assert_eq!(seconds("2000-02-29"), Some(951_782_400));
        assert_eq!(seconds("2023-06-30T23:59:59Z"), Some(1_688_169_599)); // the example of RFC 9745
        assert_eq!(seconds("2023-07-01T01:59:59+02:00"), Some(1_688_169_599));
        assert_eq!(seconds("2100-03-01"), Some(4_107_542_400));
        for none in ["1969-12-31", "12:00:00", "2026-06-30T12:00:00"] {
            assert_eq!(seconds(none), None, "{none}");
        }
    }
}
