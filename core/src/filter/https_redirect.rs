//! `https_redirect`: sends who comes over plain HTTP to HTTPS, and tells browsers to stay there.
//!
//! ```toml
//! filters = [{ https_redirect = { status = 308, port = 8443,
//!     strict_transport_security = { max_age = "365d", include_subdomains = true } } }]
//! ```
//! Redirected is the URL that the client asked for, its port replaced by `port` (443 is not written). `status` is 308
//! (unset), 307, 302 or 301. Who the client speaks to may be a proxy that ends TLS in front of Ringway: `X-Forwarded-Proto`
//! counts if the proxy is one of the listener's `trusted_proxies`, and from nobody else.
//!
//! `strict_transport_security` (RFC 6797) is said on answers to HTTPS alone, on errors too, in place of the origin
//! server's. `preload` asks to be put on the list that browsers ship, which wants a year and the subdomains.

use std::time::Duration;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::DurationText;
use ringway_proto::host_of;
use serde::Deserialize;

use super::{Filter, RequestEdit, Verdict};
use crate::exchange::{HeaderEdit, Refusal};
use crate::observe::Flag;

/// Least `max_age` of hosts that browsers' lists take.
const PRELOAD_AGE_MIN: Duration = Duration::from_secs(365 * 24 * 3600);
const HTTPS_PORT: u16 = 443;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default = "permanent")]
    status: u16,
    #[serde(default = "https_port")]
    port: u16,
    strict_transport_security: Option<Strict>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    max_age: DurationText,
    #[serde(default)]
    include_subdomains: bool,
    #[serde(default)]
    preload: bool,
}

fn permanent() -> u16 {
    308
}

fn https_port() -> u16 {
    HTTPS_PORT
}

pub(super) struct HttpsRedirect {
    status: u16,
    /// `:8443`, or nothing.
    port: String,
    strict_transport_security: Option<String>,
}

impl HttpsRedirect {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
        let table: Table = ringway_config::filter::table(config)?;
        let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
        if !matches!(table.status, 301 | 302 | 307 | 308) {
            let why = format!("{} does not redirect a request as it is", table.status);
            return Err(wrong("status", why).cure("use 308, 307, 302 or 301"));
        }
        if table.port == 0 {
            return Err(wrong("port", "0 is no port".to_owned()).cure("leave it out for 443"));
        }
        let strict_transport_security = match table.strict_transport_security {
            Some(Strict { max_age, include_subdomains, preload })
                if preload && (!include_subdomains || max_age.0 < PRELOAD_AGE_MIN) =>
            {
                let why = "browsers' lists take no such host".to_owned();
                let cure = "set max_age = \"365d\" and include_subdomains = true, or leave out preload";
                return Err(wrong("strict_transport_security.preload", why).cure(cure));
            }
            strict => strict.map(|strict| strict.value()),
        };
        let port = if table.port == HTTPS_PORT { String::new() } else { format!(":{}", table.port) };
        Ok(Box::new(HttpsRedirect { status: table.status, port, strict_transport_security }))
    }
}

impl Strict {
    fn value(&self) -> String {
        let subdomains = if self.include_subdomains { "; includeSubDomains" } else { "" };
        let preload = if self.preload { "; preload" } else { "" };
        format!("max-age={}{subdomains}{preload}", self.max_age.0.as_secs())
    }
}

impl Filter for HttpsRedirect {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        if request.fields.is_https() {
            if let Some(value) = &self.strict_transport_security {
                request.answer.push(HeaderEdit::Set("strict-transport-security", value.into()));
            }
            return Verdict::Pass;
        }
        match self.location(request) {
            Some(location) => {
                request.answer.push(HeaderEdit::Set("location", location.into()));
                Verdict::Answer(self.status)
            }
            None => {
                let reason = "a request without a host cannot be sent to HTTPS";
                Verdict::Reply(Box::new(Refusal::new(Flag::BadRequest, reason)))
            }
        }
    }
}

impl HttpsRedirect {
    fn location(&self, request: &RequestEdit<'_, '_>) -> Option<String> {
        let (head, bytes) = (request.request, request.bytes);
        let host = str::from_utf8(host_of(head.authority.of(bytes))).ok().filter(|host| !host.is_empty())?;
        let path = str::from_utf8(head.target.path.of(bytes)).ok()?;
        let query = head.target.query.map(|query| str::from_utf8(query.of(bytes))).transpose().ok()?;
        let (mark, query) = query.map_or(("", ""), |query| ("?", query));
        Some(format!("https://{host}{}{path}{mark}{query}", self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(text: &str) -> Result<(), String> {
        let table = toml::Value::Table(toml::from_str(text).expect(text));
        let config = FilterConfig { name: "https_redirect".into(), table, place: "here".into() };
        HttpsRedirect::build(&config).map(|_| ()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_does_not_work_is_refused() {
        for good in ["", "status = 301\nport = 8443", "strict_transport_security = { max_age = '0s' }"] {
            assert_eq!(built(good), Ok(()), "{good}");
        }
        for (bad, part) in [
            ("status = 303", "here.status: 303"),
            ("port = 0", "here.port"),
            ("strict_transport_security = {}", "max_age"),
            ("strict_transport_security = { max_age = '364d', include_subdomains = true, preload = true }", ".preload"),
            ("strict_transport_security = { max_age = '365d', preload = true }", ".preload"),
        ] {
            let said = built(bad).expect_err(bad);
            assert!(said.contains(part), "{bad}: {said}");
        }
    }
}
