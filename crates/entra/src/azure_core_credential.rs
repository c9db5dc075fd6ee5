//! The bridge to `azure_core` 0.21, whose clients (Table Storage, Service Bus) ask for tokens their own way.

use async_trait::async_trait;
use azure_core::auth::{AccessToken, TokenCredential};
use azure_core::error::{Error, ErrorKind};

use crate::ManagedIdentity;

#[async_trait]
impl TokenCredential for ManagedIdentity {
    async fn get_token(&self, scopes: &[&str]) -> azure_core::Result<AccessToken> {
        let [scope] = scopes else {
            return Err(Error::message(
                ErrorKind::Credential,
                "a managed identity token has exactly one scope",
            ));
        };
        let resource = scope.strip_suffix("/.default").unwrap_or(scope);
        let token = ManagedIdentity::token(self, resource)
            .await
            .map_err(|error| Error::new(ErrorKind::Credential, error))?;
        let expires_on = azure_core::date::parse_rfc3339(&token.expires.to_string())?;
        Ok(AccessToken::new(token.secret, expires_on))
    }

    async fn clear_cache(&self) -> azure_core::Result<()> {
        self.forget_tokens();
        Ok(())
    }
}
