//! A command under way: where its answer is put, and who waits for it. Does not send it (`link`).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ringway_proto::resp::Reply;

use crate::net::Net;

/// Kept for reuse, as many as are often under way at a time.
const CALLS_KEPT_MAX: usize = 1024;

/// Why there is no answer, as the connection knows it.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// Nothing of it was sent: it can be sent elsewhere.
    NotSent(Rc<str>),
    /// It may have run.
    Unanswered(Rc<str>),
    /// Its time is over. `sent`: it may have run.
    TimedOut { sent: bool },
}

pub(super) struct Call {
    state: RefCell<State>,
    sent: Cell<bool>,
}

enum State {
    Waiting(Option<Waker>),
    Done(Result<Reply, Fate>),
    /// Nobody waits any more: the answer is dropped when it comes.
    Left,
}

impl Call {
    fn new() -> Call {
        Call { state: RefCell::new(State::Waiting(None)), sent: Cell::new(false) }
    }

    pub fn is_left(&self) -> bool {
        matches!(*self.state.borrow(), State::Left)
    }

    pub fn note_sent(&self) {
        self.sent.set(true);
    }

    /// False: nobody waited for it.
    pub fn finish(&self, result: Result<Reply, Fate>) -> bool {
        let mut state = self.state.borrow_mut();
        match &mut *state {
            State::Waiting(waker) => {
                let waker = waker.take();
                *state = State::Done(result);
                drop(state);
                waker.into_iter().for_each(Waker::wake);
                true
            }
            _ => false,
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Reply, Fate>> {
        let mut state = self.state.borrow_mut();
        if let State::Waiting(place) = &mut *state {
            if !place.as_ref().is_some_and(|old| old.will_wake(waker)) {
                *place = Some(waker.clone());
            }
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, State::Left) {
            State::Done(result) => Poll::Ready(result),
            _ => Poll::Ready(Err(Fate::Unanswered("asked twice".into()))),
        }
    }
}

/// Memory of calls that are over.
#[derive(Default)]
pub(super) struct Calls {
    free: RefCell<Vec<Rc<Call>>>,
}

impl Calls {
    pub fn take(&self) -> Rc<Call> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Rc::new(Call::new()))
    }

    fn keep(&self, call: Rc<Call>) {
        let mut free = self.free.borrow_mut();
        if Rc::strong_count(&call) == 1 && free.len() < CALLS_KEPT_MAX {
            call.sent.set(false);
            call.state.replace(State::Waiting(None));
            free.push(call);
        }
    }

    /// Waits for the answer until `until_ms` of the reactor's clock. Who stops waiting before leaves the call.
    pub async fn answer(&self, net: &Rc<Net>, call: Rc<Call>, until_ms: u64) -> Result<Reply, Fate> {
        let waiting = Waiting { calls: self, call: Some(call) };
        let call = waiting.call.as_deref().expect("it is taken by the drop alone");
        let mut sleep = pin!(net.sleep(Duration::from_millis(until_ms.saturating_sub(net.now_ms()))));
        poll_fn(|cx| {
            if let Poll::Ready(result) = call.poll(cx.waker()) {
                return Poll::Ready(result);
            }
            sleep.as_mut().poll(cx).map(|()| Err(Fate::TimedOut { sent: call.sent.get() }))
        })
        .await
    }
}

struct Waiting<'a> {
    calls: &'a Calls,
    call: Option<Rc<Call>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call.state.replace(State::Left);
            self.calls.keep(call);
        }
    }
}
