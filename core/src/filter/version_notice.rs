//! What the answers of an API's version say of its end, and the 410 after it. Not a filter that a configuration names:
//! each route of a version that is deprecated has it, outside of its group's policies.
//!
//! `Deprecation: @1688169599` (RFC 9745 section 2.1), `Sunset: Fri, 30 Jun 2026 00:00:00 GMT` (RFC 8594 section 3), and
//! `Link` with rel="deprecation" and rel="sunset". What the origin says of these replaces nothing: ours does.

use std::time::{Duration, UNIX_EPOCH};

use ringway_config::snapshot::{AfterSunset, Version};

use super::{Filter, Outlook, RequestEdit, Trial, Verdict};
use crate::exchange::{HeaderEdit, HeaderEdits, Refusal};
use crate::observe::Flag;

/// A version's fields, made ahead.
pub struct VersionNotice {
    deprecation: Option<String>,
    sunset: Option<String>,
    links: Vec<String>,
    /// From then on it is gone.
    gone_unix_s: Option<u64>,
}

impl VersionNotice {
    /// `None` if the version has nothing to say.
    pub fn new(version: &Version) -> Option<VersionNotice> {
        if version.deprecated_unix_s.is_none() && version.sunset_unix_s.is_none() {
            return None;
        }
        let links = [("deprecation", version.deprecated_unix_s), ("sunset", version.sunset_unix_s)];
        let link = |relation: &str| version.link.as_ref().map(|to| format!("<{to}>; rel=\"{relation}\""));
        let date = |unix_s| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_s));
        Some(VersionNotice {
            deprecation: version.deprecated_unix_s.map(|unix_s| format!("@{unix_s}")),
            sunset: version.sunset_unix_s.map(date),
            links: links.iter().filter(|(_, at)| at.is_some()).filter_map(|(relation, _)| link(relation)).collect(),
            gone_unix_s: version.sunset_unix_s.filter(|_| version.after_sunset == AfterSunset::Gone),
        })
    }
}

impl Filter for VersionNotice {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        self.tell(request.answer);
        match self.refusal((request.unix_s)()) {
            None => Verdict::Pass,
            Some(refusal) => Verdict::Reply(Box::new(refusal)),
        }
    }

    fn try_out<'p>(&'p self, trial: &mut Trial<'p>) -> Option<Outlook> {
        Some(self.refusal(trial.unix_s).map_or(Outlook::Passes, Outlook::Refused))
    }
}

impl VersionNotice {
    fn refusal(&self, unix_s: u64) -> Option<Refusal> {
        self.gone_unix_s.filter(|gone| unix_s >= *gone)?;
        let refusal = Refusal::new(Flag::NoRoute, "this version of the API has ended");
        Some(Refusal { status: 410, code: "version_gone", ..refusal })
    }

    fn tell<'p>(&'p self, answer: &mut HeaderEdits<'p>) {
        for (name, value) in [("deprecation", &self.deprecation), ("sunset", &self.sunset)] {
            if let Some(value) = value {
                answer.push(HeaderEdit::Set(name, value.into()));
            }
        }
        for link in &self.links {
            answer.push(HeaderEdit::Add("link", link.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(deprecated: Option<u64>, sunset: Option<u64>) -> Version {
        Version {
            name: "v1".into(),
            deprecated_unix_s: deprecated,
            sunset_unix_s: sunset,
            link: Some("https://a.test/b".into()),
            after_sunset: AfterSunset::Serve,
        }
    }

    fn said(version: &Version) -> Vec<(String, String)> {
        let notice = VersionNotice::new(version).unwrap();
        let mut edits = HeaderEdits::default();
        notice.tell(&mut edits);
        edits.written().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn fields_are_as_their_standards_write_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            said(&version(Some(1_688_169_599), Some(1_719_791_999))),
            [
                pair("deprecation", "@1688169599"),
                pair("sunset", "Sun, 30 Jun 2024 23:59:59 GMT"),
                pair("link", "<https://a.test/b>; rel=\"deprecation\""),
                pair("link", "<https://a.test/b>; rel=\"sunset\""),
            ]
        );
        let only = said(&version(None, Some(0)));
        assert_eq!(only[1..], [pair("link", "<https://a.test/b>; rel=\"sunset\"")]);
        assert!(VersionNotice::new(&version(None, None)).is_none());
    }
}
