//! Ringway, an API gateway. The modules stand in the order a request visits them; each imports only from below.

pub mod net;
