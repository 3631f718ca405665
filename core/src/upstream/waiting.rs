//! Who waits on this core for something that others give back: a connection, a place. First come, first served. Does not
//! know what is waited for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::net::Net;

/// Places come back on other cores, too, which tell nobody: a waiter looks so often by itself.
const LOOK_EVERY: Duration = Duration::from_millis(8);

#[derive(Default)]
pub struct WaitList {
    waiting: RefCell<VecDeque<Rc<RefCell<Option<Waker>>>>>,
}

/// A place in the list, left when it is dropped.
struct Place<'a> {
    list: &'a WaitList,
    waker: Rc<RefCell<Option<Waker>>>,
}

impl WaitList {
    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Something was given back: who has waited longest looks at once.
    pub fn wake_first(&self) {
        if let Some(waker) = self.waiting.borrow().front().and_then(|waker| waker.borrow_mut().take()) {
            waker.wake();
        }
    }

    /// Waits until `take` gives something, or until `until_ms` of the reactor's clock.
    pub async fn wait<T>(&self, net: &Rc<Net>, until_ms: u64, mut take: impl FnMut() -> Option<T>) -> Option<T> {
        let place = self.enter();
        loop {
            if place.is_first()
                && let Some(taken) = take()
            {
                // More may have been given back than this one took.
                drop(place);
                self.wake_first();
                return Some(taken);
            }
            let now_ms = net.now_ms();
            if now_ms >= until_ms {
                return None;
            }
            let look = Duration::from_millis(until_ms - now_ms).min(LOOK_EVERY);
            let mut sleep = pin!(net.sleep(look));
            let mut slept = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut slept, true) && place.waker.borrow().is_none() {
                    return Poll::Ready(());
                }
                place.waker.replace(Some(cx.waker().clone()));
                sleep.as_mut().poll(cx)
            })
            .await;
        }
    }

    fn enter(&self) -> Place<'_> {
        let waker = Rc::new(RefCell::new(None));
        self.waiting.borrow_mut().push_back(waker.clone());
        Place { list: self, waker }
    }
}

impl Place<'_> {
    fn is_first(&self) -> bool {
        self.list.waiting.borrow().front().is_some_and(|first| Rc::ptr_eq(first, &self.waker))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.list.waiting.borrow_mut().retain(|one| !Rc::ptr_eq(one, &self.waker));
    }
}
