//! Open files: how many the process may have, and how many connections fit in them. Opens none.

use std::io;

use ringway_config::snapshot::{CoreLimits, Snapshot};

/// Descriptors of a process that serves nobody: standard streams, the runtime, the log, control and telemetry sockets
/// with their clients.
const PROCESS_FILES: u64 = 128;
/// Of one core: its ring or epoll, its inbox, timers.
const CORE_FILES: u64 = 8;
/// A client's connection and its origin's.
const FILES_PER_CONNECTION: u64 = 2;

/// Raises the soft limit to the hard one, and says what it is.
///
/// # Errors
/// The kernel's; the limit is then as it was.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the struct that the pointer is to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the kernel reads the struct that the pointer is to.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Descriptors that are needed besides those of clients and the origins they are waiting for.
pub fn spare_files(snapshot: &Snapshot, cores: usize, files_max: u64) -> u64 {
    let cores = cores as u64;
    let addresses: usize = snapshot.listeners.iter().map(|listener| listener.bind.len()).sum();
    // Idle origin connections are closed when descriptors run short, so they may not take them all from clients.
    let idle = (snapshot.process.pool.idle_max as u64).min(files_max / 4);
    PROCESS_FILES + cores * (CORE_FILES + addresses as u64) + idle
}

/// What became of the cores' `connections_max`.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// All fit.
    Fits,
    /// The largest caps were lowered to `per_core`.
    Lowered { per_core: usize, needed: u64 },
    /// Not even one connection for each core.
    TooFew { needed: u64 },
}

/// Lowers `connections_max` of the cores that have the most until all fit into `files_max` descriptors.
pub fn fit_connections(limits: &mut [CoreLimits], files_max: u64, spare: u64) -> Fit {
    let files = |connections: u64| connections * FILES_PER_CONNECTION + spare;
    let needed = files(limits.iter().map(|limits| limits.connections_max as u64).sum());
    if needed <= files_max {
        return Fit::Fits;
    }
    let room = files_max.saturating_sub(spare) / FILES_PER_CONNECTION;
    match level(limits.iter().map(|limits| limits.connections_max).collect(), room) {
        0 => Fit::TooFew { needed: files(limits.len() as u64) },
        per_core => {
            limits.iter_mut().for_each(|limits| limits.connections_max = limits.connections_max.min(per_core));
            Fit::Lowered { per_core, needed }
        }
    }
}

/// The cap that, put on all, makes their sum at most `room`: small ones keep what they have.
fn level(mut caps: Vec<usize>, room: u64) -> usize {
    caps.sort_unstable();
    let (mut left, mut count) = (room, caps.len() as u64);
    for cap in caps {
        let fair = left / count;
        if cap as u64 > fair {
            return fair as usize;
        }
        (left, count) = (left - cap as u64, count - 1);
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(caps: &[usize]) -> Vec<CoreLimits> {
        let core = |connections_max: &usize| CoreLimits {
            ring_entries: 64,
            connections_max: *connections_max,
            buffer_bytes: 4096,
            buffers_max: 64,
            keepalive_timeout: None,
        };
        caps.iter().map(core).collect()
    }

    fn caps(limits: &[CoreLimits]) -> Vec<usize> {
        limits.iter().map(|limits| limits.connections_max).collect()
    }

    #[test]
    fn what_fits_is_left_alone() {
        let mut limits = cores(&[100, 50]);
        assert_eq!(fit_connections(&mut limits, 400, 100), Fit::Fits);
        assert_eq!(caps(&limits), [100, 50]);
    }

    #[test]
    fn one_file_too_few_lowers_the_cap() {
        let mut limits = cores(&[100, 100]);
        assert_eq!(fit_connections(&mut limits, 499, 100), Fit::Lowered { per_core: 99, needed: 500 });
        assert_eq!(caps(&limits), [99, 99]);
    }

    #[test]
    fn a_small_core_keeps_its_cap_and_the_rest_share() {
        let mut limits = cores(&[1000, 10, 400]);
        assert_eq!(fit_connections(&mut limits, 520, 100), Fit::Lowered { per_core: 100, needed: 2920 });
        assert_eq!(caps(&limits), [100, 10, 100]);
    }

    #[test]
    fn no_room_at_all_is_refused() {
        let mut limits = cores(&[8, 8]);
        assert_eq!(fit_connections(&mut limits, 103, 100), Fit::TooFew { needed: 104 });
        assert_eq!(fit_connections(&mut limits, 60, 100), Fit::TooFew { needed: 104 });
        assert_eq!(caps(&limits), [8, 8]);
    }

    #[test]
    fn raising_reaches_the_hard_limit() {
        let soft = raise_open_files().unwrap();
        assert_eq!(raise_open_files().unwrap(), soft);
    }
}
