//! How often a schema looks at one and the same value, at the worst. Alternatives that all refer back to the schema double
//! that with each level of a body, so that a hundred bytes could hold a core for minutes: such a schema is not taken.
//!
//! An upper bound, found without a body: every alternative is counted, of `then` and `else` the dearer one.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

/// Times that any value may be looked at.
pub(super) const LOOKS_MAX: u64 = 32;
/// Schemas within a schema that are followed; one with more counts as too dear.
const STEPS_MAX: usize = 1_000_000;

/// Schemas that look at one part of a value for one look at the whole, each as often as it stands there.
struct Looks<S> {
    all: Vec<S>,
    /// Of `then` and `else` one.
    either: Vec<[Looks<S>; 2]>,
}

/// Which part of a value a schema below looks at.
#[derive(Clone, Copy)]
enum Part<'s> {
    /// `None`: one that no schema names.
    Member(Option<&'s str>),
    /// `None`: one beyond those that schemas list.
    Element(Option<usize>),
}

struct Costs<'s> {
    root: &'s Value,
    /// Targets of `#name`.
    anchors: HashMap<&'s str, &'s Value>,
    steps: usize,
}

/// Schemas that look at values below those that others look at: by schema and part, which ones, and how often.
#[derive(Default)]
struct Graph<'s> {
    schemas: Vec<&'s Value>,
    numbers: HashMap<*const Value, usize>,
    below: Vec<Vec<Looks<usize>>>,
}

/// The first level (0 is the whole body) at which a value may be looked at too often, if there is one among the first
/// `depth_max`: more than [`LOOKS_MAX`] times, and more often than the schema has parts, which takes no alternatives.
pub(super) fn too_dear_from(schema: &Value, depth_max: usize) -> Option<usize> {
    let mut costs = Costs { root: schema, anchors: HashMap::new(), steps: 0 };
    costs.find_anchors(schema);
    let mut graph = Graph::default();
    graph.number(schema);
    while let Some(next) = graph.schemas.get(graph.below.len()) {
        let parts = costs.below(next);
        let numbered = parts.into_iter().map(|looks| looks.map(&mut |schema| graph.number(schema))).collect();
        graph.below.push(numbered);
        if costs.steps > STEPS_MAX {
            return Some(1);
        }
    }
    let most = LOOKS_MAX.max(size(schema));
    // How often a value some levels below is looked at, at the worst, for one look of each schema.
    let mut worst = vec![1_u64; graph.schemas.len()];
    for level in 1..=depth_max {
        let of_parts = |parts: &Vec<Looks<usize>>| parts.iter().map(|part| part.count(&worst)).max().unwrap_or(0);
        worst = graph.below.iter().map(of_parts).collect();
        match worst[0] {
            0 => return None,
            looks if looks > most => return Some(level),
            _ => {}
        }
    }
    None
}

fn size(schema: &Value) -> u64 {
    match schema {
        Value::Object(members) => 1 + members.values().map(size).sum::<u64>(),
        Value::Array(list) => 1 + list.iter().map(size).sum::<u64>(),
        _ => 1,
    }
}

impl<S> Looks<S> {
    fn none() -> Looks<S> {
        Looks { all: Vec::new(), either: Vec::new() }
    }

    fn add(&mut self, other: Looks<S>) {
        self.all.extend(other.all);
        self.either.extend(other.either);
    }

    fn map<T>(self, number: &mut dyn FnMut(S) -> T) -> Looks<T> {
        Looks {
            all: self.all.into_iter().map(&mut *number).collect(),
            either: self.either.into_iter().map(|both| both.map(|one| one.map(number))).collect(),
        }
    }
}

impl Looks<usize> {
    /// With so many looks below each schema.
    fn count(&self, below: &[u64]) -> u64 {
        let all = self.all.iter().fold(0_u64, |all, of| all.saturating_add(below[*of]));
        self.either.iter().fold(all, |all, [one, other]| all.saturating_add(one.count(below).max(other.count(below))))
    }
}

impl<'s> Graph<'s> {
    fn number(&mut self, schema: &'s Value) -> usize {
        let next = self.schemas.len();
        let number = *self.numbers.entry(std::ptr::from_ref(schema)).or_insert(next);
        if number == next {
            self.schemas.push(schema);
        }
        number
    }
}

impl<'s> Costs<'s> {
    fn find_anchors(&mut self, value: &'s Value) {
        match value {
            Value::Object(members) => {
                for key in ["$anchor", "$dynamicAnchor"] {
                    if let Some(name) = members.get(key).and_then(Value::as_str) {
                        self.anchors.insert(name, value);
                    }
                }
                members.values().for_each(|value| self.find_anchors(value));
            }
            Value::Array(list) => list.iter().for_each(|value| self.find_anchors(value)),
            _ => {}
        }
    }

    /// By part of a value, how often each schema looks at it for one look at the value.
    fn below(&mut self, schema: &'s Value) -> Vec<Looks<&'s Value>> {
        let (mut names, mut elements) = (BTreeSet::new(), 0);
        self.parts(schema, &mut names, &mut elements, &mut Vec::new());
        let members = names.into_iter().map(Some).chain([None]).map(Part::Member);
        let listed = (0..elements).map(Some).chain([None]).map(Part::Element);
        members.chain(listed).map(|part| self.at(schema, part, &mut Vec::new())).collect()
    }

    /// The parts that a schema names, itself or by those that look at the same value.
    fn parts(
        &mut self,
        schema: &'s Value,
        names: &mut BTreeSet<&'s str>,
        elements: &mut usize,
        open: &mut Vec<*const Value>,
    ) {
        let Some(members) = self.enter(schema, open) else { return };
        names.extend(object(members, "properties").map(|(name, _)| name.as_str()));
        for key in ["prefixItems", "items"] {
            *elements = (*elements).max(members.get(key).and_then(Value::as_array).map_or(0, Vec::len));
        }
        let beside = self.beside(members).chain(["if", "then", "else"].iter().filter_map(|key| members.get(*key)));
        beside.collect::<Vec<_>>().into_iter().for_each(|other| self.parts(other, names, elements, open));
        open.pop();
    }

    /// Which schemas look at this part.
    fn at(&mut self, schema: &'s Value, part: Part<'s>, open: &mut Vec<*const Value>) -> Looks<&'s Value> {
        let mut looks = Looks::none();
        let Some(members) = self.enter(schema, open) else { return looks };
        own(members, part, &mut |target| looks.all.push(target));
        for other in self.beside(members).chain(members.get("if")).collect::<Vec<_>>() {
            looks.add(self.at(other, part, open));
        }
        let both = ["then", "else"].map(|key| members.get(key).map_or_else(Looks::none, |of| self.at(of, part, open)));
        if both.iter().any(|one| !one.all.is_empty() || !one.either.is_empty()) {
            looks.either.push(both);
        }
        open.pop();
        looks
    }

    /// The members of a schema, unless it is looked into already: what refers to itself in place ends there.
    fn enter(&mut self, schema: &'s Value, open: &mut Vec<*const Value>) -> Option<&'s Map<String, Value>> {
        self.steps += 1;
        let members = schema.as_object().filter(|_| self.steps <= STEPS_MAX)?;
        if open.contains(&std::ptr::from_ref(schema)) {
            return None;
        }
        open.push(std::ptr::from_ref(schema));
        Some(members)
    }

    /// Schemas that look at the same value, whatever it is.
    fn beside(&self, members: &'s Map<String, Value>) -> impl Iterator<Item = &'s Value> + use<'s> {
        let lists = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|key| members.get(key)?.as_array()).flatten();
        let depending = ["dependentSchemas", "dependencies"].into_iter().flat_map(|key| object(members, key));
        let references = ["$ref", "$dynamicRef", "$recursiveRef"].map(|key| self.target(members.get(key)?.as_str()?));
        let references = references.into_iter().flatten();
        lists.chain(depending.map(|(_, schema)| schema)).chain(members.get("not")).chain(references)
    }

    /// What a reference means; of those that we cannot follow the whole schema, the dearest.
    fn target(&self, reference: &str) -> Option<&'s Value> {
        let Some(inside) = reference.strip_prefix('#') else { return Some(self.root) };
        if inside.is_empty() || inside.starts_with('/') {
            let plain = ringway_proto::credentials::decoded(inside.as_bytes());
            return self.root.pointer(str::from_utf8(&plain).ok()?);
        }
        self.anchors.get(inside).copied()
    }
}

fn object<'s>(members: &'s Map<String, Value>, key: &str) -> impl Iterator<Item = (&'s String, &'s Value)> + use<'s> {
    members.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// Schemas of this object alone that look at this part.
fn own<'s>(members: &'s Map<String, Value>, part: Part<'s>, add: &mut dyn FnMut(&'s Value)) {
    let mut rest = |keys: &[&str]| keys.iter().filter_map(|key| members.get(*key)).for_each(&mut *add);
    match part {
        Part::Member(name) => {
            let known = name.and_then(|name| members.get("properties")?.get(name));
            match known {
                None => rest(&["additionalProperties", "unevaluatedProperties"]),
                Some(known) => add(known),
            }
            object(members, "patternProperties").for_each(|(_, schema)| add(schema));
        }
        Part::Element(index) => {
            let listed = ["prefixItems", "items"].iter().find_map(|key| members.get(*key)?.as_array());
            match (index.and_then(|index| listed?.get(index)), listed) {
                (Some(known), _) => add(known),
                (None, Some(_)) => rest(&["additionalItems", "items", "unevaluatedItems"]),
                (None, None) => rest(&["items", "unevaluatedItems"]),
            }
            members.get("contains").into_iter().for_each(&mut *add);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str, depth_max: usize) -> Option<usize> {
        too_dear_from(&serde_json::from_str(text).expect(text), depth_max)
    }

    #[test]
    fn alternatives_that_refer_back_are_too_dear_for_deep_bodies() {
        let twice = r##"{"anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["x"]},
            {"properties": {"a": {"$ref": "#"}}, "required": ["y"]}]}"##;
        assert_eq!((from(twice, 5), from(twice, 32)), (None, Some(6)));
        for (text, level) in [
            // By another name, an anchor, in lists, by patterns, by what is not named.
            (
                r##"{"$ref": "#/$defs/n", "$defs": {"n": {"allOf": [{"items": {"$ref": "#/$defs/n"}},
                {"items": {"$ref": "#/$defs/n"}}]}}}"##,
                6,
            ),
            (
                r##"{"$anchor": "n", "oneOf": [{"prefixItems": [{"$ref": "#n"}]}, {"items": [{"$ref": "#n"}]},
                {"not": {"contains": {"$ref": "#n"}}}]}"##,
                4,
            ),
            (
                r##"{"anyOf": [{"patternProperties": {"^a": {"$ref": "#"}}}, {"additionalProperties": {"$ref": "#"}}]}"##,
                6,
            ),
            (r##"{"properties": {"a": {"$ref": "#"}}, "patternProperties": {".": {"$ref": "#"}}}"##, 6),
            // Of two kinds in turn.
            (
                r##"{"properties": {"b": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"anyOf": [
                {"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}}}"##,
                12,
            ),
        ] {
            assert_eq!(from(text, 32), Some(level), "{text}");
        }
    }

    #[test]
    fn what_looks_at_each_value_some_times_is_taken() {
        for text in [
            "true",
            "{}",
            r##"{"$ref": "#"}"##,
            r##"{"anyOf": [{"type": "null"}, {"$ref": "#"}]}"##,
            r##"{"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}, "additionalProperties": {"$ref": "#"}}"##,
            r##"{"items": {"$ref": "#"}, "anyOf": [{"type": "array"}, {"type": "object"}]}"##,
            // Told apart first.
            r##"{"if": {"properties": {"op": {"const": "and"}}}, "then": {"properties": {"args": {"items": {"$ref": "#"}}}},
                "else": {"if": {"required": ["not"]}, "then": {"properties": {"args": {"items": {"$ref": "#"}}}}}}"##,
            r##"{"prefixItems": [{"$ref": "#"}, {"$ref": "#"}], "items": {"$ref": "#"}}"##,
        ] {
            assert_eq!(from(text, 127), None, "{text}");
        }
        let wide = |by: &str| -> String {
            let all = (0..300).map(|at| {
                format!("{{\"properties\": {{\"a{by}\": {{\"const\": {at}}}}}}}").replace("N", &at.to_string())
            });
            all.collect::<Vec<_>>().join(",")
        };
        // Dear, but no dearer for a deep body than for a flat one.
        assert_eq!(from(&format!("{{\"anyOf\": [{}]}}", wide("")), 127), None);
        assert_eq!(from(&format!("{{\"allOf\": [{}], \"items\": {{\"$ref\": \"#\"}}}}", wide("N")), 127), None);
    }
}
