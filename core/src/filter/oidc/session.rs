//! A session: what lies sealed in the browser, and what a core remembers of it, so that it is opened and read once and not
//! for each request. How long it lasts is judged on each.

use std::cell::RefCell;
use std::rc::Rc;

use ringway_config::snapshot::Issuer;
use serde::{Deserialize, Serialize};

use super::Oidc;
use super::seal::Purpose;
use crate::exchange::Identity;
use crate::filter::RequestEdit;
use crate::identity::{TextCache, Token, Verified};

/// Sessions of one core.
const SESSIONS_MAX: usize = 65_536;
const SESSIONS_BYTES_MAX: usize = 64 << 20;

/// What lies in the browser. Dates in seconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    /// As it was verified when it came.
    pub(super) id_token: String,
    /// Kept only for a route that forwards it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) access_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<String>,
    /// From then on the tokens are renewed.
    pub(super) renew: u64,
    /// Then they end.
    pub(super) ends: u64,
    /// Then its user has to log in again in any case.
    pub(super) last: u64,
}

/// A session that was opened.
pub(super) struct Session {
    pub(super) identity: Rc<Identity>,
    pub(super) stored: Stored,
    /// The field that forwards the access token.
    pub(super) access_field: Option<Rc<str>>,
}

impl Session {
    /// `None`: its token is none.
    pub(super) fn new(stored: Stored, issuer: &Issuer, bearer: bool) -> Option<Session> {
        let claims = Token::parse(stored.id_token.as_bytes()).ok()?.claims;
        let identity = Verified::new("oidc", claims, issuer).identity;
        // The date of the token was judged when it came: from then on the session's counts.
        let identity = Rc::new(Identity { expires_unix_s: Some(stored.ends), ..(*identity).clone() });
        let access_field = stored.access_token.as_deref();
        let access_field = access_field.map(|token| if bearer { format!("Bearer {token}") } else { token.to_owned() });
        Some(Session { identity, access_field: access_field.map(Into::into), stored })
    }

    fn weight(&self) -> usize {
        let tokens = [&self.stored.access_token, &self.stored.refresh_token];
        let tokens: usize = tokens.into_iter().flatten().map(String::len).sum();
        Verified::weight(self.stored.id_token.len()) + 2 * tokens
    }
}

/// The sessions that one core knows. Lives on over reloads; a filter that is configured otherwise knows none of them.
pub(in crate::filter) struct Memory {
    sessions: RefCell<TextCache<Rc<Session>>>,
    /// Used again for each key that is looked up.
    key: RefCell<Vec<u8>>,
}

impl Default for Memory {
    fn default() -> Self {
        let sessions = RefCell::new(TextCache::new(SESSIONS_MAX, SESSIONS_BYTES_MAX));
        Memory { sessions, key: RefCell::default() }
    }
}

impl Oidc {
    /// The session that a request brings, however old it is.
    pub(super) fn session(&self, request: &RequestEdit<'_, '_>) -> Option<Rc<Session>> {
        let memory = &request.state.sessions;
        let mut key = memory.key.borrow_mut();
        key.clear();
        key.extend_from_slice(&self.stamp.to_le_bytes());
        if !self.names.session(request, &mut key) {
            return None;
        }
        if let Some(known) = memory.sessions.borrow().get(&key) {
            return Some(known.clone());
        }
        let plain = self.provider.sealer.as_ref()?.open(Purpose::Session, &key[size_of_val(&self.stamp)..])?;
        let stored = serde_json::from_slice(&plain).ok()?;
        let session = Rc::new(Session::new(stored, &self.provider.issuer.config, self.access_is_bearer)?);
        memory.sessions.borrow_mut().insert(&key, session.clone(), session.weight());
        Some(session)
    }

    /// One that was just sealed.
    pub(super) fn remember(&self, request: &RequestEdit<'_, '_>, sealed: &str, stored: &Stored) -> Option<Rc<Session>> {
        let session = Rc::new(Session::new(stored.clone(), &self.provider.issuer.config, self.access_is_bearer)?);
        let key = [&self.stamp.to_le_bytes()[..], sealed.as_bytes()].concat();
        request.state.sessions.sessions.borrow_mut().insert(&key, session.clone(), session.weight());
        Some(session)
    }
}
