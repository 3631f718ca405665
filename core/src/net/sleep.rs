//! A wait of the wheel for tasks that wait for time alone. Connections use the deadlines of their streams.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::reactor::Net;
use super::uring::GENERATION_MASK;

/// Marks a wheel token as a sleeper's; else it is a socket's key.
pub(super) const SLEEPER: u64 = 1 << 63;

/// Ends once the time has come; precision is the wheel's tick.
pub struct Sleep {
    net: Rc<Net>,
    deadline_ms: u64,
    sleeper: Option<u32>,
}

impl Net {
    pub fn sleep(self: &Rc<Self>, time: Duration) -> Sleep {
        Sleep { net: self.clone(), deadline_ms: self.deadline_after(time), sleeper: None }
    }

    fn register_sleeper(&self, sleeper: Option<u32>, deadline: u64, waker: &Waker) -> u32 {
        let mut sleepers = self.sleepers.borrow_mut();
        if let Some(index) = sleeper {
            sleepers.slots[index as usize].1 = Some(waker.clone());
            return index;
        }
        let (index, token) = sleepers.add(waker.clone());
        self.wheel.borrow_mut().arm(deadline, token);
        index
    }

    fn forget_sleeper(&self, index: u32) {
        self.sleepers.borrow_mut().remove(index);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.net.now_ms() >= self.deadline_ms {
            return Poll::Ready(());
        }
        let (deadline, sleeper) = (self.deadline_ms, self.sleeper);
        self.sleeper = Some(self.net.register_sleeper(sleeper, deadline, cx.waker()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(sleeper) = self.sleeper {
            self.net.forget_sleeper(sleeper);
        }
    }
}

/// Who waits for time alone.
#[derive(Default)]
pub(super) struct Sleepers {
    slots: Vec<(u32, Option<Waker>)>,
    free: Vec<u32>,
}

impl Sleepers {
    fn add(&mut self, waker: Waker) -> (u32, u64) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.free.reserve(self.slots.len()); // giving back does not allocate
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(waker);
        (index, SLEEPER | u64::from(slot.0) << 32 | u64::from(index))
    }

    fn remove(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        *slot = ((slot.0 + 1) & GENERATION_MASK, None);
        self.free.push(index);
    }

    pub(super) fn fire(&mut self, token: u64) {
        let (index, generation) = (token as u32, (token >> 32) as u32 & GENERATION_MASK);
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.0 == generation
            && let Some(waker) = slot.1.take()
        {
            waker.wake();
        }
    }
}
