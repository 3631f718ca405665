//! What loom tries: two cores that borrow, use and give back at one bucket, in every order.

use std::num::NonZeroU64;
use std::time::Duration;

use super::{Lease, Moment, Pace, Store, Terms};
use crate::mesh::sync::Arc;

const BURST: u64 = 4;

/// Time stands still: no more than the burst passes, and what was given back is there.
#[test]
fn two_cores_never_take_more_than_there_is() {
    loom::model(|| {
        let terms = Terms::Pace(Pace::new(1000, Duration::from_secs(1), BURST).unwrap());
        let store = Arc::new(Store::default());
        let now = Moment { ns: 5_000_000_000, unix_s: 0 };
        let one = NonZeroU64::MIN;
        let core = move |store: Arc<Store>| {
            let loan = terms.lend(&store, &now, one, 2, 1);
            let Ok(loan) = loan else { return 0 };
            let used = loan.extra.min(1);
            terms.settle(&store, &now, &loan, loan.extra - used);
            1 + used
        };
        let other = loom::thread::spawn({
            let store = store.clone();
            move || core(store)
        });
        let passed = core(store.clone()) + other.join().unwrap();
        let lease = Lease::default();
        let more = (0..2 * BURST).filter(|_| lease.take(&terms, &store, &now, one, 1).is_ok()).count() as u64;
        assert!(passed + more <= BURST, "{passed} and {more}");
        assert!(passed + more >= BURST - 2, "{passed} and {more}");
    });
}
