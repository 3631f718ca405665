//! Text to a checked, immutable [`Snapshot`]: what an operator wrote, or every reason why it cannot serve.
//! Opens no socket, resolves no name, knows no filter: a filter's own table stays unread until the dry run.
#![forbid(unsafe_code)]

mod api;
mod bounded;
mod check;
mod cluster;
mod condition;
mod cores;
mod decode;
mod document;
mod expression;
pub mod filter;
pub mod http;
mod identity;
mod inherit;
mod near;
mod net;
mod path;
mod place;
mod policy;
mod problem;
mod redis;
mod reference;
pub mod snapshot;
pub mod units;
mod when;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use check::routes::shadowed::shadowed;
pub use inherit::{Level, outer_policies};
pub use place::locate;
pub use problem::{Errors, Fault, Problem};
pub use reference::reference;
pub use snapshot::Snapshot;

use document::Document;
use problem::Problems;
use toml::de::{DeTable, DeValue};

/// The embedded default: loopback only, with origins that the binary starts itself.
pub const DEMO: &str = include_str!("../examples/demo.toml");

/// The commented starter file that `ringway init` prints.
pub const INIT: &str = include_str!("../examples/ringway.toml");

/// A larger file is refused unread; 100 000 routes take about 20 MiB.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A text and the name under which its errors are reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// A configuration that can serve, and what is odd about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub snapshot: Snapshot,
    pub warnings: Vec<Problem>,
}

/// Reads and checks a text. Syntax errors, wrong keys and values, and broken references are each reported all at once,
/// in this order: what does not parse cannot be typed, what has no type cannot be referred to.
pub fn load(source: &Source) -> Result<Loaded, Errors> {
    let (tree, syntax) = DeTable::parse_recoverable(&source.text);
    if !syntax.is_empty() {
        return Err(problem::from_syntax(source, &syntax));
    }
    let tree = DeValue::Table(tree.into_inner());
    let mut problems = Problems::default();
    let document = Document::read(&tree, &mut problems);
    let snapshot = match document {
        Some(document) if problems.is_empty() => check::snapshot(document, &mut problems),
        _ => None,
    };
    let (errors, warnings) = problems.finish(source, &tree);
    match snapshot {
        Some(snapshot) if errors.is_empty() => Ok(Loaded { snapshot, warnings }),
        _ => Err(Errors(errors)),
    }
}

/// [`load`] from a file; one that cannot be read is an error that names it.
pub fn load_file(path: &Path) -> Result<Loaded, Errors> {
    load(&read_file(path)?)
}

/// The text of a file as a [`Source`], for callers that also need it for [`locate`].
pub fn read_file(path: &Path) -> Result<Source, Errors> {
    let name = path.display().to_string();
    let unreadable = |message: String| Errors(vec![Problem::of_file(&name, message)]);
    let file = File::open(path).map_err(|error| unreadable(format!("cannot be opened: {error}")))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!("is larger than {}", units::size_text(FILE_BYTES_MAX))));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name, text }),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
            let (line, column) = place::position(&before, before.len());
            let message = "this byte is not UTF-8, which TOML requires".to_owned();
            Err(Errors(vec![Problem { line, column, ..Problem::of_file(&name, message) }]))
        }
    }
}

#[cfg(test)]
mod tests;
