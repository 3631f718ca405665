//! The arm of a split that takes a request outright, by the conditions of its arms. Weighs nothing (`split`).

use ringway_config::snapshot::Condition;

use super::Query;
use super::asked::Asked;
use super::automata::Automata;
use super::build::BuildError;
use super::program::Program;

/// By arm; one without conditions pins nothing.
pub struct Pins(Box<[Program]>);

impl Pins {
    /// For the arms of `route`, which stand at `place` in the document. `None`: no arm has conditions.
    ///
    /// # Errors
    /// An expression that is too large when compiled.
    pub fn new<'a>(
        arms: impl Iterator<Item = &'a [Condition]>,
        route: &str,
        place: String,
    ) -> Result<Option<Pins>, BuildError> {
        let mut automata = Automata::default();
        let programs = arms.map(|conditions| Program::new(conditions, &mut automata));
        let programs = programs.collect::<Result<Box<[Program]>, _>>();
        let programs = programs.map_err(|size| BuildError::Expression { route: route.to_owned(), place, size })?;
        Ok(programs.iter().any(|program| !program.is_empty()).then_some(Pins(programs)))
    }

    /// The first arm whose conditions hold.
    pub fn pick(&self, query: &Query<'_>) -> Option<usize> {
        let mut decoded = Vec::new();
        let mut asked = Asked::new(query, &mut decoded);
        self.0.iter().position(|program| !program.is_empty() && program.holds(&mut asked))
    }
}
