//! Where a request carries a credential, and how it is taken out before others see it. Judges none.

use std::borrow::Cow;

use ringway_config::Fault;
use ringway_config::http::HeaderName;
use ringway_config::snapshot::FilterConfig;
use ringway_proto::credentials::{after_scheme, decoded, is_param, param_value, without_param};
use ringway_proto::{Known, cookies};
use serde::Deserialize;

use super::{Building, RequestEdit};
use crate::exchange::HeaderEdit;

/// The keys that say where a credential is; the filters that look for one share them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Places {
    pub(super) header: Option<HeaderName>,
    pub(super) cookie: Option<String>,
    pub(super) query: Option<String>,
}

/// Where to look, in one request: at each place, for a credential in at most one of them.
#[derive(Debug)]
pub(super) struct Sources {
    header: Option<Header>,
    cookie: Option<String>,
    query: Option<String>,
    /// The origin sees it, if it came in a header.
    forward: bool,
}

/// Where in the head.
#[derive(Debug)]
struct Header {
    /// Lower case.
    name: String,
    /// What the name is to the parser: found without comparing texts.
    known: Known,
    /// That must stand before the credential (RFC 9110 section 11.4).
    scheme: Option<&'static str>,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'r> {
    Nothing,
    One(Cow<'r, [u8]>),
    /// At several places, or twice at one: whom to believe is not for us to choose.
    Several,
}

impl Sources {
    /// `default`: the header and the scheme to look for if nothing is said.
    pub(super) fn build(
        places: Places,
        default: (&str, Option<&'static str>),
        forward: bool,
        config: &FilterConfig,
        building: &mut Building<'_>,
    ) -> Result<Sources, Fault> {
        let Places { header, cookie, query } = places;
        let wrong = |key: &str, text: &str| {
            Fault::new(format!("{text:?} cannot be a name")).at(format!("{}.{key}", config.place))
        };
        let plain =
            |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if let Some(name) = cookie.as_ref().filter(|name| !plain(name)) {
            return Err(wrong("cookie", name).cure("use letters, digits, dashes, dots and underscores"));
        }
        if let Some(name) = query.as_ref().filter(|name| !plain(name)) {
            return Err(wrong("query", name).cure("use letters, digits, dashes, dots and underscores"));
        }
        let scheme_of = |name: &str| if name == "authorization" { default.1.or(Some("Bearer")) } else { None };
        let header = match (header, &cookie, &query) {
            (Some(name), _, _) => Some((name.as_str().to_owned(), scheme_of(name.as_str()))),
            (None, None, None) => Some((default.0.to_owned(), default.1)),
            (None, _, _) => None,
        };
        let header = header.map(|(name, scheme)| Header { known: Known::of(name.as_bytes()), name, scheme });
        if let Some(Header { name, .. }) = &header {
            building.secret_headers.insert(name.clone());
        }
        if let Some(name) = &query {
            building.secret_queries.insert(name.clone());
        }
        Ok(Sources { header, cookie, query, forward })
    }

    #[inline]
    pub(super) fn find<'r>(&'r self, request: &RequestEdit<'_, 'r>) -> Found<'r> {
        let mut found = Found::Nothing;
        if let Some(header) = &self.header {
            let mut count = 0;
            header.each(request, |value| {
                count += 1;
                let credential = header.scheme.map_or(Some(value), |scheme| after_scheme(value, scheme));
                credential.into_iter().for_each(|credential| found.add(Cow::Borrowed(credential)));
            });
            // Two fields of which only one has our scheme: an origin might take the other.
            if count > 1 && header.known == Known::Authorization {
                return Found::Several;
            }
        }
        if let Some(name) = &self.cookie {
            let all = cookie_lines(request).flat_map(cookies);
            all.filter(|(have, _)| *have == name.as_bytes()).for_each(|(_, value)| found.add(Cow::Borrowed(value)));
        }
        if let (Some(name), Some(query)) = (&self.query, request.query) {
            let pieces = query.split(|byte| *byte == b'&').filter(|piece| is_param(piece, name));
            pieces.for_each(|piece| found.add(decoded(param_value(piece))));
        }
        found
    }

    /// Takes the credential out of what the origin sees; one in a header may stay.
    #[inline]
    pub(super) fn strip<'p>(&'p self, request: &mut RequestEdit<'p, '_>) {
        if !self.forward || self.cookie.is_some() || self.query.is_some() {
            self.take_out(request);
        }
    }

    fn take_out<'p>(&'p self, request: &mut RequestEdit<'p, '_>) {
        if let Some(header) = &self.header
            && !self.forward
        {
            // Another scheme's credential is another kind's, which may want it forwarded.
            let is_ours = |value| header.scheme.is_none_or(|scheme| after_scheme(value, scheme).is_some());
            let mut is_there = false;
            header.each(request, |value| is_there |= is_ours(value));
            if is_there {
                request.headers.push(HeaderEdit::Remove(&header.name));
            }
        }
        if let Some(name) = &self.cookie {
            strip_cookies(request, |found| found == name.as_bytes());
        }
        if let (Some(name), Some(query)) = (&self.query, request.current_query())
            && query.split(|byte| *byte == b'&').any(|piece| is_param(piece, name))
        {
            let mut kept = Vec::with_capacity(query.len());
            without_param(&mut kept, query, |piece| is_param(piece, name));
            // It is shorter than what was there: it fits.
            let _ = request.rewritten.set_query(kept);
        }
    }
}

impl<'r> Found<'r> {
    fn add(&mut self, credential: Cow<'r, [u8]>) {
        *self = match self {
            Found::Nothing => Found::One(credential),
            _ => Found::Several,
        };
    }
}

impl Header {
    /// Its values, in order.
    #[inline]
    fn each<'r>(&self, request: &RequestEdit<'_, 'r>, mut see: impl FnMut(&'r [u8])) {
        let bytes = request.bytes;
        for field in &request.request.fields {
            let is_meant = field.known == self.known
                && (self.known != Known::Other || field.name.of(bytes).eq_ignore_ascii_case(self.name.as_bytes()));
            if is_meant && !field.twin && !field.nominated {
                see(field.value.of(bytes));
            }
        }
    }
}

/// A query as it may be shown: without the parameters that carry credentials.
pub fn shown_query<'q>(query: &'q [u8], secrets: &[String]) -> Cow<'q, [u8]> {
    let is_secret = |piece: &[u8]| secrets.iter().any(|name| is_param(piece, name));
    if !query.split(|byte| *byte == b'&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let mut shown = Vec::with_capacity(query.len());
    without_param(&mut shown, query, is_secret);
    Cow::Owned(shown)
}

/// Where a request comes from, as it may be shown: the page's own query may carry what this request's does.
pub fn shown_referrer<'r>(referrer: &'r [u8], secrets: &[String]) -> Cow<'r, [u8]> {
    let Some(at) = referrer.iter().position(|byte| *byte == b'?') else { return Cow::Borrowed(referrer) };
    match shown_query(&referrer[at + 1..], secrets) {
        Cow::Borrowed(_) => Cow::Borrowed(referrer),
        Cow::Owned(query) => Cow::Owned([&referrer[..=at], &query].concat()),
    }
}

/// Takes cookies out of what the origin sees, as the filters before have left them. The others go on in one field; none is
/// left: no field.
pub(super) fn strip_cookies(request: &mut RequestEdit<'_, '_>, is_meant: impl Fn(&[u8]) -> bool) {
    let (mut kept, mut is_there) = (String::new(), false);
    let mut sort = |line: &[u8]| {
        for part in line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            let key = part.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            if is_meant(key) {
                is_there = true;
            } else if let Ok(text) = str::from_utf8(part)
                && !text.is_empty()
            {
                if !kept.is_empty() {
                    kept.push_str("; ");
                }
                kept.push_str(text);
            }
        }
    };
    match request.headers.replacement("cookie") {
        Some(line) => sort(line.as_bytes()),
        None if request.headers.drops(b"cookie") => {}
        None => cookie_lines(request).for_each(sort),
    }
    match (is_there, kept.is_empty()) {
        (false, _) => {}
        (true, true) => request.headers.push(HeaderEdit::Remove("cookie")),
        (true, false) => request.headers.push(HeaderEdit::Set("cookie", kept.into())),
    }
}

/// The values of `Cookie` as the client has sent them.
pub(super) fn cookie_lines<'r>(request: &RequestEdit<'_, 'r>) -> impl Iterator<Item = &'r [u8]> + use<'r> {
    let (fields, bytes) = (&request.request.fields, request.bytes);
    fields.iter().filter(|field| field.known == Known::Cookie && !field.twin).map(|field| field.value.of(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_not_shown_however_its_parameter_is_encoded() {
        let secrets = ["access_token".to_owned()];
        let shown = |query: &str| String::from_utf8(shown_query(query.as_bytes(), &secrets).into_owned()).unwrap();
        assert_eq!(shown("a=1&access_token=x&b=2"), "a=1&b=2");
        assert_eq!(shown("access%5Ftoken=x"), "");
        assert_eq!(shown("%61ccess_token=x&c"), "c");
        assert_eq!(shown("a=access_token"), "a=access_token");
        let shown = |text: &str| String::from_utf8(shown_referrer(text.as_bytes(), &secrets).into_owned()).unwrap();
        assert_eq!(shown("https://a.test/b?c=1&access_token=x"), "https://a.test/b?c=1");
        assert_eq!(shown("https://a.test/b?access_token=x"), "https://a.test/b?");
        for other in ["https://a.test/b?c", "https://a.test/access_token=x", ""] {
            assert_eq!(shown(other), other);
        }
    }
}
