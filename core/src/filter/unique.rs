//! `uniqueItems` of a JSON schema in a time that no body can make long: the library's own way compares by a hash that does
//! not tell lists of lists apart, so that a quarter of a megabyte of them holds a core for a second.
//!
//! Items are put in order and neighbours compared. Two are compared up to where they differ, and each about as often as
//! the number of items has binary digits.

use std::cmp::Ordering;

use jsonschema::{Keyword, ValidationError};
use serde_json::{Number, Value};

/// Whole numbers beyond are compared as they are kept: nothing is rounded below.
const WHOLE_MAX: f64 = 1e38;

/// Whether the schema says `true`.
pub(super) struct UniqueItems(pub(super) bool);

impl<'i> Keyword<'i> for UniqueItems {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        match self.is_valid(value) {
            true => Ok(()),
            false => Err(ValidationError::custom("two items are equal")),
        }
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        match value {
            Value::Array(items) if self.0 => are_unique(items, order),
            _ => true,
        }
    }
}

fn are_unique(items: &[Value], mut order: impl FnMut(&Value, &Value) -> Ordering) -> bool {
    let mut sorted: Vec<&Value> = items.iter().collect();
    sorted.sort_unstable_by(|one, other| order(one, other));
    sorted.windows(2).all(|pair| order(pair[0], pair[1]).is_ne())
}

/// Some order in which values are equal that JSON Schema takes for equal: numbers by what they are worth, objects
/// whatever the order of their members, which lie sorted.
fn order(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::Number(one), Value::Number(other)) => order_numbers(one, other),
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Array(one), Value::Array(other)) => {
            let items = || std::iter::zip(one, other).map(|(one, other)| order(one, other));
            one.len().cmp(&other.len()).then_with(|| first_difference(items()))
        }
        (Value::Object(one), Value::Object(other)) => {
            let members = || {
                std::iter::zip(one, other)
                    .map(|((name, value), (other_name, other))| name.cmp(other_name).then_with(|| order(value, other)))
            };
            one.len().cmp(&other.len()).then_with(|| first_difference(members()))
        }
        _ => kind(one).cmp(&kind(other)),
    }
}

fn first_difference(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// Whole ones exactly, whether they are written with a fraction or not.
fn order_numbers(one: &Number, other: &Number) -> Ordering {
    let whole = |number: &Number| {
        let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        let real = number.as_f64().filter(|real| real.fract() == 0.0 && real.abs() < WHOLE_MAX);
        integer.or_else(|| real.map(|real| real as i128))
    };
    let real = |number: &Number| number.as_f64().unwrap_or_default();
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        (None, None) => real(one).total_cmp(&real(other)),
        (one, other) => one.is_some().cmp(&other.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn built_in(items: &Value) -> bool {
        jsonschema::is_valid(&json!({"uniqueItems": true}), items)
    }

    fn value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![Just(json!(0)), Just(json!(-0.0)), Just(json!(1)), Just(json!(1.0)), Just(json!(1.5))];
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, "[ab]?".prop_map(Value::from)];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from);
            let object = proptest::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect()));
            prop_oneof![list, object]
        })
    }

    proptest! {
        #[test]
        fn the_library_agrees(items in proptest::collection::vec(value(), 0..24)) {
            let unique = are_unique(&items, order);
            prop_assert_eq!(unique, built_in(&Value::Array(items)));
        }
    }

    #[test]
    fn numbers_are_equal_by_what_they_are_worth() {
        let unique = |items: Value| UniqueItems(true).is_valid(&items);
        for same in [json!([1, 1.0]), json!([0, -0.0]), json!([1e20, 100000000000000000000.0]), json!([[1], [1.0]])] {
            assert!(!unique(same.clone()), "{same}");
        }
        for different in [json!([u64::MAX, u64::MAX - 1]), json!([1, true, "1", [1], null]), json!([1e300, 1e301])] {
            assert!(unique(different.clone()), "{different}");
        }
        assert!(UniqueItems(false).is_valid(&json!([1, 1])));
    }

    /// All lists of lists with so many brackets.
    fn trees(pairs: usize) -> Vec<Vec<Value>> {
        let mut forests: Vec<Vec<Vec<Value>>> = vec![vec![Vec::new()]];
        for pairs in 1..=pairs {
            let with_first = |inside: usize| {
                let (inner, rest) = (&forests[inside], &forests[pairs - 1 - inside]);
                let joined = inner.iter().flat_map(move |inner| {
                    rest.iter().map(move |rest| [&[Value::Array(inner.clone())][..], rest].concat())
                });
                joined.collect::<Vec<_>>()
            };
            let next = (0..pairs).flat_map(with_first).collect();
            forests.push(next);
        }
        forests.pop().unwrap_or_default()
    }

    #[test]
    fn lists_of_lists_take_no_longer_than_others() {
        let items: Vec<Value> = trees(10).into_iter().map(Value::Array).collect();
        assert_eq!(items.len(), 16_796);
        let mut compared = 0_u64;
        let unique = are_unique(&items, |one, other| {
            compared += 1;
            order(one, other)
        });
        let most = items.len() as u64 * 2 * u64::from(items.len().ilog2());
        assert!(unique && compared < most, "{compared} comparisons, at most {most}");
    }
}
