//! What a core has others do for it: work that would hold its loop up (hashes of passwords, slow signatures) by threads of
//! their own, errands (questions to servers that the configuration names) by the control thread. A core hands it over and
//! waits for the result as for anything else; it never waits for room.
//!
//! The result lies in memory that both have; whoever did it then rings the core through its inbox.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::{io, thread};

use slab::Slab;
use tokio::sync::mpsc;

type Job = Box<dyn FnOnce() + Send>;
/// Begins on the control thread, which runs what is made there.
pub type Errand = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;
/// Errands that wait for the control thread, of all cores.
pub const ERRANDS_MAX: usize = 4096;
/// Tells a core that the work of this number is done.
pub type Ring = Arc<dyn Fn(u32) + Send + Sync>;
type Place<T> = Arc<Mutex<Option<T>>>;

/// The node's workers.
#[derive(Clone)]
pub struct Workers {
    jobs: SyncSender<Job>,
    errands: mpsc::Sender<Errand>,
    counts: Arc<WorkerCounts>,
}

/// What the workers' threads had and have to do, for whoever watches them.
#[derive(Debug, Default)]
pub struct WorkerCounts {
    taken: AtomicU64,
    begun: AtomicU64,
    done: AtomicU64,
    refused: AtomicU64,
}

/// [`WorkerCounts`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerFacts {
    pub waiting: u64,
    pub running: u64,
    pub done: u64,
    /// Since as much as may wait was waiting.
    pub refused: u64,
}

impl WorkerCounts {
    pub fn facts(&self) -> WorkerFacts {
        // What happens last is read first: no difference comes out below what it is.
        let [done, begun, taken, refused] =
            [&self.done, &self.begun, &self.taken, &self.refused].map(|count| count.load(Ordering::Relaxed));
        WorkerFacts { waiting: taken.saturating_sub(begun), running: begun.saturating_sub(done), done, refused }
    }
}

/// As much as may wait is waiting already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl Workers {
    /// The errands are the control thread's to run.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(threads: usize, queue_max: usize) -> io::Result<(Workers, mpsc::Receiver<Errand>)> {
        let (sender, receiver) = sync_channel(queue_max);
        let receiver = Arc::new(Mutex::new(receiver));
        let counts = Arc::new(WorkerCounts::default());
        for number in 0..threads.max(1) {
            let (receiver, counts) = (receiver.clone(), counts.clone());
            thread::Builder::new().name(format!("ringway-work-{number}")).spawn(move || work(&receiver, &counts))?;
        }
        let (errands, to_run) = mpsc::channel(ERRANDS_MAX);
        Ok((Workers { jobs: sender, errands, counts }, to_run))
    }

    pub fn counts(&self) -> Arc<WorkerCounts> {
        self.counts.clone()
    }
}

/// Until all senders are gone. A job that panics costs its own result.
fn work(jobs: &Mutex<Receiver<Job>>, counts: &WorkerCounts) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => {
                counts.begun.fetch_add(1, Ordering::Relaxed);
                drop(catch_unwind(AssertUnwindSafe(job)));
                counts.done.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => return,
        }
    }
}

/// One core's work under way.
pub struct Calls {
    workers: Workers,
    ring: Ring,
    waiting: RefCell<Slab<Option<Waker>>>,
}

impl Calls {
    pub fn new(workers: Workers, ring: Ring) -> Rc<Calls> {
        Rc::new(Calls { workers, ring, waiting: RefCell::default() })
    }

    /// Has `work` done on another thread.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn run<T: Send + 'static>(self: &Rc<Self>, work: impl FnOnce() -> T + Send + 'static) -> Result<Call<T>, Busy> {
        let (call, place, done) = self.begin();
        let job = Box::new(move || {
            // Also if the work panics: the core sees then that there is nothing. Rung when the place has been let go.
            let _done = done;
            let place = place;
            put(&place, work());
        });
        let counts = &self.workers.counts;
        // Counted before a worker can begin it.
        counts.taken.fetch_add(1, Ordering::Relaxed);
        self.workers.jobs.try_send(job).map(|()| call).map_err(|_| {
            counts.taken.fetch_sub(1, Ordering::Relaxed);
            counts.refused.fetch_add(1, Ordering::Relaxed);
            Busy
        })
    }

    /// Has the control thread run what `begin` makes there.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn errand<T, F>(self: &Rc<Self>, begin: impl FnOnce() -> F + Send + 'static) -> Result<Call<T>, Busy>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (call, place, done) = self.begin();
        let errand: Errand = Box::new(move || {
            let running = begin();
            Box::pin(async move {
                let _done = done;
                let place = place;
                put(&place, running.await);
            })
        });
        self.workers.errands.try_send(errand).map(|()| call).map_err(|_| Busy)
    }

    fn begin<T>(self: &Rc<Self>) -> (Call<T>, Place<T>, Done) {
        let place: Place<T> = Place::default();
        let number = self.waiting.borrow_mut().insert(None) as u32;
        let call = Call { calls: self.clone(), number, place: place.clone() };
        (call, place, Done { ring: self.ring.clone(), number })
    }

    /// The work of this number is done.
    pub fn rung(&self, number: u32) {
        let waker = self.waiting.borrow_mut().get_mut(number as usize).and_then(Option::take);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn put<T>(place: &Place<T>, result: T) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
}

struct Done {
    ring: Ring,
    number: u32,
}

impl Drop for Done {
    fn drop(&mut self) {
        (self.ring)(self.number);
    }
}

/// Work under way. May be dropped at any time; the work goes on then, and its result is thrown away.
pub struct Call<T> {
    calls: Rc<Calls>,
    number: u32,
    place: Place<T>,
}

impl<T> Future for Call<T> {
    /// `None`: the work has panicked.
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(result) = self.place.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Poll::Ready(Some(result));
        }
        // The worker lets go of the place in any case before it rings.
        if Arc::strong_count(&self.place) == 1 {
            return Poll::Ready(None);
        }
        if let Some(waiting) = self.calls.waiting.borrow_mut().get_mut(self.number as usize) {
            *waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        self.calls.waiting.borrow_mut().try_remove(self.number as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    fn calls(queue_max: usize) -> (Rc<Calls>, Receiver<u32>) {
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        let ring: Ring = Arc::new(move |number| _ = sender.lock().unwrap().send(number));
        (Calls::new(Workers::start(1, queue_max).unwrap().0, ring), receiver)
    }

    fn poll<T>(call: &mut Call<T>) -> Poll<Option<T>> {
        Pin::new(call).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_result_is_there_once_the_core_is_rung() {
        let (calls, rung) = calls(4);
        let mut call = calls.run(|| 6 * 7).unwrap();
        let number = rung.recv_timeout(Duration::from_secs(10)).unwrap();
        calls.rung(number);
        assert_eq!(poll(&mut call), Poll::Ready(Some(42)));
        let mut panics = calls.run(|| -> u32 { panic!("as the test wants it") }).unwrap();
        rung.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(poll(&mut panics), Poll::Ready(None), "and the worker goes on:");
        let mut after = calls.run(|| 1).unwrap();
        rung.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(poll(&mut after), Poll::Ready(Some(1)));
        drop((call, panics, after));
        assert!(calls.waiting.borrow().is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_errand_is_run_by_whoever_takes_it() {
        let (workers, mut errands) = Workers::start(1, 1).unwrap();
        let calls = Calls::new(workers, Arc::new(|_| {}));
        let mut call = calls.errand(|| async { 6 * 7 }).unwrap();
        assert_eq!(poll(&mut call), Poll::Pending);
        let errand = errands.recv().await.unwrap();
        errand().await;
        assert_eq!(poll(&mut call), Poll::Ready(Some(42)));
        let mut dropped = calls.errand(|| async { 1 }).unwrap();
        drop(errands.recv().await);
        assert_eq!(poll(&mut dropped), Poll::Ready(None), "nobody ran it");
    }

    #[test]
    fn work_that_does_not_fit_is_refused_at_once() {
        let (calls, rung) = calls(2);
        let (go, wait) = channel::<()>();
        let first = calls.run(move || _ = wait.recv_timeout(Duration::from_secs(10))).unwrap();
        let mut queued = Vec::new();
        let refused = loop {
            match calls.run(|| ()) {
                Ok(call) => queued.push(call),
                Err(busy) => break busy,
            }
            assert!(queued.len() <= 3, "two wait, and one may have been taken");
        };
        assert_eq!(refused, Busy);
        drop(first);
        go.send(()).unwrap();
        for _ in 0..=queued.len() {
            rung.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        assert!(calls.run(|| ()).is_ok());
    }
}
