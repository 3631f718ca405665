//! A core's loop with nothing on it but what a test spawns there, for rooms that have no door to the outside yet.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use ringway::net::{EngineKind, Net, NetLimits, panics, spawn};

/// As the gateway of a test would be started: `RINGWAY_TEST_IO`, else io_uring.
pub fn engine() -> EngineKind {
    match std::env::var("RINGWAY_TEST_IO").as_deref() {
        Ok("epoll") => EngineKind::Epoll,
        _ => EngineKind::IoUring,
    }
}

/// Runs `task` on a fresh core until it ends, at most `time_max`. What panics on it panics here.
#[track_caller]
pub fn on_core<F: Future<Output = ()> + 'static>(time_max: Duration, task: impl FnOnce(Rc<Net>) -> F + Send + 'static) {
    let core = std::thread::spawn(move || {
        let limits = NetLimits { ring_entries: 1024, buffer_bytes: 16384, buffers_max: 1024 };
        let net = Net::new(engine(), &limits).expect("a loop");
        let ended = Rc::new(Cell::new(false));
        let (ends, seen, task) = (net.clone(), ended.clone(), task(net.clone()));
        spawn(async move {
            task.await;
            seen.set(true);
            ends.stop();
        });
        let watchdog = net.clone();
        spawn(async move {
            watchdog.sleep(time_max).await;
            watchdog.stop();
        });
        net.run(|_| assert_eq!(panics(), 0, "a task panicked")).expect("the loop runs");
        assert!(ended.get(), "not over within {time_max:?}");
    });
    if let Err(panic) = core.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs all of them side by side; the results in their order.
pub async fn all<T: 'static, F: Future<Output = T> + 'static>(
    net: &Rc<Net>,
    tasks: impl IntoIterator<Item = F>,
) -> Vec<T> {
    let results: Rc<RefCell<Vec<Option<T>>>> = Rc::default();
    let left = Rc::new(Cell::new(0));
    for (at, task) in tasks.into_iter().enumerate() {
        results.borrow_mut().push(None);
        left.set(left.get() + 1);
        let (results, left) = (results.clone(), left.clone());
        spawn(async move {
            let result = task.await;
            results.borrow_mut()[at] = Some(result);
            left.set(left.get() - 1);
        });
    }
    while left.get() > 0 {
        net.sleep(Duration::from_millis(1)).await;
    }
    results.take().into_iter().map(|result| result.expect("it is over")).collect()
}

/// Polls until `probe` holds, at most `limit`, while the core goes on.
pub async fn until(net: &Rc<Net>, what: &str, limit: Duration, mut probe: impl FnMut() -> bool) {
    let end_ms = net.now_ms() + limit.as_millis() as u64;
    while !probe() {
        assert!(net.now_ms() < end_ms, "not within {limit:?}: {what}");
        net.sleep(Duration::from_millis(5)).await;
    }
}
