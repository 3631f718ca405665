//! Loom's stand-ins for the queue and the eventfd. Never compiled into the product.
//!
//! The queue keeps crossbeam's shape (a stamp per slot, a claimed tail) with orderings that are weaker than or equal to
//! crossbeam's, so that what loom proves does not lean on a lock that the real queue does not have: the empty check
//! reads one atomic, and only a fence makes it see a push.

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::io;
use std::os::fd::RawFd;

pub(crate) struct Queue<T> {
    /// Only the consumer moves it; producers read it to see whether there is room.
    head: AtomicUsize,
    tail: AtomicUsize,
    /// `stamps[i] == position + 1`: the value of `position` is there. The mutexes are never contended.
    stamps: Vec<AtomicUsize>,
    slots: Vec<Mutex<Option<T>>>,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Queue<T> {
        Queue {
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            stamps: (0..capacity).map(|_| AtomicUsize::new(0)).collect(),
            slots: (0..capacity).map(|_| Mutex::new(None)).collect(),
        }
    }

    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            // A stale tail may lie behind the head: the exchange fails then and brings the newest.
            if tail.saturating_sub(self.head.load(Ordering::Acquire)) >= self.slots.len() {
                return Err(value);
            }
            match self.tail.compare_exchange(tail, tail + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => tail = now,
            }
        }
        let slot = tail % self.slots.len();
        *self.slots[slot].lock().unwrap() = Some(value);
        self.stamps[slot].store(tail + 1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<T> {
        let head = self.head.load(Ordering::Relaxed);
        let slot = head % self.slots.len();
        while self.stamps[slot].load(Ordering::Acquire) != head + 1 {
            if self.tail.load(Ordering::Relaxed) == head {
                return None;
            }
            thread::yield_now(); // claimed but not yet written: crossbeam spins here too
        }
        let value = self.slots[slot].lock().unwrap().take();
        self.head.store(head + 1, Ordering::Release);
        value
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tail.load(Ordering::Relaxed) == self.head.load(Ordering::Relaxed)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }
}

pub(crate) struct Doorbell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Doorbell> {
        Ok(Doorbell { rung: Mutex::new(false), changed: Condvar::new() })
    }

    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    pub(crate) fn silence(&self) {
        *self.rung.lock().unwrap() = false;
    }

    /// What the reactor's wait on the eventfd is: returns once rung. If nobody ever rings, loom reports a deadlock.
    #[cfg(test)]
    pub(crate) fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        -1
    }
}
