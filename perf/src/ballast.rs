//! Threads that keep the gateway's core busy beside the gateway, for cases whose load costs more than the gateway does.
//!
//! Over loopback most of a handshake's work falls to the core that connects, so that with a connection per request the
//! load's core fills first and every gateway waits. Beside the ballast, which only spins, a gateway gets a seventh of its
//! core and always has work, as it would under a load that fills it; its own run time is counted exactly as before.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::process::Pid;

use crate::calib::pin;
use crate::usage::thread_run_s;

/// The gateway is one among so many and itself.
const SPINNERS: usize = 6;

/// Spins until it is dropped.
pub struct Ballast {
    stop: Arc<AtomicBool>,
    spinners: Vec<Spinner>,
}

struct Spinner {
    thread: JoinHandle<()>,
    tid: Pid,
}

impl Ballast {
    /// # Errors
    /// The kernel's, when `core` cannot be had.
    pub fn start(core: usize) -> io::Result<Ballast> {
        let mut ballast = Ballast { stop: Arc::new(AtomicBool::new(false)), spinners: Vec::new() };
        for _ in 0..SPINNERS {
            ballast.spinners.push(Spinner::start(core, ballast.stop.clone())?);
        }
        Ok(ballast)
    }

    /// Seconds of CPU time used so far.
    pub fn run_s(&self) -> f64 {
        self.spinners.iter().map(|spinner| thread_run_s(spinner.tid)).sum()
    }
}

impl Spinner {
    fn start(core: usize, stop: Arc<AtomicBool>) -> io::Result<Spinner> {
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let pinned = pin(core).map(|()| rustix::thread::gettid());
            let spins = pinned.is_ok();
            // Whoever started this waits for it.
            let _ = tell.send(pinned);
            while spins && !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let tid = told.recv().map_err(io::Error::other)??;
        Ok(Spinner { thread, tid })
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for spinner in self.spinners.drain(..) {
            // It cannot panic.
            let _ = spinner.thread.join();
        }
    }
}
