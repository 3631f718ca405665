//! The primitives the lock-free files are written against: the real ones, or loom's where `core/model` compiles them. No
//! logic.
//!
//! `mesh/inbox.rs`, `observe/log_ring.rs` and `mesh/budget` use it. Whoever writes another thing that two threads touch
//! imports from here too, and names the file in `core/model`, so that it is model-checked.

#[cfg(not(ringway_loom))]
pub(crate) use real::*;

#[cfg(ringway_loom)]
pub(crate) use checked::*;

#[cfg(not(ringway_loom))]
mod real {
    pub(crate) use crate::mesh::doorbell::Doorbell;
    pub(crate) use crossbeam_queue::ArrayQueue as Queue;
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
}

#[cfg(ringway_loom)]
mod checked {
    pub(crate) use crate::mesh::model::{Doorbell, Queue};
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
}
