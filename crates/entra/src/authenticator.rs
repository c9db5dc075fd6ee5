//! Believing callers: bearer tokens that Entra ID issued for Ajar.

use std::sync::Arc;

use ajar_access::ports::clock::Clock;
use ajar_access::ports::identity::{AuthenticationError, Authenticator, Caller};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::SettingsError;
use crate::claims::{self, Expected, is_resource_manager};
use crate::http_answer::shorten;
use crate::signing_keys::{KeyError, SigningKeys};

/// Entra ID's address in the public cloud.
pub const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";

/// The longest token that is looked at: Entra's are at most a few KiB, even with 200 groups.
const MAX_TOKEN_BYTES: usize = 32 * 1024;

/// Whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatorSettings {
    /// Base address of the sign-in service, [`PUBLIC_AUTHORITY`] as a rule. https, or http on this machine only.
    pub authority: String,
    /// The tenant whose callers are let in: a GUID.
    pub tenant: String,
    /// Ajar's own audiences, exactly as they stand in tokens: `api://...` (v1.0 tokens) and its client id (v2.0
    /// tokens). At least one; the first is the one that messages tell callers to ask for.
    pub audiences: Vec<String>,
}

/// Validates Entra ID access tokens. Keys are fetched when the first token comes, not before.
pub struct EntraAuthenticator {
    expected: Expected,
    keys: SigningKeys,
    validation: Validation,
    clock: Arc<dyn Clock>,
}

impl EntraAuthenticator {
    /// An authenticator for one tenant.
    ///
    /// # Errors
    /// When a setting cannot work: an authority that is not https, a tenant that is not a GUID, no audience, or
    /// Azure Resource Manager's audience (whoever accepts such tokens could replay them there).
    pub fn new(
        settings: &AuthenticatorSettings,
        client: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SettingsError> {
        let authority = settings.authority.trim_end_matches('/');
        let refuse = |setting, problem: &str| SettingsError { setting, problem: problem.to_owned() };
        let url = Url::parse(authority)
            .ok()
            .filter(|url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url)))
            .ok_or_else(|| {
                refuse("authority", "must be an https URL such as https://login.microsoftonline.com")
            })?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("authority", "must have neither a query nor a fragment"));
        }
        let tenant = Uuid::try_parse(&settings.tenant)
            .map_err(|_| refuse("tenant", "must be the tenant's id, a GUID, not its domain name"))?;
        if settings.audiences.is_empty() || settings.audiences.iter().any(|own| own.trim().is_empty()) {
            return Err(refuse(
                "audiences",
                "must name Ajar's application: api://<client id> or its client id",
            ));
        }
        if settings.audiences.iter().any(|own| is_resource_manager(own)) {
            return Err(refuse(
                "audiences",
                "must not be Azure Resource Manager's: register an application for Ajar and name that",
            ));
        }

        let issuer = format!("{authority}/{tenant}/v2.0");
        let metadata = Url::parse(&format!("{issuer}/.well-known/openid-configuration")).map_err(|_| {
            refuse("authority", "must be an https URL such as https://login.microsoftonline.com")
        })?;

        // Only the signature is left to `jsonwebtoken`: it compares times with the system clock, and its errors do
        // not say what was found. The claims are checked in `claims`.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;

        Ok(EntraAuthenticator {
            expected: Expected {
                issuers: [issuer.clone(), format!("https://sts.windows.net/{tenant}/")],
                audiences: settings.audiences.clone(),
                tenant,
            },
            keys: SigningKeys::new(metadata, issuer, client, Arc::clone(&clock)),
            validation,
            clock,
        })
    }
}

impl std::fmt::Debug for EntraAuthenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntraAuthenticator").field("expected", &self.expected).finish_non_exhaustive()
    }
}

#[async_trait]
impl Authenticator for EntraAuthenticator {
    async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        let reject = |text: &str| AuthenticationError::Rejected(text.to_owned());
        if token.len() > MAX_TOKEN_BYTES {
            return Err(reject("the token is too long to be one of Entra ID's"));
        }
        let header = header_of(token).ok_or_else(|| reject("the bearer token is not a JSON web token"))?;
        if header.alg != "RS256" {
            return Err(AuthenticationError::Rejected(format!(
                "the token's algorithm (alg) is {:?}; only RS256 is accepted",
                shorten(&header.alg, 20)
            )));
        }
        if header.crit.is_some() {
            return Err(reject("the token demands extensions (crit) that are not supported"));
        }
        let id = header.kid.ok_or_else(|| reject("the token does not name its key (kid)"))?;

        let key = self.keys.key(&id).await.map_err(|error| match error {
            KeyError::Unknown => AuthenticationError::Rejected(error.to_string()),
            KeyError::Unavailable(reason) => AuthenticationError::Unavailable(reason),
        })?;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &self.validation);
        let claims = match decoded {
            Ok(data) => data.claims,
            Err(error) => {
                return Err(reject(match error.kind() {
                    ErrorKind::InvalidSignature => "the token's signature is wrong",
                    _ => "the token is malformed",
                }));
            }
        };
        claims::caller(&claims, &self.expected, self.clock.now().as_second())
            .map_err(|error| AuthenticationError::Rejected(error.to_string()))
    }

    async fn ready(&self) -> Result<(), AuthenticationError> {
        self.keys.ready().await.map_err(AuthenticationError::Unavailable)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

/// The header of a token of three parts. Read here as well as in `jsonwebtoken` so that `none` and other
/// algorithms get a message of their own and never reach a key.
fn header_of(token: &str) -> Option<Header> {
    let mut parts = token.split('.');
    let (header, _, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
}

/// Whether keys read over plain http from here can only come from this machine.
fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"))
}
