//! From a file to a checked document and a plan of it, with every mistake at its line. Applies nothing.

use std::path::{Path, PathBuf};

use ringway_config::snapshot::{AccessFormat, Log};
use ringway_config::{Errors, Fault, Loaded, Problem, Snapshot, Source};

use crate::observe::access_log::LOGGED_HEADERS_MAX;
use crate::observe::{LogFormat, LogSettings, LoggedHeader};
use crate::plan::{Names, Node, Plan};

/// Under which name the embedded demo's problems are reported.
const DEMO_NAME: &str = "(the embedded demo)";

/// A document that passed the checks of `config`.
pub struct Document {
    /// `None`: the embedded demo.
    pub path: Option<PathBuf>,
    pub source: Source,
    pub snapshot: Snapshot,
    pub warnings: Vec<Problem>,
}

impl Document {
    /// # Errors
    /// Every problem, with its line.
    pub fn read(path: Option<&Path>) -> Result<Document, Errors> {
        let source = match path {
            Some(path) => ringway_config::read_file(path)?,
            None => Source { name: DEMO_NAME.to_owned(), text: ringway_config::DEMO.to_owned() },
        };
        let Loaded { snapshot, warnings } = ringway_config::load(&source)?;
        Ok(Document { path: path.map(Path::to_owned), source, snapshot, warnings })
    }

    /// # Errors
    /// What only the rooms that own a table can see.
    pub fn plan(&self, generation: u64, names: &dyn Names, node: Node, before: Option<&Plan>) -> Result<Plan, Errors> {
        Plan::build(&self.snapshot, generation, names, node, before).map_err(|faults| self.locate(faults))
    }

    /// The dry run of `ringway check`: all that can be known without a socket, and a plan that nobody serves by.
    ///
    /// # Errors
    /// As [`Document::plan`], and what the access log cannot do.
    pub fn dry_run(&self) -> Result<DryRun, Errors> {
        let plan = Plan::build(&self.snapshot, 0, &NoNames, Node::new(1), None);
        let log = log_settings(&self.snapshot.process.log);
        match (plan, log) {
            (Ok(plan), Ok(_)) => {
                let unbuilt = self.locate(plan.gathered.unbuilt.clone());
                let warned = self.locate(plan.gathered.warned.clone());
                Ok(DryRun { plan, unbuilt, warned })
            }
            (plan, log) => Err(self.locate(plan.err().into_iter().flatten().chain(log.err()).collect())),
        }
    }

    pub fn locate(&self, faults: Vec<Fault>) -> Errors {
        Errors(faults.into_iter().map(|fault| fault.locate(&self.source)).collect())
    }
}

/// What a dry run came to.
pub struct DryRun {
    pub plan: Plan,
    /// Why some routes would let nobody pass.
    pub unbuilt: Errors,
    pub warned: Errors,
}

/// For plans that nobody serves by.
pub struct NoNames;

impl Names for NoNames {
    fn addresses(&self, _host: &str) -> Vec<std::net::IpAddr> {
        Vec::new()
    }
}

/// # Errors
/// More header fields than a line can show.
pub fn log_settings(log: &Log) -> Result<LogSettings, Fault> {
    let format = match log.access_format {
        AccessFormat::Ecs => LogFormat::Ecs,
        AccessFormat::Combined => LogFormat::Combined,
    };
    let headers = log.headers.iter().map(|name| match log.redact.contains(name) {
        true => LoggedHeader::redacted(name),
        false => LoggedHeader::new(name),
    });
    LogSettings::new(format, headers.collect()).map_err(|error| {
        Fault::new(error.to_string()).at("log.headers").cure(format!("name at most {LOGGED_HEADERS_MAX}"))
    })
}
