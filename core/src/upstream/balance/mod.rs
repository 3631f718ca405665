//! Which endpoint takes a request: each way to choose is one file of plain arithmetic. Knows no clock, socket or pool:
//! times come in as numbers, endpoints are places in their cluster's list, and what is free to be chosen comes in as a
//! slice of them or as a question.
//!
//! `Ring` and `Maglev` are built on the control thread and only read by the cores; everything else is one core's own.
//! No choice allocates.

mod asked;
pub mod bounded;
pub mod ewma;
pub mod least;
pub mod maglev;
pub mod random;
pub mod ring;
pub mod round_robin;
pub mod slow_start;
pub mod tiers;
pub mod two;

#[cfg(test)]
pub(crate) mod chi_square;

pub use ewma::PeakEwma;
pub use least::{Load, least, place_after, place_of};
pub use maglev::Maglev;
pub use random::Random;
pub use ring::Ring;
pub use round_robin::RoundRobin;
pub use tiers::{Spill, panic};
pub use two::of_two;
