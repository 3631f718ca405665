//! The other paths that an origin might read in a normal path. Origins differ on four points: whether `%2F` and `%5C`
//! separate segments, whether `;` opens parameters (and whether they are cut off before or after decoding), and how
//! often they decode. Which of them matters is the router's question.

use super::{PathError, decode, is_unreserved, resolve, triplet};

const READINGS_MAX: usize = 16;

/// Readings one behind the other, each ending where `ends` says; empty for nearly every path.
#[derive(Clone, Default, Debug)]
pub(super) struct Readings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    twice_decoded: Vec<u8>,
    reread: Vec<u8>,
}

/// How parameters are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parameters {
    /// As part of the segment.
    Kept,
    /// Cut at `;` while the segment is still encoded (Tomcat, Jetty).
    CutFirst,
    /// Cut at `;`, encoded or not, after decoding.
    CutLast,
}

/// Points that readers can disagree on, in one path.
#[derive(Clone, Copy, Default)]
struct Doubts {
    slash: bool,
    backslash: bool,
    parameters: bool,
    twice: bool,
}

impl Doubts {
    fn of(path: &[u8]) -> Self {
        let mut doubts = Self::default();
        for (at, byte) in path.iter().enumerate() {
            match byte {
                b';' => doubts.parameters = true,
                b'%' => match &path[at + 1..] {
                    [b'2', b'F', ..] => doubts.slash = true,
                    [b'5', b'C', ..] => doubts.backslash = true,
                    [b'3', b'B', ..] => doubts.parameters = true,
                    [b'2', b'5', inner @ ..] => doubts.twice |= reveals(inner),
                    _ => {}
                },
                _ => {}
            }
        }
        doubts
    }
}

/// Whether what follows a `%25` becomes a character that matters when it is decoded again (and again).
fn reveals(mut inner: &[u8]) -> bool {
    while let [b'2', b'5', rest @ ..] = inner {
        inner = rest;
    }
    let [high, low, ..] = inner else { return false };
    triplet(&[b'%', *high, *low]).is_some_and(|value| is_unreserved(value) || matches!(value, 0 | b'/' | b'\\' | b';'))
}

impl Readings {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let start = |at: usize| at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.ends.iter().enumerate().map(move |(at, end)| &self.bytes[start(at)..*end])
    }

    /// Reads the normal path `path` in every way. `false`: there is but one.
    pub(super) fn fill(&mut self, path: &[u8]) -> Result<bool, PathError> {
        let doubts = Doubts::of(path);
        if !(doubts.slash || doubts.backslash || doubts.parameters || doubts.twice) {
            return Ok(false);
        }
        self.read_all(path, path, doubts)?;
        if doubts.twice {
            let mut twice = std::mem::take(&mut self.twice_decoded);
            twice.clear();
            let result = decode_again(path, &mut self.reread, &mut twice);
            let result = result.and_then(|()| self.read_all(path, &twice, Doubts::of(&twice)));
            self.twice_decoded = twice;
            result?;
        }
        Ok(true)
    }

    fn read_all(&mut self, path: &[u8], base: &[u8], doubts: Doubts) -> Result<(), PathError> {
        let choices = |doubt: bool| if doubt { &[false, true][..] } else { &[false][..] };
        let parameters = match doubts.parameters {
            true => &[Parameters::Kept, Parameters::CutFirst, Parameters::CutLast][..],
            false => &[Parameters::Kept][..],
        };
        for slash in choices(doubts.slash) {
            for backslash in choices(doubts.backslash) {
                for parameters in parameters {
                    self.reread.clear();
                    reread(base, (*slash, *backslash), *parameters, &mut self.reread);
                    self.add(path)?;
                }
            }
        }
        Ok(())
    }

    /// Takes up the normal form of `self.reread`, unless it is `path` or already there.
    fn add(&mut self, path: &[u8]) -> Result<(), PathError> {
        let start = self.bytes.len();
        resolve(&self.reread, &mut self.bytes, start)?;
        let new = &self.bytes[start..];
        if new == path || self.iter().any(|reading| reading == new) {
            self.bytes.truncate(start);
            return Ok(());
        }
        if self.ends.len() == READINGS_MAX {
            return Err(PathError::TooAmbiguous);
        }
        self.ends.push(self.bytes.len());
        Ok(())
    }
}

/// `path` decoded once more, and in normal spelling again. A path that hides something even then is refused.
fn decode_again(path: &[u8], peeled: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), PathError> {
    peeled.clear();
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        peeled.push(*byte);
        rest = match tail {
            [b'2', b'5', inner @ ..] if *byte == b'%' => {
                // `%25` that hides no triplet stays what it is.
                let hides = inner.len() >= 2 && inner[..2].iter().all(u8::is_ascii_hexdigit);
                if !hides {
                    peeled.extend_from_slice(b"25");
                }
                inner
            }
            tail => tail,
        };
    }
    decode(peeled, out)?;
    if Doubts::of(out).twice { Err(PathError::TooAmbiguous) } else { Ok(()) }
}

fn reread(path: &[u8], (slash, backslash): (bool, bool), parameters: Parameters, out: &mut Vec<u8>) {
    let mut cut = false;
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        let triplet = if *byte == b'%' { rest.get(..3) } else { None };
        let separates = (slash && triplet == Some(b"%2F")) || (backslash && triplet == Some(b"%5C"));
        let opens = match parameters {
            Parameters::Kept => false,
            Parameters::CutFirst => *byte == b';',
            Parameters::CutLast => *byte == b';' || triplet == Some(b"%3B"),
        };
        let ends = *byte == b'/' || (separates && parameters != Parameters::CutFirst);
        cut = (cut && !ends) || opens;
        let used = if separates || triplet == Some(b"%3B") { 3 } else { 1 };
        if !cut {
            out.extend_from_slice(if separates { b"/" } else { &rest[..used] });
        }
        rest = if used == 3 { &rest[3..] } else { tail };
    }
}
