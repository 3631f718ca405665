//! A signature over parts of a request as its head says it (RFC 9421 section 4): taken apart, not judged. Only the one way
//! of writing is taken in which the standard serialises it (RFC 8941 section 4.1), so that what is read and what was signed
//! are the same bytes; parameters of components (`;sf`, `;key`, `;bs`) are not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smallvec::SmallVec;

/// Of each of the two fields.
const FIELD_BYTES_MAX: usize = 4096;
/// Parts of a request that one signature covers.
pub const COMPONENTS_MAX: usize = 32;
/// A key's id, a nonce.
const TEXT_BYTES_MAX: usize = 256;
/// Of a date: enough for three million years.
const DIGITS_MAX: usize = 15;
/// HMAC-SHA256.
const TAG_BYTES: usize = 32;

/// A signature as a request brings it.
#[derive(Debug, PartialEq, Eq)]
pub struct Signature<'h> {
    /// The names of what it covers, in order, none of them twice.
    pub components: SmallVec<[&'h str; COMPONENTS_MAX]>,
    /// The value of `@signature-params`.
    pub params: &'h str,
    /// As all dates here in seconds since 1970.
    pub created_unix_s: u64,
    pub expires_unix_s: Option<u64>,
    pub key_id: &'h str,
    /// Never empty.
    pub nonce: &'h str,
    pub tag: [u8; TAG_BYTES],
}

impl<'h> Signature<'h> {
    /// From the values of `Signature-Input` and `Signature`.
    ///
    /// # Errors
    /// Why it is none that we take, for the log.
    pub fn parse(input: &'h [u8], signature: &'h [u8]) -> Result<Signature<'h>, &'static str> {
        if input.len() > FIELD_BYTES_MAX || signature.len() > FIELD_BYTES_MAX {
            return Err("the signature is too long");
        }
        let (Ok(input), Ok(signature)) = (str::from_utf8(input), str::from_utf8(signature)) else {
            return Err("the signature is malformed");
        };
        let (label, params) = input.split_once('=').ok_or("the signature is malformed")?;
        let (same, tag) = signature.split_once('=').ok_or("the signature is malformed")?;
        if label != same || !is_key(label) {
            return Err("`Signature` and `Signature-Input` name different signatures");
        }
        let tag = tag.strip_prefix(':').and_then(|tag| tag.strip_suffix(':')).ok_or("several signatures, or none")?;
        let tag = STANDARD.decode(tag).ok().and_then(|tag| tag.try_into().ok());
        let mut read = Reader { rest: params };
        let components = read.components()?;
        let mut parameters = Parameters::default();
        while !read.rest.is_empty() {
            parameters.take(&mut read)?;
        }
        if parameters.algorithm.is_some_and(|algorithm| algorithm != "hmac-sha256") {
            return Err("the signature's algorithm is not hmac-sha256");
        }
        Ok(Signature {
            components,
            params,
            created_unix_s: parameters.created.ok_or("the signature has no `created`")?,
            expires_unix_s: parameters.expires,
            key_id: parameters.key_id.ok_or("the signature has no `keyid`")?,
            nonce: parameters.nonce.filter(|nonce| !nonce.is_empty()).ok_or("the signature has no `nonce`")?,
            tag: tag.ok_or("the signature has not the 32 bytes of HMAC-SHA256")?,
        })
    }

    /// True of a field's name, or of one of a part of the request such as `@method`.
    pub fn covers(&self, component: &str) -> bool {
        self.components.contains(&component)
    }
}

#[derive(Default)]
struct Parameters<'h> {
    created: Option<u64>,
    expires: Option<u64>,
    key_id: Option<&'h str>,
    nonce: Option<&'h str>,
    algorithm: Option<&'h str>,
    tag: Option<&'h str>,
}

impl<'h> Parameters<'h> {
    /// Takes one. A name that comes twice is refused, though RFC 8941 would take the last.
    fn take(&mut self, read: &mut Reader<'h>) -> Result<(), &'static str> {
        let name = read.parameter_name().ok_or("the signature's parameters are malformed")?;
        let is_new = match name {
            "created" => self.created.replace(read.number()?).is_none(),
            "expires" => self.expires.replace(read.number()?).is_none(),
            "keyid" => self.key_id.replace(read.text()?).is_none(),
            "nonce" => self.nonce.replace(read.text()?).is_none(),
            "alg" => self.algorithm.replace(read.text()?).is_none(),
            "tag" => self.tag.replace(read.text()?).is_none(),
            _ => return Err("the signature has a parameter that we do not know"),
        };
        if is_new { Ok(()) } else { Err("a parameter of the signature stands twice") }
    }
}

struct Reader<'h> {
    rest: &'h str,
}

impl<'h> Reader<'h> {
    fn skip(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// `("a" "b")`
    fn components(&mut self) -> Result<SmallVec<[&'h str; COMPONENTS_MAX]>, &'static str> {
        let mut names = SmallVec::new();
        if !self.skip("(") {
            return Err("the signature's components are malformed");
        }
        while !self.skip(")") {
            if !names.is_empty() && !self.skip(" ") {
                // A component's parameter, too.
                return Err("the signature's components are malformed");
            }
            let name = self.text()?;
            let plain = name.strip_prefix('@').unwrap_or(name);
            if plain.is_empty() || !plain.bytes().all(is_name_byte) {
                return Err("the signature covers what cannot be a field");
            }
            if names.contains(&name) {
                return Err("the signature covers something twice");
            }
            if names.len() == COMPONENTS_MAX {
                return Err("the signature covers too much");
            }
            names.push(name);
        }
        Ok(names)
    }

    /// The name in `;name=`.
    fn parameter_name(&mut self) -> Option<&'h str> {
        let (name, rest) = self.rest.strip_prefix(';')?.split_once('=')?;
        self.rest = rest;
        is_key(name).then_some(name)
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        let canonical = (1..=DIGITS_MAX).contains(&end) && (end == 1 || !digits.starts_with('0'));
        self.rest = rest;
        digits.parse().ok().filter(|_| canonical).ok_or("a date of the signature is malformed")
    }

    /// A quoted text. Escapes are not taken: nobody needs them in a name.
    fn text(&mut self) -> Result<&'h str, &'static str> {
        let malformed = "a text of the signature is malformed";
        let (text, rest) = self.rest.strip_prefix('"').and_then(|rest| rest.split_once('"')).ok_or(malformed)?;
        if text.len() > TEXT_BYTES_MAX || !text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\') {
            return Err(malformed);
        }
        self.rest = rest;
        Ok(text)
    }
}

/// RFC 8941 section 3.1.2.
pub(super) fn is_key(text: &str) -> bool {
    let first = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'*';
    text.as_bytes().first().is_some_and(first)
        && text.bytes().all(|byte| first(&byte) || byte.is_ascii_digit() || b"_-.".contains(&byte))
}

/// RFC 9110 section 5.6.2, in lower case.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAG: &str = "sig1=:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:";

    fn parse(input: &str) -> Result<Signature<'_>, &'static str> {
        Signature::parse(input.as_bytes(), TAG.as_bytes())
    }

    #[test]
    fn one_way_of_writing_is_taken() {
        let input = "sig1=(\"@method\" \"x-a\");created=1618884473;keyid=\"k\";nonce=\"n\";alg=\"hmac-sha256\"";
        let read = parse(input).unwrap();
        assert_eq!((&*read.components, read.key_id, read.nonce), (&["@method", "x-a"][..], "k", "n"));
        assert_eq!((read.created_unix_s, read.expires_unix_s, read.tag[31]), (1_618_884_473, None, 31));
        assert_eq!(read.params, &input[5..]);
        let tail = ";created=1;keyid=\"k\";nonce=\"n\"";
        assert!(parse(&format!("sig1=(){tail}")).is_ok());
        for wrong in [
            "",
            "sig1",
            "sig1=",
            "sig1=(",
            "sig1=(\"a\"",
            "sig1=();created=1;keyid=\"k\"",
            "sig1=();created=1;keyid=\"k\";nonce=\"\"",
            "sig1=();created=1;nonce=\"n\"",
            "sig1=();keyid=\"k\";nonce=\"n\"",
            "sig2=();created=1;keyid=\"k\";nonce=\"n\"",
            "Sig1=();created=1;keyid=\"k\";nonce=\"n\"",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for (components, more) in [
            ("(\"a\" \"a\")", ""),
            ("(\"a\"  \"b\")", ""),
            ("( \"a\")", ""),
            ("(\"a\" )", ""),
            ("(\"A\")", ""),
            ("(\"a\";sf)", ""),
            ("(\"@query-param\";name=\"a\")", ""),
            ("(a)", ""),
            ("(\"\")", ""),
            ("(\"@\")", ""),
            ("(\"a:b\")", ""),
            ("()", " ;tag=\"x\""),
            ("()", "; tag=\"x\""),
            ("()", ";created=1"),
            ("()", ";nonce=\"m\""),
            ("()", ";keyid=\"m\""),
            ("()", ";alg=\"hmac-sha512\""),
            ("()", ";alg=hmac-sha256"),
            ("()", ";expires=-1"),
            ("()", ";expires=01"),
            ("()", ";expires=1.5"),
            ("()", ";expires=9999999999999999"),
            ("()", ";expires"),
            ("()", ";other=1"),
            ("()", ";tag=\"a\\\"b\""),
            ("()", ", sig2=()"),
        ] {
            assert!(parse(&format!("sig1={components}{tail}{more}")).is_err(), "{components} {more}");
        }
    }

    #[test]
    fn only_one_whole_tag_is_taken() {
        let input = "sig1=();created=1;keyid=\"k\";nonce=\"n\"";
        for wrong in [
            "",
            "sig1",
            "sig1=",
            "sig1=::",
            "sig1=:AAAA:",
            "sig1=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            &format!("{TAG}, {}", TAG.replace("sig1", "sig2")),
            &format!("{TAG};a=1"),
            &TAG.replace('=', ""),
        ] {
            assert!(Signature::parse(input.as_bytes(), wrong.as_bytes()).is_err(), "{wrong}");
        }
        let many: Vec<String> = (0..=COMPONENTS_MAX).map(|number| format!("\"a{number}\"")).collect();
        assert!(parse(&format!("sig1=({});created=1;keyid=\"k\";nonce=\"n\"", many.join(" "))).is_err());
        let long = format!("{input};tag=\"{}\"", "x".repeat(FIELD_BYTES_MAX));
        assert_eq!(parse(&long), Err("the signature is too long"));
        assert!(parse(&format!("{input};tag=\"{}\"", "x".repeat(TEXT_BYTES_MAX + 1))).is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_it_does_not_panic(input in "sig1=\\(\"[@a-c \";=0-9()]{0,40}", tag in "[a-zA-Z0-9=:+/]{0,60}") {
            let _ = Signature::parse(input.as_bytes(), tag.as_bytes());
        }
    }
}
