//! What the filters that decide who may pass would say of a request that nobody has sent, for people (`ringway explain`).
//! They decide by the code that serves requests. No other server is asked, and nothing is remembered or counted.

use std::net::IpAddr;
use std::rc::Rc;

use ringway_proto::NormalPath;

use crate::exchange::{HeaderEdits, Identity, Refusal};
use crate::route::RouteId;

/// A request that nobody has sent, on its way through filters.
pub struct Trial<'p> {
    /// What stands wherever a filter looks for a token; never shown.
    pub token: &'p [u8],
    pub method: &'p [u8],
    pub path: &'p NormalPath,
    pub route: RouteId,
    pub client: IpAddr,
    /// The wall clock, in seconds since 1970.
    pub unix_s: u64,
    /// Who sends it, as far as the filters tried so far know.
    pub(super) identity: Option<Rc<Identity>>,
    /// The fields that they have set.
    pub(super) headers: HeaderEdits<'p>,
    /// A filter further outside might know the sender, and cannot be tried.
    pub(super) blind: bool,
    said: Vec<Said>,
}

/// A step of a filter's decision.
pub struct Said {
    pub what: &'static str,
    pub text: String,
    /// Of the configuration, dotted.
    pub place: Option<String>,
}

/// What a filter would do.
pub enum Outlook {
    Passes,
    Refused(Refusal),
    /// It passes if what cannot be looked at here is good; otherwise this is the answer's status.
    Supposed {
        why: String,
        status: u16,
    },
    /// It depends on what is not at hand.
    Unknown(String),
}

impl<'p> Trial<'p> {
    pub fn new(
        token: &'p [u8],
        (method, path, route): (&'p [u8], &'p NormalPath, RouteId),
        client: IpAddr,
        unix_s: u64,
    ) -> Trial<'p> {
        let (identity, headers, blind, said) = (None, HeaderEdits::default(), false, Vec::new());
        Trial { token, method, path, route, client, unix_s, identity, headers, blind, said }
    }

    /// What the last filter has said.
    pub fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    pub(super) fn say(&mut self, what: &'static str, text: impl Into<String>) {
        self.said.push(Said { what, text: text.into(), place: None });
    }

    pub(super) fn say_at(&mut self, what: &'static str, text: String, place: &str) {
        self.said.push(Said { what, text, place: Some(place.to_owned()) });
    }
}

/// What a client has written, for a terminal: nothing in it moves the cursor.
pub(super) fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}
