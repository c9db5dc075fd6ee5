//! Keys of partitions and rows, made so that nothing a user or Azure names can break one.

use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The longest key, in characters: Table Storage takes 1 KiB of UTF-16.
const MAX_KEY: usize = 512;

/// A partition or row key that every store takes: at most 512 ASCII characters out of letters, digits and
/// `. - _ ~`. Keys compare by bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// Joins `parts` with `_`. In a part, everything but ASCII letters, digits, `.` and `-` is written as
    /// `~` and two hexadecimal digits a byte, so different parts never make the same key; what would be too
    /// long is cut and ends in `~~`, which no uncut key contains, and a digest of the whole.
    pub fn new<I: IntoIterator<Item = S>, S: AsRef<str>>(parts: I) -> Key {
        let mut key = String::new();
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                key.push('_');
            }
            for byte in part.as_ref().bytes() {
                if byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-' {
                    key.push(char::from(byte));
                } else {
                    // Writing to a String cannot fail.
                    let _ = write!(key, "~{byte:02x}");
                }
            }
        }
        if key.len() > MAX_KEY {
            let digest = digest(&key, 32);
            key.truncate(MAX_KEY - digest.len() - 2);
            key.push_str("~~");
            key.push_str(&digest);
        }
        Key(key)
    }

    /// The key that a store gives back as `text`; `None` when no key reads like that.
    pub fn from_stored(text: &str) -> Option<Key> {
        let takes = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~');
        (text.len() <= MAX_KEY && text.bytes().all(takes)).then(|| Key(text.to_owned()))
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key that sorts before every key that begins with this one and `_`, and after all shorter ones.
    pub(crate) fn first_under(&self) -> Key {
        self.followed_by("_")
    }

    /// A key that sorts after every key that begins with this one and `_`.
    pub(crate) fn last_under(&self) -> Key {
        self.followed_by("_~~")
    }

    fn followed_by(&self, end: &str) -> Key {
        let mut key = self.0.clone();
        // Keys are ASCII, so any place is one to cut at.
        key.truncate(MAX_KEY - end.len());
        key.push_str(end);
        Key(key)
    }
}

/// The first `digits` (at most 64) hexadecimal digits of the SHA-256 of `text`.
pub(crate) fn digest(text: &str, digits: usize) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}
