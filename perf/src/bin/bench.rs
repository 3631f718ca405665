//! The side-by-side run: every gateway on core 0 in turn, load and origin on core 1; prints markdown tables.
//! Builds and installs nothing; `scripts/bench` does that and calls this.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ringway_perf::bars::{self, Bars, Of, Runs, Verdict};
use ringway_perf::case::{CASES, Case};
use ringway_perf::frozen::{self, Frozen};
use ringway_perf::idle::{self, Idle};
use ringway_perf::instructions::{self, Instructions};
use ringway_perf::peer::{PEERS, Peer, Programs};
use ringway_perf::rounds::Rounds;
use ringway_perf::routing::{self, Lookups};
use ringway_perf::trial::{Bench, LOAD_CORE, Times, Trial};
use ringway_perf::{calib, no_flags_left, report, seconds};
use serde::{Deserialize, Serialize};

const USAGE: &str = "\
usage: bench [options]
  --gateway FILE    the ringway binary                          (target/release/ringway)
  --rivals DIR      monoio_http and monoio_bare                 (target/rival/release)
  --envoy FILE      the Envoy binary                            (target/envoy/bin/envoy)
  --nginx FILE, --haproxy FILE                                  (/usr/sbin/...)
  --cases a,b,...   of those that --list names                  (all)
  --peers a,b,...   of those that --list names                  (all that are there)
  --rounds N        how often every arm has its turn            (9, among our own arms 20, frozen 3)
  --extra-rounds N  more for those with fewer pairs that count  (as many)
  --duration S      measured seconds of each run                (4)
  --warm S          seconds before that                         (1)
  --quick           one round of 2 s each
  --instructions    instructions per request, and their bars, alone; SKIPPED without valgrind
  --frozen          an origin that freezes, and its bars, alone
  --json FILE       every run as a line of JSON, as it ends
  --from FILE       no runs: take those of such a file
  --bars FILE       the bars                                    (perf/bars.toml)
  --check           exit 1 if a bar is missed, 3 if one is unproven
  --list            name cases and arms";

/// Cases that are more than rounds of a closed loop.
const LATENCY: &str = "latency";
const IDLE: &str = "idle";
const INSTRUCTIONS: &str = "instructions";
const FROZEN: &str = "frozen";
const ROUTING: &str = "routing";

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
        println!("case {INSTRUCTIONS:16} user-space instructions per request, under valgrind");
        println!("case {FROZEN:16} one of three origins freezes at a constant rate");
        println!("case {ROUTING:16} single lookups among {} routes", routing::ROUTES);
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
    let (of, check) = (options.of, options.check);
    let (runs, idle) = match &options.from {
        Some(file) => (read(file)?, Vec::new()),
        None => measure(options)?,
    };
    println!("{}", report::markdown(&runs.trials));
    if !runs.instructions.is_empty() {
        println!("{}", instructions::markdown(&runs.instructions));
    }
    if !runs.routing.is_empty() {
        println!("{}", routing::markdown(&runs.routing));
    }
    if !runs.frozen.is_empty() {
        println!("{}", frozen::markdown(&runs.frozen));
    }
    if !idle.is_empty() {
        println!("{}", idle::markdown(&idle));
    }
    let judged = bars.judge(of, &runs);
    println!("{}", bars::markdown(&judged));
    let any = |verdict| check && judged.iter().any(|judged| judged.verdict == verdict);
    Ok(match () {
        () if any(Verdict::Missed) => ExitCode::from(EXIT_MISSED),
        () if any(Verdict::Unproven) => ExitCode::from(EXIT_UNPROVEN),
        () => ExitCode::SUCCESS,
    })
}

/// A line of the JSON file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Frozen(Frozen),
    Instructions(Instructions),
    Lookups(Lookups),
    Trial(Trial),
}

fn read(file: &Path) -> Result<Runs, Box<dyn Error>> {
    let mut runs = Runs::default();
    for line in BufReader::new(File::open(file)?).lines() {
        match serde_json::from_str(&line?)? {
            Line::Frozen(run) => runs.frozen.push(run),
            Line::Instructions(counted) => runs.instructions.push(counted),
            Line::Lookups(lookups) => runs.routing.push(lookups),
            Line::Trial(trial) => runs.trials.push(trial),
        }
    }
    Ok(runs)
}

/// Keeps every run at once, so that what was measured outlives what comes after it.
struct Journal(Option<File>);

impl Journal {
    fn keep(&mut self, line: &Line) {
        let Some(file) = &mut self.0 else { return };
        if let Err(why) = serde_json::to_string(line).map_err(Into::into).and_then(|line| writeln!(file, "{line}")) {
            eprintln!("a run is not on disk: {why}");
        }
    }
}

fn measure(options: Options) -> Result<(Runs, Vec<Idle>), Box<dyn Error>> {
    let Options { mut rounds, idle, instructions, frozen, routing, programs, json, .. } = options;
    rounds.peers.retain(|peer| {
        let program = peer.program(&programs);
        let there = program.exists();
        if !there {
            eprintln!("without {}: there is no {}", peer.name, program.display());
        }
        there
    });
    let mut journal = Journal(json.map(File::create).transpose()?);
    let scratch = std::env::temp_dir().join(format!("ringway-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    calib::pin(LOAD_CORE)?;
    let mut bench = Bench::new(programs, scratch.clone());
    let trials = rounds.run(&mut bench, |trial| {
        progress(trial);
        journal.keep(&Line::Trial(trial.clone()));
    });
    let mut runs = Runs { trials, ..Runs::default() };
    let takes_part = |arm: &&&str| rounds.peers.iter().any(|peer| peer.name == **arm);
    if instructions && !instructions::available() {
        eprintln!("{INSTRUCTIONS}: SKIPPED, for there is no valgrind; scripts/setup --bench installs it");
    } else if instructions {
        for arm in instructions::ARMS.iter().filter(takes_part) {
            let counted = instructions::measure(&mut bench, arm)?;
            eprintln!("{INSTRUCTIONS} {arm}: {:.0} per request", counted.per_request);
            journal.keep(&Line::Instructions(counted.clone()));
            runs.instructions.push(counted);
        }
    }
    if routing {
        runs.routing = routing::measure(routing::ROUTES, routing::ROUNDS);
        runs.routing.iter().for_each(|lookups| journal.keep(&Line::Lookups(lookups.clone())));
    }
    for round in 0..if frozen { rounds.rounds.unwrap_or(frozen::RUNS) } else { 0 } {
        for arm in frozen::ARMS.iter().filter(takes_part) {
            let run = frozen::measure(&mut bench, arm)?;
            let Frozen { errors, foreign, steal, .. } = run;
            let (normal_us, others) = (run.normal_us(), (foreign + steal) * 100.0);
            eprintln!("{FROZEN} {round} {arm}: normal p99 {normal_us:.0} us, {errors} errors, others {others:.0} %");
            journal.keep(&Line::Frozen(run.clone()));
            runs.frozen.push(run);
        }
    }
    let idle_peers = rounds.peers.iter().filter(|peer| idle && idle::ARMS.contains(&peer.name));
    let idle = idle_peers.map(|peer| idle::measure(&mut bench, peer)).collect::<Result<Vec<_>, _>>()?;
    std::fs::remove_dir_all(&scratch)?;
    Ok((runs, idle))
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
    instructions: bool,
    frozen: bool,
    routing: bool,
    of: Of,
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
        let of = match (flags.contains("--instructions"), flags.contains("--frozen")) {
            (true, false) => Of::Instructions,
            (false, true) => Of::Frozen,
            (false, false) => Of::All,
            (true, true) => return Err("--instructions and --frozen are alone; name both by --cases".into()),
        };
        let names: Option<String> = flags.opt_value_from_str("--cases")?;
        let names: Option<Vec<&str>> = match of {
            Of::All => names.as_ref().map(|names| names.split(',').collect()),
            Of::Instructions => Some(vec![INSTRUCTIONS]),
            Of::Frozen => Some(vec![FROZEN]),
        };
        let asked_for = |case| names.as_ref().is_none_or(|names| names.contains(&case));
        let cases = match &names {
            None => CASES.iter().collect(),
            Some(names) => {
                let loads = names.iter().filter(|name| ![LATENCY, IDLE, INSTRUCTIONS, FROZEN, ROUTING].contains(name));
                all(&loads.copied().collect::<Vec<_>>(), Case::named)?
            }
        };
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
        let rounds = flags.opt_value_from_str("--rounds")?.or(quick.then_some(1));
        let extra_rounds_max = flags.opt_value_from_str("--extra-rounds")?.or(quick.then_some(0));
        let options = Self {
            rounds: Rounds { cases, peers, rounds, extra_rounds_max, times, latency: asked_for(LATENCY) },
            idle: asked_for(IDLE),
            instructions: asked_for(INSTRUCTIONS),
            frozen: asked_for(FROZEN),
            routing: asked_for(ROUTING),
            of,
            programs: programs(&mut flags)?,
            json: path(&mut flags, "--json")?,
            from: path(&mut flags, "--from")?,
            bars: path(&mut flags, "--bars")?.unwrap_or("perf/bars.toml".into()),
            check: flags.contains("--check") || of != Of::All,
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
