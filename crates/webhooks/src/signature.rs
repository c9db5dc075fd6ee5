//! The signature of Standard Webhooks 1.0: HMAC-SHA256 over id, time and body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What every secret begins with, so that a leaked one is recognised.
const PREFIX: &str = "whsec_";

/// Sizes of a secret that the specification allows, in bytes.
const SIZES: std::ops::RangeInclusive<usize> = 24..=64;

/// The secret that a receiver shares with this deployment. It is never shown.
#[derive(Clone)]
pub struct SigningSecret(Hmac<Sha256>);

/// The text is no secret of the right form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "should be `whsec_` and 24 to 64 random bytes in base64, such as the output of `openssl rand -base64 32` after `whsec_`"
)]
pub struct SecretError;

impl SigningSecret {
    /// Reads a secret as Standard Webhooks writes it.
    ///
    /// # Errors
    /// [`SecretError`], without the text.
    pub fn parse(text: &str) -> Result<SigningSecret, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError)?;
        if !SIZES.contains(&bytes.len()) {
            return Err(SecretError);
        }
        Hmac::new_from_slice(&bytes).map(SigningSecret).map_err(|_| SecretError)
    }

    /// The value of the header `webhook-signature`. `at` is in seconds since 1970, as in `webhook-timestamp`.
    pub(crate) fn sign(&self, id: &str, at: i64, body: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the reference libraries of Standard Webhooks are tested with.
    #[test]
    fn signs_the_published_example_as_the_reference_libraries_do() {
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_has_the_prefix_and_the_size_and_is_never_shown() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for good in [24, 32, 64] {
            assert!(SigningSecret::parse(&of(good)).is_ok(), "{good}");
        }
        for bad in [of(23), of(65), of(32).replace("whsec_", ""), "whsec_!".to_owned(), String::new()] {
            assert!(SigningSecret::parse(&bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", SigningSecret::parse(&of(32)).unwrap()), "SigningSecret(..)");
    }
}
