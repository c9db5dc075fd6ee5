//! The SDK's way to the network: time limits, tokens, and answers reduced to what is safe to hand on.

use crate::failure::{Failure, loggable};
use ajar_access::ports::blobs::MAX_BLOB_BYTES;
use async_trait::async_trait;
use azure_core::auth::TokenCredential;
use azure_core::error::ErrorKind;
use azure_core::headers::{HeaderName, HeaderValue, Headers};
use azure_core::{Body, BytesStream, HttpClient, Request, Response, StatusCode};
use bytes::Bytes;
use jiff::SignedDuration;
use reqwest::header::HeaderMap;
use std::sync::Arc;
use std::time::Duration;

/// What a token is for, in every cloud
/// (<https://learn.microsoft.com/azure/storage/blobs/authorize-access-azure-active-directory>).
const SCOPE: &str = "https://storage.azure.com/.default";

/// For a request from its beginning to the last byte of its answer; for its token, as long again.
const LIMIT: Duration = Duration::from_secs(10);

/// Azurite closes a connection unused for five seconds.
const AZURITE_IDLE: Duration = Duration::from_secs(3);

/// The client that the SDK sends through. It sends once: no retry, no redirect.
pub(crate) struct Transport {
    client: reqwest::Client,
    /// Used here and not by the SDK, which prints requests to its log.
    credential: Option<Arc<dyn TokenCredential>>,
}

impl Transport {
    /// To Blob Storage through `client`, with tokens of `credential`.
    pub(crate) fn to_azure(client: reqwest::Client, credential: Arc<dyn TokenCredential>) -> Transport {
        Transport { client, credential: Some(credential) }
    }

    /// To this machine, whatever proxy its environment names. The SDK signs for Azurite.
    pub(crate) fn to_azurite() -> Result<Transport, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .pool_idle_timeout(AZURITE_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Transport { client, credential: None })
    }

    async fn send(&self, request: &Request) -> Result<(u16, HeaderMap, Bytes), Failure> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|error| Failure::Unusable(error.to_string()))?;
        let Body::Bytes(body) = request.body().clone() else {
            return Err(Failure::Unusable("the SDK wants to stream, which no blob here needs".to_owned()));
        };
        let mut outgoing = self.client.request(method, request.url().clone()).timeout(LIMIT).body(body);
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        if let Some(credential) = &self.credential {
            let token = match tokio::time::timeout(LIMIT, credential.get_token(&[SCOPE])).await {
                Ok(Ok(token)) => token,
                Ok(Err(error)) => return Err(Failure::NoToken(loggable(&error))),
                Err(_) => return Err(Failure::NoToken(format!("none within {LIMIT:?}"))),
            };
            outgoing = outgoing.bearer_auth(token.token.secret());
        }
        let mut answer = outgoing.send().await.map_err(no_answer)?;
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let mut body = Vec::new();
        // An error's code is in a header: of its body nothing is needed.
        if status.is_success() {
            while let Some(piece) = answer.chunk().await.map_err(no_answer)? {
                if body.len() + piece.len() > MAX_BLOB_BYTES {
                    return Err(Failure::Unusable(format!("a blob of more than {MAX_BLOB_BYTES} bytes")));
                }
                body.extend_from_slice(&piece);
            }
        }
        Ok((status.as_u16(), headers, body.into()))
    }
}

/// Shows no credential: the SDK prints what it is made of.
impl std::fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Transport").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Transport {
    /// Every answer but a success is an error that holds a [`Failure`], so the SDK parses and prints none.
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let fail = |failure: Failure| azure_core::Error::new(ErrorKind::Other, failure);
        let (status, headers, body) = self.send(request).await.map_err(fail)?;
        if !(200..300).contains(&status) {
            return Err(fail(refusal(status, &headers)));
        }
        let status = StatusCode::try_from(status)
            .map_err(|_| fail(Failure::Unusable(format!("the status {status}"))))?;
        let mut kept = Headers::new();
        for (name, value) in &headers {
            if let Ok(value) = value.to_str() {
                kept.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
            }
        }
        Ok(Response::new(status, kept, Box::pin(BytesStream::new(body))))
    }
}

fn refusal(status: u16, headers: &HeaderMap) -> Failure {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Codes are names; what is not is not repeated into logs.
    let is_code = |code: &&str| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let seconds = header("retry-after").and_then(|value| value.trim().parse::<u32>().ok());
    Failure::Refused {
        status,
        code: header("x-ms-error-code").filter(is_code).map(str::to_owned),
        request_id: header("x-ms-request-id").map(|id| id.chars().take(64).collect()),
        retry_after: seconds.map(|seconds| SignedDuration::from_secs(seconds.into())),
    }
}

fn no_answer(error: reqwest::Error) -> Failure {
    Failure::NoAnswer(loggable(&error.without_url()))
}
