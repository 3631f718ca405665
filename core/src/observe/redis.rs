//! What one core counts about a Redis, and how Prometheus shows it over all cores. Plain cells, as in `core_meters`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use super::core_meters::Kind;
use super::prometheus::Page;

/// Neighbours of one metric share its kind and help; each has another value of the label.
struct Field {
    metric: &'static str,
    label: Option<(&'static str, &'static str)>,
    kind: Kind,
    help: &'static str,
}

macro_rules! redis_meters {
    ($($field:ident: $kind:ident $metric:literal $($key:ident = $value:literal)? $help:literal,)+) => {
        /// One Redis as one core sees it.
        #[derive(Debug)]
        pub struct RedisMeters {
            name: Arc<str>,
            $(#[doc = $help] pub $field: Cell<u64>,)+
        }

        const FIELDS: &[Field] = &[$(Field {
            metric: concat!("ringway_redis_", $metric),
            label: redis_meters!(@label $($key $value)?),
            kind: Kind::$kind,
            help: $help,
        },)+];

        impl RedisMeters {
            pub fn new(name: &str) -> RedisMeters {
                RedisMeters { name: name.into(), $($field: Cell::new(0),)+ }
            }

            pub fn snapshot(&self) -> RedisSnapshot {
                RedisSnapshot { name: self.name.clone(), values: [$(self.$field.get(),)+] }
            }
        }
    };
    (@label) => { None };
    (@label $key:ident $value:literal) => { Some((stringify!($key), $value)) };
}

redis_meters! {
    commands: Counter "commands_total" "Commands, each counted once however often it was sent.",
    in_flight: Gauge "commands_in_flight" "Commands sent and not answered yet.",
    waiting: Gauge "commands_waiting" "Commands that wait to be sent.",
    errors_queue_full: Counter "errors_total" kind = "queue_full" "Commands that failed.",
    errors_timeout: Counter "errors_total" kind = "timeout" "Commands that failed.",
    errors_unreachable: Counter "errors_total" kind = "unreachable" "Commands that failed.",
    errors_lost: Counter "errors_total" kind = "lost" "Commands that failed.",
    errors_unavailable: Counter "errors_total" kind = "unavailable" "Commands that failed.",
    errors_redirected: Counter "errors_total" kind = "redirected" "Commands that failed.",
    errors_refused: Counter "errors_total" kind = "refused" "Commands that failed.",
    late_replies: Counter "late_replies_total" "Replies that came after their command had timed out.",
    moved: Counter "redirects_total" kind = "moved" "Commands that a node sent on to another one.",
    asked: Counter "redirects_total" kind = "ask" "Commands that a node sent on to another one.",
    retries: Counter "retries_total" "Commands sent again after a wait, none of which had run.",
    connections_open: Gauge "connections_open" "Connections to its nodes that may be used.",
    connects_ok: Counter "connects_total" result = "ok" "Connections opened, or not.",
    connects_failed: Counter "connects_total" result = "failed" "Connections opened, or not.",
    refreshes_ok: Counter "refreshes_total" result = "ok" "Times that the cluster was asked for its nodes.",
    refreshes_failed: Counter "refreshes_total" result = "failed" "Times that the cluster was asked for its nodes.",
    functions_loaded: Counter "functions_loaded_total" "Libraries of functions loaded on a node that had none.",
    reachable: Gauge "cores_reaching" "Cores that can reach it.",
}

/// A core's counts at one moment.
#[derive(Debug, Clone)]
pub struct RedisSnapshot {
    name: Arc<str>,
    values: [u64; FIELDS.len()],
}

pub(super) fn render<'a>(page: &mut Page, snapshots: impl Iterator<Item = &'a RedisSnapshot>) {
    let mut sums: BTreeMap<&str, [u64; FIELDS.len()]> = BTreeMap::new();
    for snapshot in snapshots {
        let sum = sums.entry(&snapshot.name).or_insert([0; FIELDS.len()]);
        std::iter::zip(sum, snapshot.values).for_each(|(sum, value)| *sum += value);
    }
    if sums.is_empty() {
        return;
    }
    let mut family = "";
    for (at, field) in FIELDS.iter().enumerate() {
        if family != field.metric {
            let kind = if field.kind == Kind::Counter { "counter" } else { "gauge" };
            page.family(field.metric, kind, field.help);
            family = field.metric;
        }
        for (name, values) in &sums {
            let name: (&str, &dyn Display) = ("redis", name);
            match &field.label {
                Some((key, label)) => page.sample(field.metric, &[name, (key, label)], values[at]),
                None => page.sample(field.metric, &[name], values[at]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::core_meters::add;

    #[test]
    fn counters_end_in_total_and_metrics_stay_together() {
        let mut seen = Vec::new();
        for field in FIELDS {
            assert_eq!(field.metric.ends_with("_total"), field.kind == Kind::Counter, "{}", field.metric);
            assert!(seen.last() == Some(&field.metric) || !seen.contains(&field.metric), "{}", field.metric);
            seen.push(field.metric);
        }
    }

    #[test]
    fn cores_are_summed_up() {
        let (one, two) = (RedisMeters::new("limits"), RedisMeters::new("limits"));
        add(&one.commands, 3);
        add(&two.commands, 4);
        add(&two.errors_timeout, 1);
        let mut page = Page::default();
        render(&mut page, [one.snapshot(), two.snapshot()].iter());
        let text = page.text();
        assert!(text.contains("\nringway_redis_commands_total{redis=\"limits\"} 7\n"), "{text}");
        assert!(text.contains("\nringway_redis_errors_total{redis=\"limits\",kind=\"timeout\"} 1\n"), "{text}");
        assert_eq!(text.matches("# TYPE ringway_redis_errors_total").count(), 1);
    }
}
