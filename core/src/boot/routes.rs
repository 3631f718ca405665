//! `ringway routes`: every route of a file, and which of them anybody can reach. Asks no running gateway.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use ringway_config::Snapshot;

use super::cli::print_problems;
use crate::control::document::{Document, DryRun};
use crate::plan::Plan;

/// Names that one line of `check` shows; `routes` shows all.
const SHOWN_MAX: usize = 20;

/// Prints the list. 1: the file is bad.
pub fn list(file: &Path) -> ExitCode {
    match Document::read(Some(file)).and_then(|document| Ok((document.dry_run()?, document))) {
        Ok((DryRun { plan, .. }, document)) => {
            use std::io::Write;
            let _ = std::io::stdout().write_all(table(&document.snapshot, &plan).as_bytes());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            print_problems(&errors);
            ExitCode::FAILURE
        }
    }
}

/// The routes that anybody can reach, as a line for `check`; nothing if there are none.
pub fn open(snapshot: &Snapshot, plan: &Plan) -> String {
    let open: Vec<&str> = open_routes(snapshot, plan).map(|id| snapshot.routes[id].name.as_str()).collect();
    let (count, all) = (open.len(), snapshot.routes.len());
    match count {
        0 => String::new(),
        _ if count == all => "reachable without authentication: every route\n".to_owned(),
        _ => {
            let more = if count > SHOWN_MAX { ", ..." } else { "" };
            let shown = open[..count.min(SHOWN_MAX)].join(", ");
            format!("reachable without authentication: {count} of {all} routes: {shown}{more}\n")
        }
    }
}

fn open_routes<'a>(snapshot: &'a Snapshot, plan: &'a Plan) -> impl Iterator<Item = usize> + 'a {
    (0..snapshot.routes.len()).filter(|id| plan.is_open(snapshot, *id))
}

fn table(snapshot: &Snapshot, plan: &Plan) -> String {
    let mut out = String::new();
    for (id, route) in snapshot.routes.iter().enumerate() {
        let methods = if route.methods.is_empty() { "any".to_owned() } else { route.methods.join(",") };
        let hosts: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
        let who = match (plan.is_open(snapshot, id), route.public) {
            (true, true) => "open (public)",
            (true, false) => "open",
            (false, _) => "authenticated",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}  {methods}  {}{}  {who}", route.name, hosts.join(","), plan.table.label(id as u32));
    }
    out
}
