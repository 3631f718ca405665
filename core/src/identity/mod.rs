//! Who a request comes from: issuers and their keys, tokens, what a core remembers of them. Reads no request (`filter`) and
//! fetches nothing (`control`).

mod cache;
mod consumers;
mod issuer;
mod keys;
mod remembered;
mod token;

pub use cache::TextCache;
pub use consumers::{Consumer, Consumers};
pub use issuer::{IssuerNode, IssuerPlan, RESULTS};
pub use keys::{KEYS_MAX, Key, KeySet, fingerprint};
pub use remembered::{Recalled, Remembered, Spared, Stamp};
pub use token::{Refused, Signed, Token, Verified, unfit_claim};
