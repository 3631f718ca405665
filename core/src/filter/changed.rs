//! What no longer holds of an answer once its body is another one.

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

/// Makes a strong `ETag` weak: the bytes changed, what they mean did not (RFC 9110 8.8.1).
pub(super) fn weaken_etag(answer: &mut AnswerEdit<'_, '_>) {
    let Some(tag) = answer.field("etag") else { return };
    if let (Ok(tag), false) = (str::from_utf8(&tag), tag.starts_with(b"W/")) {
        answer.push(HeaderEdit::Set("etag", format!("W/{tag}").into()));
    }
}
