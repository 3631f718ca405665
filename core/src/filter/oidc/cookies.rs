//! The names and the form of the filter's cookies. A session that does not fit into one cookie lies in several; each login
//! that is under way has one of its own, so that several tabs can log in. What lies in them is `seal`'s to say.

use ringway_proto::cookies;

use crate::filter::RequestEdit;
use crate::filter::credentials::{cookie_lines, strip_cookies};

/// Of a value: browsers take 4096 bytes of name, value and attributes.
pub(super) const VALUE_BYTES_MAX: usize = 3800;
/// Cookies of one session.
pub(super) const PARTS_MAX: usize = 4;
/// Bytes of a sealed session: all parts, without the digit that says how many they are.
pub(super) const SESSION_BYTES_MAX: usize = PARTS_MAX * VALUE_BYTES_MAX - 1;
/// Logins under way in one browser; the oldest give way.
pub(super) const LOGINS_MAX: usize = 8;
/// Bytes of a state that name its cookie.
const NAMED_BYTES: usize = 16;

/// Of one filter. The configured name has no dot: no filter's cookie is part of another's.
pub(super) struct Names {
    session: String,
    login: String,
}

impl Names {
    pub(super) fn new(name: &str) -> Names {
        Names { session: format!("__Host-{name}"), login: format!("__Host-{name}.login.") }
    }

    /// `.1` for the second part of a session.
    fn part(&self, number: usize) -> String {
        match number {
            0 => self.session.clone(),
            number => format!("{}.{number}", self.session),
        }
    }

    /// The cookie of the login with this state.
    pub(super) fn login(&self, state: &str) -> String {
        format!("{}{}", self.login, state.get(..NAMED_BYTES).unwrap_or(state))
    }

    fn part_number(&self, name: &[u8]) -> Option<usize> {
        match name.strip_prefix(self.session.as_bytes())? {
            [] => Some(0),
            [b'.', digit @ b'1'..=b'9'] => Some(usize::from(digit - b'0')).filter(|number| *number < PARTS_MAX),
            _ => None,
        }
    }

    fn is_ours(&self, name: &[u8]) -> bool {
        self.part_number(name).is_some() || name.starts_with(self.login.as_bytes())
    }

    /// Puts the sealed session that a request brings behind `out`; false if there is none, or what there is is no whole.
    pub(super) fn session(&self, request: &RequestEdit<'_, '_>, out: &mut Vec<u8>) -> bool {
        let mut parts: [Option<&[u8]>; PARTS_MAX] = [None; PARTS_MAX];
        for (name, value) in cookie_lines(request).flat_map(cookies) {
            if let Some(number) = self.part_number(name)
                && parts[number].replace(value).is_some()
            {
                // Two of one name: which is the browser's cannot be known.
                return false;
            }
        }
        let Some((count @ b'1'..=b'9', first)) = parts[0].and_then(<[u8]>::split_first) else { return false };
        parts[0] = Some(first);
        let count = usize::from(count - b'0');
        let Some(wanted) = parts.get(..count) else { return false };
        wanted.iter().all(|part| part.map(|bytes| out.extend_from_slice(bytes)).is_some())
    }

    /// Values of `Set-Cookie` for a sealed session. Parts of a longer one that the request brings are taken back.
    pub(super) fn set_session(&self, request: &RequestEdit<'_, '_>, sealed: &str, age_s: u64) -> Vec<String> {
        let count = (sealed.len() + 1).div_ceil(VALUE_BYTES_MAX);
        let (first, mut rest) = sealed.split_at(sealed.len().min(VALUE_BYTES_MAX - 1));
        let mut all = vec![set(&self.part(0), &format!("{count}{first}"), age_s)];
        for number in 1..count {
            let (part, more) = rest.split_at(rest.len().min(VALUE_BYTES_MAX));
            all.push(set(&self.part(number), part, age_s));
            rest = more;
        }
        all.extend(self.brought_parts(request).filter(|number| *number >= count).map(|number| end(&self.part(number))));
        all
    }

    /// Values of `Set-Cookie` that take a session back.
    pub(super) fn end_session(&self, request: &RequestEdit<'_, '_>) -> Vec<String> {
        self.brought_parts(request).map(|number| end(&self.part(number))).collect()
    }

    fn brought_parts(&self, request: &RequestEdit<'_, '_>) -> impl Iterator<Item = usize> {
        let mut is_there = [false; PARTS_MAX];
        for number in cookie_lines(request).flat_map(cookies).filter_map(|(name, _)| self.part_number(name)) {
            is_there[number] = true;
        }
        (0..PARTS_MAX).filter(move |number| is_there[*number])
    }

    /// Names and values of the logins under way.
    pub(super) fn logins<'r>(&self, request: &RequestEdit<'_, 'r>) -> Vec<(&'r str, &'r [u8])> {
        let all = cookie_lines(request).flat_map(cookies);
        let ours = all.filter(|(name, _)| name.starts_with(self.login.as_bytes()));
        ours.filter_map(|(name, value)| Some((str::from_utf8(name).ok().filter(|name| is_plain(name))?, value)))
            .collect()
    }

    /// Takes all of them out of what the origin sees.
    pub(super) fn strip(&self, request: &mut RequestEdit<'_, '_>) {
        strip_cookies(request, |name| self.is_ours(name));
    }
}

/// A name that can be said back.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// `__Host-` wants `Secure` and `Path=/` and no `Domain` (RFC 6265bis section 4.1.3.2). `Lax`: the provider leads back here
/// by a link, and no other site's forms or scripts shall bring them.
pub(super) fn set(name: &str, value: &str, age_s: u64) -> String {
    format!("{name}={value}; Path=/; Max-Age={age_s}; Secure; HttpOnly; SameSite=Lax")
}

pub(super) fn end(name: &str) -> String {
    set(name, "", 0)
}
