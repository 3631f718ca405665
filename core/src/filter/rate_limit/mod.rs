//! `rate_limit`: no more than so many requests in a time, for each client or whatever else they are told apart by.
//!
//! ```toml
//! filters = [{ rate_limit = { rate = "1000/s", burst = 200 } }]                                 # each client address
//! filters = [{ rate_limit = { name = "api", rate = "50/s", key = "consumer", headers = "draft10" } }]
//! filters = [{ rate_limit = [{ rate = "5/s" }, { limit = 1000, window = "1h", algorithm = "sliding_window" }] }]
//! filters = [{ rate_limit = { rate = "10/s", burst = 20, mode = "smooth" } }]                   # as nginx's limit_req
//! filters = [{ quota = { limit = 10000, per = "month", key = "consumer" } }]
//! ```
//! **Algorithms.** `token_bucket` (the default) is golang.org/x/time/rate: it starts full, with `burst` tokens (unset: one
//! second's), is refilled all the time at `rate`, and a request takes `cost` (1) or is refused and owes nothing.
//! `fixed_window` and `sliding_window` take `limit` and `window` ("1s" to "31d"): so many in each window of the gateway's
//! own time, or weighed with the window before. A `quota` counts by the calendar, in UTC and by the wall clock. With `mode
//! = "smooth"` requests leave at the `rate`: up to `burst` (0) wait for their turn, further ones are refused; with
//! `nodelay = true` they do not wait, but count as if they did.
//!
//! **Scope.** `node` (the default): all cores share one budget. A core borrows credits ahead, for 4 ms and by its demand,
//! so that a busy key does not meet the other cores with each request; what it does not use goes back. Never does more
//! pass than the burst and what was refilled: what is lent counts until it is back. What others hold a core may lack for
//! a moment: `ringway check` says how much that is at worst. `core`: each core has budgets of its own of the whole rate,
//! and knows nothing of the others', so that N cores let pass up to N times the rate. `fleet`: all gateways that share a
//! Redis have one budget.
//!
//! **Fleet.** Redis (`redis` names its `[redis.NAME]`; there is no need if it is the only one) keeps the budgets, by key and
//! by the rule's name, which is the same on all gateways. A gateway borrows ahead for a `lease` (20 ms, longer for slow
//! rates) and by its demand, and asks for more when half of it is gone: a busy key costs some fifty questions a second,
//! whatever its rate. A request waits for Redis only if nothing is left, for instance the first one of a key. What is lent
//! counts as used until it is back. While Redis does not answer, `when_away` says who passes: with `local_share` (the
//! default) each gateway keeps to its part, by how many gateways there were last and `gateways_min` (1) at least; `open`:
//! everybody; `closed`: nobody, with 503. What has passed meanwhile is paid for when Redis is back. What a failover can
//! cost on top `ringway check` says, too.
//!
//! **Keys.** `client_ip` (the default; addresses of one `ipv4_prefix`, 32, or `ipv6_prefix`, 64, are one key: who has an
//! IPv6 address has a /64 of them), `consumer`, `route`, `host`, `global`, `header:NAME`, `claim:PATH`, `param:NAME`,
//! `query:NAME`, `cookie:NAME`, or a list of these. What a request does not have is a value of its own: all requests
//! without a consumer share one budget. `consumer` and `claim` are known once a filter further outside has found out.
//!
//! At most `keys_max` keys (65536) have budgets, on the node and with each core. A budget that is full is forgotten if a
//! new key needs its place, since a new one is the same; if there is none, all new keys share one budget of the rule's
//! rate. So nobody gains by many keys. Metrics tell: `ringway_ratelimit_keys`, `ringway_ratelimit_overflow_total`.
//!
//! **Names.** A budget belongs to a rule's `name` and a key. A rule without one is named by where it stands:
//! `route/NAME/N` or `policy/NAME/N` for filter N, counted from 0, with another number in a list of rules. So give a rule a
//! name if its place may change. Two rules of one name must say the same, and are one. Over a reload a rule of the same
//! name keeps its budgets, also with other numbers: nobody has more than before, nor more than the new burst. With another
//! scope, algorithm or key all begin anew. While a reload is taken up, some milliseconds, cores that still serve by the old
//! numbers count by these alone. A restart forgets everything, quotas too.
//!
//! **Order.** Filters run from the outside in: a request that one refuses takes nothing of those further inside. Of the
//! rules in one list either all are charged or none is. Put what is cheap and protects most first: by address, by
//! everybody together, then authentication, then by consumer.
//!
//! **Answers.** Refused are 429 with the flag `RL`, `Retry-After` (never 0) and `Cache-Control: no-store`. `headers` says how
//! all answers tell where the client stands: `draft6` (the default) is `RateLimit-Limit`, `-Remaining` and `-Reset` in
//! seconds, which most clients and gateways know, and which costs no memory up to 9999; `draft10` is `RateLimit-Policy` and
//! `RateLimit` of the present IETF draft, which may still change; `x` is `X-RateLimit-*`; or `off`. Where several rules
//! speak, `draft6` and `x` tell of the one that leaves least, `draft10` of each.

pub(super) mod fleet;
mod key;
mod limit;
mod table;
mod told;
#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use smallvec::SmallVec;

use super::{Building, Filter, Needs, RequestEdit, Then, Verdict, Waiting};
use crate::exchange::Refusal;
use crate::mesh::budget::{Base, Fleet, Moment, Refused, Taken, Terms, Why};
use crate::observe::Flag;

use fleet::Asked;
pub use fleet::FleetSpec;
pub use key::{Key, Seeds, Written};
use limit::Decision;
pub use limit::{LET_GO_MAX, Limit, Spec};
pub use table::Ruling;
pub use table::{KEYS_MAX_DEFAULT, KEYS_MAX_MOST, Scope, check_name};
use told::Headers;

/// Rules whose keys need no allocation.
const RULES_INLINE: usize = 4;
const NS: u64 = 1_000_000_000;

pub(super) struct RateLimit {
    rules: Vec<OneRule>,
    seeds: Arc<Seeds>,
    /// Some rule follows the wall clock.
    by_calendar: bool,
    needs: Needs,
}

struct OneRule {
    /// Of its state on each core.
    number: usize,
    name: String,
    key: Key,
    cost: NonZeroU64,
    headers: Headers,
    policy: String,
}

impl RateLimit {
    pub(super) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Filter>, Fault> {
        Self::of(table::rulings(config)?, config, building)
    }

    pub(super) fn build_quota(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Filter>, Fault> {
        Self::of(vec![table::quota(config)?], config, building)
    }

    fn of(rulings: Vec<Ruling>, config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Filter>, Fault> {
        let is_calendar = |ruling: &Ruling| match ruling.terms {
            Terms::Period(period) | Terms::Fleet(Fleet { base: Base::Period(period), .. }) => period.is_calendar(),
            Terms::Pace(_) | Terms::Leak(_) | Terms::Fleet(_) => false,
        };
        let by_calendar = rulings.iter().any(is_calendar);
        let params = rulings.iter().flat_map(|ruling| ruling.key.params().cloned()).collect();
        let needs = Needs { place: config.place.clone(), params, prefix: false };
        let rules = rulings.into_iter().map(|ruling| {
            let name = building.limit_name(ruling.name.as_deref(), &ruling.place);
            let fleet = building.fleet(&ruling)?;
            let spec = Spec::new(&name, &ruling, building.cores, fleet);
            let number = building.limit(spec)?;
            let policy = ruling.policy(&name);
            let Ruling { key, cost, headers, .. } = ruling;
            Ok(OneRule { number, name, key, cost, headers, policy })
        });
        let rules = rules.collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(RateLimit { rules, seeds: building.seeds(), by_calendar, needs }))
    }
}

/// How long a request waits, in milliseconds; or who refuses it.
type Charged<'p> = Result<u64, (&'p OneRule, Refused)>;

impl Filter for RateLimit {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        self.judge(request, None)
    }

    fn needs(&self) -> Option<&Needs> {
        Some(&self.needs)
    }
}

fn hold<'p>(request: &RequestEdit<'p, '_>, time: Duration) -> Verdict<'p> {
    let sleep = request.net.sleep(time);
    let until = async move {
        sleep.await;
        let then: Then<'p> = Box::new(|_| Verdict::Pass);
        then
    };
    Verdict::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
}

impl RateLimit {
    /// `until_ns`: so long it waits for a fleet's Redis, in the node's time, if it has come back from that.
    fn judge<'p>(&'p self, request: &mut RequestEdit<'p, '_>, until_ns: Option<u64>) -> Verdict<'p> {
        let unix_s = if self.by_calendar { (request.unix_s)() } else { 0 };
        let now = Moment { ns: request.net.node_ns(), unix_s };
        let charged = match &*self.rules {
            [rule] => self.charge_one(rule, request, &now),
            rules => self.charge_all(rules, request, &now),
        };
        match charged {
            Ok(0) => Verdict::Pass,
            Ok(delay_ms) => hold(request, Duration::from_millis(delay_ms)),
            Err((rule, refused)) => match refused.why {
                Why::Unasked if until_ns.is_none_or(|until_ns| now.ns < until_ns) => {
                    self.wait_for_fleet(rule, request, &now, until_ns)
                }
                Why::Empty | Why::Unasked | Why::Away => {
                    request.state.limit(rule.number).count(Decision::Denied);
                    self.refuse(rule, request, &refused)
                }
            },
        }
    }

    fn refuse<'p>(&self, rule: &OneRule, request: &mut RequestEdit<'p, '_>, refused: &Refused) -> Verdict<'p> {
        request.answer.replace("cache-control", "no-store".into());
        let retry_after_s = Some(refused.wait_ns.div_ceil(NS).clamp(1, u32::MAX.into()) as u32);
        let refusal = match refused.why {
            Why::Away => Refusal::new(Flag::LimitUnavailable, format!("rate limit {}: its Redis is away", rule.name)),
            Why::Empty | Why::Unasked => Refusal::new(Flag::RateLimited, format!("rate limit {}", rule.name)),
        };
        Verdict::Reply(Box::new(Refusal { retry_after_s, ..refusal }))
    }

    /// Begins anew once there is an answer, or may be.
    #[inline(never)]
    fn wait_for_fleet<'p>(
        &'p self,
        rule: &OneRule,
        request: &mut RequestEdit<'p, '_>,
        now: &Moment,
        until_ns: Option<u64>,
    ) -> Verdict<'p> {
        let (asked, patience) = self.ask(rule, request, now);
        let until_ns = until_ns.unwrap_or(now.ns + patience.as_nanos() as u64);
        if let Asked::No = asked {
            return self.judge(request, Some(0));
        }
        let net = request.net.clone();
        let until = async move {
            asked.wait(net).await;
            let then: Then<'p> = Box::new(move |request| self.judge(request, Some(until_ns)));
            then
        };
        Verdict::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    /// Has Redis asked for more of this request's budget, and says how long that may take.
    fn ask(&self, rule: &OneRule, request: &RequestEdit<'_, '_>, now: &Moment) -> (Asked, Duration) {
        let limit = request.state.limit(rule.number);
        let Some(fleet) = &limit.spec.fleet else { return (Asked::No, Duration::ZERO) };
        let Some(redis) = request.state.redis(&fleet.redis) else { return (Asked::No, Duration::ZERO) };
        let digest = rule.key.digest(request, &self.seeds);
        let (store, name) = limit.store(digest, now, || rule.key.name(request));
        (limit.ask(fleet, redis, store, name), fleet::patience(redis))
    }

    fn charge_one<'p>(&self, rule: &'p OneRule, request: &mut RequestEdit<'p, '_>, now: &Moment) -> Charged<'p> {
        let digest = rule.key.digest(request, &self.seeds);
        let limit = request.state.limit(rule.number);
        let taken = limit.take(digest, now, rule.cost);
        if let Ok(taken) = &taken {
            limit.count(decision(taken));
        }
        rule.tell(request, digest, now);
        if taken.as_ref().map_or_else(|refused| refused.ask, Taken::must_ask) {
            self.ask(rule, request, now);
        }
        taken.map(|taken| taken.delay_ms()).map_err(|refused| (rule, refused))
    }

    /// Charges every rule or none.
    #[inline(never)]
    fn charge_all<'p>(&self, rules: &'p [OneRule], request: &mut RequestEdit<'p, '_>, now: &Moment) -> Charged<'p> {
        let each: SmallVec<[(&OneRule, u128); RULES_INLINE]> =
            rules.iter().map(|rule| (rule, rule.key.digest(request, &self.seeds))).collect();
        let charged = take_all(&each, request, now);
        each.iter().for_each(|(rule, digest)| rule.tell(request, *digest, now));
        match charged {
            Ok(all) => {
                for (taken, rule) in std::iter::zip(&all, rules) {
                    request.state.limit(rule.number).count(decision(taken));
                    if taken.must_ask() {
                        self.ask(rule, request, now);
                    }
                }
                Ok(all.iter().map(Taken::delay_ms).max().unwrap_or(0))
            }
            Err((rule, refused)) => {
                if refused.ask {
                    self.ask(rule, request, now);
                }
                Err((rule, refused))
            }
        }
    }
}

type AllTaken<'p> = Result<SmallVec<[Taken; RULES_INLINE]>, (&'p OneRule, Refused)>;

fn take_all<'p>(each: &[(&'p OneRule, u128)], request: &RequestEdit<'p, '_>, now: &Moment) -> AllTaken<'p> {
    let limit = |rule: &OneRule| request.state.limit(rule.number);
    for (rule, digest) in each {
        limit(rule).may_take(*digest, now, rule.cost).map_err(|refused| (*rule, refused))?;
    }
    let mut all: SmallVec<[Taken; RULES_INLINE]> = SmallVec::new();
    for (rule, digest) in each {
        match limit(rule).take(*digest, now, rule.cost) {
            Ok(taken) => all.push(taken),
            Err(refused) => {
                // Another core was faster since we asked, or two rules share a budget.
                for (taken, (rule, digest)) in std::iter::zip(&all, each) {
                    limit(rule).undo(*digest, now, rule.cost, *taken);
                }
                return Err((rule, refused));
            }
        }
    }
    Ok(all)
}

fn decision(taken: &Taken) -> Decision {
    if taken.delay_ms() > 0 { Decision::Delayed } else { Decision::Allowed }
}

impl OneRule {
    /// Where the client stands now.
    fn tell<'p>(&'p self, request: &mut RequestEdit<'p, '_>, digest: u128, now: &Moment) {
        if self.headers != Headers::Off {
            let standing = request.state.limit(self.number).standing(digest, now);
            self.headers.tell(request.answer, &self.name, &self.policy, &standing);
        }
    }
}
