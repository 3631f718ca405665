//! Texts that are filled in for each request: `/v2/{id}{path}`. Knows `{path}`, the params of the route's path, and in a
//! replacement for a regular expression `$1` and `${name}`.

use super::RequestEdit;

/// Of one template.
const PIECES_MAX: usize = 32;

/// A parsed template.
#[derive(Debug, PartialEq)]
pub(super) struct Template {
    pub(super) pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    /// The path as the filters before have left it.
    Path,
    Param(String),
    /// A group of the regular expression.
    Group(usize),
}

/// What `$` may name: the regular expression's groups, `None` for those without a name. Empty: `$` is only itself.
pub(super) type Groups<'a> = &'a [Option<&'a str>];

impl Template {
    /// # Errors
    /// What is wrong, as a clause.
    pub(super) fn parse(text: &str, groups: Groups<'_>) -> Result<Template, String> {
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(first) = rest.chars().next() {
            let (piece, after) = match first {
                '{' => braced(rest)?,
                '}' => return Err("it has a \"}\" without \"{\"".to_owned()),
                '$' if !groups.is_empty() => match group(rest, groups)? {
                    (Some(piece), after) => (piece, after),
                    (None, after) => {
                        literal.push('$');
                        rest = after;
                        continue;
                    }
                },
                plain => {
                    literal.push(plain);
                    rest = &rest[plain.len_utf8()..];
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
            rest = after;
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        match pieces.len() > PIECES_MAX {
            true => Err(format!("it has more than {PIECES_MAX} parts")),
            false => Ok(Template { pieces }),
        }
    }

    /// The params that it names.
    pub(super) fn params(&self) -> impl Iterator<Item = &String> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Param(name) => Some(name),
            _ => None,
        })
    }

    /// Appends the filled-in text; `write` decides how what a request brought is written.
    pub(super) fn fill<'a>(
        &'a self,
        out: &mut Vec<u8>,
        request: &'a RequestEdit<'_, '_>,
        group: impl Fn(usize) -> &'a [u8],
        write: impl Fn(&mut Vec<u8>, &[u8]),
    ) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Path => write(out, request.current_path()),
                Piece::Param(name) => write(out, request.param(name)),
                Piece::Group(number) => write(out, group(*number)),
            }
        }
    }
}

fn braced(text: &str) -> Result<(Piece, &str), String> {
    let Some((name, after)) = text[1..].split_once('}') else {
        return Err("it has a \"{\" without \"}\"".to_owned());
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(format!("{{{name}}} names nothing"));
    }
    let piece = if name == "path" { Piece::Path } else { Piece::Param(name.to_owned()) };
    Ok((piece, after))
}

/// `$1`, `${name}`, or `$$` for a dollar sign.
fn group<'t>(text: &'t str, groups: Groups<'_>) -> Result<(Option<Piece>, &'t str), String> {
    let rest = &text[1..];
    if let Some(after) = rest.strip_prefix('$') {
        return Ok((None, after));
    }
    let (name, after) = match rest.strip_prefix('{') {
        Some(inside) => inside.split_once('}').ok_or("it has a \"${\" without \"}\"")?,
        None => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            rest.split_at(digits)
        }
    };
    let number = match name.parse::<usize>() {
        Ok(number) => Some(number).filter(|number| *number < groups.len()),
        Err(_) => groups.iter().position(|known| *known == Some(name)),
    };
    match number {
        Some(number) => Ok((Some(Piece::Group(number)), after)),
        None if name.is_empty() => Err("a \"$\" names no group; write \"$$\" for a dollar sign".to_owned()),
        None => Err(format!("the regular expression has no group ${{{name}}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read() {
        let text = |text: &str| Piece::Text(text.to_owned());
        let read = |template: &str, groups: Groups<'_>| Template::parse(template, groups).map(|read| read.pieces);
        assert_eq!(
            read("/v2/{id}{path}$1", &[]),
            Ok(vec![text("/v2/"), Piece::Param("id".to_owned()), Piece::Path, text("$1")])
        );
        let groups = [None, None, Some("rest")];
        assert_eq!(
            read("/n/$1/${rest}$$$0", &groups),
            Ok(vec![text("/n/"), Piece::Group(1), text("/"), Piece::Group(2), text("$"), Piece::Group(0)])
        );
        for wrong in ["/{", "/}", "/{}", "/{a-b}", "/{{id}}"] {
            assert!(read(wrong, &[]).is_err(), "{wrong}");
        }
        for wrong in ["/$3", "/${no}", "/$", "/$x", "/${1", "/$99999999999999999999"] {
            assert!(read(wrong, &groups).is_err(), "{wrong}");
        }
        assert!(read(&"{id}".repeat(PIECES_MAX + 1), &[]).is_err());
    }
}
