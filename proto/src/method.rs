//! Request methods and protocol versions. Does not judge which ones a route allows.

/// A method as it was spelled: methods are case-sensitive (RFC 9110 9.1), so `get` is [`Method::Other`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token; its spelling is in the head's `method_span`.
    Other,
}

impl Method {
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// `_OTHER` for anything unknown, the spelling OpenTelemetry asks for: a label must not grow with what clients send.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other => "_OTHER",
        }
    }

    /// RFC 9110 9.2.2: may be sent again without the client knowing.
    pub fn idempotent(self) -> bool {
        self.safe() || matches!(self, Self::Put | Self::Delete)
    }

    /// RFC 9110 9.2.1.
    pub fn safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }
}

/// The two versions this codec speaks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

impl Version {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Method; 9] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Connect,
        Method::Options,
        Method::Trace,
        Method::Patch,
    ];

    #[test]
    fn names_go_both_ways_and_case_matters() {
        for method in ALL {
            assert_eq!(Method::of(method.as_str().as_bytes()), method);
            assert_eq!(Method::of(method.as_str().to_ascii_lowercase().as_bytes()), Method::Other);
        }
        assert_eq!(Method::of(b"PROPFIND").as_str(), "_OTHER");
    }

    #[test]
    fn safety_is_that_of_rfc_9110() {
        let idempotent: Vec<_> = ALL.into_iter().filter(|method| method.idempotent()).collect();
        assert_eq!(
            idempotent,
            [Method::Get, Method::Head, Method::Put, Method::Delete, Method::Options, Method::Trace]
        );
        assert!(!Method::Other.idempotent() && !Method::Put.safe() && Method::Head.safe());
    }
}
