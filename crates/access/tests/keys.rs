//! Keys: any name makes one, different names make different ones, and every store takes it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::keys::Key;
use ajar_access::ports::store::Range;
use proptest::collection::vec;
use proptest::prelude::*;

/// Names with the characters that have a meaning in keys, and any others.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c~_.27-]{0,6}", any::<String>(), "[x/]{300,700}"]
}

proptest! {
    #[test]
    fn every_store_takes_a_key(parts in vec(name(), 0..4)) {
        let key = Key::new(&parts);
        prop_assert!(key.as_str().len() <= 512);
        prop_assert!(
            key.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte)),
            "{key:?}"
        );
        prop_assert_eq!(Key::from_stored(key.as_str()), Some(key));
    }

    #[test]
    fn different_names_make_different_keys(a in vec(name(), 1..4), b in vec(name(), 1..4)) {
        prop_assert_eq!(a == b, Key::new(&a) == Key::new(&b));
    }

    /// As long as the whole is not cut for its length.
    #[test]
    fn what_is_under_a_key_is_in_its_range(parts in vec("[a-c~_.é]{0,6}", 1..3), more in vec("[a-c~_.é\u{0}]{0,6}", 1..3)) {
        let range = Range::rows_under(Key::new(["p"]), &Key::new(&parts));
        let under = Key::new(parts.iter().chain(&more));
        prop_assert!(range.first_row.unwrap() <= under);
        prop_assert!(under <= range.last_row.unwrap());
    }
}

/// The keys of rows that exist must stay what they are: these were worked out by hand.
#[test]
fn a_key_is_written_like_this() {
    for (parts, key) in [
        (vec!["vm-1.x"], "vm-1.x"),
        (vec!["a", "b"], "a_b"),
        (vec!["a_b"], "a~5fb"),
        (vec!["~"], "~7e"),
        (vec!["/a/B"], "~2fa~2fB"),
        (vec!["é"], "~c3~a9"),
        (vec!["", ""], "_"),
    ] {
        assert_eq!(Key::new(&parts).as_str(), key);
    }
}

#[test]
fn a_long_name_keeps_its_beginning_and_ends_in_a_digest() {
    assert_eq!(Key::new(["x".repeat(512)]).as_str(), "x".repeat(512));
    let long = Key::new(["x".repeat(513)]);
    assert_eq!(long.as_str().len(), 512);
    let (beginning, digest) = long.as_str().rsplit_once("~~").unwrap();
    assert_eq!(beginning, "x".repeat(478));
    assert!(digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
}

#[test]
fn a_text_that_is_no_key_is_not_taken_for_one() {
    for text in ["a b", "a/b", "a'b", "é", "a\0", &"x".repeat(513)] {
        assert_eq!(Key::from_stored(text), None, "{text:?}");
    }
}
