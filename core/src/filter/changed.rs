//! What no longer holds of an answer once its body is another one.

use ringway_proto::named;

use super::AnswerEdit;
use crate::exchange::HeaderEdit;

/// Takes out what describes the bytes that came: ranges of them (RFC 9110 14.3), digests (RFC 9530, RFC 3230, RFC 1864).
pub(super) fn forget_validators(answer: &mut AnswerEdit<'_, '_>) {
    for name in ["accept-ranges", "content-digest", "repr-digest", "digest", "content-md5"] {
        if answer.has(name) {
            answer.push(HeaderEdit::Remove(name));
        }
    }
}

/// True if the client or the origin says `no-transform` (RFC 9110 7.7, RFC 9111 5.2.1.6).
pub(super) fn is_forbidden(answer: &AnswerEdit<'_, '_>) -> bool {
    let no_transform = |value: &[u8]| {
        value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    };
    let mut asked = named(&answer.of.request.fields, answer.of.request_bytes, "cache-control");
    answer.any("cache-control", no_transform)
        || asked.any(|field| no_transform(field.value.of(answer.of.request_bytes)))
}

/// Makes a strong `ETag` weak: the bytes changed, what they mean did not (RFC 9110 8.8.1).
pub(super) fn weaken_etag(answer: &mut AnswerEdit<'_, '_>) {
    let Some(tag) = answer.field("etag") else { return };
    if let (Ok(tag), false) = (str::from_utf8(&tag), tag.starts_with(b"W/")) {
        answer.push(HeaderEdit::Set("etag", format!("W/{tag}").into()));
    }
}

/// Makes a 304 say what the 200 would (RFC 9110 15.4.5), of which some clients got the body changed.
pub(super) fn confirm(answer: &mut AnswerEdit<'_, '_>) {
    answer.push(HeaderEdit::Add("vary", "Accept-Encoding".into()));
    if is_of_changed(answer) {
        weaken_etag(answer);
    }
}

/// True of a 304 to a client that has the changed answer: it knows its `ETag` as the weak one that was made of the
/// origin's, and could not bring the strong one together with what it has (RFC 9111 4.3.4).
fn is_of_changed(answer: &AnswerEdit<'_, '_>) -> bool {
    let Some(tag) = answer.field("etag").filter(|tag| !tag.starts_with(b"W/")) else { return false };
    let weak = [b"W/", &*tag].concat();
    let mut known = named(&answer.of.request.fields, answer.of.request_bytes, "if-none-match");
    known.any(|field| memchr::memmem::find(field.value.of(answer.of.request_bytes), &weak).is_some())
}
