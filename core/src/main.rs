//! The binary. All of it is in the library.

fn main() -> std::process::ExitCode {
    ringway::boot::main()
}
