//! The one thread that writes the access log: it empties all cores' rings in batches. Renders nothing.
//!
//! It looks every `POLL` and earlier only when a ring passes half, so that a shard makes no system call per line. A disk
//! that is full or a pipe that is stuck holds up this thread and nobody else: rings fill, lines are dropped and counted.

use crate::observe::access_log::LINE_BYTES_MAX;
use crate::observe::log_ring::LineReceiver;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
/// Bytes of one write. A line always fits.
const BATCH_BYTES_MAX: usize = 256 * 1024;
const _: () = assert!(LINE_BYTES_MAX <= BATCH_BYTES_MAX);
/// A broken disk is told of on stderr once in this time, and counted always.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);
/// Lines may name users: for the owner and its group (log shippers) only.
const FILE_MODE: u32 = 0o640;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    /// Appended to, made if absent, opened again by `LogWriter::reopen`.
    File(PathBuf),
}

/// The running writer. Dropping it leaves the thread running; `stop` ends it.
pub struct LogWriter {
    shared: Arc<Shared>,
    waker: LogWaker,
    ended: Receiver<()>,
}

#[derive(Default)]
struct Shared {
    is_stopping: AtomicBool,
    must_reopen: AtomicBool,
    lines: AtomicU64,
    errors: AtomicU64,
}

/// What a shard holds of the writer.
#[derive(Clone)]
pub struct LogWaker(Thread);

impl LogWaker {
    /// A system call only if the writer sleeps.
    pub fn wake(&self) {
        self.0.unpark();
    }
}

impl LogWriter {
    /// Fails if the target cannot be opened or the thread not started. Call it before the shards are pinned: the
    /// thread inherits the caller's affinity.
    pub fn start(target: LogTarget, rings: Vec<LineReceiver>) -> io::Result<LogWriter> {
        let shared = Arc::new(Shared::default());
        let mut pump = Pump::new(target.open()?, rings);
        let (end, ended) = mpsc::channel();
        let thread_shared = shared.clone();
        let thread = thread::Builder::new().name("ringway-log".into()).spawn(move || {
            run(&mut pump, &target, &thread_shared);
            let _ = end.send(());
        })?;
        Ok(LogWriter { shared, waker: LogWaker(thread.thread().clone()), ended })
    }

    pub fn waker(&self) -> LogWaker {
        self.waker.clone()
    }

    /// Opens the file by its name again: after a log rotation (SIGUSR1). Returns at once.
    pub fn reopen(&self) {
        self.shared.must_reopen.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Lines written so far.
    pub fn lines(&self) -> u64 {
        self.shared.lines.load(Ordering::Relaxed)
    }

    /// Failed writes and failed opens so far.
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::Relaxed)
    }

    /// Writes what is in the rings and ends the thread. False if that took longer (a stuck pipe): it is left behind.
    pub fn stop(self, timeout: Duration) -> bool {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.waker.wake();
        self.ended.recv_timeout(timeout) != Err(RecvTimeoutError::Timeout)
    }
}

impl LogTarget {
    /// Both are close-on-exec.
    fn open(&self) -> io::Result<File> {
        match self {
            LogTarget::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
            LogTarget::File(path) => OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path),
        }
    }
}

fn run(pump: &mut Pump<File>, target: &LogTarget, shared: &Shared) {
    let mut complaints = Complaints::default();
    loop {
        // Read before the rings: what was logged before `stop` was called is then seen below.
        let is_stopping = shared.is_stopping.load(Ordering::Acquire);
        let mut result = Ok(());
        if shared.must_reopen.swap(false, Ordering::AcqRel) {
            result = target.open().map(|file| pump.switch(file));
        }
        result = result.and(pump.empty_rings());
        shared.lines.store(pump.lines, Ordering::Relaxed);
        if let Err(error) = result {
            shared.errors.fetch_add(1, Ordering::Relaxed);
            if complaints.may_complain(Instant::now()) {
                crate::observe::say(&format!(
                    "the access log cannot be written: {error}; trying on, lines may be lost"
                ));
            }
        }
        if is_stopping {
            return;
        }
        thread::park_timeout(POLL);
    }
}

/// Moves bytes from rings to a file. A batch is kept until all of it is written.
struct Pump<W> {
    file: W,
    rings: Vec<LineReceiver>,
    /// Which ring is asked first, so that one busy core cannot shut out the others.
    first: usize,
    batch: Vec<u8>,
    written: usize,
    batch_lines: u64,
    lines: u64,
}

impl<W: Write> Pump<W> {
    fn new(file: W, rings: Vec<LineReceiver>) -> Pump<W> {
        let batch = Vec::with_capacity(BATCH_BYTES_MAX);
        Pump { file, rings, first: 0, batch, written: 0, batch_lines: 0, lines: 0 }
    }

    /// Until all rings were seen empty, or the file does not take more: what is left is tried again next time.
    fn empty_rings(&mut self) -> io::Result<()> {
        loop {
            while self.written < self.batch.len() {
                match self.file.write(&self.batch[self.written..]) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(count) => self.written += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // A nonblocking pipe whose reader is slow: no fault, only later.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            self.lines += self.batch_lines;
            self.fill();
            if self.batch.is_empty() {
                return Ok(());
            }
        }
    }

    fn fill(&mut self) {
        self.batch.clear();
        (self.written, self.batch_lines) = (0, 0);
        let count = self.rings.len();
        for step in 0..count {
            let ring = &mut self.rings[(self.first + step) % count];
            self.batch_lines += ring.take(&mut self.batch, BATCH_BYTES_MAX);
        }
        self.first = (self.first + 1) % count.max(1);
    }

    /// The new file begins with a whole line: the rest of one that is half in the old file is let go.
    fn switch(&mut self, file: W) {
        self.file = file;
        let is_mid_line = self.written > 0 && self.batch[self.written - 1] != b'\n';
        if is_mid_line {
            let rest = &self.batch[self.written..];
            self.written += rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        }
    }
}

/// At most one per `COMPLAINT_EVERY`.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    fn may_complain(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.duration_since(last) >= COMPLAINT_EVERY);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests;
