//! The conditions of one route as a flat list of tests, each with the test to go to if it holds and if it does not.
//! Runs without a stack and without allocating. What a condition means is said in `ringway-config`.

use super::asked::Asked;
use super::automata::{Automata, Automaton, TooLarge};
use memchr::memmem::Finder;
use ringway_config::snapshot::{self, Cidr, Condition, Subject};
use std::sync::Arc;

/// All conditions hold, or one does not.
const YES: u16 = u16::MAX;
const NO: u16 = u16::MAX - 1;

#[derive(Default)]
pub(super) struct Program {
    steps: Box<[Step]>,
}

struct Step {
    subject: Subject,
    test: Test,
    /// Where to go on: [`YES`], [`NO`] or a later step.
    if_holds: u16,
    if_not: u16,
}

enum Test {
    Present,
    Equals(Box<[u8]>),
    OneOf(Box<[Box<[u8]>]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<Finder<'static>>),
    Matches(Arc<Automaton>),
    Within(Box<[Cidr]>),
}

impl Program {
    /// Holds if every condition does. A document's limits keep the steps far below what a `u16` counts.
    pub(super) fn new<'a>(conditions: &'a [Condition], automata: &mut Automata<'a>) -> Result<Program, TooLarge> {
        let mut steps = Vec::with_capacity(conditions.len());
        chain(conditions, (YES, NO), true, automata, &mut steps)?;
        Ok(Program { steps: steps.into() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn holds(&self, asked: &mut Asked<'_, '_>) -> bool {
        self.failing_step(asked).is_none()
    }

    /// The step that ended it, if it does not hold.
    fn failing_step(&self, asked: &mut Asked<'_, '_>) -> Option<usize> {
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            let next = if step.holds(asked) { step.if_holds } else { step.if_not };
            match next {
                YES => return None,
                NO => return Some(at),
                later => at = usize::from(later),
            }
        }
        None
    }

    /// Which of the conditions that it was made of is the first that fails.
    pub(super) fn failing<'c>(&self, conditions: &'c [Condition], asked: &mut Asked<'_, '_>) -> Option<&'c Condition> {
        let step = self.failing_step(asked)?;
        let mut steps = 0;
        conditions.iter().find(|condition| {
            steps += steps_of(condition);
            step < steps
        })
    }
}

/// `whole`: they must all hold; else any.
fn chain<'a>(
    parts: &'a [Condition],
    (if_holds, if_not): (u16, u16),
    whole: bool,
    automata: &mut Automata<'a>,
    steps: &mut Vec<Step>,
) -> Result<(), TooLarge> {
    for (index, part) in parts.iter().enumerate() {
        let next = match index + 1 == parts.len() {
            true if whole => if_holds,
            true => if_not,
            false => (steps.len() + steps_of(part)) as u16,
        };
        let exits = if whole { (next, if_not) } else { (if_holds, next) };
        compile(part, exits, automata, steps)?;
    }
    Ok(())
}

fn compile<'a>(
    condition: &'a Condition,
    exits: (u16, u16),
    automata: &mut Automata<'a>,
    steps: &mut Vec<Step>,
) -> Result<(), TooLarge> {
    let (if_holds, if_not) = exits;
    match condition {
        Condition::Is(subject, test) => {
            let test = Test::new(test, automata)?;
            steps.push(Step { subject: subject.clone(), test, if_holds, if_not });
            Ok(())
        }
        Condition::Not(inner) => compile(inner, (if_not, if_holds), automata, steps),
        Condition::All(parts) => chain(parts, exits, true, automata, steps),
        Condition::Any(parts) => chain(parts, exits, false, automata, steps),
    }
}

fn steps_of(condition: &Condition) -> usize {
    match condition {
        Condition::Is(..) => 1,
        Condition::Not(inner) => steps_of(inner),
        Condition::All(parts) | Condition::Any(parts) => parts.iter().map(steps_of).sum(),
    }
}

impl Step {
    fn holds(&self, asked: &mut Asked<'_, '_>) -> bool {
        let test = &self.test;
        match &self.subject {
            Subject::Header(name) => asked.query.fields.any(name, &mut |value| test.takes(value)),
            Subject::Query(name) => asked.any_param(name, |value| test.takes(value)),
            Subject::Cookie(name) => asked.any_cookie(name, |value| test.takes(value)),
            Subject::Method => test.takes(asked.query.method),
            Subject::Host => asked.host(|host| test.takes(host)),
            Subject::Path => test.takes(asked.path()),
            Subject::ClientIp => match test {
                Test::Within(networks) => {
                    let client = asked.query.fields.client_ip();
                    networks.iter().any(|network| network.contains(client))
                }
                _ => false,
            },
        }
    }
}

impl Test {
    fn new<'a>(test: &'a snapshot::Test, automata: &mut Automata<'a>) -> Result<Test, TooLarge> {
        let bytes = |text: &String| Box::from(text.as_bytes());
        Ok(match test {
            snapshot::Test::Present => Test::Present,
            snapshot::Test::Equals(text) => Test::Equals(bytes(text)),
            snapshot::Test::OneOf(texts) => Test::OneOf(texts.iter().map(bytes).collect()),
            snapshot::Test::Prefix(text) => Test::Prefix(bytes(text)),
            snapshot::Test::Suffix(text) => Test::Suffix(bytes(text)),
            snapshot::Test::Contains(text) => Test::Contains(Box::new(Finder::new(text).into_owned())),
            snapshot::Test::Matches(expression) => Test::Matches(automata.get(expression, false)?),
            snapshot::Test::Within(networks) => Test::Within(networks.as_slice().into()),
        })
    }

    fn takes(&self, value: &[u8]) -> bool {
        match self {
            Test::Present => true,
            Test::Equals(text) => value == &**text,
            Test::OneOf(texts) => texts.iter().any(|text| value == &**text),
            Test::Prefix(text) => value.starts_with(text),
            Test::Suffix(text) => value.ends_with(text),
            Test::Contains(finder) => finder.find(value).is_some(),
            Test::Matches(automaton) => automaton.matches(value),
            // Of addresses alone, which are no text.
            Test::Within(_) => false,
        }
    }
}
