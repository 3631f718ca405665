//! A slow and obvious reading of paths, written apart from the crate's.

/// The normal form as text, or the code of the error.
pub(crate) fn normalise(raw: &[u8]) -> Result<String, String> {
    if raw.is_empty() {
        return Ok("/".to_owned());
    }
    if raw[0] != b'/' {
        return Err("path_not_absolute".to_owned());
    }
    let spelled = spell(raw)?;
    let mut kept: Vec<&str> = Vec::new();
    let mut open = true;
    for segment in spelled.split('/').filter(|segment| !segment.is_empty()) {
        open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop().ok_or("path_above_root")?),
            _ => kept.push(segment),
        }
    }
    let slash = if (open || spelled.ends_with('/')) && !kept.is_empty() { "/" } else { "" };
    Ok(format!("/{}{slash}", kept.join("/")))
}

fn spell(raw: &[u8]) -> Result<String, String> {
    let mut out = String::new();
    let mut at = 0;
    let mut encoded: Vec<u8> = Vec::new();
    while at < raw.len() {
        let mut byte = raw[at];
        at += 1;
        if byte == b'%' {
            let digits = raw.get(at..at + 2).and_then(|digits| str::from_utf8(digits).ok());
            let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            byte = u8::from_str_radix(digits.ok_or("bad_percent_encoding")?, 16).map_err(|_| "bad_percent_encoding")?;
            at += 2;
            if byte == 0 {
                return Err("nul_in_path".to_owned());
            }
            encoded.push(byte);
            let bad_lead = byte == 0xc0 || byte == 0xc1 || byte > 0xf4;
            let overlong = matches!(encoded[..], [.., 0xe0, 0x80..=0x9f] | [.., 0xf0, 0x80..=0x8f]);
            if bad_lead || overlong {
                return Err("overlong_utf8_in_path".to_owned());
            }
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                _ => out += &format!("%{byte:02X}"),
            }
            continue;
        }
        encoded.clear();
        match byte {
            b'"' | b'<' | b'>' | b'[' | b']' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                out += &format!("%{byte:02X}")
            }
            b'?' | b'#' | 0..=0x20 | 0x7f.. => return Err("bad_path_byte".to_owned()),
            _ => out.push(char::from(byte)),
        }
    }
    Ok(out)
}

/// Whether a normal path holds something that another reader could take apart.
pub(crate) fn is_doubtful(path: &str) -> bool {
    ["%2F", "%5C", "%3B", ";", "%25"].iter().any(|sign| path.contains(sign))
}

/// The segments as a forgiving origin sees them, decoded `times` times, without empty ones and a last slash.
pub(crate) fn lax_origin(path: &[u8], times: usize) -> Vec<u8> {
    let mut decoded = path.to_vec();
    for _ in 0..times {
        let before = std::mem::take(&mut decoded);
        ringway_proto::decode_segment(&before, &mut decoded);
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        match segment.split(|byte| *byte == b';').next().unwrap_or_default() {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    [b"/", &kept.join(&b'/')[..]].concat()
}

pub(crate) fn without_last_slash(mut path: Vec<u8>) -> Vec<u8> {
    if path.len() > 1 && path.last() == Some(&b'/') {
        path.pop();
    }
    path
}
