//! One measured run: a gateway alone on its core, load and origin on the other, what both cores did meanwhile.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::ballast::Ballast;
use crate::calib;
use crate::clients::Mode;
use crate::gateway::Gateway;
use crate::latency::LoadReport;
use crate::peer::{Peer, Ports, Programs};
use crate::usage::{CoreUse, ProcessUse, of_processes, tree};

pub const GATEWAY_CORE: usize = 0;
pub const LOAD_CORE: usize = 1;

/// Ports of one run; each run gets fresh ones, so that no socket in TIME_WAIT of the last is in its way.
const PORT_FIRST: u16 = 24_100;
const PORT_LAST: u16 = 24_990;

/// What the load is to do.
#[derive(Clone, Debug)]
pub enum Asked {
    Closed { path: &'static str, mode: Mode, connections: usize, ballast: bool, with_token: bool },
    Open { path: &'static str, connections: usize, rate: f64 },
}

#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub warm: Duration,
    pub duration: Duration,
}

/// A finished run, as written to the JSON lines file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Trial {
    pub case: String,
    pub arm: String,
    pub round: usize,
    /// Why there is no result.
    pub failed: Option<String>,
    pub load: LoadReport,
    /// CPU time of the gateway's threads per request; see `Window::us_per_request`.
    pub us_per_request: f64,
    pub user_us: f64,
    pub system_us: f64,
    /// Shares of the measured time, 0 to 1. Beside a ballast, `gateway_core_busy` is the share in which the gateway ran or
    /// was ready to run: the core itself is never idle.
    pub gateway_busy: f64,
    pub gateway_core_busy: f64,
    pub load_core_busy: f64,
    pub steal: f64,
    /// Other processes' share of either core, the larger.
    pub foreign: f64,
    pub calib_ns: f64,
    pub resident_mb: f64,
    /// Requests per second that were asked for, if the load was open-loop.
    pub rate: Option<f64>,
}

impl Trial {
    /// Below this the gateway waited for the load, and its CPU per request is not that of a busy gateway.
    pub const BUSY_MIN: f64 = 0.95;
    const STEAL_MAX: f64 = 0.10; // of one core, both cores' steal summed
    const FOREIGN_MAX: f64 = 0.08;
    const REQUESTS_MIN: u64 = 100;

    pub fn worked(&self) -> bool {
        self.failed.is_none() && self.load.errors == 0 && self.load.requests >= Self::REQUESTS_MIN
    }

    pub fn saturated(&self) -> bool {
        self.gateway_core_busy >= Self::BUSY_MIN
    }

    /// The hypervisor or other processes took part: worth repeating.
    pub fn disturbed(&self) -> bool {
        self.failed.is_none() && (self.steal > Self::STEAL_MAX || self.foreign > Self::FOREIGN_MAX)
    }

    /// Fit for the comparison of CPU: a busy gateway that had its core to itself.
    pub fn counts(&self) -> bool {
        self.worked() && self.saturated() && !self.disturbed()
    }

    /// Fit for the comparison of latency.
    pub fn counts_for_latency(&self) -> bool {
        self.worked() && !self.disturbed()
    }

    pub fn complaint(&self) -> Option<String> {
        let few = || format!("only {} requests", self.load.requests);
        match (&self.failed, self.load.errors) {
            (Some(why), _) => Some(why.clone()),
            (None, 0) => (self.load.requests < Self::REQUESTS_MIN).then(few),
            (None, errors) => Some(format!("{errors} errors: {}", self.load.first_error.as_deref().unwrap_or("?"))),
        }
    }
}

pub struct Bench {
    pub programs: Programs,
    pub scratch: PathBuf,
    next_port: u16,
}

impl Bench {
    pub fn new(programs: Programs, scratch: PathBuf) -> Self {
        Self { programs, scratch, next_port: PORT_FIRST }
    }

    /// Runs one trial; what goes wrong is in it. No peer means that the load asks its own origin.
    pub fn trial(&mut self, peer: Option<&Peer>, asked: &Asked, times: Times) -> Trial {
        let ports = self.ports(peer.is_none());
        match self.measure(peer, ports, asked, times) {
            Ok(trial) => trial,
            Err(why) => Trial { failed: Some(why.to_string()), ..Trial::default() },
        }
    }

    /// `direct`: the load asks its own origin.
    pub fn ports(&mut self, direct: bool) -> Ports {
        if self.next_port + 3 > PORT_LAST {
            self.next_port = PORT_FIRST;
        }
        let gateway = self.next_port;
        self.next_port += 3;
        Ports { gateway, origin: if direct { gateway } else { gateway + 1 }, telemetry: gateway + 2 }
    }

    fn measure(&self, peer: Option<&Peer>, ports: Ports, asked: &Asked, times: Times) -> io::Result<Trial> {
        let gateway = peer.map(|peer| Gateway::start(peer, &self.programs, ports, &self.scratch)).transpose()?;
        let calib_before = calib::measure(GATEWAY_CORE)?;
        let with_ballast = matches!(asked, Asked::Closed { ballast: true, .. });
        let ballast = with_ballast.then(|| Ballast::start(GATEWAY_CORE)).transpose()?;
        let mut load = Load::start(&self.programs.perf, ports, asked, times)?;
        load.wait_for_measuring()?;
        let gateway_pids = gateway.as_ref().map(|gateway| tree(gateway.pid())).unwrap_or_default();
        let load_pids = [load.pid()];
        let before = Reading::take(&gateway_pids, &load_pids, ballast.as_ref())?;
        let report = load.wait_for_report()?;
        let after = Reading::take(&gateway_pids, &load_pids, ballast.as_ref())?;
        drop(ballast);
        if let Some(mut gateway) = gateway
            && let Some(why) = gateway.death()
        {
            return Err(io::Error::other(why));
        }
        drop(load);
        let calib_ns = (calib_before + calib::measure(GATEWAY_CORE)?) / 2.0;
        Ok(Window { before, after }.trial(report, calib_ns, asked))
    }
}

/// Everything that is counted, at one moment.
struct Reading {
    at: Instant,
    gateway: ProcessUse,
    load: ProcessUse,
    /// Run time of the ballast, if there is one, in seconds.
    ballast_s: Option<f64>,
    gateway_core: CoreUse,
    load_core: CoreUse,
}

impl Reading {
    fn take(gateway: &[Pid], load: &[Pid], ballast: Option<&Ballast>) -> io::Result<Self> {
        Ok(Self {
            ballast_s: ballast.map(Ballast::run_s),
            gateway: of_processes(gateway),
            gateway_core: CoreUse::read(GATEWAY_CORE)?,
            load: of_processes(load),
            load_core: CoreUse::read(LOAD_CORE)?,
            at: Instant::now(),
        })
    }
}

struct Window {
    before: Reading,
    after: Reading,
}

impl Window {
    fn trial(&self, load: LoadReport, calib_ns: f64, asked: &Asked) -> Trial {
        let (before, after) = (&self.before, &self.after);
        let wall_s = (after.at - before.at).as_secs_f64();
        let requests = load.requests.max(1) as f64;
        let run_s = after.gateway.run_s - before.gateway.run_s;
        let (gateway_core_s, gateway_steal_s) = busy(before.gateway_core, after.gateway_core, wall_s);
        let (load_core_s, load_steal_s) = busy(before.load_core, after.load_core, wall_s);
        let load_run_s = after.load.run_s - before.load.run_s;
        let ballast_s = before.ballast_s.zip(after.ballast_s).map(|(before, after)| after - before);
        let gateway_core_busy = match ballast_s {
            None => gateway_core_s / (wall_s - gateway_steal_s),
            Some(_) => ((run_s + after.gateway.ready_s - before.gateway.ready_s) / wall_s).min(1.0),
        };
        let foreign_s = gateway_core_s - run_s - ballast_s.unwrap_or(0.0);
        Trial {
            us_per_request: Self::us_per_request(run_s, gateway_core_s, requests),
            user_us: (after.gateway.user_s - before.gateway.user_s) / requests * 1e6,
            system_us: (after.gateway.system_s - before.gateway.system_s) / requests * 1e6,
            gateway_busy: run_s / wall_s,
            gateway_core_busy,
            load_core_busy: load_core_s / (wall_s - load_steal_s),
            steal: (gateway_steal_s + load_steal_s) / wall_s,
            foreign: foreign_s.max(load_core_s - load_run_s).max(0.0) / wall_s,
            calib_ns,
            resident_mb: after.gateway.resident_bytes as f64 / 1e6,
            rate: match asked {
                Asked::Open { rate, .. } => Some(*rate),
                Asked::Closed { .. } => None,
            },
            load,
            ..Trial::default()
        }
    }

    /// The scheduler's run time is exact but counts time that the hypervisor stole; the core's busy time does not, but
    /// counts whatever else ran there. Each can only be too large, so the smaller is nearer the truth.
    fn us_per_request(run_s: f64, core_busy_s: f64, requests: f64) -> f64 {
        run_s.min(core_busy_s) / requests * 1e6
    }
}

/// Busy and stolen seconds of a core.
fn busy(before: CoreUse, after: CoreUse, wall_s: f64) -> (f64, f64) {
    let steal_s = after.steal_s - before.steal_s;
    ((wall_s - (after.idle_s - before.idle_s) - steal_s).max(0.0), steal_s)
}

/// The load's process, ended with this value.
struct Load {
    child: Child,
    lines: io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Load {
    fn start(programs: &Path, ports: Ports, asked: &Asked, times: Times) -> io::Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", &LOAD_CORE.to_string()]);
        let (program, path, connections) = match asked {
            Asked::Closed { path, connections, .. } => ("load", path, connections),
            Asked::Open { path, connections, .. } => ("open_loop", path, connections),
        };
        command.arg(programs.join(program));
        match asked {
            Asked::Closed { mode, .. } => command.args(["--mode", mode.word()]),
            Asked::Open { rate, .. } => command.args(["--rate", &rate.to_string()]),
        };
        if let Asked::Closed { with_token: true, .. } = asked {
            command.arg("--with-token");
        }
        let mut child = command
            .args(["--gateway", &ports.gateway.to_string(), "--origin", &ports.origin.to_string()])
            .args(["--path", path, "--connections", &connections.to_string()])
            .args(["--warm", &times.warm.as_secs_f64().to_string()])
            .args(["--duration", &times.duration.as_secs_f64().to_string(), "--linger"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("the load has no output"))?;
        Ok(Self { child, lines: BufReader::new(output).lines() })
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn line(&mut self) -> io::Result<String> {
        self.lines.next().ok_or_else(|| io::Error::other("the load ended early"))?
    }

    fn wait_for_measuring(&mut self) -> io::Result<()> {
        match self.line()?.as_str() {
            "measuring" => Ok(()),
            other => Err(io::Error::other(format!("the load says `{other}`"))),
        }
    }

    fn wait_for_report(&mut self) -> io::Result<LoadReport> {
        Ok(serde_json::from_str(&self.line()?)?)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // The load waits for the end of its input, so that its CPU time can be read before it is gone.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
