//! The binary's commands, run to their end. Not the long-running gateway (`gateway`).

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::ms;

/// A command that has not ended by then hangs.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Both streams, for a message that may stand on either.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }
}

pub fn binary() -> PathBuf {
    std::env::var_os("RINGWAY_BIN")
        .map(PathBuf::from)
        .or_else(|| option_env!("CARGO_BIN_EXE_ringway").map(PathBuf::from))
        .expect("cargo names the binary, or RINGWAY_BIN does")
}

/// `ringway ARGS`, at most `COMMAND_TIME_MAX`.
#[track_caller]
pub fn ringway<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    run(Command::new(binary()).args(args))
}

#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    run_with_input(command, b"")
}

/// `input` is all that the command can read.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    // One that reads nothing may have gone already.
    child.stdin.take().expect("piped").write_all(input).ok();
    let (mut stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let out = thread::spawn(move || read(&mut stdout));
    let err = thread::spawn(move || read(&mut stderr));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if start.elapsed() > COMMAND_TIME_MAX {
            child.kill().expect("kill");
            child.wait().expect("wait");
            panic!("{command:?} did not end");
        }
        thread::sleep(ms(2));
    };
    Ran { code: status.code(), out: out.join().expect("stdout"), err: err.join().expect("stderr") }
}

fn read(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}
