//! Tokens for Ajar's own calls, from App Service's managed identity endpoint.
//!
//! `azure_identity` 1.x could ask for them too, but it sends through `azure_core` 1.x, which brings a second
//! `reqwest` (0.13) and its TLS stack beside the one every adapter here shares. The call is one GET.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ajar_access::ports::clock::Clock;
use ajar_access::ports::identity::{AuthenticationError, Tokens};
use async_trait::async_trait;
use azure_core::auth::Secret;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::SettingsError;
use crate::http_answer::{FetchError, body_of};

/// Version of App Service's identity endpoint protocol
/// (<https://learn.microsoft.com/azure/app-service/overview-managed-identity>).
const API_VERSION: &str = "2019-08-01";
/// A cached token is replaced this long before it expires, so that none expires on the way.
const RENEW_BEFORE_EXPIRY: SignedDuration = SignedDuration::from_mins(5);
/// How long a failure is the answer for everybody who asks for the same resource: a crowd that waited for one
/// call must not repeat it one by one.
const FAILURE_HOLDS: SignedDuration = SignedDuration::from_secs(1);
/// The endpoint is on the same machine; its first answer after a start takes a second or two.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens are a few KiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Where App Service hands out tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedIdentitySettings {
    /// `IDENTITY_ENDPOINT`: absolute http or https URL.
    pub endpoint: String,
    /// `IDENTITY_HEADER`: proves that the caller runs inside the application.
    pub header: Secret,
    /// Client id of a user-assigned identity (`AZURE_CLIENT_ID`); the system-assigned identity when absent.
    pub client_id: Option<String>,
}

impl ManagedIdentitySettings {
    /// Reads the settings from environment variables as App Service names them: `IDENTITY_ENDPOINT`,
    /// `IDENTITY_HEADER` and, optional, `AZURE_CLIENT_ID`.
    ///
    /// # Errors
    /// When one is missing or cannot work: the application has no managed identity.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let required = |setting: &'static str| {
            variable(setting).filter(|value| !value.trim().is_empty()).ok_or_else(|| SettingsError {
                setting,
                problem:
                    "is not set: turn on a managed identity for this application, App Service then sets it"
                        .to_owned(),
            })
        };
        Ok(ManagedIdentitySettings {
            endpoint: required("IDENTITY_ENDPOINT")?,
            header: Secret::new(required("IDENTITY_HEADER")?),
            client_id: variable("AZURE_CLIENT_ID").filter(|value| !value.trim().is_empty()),
        })
    }
}

/// Why no token was had. Safe to log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The endpoint refuses: the identity does not exist or may not have tokens for this resource.
    #[error("the managed identity endpoint gives no token for {resource}: {reason}")]
    Refused {
        /// The resource asked for.
        resource: String,
        /// What the endpoint said.
        reason: String,
    },
    /// The endpoint is throttling, failing or not answering; later it may.
    #[error("the managed identity endpoint is unavailable ({resource}): {reason}")]
    Unavailable {
        /// The resource asked for.
        resource: String,
        /// What happened.
        reason: String,
    },
}

impl From<TokenError> for AuthenticationError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Refused { .. } => AuthenticationError::Rejected(error.to_string()),
            TokenError::Unavailable { .. } => AuthenticationError::Unavailable(error.to_string()),
        }
    }
}

/// A bearer token and its end.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The token; its `Debug` does not show it.
    pub secret: Secret,
    /// When it stops being accepted.
    pub expires: Timestamp,
}

/// Ajar's managed identity. Tokens are cached per resource until five minutes before they expire; any number of
/// concurrent callers make one call.
pub struct ManagedIdentity {
    endpoint: reqwest::Url,
    header: Secret,
    client_id: Option<String>,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    resources: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Slot>>>>,
}

/// What is known about one resource's token. Held across the call, which makes it a single flight.
#[derive(Default)]
struct Slot {
    token: Option<AccessToken>,
    failure: Option<(Timestamp, TokenError)>,
}

impl std::fmt::Debug for ManagedIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagedIdentity")
            .field("endpoint", &self.endpoint.as_str())
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl ManagedIdentity {
    /// An identity behind `settings`. `client` should not follow redirects.
    ///
    /// # Errors
    /// When the endpoint is not an http or https URL.
    pub fn new(
        settings: ManagedIdentitySettings,
        client: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SettingsError> {
        let endpoint = reqwest::Url::parse(&settings.endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| SettingsError {
                setting: "IDENTITY_ENDPOINT",
                problem: "is not an absolute http or https URL".to_owned(),
            })?;
        Ok(ManagedIdentity {
            endpoint,
            header: settings.header,
            client_id: settings.client_id,
            client,
            clock,
            resources: Mutex::new(HashMap::new()),
        })
    }

    /// A token for `resource` (the audience without `/.default`), valid for five more minutes unless the
    /// endpoint itself hands out one that is not, or fails while a cached one is still good.
    ///
    /// # Errors
    /// [`TokenError`]: whether asking again can help.
    pub async fn token(&self, resource: &str) -> Result<AccessToken, TokenError> {
        let slot = {
            let mut resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(resources.entry(resource.to_owned()).or_default())
        };
        let mut slot = slot.lock().await;
        let now = self.clock.now();
        if let Some(token) = &slot.token
            && now + RENEW_BEFORE_EXPIRY < token.expires
        {
            return Ok(token.clone());
        }
        let answer = match &slot.failure {
            Some((at, failure)) if now.duration_since(*at).abs() < FAILURE_HOLDS => Err(failure.clone()),
            _ => self.ask(resource).await,
        };
        match answer {
            Ok(token) => {
                *slot = Slot { token: Some(token.clone()), failure: None };
                Ok(token)
            }
            Err(error) => {
                let now = self.clock.now();
                slot.failure = Some((now, error.clone()));
                match &slot.token {
                    Some(token) if now < token.expires => {
                        tracing::warn!(%error, "a token could not be renewed; the one at hand is still good");
                        Ok(token.clone())
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// Empties the cache: the next caller of each resource asks the endpoint.
    pub fn forget_tokens(&self) {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn ask(&self, resource: &str) -> Result<AccessToken, TokenError> {
        let mut query = vec![("resource", resource), ("api-version", API_VERSION)];
        if let Some(client_id) = &self.client_id {
            query.push(("client_id", client_id));
        }
        let response = self
            .client
            .get(self.endpoint.clone())
            .query(&query)
            .header("X-IDENTITY-HEADER", self.header.secret())
            .timeout(TIMEOUT)
            .send()
            .await;
        let body = body_of(response, MAX_ANSWER_BYTES).await.map_err(|error| {
            let resource = resource.to_owned();
            let reason = error.to_string();
            match error {
                FetchError::Status { status, .. }
                    if (400..500).contains(&status) && status != 408 && status != 429 =>
                {
                    TokenError::Refused { resource, reason }
                }
                _ => TokenError::Unavailable { resource, reason },
            }
        })?;
        parse(&body).ok_or_else(|| TokenError::Unavailable {
            resource: resource.to_owned(),
            reason: "the answer is not a token with its expiry".to_owned(),
        })
    }
}

#[async_trait]
impl Tokens for ManagedIdentity {
    async fn token(&self, resource: &str) -> Result<String, AuthenticationError> {
        Ok(ManagedIdentity::token(self, resource).await?.secret.secret().to_owned())
    }
}

/// The endpoint's answer. `expires_on` is a string of seconds since 1970 on App Service, a number elsewhere.
fn parse(body: &[u8]) -> Option<AccessToken> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: String,
        expires_on: Seconds,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Text(String),
        Number(i64),
    }
    // The error is dropped because it may quote what it read, and that is a token.
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let seconds = match answer.expires_on {
        Seconds::Text(text) => text.parse().ok()?,
        Seconds::Number(number) => number,
    };
    if answer.access_token.is_empty() {
        return None;
    }
    Some(AccessToken {
        secret: Secret::new(answer.access_token),
        expires: Timestamp::from_second(seconds).ok()?,
    })
}
