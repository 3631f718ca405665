//! The rules one by one; whole heads are in the fixtures.

use super::*;

/// Takes the fields in order, each from a buffer of its own.
fn taken(side: Side, version: Version, fields: &[(&str, &str)]) -> Result<(Framing, Vec<&'static str>), FramingError> {
    let mut framing = Framing::default();
    let mut twins = Vec::new();
    for (name, value) in fields {
        let buf = [name.as_bytes(), value.as_bytes()].concat();
        let (name, value) = (Span::new(0, name.len()), Span::new(name.len(), buf.len()));
        let line = Line { name, value, known: Known::of(name.of(&buf)) };
        if framing.take(side, version, &buf, line)? {
            twins.push(Known::twin_of(name.of(&buf)).name());
        }
    }
    Ok((framing, twins))
}

fn request(fields: &[(&str, &str)]) -> Result<Framing, FramingError> {
    taken(Side::Client, Version::Http11, fields).map(|(framing, _)| framing)
}

fn refused(fields: &[(&str, &str)]) -> FramingError {
    request(fields).expect_err("must be refused")
}

#[test]
fn content_length_is_one_plain_number() {
    for (value, length) in [("0", 0), ("5", 5), ("007", 7), ("18446744073709551615", u64::MAX)] {
        let framing = request(&[("Content-Length", value)]).expect("valid");
        assert_eq!(framing.request_body(), Body::Length(length));
    }
    for value in
        ["", "+5", "-5", "5 5", "5,5", "5, 5", ",5", "5,", "0x5", "5.0", "5e0", "5Z", "٥", "18446744073709551616"]
    {
        assert_eq!(refused(&[("Content-Length", value)]), FramingError::BadContentLength, "{value}");
    }
    let twice = [("Content-Length", "5"), ("content-length", "5")];
    assert_eq!(refused(&twice), FramingError::DuplicateContentLength);
}

#[test]
fn transfer_encoding_is_chunked_alone() {
    for value in ["chunked", "cHuNkEd"] {
        assert_eq!(request(&[("Transfer-Encoding", value)]).expect("valid").request_body(), Body::Chunked);
    }
    for value in ["identity", "gzip", "chunk", "xchunked", "chunkedx", "'chunked'"] {
        let error = refused(&[("Transfer-Encoding", value)]);
        assert_eq!((error, error.status()), (FramingError::UnknownTransferEncoding, 501), "{value}");
    }
    for value in
        ["", "gzip, chunked", "chunked, chunked", "chunked,", ",chunked", "\"chunked\"", "chunked;q=1", "chun ked"]
    {
        let error = refused(&[("Transfer-Encoding", value)]);
        assert_eq!((error, error.status()), (FramingError::BadTransferEncoding, 400), "{value}");
    }
    let twice = [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")];
    assert_eq!(refused(&twice), FramingError::DuplicateTransferEncoding);
    let old = taken(Side::Client, Version::Http10, &twice[..1]);
    assert_eq!(old.expect_err("no such thing"), FramingError::TransferEncodingInHttp10);
}

#[test]
fn both_framings_are_refused_in_either_order_and_direction() {
    let both = [("Transfer-Encoding", "chunked"), ("Content-Length", "5")];
    let turned = [both[1], both[0]];
    for side in [Side::Client, Side::Origin] {
        for fields in [both, turned] {
            let error = taken(side, Version::Http11, &fields).expect_err("must be refused");
            assert_eq!(error, FramingError::TransferEncodingWithContentLength);
        }
    }
}

#[test]
fn body_of_an_answer_follows_rfc_9112_6_3() {
    let answer = |status, method, fields: &[(&str, &str)]| {
        let (framing, _) = taken(Side::Origin, Version::Http11, fields).expect("valid");
        framing.response_body(status, method)
    };
    let length = [("Content-Length", "5")];
    let chunked = [("Transfer-Encoding", "chunked")];
    for status in [100, 103, 101, 199, 204, 304] {
        assert_eq!(answer(status, Method::Get, &length), Body::None);
        assert_eq!(answer(status, Method::Get, &chunked), Body::None);
        assert_eq!(answer(status, Method::Get, &[]), Body::None);
    }
    assert_eq!(answer(200, Method::Head, &length), Body::None);
    assert_eq!(answer(404, Method::Head, &[]), Body::None);
    assert_eq!(answer(200, Method::Connect, &length), Body::None);
    assert_eq!(answer(403, Method::Connect, &length), Body::Length(5));
    assert_eq!(answer(200, Method::Get, &length), Body::Length(5));
    assert_eq!(answer(200, Method::Get, &chunked), Body::Chunked);
    assert_eq!(answer(200, Method::Get, &[]), Body::UntilClose);
    assert_eq!(answer(205, Method::Get, &[]), Body::UntilClose);
}

#[test]
fn connection_options_decide_persistence() {
    let persists = |version, value| {
        let (framing, _) = taken(Side::Client, version, &[("Connection", value)]).expect("valid");
        framing.persists(version)
    };
    assert!(persists(Version::Http11, "") && persists(Version::Http11, "x, ,y"));
    assert!(!persists(Version::Http11, "CLOSE") && !persists(Version::Http11, "keep-alive, close"));
    assert!(!persists(Version::Http10, "x") && persists(Version::Http10, "Keep-Alive"));
    assert!(!persists(Version::Http10, "close, keep-alive"));
    for value in ["a b", "a;b", "close\u{80}", "\"close\""] {
        assert_eq!(refused(&[("Connection", value)]), FramingError::BadConnection, "{value}");
    }
    let many = "x,".repeat(CONNECTION_OPTIONS_MAX);
    assert!(request(&[("Connection", &many)]).is_ok());
    assert_eq!(refused(&[("Connection", &many), ("Connection", "x")]), FramingError::BadConnection);
}

#[test]
fn upgrade_needs_its_pair_and_is_never_http2() {
    let upgrades = |version, fields: &[(&str, &str)]| {
        let (framing, _) = taken(Side::Client, version, fields).expect("valid");
        framing.upgrades(version)
    };
    let option = ("Connection", "x, Upgrade");
    assert!(upgrades(Version::Http11, &[option, ("Upgrade", "websocket")]));
    assert!(upgrades(Version::Http11, &[("Upgrade", "foo/1, bar"), option]));
    assert!(!upgrades(Version::Http10, &[option, ("Upgrade", "websocket")]));
    assert!(!upgrades(Version::Http11, &[("Upgrade", "websocket")]));
    assert!(!upgrades(Version::Http11, &[option]));
    assert!(!upgrades(Version::Http11, &[option, ("Upgrade", "websocket"), ("Upgrade", "websocket")]));
    for value in ["h2c", "H2C", "websocket, h2c", "h2", "h2-14", "HTTP/2.0", "", ",", "a/b/c", "a b", "websocket/"] {
        assert!(!upgrades(Version::Http11, &[option, ("Upgrade", value)]), "{value}");
    }
}

#[test]
fn look_alikes_are_refused_from_clients_and_dropped_from_origins() {
    for name in ["content_length", "Transfer.Encoding", "ho_st", "ContentLength", "content-length_", "content-length9"]
    {
        assert_eq!(refused(&[(name, "5")]), FramingError::LookAlike, "{name}");
        let (framing, twins) = taken(Side::Origin, Version::Http11, &[(name, "5")]).expect("dropped");
        assert_eq!(twins.len(), 1, "{name}");
        assert_eq!(framing.response_body(200, Method::Get), Body::UntilClose, "{name}");
    }
    let (_, twins) = taken(Side::Client, Version::Http11, &[("X_Forwarded_For", "1"), ("X-Fine", "1")]).expect("fine");
    assert_eq!(twins, ["x-forwarded-for"]);
}

/// Every spelling made of a framing name's letters in order, with one foreign byte put in or one dash gone, is either
/// the name itself or refused: none can reach an origin that squeezes names.
#[test]
fn no_squeezed_name_passes() {
    for name in ["content-length", "transfer-encoding"] {
        let squeeze = |name: &str| name.chars().filter(char::is_ascii_alphabetic).collect::<String>();
        for at in 0..=name.len() {
            for foreign in (0u8..=127).map(char::from).filter(|byte| !byte.is_ascii_alphabetic()) {
                if !scan::is_token(&[foreign as u8]) {
                    continue;
                }
                let mut spelled = name.to_owned();
                spelled.insert(at, foreign);
                assert_eq!(squeeze(&spelled), squeeze(name));
                assert_eq!(refused(&[(&spelled, "1")]), FramingError::LookAlike, "{spelled}");
                assert_eq!(refused(&[(&spelled.replace('-', ""), "1")]), FramingError::LookAlike, "{spelled}");
            }
        }
    }
}

#[test]
fn expectations() {
    let body = Body::Length(1);
    assert!(request(&[("Expect", "100-Continue")]).expect("valid").expects_continue(body));
    assert!(!request(&[("Expect", "100-continue")]).expect("valid").expects_continue(Body::None));
    let error = refused(&[("Expect", "100-continue, x")]);
    assert_eq!((error, error.status()), (FramingError::UnsupportedExpect, 417));
    let old = taken(Side::Client, Version::Http10, &[("Expect", "x")]).expect("ignored").0;
    assert!(!old.expects_continue(body));
}

#[test]
fn hosts() {
    assert_eq!(refused(&[("Host", "a"), ("Host", "a")]), FramingError::DuplicateHost);
    for value in ["", "a b", "u@a", "a/b", "a,b", "a:80x"] {
        assert_eq!(refused(&[("Host", value)]), FramingError::BadHost, "{value}");
    }
    let buf = b"a.b:80 A.B c.d";
    let framing = Framing { host: Some(Span::new(0, 6)), ..Framing::default() };
    let none = Framing::default();
    assert_eq!(framing.authority(buf, Version::Http11, None), Ok(Span::new(0, 6)));
    assert_eq!(framing.authority(buf, Version::Http11, Some((Span::new(7, 10), 80))), Ok(Span::new(7, 10)));
    let other = framing.authority(buf, Version::Http11, Some((Span::new(7, 10), 443)));
    assert_eq!(other, Err(FramingError::HostMismatch));
    let other = framing.authority(buf, Version::Http10, Some((Span::new(11, 14), 80)));
    assert_eq!(other, Err(FramingError::HostMismatch));
    assert_eq!(none.authority(buf, Version::Http11, Some((Span::new(7, 10), 80))), Err(FramingError::MissingHost));
    assert_eq!(none.authority(buf, Version::Http10, None), Ok(Span::default()));
}
