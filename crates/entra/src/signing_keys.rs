//! The public keys that Entra ID signs with: fetched when first needed, cached, and fetched again when a token
//! names a key that is not among them (keys rotate without notice).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ajar_access::ports::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::DecodingKey;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http_answer::body_of;

/// Keys are fetched again at this age; Microsoft recommends once a day.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Keys that cannot be refreshed are used up to this age, so that an outage of the sign-in service is not one of
/// Ajar's, yet a withdrawn key does not live for ever.
const MAX_STALE: SignedDuration = SignedDuration::from_hours(48);
/// With keys at hand, the next fetch is no sooner than this: tokens with invented key ids must not make traffic.
const REFETCH_AFTER: SignedDuration = SignedDuration::from_secs(10);
/// Without any, a failed fetch is the answer for this long.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Entra publishes fewer than ten.
const MAX_KEYS: usize = 100;

/// A key by its id, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// The keys are known, and it is not among them.
    #[error("the token is signed with a key (kid) that this tenant's sign-in service does not publish")]
    Unknown,
    /// The keys could not be read.
    #[error("{0}")]
    Unavailable(String),
}

struct KeySet {
    fetched: Timestamp,
    keys: HashMap<String, DecodingKey>,
}

#[derive(Default)]
struct Attempts {
    last: Option<Timestamp>,
    failure: Option<String>,
}

/// One tenant's keys.
pub(crate) struct SigningKeys {
    metadata: Url,
    issuer: String,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    current: RwLock<Option<Arc<KeySet>>>,
    /// Held across a fetch: one at a time.
    attempts: tokio::sync::Mutex<Attempts>,
}

impl SigningKeys {
    /// The keys behind an OpenID Connect metadata document whose `issuer` must be `issuer`.
    pub(crate) fn new(metadata: Url, issuer: String, client: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        SigningKeys {
            metadata,
            issuer,
            client,
            clock,
            current: RwLock::new(None),
            attempts: tokio::sync::Mutex::default(),
        }
    }

    /// The key with this id.
    pub(crate) async fn key(&self, id: &str) -> Result<DecodingKey, KeyError> {
        let known = self.known();
        if let Some(set) = &known
            && self.age(set) < MAX_AGE
            && let Some(key) = set.keys.get(id)
        {
            return Ok(key.clone());
        }

        let mut attempts = self.attempts.lock().await;
        // Whoever held the lock may have fetched what is wanted.
        let seen = known.map(|set| set.fetched);
        let mut known = self.known();
        if known.as_ref().map(|set| set.fetched) == seen && self.may_fetch(&attempts, known.is_some()) {
            attempts.last = Some(self.clock.now());
            match self.fetch().await {
                Ok(keys) => {
                    let set = Arc::new(KeySet { fetched: self.clock.now(), keys });
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&set));
                    attempts.failure = None;
                    known = Some(set);
                }
                Err(reason) => {
                    tracing::warn!(%reason, "the sign-in keys could not be read");
                    attempts.failure = Some(reason);
                }
            }
        }
        match known {
            Some(set) if self.age(&set) < MAX_STALE => set.keys.get(id).cloned().ok_or(KeyError::Unknown),
            _ => Err(KeyError::Unavailable(
                attempts.failure.clone().unwrap_or_else(|| "they were not read yet".to_owned()),
            )),
        }
    }

    /// Whether there are keys to check tokens with; fetches them when there are none or they are old.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        if self.known().is_some_and(|set| self.age(&set) < MAX_AGE) {
            return Ok(());
        }
        // No key has an empty id, so this fetches; that the id is unknown then says that the keys are known.
        match self.key("").await {
            Ok(_) | Err(KeyError::Unknown) => Ok(()),
            Err(KeyError::Unavailable(reason)) => Err(reason),
        }
    }

    fn known(&self) -> Option<Arc<KeySet>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn age(&self, set: &KeySet) -> SignedDuration {
        self.clock.now().duration_since(set.fetched)
    }

    fn may_fetch(&self, attempts: &Attempts, have_keys: bool) -> bool {
        let pause = if have_keys { REFETCH_AFTER } else { RETRY_AFTER };
        attempts.last.is_none_or(|last| self.clock.now().duration_since(last) >= pause)
    }

    async fn fetch(&self) -> Result<HashMap<String, DecodingKey>, String> {
        #[derive(Deserialize)]
        struct Metadata {
            issuer: String,
            jwks_uri: String,
        }
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<Key>,
        }
        /// The members of an RSA key; a key that lacks one is of another type and skipped.
        #[derive(Deserialize)]
        struct Key {
            kty: String,
            kid: Option<String>,
            #[serde(rename = "use")]
            usage: Option<String>,
            n: Option<String>,
            e: Option<String>,
        }

        let metadata: Metadata = self.json(self.metadata.clone()).await?;
        if metadata.issuer != self.issuer {
            return Err(format!(
                "{} names the issuer {:?}, not {:?}: check the authority and the tenant id",
                self.metadata, metadata.issuer, self.issuer
            ));
        }
        let address = Url::parse(&metadata.jwks_uri)
            .ok()
            .filter(|url| url.scheme() == "https" || url.scheme() == self.metadata.scheme())
            .ok_or_else(|| format!("{} holds no usable jwks_uri", self.metadata))?;
        let published: Keys = self.json(address).await?;

        let mut keys = HashMap::new();
        for key in published.keys.into_iter().take(MAX_KEYS) {
            let (Some(id), Some(n), Some(e)) = (key.kid, key.n, key.e) else { continue };
            if key.kty != "RSA" || key.usage.is_some_and(|usage| usage != "sig") {
                continue;
            }
            match DecodingKey::from_rsa_components(&n, &e) {
                Ok(parsed) => {
                    keys.insert(id, parsed);
                }
                Err(error) => tracing::warn!(%error, key = %id, "a published sign-in key cannot be read"),
            }
        }
        if keys.is_empty() { Err("no RSA signing key is published".to_owned()) } else { Ok(keys) }
    }

    async fn json<T: DeserializeOwned>(&self, address: Url) -> Result<T, String> {
        let response = self.client.get(address.clone()).timeout(TIMEOUT).send().await;
        let body =
            body_of(response, MAX_ANSWER_BYTES).await.map_err(|error| format!("{address}: {error}"))?;
        serde_json::from_slice(&body).map_err(|error| format!("{address}: {error}"))
    }
}
