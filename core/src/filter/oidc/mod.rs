//! `oidc`: browsers log in at an OpenID Connect provider, by the authorization code flow with PKCE; their session then lies
//! sealed in a cookie.
//!
//! ```toml
//! [issuers.corp]
//! issuer = "https://id.example.com"
//! audiences = ["shop"]
//! algorithms = "RS256"
//! jwks_url = "https://id.example.com/jwks"
//!
//! [[policies.login.filters]]
//! oidc = { issuer = "corp", client_id = "shop", client_secret = "env:OIDC_SECRET", keys = ["file:/etc/ringway/cookies"],
//!     redirect_uri = "https://shop.example.com/oidc/callback", logout_path = "/oidc/logout" }
//! ```
//! | key | what it says |
//! |---|---|
//! | `issuer` | the `[issuers]` table whose keys, algorithms, `leeway`, `roles`, `consumer` and `headers` count |
//! | `client_id`, `client_secret` | as the provider knows us; without a secret PKCE alone proves who asks |
//! | `client_auth` | `"basic"` (unset, with a secret), `"post"`, `"none"` (unset, without) |
//! | `redirect_uri` | where the provider sends browsers back to, whatever `Host` they say; users come to its host |
//! | `keys` | secrets of 32 bytes or more (`openssl rand -base64 32`): the first seals cookies, all open them |
//! | `scopes` | unset `["openid"]`; providers give refresh tokens for `offline_access`, some without |
//! | `parameters` | more for the authorization request: `{ prompt = "login" }` |
//! | `authorization_url`, `token_url` | unset: `/.well-known/openid-configuration` of the issuer says it |
//! | `end_session_url` | where browsers go when they log out; unset as above, or nowhere |
//! | `logout_path`, `post_logout_uri` | a path of ours that logs out, and where the user gets then |
//! | `session_time`, `login_time` | 8h from one login to the next in any case; 10m for one login |
//! | `refresh_before` | 30s: so long before their end tokens are renewed, after half of their time at the earliest |
//! | `access_token_header` | the origin gets the access token; in `authorization` as a Bearer |
//! | `cookie` | unset `"ringway"`: cookies are `__Host-ringway...`; filters of one host need different names |
//! | `ends_with_token` | unset true: answers without a known end, and tunnels, end when the tokens do |
//! | `ca_file`, `deadline`, `concurrent_max`, `insecure` | as in `introspect`: 5s, 64; http is for tests |
//!
//! Who has no session and would see a page (GET or HEAD, `Accept: text/html`, no other `Sec-Fetch-Mode` than `navigate`, no
//! `X-Requested-With`) is sent to the provider, and returns to the path he asked for; others get 401. The paths of
//! `redirect_uri` and of `logout_path` must lead to a route with this filter: put it into a policy, or write a route for
//! them. Origins behind the filter get none of its cookies; those of routes without it do.
//!
//! An id_token must be of the issuer, for this client (`aud`; `azp` if it is there, which it must be with several
//! audiences), of this login (`nonce`), in time, and signed with an algorithm that the issuer's table allows. A state is
//! good once, in the browser that began the login, for `login_time`: a node remembers those that were used, in memory. Behind
//! several gateways, or after a restart, a callback that is replayed with its cookie is refused by the provider alone, which
//! takes a code once.
//!
//! The session lasts as long as the access token (`expires_in`; without it the id_token), and is renewed with the refresh
//! token if there is one: once on a node, whatever many requests want it; for 30s an old cookie finds the new session.
//! Several gateways each renew for themselves: with a provider that takes refresh tokens once, lead a user to one of them.
//! If the provider refuses, the user logs in again; if it is away, the session goes on to the end of its tokens, and is
//! answered with 503 then. Nobody keeps a list of sessions: logging out takes the cookies from the browser, and a copy that
//! was stolen is good until its tokens end, with a refresh token until the provider refuses it or `session_time` is over.
//!
//! Logging out is a `POST` that no other site makes, or a link on a page of the same origin (`Sec-Fetch-Site`). A session
//! that does not fit into four cookies is refused: 503, `session_too_large`, its size in the log. Codes are kept out of the
//! log: the parameter `code` of any query.

mod cookies;
mod login;
mod logout;
mod provider;
mod renew;
mod seal;
mod session;
mod table;
mod tokens;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;

use super::auth::admit;
use super::server::Server;
use super::{Filter, Outlook, RequestEdit, Trial, Verdict};
use crate::exchange::{HeaderEdit, Refusal};
use crate::mesh::Nonce;
use crate::observe::Flag;
use cookies::Names;
use provider::Provider;
use session::Session;
use tokens::Issued;

pub(super) use session::Memory;
pub(super) use table::build;

struct Oidc {
    provider: Arc<Provider>,
    server: Server,
    deadline: Duration,
    names: Names,
    /// Of `redirect_uri`: scheme and host, and its path.
    origin: String,
    callback_path: String,
    logout_path: Option<String>,
    post_logout_uri: Option<String>,
    /// What each authorization request says.
    asks_for: String,
    login_s: u64,
    access_token_header: Option<String>,
    access_is_bearer: bool,
    ends_with_token: bool,
    /// Tells one configuration from another.
    stamp: u64,
}

impl Filter for Oidc {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        if self.provider.sealer.is_none() {
            return unavailable("the filter cannot be built, as `ringway check` says");
        }
        if request.path == self.callback_path.as_bytes() {
            return self.callback(request);
        }
        if self.logout_path.as_ref().is_some_and(|path| request.path == path.as_bytes()) {
            return self.logout(request);
        }
        let now = (request.unix_s)();
        let Some(session) = self.session(request) else { return self.nobody(request, "nobody has logged in") };
        let stored = &session.stored;
        let lacks = self.access_token_header.is_some() && session.access_field.is_none();
        if now >= stored.last || lacks {
            return self.nobody(request, "the session has ended");
        }
        match stored.refresh_token {
            Some(_) if now >= stored.renew => self.renew(request, session),
            _ if now >= stored.ends => self.nobody(request, "the session has ended"),
            _ => self.admit(request, &session),
        }
    }

    fn try_out<'p>(&'p self, trial: &mut Trial<'p>) -> Option<Outlook> {
        trial.blind = true;
        trial.say("session", "needs a request with its cookie; a token is none");
        Some(Outlook::Unknown("nobody has logged in here".to_owned()))
    }

    fn authenticates(&self) -> bool {
        true
    }
}

impl Oidc {
    /// Goes on as the session's user.
    fn admit<'p>(&'p self, request: &mut RequestEdit<'p, '_>, session: &Session) -> Verdict<'p> {
        for ((name, _), value) in std::iter::zip(&self.provider.issuer.config.headers, &session.identity.fields) {
            if let Some(value) = value {
                request.headers.push(HeaderEdit::Set(name, value.clone().into()));
            }
        }
        if let (Some(name), Some(value)) = (&self.access_token_header, &session.access_field) {
            request.headers.push(HeaderEdit::Set(name, value.clone().into()));
        }
        if self.ends_with_token {
            let end = session.stored.ends;
            *request.ends_unix_s = Some(request.ends_unix_s.map_or(end, |other| other.min(end)));
        }
        self.names.strip(request);
        admit(request, session.identity.clone());
        Verdict::Pass
    }

    /// Gives the browser a session that was just made.
    fn keep(&self, request: &mut RequestEdit<'_, '_>, issued: &Issued) -> Option<Rc<Session>> {
        let age_s = issued.stored.last.saturating_sub((request.unix_s)());
        for cookie in self.names.set_session(request, &issued.sealed, age_s) {
            request.answer.push(HeaderEdit::Add("set-cookie", cookie.into()));
        }
        self.remember(request, &issued.sealed, &issued.stored)
    }
}

/// Nobody can say now who it is: nobody passes.
fn unavailable<'p>(why: impl Into<String>) -> Verdict<'p> {
    let refusal = Refusal::new(Flag::AuthUnavailable, why.into());
    Verdict::Reply(Box::new(Refusal { retry_after_s: Some(1), ..refusal }))
}

/// What no client can make equal to another's.
fn digest_of(parts: &[&[u8]]) -> Nonce {
    let digest = digest::digest(&digest::SHA256, &parts.concat());
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.as_ref()[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    [word(0), word(8)]
}
