//! Limits that a fleet of gateways shares through Redis: asks it for what the node's account says, by one atomic function,
//! off the requests' way wherever it can. What is lent, owed and done without Redis is `mesh/budget`'s.
//!
//! One question of a key is open at a time on the node. Requests that have come in vain wait for its answer; so does
//! nobody while something is left, since more is asked for when half of it is gone.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ahash::{AHashMap, AHashSet};
use bytes::Bytes;
use ringway_proto::resp::key_slot;
use tokio::sync::Notify;

use super::limit::Limit;
use crate::mesh::budget::{Base, Begin, Calendar, Fleet as Terms, Grant, KeyName, Moment, Question, Span, Store};
use crate::mesh::{Fleet, Notice};
use crate::net::{Net, spawn};
use crate::redis::{Cluster, Library, RedisError, Reply};

const LIBRARY: Library = Library { name: "ringway_limits_1", code: include_str!("fleet.lua") };
/// Beyond the time that a command has.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often a request looks again that waits for another core's question.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// A part of Redis that did not answer is not asked for so long.
const AWAY: Duration = Duration::from_millis(100);
/// Reports of a tick; what is left waits for the next one.
const REPORTS_MAX: usize = 64;
/// Accounts that a tick looks at, each under its lock: some 0.2 ms. An outage leaves every key of the table here.
const LOOKS_MAX: usize = 2048;
/// A gateway that has not been heard of for so long is taken for dead.
const DEAD_AFTER: Duration = Duration::from_millis(3500);
/// The name of what new keys share when the table is full.
pub const OVERFLOW: KeyName = [0; 16];

/// What a rule needs to ask, on every core.
#[derive(Debug, Clone)]
pub struct FleetSpec {
    /// The name of its `[redis.NAME]`.
    pub redis: String,
    pub terms: Terms,
    pub node: Arc<Fleet>,
}

/// What one core has under way for a rule.
#[derive(Default)]
pub struct Underway {
    /// By account.
    asked: RefCell<AHashMap<usize, Rc<OpenQuestion>>>,
    lent: RefCell<Lent>,
}

/// Accounts that may hold what is not used any more, or owe what nobody else tells: they are looked at in turn.
#[derive(Default)]
struct Lent {
    known: AHashSet<usize>,
    turn: VecDeque<Holder>,
}

struct Holder {
    store: Arc<Store>,
    /// Of its key in Redis.
    slot: u16,
}

#[derive(Default)]
pub struct OpenQuestion {
    notify: Notify,
    is_over: Cell<bool>,
}

/// What a request can wait for.
pub enum Asked {
    Answer(Rc<OpenQuestion>),
    /// Another core asks.
    Elsewhere,
    /// There is nothing to wait for.
    No,
}

impl Lent {
    fn add(&mut self, store: &Arc<Store>, slot: u16) {
        if self.known.insert(id_of(store)) {
            self.turn.push_back(Holder { store: store.clone(), slot });
        }
    }

    /// The one that was not looked at for the longest time; to be kept or forgotten.
    fn next(&mut self) -> Option<Holder> {
        self.turn.pop_front()
    }

    fn keep(&mut self, holder: Holder) {
        self.turn.push_back(holder);
    }

    fn forget(&mut self, holder: &Holder) {
        self.known.remove(&id_of(&holder.store));
    }
}

/// Nobody else's as long as the store is held.
fn id_of(store: &Arc<Store>) -> usize {
    Arc::as_ptr(store) as usize
}

impl Asked {
    pub async fn wait(self, net: Rc<Net>) {
        match self {
            Asked::Answer(question) if question.is_over.get() => {}
            Asked::Answer(question) => question.notify.notified().await,
            Asked::Elsewhere => net.sleep(LOOK_AGAIN).await,
            Asked::No => {}
        }
    }
}

/// The longest that somebody waits for an answer.
pub fn patience(redis: &Cluster) -> Duration {
    redis.timeout() + PATIENCE
}

impl Limit {
    /// Asks Redis for more, if nobody does and there is need.
    pub fn ask(self: &Rc<Self>, spec: &FleetSpec, redis: &Rc<Cluster>, store: Arc<Store>, name: KeyName) -> Asked {
        let account = store.account();
        let id = id_of(&store);
        if let Some(open) = self.underway.asked.borrow().get(&id) {
            return Asked::Answer(open.clone());
        }
        let key = self.redis_key(account.name(|| name));
        let (now, slot) = (moment(redis.net()), key_slot(&key));
        let gateways = spec.node.gateways.get();
        self.underway.lent.borrow_mut().add(&store, slot);
        if spec.node.is_away(slot, now.ns) {
            account.failed(&spec.terms, &now, gateways, None, false);
            return Asked::No;
        }
        match account.begin(&spec.terms, &now, gateways, patience(redis).as_nanos() as u64) {
            Begin::No => Asked::No,
            Begin::Underway => Asked::Elsewhere,
            Begin::Ask(question) => {
                let open = Rc::<OpenQuestion>::default();
                self.underway.asked.borrow_mut().insert(id, open.clone());
                spawn(self.clone().put(spec.clone(), redis.clone(), store, key, question));
                Asked::Answer(open)
            }
        }
    }

    async fn put(
        self: Rc<Self>,
        spec: FleetSpec,
        redis: Rc<Cluster>,
        store: Arc<Store>,
        key: Vec<u8>,
        question: Question,
    ) {
        let gateways = spec.terms.gateways(spec.node.gateways.get());
        let (function, args) = call(&spec.terms, gateways, &question);
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        let answer = redis.function(&LIBRARY, function, &[&key], &args).await;
        let (account, now) = (store.account(), moment(redis.net()));
        let (slot, counts) = (key_slot(&key), &self.spec.rule.counts);
        match answer.and_then(|reply| read(&reply)) {
            Ok(Told { lent: Some(grant), .. }) => {
                spec.node.note_back(slot);
                account.granted(&question, &now, &grant);
                counts.lent.add(1);
            }
            Ok(Told { lent: None, wait_ns, stands }) => {
                spec.node.note_back(slot);
                account.refused(&spec.terms, &now, wait_ns, &stands);
                counts.refused.add(1);
            }
            Err(error) => {
                spec.node.note_away(slot, now.ns + AWAY.as_nanos() as u64);
                self.underway.lent.borrow_mut().add(&store, slot); // it owes again
                account.failed(&spec.terms, &now, gateways, Some(&question), error.may_have_run());
                counts.failed.add(1);
            }
        }
        if let Some(open) = self.underway.asked.borrow_mut().remove(&id_of(&store)) {
            open.is_over.set(true);
            open.notify.notify_waiters();
        }
    }

    /// Tells Redis what was not used of keys that nobody asks for any more, and what has passed without it.
    pub fn report(self: &Rc<Self>, spec: &FleetSpec, redis: &Rc<Cluster>) {
        let (now, patience_ns) = (moment(redis.net()), patience(redis).as_nanos() as u64);
        let (mut begun, looks) = (0, self.underway.lent.borrow().turn.len().min(LOOKS_MAX));
        for _ in 0..looks {
            if begun == REPORTS_MAX {
                break;
            }
            let Some(holder) = self.underway.lent.borrow_mut().next() else { break };
            match self.begin_report(spec, &holder, &now, patience_ns) {
                Ok((key, question)) => {
                    begun += 1;
                    spawn(self.clone().put(spec.clone(), redis.clone(), holder.store.clone(), key, question));
                    self.underway.lent.borrow_mut().keep(holder);
                }
                Err(true) => self.underway.lent.borrow_mut().keep(holder),
                Err(false) => self.underway.lent.borrow_mut().forget(&holder),
            }
        }
    }

    /// As the account's. A part of Redis that has failed is asked by one report at a time, until it answers.
    fn begin_report(
        &self,
        spec: &FleetSpec,
        holder: &Holder,
        now: &Moment,
        patience_ns: u64,
    ) -> Result<(Vec<u8>, Question), bool> {
        let Holder { store, slot } = holder;
        let is_asked = self.underway.asked.borrow().contains_key(&id_of(store));
        if is_asked || spec.node.is_away(*slot, now.ns) {
            return Err(true);
        }
        let in_doubt = spec.node.is_away(*slot, 0);
        let name = store.account().known_name().ok_or(false)?;
        let question = store.account().begin_report(now, patience_ns, in_doubt)?;
        if in_doubt {
            spec.node.note_away(*slot, now.ns + patience_ns.max(AWAY.as_nanos() as u64));
        }
        Ok((self.redis_key(name), question))
    }

    fn redis_key(&self, name: &KeyName) -> Vec<u8> {
        let kind = match self.spec.fleet.as_ref().map(|fleet| fleet.terms.base) {
            Some(Base::Period(period)) => match period.span() {
                Span::Fixed { ns } => format!("f{}", ns / 1_000_000),
                Span::Sliding { ns } => format!("s{}", ns / 1_000_000),
                Span::Calendar(Calendar::Day) => "day".to_owned(),
                Span::Calendar(Calendar::Month) => "month".to_owned(),
            },
            Some(Base::Pace(_)) | None => "b".to_owned(),
        };
        let mut key = format!("ringway:limit:{}:{kind}:", self.spec.name).into_bytes();
        key.extend(
            name.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| b"0123456789abcdef"[usize::from(digit)]),
        );
        key
    }
}

/// Says that this gateway lives, and learns how many do.
pub fn beat(redis: &Rc<Cluster>, node: &Arc<Fleet>) {
    let (redis, node) = (redis.clone(), node.clone());
    spawn(async move {
        let dead_after = DEAD_AFTER.as_millis().to_string();
        let args = [node.id().as_bytes(), dead_after.as_bytes()];
        let name = redis.name();
        match redis.function(&LIBRARY, "ringway_beat_1", &[b"ringway:gateways"], &args).await {
            Ok(Reply::Integer(count)) => {
                node.gateways.set(u64::try_from(count).unwrap_or(1).max(1));
                redis.notice(Notice { subject: format!("redis {name} limits"), well: true, text: String::new() });
            }
            // What cannot be reached says so itself.
            Err(error @ RedisError::Refused { .. }) => {
                let text = format!("redis {name}: limits of the fleet cannot use it: {error}");
                redis.notice(Notice { subject: format!("redis {name} limits"), well: false, text });
            }
            Ok(_) | Err(_) => {}
        }
    });
}

fn moment(net: &Net) -> Moment {
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Moment { ns: net.node_ns(), unix_s }
}

/// The function and its arguments; `fleet.lua` says what they mean.
fn call(terms: &Terms, gateways: u64, question: &Question) -> (&'static str, Vec<String>) {
    let us = |ns: u64| (ns as f64 / 1e3).to_string();
    let Question { least, ahead, debt, over, .. } = question;
    let numbers = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>();
    let asked = [gateways, *least, *ahead, *debt];
    let (function, mut args) = match terms.base {
        Base::Pace(pace) => {
            let mut args = vec![us(pace.token_ns()), pace.burst().to_string(), us(terms.lease_ns)];
            args.extend(numbers(&asked));
            args.push(terms.lent_max().to_string());
            ("ringway_bucket_1", args)
        }
        Base::Period(period) => {
            let (kind, length_ns) = match period.span() {
                Span::Fixed { ns } => (0, ns),
                Span::Sliding { ns } => (1, ns),
                Span::Calendar(Calendar::Day) => (2, 0),
                Span::Calendar(Calendar::Month) => (3, 0),
            };
            let mut args = vec![kind.to_string(), us(length_ns), period.limit().to_string()];
            args.extend(numbers(&asked));
            args.push(us(terms.lease_ns));
            ("ringway_period_1", args)
        }
    };
    over.iter().for_each(|over| args.extend(numbers(&[over.epoch, over.amount, over.unused])));
    (function, args)
}

struct Told {
    /// `None`: refused, for so long at least.
    lent: Option<Grant>,
    wait_ns: u64,
    /// How the budget stands.
    stands: Grant,
}

/// # Errors
/// It is no answer of our functions.
fn read(reply: &Reply) -> Result<Told, RedisError> {
    let wrong = || RedisError::Refused {
        node: "the fleet's limits".into(),
        text: Bytes::from_static(b"no answer of our functions"),
    };
    let Reply::List(list) = reply else { return Err(wrong()) };
    let number = |at: usize| list.get(at).and_then(Reply::integer).ok_or_else(wrong);
    let ns = |at: usize| Ok(u64::try_from(number(at)?).unwrap_or(0).saturating_mul(1000));
    let lent = u64::try_from(number(0)?).ok();
    let stands = Grant {
        amount: lent.unwrap_or(0),
        epoch: u64::try_from(number(1)?).unwrap_or(0),
        valid_ns: ns(5)?,
        left: u64::try_from(number(3)?).unwrap_or(0),
        reset_ns: ns(4)?,
    };
    Ok(Told { lent: lent.map(|_| stands), wait_ns: ns(2)?, stands })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::budget::{Pace, Terms as AllTerms, WhenAway};

    #[test]
    fn who_may_owe_is_looked_at_in_turn_and_once() {
        let pace = Pace::new(1, Duration::from_secs(1), 1).unwrap();
        let cost = std::num::NonZeroU64::MIN;
        let when_away = WhenAway::Open;
        let fleet = Terms { base: Base::Pace(pace), lease_ns: 1, when_away, cost, gateways_min: 1 };
        let stores: Vec<Arc<Store>> = (0..3).map(|_| Arc::new(AllTerms::Fleet(fleet).store())).collect();
        let mut lent = Lent::default();
        for slot in [0, 1, 2, 1, 0] {
            lent.add(&stores[usize::from(slot)], slot);
        }
        let mut seen = Vec::new();
        while seen.len() < 6 {
            let holder = lent.next().unwrap();
            seen.push(holder.slot);
            match seen.len() {
                2 => lent.forget(&holder),
                _ => lent.keep(holder),
            }
        }
        assert_eq!(seen, [0, 1, 2, 0, 2, 0]);
        assert_eq!(Arc::strong_count(&stores[1]), 1, "nobody holds it any more");
        lent.add(&stores[1], 1);
        assert_eq!((0..3).filter_map(|_| lent.next()).map(|holder| holder.slot).collect::<Vec<_>>(), [2, 0, 1]);
    }
}
