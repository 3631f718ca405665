//! Heads and bodies as one line of text each, so that tests can compare and show them.

use bytes::Bytes;
use ringway_proto::resp::{FrameScan, Reply, RespVersion, decode};
use ringway_proto::{
    Body, ChunkedDecoder, Field, HeadLimits, Method, NormalPath, Progress, RequestHead, ResponseHead, Span, Step,
    Version,
};

use crate::cases::escape;

pub(crate) const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 8 * 1024, target_bytes_max: 4 * 1024, fields_max: 100 };

/// Lengths of input to show, one after the other; the last is all of it.
pub(crate) type Cuts<'a> = &'a [usize];

/// `ok ...`, `partial` or `error STATUS code`.
pub(crate) fn request(input: &[u8], cuts: Cuts<'_>) -> String {
    let mut head = RequestHead::new();
    let mut result = Ok(Progress::Partial);
    for cut in cuts {
        // Each time from another place in memory, as a growing buffer would be.
        let buf = input[..*cut].to_vec();
        result = head.parse(&buf, &LIMITS);
        if result != Ok(Progress::Partial) {
            break;
        }
    }
    match result {
        Ok(Progress::Complete) => request_text(input, &head),
        Ok(Progress::Partial) => "partial".to_owned(),
        Err(error) => format!("error {} {}", error.status(), error.code()),
    }
}

fn request_text(input: &[u8], head: &RequestHead) -> String {
    let text = |span: Span| escape(span.of(input));
    let mut out = format!("ok {} {:?} {}", text(head.method_span), head.target.form, text(head.target.whole));
    out += &format!(" path={}", text(head.target.path));
    if let Some(query) = head.target.query {
        out += &format!(" query={}", text(query));
    }
    out += &format!(" {}", tail(head.version, head.body, head.keep_alive));
    out += &format!(" authority={}", text(head.authority));
    for (flag, name) in [
        (head.upgrade, " upgrade"),
        (head.expect_continue, " expect-continue"),
        (head.te_trailers, " te-trailers"),
        (head.method == Method::Other, " other-method"),
    ] {
        out += if flag { name } else { "" };
    }
    out += &fields_text(input, &head.fields);
    out + &format!(" rest={}", escape(&input[head.head_len..]))
}

fn tail(version: Version, body: Body, keep_alive: bool) -> String {
    format!("{} {body:?} {}", version.as_str(), if keep_alive { "keep-alive" } else { "close" })
}

fn fields_text(input: &[u8], fields: &[Field]) -> String {
    let mut out = String::new();
    for field in fields {
        out += &format!(" [{}:{}", escape(field.name.of(input)), escape(field.value.of(input)));
        out += if field.nominated { " NOMINATED" } else { "" };
        out += if field.twin { " TWIN" } else { "" };
        out.push(']');
    }
    out
}

/// The same for an answer to `method`.
pub(crate) fn response(input: &[u8], cuts: Cuts<'_>, method: Method) -> String {
    let mut head = ResponseHead::new();
    let mut result = Ok(Progress::Partial);
    for cut in cuts {
        let buf = input[..*cut].to_vec();
        result = head.parse(&buf, &LIMITS, method);
        if result != Ok(Progress::Partial) {
            break;
        }
    }
    match result {
        Ok(Progress::Complete) => {}
        Ok(Progress::Partial) => return "partial".to_owned(),
        Err(error) => return format!("error {}", error.code()),
    }
    let mut out = format!("ok {} <{}>", head.status, escape(head.reason.of(input)));
    out += &format!(" {}", tail(head.version, head.body, head.keep_alive));
    out += if head.interim() { " interim" } else { "" };
    out += if head.upgrade { " upgrade" } else { "" };
    out += &fields_text(input, &head.fields);
    out + &format!(" rest={}", escape(&input[head.head_len..]))
}

/// `ok data=<...> trailers=<...> rest=<...>`, `partial ...` or `error code`.
pub(crate) fn chunked(input: &[u8], cuts: Cuts<'_>) -> String {
    let mut decoder = ChunkedDecoder::new();
    let mut data = Vec::new();
    let mut at = 0;
    for cut in cuts {
        loop {
            let (used, step) = match decoder.step(&input[at..*cut]) {
                Ok(step) => step,
                Err(error) => return format!("error {}", error.code()),
            };
            let from = at;
            at += used;
            match step {
                Step::Data(range) => data.extend_from_slice(&input[from..*cut][range]),
                Step::NeedMore => break,
                Step::End => {
                    let trailers = escape(decoder.trailers().wire());
                    return format!("ok data={} trailers={trailers} rest={}", escape(&data), escape(&input[at..]));
                }
            }
        }
        assert_eq!(at, *cut, "NeedMore means that all was consumed");
    }
    format!("partial data={}", escape(&data))
}

/// `normal`, `normal ~ reading ~ reading` or `error code`.
pub(crate) fn path(raw: &[u8]) -> String {
    let mut normal = NormalPath::new();
    match normal.set(raw) {
        Err(error) => format!("error {}", error.code()),
        Ok(()) => {
            let readings = normal.readings().map(|reading| format!(" ~ {}", escape(reading)));
            let mark = if normal.ambiguous && normal.readings().count() == 0 { " ~" } else { "" };
            escape(&normal.bytes) + mark + &readings.collect::<String>()
        }
    }
}

/// The first reply of the input, and what follows it.
pub(crate) fn resp(input: &[u8], cuts: Cuts<'_>) -> String {
    let mut scan = FrameScan::default();
    let mut end = Ok(None);
    for cut in cuts {
        end = scan.find_end(&input[..*cut]);
        if end != Ok(None) {
            break;
        }
    }
    let reply = end.and_then(|end| {
        let frame = end.map(|end| Bytes::copy_from_slice(&input[..end]));
        frame.map(|frame| Ok((decode(&frame, RespVersion::Resp3)?, frame.len()))).transpose()
    });
    match reply {
        Err(error) => format!("error {error:?}"),
        Ok(None) => "partial".to_owned(),
        Ok(Some((reply, end))) if end == input.len() => reply_text(&reply),
        Ok(Some((reply, end))) => format!("{} rest={}", reply_text(&reply), escape(&input[end..])),
    }
}

fn reply_text(reply: &Reply) -> String {
    let all = |list: &[Reply]| list.iter().map(reply_text).collect::<Vec<_>>().join(" ");
    match reply {
        Reply::Nil => "nil".to_owned(),
        Reply::Text(text) => format!("text({})", escape(text)),
        Reply::Integer(number) => format!("integer({number})"),
        Reply::Double(number) => format!("double({number})"),
        Reply::Boolean(truth) => format!("boolean({truth})"),
        Reply::List(list) => format!("list({})", all(list)),
        Reply::Map(pairs) => {
            let pair = |(key, value): &(Reply, Reply)| format!("{}={}", reply_text(key), reply_text(value));
            format!("map({})", pairs.iter().map(pair).collect::<Vec<_>>().join(" "))
        }
        Reply::Error(text) => format!("error({})", escape(text)),
        Reply::Push(list) => format!("push({})", all(list)),
    }
}
