//! The text of `/metrics` (Prometheus exposition format 0.0.4). Runs on the control thread; gathers nothing itself.

use crate::mesh::WorkerFacts;
use crate::observe::core_meters::{CORE_FIELDS, Kind};
use crate::observe::histogram::HistogramSnapshot;
use crate::observe::issuers::IssuerFacts;
use crate::observe::limits::LimitFacts;
use crate::observe::snapshot::{MetersSnapshot, RouteTotal, Totals, merge};
use crate::observe::upstreams::ClusterFacts;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

/// For the `Content-Type` of the answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// `method` and `code` of answers beyond `meters::COMBOS_MAX`.
const OTHER: &str = "_OTHER";

/// What is known of the process as a whole.
#[derive(Debug, Clone, Default)]
pub struct ProcessFacts {
    pub version: String,
    /// `io_uring` or `epoll`.
    pub io: String,
    /// Seconds since the epoch.
    pub started_unix_s: u64,
    pub reloads_ok: u64,
    pub reloads_failed: u64,
    pub reload_last_ok: bool,
    /// Of the last successful one; 0 before the first.
    pub reload_last_ok_unix_s: u64,
    pub access_log_lines: u64,
    pub access_log_write_errors: u64,
    pub clusters: Vec<ClusterFacts>,
    pub issuers: Vec<IssuerFacts>,
    pub limits: Vec<LimitFacts>,
    pub workers: WorkerFacts,
}

/// Keeps each core's last snapshot: a core that is late for one scrape must not make sums go back.
#[derive(Debug, Default)]
pub struct Scrape {
    cores: BTreeMap<usize, Seen>,
}

#[derive(Debug)]
struct Seen {
    snapshot: Box<MetersSnapshot>,
    /// Since the last render.
    is_fresh: bool,
    /// Of its requests, what the last render had.
    requests_before: u64,
}

impl Scrape {
    pub fn update(&mut self, snapshot: Box<MetersSnapshot>) {
        let requests_before = self.cores.get(&snapshot.core).map_or(0, |seen| seen.requests_before);
        self.cores.insert(snapshot.core, Seen { snapshot, is_fresh: true, requests_before });
    }

    /// Renders and begins a new window (for the imbalance of requests, the time between two renders).
    pub fn render(&mut self, facts: &ProcessFacts) -> String {
        let mut page = Page::default();
        process(&mut page, facts);
        let totals = merge(self.cores.values().map(|seen| &*seen.snapshot));
        by_path(&mut page, &totals);
        by_route(&mut page, &totals);
        by_api(&mut page, &totals);
        super::upstreams::render(&mut page, &facts.clusters);
        super::issuers::render(&mut page, &facts.issuers);
        super::redis::render(&mut page, self.cores.values().flat_map(|seen| &seen.snapshot.redis));
        super::limits::render(&mut page, &facts.limits);
        workers(&mut page, &facts.workers);
        self.by_core(&mut page);
        self.imbalance(&mut page);
        for seen in self.cores.values_mut() {
            seen.is_fresh = false;
            seen.requests_before = seen.requests();
        }
        page.text
    }

    fn by_core(&self, page: &mut Page) {
        page.family("ringway_config_generation", "gauge", "Generation of the configuration that the core serves by.");
        for (core, seen) in &self.cores {
            page.sample("ringway_config_generation", &[("core", core)], seen.snapshot.generation);
        }
        page.family("ringway_core_answered", "gauge", "1 if the core answered this scrape; else its values are old.");
        for (core, seen) in &self.cores {
            page.sample("ringway_core_answered", &[("core", core)], u64::from(seen.is_fresh));
        }
        let mut family = "";
        for (at, field) in CORE_FIELDS.iter().enumerate() {
            if family != field.metric {
                let kind = if field.kind == Kind::Counter { "counter" } else { "gauge" };
                page.family(field.metric, kind, field.help);
                family = field.metric;
            }
            for (core, seen) in &self.cores {
                let value = seen.snapshot.own.fields().nth(at).map_or(0, |(_, value)| value);
                match &field.label {
                    Some((key, label)) => page.sample(field.metric, &[("core", core), (key, label)], value),
                    None => page.sample(field.metric, &[("core", core)], value),
                }
            }
        }
        const LAG: &str = "ringway_core_loop_lag_seconds";
        page.family(LAG, "histogram", "How late the core's loop was to look at what was ready.");
        for (core, seen) in &self.cores {
            page.histogram(LAG, &[("core", core)], &seen.snapshot.own.loop_lag);
        }
        const MESSAGES: &str = "ringway_core_mesh_messages_total";
        page.family(MESSAGES, "counter", "Messages to other threads; \"kept\" ones waited for room and then went.");
        for (core, seen) in &self.cores {
            for row in &seen.snapshot.mesh {
                let of = [("delivered", row.delivered), ("kept", row.kept), ("replaced", row.replaced)];
                for (what, count) in of.into_iter().chain([("refused", row.refused)]) {
                    page.sample(MESSAGES, &[("core", core), ("kind", &row.kind), ("outcome", &what)], count);
                }
            }
        }
    }

    fn imbalance(&self, page: &mut Page) {
        const INDEX: &str = "ringway_core_imbalance_index";
        page.family(INDEX, "gauge", "Busiest core over mean: 1 is even, the number of cores is all on one.");
        let connections = self.cores.values().map(|seen| seen.snapshot.own.total("ringway_core_connections_open"));
        let requests = self.cores.values().map(|seen| seen.requests().saturating_sub(seen.requests_before));
        page.sample(INDEX, &[("of", &"connections")], imbalance(connections));
        page.sample(INDEX, &[("of", &"requests")], imbalance(requests));
    }
}

impl Seen {
    fn requests(&self) -> u64 {
        self.snapshot.own.total("ringway_core_requests_total")
    }
}

/// Maximum over mean; 1 where there is nothing.
fn imbalance(values: impl Iterator<Item = u64>) -> f64 {
    let (mut max, mut sum, mut count) = (0, 0, 0u32);
    for value in values {
        (max, sum, count) = (value.max(max), sum + value, count + 1);
    }
    if sum == 0 { 1.0 } else { max as f64 * f64::from(count) / sum as f64 }
}

fn process(page: &mut Page, facts: &ProcessFacts) {
    page.family("ringway_build_info", "gauge", "1, with what runs as labels.");
    page.sample("ringway_build_info", &[("version", &facts.version), ("io", &facts.io)], 1);
    page.family("ringway_start_time_seconds", "gauge", "When the process started, in seconds since the epoch.");
    page.sample("ringway_start_time_seconds", &[], facts.started_unix_s);
    page.family("ringway_config_reloads_total", "counter", "Configuration reloads.");
    page.sample("ringway_config_reloads_total", &[("result", &"ok")], facts.reloads_ok);
    page.sample("ringway_config_reloads_total", &[("result", &"failed")], facts.reloads_failed);
    page.family("ringway_config_last_reload_success", "gauge", "1 if the last reload was adopted by every core.");
    page.sample("ringway_config_last_reload_success", &[], u64::from(facts.reload_last_ok));
    const LAST: &str = "ringway_config_last_reload_timestamp_seconds";
    page.family(LAST, "gauge", "When a reload last succeeded, in seconds since the epoch; 0: never.");
    page.sample(LAST, &[], facts.reload_last_ok_unix_s);
    page.family("ringway_access_log_lines_total", "counter", "Access-log lines handed to the file.");
    page.sample("ringway_access_log_lines_total", &[], facts.access_log_lines);
    const ERRORS: &str = "ringway_access_log_write_errors_total";
    page.family(ERRORS, "counter", "Writes of the access log that failed; they are tried again.");
    page.sample(ERRORS, &[], facts.access_log_write_errors);
}

/// What is too slow for a core's loop (hashes of passwords, slow signatures).
fn workers(page: &mut Page, facts: &WorkerFacts) {
    page.family("ringway_workers_waiting", "gauge", "Jobs that wait for a worker's thread.");
    page.sample("ringway_workers_waiting", &[], facts.waiting);
    page.family("ringway_workers_running", "gauge", "Jobs that a worker's thread does now.");
    page.sample("ringway_workers_running", &[], facts.running);
    const JOBS: &str = "ringway_workers_jobs_total";
    page.family(JOBS, "counter", "Jobs for the workers' threads; refused: the queue was full.");
    page.sample(JOBS, &[("result", &"done")], facts.done);
    page.sample(JOBS, &[("result", &"refused")], facts.refused);
}

/// The two metrics that the common alert rules know, by route pattern.
fn by_path(page: &mut Page, totals: &Totals<'_>) {
    let mut requests: BTreeMap<(&str, &str, String), u64> = BTreeMap::new();
    let mut times: BTreeMap<(&str, &str), HistogramSnapshot> = BTreeMap::new();
    for ((_, path, _), total) in totals {
        for (combo, count) in &total.combos {
            *requests.entry((path, combo.method(), combo.status().to_string())).or_default() += count;
        }
        if total.overflow > 0 {
            *requests.entry((path, OTHER, OTHER.to_string())).or_default() += total.overflow;
        }
        for (method, time) in &total.times {
            times.entry((path, method)).and_modify(|sum| sum.merge(time)).or_insert(*time);
        }
    }
    page.family("http_requests_total", "counter", "Requests served, by method, route pattern and status.");
    for ((path, method, status), count) in &requests {
        page.sample("http_requests_total", &[("method", method), ("path", path), ("status", status)], *count);
    }
    const TIME: &str = "http_response_time_seconds";
    page.family(TIME, "histogram", "First byte of the request to last byte of the answer.");
    for ((path, method), time) in &times {
        page.histogram(TIME, &[("method", method), ("path", path)], time);
    }
}

fn by_route(page: &mut Page, totals: &Totals<'_>) {
    let mut routes: BTreeMap<&str, Vec<&RouteTotal>> = BTreeMap::new();
    totals.iter().for_each(|((name, _, _), total)| routes.entry(name).or_default().push(total));

    const REQUESTS: &str = "ringway_requests_total";
    page.family(REQUESTS, "counter", "Requests served: who answered (source) and what went wrong (flag).");
    for (route, totals) in &routes {
        let mut series: BTreeMap<(&str, String, &str, &str), u64> = BTreeMap::new();
        for (combo, count) in totals.iter().flat_map(|total| &total.combos) {
            let (source, flag) = (combo.source().label(), combo.flag().letters());
            *series.entry((combo.method(), combo.status().to_string(), source, flag)).or_default() += count;
        }
        let overflow = totals.iter().map(|total| total.overflow).sum::<u64>();
        if overflow > 0 {
            series.insert((OTHER, OTHER.to_string(), OTHER, OTHER), overflow);
        }
        for ((method, code, source, flag), count) in &series {
            let labels: [(&str, &dyn Display); 5] =
                [("route", route), ("method", method), ("code", code), ("source", source), ("flag", flag)];
            page.sample(REQUESTS, &labels, *count);
        }
    }
    const OVERHEAD: &str = "ringway_overhead_seconds";
    page.family(OVERHEAD, "histogram", "The gateway's own share: response time minus the wait for the origin.");
    for (route, totals) in &routes {
        let mut sum = totals[0].overhead;
        totals[1..].iter().for_each(|total| sum.merge(&total.overhead));
        if sum.count() > 0 {
            page.histogram(OVERHEAD, &[("route", route)], &sum);
        }
    }
    bytes(page, &routes, "ringway_request_bytes_total", "Bytes of requests, as received.", |total| total.bytes_in);
    bytes(page, &routes, "ringway_response_bytes_total", "Bytes of answers, as sent.", |total| total.bytes_out);
}

/// The versions of an API side by side, whatever routes they have.
fn by_api(page: &mut Page, totals: &Totals<'_>) {
    let mut requests: BTreeMap<(&str, &str, String), u64> = BTreeMap::new();
    let mut times: BTreeMap<(&str, &str), HistogramSnapshot> = BTreeMap::new();
    for ((_, _, api), total) in totals {
        let Some((api, version)) = *api else { continue };
        for (combo, count) in &total.combos {
            *requests.entry((api, version, combo.status().to_string())).or_default() += count;
        }
        if total.overflow > 0 {
            *requests.entry((api, version, OTHER.to_string())).or_default() += total.overflow;
        }
        for time in total.times.values() {
            times.entry((api, version)).and_modify(|sum| sum.merge(time)).or_insert(*time);
        }
    }
    if requests.is_empty() {
        return;
    }
    const REQUESTS: &str = "ringway_api_requests_total";
    page.family(REQUESTS, "counter", "Requests served, by API, version and status.");
    for ((api, version, code), count) in &requests {
        page.sample(REQUESTS, &[("api", api), ("version", version), ("code", code)], *count);
    }
    const TIME: &str = "ringway_api_response_time_seconds";
    page.family(TIME, "histogram", "First byte of the request to last byte of the answer, by API and version.");
    for ((api, version), time) in &times {
        page.histogram(TIME, &[("api", api), ("version", version)], time);
    }
}

fn bytes(
    page: &mut Page,
    routes: &BTreeMap<&str, Vec<&RouteTotal>>,
    name: &str,
    help: &str,
    of: fn(&RouteTotal) -> u64,
) {
    page.family(name, "counter", help);
    for (route, totals) in routes {
        page.sample(name, &[("route", route)], totals.iter().map(|total| of(total)).sum::<u64>());
    }
}

#[derive(Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.text.push_str(name);
        if !labels.is_empty() {
            self.text.push('{');
            write_labels(&mut self.text, labels);
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// Always with labels. They are escaped once, since a page with many routes is mostly buckets.
    fn histogram(&mut self, name: &str, labels: &[(&str, &dyn Display)], histogram: &HistogramSnapshot) {
        let mut own = String::new();
        write_labels(&mut own, labels);
        let text = &mut self.text;
        for (bound, count) in histogram.cumulative() {
            let _ = writeln!(text, "{name}_bucket{{{own},le=\"{}\"}} {count}", Seconds(bound));
        }
        let (count, sum) = (histogram.count(), Seconds(histogram.sum_ns()));
        let _ = writeln!(text, "{name}_bucket{{{own},le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "{name}_sum{{{own}}} {sum}\n{name}_count{{{own}}} {count}");
    }
}

fn write_labels(text: &mut String, labels: &[(&str, &dyn Display)]) {
    for (at, (key, value)) in labels.iter().enumerate() {
        let separator = if at == 0 { "" } else { "," };
        let _ = write!(text, "{separator}{key}=\"");
        let _ = write!(Escaped(text), "{value}");
        text.push('"');
    }
}

/// Nanoseconds, printed as seconds exactly: "0.00025", "2.5", "10".
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, ns) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if ns == 0 {
            return write!(out, "{whole}");
        }
        let (mut digits, mut width) = (ns, 9);
        while digits % 10 == 0 {
            (digits, width) = (digits / 10, width - 1);
        }
        write!(out, "{whole}.{digits:0width$}")
    }
}

/// A label's value: backslash, quote and line feed are escaped.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let Some(_) = text.find(['\\', '"', '\n']) else {
            self.0.push_str(text);
            return Ok(());
        };
        for c in text.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                _ => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
