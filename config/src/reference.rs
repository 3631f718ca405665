//! The reference page: every key of every declared table. Holds no text about any key itself (`document`).

use std::fmt::Write;

use crate::decode::{Decode, Row, Section, Table};
use crate::document::Document;

const HEAD: &str = "# Every key of the configuration

Generated from the declarations the gateway itself reads; change those, not this page.

A *duration* is a whole number with a unit: `250ms`, `30s`, `5m`, `1h`, `7d`. A *size* is a whole number of bytes, or
one with a unit of powers of 1024: `1024`, `64KiB`, `10MiB`, `1GiB`. `NAME` stands for a name you choose (letters,
digits, `.`, `_`, `-`; at most 64), `HOST` for a host or `*.example.com` in quotes, `N` for a core's number from 0,
`[]` for each element of a list. An unknown key is an error.
";

/// Markdown: one table for each table of the document, in its order.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for section in sections() {
        write_section(&mut page, &section);
    }
    page
}

fn sections() -> Vec<Section> {
    let mut sections = Vec::new();
    Table::<Document>::sections("", &mut sections);
    sections
}

fn write_section(page: &mut String, section: &Section) {
    let title = if section.place.is_empty() { "Top level".to_owned() } else { format!("`{}`", section.place) };
    let mut write = |line: String| {
        page.push_str(&line);
        page.push('\n');
    };
    write(format!("\n## {title}\n\n{}\n", section.doc));
    write("| Key | Type | Default | Range | Why |\n|---|---|---|---|---|".to_owned());
    for row in &section.rows {
        write(line(row));
    }
}

fn line(row: &Row) -> String {
    let mut line = String::from("|");
    let default = match row.default.as_str() {
        word @ ("required" | "unset") => word.to_owned(),
        value => format!("`{value}`"),
    };
    for cell in [&format!("`{}`", row.key), &row.shape, &default, &row.range, &row.reason] {
        // Writing to a String cannot fail.
        let _ = write!(line, " {} |", cell.replace('|', "\\|"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::sections;

    #[test]
    fn every_key_says_why() {
        for section in sections() {
            assert!(!section.doc.is_empty(), "{}", section.place);
            for row in &section.rows {
                assert!(row.reason.len() > 5, "{}.{}", section.place, row.key);
                assert!(!row.shape.is_empty(), "{}.{}", section.place, row.key);
            }
        }
    }

    #[test]
    fn reaches_the_deepest_tables() {
        let places: Vec<String> = sections().into_iter().map(|section| section.place).collect();
        for place in
            ["", "cores.N", "listeners.NAME", "clusters.NAME.endpoints[]", "routes[].headers[]", "routes[].respond"]
        {
            assert!(places.iter().any(|known| known == place), "{place} is not among {places:?}");
        }
    }
}
