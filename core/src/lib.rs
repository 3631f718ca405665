//! Ringway, an API gateway. The modules stand in the order a request visits them; each imports only from below.

pub mod conn;
pub mod exchange;
pub mod filter;
pub mod listen;
pub mod mesh;
pub mod net;
pub mod observe;
pub mod pipeline;
pub mod plan;
pub mod pool;
pub mod route;
pub mod serve;
pub mod shard;
pub mod upstream;
