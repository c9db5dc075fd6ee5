//! What the web server and `System.Uri` make of a client's request target. The handler of a forwarded request sees
//! the result, quirks included (protocol page, section 2.4).

/// The path after the web server decoded it and removed dot segments; what routes are matched against.
///
/// `None` means that the server refuses the request with 400 (an encoded NUL).
pub(crate) fn decode_path(raw: &str) -> Option<String> {
    let bytes = raw.as_bytes();
    let mut decoded: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            decoded.push(first);
            rest = after;
            continue;
        }
        match escape(rest) {
            // An encoded slash stays encoded, in the letter case it had.
            Some(b'/') => {
                decoded.extend_from_slice(rest.get(..3)?);
                rest = rest.get(3..)?;
            }
            Some(0) => return None,
            Some(byte) if byte.is_ascii() => {
                decoded.push(byte);
                rest = rest.get(3..)?;
            }
            Some(_) => {
                let (character, length) = utf8_escape(rest);
                match character {
                    Some(character) => {
                        decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    // Bytes that are no UTF-8 stay as they were.
                    None => decoded.extend_from_slice(rest.get(..length)?),
                }
                rest = rest.get(length..)?;
            }
            None => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    Some(remove_dot_segments(&String::from_utf8_lossy(&decoded)))
}

/// The byte that the escape at the start of `text` stands for.
fn escape(text: &[u8]) -> Option<u8> {
    match text {
        [b'%', high, low, ..] => {
            let high = char::from(*high).to_digit(16)?;
            let low = char::from(*low).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        }
        _ => None,
    }
}

/// Reads one UTF-8 character written as escapes. Returns it, or `None`, with the number of text bytes consumed.
fn utf8_escape(text: &[u8]) -> (Option<char>, usize) {
    let mut character = Vec::new();
    let mut rest = text;
    while let Some(byte) = escape(rest) {
        character.push(byte);
        rest = rest.get(3..).unwrap_or_default();
        match std::str::from_utf8(&character) {
            Ok(valid) => return (valid.chars().next(), character.len() * 3),
            Err(error) if error.error_len().is_some() => break,
            Err(_) => {}
        }
    }
    (None, 3)
}

/// Resolves `.` and `..` segments; a trailing one leaves a trailing slash.
fn remove_dot_segments(path: &str) -> String {
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let last = segments.len().saturating_sub(1);
    let mut kept: Vec<&str> = Vec::new();
    for (at, segment) in segments.into_iter().enumerate() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if at == last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// The path of the forwarded request: the decoded path went through a display URL and `System.Uri`, which cuts at
/// `?` and `#`, turns `\` into `/`, decodes unreserved escapes once more and resolves dots again.
pub(crate) fn forwarded_path(decoded: &str) -> String {
    let cut = decoded.split(['?', '#']).next().unwrap_or_default();
    let mut canonical = String::with_capacity(cut.len());
    let mut rest = cut;
    while let Some(next) = rest.chars().next() {
        let after = rest.get(next.len_utf8()..).unwrap_or_default();
        match next {
            '\\' => canonical.push('/'),
            '%' => match escape(rest.as_bytes()) {
                Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                    canonical.push(char::from(byte));
                    rest = rest.get(3..).unwrap_or_default();
                    continue;
                }
                Some(_) => {
                    canonical.push_str(rest.get(..3).unwrap_or_default());
                    rest = rest.get(3..).unwrap_or_default();
                    continue;
                }
                None => canonical.push_str("%25"),
            },
            plain if plain.is_ascii_alphanumeric() || "-._~/!$&'()*+,;=:@[]".contains(plain) => {
                canonical.push(plain);
            }
            other => percent_encode(&mut canonical, other),
        }
        rest = after;
    }
    remove_dot_segments(&canonical)
}

fn percent_encode(out: &mut String, character: char) {
    for byte in character.encode_utf8(&mut [0; 4]).as_bytes() {
        out.push_str(&format!("%{byte:02X}"));
    }
}

/// The query as ASP.NET's dictionary: names merge ignoring case (the last spelling stays), values in order.
pub(crate) fn parse_query(raw: &str) -> Vec<(String, Vec<String>)> {
    let mut query: Vec<(String, Vec<String>)> = Vec::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode_query(name), decode_query(value));
        match query.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            Some((known, values)) => {
                *known = name;
                values.push(value);
            }
            None => query.push((name, vec![value])),
        }
    }
    query
}

fn decode_query(text: &str) -> String {
    let bytes = text.replace('+', " ").into_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some((&first, after)) = rest.split_first() {
        match escape(rest) {
            Some(byte) => {
                decoded.push(byte);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The query of the forwarded request, with its `?`; empty if there is none.
pub(crate) fn forwarded_query(query: &[(String, Vec<String>)]) -> String {
    let mut out = String::new();
    for (name, values) in query {
        out.push(if out.is_empty() { '?' } else { '&' });
        encode_query(&mut out, name);
        out.push('=');
        encode_query(&mut out, &values.join(","));
    }
    out
}

/// .NET's `UrlEncoder.Default`.
fn encode_query(out: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || "-._~!$()*,;@".contains(character) {
            out.push(character);
        } else {
            percent_encode(out, character);
        }
    }
}
