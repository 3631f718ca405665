//! Which endpoints were asked already while one key looks for a taker.

use smallvec::SmallVec;

/// Endpoints of a cluster up to which the search needs no heap.
const ENDPOINTS_INLINE: usize = 1024;

/// One bit for each endpoint.
pub(super) struct Asked(SmallVec<[u64; ENDPOINTS_INLINE / 64]>);

impl Asked {
    pub(super) fn new(endpoints: usize) -> Asked {
        Asked(SmallVec::from_elem(0, endpoints.div_ceil(64)))
    }

    /// True the first time that it is told of `endpoint`.
    pub(super) fn first_time(&mut self, endpoint: u16) -> bool {
        let bit = 1 << (endpoint % 64);
        let word = &mut self.0[usize::from(endpoint / 64)];
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_is_new_once() {
        for endpoints in [1, 64, 65, 1024, 1025, 65_535] {
            let mut asked = Asked::new(endpoints);
            assert_eq!(asked.0.spilled(), endpoints > ENDPOINTS_INLINE);
            for _ in 0..2 {
                for endpoint in (0..endpoints as u16).step_by(63) {
                    asked.first_time(endpoint);
                }
            }
            assert!(!asked.first_time(0));
            assert_eq!(asked.first_time((endpoints - 1) as u16), !(endpoints - 1).is_multiple_of(63));
        }
    }
}
