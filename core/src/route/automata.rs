//! Regular expressions, compiled: whether one matches a whole value, and what its named groups took of a path. The
//! automata write to no memory of their own while they run, so that cores can share them; each reads a byte once.

use super::path::raw_offset;
use regex_automata::dfa::{Automaton as _, StartKind, dense, onepass};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures, pikevm, pikevm::PikeVM};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Anchored, Input, PatternID};
use ringway_config::snapshot::Expression;
use std::collections::HashMap;
use std::sync::Arc;

/// Of one expression: some 4000 states of an ordinary one. What grows beyond is mostly a counted repetition of
/// something that overlaps itself.
pub const AUTOMATON_BYTES_MAX: usize = 1024 * 1024;
/// Of all expressions of a table, each different one once.
pub const AUTOMATA_BYTES_MAX: usize = 256 * 1024 * 1024;
/// While one is built.
const BUILD_BYTES_MAX: usize = 4 * AUTOMATON_BYTES_MAX;

pub(super) struct Automaton {
    dfa: dense::DFA<Vec<u32>>,
    groups: Option<Groups>,
}

struct Groups {
    engine: Engine,
    /// Of each named group, in their order, where its start stands among the slots; its end follows.
    starts: Box<[usize]>,
}

enum Engine {
    /// Each byte leaves one way to go on: no search.
    OnePass(Box<onepass::DFA>),
    Pike(PikeVM),
}

/// What a match needs besides the automaton. A core's own, reused from one request to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Scratch {
    slots: Vec<Option<NonMaxUsize>>,
    one_pass: Option<onepass::Cache>,
    pike: Option<pikevm::Cache>,
}

/// The expressions of a table while it is built.
pub(super) struct Automata<'a> {
    known: HashMap<(&'a Expression, bool), Arc<Automaton>>,
    /// Those that may still be taken.
    bytes_left: usize,
}

impl Default for Automata<'_> {
    fn default() -> Self {
        Automata { known: HashMap::new(), bytes_left: AUTOMATA_BYTES_MAX }
    }
}

/// Why an expression is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TooLarge {
    /// This one alone, over [`AUTOMATON_BYTES_MAX`].
    One(String),
    /// With all before it, over [`AUTOMATA_BYTES_MAX`].
    All,
}

impl<'a> Automata<'a> {
    /// `groups`: the named ones are asked for.
    pub(super) fn get(&mut self, expression: &'a Expression, groups: bool) -> Result<Arc<Automaton>, TooLarge> {
        if let Some(known) = self.known.get(&(expression, groups)) {
            return Ok(known.clone());
        }
        let built = Automaton::new(expression, groups).ok_or_else(|| TooLarge::One(expression.to_string()))?;
        self.bytes_left = self.bytes_left.checked_sub(built.bytes()).ok_or(TooLarge::All)?;
        let built = Arc::new(built);
        self.known.insert((expression, groups), built.clone());
        Ok(built)
    }
}

impl Automaton {
    /// `None`: too large. Nothing else is wrong with an expression that parses, since none asks for Unicode.
    fn new(expression: &Expression, groups: bool) -> Option<Automaton> {
        let hir = expression.hir();
        let nfa = |captures| {
            let config = thompson::Config::new().utf8(false).which_captures(captures);
            let config = config.nfa_size_limit(Some(AUTOMATON_BYTES_MAX));
            thompson::Compiler::new().configure(config).build_from_hir(&hir).ok()
        };
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
            .determinize_size_limit(Some(BUILD_BYTES_MAX));
        let plain = nfa(WhichCaptures::None)?;
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&plain).ok()?;
        let groups = if groups { Some(Groups::new(nfa(WhichCaptures::All)?)?) } else { None };
        Some(Automaton { dfa, groups })
    }

    fn bytes(&self) -> usize {
        let groups = self.groups.as_ref().map_or(0, |groups| match &groups.engine {
            Engine::OnePass(engine) => engine.memory_usage(),
            Engine::Pike(engine) => engine.get_nfa().memory_usage(),
        });
        self.dfa.memory_usage() + groups
    }

    /// Whether it matches all of `value`.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        let input = Input::new(value).anchored(Anchored::Yes);
        // An error would be a byte on which the automaton gives up: there is none without Unicode word boundaries.
        matches!(self.dfa.try_search_fwd(&input), Ok(Some(_)))
    }

    /// Hands over the ranges of the named groups in the path as it came; `decoded` is that path decoded, which matches.
    pub(super) fn groups(
        &self,
        raw: &[u8],
        decoded: &[u8],
        scratch: &mut Scratch,
        mut found: impl FnMut(usize, usize),
    ) {
        let Some(groups) = &self.groups else { return };
        groups.search(decoded, scratch);
        for start in &groups.starts {
            let at = |slot: usize| scratch.slots.get(slot).copied().flatten().map_or(0, NonMaxUsize::get);
            // A group that took no part has taken nothing.
            let (start, end) = (at(*start), at(*start + 1));
            match raw.len() == decoded.len() {
                true => found(start, end),
                false => found(raw_offset(raw, start), raw_offset(raw, end)),
            }
        }
    }
}

impl Groups {
    fn new(nfa: NFA) -> Option<Groups> {
        let info = nfa.group_info();
        let named = info.pattern_names(PatternID::ZERO).enumerate().filter(|(_, name)| name.is_some());
        let starts = named.map(|(index, _)| index * 2).collect();
        let config = onepass::Config::new().size_limit(Some(AUTOMATON_BYTES_MAX));
        let one_pass = onepass::Builder::new().configure(config).build_from_nfa(nfa.clone());
        let engine = match one_pass {
            Ok(one_pass) => Engine::OnePass(Box::new(one_pass)),
            Err(_) => Engine::Pike(PikeVM::new_from_nfa(nfa).ok()?),
        };
        Some(Groups { engine, starts })
    }

    fn search(&self, value: &[u8], scratch: &mut Scratch) {
        let Scratch { slots, one_pass, pike } = scratch;
        slots.clear();
        slots.resize(self.starts.iter().max().map_or(0, |last| last + 2), None);
        let input = Input::new(value).anchored(Anchored::Yes);
        match &self.engine {
            Engine::OnePass(engine) => {
                let cache = one_pass.get_or_insert_with(|| engine.create_cache());
                cache.reset(engine);
                // Errors only for what is not anchored.
                let _ = engine.try_search_slots(cache, &input, slots);
            }
            Engine::Pike(engine) => {
                let cache = pike.get_or_insert_with(|| engine.create_cache());
                cache.reset(engine);
                engine.search_slots(cache, &input, slots);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> Expression {
        text.parse().unwrap_or_else(|fault| panic!("{fault}"))
    }

    #[test]
    fn the_whole_value_is_matched() {
        for (text, value, matches) in [
            ("/a|/ab", "/ab", true),
            ("/a", "/ab", false),
            ("/a.*", "/ab", true),
            (".*b", "/ab", true),
            ("^/ab$", "/ab", true),
            ("/(?i)ab", "/AB", true),
            ("/\\w+", "/é", false),
            ("/.", "/\n", true),
            ("/[^/]+", "/é", true),
            ("/\\bab\\b", "/ab", true),
        ] {
            let (automaton, value) = (Automaton::new(&expression(text), false).unwrap(), value.as_bytes());
            assert_eq!(automaton.matches(value), matches, "{text} {value:?}");
        }
    }

    #[test]
    fn groups_are_ranges_of_the_path_as_it_came() {
        for (text, raw, wanted) in [
            ("/(?<a>[^/]+)/(?<b>.*)", "/x/y/z", vec!["x", "y/z"]),
            ("/(?<a>[^/]+)/(?<b>.*)", "/x%20%41/%42", vec!["x%20%41", "%42"]),
            ("/(?<a>.*)/(?<b>.*)(?<c>q)?", "/x/y/%7A", vec!["x/y", "%7A", ""]),
            ("/((x)|y)(?<a>z)", "/yz", vec!["z"]),
        ] {
            let automaton = Automaton::new(&expression(text), true).unwrap();
            let decoded: Vec<u8> = super::super::path::decoded(raw.as_bytes()).collect();
            assert!(automaton.matches(&decoded));
            let (mut scratch, mut found) = (Scratch::default(), Vec::new());
            for _ in 0..2 {
                found.clear();
                automaton.groups(raw.as_bytes(), &decoded, &mut scratch, |start, end| found.push(&raw[start..end]));
                assert_eq!(found, wanted, "{text}");
            }
        }
    }

    #[test]
    fn an_expression_that_explodes_is_too_large() {
        assert!(Automaton::new(&expression("/(a|b)*a(a|b){20}"), false).is_none());
        assert!(Automaton::new(&expression("/a{900}{900}"), false).is_none());
        let expressions: Vec<Expression> = (0..3).map(|n| expression(&format!("/x{{{}}}", 500 + n / 2))).collect();
        let mut automata = Automata::default();
        let built: Vec<_> = expressions.iter().map(|one| automata.get(one, false).unwrap()).collect();
        assert!(Arc::ptr_eq(&built[0], &built[1]) && !Arc::ptr_eq(&built[1], &built[2]));
        // The same one again costs nothing.
        automata.bytes_left = built[0].bytes();
        assert!(automata.get(&expressions[0], false).is_ok());
        assert!(automata.get(&expressions[0], true).is_err_and(|size| size == TooLarge::All));
    }
}
