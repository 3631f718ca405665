//! The gateway's lock-free files as they are, compiled against loom's primitives, so that its tests try every order in
//! which threads can meet. A crate of its own, since nothing else of the gateway has to be built for that.
//!
//! `cargo test -p ringway-model`
#![allow(dead_code, unused_imports)] // What only the gateway calls.

#[path = "../../src/mesh"]
mod mesh {
    pub mod budget;
    pub mod inbox;
    mod model;
    pub(crate) mod sync;
    pub mod word;

    pub use word::Word;
}

#[path = "../../src/observe"]
mod observe {
    pub mod log_ring;
}
