//! Smooth weighted round robin, laid out ahead as one period, so that a choice is one look into a table.
//!
//! Each core starts at another place of the period: with one request on each of them the node has gone round, too,
//! which it has not if all cores start with the first endpoint.

use std::cell::Cell;

/// Entries of one period. Weights whose sum is larger are scaled down, each staying at least 1.
const PERIOD_MAX: u64 = 16 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Balancer {
    weights: Vec<u32>,
    period: Vec<u16>,
    at: Cell<usize>,
}

impl Balancer {
    pub(super) fn new(weights: Vec<u32>, core: usize, cores: usize) -> Balancer {
        let period = period(&weights);
        let at = Cell::new(period.len() * core / cores.max(1));
        Balancer { weights, period, at }
    }

    pub(super) fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// Index of the endpoint whose turn it is.
    pub(super) fn next(&self) -> usize {
        let at = self.at.get();
        self.at.set(if at + 1 >= self.period.len() { 0 } else { at + 1 });
        usize::from(self.period[at])
    }
}

/// The order that nginx's smooth weighted round robin gives: each turn every weight is added to its endpoint's score,
/// the highest score wins and pays the sum.
fn period(weights: &[u32]) -> Vec<u16> {
    let scaled = scale(weights);
    let sum: i64 = scaled.iter().sum();
    let mut scores = vec![0_i64; scaled.len()];
    (0..sum)
        .map(|_| {
            for (score, weight) in scores.iter_mut().zip(&scaled) {
                *score += weight;
            }
            let best = (0..scores.len()).rev().max_by_key(|&index| scores[index]).unwrap_or(0);
            scores[best] -= sum;
            best as u16
        })
        .collect()
}

fn scale(weights: &[u32]) -> Vec<i64> {
    let divisor = weights.iter().fold(0, |a, &b| greatest_common_divisor(a, b)).max(1);
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight / divisor)).sum();
    weights
        .iter()
        .map(|&weight| {
            let weight = u64::from(weight / divisor);
            let scaled = if sum > PERIOD_MAX { (weight * PERIOD_MAX / sum).max(1) } else { weight };
            scaled as i64
        })
        .collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32], core: usize, cores: usize, count: usize) -> Vec<usize> {
        let balancer = Balancer::new(weights.to_vec(), core, cores);
        (0..count).map(|_| balancer.next()).collect()
    }

    #[test]
    fn weights_are_spread_smoothly() {
        assert_eq!(turns(&[5, 1, 1], 0, 1, 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[1, 1, 1], 0, 1, 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(&[10, 20], 0, 1, 3), [1, 0, 1]);
    }

    #[test]
    fn cores_together_are_round_robin_too() {
        for cores in [1, 2, 4, 7] {
            let endpoints = 4;
            let mut counts = vec![0; endpoints];
            for core in 0..cores {
                for turn in turns(&vec![1; endpoints], core, cores, 1) {
                    counts[turn] += 1;
                }
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 1, "{cores} cores: {counts:?}");
        }
    }

    #[test]
    fn odd_weights_have_a_bounded_period() {
        let weights: Vec<u32> = (0..500).map(|index| 997 - index).collect();
        assert!(period(&weights).len() as u64 <= PERIOD_MAX + 500);
        assert_eq!(period(&[1000; 800]).len(), 800);
    }
}
