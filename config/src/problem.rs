//! What is wrong with a document, where, and what would cure it. Does not find anything wrong itself.

use std::fmt;

use toml::de::DeValue;

use crate::Source;
use crate::place::{self, Place};

/// More are counted, not kept: nobody reads the hundred-and-first before curing the first.
const PROBLEMS_MAX: usize = 100;

/// Longer text of the operator is cut where a message quotes it.
const QUOTED_CHARS_MAX: usize = 80;

/// Something wrong at a place of the document, before it is known where in the text that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Dotted, as in `routes[3].filters[0].strip_prefix`.
    pub place: String,
    pub message: String,
    /// What to do about it, as a clause.
    pub cure: Option<String>,
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Self {
        Self { place: String::new(), message: message.into(), cure: None }
    }

    #[must_use]
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    /// "did you mean" where a candidate is near; all of them where they are few; nothing otherwise.
    #[must_use]
    pub(crate) fn suggest(self, word: &str, kind: &str, candidates: &[&str]) -> Self {
        const LISTED_MAX: usize = 12;
        if let Some(near) = crate::near::nearest(word, candidates.iter().copied()) {
            return self.cure(format!("did you mean {near:?}?"));
        }
        match candidates {
            [] => self,
            [only] => self.cure(format!("the only {kind} is {only:?}")),
            few if few.len() <= LISTED_MAX => {
                let list: Vec<String> = few.iter().map(|name| format!("{name:?}")).collect();
                let kinds = kind.strip_suffix('y').map_or(format!("{kind}s"), |stem| format!("{stem}ies"));
                self.cure(format!("the {kinds} are {}", list.join(", ")))
            }
            _ => self,
        }
    }

    /// With its line and column in the text that the document came from.
    pub fn locate(self, source: &Source) -> Problem {
        let position = place::locate(source, &self.place);
        self.positioned(source, position)
    }

    fn positioned(self, source: &Source, position: Option<(usize, usize)>) -> Problem {
        let (line, column) = position.unwrap_or((0, 0));
        let Self { place, message, cure } = self;
        Problem { file: source.name.clone(), line, column, place, message, cure }
    }
}

/// One line that an operator can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// From 1; 0 if the problem is with the file as a whole.
    pub line: usize,
    /// From 1, in characters; 0 with `line`.
    pub column: usize,
    /// Dotted; empty for a syntax error or the file as a whole.
    pub place: String,
    pub message: String,
    pub cure: Option<String>,
}

impl Problem {
    pub(crate) fn of_file(file: &str, message: String) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, place: String::new(), message, cure: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        f.write_str(" ")?;
        write_fault(f, &self.place, &self.message, self.cure.as_deref())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_fault(f, &self.place, &self.message, self.cure.as_deref())
    }
}

impl std::error::Error for Fault {}

fn write_fault(f: &mut fmt::Formatter<'_>, place: &str, message: &str, cure: Option<&str>) -> fmt::Result {
    if !place.is_empty() {
        write!(f, "{place}: ")?;
    }
    f.write_str(message)?;
    cure.map_or(Ok(()), |cure| write!(f, "; {cure}"))
}

/// Every reason why a document was refused, in the order of the text. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let end_of_last = if index == 0 { "" } else { "\n" };
            write!(f, "{end_of_last}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    errors: Vec<Fault>,
    warnings: Vec<Fault>,
    /// Found beyond [`PROBLEMS_MAX`].
    unlisted: usize,
}

impl Problems {
    pub(crate) fn error(&mut self, place: &Place<'_>, fault: Fault) {
        if self.errors.len() < PROBLEMS_MAX {
            self.errors.push(fault.at(place.to_string()));
        } else {
            self.unlisted += 1;
        }
    }

    pub(crate) fn warn(&mut self, place: &Place<'_>, fault: Fault) {
        if self.warnings.len() < PROBLEMS_MAX {
            self.warnings.push(fault.at(place.to_string()));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Errors and warnings, each in the order of the text.
    pub(crate) fn finish(self, source: &Source, tree: &DeValue<'_>) -> (Vec<Problem>, Vec<Problem>) {
        let mut errors = in_order(self.errors, source, tree);
        if self.unlisted > 0 {
            errors.push(Problem::of_file(&source.name, format!("and {} more", self.unlisted)));
        }
        (errors, in_order(self.warnings, source, tree))
    }
}

fn in_order(faults: Vec<Fault>, source: &Source, tree: &DeValue<'_>) -> Vec<Problem> {
    let located = faults.into_iter().map(|fault| {
        let position = place::offset(tree, &fault.place).map(|offset| place::position(&source.text, offset));
        fault.positioned(source, position)
    });
    let mut problems: Vec<Problem> = located.collect();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}

/// The parser's own findings; one per line, since what follows the first on a line is mostly its echo.
pub(crate) fn from_syntax(source: &Source, errors: &[toml::de::Error]) -> Errors {
    let mut problems: Vec<Problem> = Vec::new();
    for error in errors {
        let (line, column) = error.span().map_or((0, 0), |span| place::position(&source.text, span.start));
        let mut message = error.message().lines().collect::<Vec<_>>().join("; ");
        let key = error.span().and_then(|span| source.text.get(span));
        if let Some(key) = key.filter(|_| message == "duplicate key") {
            message = format!("{message} {}", quoted(key));
        }
        problems.push(Problem { line, column, ..Problem::of_file(&source.name, format!("not TOML: {message}")) });
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems.dedup_by_key(|problem| problem.line);
    problems.truncate(PROBLEMS_MAX);
    Errors(problems)
}

/// The operator's text inside a message: on one line, and not all of it if it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}
