#![doc = include_str!("../README.md")]

mod authenticator;
mod azure_core_credential;
mod claims;
mod http_answer;
mod managed_identity;
mod signing_keys;

pub use authenticator::{AuthenticatorSettings, EntraAuthenticator, PUBLIC_AUTHORITY};
pub use managed_identity::{AccessToken, ManagedIdentity, ManagedIdentitySettings, TokenError};

/// A setting that cannot work, named as the caller named it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct SettingsError {
    /// Which setting.
    pub setting: &'static str,
    /// What is wrong and what it should hold.
    pub problem: String,
}
