//! The command line: what can be asked of the binary, and with which exit code it answers. Does none of it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringway_config::Errors;

use super::cores::{self, Machine};
use super::explain::{self, Asked};
use super::explain_access::TokenText;
use super::routes;
use crate::control::document::{Document, DryRun};
use crate::control::{say, socket};
use crate::net;

/// Something in the configuration, or in the machine, keeps it from being done.
const FAILED: u8 = 1;
const NOT_RUNNING: u8 = 3;

#[derive(Debug, Parser)]
#[command(
    name = "ringway",
    version,
    about = "An API gateway: one pinned loop per core, nothing shared on the hot path."
)]
#[command(after_help = "Exit codes: 0 ok, 1 bad configuration or a failed start, 2 wrong usage, 3 not running.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, by a file or by the embedded demo.
    Run {
        /// The configuration; the embedded demo without it.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say everything that is wrong with a file, with its line.
    Check {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// List a file's routes, and who is asked who he is there.
    Routes {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Say which route a request takes, and why the others do not.
    Explain {
        #[arg(value_name = "METHOD", value_parser = explain::parse_method)]
        method: String,
        /// `http://host/path?query`, or a path alone.
        #[arg(value_name = "URL", value_parser = explain::parse_url)]
        url: explain::Url,
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// `Name: value`, as often as needed.
        #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = explain::parse_header)]
        headers: Vec<(String, String)>,
        /// Where it comes in; the first one by name unless said.
        #[arg(long, value_name = "NAME")]
        listener: Option<String>,
        /// Who asks, as trusted proxies would tell it.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
        client: IpAddr,
        /// A file with a token (JWT), `-` for the standard input: say what each filter decides of it.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Print a commented starter file.
    Init,
    /// Print the version, the I/O engine that would run, and the kernel's.
    Version,
    /// Make the running gateway read its file again.
    Reload {
        #[command(flatten)]
        whom: Whom,
    },
    /// Make the running gateway finish what it serves, and end.
    Drain {
        #[command(flatten)]
        whom: Whom,
    },
    /// Say how the running gateway's endpoints are, or take one out of use.
    Endpoints {
        #[command(subcommand)]
        act: Endpoints,
    },
}

#[derive(Debug, Subcommand)]
enum Endpoints {
    /// Each endpoint, and why it is out if it is.
    List {
        #[command(flatten)]
        whom: Whom,
    },
    /// Send an endpoint no more requests; those under way end as they would.
    Drain {
        #[command(flatten)]
        which: Which,
    },
    /// Send it requests again.
    Resume {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    #[arg(value_name = "CLUSTER")]
    cluster: String,
    /// As it is configured, or as `endpoints list` shows it.
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, clap::Args)]
struct Whom {
    /// The file it runs from, which says where its control socket is.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its control socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// The whole program.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config } => super::run(config.as_deref()),
        Command::Check { file } => check(&file),
        Command::Routes { file } => routes::list(&file),
        Command::Explain { method, url, config, headers, listener, client, token_file } => {
            match token_file.map(|file| TokenText::read(&file)).transpose() {
                Ok(token) => {
                    let asked = Asked { method, url, headers, listener, client, token };
                    explain::explain(config.as_deref(), &asked)
                }
                Err(why) => {
                    say(&why);
                    ExitCode::from(FAILED)
                }
            }
        }
        Command::Init => print(ringway_config::INIT),
        Command::Version => version(),
        Command::Reload { whom } => reload(&whom),
        Command::Drain { whom } => ask(&whom, "POST", "/drain"),
        Command::Endpoints { act } => endpoints(&act),
    }
}

/// A reader that has gone (`| head`) is no failure.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn check(file: &Path) -> ExitCode {
    let checked = Document::read(Some(file)).and_then(|document| Ok((document.dry_run()?, document)));
    match checked {
        Ok((DryRun { plan, unbuilt, warned }, document)) => {
            let seats = cores::choose(&document.snapshot.process.cores.count, &Machine::look(), false);
            let cores = seats.map_or(1, |seats| seats.cpus.len());
            print_problems(&Errors(document.warnings));
            print_problems(&warned);
            if !unbuilt.0.is_empty() {
                print_problems(&unbuilt);
                return ExitCode::from(FAILED);
            }
            let limits = plan.gathered.numbers.limits.iter();
            let bounds: String = limits.map(|spec| spec.say_bounds(cores) + "\n").collect();
            print(&format!("{bounds}{}: ok\n{}", file.display(), routes::open(&document.snapshot, &plan)))
        }
        Err(errors) => {
            print_problems(&errors);
            ExitCode::from(FAILED)
        }
    }
}

/// As they are, so that editors find the place.
pub fn print_problems(problems: &Errors) {
    use std::io::Write;
    if !problems.0.is_empty() {
        let _ = std::io::stderr().write_all(format!("{problems}\n").as_bytes());
    }
}

fn version() -> ExitCode {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let engine = match net::probe() {
        Ok(()) => "io_uring".to_owned(),
        Err(why) => format!("epoll ({why})"),
    };
    print(&format!("ringway {}\nengine  {engine}\nkernel  Linux {}\n", env!("CARGO_PKG_VERSION"), kernel.trim()))
}

fn reload(whom: &Whom) -> ExitCode {
    let file = whom.config.as_deref().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.to_owned()));
    ask(whom, "POST", &socket::reload_target(file.as_deref()))
}

fn endpoints(act: &Endpoints) -> ExitCode {
    let target = |act, which: &Which| socket::endpoint_target(act, &which.cluster, &which.endpoint);
    match act {
        Endpoints::List { whom } => ask(whom, "GET", "/endpoints"),
        Endpoints::Drain { which } => ask(&which.whom, "POST", &target("drain", which)),
        Endpoints::Resume { which } => ask(&which.whom, "POST", &target("resume", which)),
    }
}

/// Prints what the gateway says.
fn ask(whom: &Whom, method: &str, target: &str) -> ExitCode {
    let doors = match whom.doors() {
        Ok(doors) => doors,
        Err(errors) => {
            print_problems(&errors);
            return ExitCode::from(FAILED);
        }
    };
    match socket::ask(&doors, method, target) {
        Ok((200..=299, text)) => print(&text),
        Ok((_, text)) => {
            use std::io::Write;
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(FAILED)
        }
        Err(error @ socket::AskError::NoAnswer { .. }) => {
            say(&error.to_string());
            ExitCode::from(FAILED)
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(NOT_RUNNING)
        }
    }
}

impl Whom {
    /// Where the gateway may be reached. From a file with mistakes its socket is still found if it is written there, so
    /// that the gateway itself can refuse the file; otherwise the mistakes are the answer.
    fn doors(&self) -> Result<Vec<PathBuf>, Errors> {
        if let Some(socket) = &self.socket {
            return Ok(vec![socket.clone()]);
        }
        match Document::read(self.config.as_deref()) {
            Ok(document) => Ok(socket::candidates(&document.snapshot.process.control.socket)),
            Err(errors) => {
                let written = self.config.as_deref().and_then(|file| ringway_config::read_file(file).ok());
                written.and_then(|source| written_socket(&source.text)).map(|path| vec![path]).ok_or(errors)
            }
        }
    }
}

/// `control.socket` of a text that may be wrong elsewhere.
fn written_socket(text: &str) -> Option<PathBuf> {
    use toml::de::{DeTable, DeValue};
    let (tree, _) = DeTable::parse_recoverable(text);
    let DeValue::Table(control) = tree.get_ref().get("control")?.get_ref() else { return None };
    let DeValue::String(path) = control.get("socket")?.get_ref() else { return None };
    path.starts_with('/').then(|| PathBuf::from(path.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_socket_is_found_in_a_file_with_mistakes() {
        let text = "[control]\nsocket = \"/run/x.sock\"\n[listeners.a]\nfrob = 1\n";
        assert_eq!(written_socket(text), Some(PathBuf::from("/run/x.sock")));
        assert_eq!(written_socket("[listeners.a]\nfrob = 1\n"), None);
        assert_eq!(written_socket("[control]\nsocket = 3\n"), None);
        assert_eq!(written_socket("not [ toml"), None);
    }
}
