//! The words of a `when`: bare words, quoted texts, brackets, with the column of each.

use crate::problem::{Fault, quoted};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A subject, an operator, `and`, `or`, `not`; a wrong one too.
    Word(&'a str),
    /// Without its quotes. Nothing is escaped in it.
    Text(&'a str),
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
}

pub(super) struct Tokens<'a> {
    text: &'a str,
    /// Each with the byte where it begins.
    found: Vec<(usize, Token<'a>)>,
    next: usize,
}

/// What can stand after `header.` without brackets.
pub(crate) fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_word_byte)
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_sign_byte(byte: u8) -> bool {
    b"=!<>~&|^$*".contains(&byte)
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, Fault> {
        let mut tokens = Tokens { text, found: Vec::new(), next: 0 };
        let mut at = 0;
        while let Some(&first) = text.as_bytes().get(at) {
            let run = |is: fn(u8) -> bool| text[at..].bytes().take_while(|byte| is(*byte)).count();
            let (token, length) = match first {
                b' ' | b'\t' | b'\n' | b'\r' => {
                    at += 1;
                    continue;
                }
                b'(' => (Token::Open, 1),
                b')' => (Token::Close, 1),
                b'[' => (Token::OpenList, 1),
                b']' => (Token::CloseList, 1),
                b',' => (Token::Comma, 1),
                quote @ (b'"' | b'\'') => {
                    let Some(length) = text[at + 1..].find(char::from(quote)) else {
                        let fault = Fault::new("a text that is not closed").cure(format!("add {}", char::from(quote)));
                        return Err(at_place(fault, &place_in(text, at)));
                    };
                    let inside = &text[at + 1..at + 1 + length];
                    // What is shown of a condition is on one line, and read as the same.
                    if inside.contains(char::is_control) {
                        let fault = Fault::new("a text with a control character");
                        let cure = "write it as \\xHH in an expression: header.a matches \"a\\x09b\"";
                        return Err(at_place(fault.cure(cure), &place_in(text, at)));
                    }
                    (Token::Text(inside), length + 2)
                }
                byte if is_word_byte(byte) => (Token::Word(&text[at..at + run(is_word_byte)]), run(is_word_byte)),
                byte if is_sign_byte(byte) => (Token::Word(&text[at..at + run(is_sign_byte)]), run(is_sign_byte)),
                _ => {
                    let odd = text[at..].chars().next().unwrap_or_default().to_string();
                    let fault = Fault::new(format!("{} does not belong here", quoted(&odd)));
                    return Err(at_place(fault.cure("values stand in quotes"), &place_in(text, at)));
                }
            };
            tokens.found.push((at, token));
            at += length;
        }
        Ok(tokens)
    }

    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.found.get(self.next).map(|(_, token)| *token)
    }

    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let is_it = self.peek() == Some(Token::Word(word));
        self.next += usize::from(is_it);
        is_it
    }

    /// The name of `header["NAME"]`, standing at `header`; then at the last bracket.
    pub(super) fn bracketed(&mut self) -> Option<&'a str> {
        let at = |place: usize| self.found.get(place).map(|(_, token)| *token);
        match (at(self.next + 1), at(self.next + 2), at(self.next + 3)) {
            (Some(Token::OpenList), Some(Token::Text(name)), Some(Token::CloseList)) => {
                self.next += 3;
                Some(name)
            }
            _ => None,
        }
    }

    /// Of the next token, or of the end; see [`place_in`].
    pub(super) fn place(&self) -> String {
        place_in(self.text, self.found.get(self.next).map_or(self.text.len(), |(at, _)| *at))
    }

    pub(super) fn fault(&self, message: impl AsRef<str>) -> Fault {
        self.locate(Fault::new(message.as_ref()))
    }

    /// Of the token that was just taken.
    pub(super) fn fault_before(&self, message: impl AsRef<str>) -> Fault {
        self.locate_before(Fault::new(message.as_ref()))
    }

    pub(super) fn locate(&self, fault: Fault) -> Fault {
        at_place(fault, &self.place())
    }

    pub(super) fn locate_before(&self, fault: Fault) -> Fault {
        let before = self.found.get(self.next.saturating_sub(1));
        at_place(fault, &place_in(self.text, before.map_or(0, |(at, _)| *at)))
    }
}

/// From 1, in characters; with the line, if there are several.
fn place_in(text: &str, at: usize) -> String {
    match (text.trim_end().contains('\n'), crate::place::position(text, at)) {
        (false, (_, column)) => format!("character {column}"),
        (true, (line, column)) => format!("line {line}, character {column}"),
    }
}

fn at_place(mut fault: Fault, place: &str) -> Fault {
    fault.message = format!("at {place}: {}", fault.message);
    fault
}
