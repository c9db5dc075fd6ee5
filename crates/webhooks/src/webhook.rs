//! The channel: one `POST` for each notification.

use crate::address::Address;
use crate::cloud_event::event;
use crate::signature::SigningSecret;
use ajar_access::notification::Notification;
use ajar_access::ports::clock::Clock;
use ajar_access::ports::notifier::{Notifier, NotifierError};
use async_trait::async_trait;
use jiff::SignedDuration;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait for an answer, connecting included: the invocation has other things to do.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A receiver of signed webhooks.
#[derive(Clone)]
pub struct Webhook {
    address: Address,
    secret: SigningSecret,
    deployment: String,
    clock: Arc<dyn Clock>,
    client: reqwest::Client,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Webhook").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Webhook {
    /// The receiver at `address`, told in the name of `deployment`; `clock` dates the signatures. It has a client
    /// of its own: one that follows no redirect and no proxy setting, since either would send what is meant for
    /// one receiver to another.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        address: Address,
        secret: SigningSecret,
        deployment: impl Into<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Webhook, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("ajar/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Webhook { address, secret, deployment: deployment.into(), clock, client })
    }
}

#[async_trait]
impl Notifier for Webhook {
    fn channel(&self) -> &str {
        "webhook"
    }

    async fn send(&self, notification: &Notification) -> Result<(), NotifierError> {
        let body = event(&self.deployment, notification).to_string();
        let at = self.clock.now().as_second();
        let answer = self
            .client
            .post(self.address.url())
            .header(CONTENT_TYPE, "application/cloudevents+json")
            .header("webhook-id", &notification.id)
            .header("webhook-timestamp", at)
            .header("webhook-signature", self.secret.sign(&notification.id, at, &body))
            .body(body)
            .send()
            .await
            // The address stays out of the log: its path may be a secret.
            .map_err(|error| unavailable(chain(&error.without_url()), None))?;
        let status = answer.status();
        let reason = format!("{} answered {}", self.address.host(), status.as_u16());
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => Err(NotifierError::Refused { reason }),
            status if status.is_redirection() => Err(NotifierError::Refused {
                reason: format!("{reason}: redirects are not followed; set its final address"),
            }),
            _ => {
                let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                Err(unavailable(reason, wait.and_then(|text| text.trim().parse().ok())))
            }
        }
    }
}

fn unavailable(reason: String, seconds: Option<u32>) -> NotifierError {
    let retry_after = seconds.map(|seconds| SignedDuration::from_secs(i64::from(seconds)));
    NotifierError::Unavailable { reason, retry_after }
}

/// An error with its causes: the outermost alone says only that sending failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
