//! Why a command has no answer: who failed, whether it may have run, whether to try again.

use std::rc::Rc;

use bytes::Bytes;
use thiserror::Error;

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The gateway asks for more than it allows itself.
    Gateway,
    /// Nodes or the way to them.
    Redis,
    /// The command, its arguments or the rights of its user.
    Command,
}

#[derive(Debug, Clone, Error)]
pub enum RedisError {
    #[error("{node}: too many commands wait or are under way")]
    QueueFull { node: Rc<str> },
    #[error("{node}: no answer in time")]
    TimedOut { node: Rc<str>, sent: bool },
    #[error("{node}: {why}")]
    Unreachable { node: Rc<str>, why: Rc<str> },
    /// It had been sent when the connection ended.
    #[error("{node}: {why}, with the command unanswered")]
    Lost { node: Rc<str>, why: Rc<str> },
    /// A node answered until the end of the time that it cannot serve now.
    #[error("{node}: {}", String::from_utf8_lossy(.text))]
    Unavailable { node: Rc<str>, text: Bytes },
    #[error("nodes send the command to each other: {} at last", String::from_utf8_lossy(.text))]
    Redirected { text: Bytes },
    /// An answer, if not the wanted one.
    #[error("{node}: {}", String::from_utf8_lossy(.text))]
    Refused { node: Rc<str>, text: Bytes },
}

impl RedisError {
    pub fn who(&self) -> Who {
        match self {
            RedisError::QueueFull { .. } => Who::Gateway,
            RedisError::Refused { .. } => Who::Command,
            _ => Who::Redis,
        }
    }

    /// False: nothing of it has happened, whatever it was.
    pub fn may_have_run(&self) -> bool {
        matches!(self, RedisError::TimedOut { sent: true, .. } | RedisError::Lost { .. })
    }

    /// True if the same command may well succeed a little later.
    pub fn is_worth_a_retry(&self) -> bool {
        !matches!(self, RedisError::Refused { .. })
    }
}
