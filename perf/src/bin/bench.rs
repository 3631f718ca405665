//! The side-by-side run: every gateway on core 0 in turn, load and origin on core 1; prints markdown tables.
//! Builds and installs nothing; `scripts/bench` does that and calls this.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use ringway_perf::bars::{self, Bars, Verdict};
use ringway_perf::case::{CASES, Case};
use ringway_perf::idle::{self, Idle};
use ringway_perf::peer::{PEERS, Peer, Programs};
use ringway_perf::rounds::Rounds;
use ringway_perf::trial::{Bench, LOAD_CORE, Times, Trial};
use ringway_perf::{calib, no_flags_left, report, seconds};

const USAGE: &str = "\
usage: bench [options]
  --gateway FILE    the ringway binary                          (target/release/ringway)
  --rivals DIR      monoio_http and monoio_bare                 (target/rival/release)
  --envoy FILE      the Envoy binary                            (target/envoy/bin/envoy)
  --nginx FILE, --haproxy FILE                                  (/usr/sbin/...)
  --cases a,b,...   of those that --list names                  (all)
  --peers a,b,...   of those that --list names                  (all that are there)
  --rounds N        how often every arm has its turn            (9)
  --extra-rounds N  more for those with fewer pairs that count  (as many)
  --duration S      measured seconds of each run                (4)
  --warm S          seconds before that                         (1)
  --quick           one round of 2 s each
  --json FILE       every run as a line of JSON, as it ends
  --from FILE       no runs: take those of such a file
  --bars FILE       the bars                                    (perf/bars.toml)
  --check           exit 1 if a bar is missed, 3 if one is unproven
  --list            name cases and arms";

/// Cases that are more than rounds of a closed loop.
const LATENCY: &str = "latency";
const IDLE: &str = "idle";

const ROUNDS: usize = 9; // what the bars ask for
const EXIT_MISSED: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_UNPROVEN: u8 = 3;

fn main() -> ExitCode {
    let mut flags = pico_args::Arguments::from_env();
    if flags.contains(["-h", "--help"]) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(flags) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("bench: {why}\n{USAGE}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if options.list {
        CASES.iter().for_each(|case| println!("case {:16} {}", case.name, case.title));
        println!("case {LATENCY:16} latency at constant rates");
        println!("case {IDLE:16} memory of {} idle connections", idle::CONNECTIONS_MAX);
        PEERS.iter().for_each(|peer| println!("arm  {}", peer.name));
        return ExitCode::SUCCESS;
    }
    run(options).unwrap_or_else(|why| {
        eprintln!("bench: {why}");
        ExitCode::from(EXIT_USAGE)
    })
}

fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let bars = std::fs::read_to_string(&options.bars).map_err(|why| format!("{}: {why}", options.bars.display()))?;
    let bars = Bars::parse(&bars)?;
    let (trials, idle) = match &options.from {
        Some(file) => (
            BufReader::new(File::open(file)?)
                .lines()
                .map(|line| Ok(serde_json::from_str(&line?)?))
                .collect::<Result<Vec<Trial>, Box<dyn Error>>>()?,
            Vec::new(),
        ),
        None => measure(options.rounds, options.idle, options.programs, options.json)?,
    };
    println!("{}", report::markdown(&trials));
    if !idle.is_empty() {
        println!("{}", idle::markdown(&idle));
    }
    let judged = bars.judge(&trials);
    println!("{}", bars::markdown(&judged));
    let any = |verdict| options.check && judged.iter().any(|judged| judged.verdict == verdict);
    Ok(match () {
        () if any(Verdict::Missed) => ExitCode::from(EXIT_MISSED),
        () if any(Verdict::Unproven) => ExitCode::from(EXIT_UNPROVEN),
        () => ExitCode::SUCCESS,
    })
}

fn measure(
    mut rounds: Rounds,
    with_idle: bool,
    programs: Programs,
    json: Option<PathBuf>,
) -> Result<(Vec<Trial>, Vec<Idle>), Box<dyn Error>> {
    rounds.peers.retain(|peer| {
        let program = peer.program(&programs);
        let there = program.exists();
        if !there {
            eprintln!("without {}: there is no {}", peer.name, program.display());
        }
        there
    });
    let mut json = json.map(File::create).transpose()?;
    let scratch = std::env::temp_dir().join(format!("ringway-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    calib::pin(LOAD_CORE)?;
    let mut bench = Bench::new(programs, scratch.clone());
    let trials = rounds.run(&mut bench, |trial| {
        progress(trial);
        if let Some(json) = &mut json
            && let Err(why) = serde_json::to_string(trial).map_err(Into::into).and_then(|line| writeln!(json, "{line}"))
        {
            eprintln!("a run is not on disk: {why}");
        }
    });
    let idle_peers = rounds.peers.iter().filter(|peer| with_idle && idle::ARMS.contains(&peer.name));
    let idle = idle_peers.map(|peer| idle::measure(&mut bench, peer)).collect::<Result<Vec<_>, _>>()?;
    std::fs::remove_dir_all(&scratch)?;
    Ok((trials, idle))
}

fn progress(trial: &Trial) {
    let Trial { case, arm, round, load, .. } = trial;
    match trial.complaint() {
        Some(complaint) => eprintln!("{case} {round} {arm}: {complaint}"),
        None => eprintln!(
            "{case} {round} {arm}: {:.2} us/request, {:.0}/s, core 0 {:.0} %, core 1 {:.0} %, p99 {:.0} us, steal {:.1} %, \
             foreign {:.1} %, calib {:.0} ns",
            trial.us_per_request,
            load.qps,
            trial.gateway_core_busy * 100.0,
            trial.load_core_busy * 100.0,
            load.p99_us,
            trial.steal * 100.0,
            trial.foreign * 100.0,
            trial.calib_ns,
        ),
    }
}

struct Options {
    rounds: Rounds,
    idle: bool,
    programs: Programs,
    json: Option<PathBuf>,
    from: Option<PathBuf>,
    bars: PathBuf,
    check: bool,
    list: bool,
}

impl Options {
    fn parse(mut flags: pico_args::Arguments) -> Result<Self, Box<dyn Error>> {
        let quick = flags.contains("--quick");
        let (mut cases, mut latency, mut idle) = (CASES.iter().collect::<Vec<_>>(), true, true);
        if let Some(names) = flags.opt_value_from_str::<_, String>("--cases")? {
            let names: Vec<&str> = names.split(',').collect();
            (latency, idle) = (names.contains(&LATENCY), names.contains(&IDLE));
            let loads: Vec<&str> = names.into_iter().filter(|name| ![LATENCY, IDLE].contains(name)).collect();
            cases = all(&loads, Case::named)?;
        }
        let mut peers = PEERS.iter().collect();
        if let Some(names) = flags.opt_value_from_str::<_, String>("--peers")? {
            peers = all(&names.split(',').collect::<Vec<_>>(), Peer::named)?;
        }
        let duration = flags.opt_value_from_fn("--duration", seconds)?;
        let warm = flags.opt_value_from_fn("--warm", seconds)?;
        let times = Times {
            warm: warm.unwrap_or(seconds(if quick { "0.5" } else { "1" })?),
            duration: duration.unwrap_or(seconds(if quick { "2" } else { "4" })?),
        };
        let rounds = flags.opt_value_from_str("--rounds")?.unwrap_or(if quick { 1 } else { ROUNDS });
        let extra_rounds_max = flags.opt_value_from_str("--extra-rounds")?.unwrap_or(if quick { 0 } else { rounds });
        let options = Self {
            rounds: Rounds { cases, peers, rounds, extra_rounds_max, times, latency },
            idle,
            programs: programs(&mut flags)?,
            json: path(&mut flags, "--json")?,
            from: path(&mut flags, "--from")?,
            bars: path(&mut flags, "--bars")?.unwrap_or("perf/bars.toml".into()),
            check: flags.contains("--check"),
            list: flags.contains("--list"),
        };
        no_flags_left(flags)?;
        Ok(options)
    }
}

fn all<T>(names: &[&str], find: impl Fn(&str) -> Option<&'static T>) -> Result<Vec<&'static T>, String> {
    names.iter().map(|name| find(name).ok_or_else(|| format!("there is no `{name}`; --list names what is"))).collect()
}

fn programs(flags: &mut pico_args::Arguments) -> Result<Programs, Box<dyn Error>> {
    let here = std::env::current_exe()?;
    let mut program = |flag, default: &str| -> Result<PathBuf, Box<dyn Error>> {
        // Gateways run in directories of their own.
        Ok(std::path::absolute(path(flags, flag)?.unwrap_or(default.into()))?)
    };
    Ok(Programs {
        gateway: program("--gateway", "target/release/ringway")?,
        rivals: program("--rivals", "target/rival/release")?,
        envoy: program("--envoy", "target/envoy/bin/envoy")?,
        nginx: program("--nginx", "/usr/sbin/nginx")?,
        haproxy: program("--haproxy", "/usr/sbin/haproxy")?,
        perf: here.parent().ok_or("this program lies in no directory")?.to_owned(),
    })
}

fn path(flags: &mut pico_args::Arguments, flag: &'static str) -> Result<Option<PathBuf>, pico_args::Error> {
    flags.opt_value_from_os_str(flag, |text| Ok::<_, String>(PathBuf::from(OsString::from(text))))
}
