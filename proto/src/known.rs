//! Field names this gateway has an opinion on: one-compare lookup, hop-by-hop and forwarding sets, and look-alikes.
//! Does not parse field lines (`field`) nor decide framing (`framing`).

macro_rules! known {
    ($($variant:ident $name:literal,)*) => {
        /// A field name with a meaning for framing, forwarding, routing or filters. `Other` is every other name.
        #[repr(u8)]
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
        pub enum Known {
            #[default]
            Other = 0,
            $($variant,)*
        }

        /// All but `Other`, in the order of their discriminants.
        const ALL: &[Known] = &[$(Known::$variant,)*];
        /// Lower case; `NAMES[i]` belongs to `ALL[i]`.
        const NAMES: &[&str] = &[$($name,)*];
    };
}

known! {
    Host "host",
    Connection "connection",
    ContentLength "content-length",
    TransferEncoding "transfer-encoding",
    Te "te",
    Trailer "trailer",
    Upgrade "upgrade",
    KeepAlive "keep-alive",
    ProxyConnection "proxy-connection",
    ProxyAuthenticate "proxy-authenticate",
    ProxyAuthorization "proxy-authorization",
    Expect "expect",
    Via "via",
    Forwarded "forwarded",
    XForwardedFor "x-forwarded-for",
    XForwardedProto "x-forwarded-proto",
    XForwardedHost "x-forwarded-host",
    XForwardedPort "x-forwarded-port",
    XForwardedPrefix "x-forwarded-prefix",
    XForwardedServer "x-forwarded-server",
    XForwardedUri "x-forwarded-uri",
    XForwardedMethod "x-forwarded-method",
    XForwardedScheme "x-forwarded-scheme",
    XForwardedSsl "x-forwarded-ssl",
    XRealIp "x-real-ip",
    XRequestId "x-request-id",
    MaxForwards "max-forwards",
    Date "date",
    Server "server",
    Authorization "authorization",
    Cookie "cookie",
    SetCookie "set-cookie",
    UserAgent "user-agent",
    Referer "referer",
    ContentType "content-type",
    Http2Settings "http2-settings",
    ContentEncoding "content-encoding",
    Location "location",
    RetryAfter "retry-after",
    CacheControl "cache-control",
    Traceparent "traceparent",
    Tracestate "tracestate",
    Accept "accept",
    AcceptEncoding "accept-encoding",
    AcceptLanguage "accept-language",
    AcceptRanges "accept-ranges",
    Age "age",
    Allow "allow",
    ContentLocation "content-location",
    ContentRange "content-range",
    Etag "etag",
    Expires "expires",
    IfMatch "if-match",
    IfModifiedSince "if-modified-since",
    IfNoneMatch "if-none-match",
    IfRange "if-range",
    IfUnmodifiedSince "if-unmodified-since",
    LastModified "last-modified",
    Origin "origin",
    Pragma "pragma",
    Range "range",
    SecWebsocketAccept "sec-websocket-accept",
    SecWebsocketExtensions "sec-websocket-extensions",
    SecWebsocketKey "sec-websocket-key",
    SecWebsocketProtocol "sec-websocket-protocol",
    SecWebsocketVersion "sec-websocket-version",
    Vary "vary",
    WwwAuthenticate "www-authenticate",
}

impl Known {
    /// Which name this is, in any case.
    pub fn of(name: &[u8]) -> Self {
        if name.iter().all(|byte| *byte > b' ') { Self::of_token(name) } else { Self::Other }
    }

    /// [`Known::of`] for a name that is known to be a token: folding case by setting bit 5 maps a few control bytes
    /// onto `-` and digits, which a token cannot hold.
    #[inline]
    pub(crate) fn of_token(name: &[u8]) -> Self {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Self::Other;
        }
        SPELLED.find(name)
    }

    /// Lower-case spelling; empty for `Other`.
    pub fn name(self) -> &'static str {
        (self as usize).checked_sub(1).map_or("", |index| NAMES[index])
    }

    /// RFC 9110 7.6.1: ends here, whatever `Connection` says. `Trailer` is not among them: trailers are relayed.
    #[inline]
    pub fn hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::ProxyConnection
                | Self::KeepAlive
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }

    /// Speaks about the client of a hop before us: believed from trusted proxies only.
    #[inline]
    pub fn forwarding(self) -> bool {
        matches!(
            self,
            Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedProto
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XForwardedPrefix
                | Self::XForwardedServer
                | Self::XForwardedUri
                | Self::XForwardedMethod
                | Self::XForwardedScheme
                | Self::XForwardedSsl
                | Self::XRealIp
        )
    }

    /// The known name that `name`, itself not known, could be taken for: by an origin that maps `_` and its like to `-`
    /// (CGI, WSGI), or that drops what is no letter or digit. `Other`: none. For the two that frame a body digits are
    /// dropped as well. Nearly all names leave at the first tests.
    #[inline]
    pub(crate) fn twin_of(name: &[u8]) -> Self {
        if let [first, second, .., before, last] = name {
            // Where all four are letters, they are the squeezed name's, too.
            // `X-Something` is what most unknown names look like.
            let second = if *second == b'-' { &name[2] } else { second };
            let letters = (letter(*first), letter(*second), letter(*before), letter(*last));
            if let (Some(first), Some(second), Some(before), Some(last)) = letters {
                let near = NEAR[first];
                if near[0] & (1 << second) == 0 || near[1] & (1 << before) == 0 || near[2] & (1 << last) == 0 {
                    return Self::Other;
                }
            }
        }
        twin_of_slow(name)
    }
}

/// Longest name of the table, and what the fingerprint covers.
const NAME_BYTES_MAX: usize = 32;
/// Sparse enough for a seed without collisions to be found soon, small enough for the nearest cache.
const SLOT_COUNT: usize = 512;
const CASE_BITS: u64 = 0x2020_2020_2020_2020;

/// All bytes of a name, folded to lower case, in four words (the loads overlap where the length is no multiple).
type Print = [u64; 4];

#[inline]
const fn fingerprint(name: &[u8]) -> Print {
    let len = name.len();
    if len >= 16 {
        [word(name, 0), word(name, 8), word(name, len - 16), word(name, len - 8)]
    } else if len >= 8 {
        [word(name, 0), word(name, len - 8), 0, 0]
    } else if len >= 4 {
        [half(name, 0) | half(name, len - 4) << 32, 0, 0, 0]
    } else if len >= 1 {
        let bytes = [name[0], name[len / 2], name[len - 1], 0, 0, 0, 0, 0];
        [u64::from_le_bytes(bytes) | CASE_BITS, 0, 0, 0]
    } else {
        [0; 4]
    }
}

#[inline]
const fn word(name: &[u8], at: usize) -> u64 {
    match name.split_at(at).1.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes) | CASE_BITS,
        None => 0,
    }
}

#[inline]
const fn half(name: &[u8], at: usize) -> u64 {
    match name.split_at(at).1.first_chunk::<4>() {
        Some(bytes) => (u32::from_le_bytes(*bytes) | CASE_BITS as u32) as u64,
        None => 0,
    }
}

/// In registers; the comparison of arrays would call `memcmp`.
#[inline]
fn same(a: &Print, b: &Print) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
}

#[inline]
const fn slot(print: &Print, len: usize, seed: u64) -> usize {
    let mixed = print[0] ^ print[1].rotate_left(23) ^ print[3].rotate_left(41) ^ len as u64;
    (mixed.wrapping_mul(seed) >> (64 - SLOT_COUNT.trailing_zeros())) as usize
}

/// A hash table without collisions over all known names in one spelling, made by the compiler.
struct Table {
    seed: u64,
    /// Index + 1 into [`ALL`]; 0: empty.
    slots: [u8; SLOT_COUNT],
    prints: [Print; NAMES.len()],
    lens: [u8; NAMES.len()],
}

static SPELLED: Table = Table::new(false);
/// Without what is no letter or digit.
static SQUEEZED: Table = Table::new(true);

impl Table {
    /// Tries seeds until no two names share a slot, so that adding a name needs no thought.
    const fn new(squeezed: bool) -> Self {
        let mut table = Self {
            seed: 0x9e37_79b9_7f4a_7c15,
            slots: [0; SLOT_COUNT],
            prints: [[0; 4]; NAMES.len()],
            lens: [0; NAMES.len()],
        };
        let mut at = 0;
        while at < NAMES.len() {
            let name = NAMES[at].as_bytes();
            assert!(name.len() <= NAME_BYTES_MAX);
            let short = squeeze(name);
            let name = if squeezed { short.0.split_at(short.1).0 } else { name };
            table.prints[at] = fingerprint(name);
            table.lens[at] = name.len() as u8;
            at += 1;
        }
        while !table.fill() {
            table.seed = table.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(2) | 1;
        }
        table
    }

    /// `false`: two names fall into one slot.
    const fn fill(&mut self) -> bool {
        self.slots = [0; SLOT_COUNT];
        let mut at = 0;
        while at < NAMES.len() {
            let slot = slot(&self.prints[at], self.lens[at] as usize, self.seed);
            if self.slots[slot] != 0 {
                return false;
            }
            self.slots[slot] = at as u8 + 1;
            at += 1;
        }
        true
    }

    /// `name` has 1 to [`NAME_BYTES_MAX`] bytes.
    #[inline]
    fn find(&self, name: &[u8]) -> Known {
        let print = fingerprint(name);
        let entry = self.slots[slot(&print, name.len(), self.seed)];
        match usize::from(entry).checked_sub(1) {
            Some(at) if same(&self.prints[at], &print) && usize::from(self.lens[at]) == name.len() => ALL[at],
            _ => Known::Other,
        }
    }
}

/// The letters and digits of `name`, and how many they are; past [`NAME_BYTES_MAX`] none are taken.
const fn squeeze(name: &[u8]) -> ([u8; NAME_BYTES_MAX], usize) {
    let mut out = [0; NAME_BYTES_MAX];
    let (mut at, mut len) = (0, 0);
    while at < name.len() {
        if name[at].is_ascii_alphanumeric() {
            if len == NAME_BYTES_MAX {
                return (out, 0);
            }
            out[len] = name[at];
            len += 1;
        }
        at += 1;
    }
    (out, len)
}

/// First letter → sets of letters that come second, last but one and last in the known names that begin with it,
/// dashes aside.
static NEAR: [[u32; 3]; 26] = {
    let mut out = [[0; 3]; 26];
    let mut at = 0;
    while at < NAMES.len() {
        let (name, len) = squeeze(NAMES[at].as_bytes());
        let near = &mut out[(name[0] - b'a') as usize];
        near[0] |= 1 << (name[1] - b'a');
        near[1] |= 1 << (name[len - 2] - b'a');
        near[2] |= 1 << (name[len - 1] - b'a');
        at += 1;
    }
    out
};

/// Place in the alphabet.
#[inline]
fn letter(byte: u8) -> Option<usize> {
    let place = (byte | 0x20).wrapping_sub(b'a');
    (place < 26).then_some(usize::from(place))
}

fn twin_of_slow(name: &[u8]) -> Known {
    for framing in [Known::ContentLength, Known::TransferEncoding] {
        if same_letters(name, framing.name().as_bytes()) {
            return framing;
        }
    }
    match squeeze(name) {
        (_, 0) => Known::Other,
        (letters, len) => SQUEEZED.find(&letters[..len]),
    }
}

fn same_letters(a: &[u8], b: &[u8]) -> bool {
    let letters = |byte: &&u8| byte.is_ascii_alphabetic();
    a.iter().filter(letters).map(u8::to_ascii_lowercase).eq(b.iter().filter(letters).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_no_near_miss_is() {
        for (known, name) in ALL.iter().zip(NAMES) {
            let upper = name.to_ascii_uppercase();
            assert_eq!(Known::of(name.as_bytes()), *known);
            assert_eq!(Known::of(upper.as_bytes()), *known);
            assert_eq!(known.name(), *name);
            for at in 0..name.len() {
                for byte in 0..=255u8 {
                    let mut near = name.as_bytes().to_vec();
                    near[at] = byte;
                    let same = near.eq_ignore_ascii_case(name.as_bytes());
                    assert_eq!(Known::of(&near) == *known, same, "{name} with {byte:#x} at {at}");
                }
            }
            assert_ne!(Known::of(&name.as_bytes()[1..]), *known);
            assert_ne!(Known::of(format!("{name}x").as_bytes()), *known);
        }
        assert_eq!(Known::of(b""), Known::Other);
        assert_eq!(Known::of(&[b'a'; 300]), Known::Other);
    }

    #[test]
    fn look_alikes_are_found() {
        let twins: &[(&str, Known)] = &[
            ("content_length", Known::ContentLength),
            ("Content.Length", Known::ContentLength),
            ("ContentLength", Known::ContentLength),
            ("content-length-", Known::ContentLength),
            ("-content-length", Known::ContentLength),
            ("c-ontent-length", Known::ContentLength),
            ("content-length2", Known::ContentLength),
            ("1content-length", Known::ContentLength),
            ("transfer!encoding", Known::TransferEncoding),
            ("TransferEncoding", Known::TransferEncoding),
            ("transfer_encoding", Known::TransferEncoding),
            ("transfer0encoding", Known::TransferEncoding),
            ("ho_st", Known::Host),
            ("host_", Known::Host),
            ("X_Forwarded_For", Known::XForwardedFor),
            ("XForwardedFor", Known::XForwardedFor),
            ("X_Real_Ip", Known::XRealIp),
            ("set.cookie", Known::SetCookie),
            ("http2_settings", Known::Http2Settings),
        ];
        for (name, known) in twins {
            assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
            assert_eq!(Known::twin_of(name.as_bytes()), *known, "{name}");
        }
        for name in
            ["x-api-key", "content-lengths", "hosts", "host1", "x", "_", "9", "sec-fetch-dest", "dnt", "contentlengt"]
        {
            assert_eq!(Known::twin_of(name.as_bytes()), Known::Other, "{name}");
        }
    }

    #[test]
    fn sets_are_those_of_the_rfc() {
        let hop: Vec<_> = ALL.iter().filter(|known| known.hop_by_hop()).map(|known| known.name()).collect();
        let want =
            ["connection", "transfer-encoding", "te", "upgrade", "keep-alive", "proxy-connection", "http2-settings"];
        assert_eq!(hop, want);
        for known in ALL {
            let name = known.name();
            let want = name.starts_with("x-forwarded-") || name == "x-real-ip" || name == "forwarded";
            assert_eq!(known.forwarding(), want, "{name}");
        }
    }
}
