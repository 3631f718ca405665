//! What filters keep on one core: memory for regular expressions, random numbers. Made anew with each plan.

use std::cell::{OnceCell, RefCell};

use regex_automata::meta::{Cache, Regex};

/// What is numbered while a plan is built.
#[derive(Debug, Default)]
pub struct Numbers {
    regexes: usize,
}

/// One core's state for the filters of one plan.
#[derive(Default)]
pub struct FilterState {
    /// By number; made on first use.
    regexes: Box<[OnceCell<RefCell<Cache>>]>,
}

impl Numbers {
    pub(super) fn regex(&mut self) -> usize {
        self.regexes += 1;
        self.regexes - 1
    }
}

impl FilterState {
    pub fn new(numbers: &Numbers) -> FilterState {
        FilterState { regexes: (0..numbers.regexes).map(|_| OnceCell::new()).collect() }
    }

    /// The memory that the regular expression of this number searches with: its own on each core, so that no search
    /// waits for another core's.
    pub(super) fn regex_cache(&self, number: usize, regex: &Regex) -> &RefCell<Cache> {
        self.regexes[number].get_or_init(|| RefCell::new(regex.create_cache()))
    }
}
