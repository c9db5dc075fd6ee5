//! The `HttpClient` that the Service Bus SDK sends through.
//!
//! `azure_messaging_servicebus` 0.21 signs with a shared key, knows no host but
//! `<namespace>.servicebus.windows.net` and writes scheduled times with `+0000`. Here the signature is replaced by
//! Ajar's own Entra token, so that no key exists anywhere; the host by the configured one; and the time's ending by
//! the `GMT` that RFC 1123 asks for.

use std::sync::Arc;
use std::time::Duration;

use ajar_access::ports::identity::{AuthenticationError, Tokens};
use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::headers::{Headers, RETRY_AFTER};
use azure_core::{Body, BytesStream, HttpClient, Request, Response, StatusCode};

use crate::namespace::Namespace;
use crate::send_failure::{Again, SendFailure};

/// Audience of Service Bus, in every cloud.
const RESOURCE: &str = "https://servicebus.azure.net";
/// Longest wait for an answer, connecting included.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the SDK's requests to `namespace` with a bearer token.
pub(crate) struct SdkTransport {
    pub(crate) namespace: Namespace,
    pub(crate) tokens: Arc<dyn Tokens>,
    pub(crate) client: reqwest::Client,
}

impl std::fmt::Debug for SdkTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SdkTransport").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for SdkTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        self.send(request).await.map_err(|failure| Error::new(ErrorKind::Other, failure))
    }
}

impl SdkTransport {
    /// Whether there is a token for the namespace and something answers at its address. Leave to send would only show
    /// by sending.
    pub(crate) async fn reach(&self) -> Result<(), SendFailure> {
        let token = self.token().await?;
        let request = self.client.get(self.namespace.address("/")).timeout(TIMEOUT).bearer_auth(token);
        let status = request.send().await.map_err(SendFailure::of_transport)?.status();
        if status.is_server_error() {
            return Err(SendFailure::of_status(status.as_u16(), None, "/"));
        }
        Ok(())
    }

    async fn token(&self) -> Result<String, SendFailure> {
        self.tokens.token(RESOURCE).await.map_err(|error| match error {
            AuthenticationError::Rejected(reason) => SendFailure { again: Again::Never, reason },
            AuthenticationError::Unavailable(reason) => SendFailure { again: Again::Later(None), reason },
        })
    }

    async fn send(&self, request: &Request) -> Result<Response, SendFailure> {
        let Body::Bytes(body) = request.body().clone() else {
            return Err(SendFailure {
                again: Again::Never,
                reason: "a streamed body cannot be sent".to_owned(),
            });
        };
        let token = self.token().await?;

        let path = request.url().path();
        let mut outgoing =
            self.client.post(self.namespace.address(path)).timeout(TIMEOUT).bearer_auth(token).body(body);
        for (name, value) in request.headers().iter() {
            outgoing = match name.as_str() {
                "authorization" => outgoing,
                "brokerproperties" => outgoing.header("BrokerProperties", with_gmt(value.as_str())),
                other => outgoing.header(other, value.as_str()),
            };
        }

        let answer = outgoing.send().await.map_err(SendFailure::of_transport)?;
        let status = answer.status();
        if !status.is_success() {
            // The body is not read: nothing in it changes what is done next.
            let retry_after =
                answer.headers().get(RETRY_AFTER.as_str()).and_then(|value| value.to_str().ok());
            return Err(SendFailure::of_status(status.as_u16(), retry_after, path));
        }
        // A send's answer has no content that anybody reads.
        let empty = Box::pin(BytesStream::new_empty());
        Ok(Response::new(StatusCode::Created, Headers::new(), empty))
    }
}

/// Broker properties with their scheduled time in GMT.
fn with_gmt(properties: &str) -> String {
    properties.replace(" +0000\"", " GMT\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_zone_of_the_scheduled_time_is_rewritten() {
        assert_eq!(
            with_gmt(r#"{"MessageId":"m+0000","ScheduledEnqueueTimeUtc":"Tue, 24 Nov 2026 12:00:01 +0000"}"#),
            r#"{"MessageId":"m+0000","ScheduledEnqueueTimeUtc":"Tue, 24 Nov 2026 12:00:01 GMT"}"#
        );
    }
}
