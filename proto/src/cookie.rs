//! The `Cookie` field (RFC 6265 section 4.2.1). Judges no name and no value: a gateway passes on what it does not read.

/// Names and values of one `Cookie` line, in their order. Whitespace around both is dropped, and so are the quotes that
/// the grammar allows around a value, which origins take off too. What has no `=` is no cookie.
pub fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').filter_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let value = pair[at + 1..].trim_ascii();
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some((pair[..at].trim_ascii(), unquoted.unwrap_or(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_trimmed_and_unquoted() {
        let line = b" a=1; b = \"2\" ;c ;d=3=4;;e=;=x;f=\"; g=\"\"; h=\"5";
        let found: Vec<_> = cookies(line).map(|(name, value)| (str(name), str(value))).collect();
        let wanted = [("a", "1"), ("b", "2"), ("d", "3=4"), ("e", ""), ("", "x"), ("f", "\""), ("g", ""), ("h", "\"5")];
        assert_eq!(found, wanted);
    }

    fn str(bytes: &[u8]) -> &str {
        str::from_utf8(bytes).unwrap()
    }
}
