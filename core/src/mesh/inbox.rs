//! A bounded inbox of one thread: many senders, one receiver that may sleep. Does not know what to do when it is full
//! (`policy`), nor what the messages mean (`message`).
//!
//! The wake protocol. "Ring when the queue was empty" loses wakes: a receiver that has seen it empty may not have gone
//! to sleep yet. Here the receiver announces its sleep first and looks again, and a sender looks after it has pushed:
//!
//! ```text
//!     receiver                         sender
//!     sleeping = true                  push
//!     fence(SeqCst)                    fence(SeqCst)
//!     queue empty?  → sleep            sleeping swapped true → false?  → ring
//! ```
//!
//! One of the two fences comes first in the total order of SeqCst fences; whoever is second sees what the other wrote.
//! So either the receiver sees the push or the sender sees the sleeper, and while the receiver is awake nobody pays
//! for a system call. Loom checks it in `inbox/model_tests.rs`; there, taking out either fence or the second look at
//! the queue ends in a deadlock at once.
//!
//! Every write of `sleeping` is a swap: a sender's swap then follows the store that it read and nothing else, which
//! loom cannot tell of plain stores by two threads. Only a receiver on its way to or from sleep pays for it.

use crate::mesh::sync::{Arc, AtomicBool, Doorbell, Ordering, Queue, fence};
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;

/// Messages one inbox holds. One adoption, one meters question and a burst of handed-off sockets fit many times over.
pub const INBOX_MESSAGES: usize = 1024;

/// The message that did not fit, handed back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<M>(pub M);

struct Shared<M> {
    queue: Queue<M>,
    sleeping: AtomicBool,
    bell: Doorbell,
}

/// The producers' end. A clone per sending thread.
pub struct Sender<M> {
    shared: Arc<Shared<M>>,
}

/// The consumer's end: moves to its thread once and stays there (not `Sync`).
pub struct Receiver<M> {
    shared: Arc<Shared<M>>,
    one_thread: PhantomData<Cell<()>>,
}

/// Fails only when the process has no file descriptor left. `capacity` is in messages, at least 1.
pub fn inbox<M>(capacity: usize) -> io::Result<(Sender<M>, Receiver<M>)> {
    assert!(capacity > 0, "an inbox holds at least one message");
    let shared =
        Arc::new(Shared { queue: Queue::new(capacity), sleeping: AtomicBool::new(false), bell: Doorbell::new()? });
    Ok((Sender { shared: shared.clone() }, Receiver { shared, one_thread: PhantomData }))
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Sender<M> {
        Sender { shared: self.shared.clone() }
    }
}

impl<M> Sender<M> {
    /// Never blocks and never spins on a full inbox. A message to a receiver that is gone stays in the queue until
    /// the last sender goes too.
    pub fn try_send(&self, message: M) -> Result<(), Full<M>> {
        self.shared.queue.push(message).map_err(Full)?;
        fence(Ordering::SeqCst);
        // The plain load keeps the flag's cache line shared while the receiver is awake: a swap would take it each time.
        let sleeping = &self.shared.sleeping;
        if sleeping.load(Ordering::Relaxed) && sleeping.swap(false, Ordering::AcqRel) {
            self.shared.bell.ring();
        }
        Ok(())
    }

    pub fn capacity(&self) -> usize {
        self.shared.queue.capacity()
    }
}

impl<M> Receiver<M> {
    /// Readable when a sender rang. For the reactor to wait on, only after `prepare_sleep` said true.
    pub fn fd(&self) -> RawFd {
        self.shared.bell.fd()
    }

    /// Hands out at most `max` messages, oldest first, and says how many. `max` keeps one inbox from starving a shard.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(M)) -> usize {
        let mut taken = 0;
        while taken < max {
            let Some(message) = self.shared.queue.pop() else { break };
            taken += 1;
            each(message);
        }
        taken
    }

    /// True: the owner may wait on `fd`, whoever sends next will ring. False: there is work, stay awake.
    pub fn prepare_sleep(&mut self) -> bool {
        self.shared.sleeping.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.shared.queue.is_empty() {
            return true;
        }
        self.shared.sleeping.swap(false, Ordering::Relaxed);
        false
    }

    /// To call after the wait, before `drain`, whatever ended the wait. A ring that comes late (its sender had swapped
    /// the flag already) costs one empty turn, never a message.
    pub fn woken(&mut self) {
        self.shared.bell.silence();
        self.shared.sleeping.swap(false, Ordering::Relaxed);
    }
}

#[cfg(all(test, ringway_loom))]
mod model_tests;

#[cfg(all(test, not(ringway_loom)))]
mod tests;
