//! Any bytes as a compact token: what `properties/token.rs` says.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../properties/token.rs"]
mod token;

fuzz_target!(|input: &[u8]| token::check(input));
