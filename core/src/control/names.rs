//! DNS off the shards: names are asked here, again and again; the last good answer is kept. Builds no plan.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use ringway_config::Snapshot;
use ringway_config::snapshot::EndpointAddress;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::say;
use crate::plan;

/// Lookups under way at a time; each blocks a thread of the pool.
pub const LOOKUPS_MAX: usize = 4;
/// How long a start or a reload waits for names it has not met before.
pub const FIRST_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// A name without an answer is asked again this soon, or sooner if `dns_refresh` says so.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A cluster may be asked for its nodes more often than that, but not the resolver for its seeds.
const REDIS_REFRESH_MIN: Duration = Duration::from_secs(1);
/// Refreshes are spread over this share of their interval, so that names do not all fall due at once.
const JITTER_PERCENT: u64 = 10;
/// Addresses of one name that are used.
const ADDRESSES_MAX: usize = 256;

/// How a name is looked up; the system's resolver but in tests.
pub type Lookup = fn(&str) -> Result<Vec<IpAddr>, String>;

pub struct Names {
    hosts: RefCell<BTreeMap<String, Host>>,
    lookup: Lookup,
    slots: Semaphore,
    /// Some answer came, or hosts were added.
    news: Notify,
    /// An answer differs from the one before.
    pub changed: Notify,
    jitter: Cell<u64>,
}

struct Host {
    /// The last good answer, sorted; empty: there was none yet.
    addresses: Vec<IpAddr>,
    refresh: Duration,
    due: Instant,
    is_asked: bool,
    /// Some lookup has ended, well or not.
    is_answered: bool,
    is_failing: bool,
}

/// All names at one moment, for a plan that is built elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known(BTreeMap<String, Vec<IpAddr>>);

impl plan::Names for Known {
    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        self.0.get(host).cloned().unwrap_or_default()
    }
}

impl Names {
    pub fn new(lookup: Lookup, seed: u64) -> Names {
        Names {
            hosts: RefCell::default(),
            lookup,
            slots: Semaphore::new(LOOKUPS_MAX),
            news: Notify::new(),
            changed: Notify::new(),
            jitter: Cell::new(seed),
        }
    }

    /// Makes the snapshot's names known, and waits for the answers of new ones, but not for long.
    pub async fn learn(&self, snapshot: &Snapshot) {
        let now = Instant::now();
        for (name, refresh) in wanted(snapshot) {
            let mut hosts = self.hosts.borrow_mut();
            let host = hosts.entry(name).or_insert_with(|| Host {
                addresses: Vec::new(),
                refresh,
                due: now,
                is_asked: false,
                is_answered: false,
                is_failing: false,
            });
            host.refresh = refresh;
            host.due = host.due.min(now + refresh);
        }
        self.news.notify_waiters();
        let deadline = now + FIRST_ANSWER_TIME_MAX;
        let all_known = || {
            let hosts = self.hosts.borrow();
            wanted(snapshot).keys().all(|name| hosts.get(name).is_none_or(|host| host.is_answered))
        };
        while !all_known() {
            if timeout_at(deadline, self.news.notified()).await.is_err() {
                break;
            }
        }
    }

    /// Forgets the names that the snapshot does not have.
    pub fn keep_only(&self, snapshot: &Snapshot) {
        let wanted = wanted(snapshot);
        self.hosts.borrow_mut().retain(|name, _| wanted.contains_key(name));
    }

    pub fn known(&self) -> Known {
        Known(self.hosts.borrow().iter().map(|(name, host)| (name.clone(), host.addresses.clone())).collect())
    }

    /// Asks whatever is due, for ever.
    pub async fn refresh(self: Rc<Self>) {
        loop {
            let now = Instant::now();
            let due: Vec<String> = {
                let mut hosts = self.hosts.borrow_mut();
                let due = hosts.iter_mut().filter(|(_, host)| !host.is_asked && host.due <= now);
                due.map(|(name, host)| {
                    host.is_asked = true;
                    name.clone()
                })
                .collect()
            };
            for name in due {
                tokio::task::spawn_local(self.clone().ask(name));
            }
            let next = self.hosts.borrow().values().filter(|host| !host.is_asked).map(|host| host.due).min();
            let news = self.news.notified();
            match next {
                Some(next) => tokio::select! { () = sleep_until(next) => {}, () = news => {} },
                None => news.await,
            }
        }
    }

    async fn ask(self: Rc<Self>, name: String) {
        let Ok(_slot) = self.slots.acquire().await else { return };
        let (lookup, host) = (self.lookup, name.clone());
        let answer = tokio::task::spawn_blocking(move || lookup(&host)).await;
        self.learn_answer(&name, answer.unwrap_or_else(|error| Err(error.to_string())));
        self.news.notify_waiters();
    }

    fn learn_answer(&self, name: &str, answer: Result<Vec<IpAddr>, String>) {
        let mut hosts = self.hosts.borrow_mut();
        let Some(host) = hosts.get_mut(name) else { return };
        (host.is_asked, host.is_answered) = (false, true);
        match answer {
            Ok(mut addresses) if !addresses.is_empty() => {
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(ADDRESSES_MAX);
                if std::mem::take(&mut host.is_failing) {
                    say(&format!("{name} is resolved again"));
                }
                if host.addresses != addresses {
                    host.addresses = addresses;
                    self.changed.notify_one();
                }
                host.due = Instant::now() + self.jittered(host.refresh);
            }
            failed => {
                let why = failed.err().unwrap_or_else(|| "it has no address".to_owned());
                if !std::mem::replace(&mut host.is_failing, true) {
                    let then = match host.addresses.len() {
                        0 => "requests to it get a 503 until it can".to_owned(),
                        count => format!("its last {count} addresses stay in use"),
                    };
                    say(&format!("{name} cannot be resolved: {why}; {then}"));
                }
                host.due = Instant::now() + self.jittered(host.refresh.min(RETRY_AFTER));
            }
        }
    }

    /// xorshift64, which is enough to spread timers by.
    fn jittered(&self, interval: Duration) -> Duration {
        let mut state = self.jitter.get() | 1;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.jitter.set(state);
        let spread = (interval.as_millis() as u64 * JITTER_PERCENT / 100).max(1);
        interval.saturating_sub(Duration::from_millis(spread / 2)) + Duration::from_millis(state % spread)
    }
}

/// Names, each with the shortest refresh of those that have it.
fn wanted(snapshot: &Snapshot) -> BTreeMap<String, Duration> {
    let mut wanted: BTreeMap<String, Duration> = BTreeMap::new();
    let mut want = |address: &EndpointAddress, often: Duration| {
        if let EndpointAddress::Dns { host, .. } = address {
            let refresh = wanted.entry(host.clone()).or_insert(often);
            *refresh = often.min(*refresh);
        }
    };
    for cluster in &snapshot.clusters {
        for endpoint in &cluster.endpoints {
            want(&endpoint.address, cluster.dns_refresh);
        }
    }
    for redis in &snapshot.process.redis {
        redis.nodes.iter().for_each(|node| want(node, redis.refresh.max(REDIS_REFRESH_MIN)));
    }
    wanted
}

/// getaddrinfo(3), and with it `/etc/hosts` and whatever else the machine is set up for. Blocks.
pub fn system_lookup(host: &str) -> Result<Vec<IpAddr>, String> {
    use std::net::ToSocketAddrs;
    let found = (host, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    Ok(found.map(|address| address.ip()).collect())
}

#[cfg(test)]
mod tests;
