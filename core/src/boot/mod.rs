//! From a command line to a serving process: file, own sockets, cores, engine, limits, listeners, threads, in this
//! order, each with one clear line when it cannot be had. What goes on after the start is `control`'s.

mod cli;
mod cores;
mod demo;
mod explain;
mod explain_access;
mod explain_cluster;
mod limits;
mod routes;
mod shards;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use ringway_config::snapshot::{CoreCount, CoreLimits, IoChoice, Snapshot};
use ringway_config::{Errors, Fault};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

pub use cli::main;

use crate::control::document::Document;
use crate::control::socket::{self, Door};
use crate::control::{
    Bound, Control, ControlParts, Ending, LOOKUPS_MAX, Left, Names, QUEUED_MAX, Serving, Signals, bind_listeners,
    port_holder, say, say_blockers, system_lookup,
};
use crate::net::{self, EngineKind};
use crate::plan::Node;
use cores::{Machine, Seats};
use limits::Fit;

/// Threads for what blocks: lookups, a reload's file and plan, one to spare.
const BLOCKING_THREADS_MAX: usize = LOOKUPS_MAX + 3;
/// The first plan's.
const FIRST_GENERATION: u64 = 1;

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Config(#[from] Errors),
    #[error("{0}")]
    Other(String),
}

/// Serves until it is told to end.
fn run(config: Option<&Path>) -> ExitCode {
    match start(config) {
        Ok(Ending::Drained) => ExitCode::SUCCESS,
        Ok(Ending::Forced | Ending::CoreDied(_)) => ExitCode::FAILURE,
        Err(StartError::Config(errors)) => {
            cli::print_problems(&errors);
            ExitCode::FAILURE
        }
        Err(StartError::Other(why)) => {
            say(&why);
            ExitCode::FAILURE
        }
    }
}

/// What is decided before any core is started.
struct Settled {
    document: Document,
    engine: EngineKind,
    seats: Seats,
    /// By core.
    limits: Vec<CoreLimits>,
}

fn start(config: Option<&Path>) -> Result<Ending, StartError> {
    let path = config.map(std::path::absolute).transpose().map_err(other)?;
    let document = Document::read(path.as_deref())?;
    // What cannot be built lets nobody pass, which the control thread says once it serves.
    document.dry_run()?;
    let process = &document.snapshot.process;
    let door = Door::open(&socket::candidates(&process.control.socket)).map_err(other)?;
    let telemetry = process.telemetry.bind.map(bind_telemetry).transpose()?;
    let settled = settle(document)?;
    if config.is_none() {
        let busy = |(address, error)| say_bind("the demo's origin", address, &error);
        demo::start(&settled.document.snapshot).map_err(busy)?;
    }
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build().map_err(other)?;
    let ending = LocalSet::new().block_on(&runtime, serve(settled, door, telemetry));
    // A lookup may hang for long; nobody waits for it any more.
    runtime.shutdown_background();
    ending
}

fn settle(document: Document) -> Result<Settled, StartError> {
    let snapshot = &document.snapshot;
    cli::print_problems(&Errors(document.warnings.clone()));
    let machine = Machine::look();
    let located = |fault: Fault| StartError::Config(document.locate(vec![fault]));
    let seats = cores::choose(&snapshot.process.cores.count, &machine, document.path.is_none()).map_err(located)?;
    seats.warning.iter().for_each(|warning| say(warning));
    let engine = choose_engine(snapshot.process.io, net::probe()).map_err(located)?;
    let limits = fit_limits(snapshot, seats.cpus.len())?;
    if snapshot.process.cores.count == CoreCount::Auto {
        let absent = snapshot.process.cores.overrides.iter().filter(|(number, _)| *number >= seats.cpus.len());
        let faults = absent.map(|(number, _)| {
            let fault = Fault::new(format!("there is no core {number} here")).at(format!("cores.{number}"));
            fault.cure(format!("\"auto\" makes {}; these values serve nobody", seats.cpus.len()))
        });
        cli::print_problems(&document.locate(faults.collect()));
    }
    Ok(Settled { engine, seats, limits, document })
}

fn other(error: impl std::fmt::Display) -> StartError {
    StartError::Other(error.to_string())
}

fn choose_engine(choice: IoChoice, probe: Result<(), String>) -> Result<EngineKind, Fault> {
    match (choice, probe) {
        (IoChoice::Epoll, _) => Ok(EngineKind::Epoll),
        (_, Ok(())) => Ok(EngineKind::IoUring),
        (IoChoice::Auto, Err(why)) => {
            say(&format!("{why}; serving by epoll, at a higher cost per request"));
            Ok(EngineKind::Epoll)
        }
        (IoChoice::IoUring, Err(why)) => Err(Fault::new(why).at("io").cure("allow it, or set io = \"auto\"")),
    }
}

fn fit_limits(snapshot: &Snapshot, cores: usize) -> Result<Vec<CoreLimits>, StartError> {
    let files_max = limits::raise_open_files().map_err(|error| other(format!("the open-files limit: {error}")))?;
    let mut each: Vec<CoreLimits> = (0..cores).map(|core| snapshot.process.cores.limits(core).clone()).collect();
    let cure = "raise the hard limit (ulimit -Hn, LimitNOFILE=)";
    match limits::fit_connections(&mut each, files_max, limits::spare_files(snapshot, cores, files_max)) {
        Fit::Fits => {}
        Fit::Lowered { per_core, needed } => say(&format!(
            "connections_max is lowered to {per_core} per core: {needed} open files would be needed, {files_max} are \
             allowed; {cure}"
        )),
        Fit::TooFew { needed } => {
            let why =
                format!("connections_max does not fit: {needed} open files are the least, {files_max} are allowed");
            return Err(StartError::Other(format!("{why}; {cure}")));
        }
    }
    Ok(each)
}

fn say_bind(what: &str, address: SocketAddr, error: &io::Error) -> StartError {
    StartError::Other(match error.kind() {
        io::ErrorKind::AddrInUse => format!("{what}: {}", port_holder::describe(address)),
        _ => format!("{what}: {address}: {error}"),
    })
}

fn bind_telemetry(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true).map(|()| listener)
    };
    bind().map_err(|error| say_bind("telemetry.bind", address, &error))
}

async fn serve(
    settled: Settled,
    mut door: Door,
    telemetry: Option<std::net::TcpListener>,
) -> Result<Ending, StartError> {
    let Settled { document, engine, seats, limits } = settled;
    let signals = Signals::catch().map_err(other)?;
    let names = Rc::new(Names::new(system_lookup, shards::random()));
    spawn_local(names.clone().refresh());
    names.learn(&document.snapshot).await;
    let known = names.known();
    let mut plan = document.plan(FIRST_GENERATION, &known, Node::new(seats.cpus.len()), None)?;
    let bound = bind_listeners(&mut plan, &Bound::new(), &Left::default(), &seats.cpus).map_err(other)?;

    let plan = Arc::new(plan);
    let (died_tx, died) = mpsc::channel(seats.cpus.len());
    let crew =
        shards::Crew { engine, cpus: &seats.cpus, limits: &limits, process: &document.snapshot.process, died_tx };
    let shards::Started { port, gauges, inbox, log, errands, workers } =
        shards::start(&crew, &plan).map_err(StartError::Other)?;
    let (orders, ordered) = mpsc::channel(QUEUED_MAX);
    let document = Arc::new(document);
    let (document_now, plan_now) = (document.clone(), plan.clone());
    let serving =
        Serving { document: document_now, plan: plan_now, generation: FIRST_GENERATION, bound: bound.clone(), known };
    let (path, cpus) = (document.path.clone(), seats.cpus.clone());
    let seed = shards::random();
    let control =
        Control::new(ControlParts { path, engine, cpus, port, gauges, names, serving, log, orders, workers, seed });

    spawn_local(control.clone().read_inbox(inbox));
    spawn_local(control.clone().run_errands(errands));
    let telemetry_at = telemetry.as_ref().and_then(|listener| listener.local_addr().ok());
    if let Some(listener) = telemetry {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(other)?;
        spawn_local(control.clone().serve_telemetry(listener));
    }
    let mut died = died;
    tokio::select! {
        adopted = control.first_adopted(&plan) => adopted.map_err(|why| other(say_blockers(&why)))?,
        Some((core, why)) = died.recv() => return Err(other(format!("core {core} cannot start: {why}"))),
    };
    drop(plan);
    spawn_local(control.clone().serve_door(door.listener().map_err(other)?));
    spawn_local(control.clone().obey(ordered));
    greet(&document, engine, &seats, &bound, telemetry_at, &door.path);
    control.set_ready();
    let ending = control.clone().run(signals, died).await;
    control.end(&ending).await;
    Ok(ending)
}

/// What runs where, and two lines to try.
fn greet(
    document: &Document,
    engine: EngineKind,
    seats: &Seats,
    bound: &Bound,
    telemetry: Option<SocketAddr>,
    door: &Path,
) {
    let what = document.path.as_deref().map_or("the embedded demo".to_owned(), |path| path.display().to_string());
    let mut lines = vec![format!("ringway {} serves {what}", env!("CARGO_PKG_VERSION"))];
    lines.extend(bound.iter().map(|((name, _), address)| format!("  listening  http://{address} ({name})")));
    let pinned: Vec<usize> = seats.cpus.iter().copied().flatten().collect();
    let count = seats.cpus.len();
    lines.push(match pinned.is_empty() {
        true => format!("  cores      {count}, wherever the kernel runs them"),
        false => format!("  cores      {count}, pinned to CPU {}", cores::ranges(&pinned)),
    });
    lines.push(format!("  engine     {}", engine.as_str()));
    lines.push(telemetry.map_or("  telemetry  off".to_owned(), |at| format!("  telemetry  http://{at}/metrics")));
    lines.push(format!("  control    {}", door.display()));
    if let Some(address) = bound.values().next() {
        let at = reachable(*address);
        let path = if document.path.is_none() { "/api/hello" } else { "/" };
        lines.push(format!("  try        curl -i http://{at}{path}"));
        lines.push(format!("             wrk -t1 -c64 -d5s http://{at}{path}"));
    }
    let _ = io::stderr().write_all((lines.join("\n") + "\n").as_bytes());
}

/// An address that a client on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_what_was_asked_for_or_the_reason_why_not() {
        let no = || Err("io_uring is forbidden".to_owned());
        assert_eq!(choose_engine(IoChoice::Auto, Ok(())), Ok(EngineKind::IoUring));
        assert_eq!(choose_engine(IoChoice::Auto, no()), Ok(EngineKind::Epoll));
        assert_eq!(choose_engine(IoChoice::Epoll, Ok(())), Ok(EngineKind::Epoll));
        let fault = choose_engine(IoChoice::IoUring, no()).unwrap_err();
        assert_eq!((fault.place.as_str(), fault.message.as_str()), ("io", "io_uring is forbidden"));
    }

    #[test]
    fn a_wildcard_is_tried_on_loopback() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(
            (at("0.0.0.0:80"), at("[::]:80"), at("10.0.0.1:80")),
            ("127.0.0.1:80".into(), "[::1]:80".into(), "10.0.0.1:80".into())
        );
    }
}
