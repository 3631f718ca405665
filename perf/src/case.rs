//! The cases of a side-by-side run: what is asked, by how many connections, of whom.

use crate::clients::{LOCAL_PATH, Mode};
use crate::report::OURS;
use crate::trial::Asked;

#[derive(Debug, PartialEq, Eq)]
pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    pub path: &'static str,
    pub mode: Mode,
    pub connections: usize,
    /// The gateway shares its core with a spinning thread, since the load would not fill it (`ballast`).
    pub ballast: bool,
    /// Requests bring a token and say which page they come from (`access`).
    pub with_token: bool,
    /// The only arms that take part, if not all that can; the others are set against the first.
    pub only: Option<&'static [&'static str]>,
    /// Pairs of each arm with ours, if nobody asks for another number.
    pub rounds: usize,
}

impl Case {
    pub fn named(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }

    pub fn asked(&self) -> Asked {
        let Case { path, mode, connections, ballast, with_token, .. } = *self;
        Asked::Closed { path, mode, connections, ballast, with_token }
    }

    /// The arm that the others are set against.
    pub fn base(&self) -> &'static str {
        self.only.and_then(|only| only.first()).copied().unwrap_or(OURS)
    }

    pub fn is_local(&self) -> bool {
        self.path == LOCAL_PATH
    }
}

const fn plain(name: &'static str, title: &'static str, path: &'static str, connections: usize) -> Case {
    Case {
        name,
        title,
        path,
        mode: Mode::KeepAlive,
        connections,
        ballast: false,
        with_token: false,
        only: None,
        rounds: ROUNDS,
    }
}

/// What the bars against rivals ask for.
pub const ROUNDS: usize = 9;
/// A difference of some percent wants more.
const ROUNDS_OF_OURS: usize = 20;

pub const CASES: &[Case] = &[
    plain("plain-100b-64", "100 B answers, 64 keep-alive connections", "/b100", 64),
    plain("plain-1k-64", "1 KiB answers, 64 keep-alive connections", "/b1k", 64),
    plain("plain-10k-64", "10 KiB answers, 64 keep-alive connections", "/b10k", 64),
    plain("plain-100k-64", "100 KiB answers, 64 keep-alive connections", "/b100k", 64),
    plain("plain-100b-512", "100 B answers, 512 keep-alive connections", "/b100", 512),
    plain("plain-1k-512", "1 KiB answers, 512 keep-alive connections", "/b1k", 512),
    plain("plain-10k-512", "10 KiB answers, 512 keep-alive connections", "/b10k", 512),
    plain("plain-100k-512", "100 KiB answers, 512 keep-alive connections", "/b100k", 512),
    Case {
        mode: Mode::Close,
        ballast: true,
        ..plain("close-100b-64", "100 B answers, a connection per request, 64 at once", "/b100", 64)
    },
    plain("fixed-100b-64", "100 B answered by the gateway itself, 64 keep-alive connections", LOCAL_PATH, 64),
    Case { mode: Mode::Upload, ..plain("upload-1m-64", "1 MiB uploads, 64 keep-alive connections", "/upload", 64) },
    Case {
        only: Some(&["ringway", "ringway-2-shards"]),
        ..plain("shards-100b-128", "one shard or two on the same core, 100 B answers, 128 connections", "/b100", 128)
    },
    Case {
        only: Some(&["ringway-3-endpoints", "ringway-resilient"]),
        rounds: ROUNDS_OF_OURS,
        ..plain(
            "resilience-100b-64",
            "every rule of resilience or none, 3 endpoints, 100 B, 64 connections",
            "/b100",
            64,
        )
    },
    Case {
        only: Some(&["ringway", "ringway-access", "ringway-access-unremembered", "haproxy-access"]),
        with_token: true,
        rounds: ROUNDS_OF_OURS,
        ..plain(
            "access-100b-64",
            "JWT (HS256), roles, a rate limit and CORS, or none of them, 100 B, 64 connections",
            "/b100",
            64,
        )
    },
];

/// Shares of the slowest measured capacity at which latency is compared.
pub const LATENCY_LOADS_PERCENT: [u32; 2] = [50, 80];
pub const LATENCY_CONNECTIONS: usize = 64;
pub const LATENCY_PATH: &str = "/b100";
/// The arms whose latency is compared; `direct` is the load asking its own origin.
pub const LATENCY_ARMS: [&str; 4] = ["ringway", "haproxy", "nginx", "direct"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (index, case) in CASES.iter().enumerate() {
            assert!(CASES[..index].iter().all(|other| other.name != case.name), "{}", case.name);
            assert_eq!(Case::named(case.name), Some(case));
        }
        assert_eq!(Case::named("nonsense"), None);
    }
}
