//! What the node knows of issuers, as Prometheus shows it. Gathers nothing itself.

use super::prometheus::Page;

/// One issuer.
#[derive(Debug, Clone, Default)]
pub struct IssuerFacts {
    pub name: String,
    /// Since its keys were read; `None`: they are not read from anywhere, or never were.
    pub keys_age_s: Option<u64>,
    pub keys_failures: u64,
    pub keys: u64,
    /// By what a token came to.
    pub results: Vec<(&'static str, u64)>,
}

pub(super) fn render(page: &mut Page, issuers: &[IssuerFacts]) {
    const AGE: &str = "ringway_jwks_age_seconds";
    page.family(AGE, "gauge", "Time since the issuer's keys were read.");
    for issuer in issuers {
        if let Some(age) = issuer.keys_age_s {
            page.sample(AGE, &[("issuer", &issuer.name)], age);
        }
    }
    const FAILURES: &str = "ringway_jwks_refresh_failures_total";
    page.family(FAILURES, "counter", "Attempts to read the issuer's keys that failed.");
    for issuer in issuers {
        page.sample(FAILURES, &[("issuer", &issuer.name)], issuer.keys_failures);
    }
    const KEYS: &str = "ringway_jwks_keys";
    page.family(KEYS, "gauge", "Keys of the issuer that can be used.");
    for issuer in issuers {
        page.sample(KEYS, &[("issuer", &issuer.name)], issuer.keys);
    }
    const TOKENS: &str = "ringway_jwt_total";
    page.family(TOKENS, "counter", "Tokens of the issuer, by what they came to.");
    for issuer in issuers {
        for (result, count) in &issuer.results {
            page.sample(TOKENS, &[("issuer", &issuer.name), ("result", result)], *count);
        }
    }
}
