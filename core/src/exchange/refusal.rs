//! Why the gateway answers a request itself with an error: who failed, what the client sees, what the log says.

use std::borrow::Cow;

use ringway_proto::{PathError, RequestError};

use super::body::BodyError;
use crate::observe::Flag;

/// An error answer in the making.
#[derive(Debug)]
pub struct Refusal {
    pub flag: Flag,
    pub status: u16,
    /// Stable, for clients to match on.
    pub code: &'static str,
    /// For the log alone: may name addresses and what an origin said.
    pub reason: Cow<'static, str>,
    /// The connection cannot be used any more.
    pub close: bool,
    /// Value of `Allow`, for a 405.
    pub allow: Option<Cow<'static, str>>,
    /// Seconds in `Retry-After`.
    pub retry_after_s: Option<u32>,
    /// One more member of the problem: its name, and its value as JSON.
    pub member: Option<Box<(&'static str, String)>>,
    /// In the place of problem+json: what another server says.
    pub body: Option<Box<RefusalBody>>,
}

/// An error's body that is not ours.
#[derive(Debug)]
pub struct RefusalBody {
    /// `Content-Type`: nothing in it ends the line.
    pub kind: Option<String>,
    pub bytes: Vec<u8>,
}

impl Refusal {
    /// With the status and the code that the flag stands for.
    pub fn new(flag: Flag, reason: impl Into<Cow<'static, str>>) -> Refusal {
        let (status, code) = (flag.status(), flag.code());
        let (close, allow, retry_after_s, member, body) = (false, None, None, None, None);
        Refusal { flag, status, code, reason: reason.into(), close, allow, retry_after_s, member, body }
    }

    #[must_use]
    pub fn closing(mut self) -> Refusal {
        self.close = true;
        self
    }

    pub fn method_not_allowed(allow: impl Into<Cow<'static, str>>) -> Refusal {
        let refusal = Refusal::new(Flag::NoRoute, "no route takes this method");
        Refusal { status: 405, code: "method_not_allowed", allow: Some(allow.into()), ..refusal }
    }

    pub fn body_too_large(bytes_max: u64) -> Refusal {
        Refusal::new(Flag::BodyTooLarge, format!("the request's body passes the limit of {bytes_max} bytes")).closing()
    }

    /// The client's body cannot be read.
    pub fn of_client_body(error: &BodyError) -> Refusal {
        match error {
            BodyError::TimedOut => Refusal::new(Flag::ClientTimeout, "the request's body stopped coming").closing(),
            BodyError::Malformed(code) => Refusal { code, ..Refusal::new(Flag::BadRequest, *code) }.closing(),
            BodyError::Truncated => Refusal::new(Flag::ClientGone, "the client ended within its request"),
            BodyError::Reset(error) => Refusal::new(Flag::ClientGone, format!("the client reset: {error}")),
        }
    }

    /// True if there is nobody left to answer.
    pub fn is_silent(&self) -> bool {
        self.flag == Flag::ClientGone
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Refusal {
        let flag = match error {
            RequestError::TargetTooLong => Flag::TargetTooLong,
            RequestError::HeadTooLarge | RequestError::TooManyFields => Flag::HeadTooLarge,
            _ => Flag::BadRequest,
        };
        Refusal { status: error.status(), code: error.code(), ..Refusal::new(flag, error.to_string()) }.closing()
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Refusal {
        Refusal { code: error.code(), ..Refusal::new(Flag::BadRequest, error.to_string()) }
    }
}
