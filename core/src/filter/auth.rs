//! What the filters that ask who somebody is have in common: `jwt`, `api_key`, `basic` and the others each know one kind of
//! credentials; here is what follows from it. And `any_of`, which takes one of several kinds:
//!
//! ```toml
//! filters = [{ any_of = [{ jwt = { issuer = "corp" } }, { api_key = {} }] }]
//! ```
//! The first kind whose credentials the request brings decides; those of the others are taken out of what goes on all the
//! same, unless they are to be forwarded. Without any the answer is 401 with a `WWW-Authenticate` of each kind, or, with
//! `optional = true` in all of them, the request passes as nobody's.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;

use super::{Building, Filter, Outlook, RequestEdit, Trial, Verdict, Waiting, WantsBody};
use super::{api_key, basic, hmac, introspect, jwt};
use crate::exchange::{EditValue, HeaderEdit, Identity, Refusal};
use crate::net::Sleep;
use crate::observe::Flag;

/// Kinds of credentials that one filter takes.
const KINDS_MAX: usize = 8;

/// One kind of credentials.
pub(super) trait Authenticator: Send + Sync {
    fn authenticate<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Auth<'p>;

    /// Takes its credentials out of what goes on, unless they are to be forwarded. Whoever is asked to authenticate does it
    /// unasked; this is for those that are not, since another kind has decided.
    fn strip<'p>(&'p self, request: &mut RequestEdit<'p, '_>);

    /// `WWW-Authenticate` for who brings none (RFC 9110 section 11.6.1); empty: there is no scheme for it.
    fn challenge(&self) -> &str;

    /// Who brings none may pass.
    fn optional(&self) -> bool;

    /// Its credentials are no other kind's either. `None`: they are refused as they were found to be; else something else
    /// is the matter with who brings them.
    fn refuse_foreign(&self, _request: &RequestEdit<'_, '_>) -> Option<Box<Denied>> {
        None
    }

    /// What would become of a request that nobody has sent, with its token. Unless it is a kind of token, there is none.
    fn try_out<'p>(&'p self, _trial: &mut Trial<'p>) -> Tried {
        Tried::Absent
    }

    /// For the operator: the file that it stands in.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>().rsplit("::").nth(1).unwrap_or_default()
    }
}

/// What would become of a token ([`Trial`]).
pub(super) enum Tried {
    Known(Rc<Identity>),
    /// If its signature is good, which cannot be known here.
    Supposed(Rc<Identity>, String),
    Absent,
    Foreign(Box<Denied>),
    Denied(Box<Denied>),
    /// Somebody else is asked.
    Unknown(String),
}

/// What became of a request's credentials.
pub(super) enum Auth<'p> {
    Known(Rc<Identity>),
    /// It brings none of this kind.
    Absent,
    /// They look like another kind's or another issuer's.
    Foreign(Box<Denied>),
    Denied(Box<Denied>),
    Wait(Box<Waiting<'p>>),
    Body(Box<WantsBody<'p>>),
}

impl<'p> Auth<'p> {
    /// How a request goes on whose credentials had to wait.
    pub(super) fn verdict(self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        match self {
            Auth::Known(identity) => {
                admit(request, identity);
                Verdict::Pass
            }
            Auth::Denied(denied) | Auth::Foreign(denied) => denied.verdict(request),
            Auth::Wait(waiting) => Verdict::Wait(waiting),
            Auth::Body(wants) => Verdict::Body(wants),
            Auth::Absent => Verdict::Pass,
        }
    }
}

/// A refusal, and what `WWW-Authenticate` says with it.
pub(super) struct Denied {
    pub(super) refusal: Refusal,
    pub(super) challenge: Option<String>,
}

/// Takes the first kind that a request brings.
pub(super) struct Authenticate {
    kinds: Vec<Box<dyn Authenticator>>,
    optional: bool,
}

/// The filter of a kind of credentials; `None`: no such kind.
pub(super) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Option<Result<Box<dyn Filter>, Fault>> {
    let kind = kind(config, building)?;
    Some(kind.map(|kind| Authenticate::of(vec![kind])))
}

fn kind(config: &FilterConfig, building: &mut Building<'_>) -> Option<Result<Box<dyn Authenticator>, Fault>> {
    match config.name.as_str() {
        "jwt" => Some(jwt::build(config, building)),
        "api_key" => Some(api_key::build(config, building)),
        "basic" => Some(basic::build(config, building)),
        "hmac" => Some(hmac::build(config, building)),
        "introspect" => Some(introspect::build(config, building)),
        _ => None,
    }
}

/// `any_of`.
pub(super) fn build_any(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Filter>, Fault> {
    let wrong = |why: &str| Fault::new(why).at(config.place.clone());
    let list = config.table.as_array().ok_or_else(|| {
        wrong("expected a list of filters").cure("write any_of = [{ jwt = { issuer = \"...\" } }, { api_key = {} }]")
    })?;
    if !(2..=KINDS_MAX).contains(&list.len()) {
        return Err(wrong(&format!("has {} kinds; 2 to {KINDS_MAX} make sense", list.len())));
    }
    let mut kinds = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let place = format!("{}[{index}]", config.place);
        let only = entry.as_table().filter(|table| table.len() == 1).and_then(|table| table.iter().next());
        let (name, table) = only.ok_or_else(|| {
            Fault::new("expected a table with one filter, such as { api_key = {} }").at(place.clone())
        })?;
        let inner = FilterConfig { name: name.clone(), table: table.clone(), place: format!("{place}.{name}") };
        kinds.push(kind(&inner, building).unwrap_or_else(|| {
            Err(Fault::new(format!("{name:?} does not ask who somebody is"))
                .at(place)
                .cure("use jwt, introspect, api_key, basic or hmac"))
        })?);
    }
    Ok(Authenticate::of(kinds))
}

impl Authenticate {
    fn of(kinds: Vec<Box<dyn Authenticator>>) -> Box<dyn Filter> {
        let optional = kinds.iter().all(|kind| kind.optional());
        Box::new(Authenticate { kinds, optional })
    }

    fn nobody<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        if self.optional {
            return Verdict::Pass;
        }
        for challenge in self.kinds.iter().map(|kind| kind.challenge()).filter(|challenge| !challenge.is_empty()) {
            request.answer.push(HeaderEdit::Add("www-authenticate", EditValue::Plan(challenge)));
        }
        Verdict::Reply(Box::new(Refusal::new(Flag::Unauthenticated, "the request brings no credentials")))
    }
}

impl Filter for Authenticate {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let mut foreign = None;
        for (at, kind) in self.kinds.iter().enumerate() {
            let verdict = match kind.authenticate(request) {
                Auth::Known(identity) => {
                    admit(request, identity);
                    Verdict::Pass
                }
                Auth::Absent => continue,
                Auth::Foreign(denied) => {
                    foreign = foreign.or(Some((kind, denied)));
                    continue;
                }
                Auth::Denied(denied) => return denied.verdict(request),
                Auth::Wait(waiting) => Verdict::Wait(waiting),
                Auth::Body(wants) => Verdict::Body(wants),
            };
            self.kinds[at + 1..].iter().for_each(|other| other.strip(request));
            return verdict;
        }
        match foreign {
            Some((kind, denied)) => kind.refuse_foreign(request).unwrap_or(denied).verdict(request),
            None => self.nobody(request),
        }
    }

    fn authenticates(&self) -> bool {
        !self.optional
    }

    fn try_out<'p>(&'p self, trial: &mut Trial<'p>) -> Option<Outlook> {
        let mut foreign = None;
        let mut absent = Vec::new();
        for kind in &self.kinds {
            match kind.try_out(trial) {
                Tried::Known(identity) => {
                    trial.identity = Some(identity);
                    return Some(Outlook::Passes);
                }
                Tried::Supposed(identity, why) => {
                    trial.identity = Some(identity);
                    return Some(Outlook::Supposed { why, status: Flag::Unauthenticated.status() });
                }
                Tried::Absent => {
                    trial.say(kind.name(), "needs a request with its credentials; a token is none");
                    absent.push(kind.name());
                }
                Tried::Foreign(denied) => foreign = foreign.or(Some(denied)),
                Tried::Denied(denied) => return Some(Outlook::Refused(denied.refusal)),
                Tried::Unknown(why) => {
                    trial.blind = true;
                    return Some(Outlook::Unknown(why));
                }
            }
        }
        Some(match foreign {
            Some(denied) => Outlook::Refused(denied.refusal),
            None => {
                trial.blind = true;
                Outlook::Unknown(format!("{} needs a request with credentials", absent.join(" or ")))
            }
        })
    }
}

/// Goes on as somebody. What another filter has found out before stays true: it ends when the first of both ends.
pub(super) fn admit(request: &mut RequestEdit<'_, '_>, identity: Rc<Identity>) {
    let before = request.identity.as_ref().and_then(|before| before.expires_unix_s);
    let earlier = before.filter(|before| identity.expires_unix_s.is_none_or(|expires| *before < expires));
    *request.identity = Some(match earlier {
        None => identity,
        Some(expires) => Rc::new(Identity { expires_unix_s: Some(expires), ..(*identity).clone() }),
    });
}

/// Nobody has said who it is, and no filter here knows a scheme to do so in. RFC 9110 section 15.5.2: a 401 has a challenge
/// all the same.
pub(super) fn unknown<'p>(request: &mut RequestEdit<'p, '_>, refusal: Refusal) -> Verdict<'p> {
    request.answer.push(HeaderEdit::Add("www-authenticate", EditValue::Plan("Ringway realm=\"ringway\"")));
    Verdict::Reply(Box::new(refusal))
}

/// Nobody can say now who it is: nobody passes.
pub(super) fn unavailable<'p>(reason: impl Into<Cow<'static, str>>) -> Auth<'p> {
    Auth::Denied(undecided(reason))
}

/// The refusal of [`unavailable`].
pub(super) fn undecided(reason: impl Into<Cow<'static, str>>) -> Box<Denied> {
    let refusal = Refusal::new(Flag::AuthUnavailable, reason);
    Denied::new(Refusal { retry_after_s: Some(1), ..refusal }, None)
}

/// What the work came to; `None`: not within the time.
pub(super) async fn in_time<T>(work: impl Future<Output = T>, time: Sleep) -> Option<T> {
    let (mut work, mut time) = (pin!(work), pin!(time));
    poll_fn(|cx| match (work.as_mut().poll(cx), time.as_mut().poll(cx)) {
        (Poll::Ready(result), _) => Poll::Ready(Some(result)),
        (Poll::Pending, Poll::Ready(())) => Poll::Ready(None),
        (Poll::Pending, Poll::Pending) => Poll::Pending,
    })
    .await
}

impl Denied {
    pub(super) fn new(refusal: Refusal, challenge: Option<String>) -> Box<Denied> {
        Box::new(Denied { refusal, challenge })
    }

    pub(super) fn verdict<'p>(self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        if let Some(challenge) = self.challenge {
            request.answer.push(HeaderEdit::Add("www-authenticate", challenge.into()));
        }
        Verdict::Reply(Box::new(self.refusal))
    }
}
