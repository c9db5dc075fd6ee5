//! Who Ajar is in Azure, as its own token says.

use ajar_access::ports::azure::AzureError;
use ajar_access::ports::identity::AuthenticationError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::resource_manager::ResourceManager;

impl ResourceManager {
    /// The object id in the token that requests are sent with. The token is our own, so nothing of it is checked; one
    /// that cannot be read tells nothing.
    pub(crate) async fn read_own_object_id(&self) -> Result<Option<String>, AzureError> {
        let token = self.tokens.token(&self.endpoint.audience()).await.map_err(|error| match error {
            AuthenticationError::Rejected(reason) => AzureError::Forbidden(reason),
            AuthenticationError::Unavailable(reason) => AzureError::Unavailable { reason, retry_after: None },
        })?;
        Ok(object_id(&token))
    }
}

fn object_id(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(claims.get("oid")?.as_str()?.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_id_is_the_tokens_and_anything_else_tells_nothing() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(object_id(&token(r#"{"oid":"A0-1","sub":"x"}"#)), Some("a0-1".to_owned()));
        for bad in ["", "opaque", "a.b.c", &token("{}"), &token(r#"{"oid":7}"#), &token("[]")] {
            assert_eq!(object_id(bad), None, "{bad}");
        }
    }
}
