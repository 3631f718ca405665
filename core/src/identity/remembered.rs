//! What one core remembers of tokens: those whose signature was good, those that were refused, and who brings bad ones.
//!
//! Only what cannot change is remembered: that a key of this issuer made this signature. Dates, audiences and claims are
//! judged on each request. What was remembered is void once the issuer's configuration or its keys have changed.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::cache::TextCache;
use super::issuer::IssuerPlan;
use super::token::{Refused, Verified};

/// Tokens of one core. With 65 536 users a core, each verifies once per rotation of keys.
const GOOD_MAX: usize = 65_536;
const GOOD_BYTES_MAX: usize = 64 << 20;
/// Apart from the good ones, so that garbage drives none of them out.
const BAD_MAX: usize = 8192;
const BAD_BYTES_MAX: usize = 8 << 20;
/// Addresses that brought bad tokens lately.
const SOURCES_MAX: usize = 16_384;
const SOURCES_BYTES_MAX: usize = 4 << 20;

/// The memory of one core. Lives on over reloads.
pub struct Remembered {
    good: RefCell<TextCache<Good>>,
    bad: RefCell<TextCache<Bad>>,
    sources: RefCell<TextCache<Source>>,
}

struct Good {
    by: Stamp,
    verified: Rc<Verified>,
}

struct Bad {
    by: Stamp,
    refused: Refused,
    /// Milliseconds of the reactor's clock.
    until_ms: u64,
}

/// Failures of one address.
#[derive(Clone, Copy)]
struct Source {
    since_ms: u64,
    failures: u32,
}

/// An issuer's configuration and the version of its keys. Taken before a token is verified: if the keys change meanwhile,
/// what it came to is void at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64, u64);

impl Stamp {
    pub fn of(issuer: &IssuerPlan) -> Stamp {
        Stamp(issuer.stamp, issuer.node.keys.version())
    }
}

/// What is remembered of a token.
pub enum Recalled {
    Good(Rc<Verified>),
    Bad(Refused),
    Nothing,
}

/// How many bad tokens an address may bring to a core before further unknown ones are not even looked at.
#[derive(Debug, Clone, Copy)]
pub struct Spared {
    pub failures_max: u32,
    pub window: Duration,
}

impl Default for Remembered {
    fn default() -> Self {
        Remembered {
            good: RefCell::new(TextCache::of_signed(GOOD_MAX, GOOD_BYTES_MAX)),
            bad: RefCell::new(TextCache::new(BAD_MAX, BAD_BYTES_MAX)),
            sources: RefCell::new(TextCache::new(SOURCES_MAX, SOURCES_BYTES_MAX)),
        }
    }
}

impl Remembered {
    #[inline]
    pub fn recall(&self, token: &[u8], issuer: &IssuerPlan, now_ms: u64) -> Recalled {
        let by = Stamp::of(issuer);
        if let Some(good) = self.good.borrow().get(token).filter(|good| good.by == by) {
            return Recalled::Good(good.verified.clone());
        }
        match self.bad.borrow().get(token).filter(|bad| bad.by == by && now_ms < bad.until_ms) {
            Some(bad) => Recalled::Bad(bad.refused),
            None => Recalled::Nothing,
        }
    }

    pub fn keep_good(&self, token: &[u8], by: Stamp, verified: Rc<Verified>) {
        self.good.borrow_mut().insert(token, Good { by, verified }, Verified::weight(token.len()));
    }

    /// For this long: an unknown key may become known.
    pub fn keep_bad(&self, token: &[u8], by: Stamp, refused: Refused, now_ms: u64, time: Duration) {
        let until_ms = now_ms.saturating_add(time.as_millis() as u64);
        self.bad.borrow_mut().insert(token, Bad { by, refused, until_ms }, 0);
    }

    /// How long an address has to wait before an unknown token of it is looked at again; `None`: it need not.
    pub fn wait_of(&self, address: IpAddr, spared: Spared, now_ms: u64) -> Option<Duration> {
        let window_ms = spared.window.as_millis() as u64;
        let sources = self.sources.borrow();
        let source = sources.get(&prefix(address))?;
        let end_ms = source.since_ms + window_ms;
        let over = source.failures >= spared.failures_max && now_ms < end_ms;
        over.then(|| Duration::from_millis(end_ms - now_ms))
    }

    pub fn note_failure(&self, address: IpAddr, spared: Spared, now_ms: u64) {
        let key = prefix(address);
        let mut sources = self.sources.borrow_mut();
        let window_ms = spared.window.as_millis() as u64;
        let known = sources.get(&key).copied().filter(|source| now_ms < source.since_ms + window_ms);
        let Source { since_ms, failures } = known.unwrap_or(Source { since_ms: now_ms, failures: 0 });
        sources.insert(&key, Source { since_ms, failures: failures.saturating_add(1) }, 0);
    }
}

/// What one customer has: an IPv4 address, the first 64 bits of an IPv6 one.
fn prefix(address: IpAddr) -> [u8; 9] {
    let mut key = [0; 9];
    match address.to_canonical() {
        IpAddr::V4(address) => {
            key[0] = 4;
            key[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            key[0] = 6;
            key[1..].copy_from_slice(&address.octets()[..8]);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_too_often_waits_for_the_window_to_end() {
        let remembered = Remembered::default();
        let spared = Spared { failures_max: 3, window: Duration::from_secs(10) };
        let (bad, good): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(remembered.wait_of(bad, spared, 5000), None);
            remembered.note_failure(bad, spared, 5000);
        }
        assert_eq!(remembered.wait_of(bad, spared, 6000), Some(Duration::from_secs(9)));
        assert_eq!(remembered.wait_of(good, spared, 6000), None);
        assert_eq!(remembered.wait_of(bad, spared, 15_000), None);
        remembered.note_failure(bad, spared, 15_000);
        assert_eq!(remembered.wait_of(bad, spared, 15_001), None, "counted anew");
    }

    #[test]
    fn addresses_of_one_customer_are_one() {
        let key = |text: &str| prefix(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        let different = ["192.0.2.1", "192.0.2.2", "6.0.0.0", "2001:db8::", "2001:db8:0:1::", "0.0.0.0", "::"].map(key);
        let set: std::collections::HashSet<_> = different.into_iter().collect();
        assert_eq!(set.len(), 7);
    }
}
