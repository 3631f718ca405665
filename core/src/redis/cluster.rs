//! A Redis for the tasks of one core: a command goes to the node that has its key, wherever that is by now, and comes back
//! with an answer or the reason for none.
//!
//! A command runs at most once: it is sent again only while it cannot have run. A read runs as often as it takes.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringway_proto::resp::{Reply, key_slot};

use super::call::Fate;
use super::error::RedisError;
use super::inner::{Inner, PushHook};
use super::keeper;
use super::node::{Node, NotTaken};
use super::plan::RedisPlan;
use super::redirect::{self, Redirect};
use crate::mesh::Notice;
use crate::net::{Net, spawn};
use crate::observe::RedisMeters;
use crate::observe::core_meters::{add, sub};

/// How often a command is sent on. One is usual, two where a table is old twice over.
const REDIRECTS_MAX: u32 = 5;
/// Before the first try again; twice as long before each further one, up to the longest.
const WAIT_FIRST: Duration = Duration::from_millis(4);
const WAIT_MAX: Duration = Duration::from_millis(64);

/// This core's client of one Redis, a cluster or a single server. Dropping it ends its connections.
pub struct Cluster {
    inner: Rc<Inner>,
}

impl Cluster {
    /// Begins to look for the nodes. Commands may be given at once.
    pub fn start(core: usize, net: &Rc<Net>, plan: &RedisPlan, meters: Rc<RedisMeters>) -> Cluster {
        let inner = Inner::new(core, net.clone(), plan.clone(), meters);
        spawn(keeper::keep(inner.clone()));
        Cluster { inner }
    }

    /// Serves by another plan from the next connection on.
    pub fn follow(&self, plan: &RedisPlan) {
        if *self.inner.plan() != *plan {
            self.inner.follow(plan.clone());
        }
    }

    /// As it is configured.
    pub fn name(&self) -> String {
        self.inner.plan().config.name.clone()
    }

    pub fn is_named(&self, name: &str) -> bool {
        self.inner.plan().config.name == name
    }

    /// That a command has, with all tries.
    pub fn timeout(&self) -> Duration {
        self.inner.plan().config.timeout
    }

    pub fn net(&self) -> &Rc<Net> {
        &self.inner.net
    }

    /// Tells the operator of something that has to do with this Redis.
    pub fn notice(&self, notice: Notice) {
        self.inner.notice(notice);
    }

    pub fn meters(&self) -> &Rc<RedisMeters> {
        &self.inner.meters
    }

    /// What has changed since the last call, for the operator.
    pub fn take_notices(&self) -> Vec<Notice> {
        self.inner.take_notices()
    }

    /// Who hears what nodes push (RESP3). One at a time.
    pub fn on_push(&self, hook: impl Fn(SocketAddr, &[Reply]) + 'static) {
        let hook: PushHook = Rc::new(hook);
        self.inner.set_push_hook(hook);
    }

    /// Gives a command to the master that has `key`. An error of the server is an `Err`.
    ///
    /// # Errors
    /// [`RedisError`]; its `may_have_run` says whether anything can have come of it.
    pub async fn command(&self, key: &[u8], args: &[&[u8]]) -> Result<Reply, RedisError> {
        self.errand(key, false).await_answer(args).await
    }

    /// The same for a command that only reads: it may be sent twice, and to a replica where `read_from` says so.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn read(&self, key: &[u8], args: &[&[u8]]) -> Result<Reply, RedisError> {
        self.errand(key, true).await_answer(args).await
    }

    pub(super) fn errand(&self, key: &[u8], reads: bool) -> Errand<'_> {
        let inner = &self.inner;
        let until_ms = inner.net.now_ms() + inner.plan().config.timeout.as_millis() as u64;
        Errand { inner, slot: key_slot(key), reads, until_ms, redirects: 0, wait: WAIT_FIRST }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.inner.close();
    }
}

/// One command on its way, however often it is sent.
pub(super) struct Errand<'a> {
    pub inner: &'a Rc<Inner>,
    slot: u16,
    reads: bool,
    until_ms: u64,
    redirects: u32,
    wait: Duration,
}

impl Errand<'_> {
    async fn await_answer(mut self, args: &[&[u8]]) -> Result<Reply, RedisError> {
        let answer = self.run(args).await;
        self.conclude(answer)
    }

    /// Counts, and makes the server's error one of ours.
    pub fn conclude(&self, answer: Result<(Rc<Node>, Reply), RedisError>) -> Result<Reply, RedisError> {
        let meters = &self.inner.meters;
        add(&meters.commands, 1);
        let answer = match answer {
            Ok((node, Reply::Error(text))) => Err(RedisError::Refused { node: node.label.clone(), text }),
            Ok((_, reply)) => Ok(reply),
            Err(error) => Err(error),
        };
        answer.inspect_err(|error| {
            let kind = match error {
                RedisError::QueueFull { .. } => &meters.errors_queue_full,
                RedisError::TimedOut { .. } => &meters.errors_timeout,
                RedisError::Unreachable { .. } => &meters.errors_unreachable,
                RedisError::Lost { .. } => &meters.errors_lost,
                RedisError::Unavailable { .. } => &meters.errors_unavailable,
                RedisError::Redirected { .. } => &meters.errors_redirected,
                RedisError::Refused { .. } => &meters.errors_refused,
            };
            add(kind, 1);
        })
    }

    /// Until some node has answered it, or the time is over. The answer may be an error, but none that sends us elsewhere.
    pub async fn run(&mut self, args: &[&[u8]]) -> Result<(Rc<Node>, Reply), RedisError> {
        let mut sent_on: Option<(Rc<Node>, bool)> = None;
        loop {
            let by_table =
                || self.inner.node_for(self.slot, self.reads && self.reads_replicas()).map(|node| (node, false));
            let Some((node, asking)) = sent_on.take().or_else(by_table) else {
                let why = "no name of its nodes is resolved";
                let error =
                    RedisError::Unreachable { node: self.inner.plan().config.name.as_str().into(), why: why.into() };
                self.pause(error).await?;
                continue;
            };
            match self.send(&node, asking, args).await {
                Ok(Reply::Error(text)) => match redirect::parse(&text, node.address.ip()) {
                    None => return Ok((node, Reply::Error(text))),
                    Some(Redirect::Later) => {
                        if text.starts_with(b"CLUSTERDOWN") {
                            node.doubt(self.inner.net.now_ms());
                        }
                        self.pause(RedisError::Unavailable { node: node.label.clone(), text }).await?;
                    }
                    Some(redirect) => {
                        self.redirects += 1;
                        if self.redirects > REDIRECTS_MAX {
                            return Err(RedisError::Redirected { text });
                        }
                        sent_on = self.follow(redirect);
                    }
                },
                Ok(reply) => return Ok((node, reply)),
                Err(error @ RedisError::Unreachable { .. }) => self.pause(error).await?,
                Err(error @ RedisError::Lost { .. }) if self.reads => self.pause(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// One try at one node.
    pub async fn send(&self, node: &Rc<Node>, asking: bool, args: &[&[u8]]) -> Result<Reply, RedisError> {
        let label = || node.label.clone();
        let call = node.submit(self.inner, asking, args).map_err(|why| match why {
            NotTaken::Full => RedisError::QueueFull { node: label() },
            NotTaken::Down(why) => RedisError::Unreachable { node: label(), why },
        })?;
        self.inner.calls.answer(&self.inner.net, call, self.until_ms).await.map_err(|fate| match fate {
            Fate::NotSent(why) => RedisError::Unreachable { node: label(), why },
            Fate::Unanswered(why) => RedisError::Lost { node: label(), why },
            Fate::TimedOut { sent } => {
                self.inner.want_refresh(); // its node may be dead without anybody's saying so
                RedisError::TimedOut { node: label(), sent }
            }
        })
    }

    fn reads_replicas(&self) -> bool {
        self.inner.plan().config.read_from == ringway_config::snapshot::ReadFrom::Replica
    }

    fn follow(&self, redirect: Redirect) -> Option<(Rc<Node>, bool)> {
        match redirect {
            Redirect::Moved { slot, to } => {
                add(&self.inner.meters.moved, 1);
                self.inner.want_refresh();
                let node = self.inner.node(to)?;
                self.inner.slots.borrow_mut().learn(slot, node.clone());
                Some((node, false))
            }
            Redirect::Ask { to } => {
                add(&self.inner.meters.asked, 1);
                Some((self.inner.node(to)?, true))
            }
            Redirect::Later => None,
        }
    }

    /// Waits before the next try; `error` if there is no time for one.
    async fn pause(&mut self, error: RedisError) -> Result<(), RedisError> {
        self.inner.want_refresh();
        let next_ms = self.inner.net.now_ms() + self.wait.as_millis() as u64;
        if next_ms >= self.until_ms {
            return Err(error);
        }
        add(&self.inner.meters.retries, 1);
        self.inner.net.sleep(self.wait).await;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        Ok(())
    }

    /// Waits until something else is done, as long as the time allows; false: it does not.
    pub async fn linger(&self) -> bool {
        self.inner.net.sleep(WAIT_FIRST).await;
        self.inner.net.now_ms() < self.until_ms
    }
}

/// Keeps a gauge of 0 or 1.
pub(super) fn set(gauge: &std::cell::Cell<u64>, on: bool) {
    match (gauge.get(), on) {
        (0, true) => add(gauge, 1),
        (1, false) => sub(gauge, 1),
        _ => {}
    }
}
