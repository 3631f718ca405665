//! Why a request did not simply get its origin's answer: one flag per cause, as two letters in the log and metrics and
//! as a stable code in `application/problem+json`. Does not render the answer.
//!
//! The letters are Envoy's where Envoy has the cause. Two causes may share letters (the origin refused, the origin did
//! not answer the connect); each has its own code. `FLAGS.md` is generated from this table by a test.

/// Who made the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Source {
    Gateway = 0,
    Origin = 1,
}

impl Source {
    pub fn label(self) -> &'static str {
        match self {
            Source::Gateway => "gateway",
            Source::Origin => "origin",
        }
    }
}

macro_rules! flags {
    ($($variant:ident $letters:literal $code:literal $status:literal $title:literal $about:literal,)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Flag { $(#[doc = $about] $variant,)+ }

        impl Flag {
            pub const ALL: &'static [Flag] = &[$(Flag::$variant,)+];
        }

        const TABLE: &[Cause] =
            &[$(Cause { letters: $letters, code: $code, status: $status, title: $title, about: $about },)+];
    };
}

struct Cause {
    letters: &'static str,
    code: &'static str,
    status: u16,
    title: &'static str,
    about: &'static str,
}

flags! {
    None "-" "none" 200 "OK" "Nothing went wrong: the answer is the origin's, or one that the configuration asked for.",
    NoRoute "NR" "no_route" 404 "No route" "No route matches the request.",
    NoHealthyOrigin "UH" "no_healthy_origin" 503 "No healthy origin" "The cluster has no endpoint that may be used.",
    ConnectFailed "UF" "connect_failed" 502 "Origin connection failed"
        "The origin refused or reset the connection, or cannot be reached.",
    ConnectTimeout "UF" "connect_timeout" 504 "Origin connection timed out"
        "The origin did not take the connection within the connect timeout.",
    Overflow "UO" "overflow" 503 "Cluster overloaded"
        "A limit of the cluster is reached: of requests under way or waiting, or of connections.",
    CircuitOpen "UO" "circuit_open" 503 "Circuit open"
        "Most requests to the cluster failed a short while ago, so that its breaker spares it more.",
    OriginTimeout "UT" "origin_timeout" 504 "Origin timed out"
        "The origin took the request and did not answer within its timeouts.",
    OriginClosed "UC" "origin_closed" 502 "Origin closed the connection"
        "The origin closed its connection before its answer was complete.",
    OriginReset "UR" "origin_reset" 502 "Origin reset the connection"
        "The origin reset its connection before its answer was complete.",
    OriginProtocol "UP" "origin_protocol_error" 502 "Origin protocol error"
        "What the origin sent is not valid HTTP, or passes our limits for an answer.",
    ClientGone "DC" "client_gone" 499 "Client gone"
        "The client reset or vanished before its answer was complete. The status is never sent.",
    ClientTimeout "DT" "client_timeout" 408 "Request timed out"
        "The client began a request and did not finish it, or did not read its answer, in time.",
    HeadTooLarge "LH" "head_too_large" 431 "Request head too large" "The request's header fields pass the limit.",
    TargetTooLong "LT" "target_too_long" 414 "Request target too long" "The request's target passes the limit.",
    BodyTooLarge "LB" "body_too_large" 413 "Request body too large" "The request's body passes the limit.",
    BadRequest "PR" "bad_request" 400 "Bad request" "The request breaks the protocol.",
    RateLimited "RL" "rate_limited" 429 "Rate limited" "A rate limit refused the request.",
    LimitUnavailable "LU" "limit_unavailable" 503 "Rate limit unavailable"
        "The Redis that keeps a fleet's limit is away, and the rule says that nobody passes meanwhile.",
    Unauthenticated "UA" "unauthenticated" 401 "Unauthenticated"
        "The request brings no credentials, or none that are good.",
    Forbidden "FB" "forbidden" 403 "Forbidden" "Who sends the request may not do that.",
    AuthUnavailable "AU" "auth_unavailable" 503 "Authentication unavailable"
        "Credentials cannot be checked now: keys or an authority are missing. Nobody passes meanwhile.",
    NoPort "NP" "no_free_port" 503 "No free port"
        "No local port is left for a connection to this origin: too many connections to one address.",
    Draining "DR" "draining" 503 "Draining" "The gateway is shutting down.",
    FaultAbort "FI" "fault_abort" 503 "Fault injected" "A fault filter failed the request on purpose.",
    FaultDelay "DI" "fault_delay" 200 "Delay injected"
        "A fault filter held the request on purpose, and nothing else went wrong. The status is that of the answer.",
    Panic "PX" "internal_error" 500 "Internal error" "A defect of the gateway ended this request; others go on.",
}

impl Flag {
    /// For the access log and the metrics: "-" or two letters.
    pub fn letters(self) -> &'static str {
        TABLE[self as usize].letters
    }

    /// The stable `code` member of problem+json: clients may match on it.
    pub fn code(self) -> &'static str {
        TABLE[self as usize].code
    }

    /// What the client gets unless the caller knows better.
    pub fn status(self) -> u16 {
        TABLE[self as usize].status
    }

    /// The `title` member of problem+json.
    pub fn title(self) -> &'static str {
        TABLE[self as usize].title
    }

    /// One sentence for the operator.
    pub fn about(self) -> &'static str {
        TABLE[self as usize].about
    }

    pub(crate) fn from_index(index: u8) -> Flag {
        Flag::ALL[index as usize]
    }
}

/// The documentation page of this table.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Flags\n\nGenerated from `flags.rs`; its test rewrites this page when run with `BLESS=1`.\n\n\
         A flag says why a request did not simply get its origin's answer. The letters stand in the access log \
         (`ringway.flags`)\nand in `ringway_requests_total{flag}`; the code is the `code` member of the \
         `application/problem+json` answer and does not change.\n\n| Flag | Code | Status | Meaning |\n|---|---|---|---|\n",
    );
    for flag in Flag::ALL {
        let row = format!("| {} | `{}` | {} | {} |\n", flag.letters(), flag.code(), flag.status(), flag.about());
        page.push_str(&row);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_page_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/observe/FLAGS.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let hint = "FLAGS.md is stale: run this test with BLESS=1";
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), markdown(), "{hint}");
    }

    #[test]
    fn codes_are_unique_words_and_letters_are_two_capitals() {
        let codes: HashSet<_> = Flag::ALL.iter().map(|flag| flag.code()).collect();
        assert_eq!(codes.len(), Flag::ALL.len());
        for flag in &Flag::ALL[1..] {
            assert!(flag.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", flag.code());
            assert!(flag.letters().len() == 2 && flag.letters().bytes().all(|b| b.is_ascii_uppercase()), "{flag:?}");
            assert!((400..600).contains(&flag.status()) || *flag == Flag::FaultDelay, "{flag:?}");
        }
    }

    #[test]
    fn shared_letters_tell_refusal_from_timeout() {
        assert_eq!((Flag::ConnectFailed.letters(), Flag::ConnectFailed.status()), ("UF", 502));
        assert_eq!((Flag::ConnectTimeout.letters(), Flag::ConnectTimeout.status()), ("UF", 504));
    }

    #[test]
    fn an_index_names_its_flag() {
        for flag in Flag::ALL {
            assert_eq!(Flag::from_index(*flag as u8), *flag);
        }
    }
}
