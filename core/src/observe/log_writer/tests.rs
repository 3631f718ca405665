//! The writer against files that fail, stall and are rotated away.

use super::*;
use crate::observe::log_ring::{LineSender, Pushed, log_ring};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Takes what its script says: so many bytes, or an error; everything once the script is over.
#[derive(Default)]
struct Scripted {
    script: Vec<Result<usize, ErrorKind>>,
    taken: Vec<u8>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = if self.script.is_empty() { Ok(bytes.len()) } else { self.script.remove(0) };
        let count = step.map_err(io::Error::from)?.min(bytes.len());
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pump(cores: usize, script: &[Result<usize, ErrorKind>]) -> (Vec<LineSender>, Pump<Scripted>) {
    let (senders, receivers) = (0..cores).map(|_| log_ring(4096)).unzip();
    (senders, Pump::new(Scripted { script: script.to_vec(), taken: Vec::new() }, receivers))
}

#[test]
fn all_rings_are_emptied_and_lines_counted() {
    let (mut cores, mut pump) = pump(3, &[]);
    for (core, sender) in cores.iter_mut().enumerate() {
        (0..2).for_each(|n| assert_eq!(sender.push(format!("{core}{n}\n").as_bytes()), Pushed::Stored));
    }
    pump.empty_rings().unwrap();
    assert_eq!(pump.file.taken, b"00\n01\n10\n11\n20\n21\n");
    assert_eq!(pump.lines, 6);
}

#[test]
fn a_short_write_goes_on_where_it_ended() {
    let (mut cores, mut pump) = pump(1, &[Ok(1), Err(ErrorKind::Interrupted), Ok(3)]);
    cores[0].push(b"one line\n");
    pump.empty_rings().unwrap();
    assert_eq!(pump.file.taken, b"one line\n");
}

#[test]
fn after_an_error_nothing_is_lost_twice_or_mixed() {
    let (mut cores, mut pump) = pump(2, &[Ok(3), Err(ErrorKind::StorageFull), Ok(0)]);
    cores[1].push(b"second core\n");
    assert_eq!(pump.empty_rings().unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(pump.lines, 0);
    cores[0].push(b"first core\n");
    assert_eq!(pump.empty_rings().unwrap_err().kind(), ErrorKind::WriteZero);
    pump.empty_rings().unwrap();
    assert_eq!(pump.file.taken, b"second core\nfirst core\n", "the half line is completed first");
    assert_eq!(pump.lines, 2);
}

#[test]
fn a_slow_pipe_is_no_error() {
    let (mut cores, mut pump) = pump(1, &[Ok(2), Err(ErrorKind::WouldBlock)]);
    cores[0].push(b"line\n");
    pump.empty_rings().unwrap();
    assert_eq!(pump.file.taken, b"li");
    pump.empty_rings().unwrap();
    assert_eq!(pump.file.taken, b"line\n");
}

#[test]
fn a_new_file_begins_with_a_whole_line() {
    let (mut cores, mut pump) = pump(1, &[Ok(4), Err(ErrorKind::StorageFull)]);
    cores[0].push(b"broken\n");
    cores[0].push(b"whole\n");
    pump.empty_rings().unwrap_err();
    pump.switch(Scripted::default());
    pump.empty_rings().unwrap();
    assert_eq!(pump.file.taken, b"whole\n");
}

#[test]
fn a_switch_between_lines_loses_none() {
    let (mut cores, mut pump) = pump(1, &[Ok(6), Err(ErrorKind::StorageFull)]);
    cores[0].push(b"first\n");
    cores[0].push(b"second\n");
    pump.empty_rings().unwrap_err();
    pump.switch(Scripted::default());
    pump.empty_rings().unwrap();
    assert_eq!(pump.file.taken, b"second\n");
}

#[test]
fn complaints_come_once_a_minute() {
    let (mut complaints, start) = (Complaints::default(), Instant::now());
    let told: Vec<_> = [0, 1, 59, 60, 61, 120].map(|s| complaints.may_complain(start + Duration::from_secs(s))).into();
    assert_eq!(told, [true, false, false, true, false, true]);
}

/// A directory of this test's own, gone when it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("ringway-log-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn lines_reach_the_file_survive_rotation_and_are_complete_at_the_end() {
    let scratch = Scratch::new("rotation");
    let (path, rotated) = (scratch.0.join("access.log"), scratch.0.join("access.log.1"));
    std::fs::write(&path, "kept\n").unwrap();
    let (mut core, receiver) = log_ring(4096);
    let writer = LogWriter::start(LogTarget::File(path.clone()), vec![receiver]).unwrap();
    core.push(b"before\n");
    eventually("polled without a wake", || read(&path) == "kept\nbefore\n");

    std::fs::rename(&path, &rotated).unwrap();
    writer.reopen();
    eventually("reopened", || path.exists());
    core.push(b"after\n");
    assert!(writer.stop(Duration::from_secs(10)), "ends");
    assert_eq!((read(&rotated).as_str(), read(&path).as_str()), ("kept\nbefore\n", "after\n"));
}

#[test]
fn a_file_that_cannot_be_opened_is_told_at_the_start() {
    let missing = LogTarget::File("/nonexistent/ringway/access.log".into());
    assert_eq!(LogWriter::start(missing, Vec::new()).err().map(|error| error.kind()), Some(ErrorKind::NotFound));
}

#[test]
fn a_full_disk_is_counted_and_the_writer_lives_on() {
    let (mut core, receiver) = log_ring(4096);
    let writer = LogWriter::start(LogTarget::File("/dev/full".into()), vec![receiver]).unwrap();
    core.push(b"line\n");
    eventually("tries again and again", || writer.errors() >= 2);
    assert_eq!(writer.lines(), 0);
    assert!(writer.stop(Duration::from_secs(10)), "a full disk does not hold up the end");
}

/// A pipe that nobody reads: the shard's side drops and counts, and the end does not hang.
#[test]
fn a_stuck_reader_blocks_no_shard_and_no_shutdown() {
    let scratch = Scratch::new("stuck");
    let path = scratch.0.join("fifo");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a valid C string, alive for the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let _reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let (mut core, receiver) = log_ring(64 * 1024);
    let writer = LogWriter::start(LogTarget::File(path), vec![receiver]).unwrap();
    let line = [b'x'; 1024];
    eventually("the pipe and the ring fill, push still returns", || {
        (0..1_000).all(|_| core.push(&line) == Pushed::Dropped)
    });
    assert!(!writer.stop(Duration::from_millis(100)), "given up on");
}

#[test]
fn targets_are_closed_on_exec() {
    let scratch = Scratch::new("cloexec");
    for target in [LogTarget::Stdout, LogTarget::File(scratch.0.join("log"))] {
        let file = target.open().unwrap();
        // SAFETY: fcntl with F_GETFD takes no pointers.
        let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) };
        assert_ne!(flags & libc::FD_CLOEXEC, 0, "{target:?}");
    }
}
