//! Who is calling.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a caller's token says of them beside who they are. It is only as old as the token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SignIn {
    /// Object ids of the groups they are in, lower case (`groups`).
    pub groups: BTreeSet<String>,
    /// Whether the token says that it leaves their groups out, as it does of somebody who is in too many.
    pub groups_left_out: bool,
    /// How they have signed in (`amr`): `pwd`, `mfa`, ...
    pub methods: BTreeSet<String>,
    /// Authentication contexts of Conditional Access that they have satisfied (`acrs`): `c1` to `c99`.
    pub contexts: BTreeSet<String>,
}

/// A caller whose token was validated: a user, a service principal or a managed identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// Entra object id (`oid`), lower case: the identity that role assignments name.
    pub object_id: String,
    /// Entra tenant id (`tid`), lower case.
    pub tenant_id: String,
    /// What people call it: user principal name, else display name, else application id. Never an authority.
    pub name: String,
    /// What the token says beside that. Not stored with the name: who needs it later keeps it by itself.
    #[serde(skip)]
    pub sign_in: SignIn,
}

/// Why a caller was not believed.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// The token is not acceptable; the text may be shown to the caller and says which check failed.
    #[error("{0}")]
    Rejected(String),
    /// The keys to check it with, or a token, could not be had.
    #[error("the sign-in service is unavailable: {0}")]
    Unavailable(String),
}

/// Validates bearer tokens.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The caller that `token` proves: issuer, audience, signature and lifetime are checked.
    async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError>;

    /// Whether callers' tokens can be checked now.
    async fn ready(&self) -> Result<(), AuthenticationError>;
}

/// Hands out the bearer tokens with which Ajar itself calls Azure.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// A token for `resource`, the audience without `/.default`: `https://management.azure.com`,
    /// `https://servicebus.azure.net`. It is a secret: never log it, never send it to another origin than the
    /// resource's own. [`AuthenticationError::Rejected`] when Ajar has no such identity,
    /// [`AuthenticationError::Unavailable`] when it may work later.
    async fn token(&self, resource: &str) -> Result<String, AuthenticationError>;
}
