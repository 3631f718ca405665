//! The binary. All of it is in the library, but for the allocator, which is a program's choice.

use mimalloc::MiMalloc;

/// Serving allocates nothing; connections that open, come to rest and close do. The C library's allocator keeps their
/// memory once it has grown by a burst, this one gives whole pages back.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`: after how many milliseconds a page without an allocation goes back to the
/// kernel.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// At once. A delay ends with a later call of the allocator, which a gateway at rest does not make.
const AT_ONCE: std::ffi::c_long = 0;

fn main() -> std::process::ExitCode {
    // SAFETY: sets a number; mimalloc reads it whenever it frees a page, and ignores options that it does not have.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, AT_ONCE) };
    ringway::boot::main()
}
