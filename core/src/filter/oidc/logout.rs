//! Logging out: takes the cookies back, and sends the browser to the provider, so that its session there ends, too
//! (OpenID Connect RP-Initiated Logout 1.0). No other site can log a user out by a link.

use ringway_proto::Method;

use super::Oidc;
use super::login::{redirect, refusal};
use super::provider::Endpoints;
use crate::exchange::{HeaderEdit, Refusal};
use crate::filter::server::form_encoded;
use crate::filter::{RequestEdit, Verdict};
use crate::observe::Flag;

impl Oidc {
    pub(super) fn logout<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let method = request.request.method;
        if !matches!(method, Method::Get | Method::Post) {
            return Verdict::Reply(Box::new(Refusal::method_not_allowed("GET, POST")));
        }
        if !self.is_own(request) {
            return refusal(Flag::Forbidden, "cross_site", "another site asks to log the user out");
        }
        // Also if the provider is away then.
        for cookie in self.names.end_session(request) {
            request.answer.push(HeaderEdit::Add("set-cookie", cookie.into()));
        }
        self.with_endpoints(request, |this, request, endpoints| this.leave(request, endpoints))
    }

    /// True if a page of ours asks, as the browser says. An old browser that does not say may only POST.
    fn is_own(&self, request: &RequestEdit<'_, '_>) -> bool {
        let is_post = request.request.method == Method::Post;
        let (mut site, mut origin) = (None, None);
        request.fields.any("sec-fetch-site", &mut |value| {
            site = Some(value == b"same-origin" || (is_post && value == b"none"));
            true
        });
        request.fields.any("origin", &mut |value| {
            origin = Some(value == self.origin.as_bytes());
            true
        });
        site.unwrap_or(is_post && origin.unwrap_or(true))
    }

    fn leave<'p>(&'p self, request: &mut RequestEdit<'p, '_>, endpoints: &Endpoints) -> Verdict<'p> {
        let session = self.session(request);
        let Some(url) = &endpoints.end_session else {
            let Some(to) = self.post_logout_uri.clone() else {
                request.answer.push(HeaderEdit::Set("cache-control", "no-store".into()));
                return Verdict::Answer(204);
            };
            return redirect(request, to);
        };
        let mut pairs = vec![("client_id", &*self.provider.client_id)];
        if let Some(session) = &session {
            pairs.push(("id_token_hint", &session.stored.id_token));
        }
        if let Some(to) = &self.post_logout_uri {
            pairs.push(("post_logout_redirect_uri", to));
        }
        let pairs: Vec<String> =
            pairs.into_iter().map(|(name, value)| format!("{name}={}", form_encoded(value.as_bytes()))).collect();
        let joint = if url.contains('?') { '&' } else { '?' };
        redirect(request, format!("{url}{joint}{}", pairs.join("&")))
    }
}
