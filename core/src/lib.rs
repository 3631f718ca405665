//! Ringway, an API gateway. The modules stand in the order a request visits them; each imports only from below.

// The process, and the thread that is no core.
pub mod boot; // start
pub mod control; // reloads, names, drain, metrics
// Cores and what they do.
pub mod serve; // the life of one core
pub mod listen; // accept, and choose the core that serves
pub mod conn; // the client's side of a connection
pub mod pipeline; // the whole story of a request
pub mod shard; // what one core owns
pub mod pool; // memory that is used again
// What is configured, compiled.
pub mod plan;
pub mod filter;
pub mod identity; // who a request comes from
pub mod fetch; // HTTP for the control thread
pub mod upstream;
pub mod redis; // limits and caches that gateways share
// What travels, what is counted, what crosses cores.
pub mod exchange;
pub mod route;
pub mod observe;
pub mod secret; // what the configuration points to
pub mod mesh;
pub mod sockets;
pub mod net;
