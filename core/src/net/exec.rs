//! The tasks of one core: spawn, wake, poll, and a guard so that a panic ends one task. Does no I/O (`reactor`).
//!
//! A waker is a plain number (slot and generation), so that cloning one costs nothing and nothing is counted. It
//! finds its executor through a thread local: a wake from another thread does not arrive (what crosses threads
//! goes through `mesh`, whose eventfd wakes the core), and can never touch another core's memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Polls in a row before I/O is looked at again, so that a task that wakes itself cannot starve the ring.
const POLLS_PER_TURN_MAX: usize = 1024;

thread_local! {
    static TASKS: Tasks = const { Tasks::new() };
}

struct Tasks {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    ready: RefCell<VecDeque<Id>>,
    alive: Cell<usize>,
    panics: Cell<u64>,
}

struct Slot {
    generation: u32,
    queued: bool,
    task: Option<Task>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Id {
    slot: u32,
    generation: u32,
}

/// Starts `task` on this core; it is polled for the first time in this turn.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    let task: Task = Box::pin(task);
    TASKS.with(|tasks| {
        let mut slots = tasks.slots.borrow_mut();
        let slot = tasks.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot { generation: 0, queued: false, task: None });
            (slots.len() - 1) as u32
        });
        let entry = &mut slots[slot as usize];
        entry.task = Some(task);
        entry.queued = true;
        tasks.alive.set(tasks.alive.get() + 1);
        let id = Id { slot, generation: entry.generation };
        let mut ready = tasks.ready.borrow_mut();
        ready.reserve(slots.len()); // so that a wake never allocates
        ready.push_back(id);
    });
}

/// Wakes every task of this core: each looks again at what it waits for.
pub fn wake_all() {
    TASKS.with(|tasks| {
        let mut slots = tasks.slots.borrow_mut();
        let mut ready = tasks.ready.borrow_mut();
        for (slot, entry) in slots.iter_mut().enumerate() {
            if entry.task.is_some() && !entry.queued {
                entry.queued = true;
                ready.push_back(Id { slot: slot as u32, generation: entry.generation });
            }
        }
    });
}

/// Tasks that have not ended.
pub fn alive() -> usize {
    TASKS.with(|tasks| tasks.alive.get())
}

/// Tasks of this core that a panic has ended.
pub fn panics() -> u64 {
    TASKS.with(|tasks| tasks.panics.get())
}

/// True when a task waits to be polled, so the loop must not sleep.
pub(super) fn has_ready() -> bool {
    TASKS.with(|tasks| !tasks.ready.borrow().is_empty())
}

/// Polls what is ready now, at most [`POLLS_PER_TURN_MAX`] times.
pub(super) fn run_ready() {
    for _ in 0..POLLS_PER_TURN_MAX {
        let Some(id) = TASKS.with(|tasks| tasks.ready.borrow_mut().pop_front()) else { return };
        poll_one(id);
    }
}

fn poll_one(id: Id) {
    let Some(mut task) = TASKS.with(|tasks| {
        let mut slots = tasks.slots.borrow_mut();
        let slot = &mut slots[id.slot as usize];
        if slot.generation != id.generation {
            return None;
        }
        slot.queued = false;
        slot.task.take()
    }) else {
        return;
    };
    let waker = waker(id);
    let mut context = Context::from_waker(&waker);
    match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut context))) {
        Ok(Poll::Pending) => TASKS.with(|tasks| tasks.slots.borrow_mut()[id.slot as usize].task = Some(task)),
        Ok(Poll::Ready(())) => finish(id, task),
        Err(_) => {
            TASKS.with(|tasks| tasks.panics.set(tasks.panics.get() + 1));
            finish(id, task);
        }
    }
}

/// Drops the task before its slot is freed: guards in it may still wake others or spawn.
fn finish(id: Id, task: Task) {
    if catch_unwind(AssertUnwindSafe(|| drop(task))).is_err() {
        TASKS.with(|tasks| tasks.panics.set(tasks.panics.get() + 1));
    }
    TASKS.with(|tasks| {
        let mut slots = tasks.slots.borrow_mut();
        let slot = &mut slots[id.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.queued = false;
        tasks.free.borrow_mut().push(id.slot);
        tasks.alive.set(tasks.alive.get() - 1);
    });
}

fn wake(id: Id) {
    // A waker may outlive its thread's locals only while the thread ends: then nobody is left to wake.
    let _ = TASKS.try_with(|tasks| {
        let mut slots = tasks.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id.slot as usize) else { return };
        if slot.generation == id.generation && !slot.queued {
            slot.queued = true;
            tasks.ready.borrow_mut().push_back(id);
        }
    });
}

impl Tasks {
    const fn new() -> Self {
        Tasks {
            slots: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            ready: RefCell::new(VecDeque::new()),
            alive: Cell::new(0),
            panics: Cell::new(0),
        }
    }
}

const VTABLE: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &VTABLE),
    |data| wake(Id::unpack(data)),
    |data| wake(Id::unpack(data)),
    |_| {},
);

fn waker(id: Id) -> Waker {
    // SAFETY: the data is a number, never dereferenced; every function of the table accepts any number, from any
    // thread, and looks it up in its own thread's table.
    unsafe { Waker::from_raw(RawWaker::new(id.pack(), &VTABLE)) }
}

impl Id {
    fn pack(self) -> *const () {
        std::ptr::without_provenance((u64::from(self.generation) << 32 | u64::from(self.slot)) as usize)
    }

    fn unpack(data: *const ()) -> Id {
        let bits = data.addr() as u64;
        Id { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_task_runs_until_it_waits_and_again_when_woken() {
        let (turns, saved) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
        let (seen, slot) = (turns.clone(), saved.clone());
        spawn(std::future::poll_fn(move |cx| {
            seen.set(seen.get() + 1);
            *slot.borrow_mut() = Some(cx.waker().clone());
            if seen.get() == 2 { Poll::Ready(()) } else { Poll::Pending }
        }));
        run_ready();
        run_ready();
        assert_eq!((turns.get(), alive()), (1, 1));
        let waker: Waker = saved.borrow_mut().take().unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        run_ready();
        assert_eq!((turns.get(), alive()), (2, 0));
        waker.wake(); // of a task that has ended: nothing
        assert!(!has_ready());
    }

    #[test]
    fn a_panic_ends_its_task_and_runs_its_guards() {
        struct Guard(Rc<Cell<bool>>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let (dropped, before) = (Rc::new(Cell::new(false)), panics());
        let guard = Guard(dropped.clone());
        spawn(async move {
            let _guard = guard;
            panic!("planted");
        });
        spawn(async {});
        run_ready();
        assert!(dropped.get());
        assert_eq!((panics(), alive()), (before + 1, 0));
    }

    #[test]
    fn a_self_waking_task_does_not_keep_the_loop() {
        spawn(std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        run_ready();
        assert!(has_ready());
    }
}
