//! The codec from outside: fixtures, properties, and what other readers make of the same bytes.

mod cases;
mod credentials;
mod describe;
mod fixtures;
mod model;
mod properties;
