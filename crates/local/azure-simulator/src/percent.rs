//! Percent-encoding of paths and queries (RFC 3986), with `+` as a space in queries only.

/// Decodes `%XX`; what is not a valid escape stays as it is.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'+' && plus_is_space {
            out.push(b' ');
        } else if byte == b'%' {
            let mut ahead = bytes.clone();
            let value = ahead.next().and_then(hex).zip(ahead.next().and_then(hex));
            if let Some((high, low)) = value {
                out.push(high * 16 + low);
                bytes = ahead;
            } else {
                out.push(byte);
            }
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let text = "$filter=atScope() and assignedTo('é%2')";
        assert_eq!(decode(&encode(text), true), text);
        assert_eq!(decode("a+b%zz%4", true), "a b%zz%4");
        assert_eq!(decode("a+b", false), "a+b");
    }
}
