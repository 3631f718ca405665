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
