//! Any text as a condition of `when`: what `properties/expression.rs` says.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../properties/expression.rs"]
mod expression;

fuzz_target!(|text: &str| expression::check(text));
