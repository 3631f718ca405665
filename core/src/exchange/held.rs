//! What an exchange holds until it is over, whatever ends it: a place among those under way.

use std::rc::Rc;

use smallvec::SmallVec;

/// Places that an exchange holds without an allocation.
const HELD_INLINE: usize = 2;

pub type HeldList = SmallVec<[Held; HELD_INLINE]>;

/// Who is told when an exchange is over.
pub trait Release {
    fn release(&self);
}

/// Something that was taken for this exchange.
pub struct Held(Rc<dyn Release>);

impl Held {
    pub fn new(whose: Rc<dyn Release>) -> Held {
        Held(whose)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.release();
    }
}
