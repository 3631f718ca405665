//! Which CPUs the shards run on: what the machine, the affinity mask, the cgroup quota and the operator allow.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ringway_config::Fault;
use ringway_config::snapshot::CoreCount;

/// CPUs that sched_setaffinity(2) can name in one `cpu_set_t`.
const CPUS_MAX: usize = libc::CPU_SETSIZE as usize;

/// What this process may run on.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Its affinity mask, ascending; never empty.
    pub cpus: Vec<usize>,
    /// CPUs' worth of time that its cgroup grants; `None`: no quota.
    pub quota: Option<f64>,
}

/// One entry per shard: the CPU it is pinned to, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seats {
    pub cpus: Vec<Option<usize>>,
    /// What is odd about them.
    pub warning: Option<String>,
}

impl Machine {
    pub fn look() -> Machine {
        Machine { cpus: affinity(), quota: cgroup_quota(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")) }
    }

    /// Shards that `"auto"` means: quotas are rounded down, since a group that runs more threads than its quota has
    /// CPUs is stopped for the rest of each period, and every connection with it.
    fn auto(&self) -> usize {
        let quota = self.quota.map_or(usize::MAX, |quota| quota as usize);
        self.cpus.len().min(quota).max(1)
    }
}

/// # Errors
/// A CPU that this process may not run on.
pub fn choose(count: &CoreCount, machine: &Machine, leave_one_free: bool) -> Result<Seats, Fault> {
    let first = |count: usize| machine.cpus.iter().take(count).copied().map(Some).collect::<Vec<_>>();
    let have = machine.cpus.len();
    match count {
        CoreCount::Auto => {
            let all = machine.auto();
            let count = if leave_one_free { all.saturating_sub(1).max(1) } else { all };
            // A quota below the mask means that others share these CPUs: were each gateway pinned to the first ones,
            // all of them would meet there.
            let is_shared = machine.auto() < have;
            Ok(Seats { cpus: if is_shared { vec![None; count] } else { first(count) }, warning: None })
        }
        CoreCount::Exactly(count) if *count <= have => Ok(Seats { cpus: first(*count), warning: None }),
        CoreCount::Exactly(count) => {
            let warning = format!("cores.count: {count} cores on {have} CPUs run unpinned");
            Ok(Seats { cpus: vec![None; *count], warning: Some(warning) })
        }
        CoreCount::List(cpus) => {
            if let Some(cpu) = cpus.iter().find(|cpu| !machine.cpus.contains(cpu)) {
                let fault = Fault::new(format!("CPU {cpu} is not one that this process may use"));
                return Err(fault.at("cores.count").cure(format!("there are {}", ranges(&machine.cpus))));
            }
            let twice = cpus.iter().enumerate().find(|(at, cpu)| cpus[..*at].contains(cpu));
            let warning = twice.map(|(_, cpu)| format!("cores.count: CPU {cpu} is named twice; its cores share it"));
            Ok(Seats { cpus: cpus.iter().copied().map(Some).collect(), warning })
        }
    }
}

/// `0-3,6`, the notation of taskset(1).
pub fn ranges(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => parts.push((*cpu, *cpu)),
        }
    }
    let part = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

/// Pins the calling thread.
///
/// # Errors
/// The kernel's, if the CPU is not there or not allowed.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= CPUS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: an all-zero set is an empty one; CPU_SET stays within it, as checked above.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: the kernel reads `size_of` bytes of the set. 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn affinity() -> Vec<usize> {
    // SAFETY: an all-zero set is an empty one; the kernel fills at most `size_of` bytes of it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            // More CPUs than a set holds: a count without numbers is better than nothing.
            return (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
        }
        set
    };
    // SAFETY: the index is below the set's size.
    let cpus: Vec<usize> = (0..CPUS_MAX).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// The smallest quota of the process's groups and those above them; cgroup v2 (`cpu.max`) or v1 (`cpu.cfs_quota_us`).
fn cgroup_quota(membership: &Path, root: &Path) -> Option<f64> {
    let membership = fs::read_to_string(membership).ok()?;
    let read = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).ok();
    let v2 = |dir: &Path| quota_v2(&read(dir, "cpu.max")?);
    let v1 = |dir: &Path| quota_v1(&read(dir, "cpu.cfs_quota_us")?, &read(dir, "cpu.cfs_period_us")?);
    let mut quotas = Vec::new();
    for line in membership.lines() {
        // "0::/group", "4:cpu,cpuacct:/group"
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            quotas.extend(above(root, group).iter().filter_map(|dir| v2(dir)));
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            let mounts = [root.join("cpu"), root.join(controllers)];
            quotas.extend(mounts.iter().flat_map(|mount| above(mount, group)).filter_map(|dir| v1(&dir)));
        }
    }
    quotas.into_iter().reduce(f64::min)
}

/// The group's directory and each one above it, up to the mount. In a container the group's own path may not be there;
/// the mount is the container's group then.
fn above(mount: &Path, group: &str) -> Vec<PathBuf> {
    Path::new(group.trim_start_matches('/')).ancestors().map(|below| mount.join(below)).collect()
}

/// `max 100000` or `150000 100000`.
fn quota_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

/// -1: no quota.
fn quota_v1(quota: &str, period: &str) -> Option<f64> {
    ratio(quota.trim(), period.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<u32>().ok()?, period.parse::<u32>().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests;
