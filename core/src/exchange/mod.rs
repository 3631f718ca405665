//! One request and its answer while they are served: their heads, where they were routed, what became of them. The
//! memory is the core's and is used again for the next exchange, so that serving allocates nothing.

mod body;
mod edits;
mod forwarded;
mod head;
mod head_buffer;
mod held;
mod identity;
mod pump;
mod refusal;
mod request_id;
mod rewritten;
mod transform;

use std::borrow::Cow;
use std::rc::Rc;

pub use body::{BodyError, BodyReader};
pub use edits::{EditValue, HeaderEdit, HeaderEdits};
pub use forwarded::{Hop, PeerText, client_address, write_hop};
pub use head::{
    AnswerHead, BodyLength, Forwarding, max_forwards, write_answer_head, write_connection, write_interim_head,
    write_request_head,
};
pub use head_buffer::HeadBuffer;
pub use held::{Held, HeldList, Release};
pub use identity::{Identity, claim, texts};
pub use pump::{Encoding, Pump, PumpError};
use quanta::Instant;
pub use refusal::{Refusal, RefusalBody};
pub use request_id::{RequestId, RequestIds};
pub use rewritten::{REWRITTEN_BYTES_MAX, RewriteError, Rewritten};
use ringway_proto::{NormalPath, RequestHead, ResponseHead};
use smallvec::SmallVec;
pub use transform::{Chained, STEP_BYTES_MAX, Transform, transform_whole};

use crate::mesh::Nonce;
use crate::observe::{Flag, Source, Try};
use crate::route::Captures;

/// Tries that a record holds without an allocation.
const TRIES_INLINE: usize = 2;

/// A nonce that is this request's, and nobody else's.
#[derive(Debug, Clone, Copy)]
pub struct ClaimedNonce {
    pub nonce: Nonce,
    /// Other gateways know it, too.
    pub in_fleet: bool,
}

/// The state of one exchange.
pub struct Exchange {
    pub request: RequestHead,
    pub request_bytes: HeadBuffer,
    pub answer: ResponseHead,
    pub answer_bytes: HeadBuffer,
    pub path: NormalPath,
    pub captures: Captures,
    pub rewritten: Rewritten,
    pub id: RequestId,
    /// Who sends it, once a filter knows.
    pub identity: Option<Rc<Identity>>,
    /// When its credentials end, and with them an answer that has no end of its own.
    pub ends_unix_s: Option<u64>,
    /// Of its signature, once claimed: another filter that asks for one takes it, too.
    pub nonce: Option<ClaimedNonce>,
    /// Until it is over.
    pub held: HeldList,
    /// Some of the request's body may have been read.
    pub body_taken: bool,
    /// All of it has been read, ahead of forwarding.
    pub body_read: bool,
    pub record: Record,
}

/// What the log and the meters will say.
pub struct Record {
    /// When the first byte of the request was reaped.
    pub started: Instant,
    pub route: Option<u32>,
    /// The cluster's index in the plan.
    pub cluster: Option<usize>,
    pub endpoint: Option<Rc<str>>,
    pub attempts: u32,
    /// Tries that another one followed.
    pub tries: SmallVec<[Try; TRIES_INLINE]>,
    pub interim_answers: u32,
    /// 0: nothing was sent.
    pub status: u16,
    pub source: Source,
    pub flag: Flag,
    /// The flag says only that a filter held it.
    is_only_held: bool,
    /// The whole reason, for the log alone.
    pub reason: Option<Cow<'static, str>>,
    pub origin_wait_ns: u64,
    /// How long filters held it on purpose.
    pub held_ns: u64,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
}

impl Exchange {
    pub fn new(now: Instant) -> Box<Exchange> {
        Box::new(Exchange {
            request: RequestHead::new(),
            request_bytes: HeadBuffer::default(),
            answer: ResponseHead::new(),
            answer_bytes: HeadBuffer::default(),
            path: NormalPath::new(),
            captures: Captures::default(),
            rewritten: Rewritten::default(),
            id: RequestId::default(),
            identity: None,
            ends_unix_s: None,
            nonce: None,
            held: HeldList::new(),
            body_taken: false,
            body_read: false,
            record: Record::new(now),
        })
    }

    /// Makes ready for the next request.
    pub fn clear(&mut self, now: Instant) {
        self.request.reset();
        self.request_bytes.clear();
        self.clear_answer();
        self.rewritten.clear();
        self.id.clear();
        self.identity = None;
        self.ends_unix_s = None;
        self.nonce = None;
        self.held.clear();
        self.body_taken = false;
        self.body_read = false;
        self.record = Record::new(now);
    }

    /// Forgets an answer's head, an interim one's or that of an attempt that failed.
    pub fn clear_answer(&mut self) {
        self.answer.reset();
        self.answer_bytes.clear();
    }
}

impl Record {
    fn new(now: Instant) -> Record {
        Record {
            started: now,
            route: None,
            cluster: None,
            endpoint: None,
            attempts: 0,
            tries: SmallVec::new(),
            interim_answers: 0,
            status: 0,
            source: Source::Gateway,
            flag: Flag::None,
            is_only_held: false,
            reason: None,
            origin_wait_ns: 0,
            held_ns: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Notes that a filter holds it, which is no failure: what goes wrong later is noted instead.
    pub fn hold(&mut self, flag: Flag, reason: &'static str) {
        if self.flag == Flag::None {
            (self.flag, self.reason, self.is_only_held) = (flag, Some(reason.into()), true);
        }
    }

    /// Notes what went wrong; the first cause stays.
    pub fn blame(&mut self, flag: Flag, reason: impl Into<Cow<'static, str>>) {
        if self.flag == Flag::None || self.is_only_held {
            self.is_only_held = false;
            self.flag = flag;
            self.reason = Some(reason.into());
        }
    }
}
