//! What one core counts about itself: connections, refusals, its pools, the lag of its loop. Not about requests by route
//! (`meters`).
//!
//! Plain cells: the owner adds, a snapshot copies. Each field's metric name, label and help stand beside it, once.

use crate::observe::histogram::{Histogram, HistogramSnapshot, OVERHEAD};
use std::cell::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// How one field is shown.
#[derive(Debug)]
pub struct CoreField {
    pub metric: &'static str,
    /// A label beside `core`, for metrics that several fields share. Fields of one metric are neighbours.
    pub label: Option<(&'static str, &'static str)>,
    pub kind: Kind,
    pub help: &'static str,
}

macro_rules! core_meters {
    ($($field:ident: $kind:ident $metric:literal $($key:ident = $value:literal)? $help:literal,)+) => {
        #[derive(Debug)]
        pub struct CoreMeters {
            $(#[doc = $help] pub $field: Cell<u64>,)+
            /// How late the loop was to look at what was ready.
            pub loop_lag: Histogram,
        }

        pub const CORE_FIELDS: &[CoreField] = &[$(CoreField {
            metric: $metric,
            label: label!($($key = $value)?),
            kind: Kind::$kind,
            help: $help,
        },)+];

        impl CoreMeters {
            pub(crate) fn new() -> CoreMeters {
                CoreMeters { $($field: Cell::new(0),)+ loop_lag: Histogram::new(&OVERHEAD) }
            }

            fn values(&self) -> [u64; CORE_FIELDS.len()] {
                [$(self.$field.get(),)+]
            }
        }
    };
}

macro_rules! label {
    () => {
        None
    };
    ($key:ident = $value:literal) => {
        Some((stringify!($key), $value))
    };
}

core_meters! {
    connections_open: Gauge "ringway_core_connections_open" "Client connections open now.",
    connections_total: Counter "ringway_core_connections_total" "Client connections served.",
    requests_open: Gauge "ringway_core_requests_open" "Requests being served now.",
    requests_total: Counter "ringway_core_requests_total" "Requests served.",
    tunnels_open: Gauge "ringway_core_tunnels_open" "Upgraded connections open now.",
    handed_out: Counter "ringway_core_handoffs_total" direction = "out"
        "Fresh connections handed to or taken from another core.",
    handed_in: Counter "ringway_core_handoffs_total" direction = "in"
        "Fresh connections handed to or taken from another core.",
    accept_errors_fd_limit: Counter "ringway_core_accept_errors_total" reason = "fd_limit" "Failed accepts.",
    accept_errors_no_memory: Counter "ringway_core_accept_errors_total" reason = "no_memory" "Failed accepts.",
    accept_errors_aborted: Counter "ringway_core_accept_errors_total" reason = "aborted" "Failed accepts.",
    accept_errors_other: Counter "ringway_core_accept_errors_total" reason = "other" "Failed accepts.",
    rejected_core_limit: Counter "ringway_core_connections_rejected_total" reason = "core_limit"
        "Connections closed at once because a limit was reached.",
    rejected_ip_limit: Counter "ringway_core_connections_rejected_total" reason = "ip_limit"
        "Connections closed at once because a limit was reached.",
    filter_holds: Counter "ringway_core_filter_holds_total" "Filters that held the loop for more than 10 ms.",
    client_aborts: Counter "ringway_core_client_aborts_total" "Clients that vanished before their answer was complete.",
    client_timeouts: Counter "ringway_core_client_timeouts_total"
        "Clients cut because they sent or read too slowly.",
    panics: Counter "ringway_core_panics_total" "Connections ended by a defect of the gateway.",
    origin_connections_open: Gauge "ringway_core_origin_connections_open" "Origin connections open now, idle ones too.",
    origin_connections_idle: Gauge "ringway_core_origin_connections_idle" "Origin connections that wait in a pool.",
    origin_connections_opened: Counter "ringway_core_origin_connections_opened_total" "Origin connections opened.",
    origin_connections_reused: Counter "ringway_core_origin_connections_reused_total"
        "Requests sent on a connection that was open already.",
    origin_connections_failed: Counter "ringway_core_origin_connections_failed_total"
        "Origin connections that could not be opened.",
    port_exhausted: Counter "ringway_core_port_exhausted_total"
        "Origin connections that could not be opened for want of a local port.",
    retries: Counter "ringway_core_retries_total" "Requests sent again on another connection.",
    mirrors_open: Gauge "ringway_core_mirrors_open" "Copies of requests under way to mirror clusters.",
    mirrors_answered: Counter "ringway_core_mirrors_total" outcome = "answered" "Requests that were to be mirrored.",
    mirrors_failed: Counter "ringway_core_mirrors_total" outcome = "failed" "Requests that were to be mirrored.",
    mirrors_dropped: Counter "ringway_core_mirrors_total" outcome = "dropped" "Requests that were to be mirrored.",
    mirrors_without_body: Counter "ringway_core_mirrors_total" outcome = "body_not_held"
        "Requests that were to be mirrored.",
    buffers_in_use: Gauge "ringway_core_buffers_in_use" "Pooled buffers on loan now.",
    access_log_dropped: Counter "ringway_core_access_log_dropped_total"
        "Access-log lines dropped because this core's ring was full.",
}

impl CoreMeters {
    pub fn snapshot(&self) -> CoreSnapshot {
        CoreSnapshot { values: self.values(), loop_lag: self.loop_lag.snapshot() }
    }
}

pub fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}

/// For gauges. Below zero is a defect of the caller's guard; it must not become 2^64 in a dashboard.
pub fn sub(cell: &Cell<u64>, count: u64) {
    debug_assert!(cell.get() >= count, "a gauge went below zero");
    cell.set(cell.get().saturating_sub(count));
}

#[derive(Debug, Clone)]
pub struct CoreSnapshot {
    values: [u64; CORE_FIELDS.len()],
    pub loop_lag: HistogramSnapshot,
}

impl CoreSnapshot {
    pub fn fields(&self) -> impl Iterator<Item = (&'static CoreField, u64)> {
        CORE_FIELDS.iter().zip(self.values)
    }

    /// The sum of a metric's fields; 0 for a name that is not in the table.
    pub fn total(&self, metric: &str) -> u64 {
        self.fields().filter(|(field, _)| field.metric == metric).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_follow_the_conventions_and_series_are_unique() {
        let mut seen = HashSet::new();
        for field in CORE_FIELDS {
            assert!(field.metric.starts_with("ringway_core_"), "{}", field.metric);
            assert_eq!(field.metric.ends_with("_total"), field.kind == Kind::Counter, "{}", field.metric);
            assert!(seen.insert((field.metric, field.label)), "{} twice", field.metric);
        }
    }

    #[test]
    fn fields_of_one_metric_are_neighbours_and_agree() {
        let mut closed = HashSet::new();
        for pair in CORE_FIELDS.windows(2) {
            if pair[0].metric == pair[1].metric {
                assert_eq!((pair[0].kind, pair[0].help), (pair[1].kind, pair[1].help));
                continue;
            }
            assert!(closed.insert(pair[0].metric) && !closed.contains(pair[1].metric), "{}", pair[1].metric);
        }
    }

    #[test]
    fn a_snapshot_has_the_value_of_each_field() {
        let core = CoreMeters::new();
        add(&core.requests_total, 3);
        add(&core.rejected_ip_limit, 2);
        add(&core.rejected_core_limit, 1);
        add(&core.connections_open, 2);
        sub(&core.connections_open, 1);
        core.loop_lag.record(20_000);
        let snapshot = core.snapshot();
        assert_eq!(snapshot.total("ringway_core_requests_total"), 3);
        assert_eq!(snapshot.total("ringway_core_connections_rejected_total"), 3);
        assert_eq!(snapshot.total("ringway_core_connections_open"), 1);
        assert_eq!(snapshot.loop_lag.count(), 1);
    }
}
