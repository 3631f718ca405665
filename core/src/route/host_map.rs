//! From a request's host to the one host pattern that applies, for what hangs on hosts beside routes. The same rules as
//! for routes.

use super::hosts::{ANY, Hosts, Named};
use ringway_config::snapshot::HostPattern;

/// Host patterns by number, in the order they were given.
pub struct HostMap {
    /// Keyed afresh for each map, since clients choose what is hashed.
    hasher: ahash::RandomState,
    hosts: Hosts,
}

impl HostMap {
    pub fn new<'a>(patterns: impl Iterator<Item = &'a HostPattern>) -> HostMap {
        let hasher = ahash::RandomState::new();
        let named: Vec<Named<'_>> = patterns.map(|pattern| Named::new(pattern, 0)).collect();
        HostMap { hosts: Hosts::new(0, &named, &hasher), hasher }
    }

    /// The number of the most specific pattern that matches: the exact one, then the longest wildcard.
    pub fn find(&self, host: &[u8]) -> Option<usize> {
        match self.hosts.find(host, &self.hasher) {
            ANY => None,
            entry => Some(Hosts::place(entry)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_pattern_applies() {
        let wildcard = |name: &str| HostPattern::Wildcard(name.to_owned());
        let patterns = [wildcard("test"), HostPattern::Exact("www.a.test".to_owned()), wildcard("a.test")];
        let map = HostMap::new(patterns.iter());
        for (host, wanted) in [
            ("WWW.a.test.", Some(1)),
            ("x.a.test", Some(2)),
            ("y.x.a.test", Some(2)),
            ("a.test", Some(0)),
            ("test", None),
            ("", None),
        ] {
            assert_eq!(map.find(host.as_bytes()), wanted, "{host}");
        }
        assert_eq!(HostMap::new([].iter()).find(b"a"), None);
    }
}
