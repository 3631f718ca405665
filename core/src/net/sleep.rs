//! A wait of the wheel for tasks that wait for time alone. Connections use the deadlines of their streams.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::reactor::Net;

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
