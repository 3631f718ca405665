//! The cores' threads: what each is given, and how it is begun. What it does then is `serve`'s.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use ringway_config::snapshot::{AccessTarget, CoreLimits, Log, Pool, Process};
use tokio::sync::mpsc;

use super::cores;
use crate::control::document::log_settings;
use crate::mesh::inbox::INBOX_MESSAGES;
use crate::mesh::{CoreGauges, Errand, Receiver, WorkerCounts, Workers, inbox};
use crate::net::EngineKind;
use crate::observe::access_log::LINE_BYTES_MAX;
use crate::observe::{CoreLog, LogTarget, LogWriter, log_ring};
use crate::plan::Plan;
use crate::serve::{self, CoreStart};
use crate::shard::{ControlMessage, ShardPort};
use crate::upstream::PoolShare;

/// What a line of the access log takes in a core's ring, on average: `queue_lines_max` is kept in bytes.
const LINE_BYTES_TYPICAL: usize = 256;

/// Makes the log closure that a core calls on its own thread.
type MakeLog = Box<dyn FnOnce() -> CoreLog + Send>;

/// What all cores have in common.
pub struct Crew<'a> {
    pub engine: EngineKind,
    pub cpus: &'a [Option<usize>],
    pub limits: &'a [CoreLimits],
    pub process: &'a Process,
    /// Told when a core's thread ends, and why.
    pub died_tx: mpsc::Sender<(usize, String)>,
}

/// What the control thread has of them.
pub struct Started {
    pub port: ShardPort,
    pub gauges: CoreGauges,
    pub inbox: Receiver<ControlMessage>,
    pub log: Option<LogWriter>,
    pub errands: mpsc::Receiver<Errand>,
    pub workers: Arc<WorkerCounts>,
}

/// Starts the log's writer and one thread per core. They acknowledge the plan through the inbox.
///
/// # Errors
/// What could not be had, as a line for the operator.
pub fn start(crew: &Crew<'_>, plan: &Arc<Plan>) -> Result<Started, String> {
    let count = crew.cpus.len();
    let no_inbox = |error| format!("a core's inbox cannot be made: {error}");
    let (to_control, inbox_of_control) = inbox(INBOX_MESSAGES).map_err(no_inbox)?;
    let mut senders = Vec::with_capacity(count);
    let mut receivers = Vec::with_capacity(count);
    for _ in 0..count {
        let (sender, receiver) = inbox(INBOX_MESSAGES).map_err(no_inbox)?;
        senders.push(sender);
        receivers.push(receiver);
    }
    let (log, mut makers) = start_log(&crew.process.log, count)?;
    let gauges = CoreGauges::new(count);
    let workers = crew.process.workers;
    let (workers, errands) = Workers::start(workers.threads, workers.queue_max)
        .map_err(|error| format!("a worker's thread cannot be started: {error}"))?;
    for (core, inbox) in receivers.into_iter().enumerate() {
        let start = CoreStart {
            core,
            cores: count,
            engine: crew.engine,
            limits: crew.limits[core].clone(),
            share: share(&crew.process.pool, count),
            plan: plan.clone(),
            inbox,
            shards: senders.clone(),
            control: to_control.clone(),
            gauge: gauges.own(core),
            log: makers.get_mut(core).and_then(Option::take),
            workers: workers.clone(),
            seed: random(),
        };
        begin(start, crew.cpus[core], crew.died_tx.clone())?;
    }
    let port = ShardPort::of_control(&senders);
    Ok(Started { port, gauges, inbox: inbox_of_control, log, errands, workers: workers.counts() })
}

fn begin(start: CoreStart, cpu: Option<usize>, died: mpsc::Sender<(usize, String)>) -> Result<(), String> {
    let core = start.core;
    let live = move || {
        block_signals();
        let result = match cpu.map_or(Ok(()), cores::pin) {
            Ok(()) => catch_unwind(AssertUnwindSafe(|| serve::run(start))),
            Err(error) => Ok(Err(error)),
        };
        let why = match result {
            Ok(Ok(())) => "its loop ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        let _ = died.try_send((core, why));
    };
    let thread = std::thread::Builder::new().name(format!("ringway-{core}")).spawn(live);
    thread.map(drop).map_err(|error| format!("core {core}: no thread: {error}"))
}

/// Signals are the control thread's: a shard's system calls are not interrupted by them.
fn block_signals() {
    // SAFETY: the set is filled before it is read; only the calling thread's mask changes.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// A core's part of the node's idle connections, rounded up: at least one where there is any.
fn share(pool: &Pool, cores: usize) -> PoolShare {
    PoolShare {
        idle_max: pool.idle_max.div_ceil(cores),
        idle_per_endpoint_max: pool.idle_per_endpoint_max.div_ceil(cores),
        idle_timeout: pool.idle_timeout,
        lifetime_max: pool.lifetime_max,
    }
}

fn start_log(log: &Log, cores: usize) -> Result<(Option<LogWriter>, Vec<Option<MakeLog>>), String> {
    let (target, name) = match &log.access {
        AccessTarget::Off => return Ok((None, Vec::new())),
        AccessTarget::Stdout => (LogTarget::Stdout, "stdout".to_owned()),
        AccessTarget::File(path) => (LogTarget::File(path.clone()), path.display().to_string()),
    };
    let settings = log_settings(log).map_err(|fault| fault.to_string())?;
    let ring_bytes = (log.queue_lines_max * LINE_BYTES_TYPICAL).max(2 * LINE_BYTES_MAX);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..cores).map(|_| log_ring(ring_bytes)).unzip();
    let cannot = |error| format!("log.access: {name} cannot be opened: {error}; make it writable, or set \"off\"");
    let writer = LogWriter::start(target, receivers).map_err(cannot)?;
    let make = |(core, ring)| {
        let (settings, waker) = (settings.clone(), writer.waker());
        let make: MakeLog = Box::new(move || CoreLog::new(core, Rc::new(settings), ring, waker));
        Some(make)
    };
    let makers = senders.into_iter().enumerate().map(make).collect();
    Ok((Some(writer), makers))
}

/// From the kernel's generator; the address of a local where that has none, which is better than a constant.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: the kernel fills at most the given number of bytes.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if count == bytes.len() as isize { u64::from_ne_bytes(bytes) } else { (&raw const bytes) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn shares_are_rounded_up() {
        let pool = |idle_max, idle_per_endpoint_max| Pool {
            idle_max,
            idle_per_endpoint_max,
            idle_timeout: Duration::from_secs(1),
            lifetime_max: Duration::from_secs(2),
        };
        let figures = |pool: &Pool, cores| {
            let share = share(pool, cores);
            (share.idle_max, share.idle_per_endpoint_max)
        };
        assert_eq!(figures(&pool(1000, 100), 3), (334, 34));
        assert_eq!(figures(&pool(2, 1), 7), (1, 1));
        assert_eq!(figures(&pool(0, 0), 7), (0, 0), "none is none");
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(random(), random());
    }
}
