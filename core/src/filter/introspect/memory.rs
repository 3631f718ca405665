//! What one core knows of tokens that a server was asked of: what it has said, and who waits for what it will say. Lives on
//! over reloads; what was asked with another configuration is another question.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::identity::{TextCache, Verified};

/// Tokens of one core.
const ACTIVE_MAX: usize = 65_536;
const ACTIVE_BYTES_MAX: usize = 64 << 20;
/// Apart from the active ones, so that garbage drives none of them out.
const INACTIVE_MAX: usize = 8192;
const INACTIVE_BYTES_MAX: usize = 8 << 20;
/// Requests of one core that wait for a server; more are refused at once.
const WAITING_MAX: u32 = 1024;

/// What a server has said of a token.
#[derive(Clone)]
pub(super) enum Told {
    Active(Rc<Verified>),
    Inactive,
    /// Nothing; why, for the log.
    Failed(Rc<str>),
}

/// A question under way.
type Work = Pin<Box<dyn Future<Output = Told>>>;

pub(in crate::filter) struct Memory {
    /// And until when, in milliseconds of the reactor's clock.
    active: RefCell<TextCache<(Rc<Verified>, u64)>>,
    inactive: RefCell<TextCache<u64>>,
    open: RefCell<HashMap<Rc<[u8]>, Rc<Question>>>,
    waiting: Cell<u32>,
    /// Used again for each key that is looked up.
    key: RefCell<Vec<u8>>,
}

/// One question that one request or several wait for.
struct Question {
    state: RefCell<State>,
    waiters: Cell<u32>,
}

enum State {
    /// Whoever polls last is woken; the others are when it has gone.
    Open(Work, Vec<(u32, Waker)>),
    Over(Told),
}

/// A request that waits.
pub(super) struct Waiter {
    memory: Rc<Memory>,
    key: Rc<[u8]>,
    question: Rc<Question>,
    /// Among those of its question.
    number: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            active: RefCell::new(TextCache::new(ACTIVE_MAX, ACTIVE_BYTES_MAX)),
            inactive: RefCell::new(TextCache::new(INACTIVE_MAX, INACTIVE_BYTES_MAX)),
            open: RefCell::default(),
            waiting: Cell::new(0),
            key: RefCell::default(),
        }
    }
}

impl Memory {
    pub(super) fn recall(&self, stamp: u64, token: &[u8], now_ms: u64) -> Option<Told> {
        self.with_key(stamp, token, |key| {
            if let Some((verified, _)) = self.active.borrow().get(key).filter(|(_, until_ms)| now_ms < *until_ms) {
                return Some(Told::Active(verified.clone()));
            }
            self.inactive.borrow().get(key).filter(|until_ms| now_ms < **until_ms).map(|_| Told::Inactive)
        })
    }

    /// `bytes`: of what the server has said.
    pub(super) fn keep(&self, key: &[u8], told: &Told, bytes: usize, until_ms: u64) {
        match told {
            Told::Active(verified) => {
                self.active.borrow_mut().insert(key, (verified.clone(), until_ms), Verified::weight(bytes));
            }
            Told::Inactive => {
                // It was active before, perhaps.
                self.active.borrow_mut().remove(key);
                self.inactive.borrow_mut().insert(key, until_ms, 0);
            }
            Told::Failed(_) => {}
        }
    }

    /// Waits for what was asked of this token already, or for what `begin` asks.
    ///
    /// # Errors
    /// Too many wait, or why nothing can be asked.
    pub(super) fn join<W: Future<Output = Told> + 'static>(
        self: &Rc<Self>,
        stamp: u64,
        token: &[u8],
        begin: impl FnOnce(Rc<[u8]>) -> Result<W, &'static str>,
    ) -> Result<Waiter, &'static str> {
        if self.waiting.get() >= WAITING_MAX {
            return Err("too many requests wait for the server of tokens");
        }
        let key: Rc<[u8]> = self.with_key(stamp, token, |key| key.into());
        let open = self.open.borrow().get(&key).cloned();
        let question = match open {
            Some(question) => question,
            None => {
                let work = begin(key.clone())?;
                let state = RefCell::new(State::Open(Box::pin(work), Vec::new()));
                let question = Rc::new(Question { state, waiters: Cell::new(0) });
                self.open.borrow_mut().insert(key.clone(), question.clone());
                question
            }
        };
        self.waiting.set(self.waiting.get() + 1);
        let number = question.waiters.get();
        question.waiters.set(number + 1);
        Ok(Waiter { memory: self.clone(), key, question, number })
    }

    fn with_key<R>(&self, stamp: u64, token: &[u8], look: impl FnOnce(&[u8]) -> R) -> R {
        let mut key = self.key.borrow_mut();
        key.clear();
        key.extend_from_slice(&stamp.to_le_bytes());
        key.extend_from_slice(token);
        look(&key)
    }
}

impl Future for Waiter {
    type Output = Told;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Told> {
        let mut state = self.question.state.borrow_mut();
        let (work, wakers) = match &mut *state {
            State::Over(told) => return Poll::Ready(told.clone()),
            State::Open(work, wakers) => (work, wakers),
        };
        let Poll::Ready(told) = work.as_mut().poll(cx) else {
            wakers.retain(|(number, _)| *number != self.number);
            wakers.push((self.number, cx.waker().clone()));
            return Poll::Pending;
        };
        let wakers = std::mem::take(wakers);
        *state = State::Over(told.clone());
        drop(state);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
        Poll::Ready(told)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.memory.waiting.set(self.memory.waiting.get() - 1);
        let next = match &mut *self.question.state.borrow_mut() {
            State::Open(_, wakers) => {
                wakers.retain(|(number, _)| *number != self.number);
                wakers.last().map(|(_, waker)| waker.clone())
            }
            State::Over(_) => None,
        };
        // The one who is woken by the work may be this one.
        next.into_iter().for_each(Waker::wake);
        let is_last = Rc::strong_count(&self.question) == 2;
        if is_last {
            self.memory.open.borrow_mut().remove(&self.key);
        }
    }
}
