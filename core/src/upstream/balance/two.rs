//! The power of two choices (Mitzenmacher 2001): the better of two random endpoints. Nearly as even as looking at all,
//! at a constant cost, and cores that know nothing of each other do not all run to the same endpoint.

use super::random::Random;

/// Of two random ones of `usable` the one that costs less; either if both cost the same.
///
/// # Panics
/// If nobody is usable.
pub fn of_two<C: Ord>(usable: &[u16], random: &Random, cost: impl Fn(u16) -> C) -> u16 {
    let count = usable.len();
    if count < 2 {
        return usable[0];
    }
    // Both places from one number: its halves are independent, and no list has 2^32 entries.
    let bits = random.bits();
    let below = |half: u64, bound: usize| ((half * bound as u64) >> 32) as usize;
    let first = below(bits >> 32, count);
    let other = below(bits & 0xffff_ffff, count - 1);
    let second = if other < first { other } else { other + 1 };
    let (first, second) = (usable[first], usable[second]);
    if cost(second) < cost(first) { second } else { first }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::super::chi_square;
    use super::super::least::Load;
    use super::*;

    #[test]
    fn every_pair_is_as_likely() {
        let usable = [3, 4, 5, 6, 7];
        let random = Random::new(1);
        let mut counts = [0; 25];
        for _ in 0..20_000 {
            let asked = RefCell::new(Vec::new());
            of_two(&usable, &random, |endpoint| asked.borrow_mut().push(usize::from(endpoint - 3)));
            let asked = asked.into_inner();
            counts[asked[0] * 5 + asked[1]] += 1;
        }
        let pair = |place: usize| u32::from(place / 5 != place % 5);
        chi_square::assert_weighted(&counts, &(0..25).map(pair).collect::<Vec<u32>>());
    }

    #[test]
    fn equals_get_equal_shares() {
        for count in [1_u16, 2, 3, 10, 100] {
            let usable: Vec<u16> = (0..count).collect();
            let random = Random::new(u64::from(count));
            let mut counts = vec![0; usable.len()];
            for _ in 0..20_000 {
                counts[usize::from(of_two(&usable, &random, |_| 0))] += 1;
            }
            chi_square::assert_even(&counts);
        }
    }

    #[test]
    fn load_follows_weight_where_answers_take_their_time() {
        // 400 requests under way at any time, the oldest answered first.
        let weights = [1, 2, 3, 4];
        let usable = [0, 1, 2, 3];
        let random = Random::new(5);
        let mut active = [0_u64; 4];
        let mut open = std::collections::VecDeque::new();
        for _ in 0..10_000 {
            let load = |endpoint: u16| Load::new(active[usize::from(endpoint)] + 1, weights[usize::from(endpoint)]);
            let chosen = of_two(&usable, &random, load);
            active[usize::from(chosen)] += 1;
            open.push_back(chosen);
            if open.len() > 400 {
                active[usize::from(open.pop_front().unwrap())] -= 1;
            }
        }
        for (active, weight) in active.iter().zip(weights) {
            assert!(active.abs_diff(u64::from(weight) * 40) <= 12, "{active} for a weight of {weight}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_picks_the_busier_one(costs in proptest::collection::vec(0..5_u8, 1..50), seed: u64) {
            let usable: Vec<u16> = (0..costs.len() as u16).collect();
            let asked = RefCell::new(Vec::new());
            let chosen = of_two(&usable, &Random::new(seed), |endpoint| {
                asked.borrow_mut().push(endpoint);
                costs[usize::from(endpoint)]
            });
            for other in asked.into_inner() {
                prop_assert!(costs[usize::from(chosen)] <= costs[usize::from(other)]);
            }
        }
    }
}
