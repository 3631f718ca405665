//! The tables of `rate_limit` and `quota`, read into a rule. What a rule then does is not here.

use std::num::NonZeroU64;
use std::time::Duration;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::{DurationText, Rate, duration_text};
use serde::Deserialize;

use super::key::{Key, Written};
use super::told::{Headers, policy};
use crate::mesh::budget::{Calendar, Leak, Pace, Period, Span, Terms};

/// Rules in one filter.
pub const RULES_MAX: usize = 8;
const BURST_MAX: u64 = 1_000_000_000;
pub const KEYS_MAX_DEFAULT: usize = 65_536;
/// A key takes about 200 bytes with each core that has met it, and 150 with the node.
pub const KEYS_MAX_MOST: usize = 4 << 20;
const WINDOW_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
const NAME_BYTES_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Option<String>,
    rate: Option<Rate>,
    burst: Option<u64>,
    limit: Option<u64>,
    window: Option<DurationText>,
    cost: Option<NonZeroU64>,
    #[serde(default)]
    scope: Scope,
    key: Option<toml::Value>,
    ipv4_prefix: Option<u8>,
    ipv6_prefix: Option<u8>,
    #[serde(default)]
    mode: Mode,
    nodelay: Option<bool>,
    #[serde(default)]
    algorithm: Algorithm,
    #[serde(default)]
    headers: Headers,
    keys_max: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaTable {
    name: Option<String>,
    limit: u64,
    per: Per,
    cost: Option<NonZeroU64>,
    key: Option<toml::Value>,
    ipv4_prefix: Option<u8>,
    ipv6_prefix: Option<u8>,
    #[serde(default)]
    headers: Headers,
    keys_max: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Core,
    #[default]
    Node,
    Fleet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Reject,
    Smooth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Algorithm {
    #[default]
    TokenBucket,
    FixedWindow,
    SlidingWindow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Per {
    Day,
    Month,
}

/// A rule as it was written.
pub struct Ruling {
    /// Its own name, if it has one.
    pub name: Option<String>,
    pub place: String,
    pub terms: Terms,
    pub of_node: bool,
    pub key: Key,
    pub cost: NonZeroU64,
    pub headers: Headers,
    pub keys_max: usize,
    /// What `RateLimit-Policy` says as the time of the most.
    window_ns: Option<u64>,
    most: u64,
}

impl Ruling {
    /// For `RateLimit-Policy`.
    pub fn policy(&self, name: &str) -> String {
        policy(name, self.most, self.window_ns)
    }
}

/// One table or a list of them.
///
/// # Errors
/// What is wrong with the first that has something wrong.
pub fn rulings(config: &FilterConfig) -> Result<Vec<Ruling>, Fault> {
    let toml::Value::Array(list) = &config.table else { return Ok(vec![ruling(config)?]) };
    if !(1..=RULES_MAX).contains(&list.len()) {
        return Err(Fault::new(format!("a filter has 1 to {RULES_MAX} rules")).at(config.place.clone()));
    }
    let each = list.iter().enumerate().map(|(at, table)| {
        let place = format!("{}[{at}]", config.place);
        ruling(&FilterConfig { name: config.name.clone(), table: table.clone(), place })
    });
    each.collect()
}

fn ruling(config: &FilterConfig) -> Result<Ruling, Fault> {
    let table: Table = ringway_config::filter::table(config)?;
    let place = config.place.as_str();
    if table.scope == Scope::Fleet {
        let fault = Fault::new("a fleet shares its limits through Redis").at(format!("{place}.scope"));
        return Err(fault.cure("there is no [redis.NAME] table to name; use scope = \"node\""));
    }
    let (terms, most, window_ns) = match table.algorithm {
        Algorithm::TokenBucket => paced(&table, place)?,
        Algorithm::FixedWindow | Algorithm::SlidingWindow => windowed(&table, place)?,
    };
    let Table { name, scope, key, ipv4_prefix, ipv6_prefix, cost, headers, keys_max, .. } = table;
    let written = Written { key: key.as_ref(), ipv4_prefix, ipv6_prefix, place };
    let of_node = scope == Scope::Node;
    finish(Common { name, written, cost, headers, keys_max }, terms, of_node, most, window_ns)
}

/// # Errors
/// What is wrong with the table.
pub fn quota(config: &FilterConfig) -> Result<Ruling, Fault> {
    let QuotaTable { name, limit, per, cost, key, ipv4_prefix, ipv6_prefix, headers, keys_max } =
        ringway_config::filter::table(config)?;
    let place = config.place.as_str();
    let limit = within("limit", limit, 1, Period::LIMIT_MAX, place)?;
    let (calendar, window_ns) = match per {
        Per::Day => (Calendar::Day, Some(24 * 3600 * 1_000_000_000)),
        Per::Month => (Calendar::Month, None), // months differ
    };
    let terms = Terms::Period(Period::new(limit, Span::Calendar(calendar)));
    let written = Written { key: key.as_ref(), ipv4_prefix, ipv6_prefix, place };
    finish(Common { name, written, cost, headers, keys_max }, terms, true, limit, window_ns)
}

/// What both tables have.
struct Common<'a> {
    name: Option<String>,
    written: Written<'a>,
    cost: Option<NonZeroU64>,
    headers: Headers,
    keys_max: Option<usize>,
}

fn finish(common: Common<'_>, terms: Terms, of_node: bool, most: u64, window_ns: Option<u64>) -> Result<Ruling, Fault> {
    let Common { name, written, cost, headers, keys_max } = common;
    let place = written.place;
    if let Some(name) = &name {
        check_name(name, place)?;
    }
    let cost = cost.unwrap_or(NonZeroU64::MIN);
    if cost.get() > most {
        let fault = Fault::new(format!("no request can pass: it costs {cost}, and there are never more than {most}"));
        return Err(fault.at(format!("{place}.cost")).cure("raise burst or limit"));
    }
    let keys_max = keys_max.unwrap_or(KEYS_MAX_DEFAULT) as u64;
    let keys_max = within("keys_max", keys_max, 1, KEYS_MAX_MOST as u64, place)? as usize;
    let key = Key::read(&written)?;
    Ok(Ruling { name, place: place.to_owned(), terms, of_node, key, cost, headers, keys_max, window_ns, most })
}

/// Letters, digits, `-` and `_`: nothing to escape in a header or a metric, and no clash with names that are given.
///
/// # Errors
/// It cannot be one.
pub fn check_name(name: &str, place: &str) -> Result<(), Fault> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(good) {
        true => Ok(()),
        false => {
            let fault = Fault::new(format!("{name:?} cannot be a name")).at(format!("{place}.name"));
            Err(fault.cure(format!("use 1 to {NAME_BYTES_MAX} letters, digits, '-' and '_'")))
        }
    }
}

fn within(key: &str, value: u64, least: u64, most: u64, place: &str) -> Result<u64, Fault> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => {
            let fault = Fault::new(format!("{value} is out of range")).at(format!("{place}.{key}"));
            Err(fault.cure(format!("use {least} to {most}")))
        }
    }
}

/// A key that belongs to another algorithm or mode.
fn idle(is_there: bool, key: &str, place: &str, with: &str) -> Result<(), Fault> {
    match is_there {
        false => Ok(()),
        true => {
            let fault = Fault::new("says nothing here").at(format!("{place}.{key}"));
            Err(fault.cure(format!("it belongs to {with}")))
        }
    }
}

type Termed = (Terms, u64, Option<u64>);

fn paced(table: &Table, place: &str) -> Result<Termed, Fault> {
    let windows = "algorithm = \"fixed_window\" or \"sliding_window\"";
    idle(table.limit.is_some(), "limit", place, windows)?;
    idle(table.window.is_some(), "window", place, windows)?;
    let Some(rate) = table.rate else {
        return Err(Fault::new("has no rate").at(place).cure("add one such as rate = \"100/s\""));
    };
    if table.mode == Mode::Smooth {
        return smooth(table, rate, place);
    }
    idle(table.nodelay.is_some(), "nodelay", place, "mode = \"smooth\"")?;
    let cost = table.cost.map_or(1, NonZeroU64::get);
    let of_a_second = (rate.per_second().ceil() as u64).clamp(1, BURST_MAX).max(cost);
    let burst = within("burst", table.burst.unwrap_or(of_a_second), 1, BURST_MAX, place)?;
    let pace = Pace::new(rate.count, rate.per, burst);
    let terms = Terms::Pace(pace.map_err(|error| Fault::new(error.to_string()).at(format!("{place}.rate")))?);
    Ok((terms, burst, Some(terms.refill_ns())))
}

fn smooth(table: &Table, rate: Rate, place: &str) -> Result<Termed, Fault> {
    idle(table.cost.is_some(), "cost", place, "mode = \"reject\"; each request leaves a smooth queue as one")?;
    let burst = within("burst", table.burst.unwrap_or(0), 0, Leak::BURST_MAX, place)?;
    let Some(leak) = Leak::new(rate.per_second(), burst, table.nodelay.unwrap_or(false)) else {
        let fault = Fault::new("less than a thousandth of a request a second").at(format!("{place}.rate"));
        return Err(fault.cure("use mode = \"reject\""));
    };
    let terms = Terms::Leak(leak);
    Ok((terms, burst + 1, Some(terms.refill_ns())))
}

fn windowed(table: &Table, place: &str) -> Result<Termed, Fault> {
    let bucket = "algorithm = \"token_bucket\"";
    idle(table.rate.is_some(), "rate", place, bucket)?;
    idle(table.burst.is_some(), "burst", place, bucket)?;
    idle(table.nodelay.is_some() || table.mode == Mode::Smooth, "mode", place, bucket)?;
    let (Some(limit), Some(DurationText(window))) = (table.limit, table.window) else {
        let fault = Fault::new("a window needs both its length and its limit").at(place);
        return Err(fault.cure("write limit = 100, window = \"1m\""));
    };
    let limit = within("limit", limit, 1, Period::LIMIT_MAX, place)?;
    let ns = window.as_nanos() as u64;
    if ns < Period::WINDOW_NS_MIN || window > WINDOW_MAX {
        let fault = Fault::new(format!("{} is out of range", duration_text(window))).at(format!("{place}.window"));
        return Err(fault.cure(format!("use 1s to {}", duration_text(WINDOW_MAX))));
    }
    let span = match table.algorithm {
        Algorithm::SlidingWindow => Span::Sliding { ns },
        Algorithm::TokenBucket | Algorithm::FixedWindow => Span::Fixed { ns },
    };
    Ok((Terms::Period(Period::new(limit, span)), limit, Some(ns)))
}
