//! The tables of `rate_limit` and `quota`, read into a rule. What a rule then does is not here.

use std::num::NonZeroU64;
use std::time::Duration;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::{DurationText, Rate, duration_text};
use serde::Deserialize;

use super::key::{Key, Written};
use super::told::{Headers, policy};
use crate::mesh::budget::{Base, Calendar, Fleet, Leak, Pace, Period, Span, Terms, WhenAway};

/// Rules in one filter.
pub const RULES_MAX: usize = 8;
const BURST_MAX: u64 = 1_000_000_000;
pub const KEYS_MAX_DEFAULT: usize = 65_536;
/// A key takes about 200 bytes with each core that has met it, and 150 with the node.
pub const KEYS_MAX_MOST: usize = 4 << 20;
const WINDOW_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
const NAME_BYTES_MAX: usize = 64;
const LEASE_MIN: Duration = Duration::from_millis(5);
const LEASE_MAX: Duration = Duration::from_secs(10);
/// For rates of some hundred a second and more; slower ones have longer leases, up to the longest.
const LEASE_USUAL: Duration = Duration::from_millis(20);
const LEASE_USUAL_MAX: Duration = Duration::from_millis(500);
/// What a lease of a slow rate is long enough for.
const TOKENS_LEASED: u64 = 8;
const GATEWAYS_MAX: u64 = 10_000;

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
    redis: Option<String>,
    when_away: Option<WhenRedisIsAway>,
    lease: Option<DurationText>,
    gateways_min: Option<NonZeroU64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaTable {
    name: Option<String>,
    limit: u64,
    per: Per,
    cost: Option<NonZeroU64>,
    #[serde(default)]
    scope: Scope,
    key: Option<toml::Value>,
    ipv4_prefix: Option<u8>,
    ipv6_prefix: Option<u8>,
    #[serde(default)]
    headers: Headers,
    keys_max: Option<usize>,
    redis: Option<String>,
    when_away: Option<WhenRedisIsAway>,
    lease: Option<DurationText>,
    gateways_min: Option<NonZeroU64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Core,
    #[default]
    Node,
    Fleet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WhenRedisIsAway {
    Open,
    Closed,
    LocalShare,
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
    /// The `[redis.NAME]` of a fleet's limit; empty: the only one there is.
    pub redis: Option<String>,
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
    let (terms, most, window_ns) = match table.algorithm {
        Algorithm::TokenBucket => paced(&table, place)?,
        Algorithm::FixedWindow | Algorithm::SlidingWindow => windowed(&table, place)?,
    };
    let Table { name, scope, key, ipv4_prefix, ipv6_prefix, cost, headers, keys_max, .. } = table;
    let Table { redis, when_away, lease, gateways_min, .. } = table;
    let written = Written { key: key.as_ref(), ipv4_prefix, ipv6_prefix, place };
    let fleet = FleetKeys { redis, when_away, lease, gateways_min };
    finish(Common { name, written, cost, headers, keys_max, scope, fleet }, terms, most, window_ns)
}

/// # Errors
/// What is wrong with the table.
pub fn quota(config: &FilterConfig) -> Result<Ruling, Fault> {
    let table: QuotaTable = ringway_config::filter::table(config)?;
    let QuotaTable { name, limit, per, cost, scope, key, ipv4_prefix, ipv6_prefix, headers, keys_max, .. } = table;
    let QuotaTable { redis, when_away, lease, gateways_min, .. } = table;
    let place = config.place.as_str();
    let limit = within("limit", limit, 1, Period::LIMIT_MAX, place)?;
    let (calendar, window_ns) = match per {
        Per::Day => (Calendar::Day, Some(24 * 3600 * 1_000_000_000)),
        Per::Month => (Calendar::Month, None), // months differ
    };
    let terms = Terms::Period(Period::new(limit, Span::Calendar(calendar)));
    if scope == Scope::Core {
        return Err(Fault::new("a quota is not of a core")
            .at(format!("{place}.scope"))
            .cure("use \"node\" or \"fleet\""));
    }
    let written = Written { key: key.as_ref(), ipv4_prefix, ipv6_prefix, place };
    let fleet = FleetKeys { redis, when_away, lease, gateways_min };
    finish(Common { name, written, cost, headers, keys_max, scope, fleet }, terms, limit, window_ns)
}

/// What both tables have.
struct Common<'a> {
    name: Option<String>,
    written: Written<'a>,
    cost: Option<NonZeroU64>,
    headers: Headers,
    keys_max: Option<usize>,
    scope: Scope,
    fleet: FleetKeys,
}

/// What only a fleet's limit says.
struct FleetKeys {
    redis: Option<String>,
    when_away: Option<WhenRedisIsAway>,
    lease: Option<DurationText>,
    gateways_min: Option<NonZeroU64>,
}

impl FleetKeys {
    fn check_idle(&self, place: &str) -> Result<(), Fault> {
        let with = "scope = \"fleet\"";
        idle(self.redis.is_some(), "redis", place, with)?;
        idle(self.when_away.is_some(), "when_away", place, with)?;
        idle(self.lease.is_some(), "lease", place, with)?;
        idle(self.gateways_min.is_some(), "gateways_min", place, with)
    }

    fn terms(&self, terms: Terms, cost: NonZeroU64, place: &str) -> Result<Terms, Fault> {
        let base = match terms {
            Terms::Pace(pace) => Base::Pace(pace),
            Terms::Period(period) => Base::Period(period),
            Terms::Leak(_) | Terms::Fleet(_) => {
                let fault = Fault::new("gateways have no queue together").at(format!("{place}.scope"));
                return Err(fault.cure("use mode = \"reject\", or scope = \"node\""));
            }
        };
        let lease = self.lease.map_or_else(|| lease_of(&base), |DurationText(lease)| lease);
        if !(LEASE_MIN..=LEASE_MAX).contains(&lease) {
            let fault = Fault::new(format!("{} is out of range", duration_text(lease))).at(format!("{place}.lease"));
            return Err(fault.cure(format!("use {} to {}", duration_text(LEASE_MIN), duration_text(LEASE_MAX))));
        }
        let when_away = match self.when_away.unwrap_or(WhenRedisIsAway::LocalShare) {
            WhenRedisIsAway::Open => WhenAway::Open,
            WhenRedisIsAway::Closed => WhenAway::Closed,
            WhenRedisIsAway::LocalShare => WhenAway::LocalShare,
        };
        let gateways_min = self.gateways_min.map_or(1, NonZeroU64::get).min(GATEWAYS_MAX);
        Ok(Terms::Fleet(Fleet { base, lease_ns: lease.as_nanos() as u64, when_away, cost, gateways_min }))
    }
}

/// Long enough that a key with a slow rate is not asked for with each request, short enough that little lies about.
fn lease_of(base: &Base) -> Duration {
    let ns = match base {
        Base::Pace(pace) => pace.token_ns().saturating_mul(TOKENS_LEASED),
        Base::Period(period) => match period.span() {
            Span::Fixed { ns } | Span::Sliding { ns } => ns / period.limit().max(1) * TOKENS_LEASED,
            Span::Calendar(_) => u64::MAX,
        },
    };
    Duration::from_nanos(ns).clamp(LEASE_USUAL, LEASE_USUAL_MAX)
}

fn finish(common: Common<'_>, terms: Terms, most: u64, window_ns: Option<u64>) -> Result<Ruling, Fault> {
    let Common { name, written, cost, headers, keys_max, scope, fleet } = common;
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
    let is_fleets = scope == Scope::Fleet;
    let terms = if is_fleets { fleet.terms(terms, cost, place)? } else { terms };
    if !is_fleets {
        fleet.check_idle(place)?;
    }
    let redis = is_fleets.then(|| fleet.redis.unwrap_or_default());
    let (of_node, place) = (scope != Scope::Core, place.to_owned());
    Ok(Ruling { name, place, terms, of_node, redis, key, cost, headers, keys_max, window_ns, most })
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
