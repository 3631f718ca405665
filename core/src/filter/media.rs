//! Media types that an operator names, perhaps with a `*` (RFC 9110 8.3.1).

/// `text/*`, `application/*+json`, or a whole type; in lower case.
pub(super) struct MediaPattern {
    start: String,
    /// `None`: the start is all of it.
    end: Option<String>,
}

impl MediaPattern {
    pub(super) fn parse(text: &str) -> Option<MediaPattern> {
        let lower = text.to_ascii_lowercase();
        let (main, sub) = lower.split_once('/')?;
        let is_token = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
        if main.is_empty() || sub.is_empty() || !is_token(main) {
            return None;
        }
        match sub.split_once('*') {
            None => is_token(sub).then(|| MediaPattern { start: lower.clone(), end: None }),
            Some(("", end)) if is_token(end) => {
                Some(MediaPattern { start: format!("{main}/"), end: Some(end.to_owned()) })
            }
            Some(_) => None,
        }
    }

    /// Of a value of `Content-Type`, whatever its parameters.
    pub(super) fn matches(&self, content_type: &[u8]) -> bool {
        let media = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let starts =
            |len: usize| media.get(..len).is_some_and(|start| start.eq_ignore_ascii_case(self.start.as_bytes()));
        match &self.end {
            None => media.eq_ignore_ascii_case(self.start.as_bytes()),
            Some(end) => {
                let Some(at) = media.len().checked_sub(end.len()) else { return false };
                at >= self.start.len() && starts(self.start.len()) && media[at..].eq_ignore_ascii_case(end.as_bytes())
            }
        }
    }
}
