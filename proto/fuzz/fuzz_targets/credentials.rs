//! Any bytes as credentials: what `properties/credentials.rs` says.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../properties/credentials.rs"]
mod credentials;

fuzz_target!(|input: &[u8]| credentials::check(input));
