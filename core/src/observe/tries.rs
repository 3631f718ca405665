//! What became of each try of a request that another one followed: for the log.

use super::Flag;
use std::fmt;
use std::rc::Rc;

/// A try that came to nothing.
pub struct Try {
    pub endpoint: Rc<str>,
    pub came_to: CameTo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameTo {
    Failed(Flag),
    /// An answer with this status, thrown away.
    Status(u16),
    /// Another try, begun later, was answered first.
    Outrun,
}

impl fmt::Display for CameTo {
    /// Two letters of a flag, a status, or `outrun`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CameTo::Failed(flag) => f.write_str(flag.letters()),
            CameTo::Status(status) => write!(f, "{status}"),
            CameTo::Outrun => f.write_str("outrun"),
        }
    }
}
