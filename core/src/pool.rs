//! Memory that serving uses again and again, so that a request in steady state allocates nothing.

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Blocks kept for futures; more are freed, so that connections that come to rest after a burst hold no memory. A busy
/// connection has its block for as long as it is busy, so few change hands.
const BLOCKS_KEPT_MAX: usize = 32;

/// Boxes of one type.
pub struct Recycled<T> {
    kept: RefCell<Vec<Box<T>>>,
    max: usize,
}

impl<T> Recycled<T> {
    pub fn new(max: usize) -> Recycled<T> {
        Recycled { kept: RefCell::default(), max }
    }

    pub fn take(&self) -> Option<Box<T>> {
        self.kept.borrow_mut().pop()
    }

    pub fn keep(&self, one: Box<T>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < self.max {
            kept.push(one);
        }
    }
}

/// Memory for futures of one kind: a connection's task stays small while it is idle, because what it needs to serve
/// lives in a block of this pool while it serves.
#[derive(Default)]
pub struct FuturePool {
    blocks: Rc<Blocks>,
}

#[derive(Default)]
struct Blocks {
    layout: Cell<Option<Layout>>,
    free: RefCell<Vec<NonNull<u8>>>,
}

/// A future in a block of the pool.
pub struct Pooled<F> {
    place: NonNull<F>,
    blocks: Rc<Blocks>,
}

impl FuturePool {
    /// Moves `future` into a block. All futures of one pool have one layout; another one gets memory of its own.
    pub fn place<F: Future>(&self, future: F) -> Pooled<F> {
        let layout = Layout::new::<F>();
        let place = self.blocks.take(layout).cast::<F>();
        // SAFETY: the block has the layout of `F` and belongs to nobody else until `Pooled` is dropped.
        unsafe { place.write(future) };
        Pooled { place, blocks: self.blocks.clone() }
    }

    /// Size of a block in bytes; 0 before the first use.
    pub fn block_bytes(&self) -> usize {
        self.blocks.layout.get().map_or(0, |layout| layout.size())
    }
}

impl Blocks {
    fn take(&self, layout: Layout) -> NonNull<u8> {
        debug_assert!(layout.size() > 0, "a future that serves has state");
        if self.layout.get().is_none() {
            self.layout.set(Some(layout));
        }
        let kept = if self.layout.get() == Some(layout) { self.free.borrow_mut().pop() } else { None };
        kept.unwrap_or_else(|| {
            // SAFETY: the layout has a size, as a future with state has.
            let block = unsafe { std::alloc::alloc(layout) };
            NonNull::new(block).unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
        })
    }

    fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        let mut free = self.free.borrow_mut();
        if self.layout.get() == Some(layout) && free.len() < BLOCKS_KEPT_MAX {
            free.push(block);
        } else {
            // SAFETY: the block was allocated by `take` with this layout, and nobody uses it any more.
            unsafe { std::alloc::dealloc(block.as_ptr(), layout) };
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        if let Some(layout) = self.layout.get() {
            for block in self.free.get_mut().drain(..) {
                // SAFETY: free blocks were allocated by `take` with the pool's layout.
                unsafe { std::alloc::dealloc(block.as_ptr(), layout) };
            }
        }
    }
}

impl<F: Future> Future for Pooled<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the future lives in its block until this is dropped, and is never moved out of it.
        unsafe { Pin::new_unchecked(self.get_mut().place.as_mut()) }.poll(cx)
    }
}

impl<F> Drop for Pooled<F> {
    fn drop(&mut self) {
        struct GiveBack<'a>(&'a Blocks, NonNull<u8>, Layout);
        impl Drop for GiveBack<'_> {
            fn drop(&mut self) {
                self.0.give_back(self.1, self.2);
            }
        }
        // Given back also if the future's own drop panics.
        let _block = GiveBack(&self.blocks, self.place.cast(), Layout::new::<F>());
        // SAFETY: `place` wrote the future, it is dropped once, here, and the block is given back after.
        unsafe { self.place.drop_in_place() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sum(numbers: Vec<u64>) -> u64 {
        std::future::ready(()).await;
        numbers.iter().sum()
    }

    fn run<F: Future>(future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let mut context = Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("not ready"),
        }
    }

    #[test]
    fn a_block_is_used_again() {
        let pool = FuturePool::default();
        let first = pool.place(sum(vec![1, 2]));
        let place = first.place.cast::<u8>();
        assert_eq!(run(first), 3);
        let second = pool.place(sum(vec![3, 4]));
        assert_eq!(second.place.cast::<u8>(), place);
        assert_eq!(run(second), 7);
        assert!(pool.block_bytes() >= size_of::<Vec<u64>>());
    }

    #[test]
    fn a_dropped_future_drops_what_it_holds_and_more_than_are_kept_are_freed() {
        let pool = FuturePool::default();
        let shared = Rc::new(());
        let held: Vec<_> = (0..BLOCKS_KEPT_MAX + 10)
            .map(|_| {
                let shared = shared.clone();
                pool.place(async move {
                    let _held = shared;
                    std::future::pending::<()>().await;
                })
            })
            .collect();
        assert_eq!(Rc::strong_count(&shared), BLOCKS_KEPT_MAX + 11);
        drop(held);
        assert_eq!(Rc::strong_count(&shared), 1);
        assert_eq!(pool.blocks.free.borrow().len(), BLOCKS_KEPT_MAX);
    }

    #[test]
    fn a_future_of_another_size_has_its_own_memory() {
        let pool = FuturePool::default();
        assert_eq!(run(pool.place(sum(vec![1]))), 1);
        assert_eq!(run(pool.place(async { [0_u8; 4096].len() + std::future::ready(1).await })), 4097);
    }
}
