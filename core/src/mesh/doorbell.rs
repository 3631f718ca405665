//! An eventfd: what a producer writes to wake a shard that sleeps in its reactor. Does not decide when to ring (`inbox`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Nonblocking and close-on-exec. Holds a count; any read takes all of it.
#[derive(Debug)]
pub(crate) struct Doorbell {
    file: File,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Doorbell> {
        // SAFETY: eventfd takes no pointers; it answers a fresh descriptor or -1.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made by the call above and nobody else owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Doorbell { file: File::from(owned) })
    }

    /// Fails only if the count would pass 2^64 - 2: the fd is readable then, which is all a ring is for.
    pub(crate) fn ring(&self) {
        let _ = (&self.file).write(&1u64.to_ne_bytes());
    }

    /// Takes the count back to zero. "Would block" (nobody rang) is fine: the reactor may wake for other reasons.
    pub(crate) fn silence(&self) {
        let mut count = [0u8; 8];
        let _ = (&self.file).read(&mut count);
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
