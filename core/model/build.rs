//! Turns the primitives that the lock-free files use into loom's (`mesh/sync.rs`), for this crate alone.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=ringway_loom");
}
