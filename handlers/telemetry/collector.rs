//! The way to the receiver: the HTTP client that everything else uses, on the runtime that everything else runs on.

use ajar_arm::ResourceManager;
use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::Handle;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The runtime, once there is one: telemetry is set up before it, and exports come from threads of their own.
static RUNTIME: OnceLock<Handle> = OnceLock::new();

/// Lets exports begin: what was recorded before waits.
pub(crate) fn connect() {
    // A second call changes nothing: there is one runtime.
    let _ = RUNTIME.set(Handle::current());
}

#[derive(Debug)]
pub(crate) struct Collector {
    client: OnceLock<reqwest::Client>,
}

impl Collector {
    pub(crate) fn new() -> Collector {
        Collector { client: OnceLock::new() }
    }

    fn client(&self) -> Result<reqwest::Client, HttpError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let made = ResourceManager::client()?;
        Ok(self.client.get_or_init(|| made).clone())
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let runtime = RUNTIME.get().ok_or("the executable is still starting")?;
        let (client, (head, body)) = (self.client()?, request.into_parts());
        let outgoing = client
            .request(head.method, head.uri.to_string())
            .headers(head.headers)
            .body(body)
            .timeout(TIMEOUT);
        runtime
            .spawn(async move {
                let answer = outgoing.send().await?;
                let status = answer.status();
                let mut response = Response::new(answer.bytes().await?);
                *response.status_mut() = status;
                Ok(response)
            })
            .await?
    }
}
