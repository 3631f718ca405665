//! Where something stands in a document: `routes[3].filters[0].strip_prefix`, and its line and column in the text.
//! Does not judge what stands there.

use std::fmt;

use toml::de::{DeTable, DeValue};

use crate::Source;

/// A path from the root of the document, linked through the callers' stack frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    pub(crate) const ROOT: Place<'static> = Place { parent: None, step: Step::Root };

    pub(crate) fn key(&'a self, key: &'a str) -> Place<'a> {
        Place { parent: Some(self), step: Step::Key(key) }
    }

    pub(crate) fn index(&'a self, index: usize) -> Place<'a> {
        Place { parent: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = match self.parent {
            None => return Ok(()),
            Some(parent) => {
                parent.fmt(f)?;
                parent.parent.is_none()
            }
        };
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) if top => f.write_str(&key_text(key)),
            Step::Key(key) => write!(f, ".{}", key_text(key)),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A key as TOML would write it: bare where it can be.
pub(crate) fn key_text(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { format!("{key:?}") }
}

/// Line and column (both from 1, columns in characters) of a place, or of the nearest one around it that is written in
/// the text: what is missing is reported where it would stand. `None` if the text is no TOML or nothing of it is there.
pub fn locate(source: &Source, place: &str) -> Option<(usize, usize)> {
    let table = DeTable::parse(&source.text).ok()?;
    let offset = offset(&DeValue::Table(table.into_inner()), place)?;
    Some(position(&source.text, offset))
}

/// The byte where a place begins: a key's own first byte, or that of an array's element.
pub(crate) fn offset(root: &DeValue<'_>, place: &str) -> Option<usize> {
    let (mut node, mut rest, mut found) = (root, place, None);
    while !rest.is_empty() {
        let step = match node {
            DeValue::Table(table) => key_step(table, rest),
            DeValue::Array(array) => index_step(rest).and_then(|(index, after)| {
                let element = array.get(index)?;
                Some((element.span().start, element.get_ref(), after))
            }),
            _ => None,
        };
        let Some((start, below, after)) = step else { break };
        (node, rest, found) = (below, after, Some(start));
    }
    found
}

/// Compares against each key as it is rendered, so that no quoting has to be undone.
fn key_step<'t, 'i, 'p>(table: &'t DeTable<'i>, place: &'p str) -> Option<(usize, &'t DeValue<'i>, &'p str)> {
    let place = place.strip_prefix('.').unwrap_or(place);
    table.iter().find_map(|(key, value)| {
        let after = place.strip_prefix(key_text(key.get_ref()).as_str())?;
        let whole = after.is_empty() || after.starts_with(['.', '[']);
        whole.then(|| (key.span().start, value.get_ref(), after))
    })
}

fn index_step(place: &str) -> Option<(usize, &str)> {
    let (index, after) = place.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, after))
}

/// Line and column, both from 1, of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::{Place, locate};
    use crate::Source;

    const TEXT: &str = "io = \"auto\"\n\n[listeners.\"a.b\"]\nbind = [\":1\",\n  \":2\"]\n\n[[routes]]\nname = \"x\"\n\n\
        [[routes]]\nfilters = [ { \"é\" = 1 }, { strip_prefix = { of = \"/\" } } ]\n";

    fn at(place: &str) -> Option<(usize, usize)> {
        locate(&Source { name: String::new(), text: TEXT.to_owned() }, place)
    }

    #[test]
    fn finds_keys_and_elements() {
        assert_eq!(at("io"), Some((1, 1)));
        assert_eq!(at("listeners.\"a.b\""), Some((3, 12)));
        assert_eq!(at("listeners.\"a.b\".bind"), Some((4, 1)));
        assert_eq!(at("listeners.\"a.b\".bind[1]"), Some((5, 3)));
        assert_eq!(at("routes[0].name"), Some((8, 1)));
        assert_eq!(at("routes[1]"), Some((10, 1)));
        assert_eq!(at("routes[1].filters[0].\"é\""), Some((11, 15)));
        assert_eq!(at("routes[1].filters[1].strip_prefix"), Some((11, 28)));
        assert_eq!(at("routes[1].filters[1].strip_prefix.of"), Some((11, 45)));
    }

    #[test]
    fn falls_back_to_what_is_around() {
        assert_eq!(at("routes[0].cluster"), Some((7, 1)));
        assert_eq!(at("routes[9]"), at("routes"));
        assert_eq!(at("io.deeper[3]"), Some((1, 1)));
        assert_eq!(at("nothing.here"), None);
        assert_eq!(at(""), None);
    }

    #[test]
    fn renders_what_it_finds() {
        let (listeners, routes) = (Place::ROOT.key("listeners"), Place::ROOT.key("routes"));
        assert_eq!(listeners.key("a.b").key("bind").index(1).to_string(), "listeners.\"a.b\".bind[1]");
        assert_eq!(routes.index(3).key("cluster").to_string(), "routes[3].cluster");
        assert_eq!(Place::ROOT.to_string(), "");
    }
}
