//! What processes and cores have used, as the kernel counts it under /proc.

use std::fs;
use std::io;

use rustix::process::Pid;

/// The clock of /proc/stat and /proc/PID/stat.
fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// A process and all its descendants at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessUse {
    /// Run time of every thread, in seconds, from the scheduler (exact, but includes what the hypervisor stole).
    pub run_s: f64,
    /// Time that its threads were ready to run and waited for a core, in seconds.
    pub ready_s: f64,
    /// User and system time, in seconds, sampled by the clock tick: good for their proportion only.
    pub user_s: f64,
    pub system_s: f64,
    pub resident_bytes: u64,
}

/// One core since boot, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoreUse {
    pub idle_s: f64,
    pub steal_s: f64,
}

impl CoreUse {
    pub fn read(core: usize) -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let name = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name));
        let line = line.ok_or_else(|| io::Error::other(format!("no core {core} in /proc/stat")))?;
        let fields: Vec<f64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // man 5 proc: user nice system idle iowait irq softirq steal
        let seconds = |index: usize| fields.get(index).copied().unwrap_or(0.0) / ticks_per_second();
        Ok(Self { idle_s: seconds(3) + seconds(4), steal_s: seconds(7) })
    }
}

/// The process and its descendants.
pub fn tree(root: Pid) -> Vec<Pid> {
    let parents: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            // A process that ended meanwhile is no descendant any more.
            let parent = Stat::read(pid)?.field(4)?;
            Some((pid, parent as i32))
        })
        .collect();
    let mut found = vec![root.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().filter_map(Pid::from_raw).collect()
}

pub fn of_processes(pids: &[Pid]) -> ProcessUse {
    let mut sum = ProcessUse::default();
    for pid in pids.iter().map(|pid| pid.as_raw_nonzero().get()) {
        for thread in threads(pid) {
            sum.run_s += thread.run_s;
            sum.ready_s += thread.ready_s;
        }
        let Some(stat) = Stat::read(pid) else { continue };
        sum.user_s += stat.field(14).unwrap_or(0) as f64 / ticks_per_second();
        sum.system_s += stat.field(15).unwrap_or(0) as f64 / ticks_per_second();
        sum.resident_bytes += stat.field(24).unwrap_or(0) as u64 * rustix::param::page_size() as u64;
    }
    sum
}

/// What the scheduler says of one thread (Documentation/scheduler/sched-stats.rst).
struct ThreadUse {
    run_s: f64,
    ready_s: f64,
}

impl ThreadUse {
    fn parse(schedstat: &str) -> Option<Self> {
        let mut seconds = schedstat.split(' ').map(|field| field.trim().parse::<u64>().ok().map(|ns| ns as f64 / 1e9));
        Some(Self { run_s: seconds.next()??, ready_s: seconds.next()?? })
    }
}

fn threads(pid: i32) -> impl Iterator<Item = ThreadUse> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| ThreadUse::parse(&fs::read_to_string(task.path().join("schedstat")).ok()?))
}

/// Run time of one thread of this process, in seconds.
pub fn thread_run_s(tid: Pid) -> f64 {
    let text = fs::read_to_string(format!("/proc/self/task/{}/schedstat", tid.as_raw_nonzero()));
    text.ok().and_then(|text| ThreadUse::parse(&text)).map_or(0.0, |thread| thread.run_s)
}

/// The fields of /proc/PID/stat by the numbers of man 5 proc.
struct Stat(String);

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        fs::read_to_string(format!("/proc/{pid}/stat")).ok().map(Self)
    }

    fn field(&self, number: usize) -> Option<i64> {
        // The name in field 2 may hold spaces and parentheses.
        const FIRST_AFTER_NAME: usize = 3;
        let (_, rest) = self.0.rsplit_once(") ")?;
        rest.split_whitespace().nth(number.checked_sub(FIRST_AFTER_NAME)?)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_belongs_to_the_tree_and_its_work_is_counted() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 5 & wait"]).spawn().expect("sh");
        let root = Pid::from_child(&child);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while tree(root).len() < 2 && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let pids = tree(root);
        let used = of_processes(&pids);
        for pid in &pids {
            rustix::process::kill_process(*pid, rustix::process::Signal::KILL).expect("ours to kill");
        }
        child.wait().expect("our child");
        assert_eq!(pids.len(), 2, "the shell and its sleep");
        assert!(used.run_s > 0.0 && used.resident_bytes > 0, "{used:?}");
    }

    #[test]
    fn a_core_has_been_idle_or_stolen_or_neither_but_is_there() {
        assert!(CoreUse::read(0).is_ok());
        assert!(CoreUse::read(100_000).is_err());
    }
}
