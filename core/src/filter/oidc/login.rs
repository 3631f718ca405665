//! A login: sends a browser to the provider, and takes it back from there. What must match between the two lies sealed in a
//! cookie of the login's own; its state is good once.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringway_proto::Method;
use ringway_proto::credentials::decoded;
use serde::{Deserialize, Serialize};

use super::cookies::{self, LOGINS_MAX};
use super::provider::{Endpoints, Found};
use super::seal::Purpose;
use super::tokens::{By, Code, Failed, Issued, is_error, work_time};
use super::{Oidc, digest_of, unavailable};
use crate::exchange::{HeaderEdit, Refusal};
use crate::filter::auth::{in_time, unknown};
use crate::filter::server::form_encoded;
use crate::filter::{RequestEdit, Then, Verdict, Waiting};
use crate::mesh::Claim;
use crate::observe::Flag;

/// Of the path that a user returns to; a longer one leads to `/`.
const RETURN_BYTES_MAX: usize = 2048;
/// Random bytes of a state, a nonce, and a verifier (RFC 7636 section 4.1: 32 make 43 characters).
const RANDOM_BYTES: usize = 32;
/// Used states that the node remembers; 64 bytes each.
const STATES_MAX: usize = 1 << 18;
/// Gateways' clocks may differ by so much.
const SKEW_S: u64 = 60;
/// Of a parameter that the provider gives.
const PARAM_BYTES_MAX: usize = 4096;

/// What a login needs when it comes back.
#[derive(Serialize, Deserialize)]
struct Login {
    state: String,
    nonce: String,
    verifier: String,
    /// Path and query on our host.
    to: String,
    /// When it began, in seconds since 1970.
    at: u64,
}

/// What the provider says through the browser (RFC 6749 section 4.1.2, RFC 9207).
#[derive(Default)]
struct Params {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

impl Oidc {
    /// Nobody has logged in: a browser that shows a page is sent to the provider, all else is refused.
    pub(super) fn nobody<'p>(&'p self, request: &mut RequestEdit<'p, '_>, reason: &'static str) -> Verdict<'p> {
        if !is_navigation(request) {
            return unknown(request, Refusal::new(Flag::Unauthenticated, reason));
        }
        self.with_endpoints(request, |this, request, endpoints| this.begin(request, endpoints))
    }

    /// Goes on at once if the endpoints are known, else when they are.
    pub(super) fn with_endpoints<'p>(
        &'p self,
        request: &mut RequestEdit<'p, '_>,
        go_on: fn(&'p Oidc, &mut RequestEdit<'p, '_>, &Endpoints) -> Verdict<'p>,
    ) -> Verdict<'p> {
        let conclude = move |request: &mut RequestEdit<'p, '_>, found: Found| match found {
            Ok(endpoints) => go_on(self, request, &endpoints),
            Err(why) => unavailable(format!("the provider's endpoints are not known: {why}")),
        };
        if let Some(found) = self.provider.known_endpoints() {
            return conclude(request, found);
        }
        let provider = self.provider.clone();
        let asked = self.server.errand(request.calls, move |asking| async move { provider.endpoints(&asking).await });
        let call = match asked {
            Ok(call) => call,
            Err(why) => return unavailable(why),
        };
        let time = request.net.sleep(work_time(self.deadline, &self.provider));
        let until = async move {
            let found = in_time(call, time).await.flatten().unwrap_or_else(|| Err("it does not answer in time".into()));
            let then: Then<'p> = Box::new(move |request| conclude(request, found));
            then
        };
        Verdict::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    fn begin<'p>(&'p self, request: &mut RequestEdit<'p, '_>, endpoints: &Endpoints) -> Verdict<'p> {
        let (Some(state), Some(nonce), Some(verifier)) = (random(), random(), random()) else {
            return unavailable("the system has no random numbers");
        };
        let at = (request.unix_s)();
        let to = return_path(request.path, request.query);
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
        let joint = if endpoints.authorization.contains('?') { '&' } else { '?' };
        let location = format!(
            "{}{joint}{}&state={state}&nonce={nonce}&code_challenge={challenge}&code_challenge_method=S256",
            endpoints.authorization, self.asks_for
        );
        let name = self.names.login(&state);
        let plain = serde_json::to_vec(&Login { state, nonce, verifier, to, at }).unwrap_or_default();
        let sealed = self.provider.sealer.as_ref().and_then(|sealer| sealer.seal(Purpose::Login, &plain));
        let Some(sealed) = sealed else { return unavailable("the login cannot be sealed") };
        for name in self.logins_to_end(request) {
            request.answer.push(HeaderEdit::Add("set-cookie", cookies::end(&name).into()));
        }
        let cookie = cookies::set(&name, &sealed, self.login_s);
        request.answer.push(HeaderEdit::Add("set-cookie", cookie.into()));
        redirect(request, location)
    }

    /// Names of the cookies that give way to one more login: those that are over, and the oldest.
    fn logins_to_end(&self, request: &RequestEdit<'_, '_>) -> Vec<String> {
        let brought = self.names.logins(request);
        let begun = |value: &[u8]| self.open_login(value, (request.unix_s)()).map_or(0, |login| login.at);
        let mut logins: Vec<(u64, &str)> = brought.into_iter().map(|(name, value)| (begun(value), name)).collect();
        logins.sort_unstable();
        let over = logins.iter().filter(|(at, _)| *at == 0).count();
        let ending = over.max((logins.len() + 1).saturating_sub(LOGINS_MAX));
        logins[..ending].iter().map(|(_, name)| (*name).to_owned()).collect()
    }

    fn open_login(&self, value: &[u8], now: u64) -> Option<Login> {
        let plain = self.provider.sealer.as_ref()?.open(Purpose::Login, value)?;
        let login: Login = serde_json::from_slice(&plain).ok()?;
        let is_young = login.at <= now.saturating_add(SKEW_S) && now < login.at.saturating_add(self.login_s);
        is_young.then_some(login)
    }

    /// The provider has sent a browser back.
    pub(super) fn callback<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        if request.request.method != Method::Get {
            return Verdict::Reply(Box::new(Refusal::method_not_allowed("GET")));
        }
        let Some(params) = Params::read(request.query.unwrap_or_default()) else {
            return bad_state("the provider's answer has a parameter twice, too long, or in no encoding");
        };
        let login = match self.take_login(request, params.state.as_deref().unwrap_or_default()) {
            Ok(login) => login,
            Err(verdict) => return verdict,
        };
        // RFC 9207 section 2.4: an answer of another provider is none.
        let says_issuer = matches!(self.provider.known_endpoints(), Some(Ok(endpoints)) if endpoints.says_issuer);
        match &params.iss {
            Some(iss) if *iss != self.provider.name => return bad_state("the answer is of another provider"),
            None if says_issuer => return bad_state("the answer does not say of which provider it is"),
            _ => {}
        }
        match (params.error, params.code) {
            (Some(error), _) => refused_by_provider(&error),
            (None, Some(code)) => match self.use_state(request, &login) {
                Ok(()) => self.exchange(request, login, code),
                Err(verdict) => verdict,
            },
            (None, None) => bad_state("the provider's answer has neither code nor error"),
        }
    }

    /// The login of this state.
    fn take_login<'p>(&'p self, request: &mut RequestEdit<'p, '_>, state: &str) -> Result<Login, Verdict<'p>> {
        let (now, name) = ((request.unix_s)(), self.names.login(state));
        let found: Vec<_> = self.names.logins(request).into_iter().filter(|(found, _)| *found == name).collect();
        let [(_, value)] = found[..] else { return Err(bad_state("no login of this browser has this state")) };
        request.answer.push(HeaderEdit::Add("set-cookie", cookies::end(&name).into()));
        let login = self.open_login(value, now).ok_or_else(|| bad_state("the login is over, or no login"))?;
        if verify_slices_are_equal(login.state.as_bytes(), state.as_bytes()).is_err() {
            return Err(bad_state("no login of this browser has this state"));
        }
        Ok(login)
    }

    /// Uses a login's state up. Only for one that brings a code: each costs a question to the provider, of which few are
    /// open at once, so that nobody fills the table in which used states are remembered.
    fn use_state<'p>(&'p self, request: &RequestEdit<'p, '_>, login: &Login) -> Result<(), Verdict<'p>> {
        let (now, state) = ((request.unix_s)(), digest_of(&[login.state.as_bytes()]));
        match self.provider.node.states.claim(state, login.at, now, STATES_MAX) {
            Claim::New => Ok(()),
            Claim::Used => Err(bad_state("the state was used already")),
            Claim::Late => Err(bad_state("the login is over")),
            Claim::Full => Err(unavailable("too many states are remembered")),
        }
    }

    /// Has the code made a session.
    fn exchange<'p>(&'p self, request: &mut RequestEdit<'p, '_>, login: Login, code: String) -> Verdict<'p> {
        let Login { nonce, verifier, to, .. } = login;
        let (provider, code) = (self.provider.clone(), Code { code, verifier, nonce });
        let asked = self.server.errand(request.calls, move |asking| async move { provider.login(&asking, code).await });
        let call = match asked {
            Ok(call) => call,
            Err(why) => return unavailable(why),
        };
        let time = request.net.sleep(work_time(self.deadline, &self.provider));
        let until = async move {
            let late = || Err(Failed::new(By::Away, "the provider: it does not answer in time"));
            let result = in_time(call, time).await.flatten().unwrap_or_else(late);
            let then: Then<'p> = Box::new(move |request| match result {
                Ok(issued) => self.welcome(request, &issued, &to),
                Err(failed) => self.failed(request, &failed),
            });
            then
        };
        Verdict::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    fn welcome<'p>(&'p self, request: &mut RequestEdit<'p, '_>, issued: &Arc<Issued>, to: &str) -> Verdict<'p> {
        self.provider.issuer.node.count(request.state.core, Ok(()));
        self.keep(request, issued);
        redirect(request, format!("{}{to}", self.origin))
    }

    fn failed<'p>(&'p self, request: &RequestEdit<'p, '_>, failed: &Failed) -> Verdict<'p> {
        let why = failed.why.to_string();
        match failed.by {
            By::Away | By::Client => unavailable(why),
            By::Grant => refusal(Flag::Forbidden, "login_refused", why),
            By::Token(refused) => {
                if let Some(refused) = refused {
                    self.provider.issuer.node.count(request.state.core, Err(refused));
                }
                refusal(Flag::Forbidden, "login_failed", why)
            }
            By::Size => refusal(Flag::AuthUnavailable, "session_too_large", why),
        }
    }
}

impl Params {
    /// `None`: one is there twice, is too long, or is no text. Others are not looked at.
    fn read(query: &[u8]) -> Option<Params> {
        let mut params = Params::default();
        for piece in query.split(|byte| *byte == b'&') {
            let (name, value) = match piece.iter().position(|byte| *byte == b'=') {
                Some(at) => (&piece[..at], &piece[at + 1..]),
                None => (piece, &b""[..]),
            };
            let place = match &*decoded(name) {
                b"state" => &mut params.state,
                b"code" => &mut params.code,
                b"error" => &mut params.error,
                b"iss" => &mut params.iss,
                _ => continue,
            };
            let spaced: Vec<u8> = value.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
            let text = String::from_utf8(decoded(&spaced).into_owned()).ok()?;
            if text.len() > PARAM_BYTES_MAX || place.replace(text).is_some() {
                return None;
            }
        }
        Some(params)
    }
}

/// True of a request by which a browser would show a page, and which it can make again when it comes back.
fn is_navigation(request: &RequestEdit<'_, '_>) -> bool {
    let fields = request.fields;
    let mut mode = None;
    fields.any("sec-fetch-mode", &mut |value| {
        mode = Some(value == b"navigate");
        true
    });
    let wants_page = fields.any("accept", &mut |value| {
        let kinds = value.split(|byte| *byte == b',').map(|kind| kind.split(|byte| *byte == b';').next());
        kinds.flatten().any(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/html"))
    });
    matches!(request.request.method, Method::Get | Method::Head)
        && mode != Some(false)
        && wants_page
        && !fields.any("x-requested-with", &mut |_| true)
}

/// Path and query, if they can lead nowhere but to our host; else its root.
fn return_path(path: &[u8], query: Option<&[u8]>) -> String {
    let mut to = path.to_vec();
    if let Some(query) = query {
        to.push(b'?');
        to.extend_from_slice(query);
    }
    let is_plain = to.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\' && *byte != b'#');
    let is_path = to.first() == Some(&b'/') && to.get(1) != Some(&b'/');
    match String::from_utf8(to) {
        Ok(to) if is_plain && is_path && to.len() <= RETURN_BYTES_MAX => to,
        _ => "/".to_owned(),
    }
}

/// Leads the browser elsewhere, by GET, and lets nobody keep that.
pub(super) fn redirect<'p>(request: &mut RequestEdit<'p, '_>, location: String) -> Verdict<'p> {
    request.answer.push(HeaderEdit::Set("location", location.into()));
    request.answer.push(HeaderEdit::Set("cache-control", "no-store".into()));
    Verdict::Answer(303)
}

pub(super) fn refusal<'p>(flag: Flag, code: &'static str, why: impl Into<String>) -> Verdict<'p> {
    Verdict::Reply(Box::new(Refusal { code, ..Refusal::new(flag, why.into()) }))
}

fn bad_state<'p>(why: &'static str) -> Verdict<'p> {
    refusal(Flag::BadRequest, "bad_state", why)
}

/// RFC 6749 section 4.1.2.1. The error is told if it is a name; nothing else of what came is.
fn refused_by_provider<'p>(error: &str) -> Verdict<'p> {
    if matches!(error, "server_error" | "temporarily_unavailable") {
        return unavailable(format!("the provider sends the browser back: {error}"));
    }
    let named = if is_error(error) { error } else { "unknown" };
    let why = format!("the provider sends the browser back: {named}");
    let member = Some(Box::new(("error", format!("\"{named}\""))));
    let refusal = Refusal { code: "login_refused", member, ..Refusal::new(Flag::Forbidden, why) };
    Verdict::Reply(Box::new(refusal))
}

fn random() -> Option<String> {
    let mut bytes = [0; RANDOM_BYTES];
    rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// The parameters of an authorization request that are the same for each login.
pub(super) fn asks_for(pairs: &[(&str, &str)]) -> String {
    let encoded: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", form_encoded(name.as_bytes()), form_encoded(value.as_bytes())))
        .collect();
    encoded.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_leads_to_our_host_alone() {
        let path = |path: &str, query: Option<&str>| return_path(path.as_bytes(), query.map(str::as_bytes));
        assert_eq!(path("/a/b", Some("c=%2F&d")), "/a/b?c=%2F&d");
        assert_eq!(path("/", None), "/");
        for other in ["//evil.test", "/\\evil.test", "https://evil.test/", "", "/a b", "/a\r\nb", "/\u{e9}", "/a#b"] {
            assert_eq!(path(other, None), "/", "{other}");
        }
        assert_eq!(path("/a", Some("b\\c")), "/");
        assert_eq!(path(&format!("/{}", "a".repeat(RETURN_BYTES_MAX)), None), "/");
    }

    #[test]
    fn parameters_are_read_once_each() {
        let read = |query: &str| Params::read(query.as_bytes());
        let params = read("code=a%2Bb+c&st%61te=s&other=1&other=2&iss=https%3A%2F%2Fid").unwrap();
        assert_eq!((params.code.as_deref(), params.state.as_deref()), (Some("a+b c"), Some("s")));
        assert_eq!((params.iss.as_deref(), params.error), (Some("https://id"), None));
        for wrong in ["code=a&code=b", "state=a&st%61te=a", "code=%ff"] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
        assert!(read(&format!("code={}", "a".repeat(PARAM_BYTES_MAX + 1))).is_none());
    }
}
