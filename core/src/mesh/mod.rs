//! What crosses threads: bounded inboxes, their policies, two-phase adoption, load gauges, and what a node counts and
//! decides as one (words, windows, quotas, budgets). Not what the messages do nor what the values mean.
//!
//! Everything else on a shard is `Rc` and `Cell`. `Arc`, atomics and `Send` on the shards' side live here, so that the
//! question "what do cores share?" is answered by one directory. A plain request touches none of it.

pub mod broadcast;
mod counts;
pub mod budget;
mod doorbell;
mod fleet;
pub mod gauge;
pub mod inbox;
mod joint;
pub mod message;
mod nonces;
mod places;
pub mod policy;
pub mod port;
pub mod quota;
mod published;
mod registry;
pub(crate) mod sync;
pub mod window;
pub mod word;
mod workers;

pub use broadcast::{Adoption, Blocker, Outcome};
pub use counts::CoreCounts;
pub use fleet::Fleet;
pub use gauge::{CoreGauge, CoreGauges};
pub use inbox::{Full, Receiver, Sender, inbox};
pub use joint::{Doing, Joint, Progress, Turn};
pub use message::{DrainStep, Notice, ToControl, ToShard};
pub use nonces::{Claim, Nonce, Nonces};
pub use places::{Place, Places};
pub use policy::{KindCounts, Message, Policy, Sent};
pub use port::{Lane, Port};
pub use published::{Bell, Published};
pub use quota::{Quota, Share};
pub use registry::Registry;
pub use window::Window;
pub use word::Word;
pub use workers::{Busy, Call, Calls, Errand, Ring, WorkerCounts, WorkerFacts, Workers};
