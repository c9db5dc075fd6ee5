//! Entra ID tokens: keys, their rotation, issuing and checking.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde_json::{Value, json};

use crate::random::Random;

/// A key or a signature could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulator could not make a token: {0}")]
pub struct TokenError(String);

struct Key {
    id: String,
    signing: EncodingKey,
    checking: DecodingKey,
    modulus: String,
    exponent: String,
}

/// The published keys, newest first. Made when first needed: a run without tokens pays for none.
pub(crate) struct Tokens {
    random: Random,
    keys: Vec<Key>,
}

impl Tokens {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, "signing keys"), keys: Vec::new() }
    }

    /// Makes a new signing key. The one before stays published until the next rotation.
    pub(crate) fn rotate(&mut self) -> Result<(), TokenError> {
        let fail = |error: &dyn std::fmt::Display| TokenError(error.to_string());
        let private = RsaPrivateKey::new(&mut self.random, 2048).map_err(|error| fail(&error))?;
        let der = private.to_pkcs1_der().map_err(|error| fail(&error))?;
        let public = RsaPublicKey::from(&private);
        let modulus = URL_SAFE_NO_PAD.encode(public.n().to_bytes_be());
        let exponent = URL_SAFE_NO_PAD.encode(public.e().to_bytes_be());
        let checking = DecodingKey::from_rsa_components(&modulus, &exponent).map_err(|error| fail(&error))?;
        let id = self.random.guid();
        let signing = EncodingKey::from_rsa_der(der.as_bytes());
        self.keys.insert(0, Key { id, signing, checking, modulus, exponent });
        self.keys.truncate(2);
        Ok(())
    }

    fn ready(&mut self) -> Result<(), TokenError> {
        if self.keys.is_empty() { self.rotate() } else { Ok(()) }
    }

    pub(crate) fn sign(&mut self, claims: &Value) -> Result<String, TokenError> {
        self.ready()?;
        let key = self.keys.first().ok_or_else(|| TokenError("no key".to_owned()))?;
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(key.id.clone());
        jsonwebtoken::encode(&header, claims, &key.signing).map_err(|error| TokenError(error.to_string()))
    }

    /// The JSON Web Key Set.
    pub(crate) fn published(&mut self) -> Result<Value, TokenError> {
        self.ready()?;
        let keys: Vec<Value> = self
            .keys
            .iter()
            .map(|key| json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": key.id, "n": key.modulus, "e": key.exponent}))
            .collect();
        Ok(json!({"keys": keys}))
    }

    /// A token's claims, if one of the published keys signed it, `issuer` issued it and it is valid at `now`.
    /// The error says why not.
    pub(crate) fn check(&self, token: &str, issuer: &str, now: Timestamp) -> Result<Value, String> {
        let header =
            jsonwebtoken::decode_header(token).map_err(|error| format!("it is no token: {error}"))?;
        let key = self.keys.iter().find(|key| Some(&key.id) == header.kid.as_ref());
        let key = key.ok_or("its signing key is not published")?;
        let mut validation = Validation::new(Algorithm::RS256);
        // Time is the simulator's, and every endpoint wants another audience: both are checked by hand.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let data = jsonwebtoken::decode::<Value>(token, &key.checking, &validation)
            .map_err(|error| format!("its signature is not valid: {error}"))?;
        let seconds = |name: &str| data.claims.get(name).and_then(Value::as_i64);
        let now = now.as_second();
        if seconds("exp").is_none_or(|expires| expires <= now) {
            return Err("it is expired".to_owned());
        }
        if seconds("nbf").is_some_and(|start| start > now) {
            return Err("it is not valid yet".to_owned());
        }
        if data.claims.get("iss").and_then(Value::as_str) != Some(issuer) {
            return Err("it is from another issuer".to_owned());
        }
        Ok(data.claims)
    }
}
