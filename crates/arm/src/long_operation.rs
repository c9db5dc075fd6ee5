//! Writes, and what Azure is still doing after it has answered one.
//!
//! A write is answered with 200, 201 or 202 while the operation goes on. Its state is at `Azure-AsyncOperation`
//! (`{"status": "InProgress" | "Succeeded" | "Failed" | "Canceled"}`), else at `Location` (202 while it runs), else
//! in the resource's own `provisioningState`.

use std::time::Duration;

use ajar_access::ports::azure::{AzureError, WriteOutcome};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, Url};
use serde_json::Value;

use crate::failure::{ErrorBody, of_operation};
use crate::http::{Answer, Call};
use crate::resource_manager::ResourceManager;

/// How long one write is waited for, its own request included.
const PATIENCE: SignedDuration = SignedDuration::from_secs(20);
/// The first look comes after this pause; each pause is half as long again as the one before. `Retry-After` on
/// success (10 s on every recorded NSG write) is meant for slow pollers and is not heeded: most writes are done
/// within a second or two, and somebody waits for the port to open.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_millis(100);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// A bound on looks, far above what fits into the patience.
const MAX_LOOKS: u32 = 200;
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// What one look at an operation found.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Done,
    Running,
    /// It ended without doing what it should. Unlike an error of the look itself, this is final.
    Failed(AzureError),
}

impl ResourceManager {
    /// Sends a write and waits for what it starts, within [`PATIENCE`]. Nothing is sent twice.
    pub(crate) async fn write(&self, call: Call<'_>) -> Result<WriteOutcome, AzureError> {
        let started = self.clock.now();
        let answer = self.send(&call).await.map_err(|refusal| refusal.error)?;
        match self.goes_on_at(&answer, &call) {
            None => match found(&answer.body) {
                Look::Failed(error) => Err(error),
                Look::Done | Look::Running => Ok(WriteOutcome::Done),
            },
            Some(address) => self.wait(address, started, call.what).await,
        }
    }

    /// Looks at an operation once.
    pub(crate) async fn look_again(&self, operation: &str) -> Result<WriteOutcome, AzureError> {
        let url = self.endpoint.handed_out(operation)?;
        match self.look(Call::new(Method::GET, url, "the operation")).await? {
            Look::Done => Ok(WriteOutcome::Done),
            Look::Running => Ok(WriteOutcome::Running(operation.to_owned())),
            Look::Failed(error) => Err(error),
        }
    }

    /// Where the operation that a write started can be watched; none when it is over.
    fn goes_on_at(&self, answer: &Answer, call: &Call<'_>) -> Option<Url> {
        let header = answer.async_operation.as_deref().or_else(|| {
            // A 201 may name the new resource there; only 202 says that something is under way.
            answer.location.as_deref().filter(|_| answer.status == 202)
        });
        if let Some(address) = header {
            match self.endpoint.handed_out(address) {
                Ok(url) => return Some(url),
                Err(error) => {
                    tracing::warn!(%error, resource = call.what, "watching the resource instead of its operation");
                    return Some(call.url.clone());
                }
            }
        }
        let under_way =
            answer.status == 202 || provisioning_state(&answer.body).is_some_and(|state| !is_terminal(state));
        under_way.then(|| call.url.clone())
    }

    async fn wait(&self, address: Url, started: Timestamp, what: &str) -> Result<WriteOutcome, AzureError> {
        let mut pace = FIRST_PAUSE;
        let mut asked_for = SignedDuration::ZERO;
        for _ in 0..MAX_LOOKS {
            let pause = pace.max(asked_for);
            let left = PATIENCE - self.clock.now().duration_since(started) - pause;
            if !left.is_positive() {
                break;
            }
            self.clock.sleep(pause).await;
            let mut call = Call::new(Method::GET, address.clone(), what);
            call.timeout = call.timeout.min(left.unsigned_abs()).max(SHORTEST_TIMEOUT);
            asked_for = match self.look(call).await {
                Ok(Look::Done) => return Ok(WriteOutcome::Done),
                Ok(Look::Failed(error)) => return Err(error),
                Ok(Look::Running) => SignedDuration::ZERO,
                // That one look failed says nothing about the write.
                Err(AzureError::Unavailable { retry_after, reason }) => {
                    tracing::debug!(%reason, "an operation could not be looked at");
                    retry_after.unwrap_or_default()
                }
                Err(error) => return Err(error),
            };
            pace = (pace + pace / 2).min(LONGEST_PAUSE);
        }
        Ok(WriteOutcome::Running(address.into()))
    }

    async fn look(&self, call: Call<'_>) -> Result<Look, AzureError> {
        match self.send(&call).await {
            Ok(answer) if answer.status == 202 && state(&answer.body).is_none() => Ok(Look::Running),
            Ok(answer) => Ok(found(&answer.body)),
            // Azure forgets operations after a while, and a deleted resource answers so too.
            Err(refusal) if matches!(refusal.error, AzureError::NotFound(_)) => Ok(Look::Done),
            Err(refusal) => Err(refusal.error),
        }
    }
}

/// The state in an operation's or a resource's body. A body without one is the result of an operation that is over.
fn found(body: &Value) -> Look {
    match state(body) {
        None => Look::Done,
        Some(state) if state.eq_ignore_ascii_case("Succeeded") => Look::Done,
        Some(state) if is_terminal(state) => Look::Failed(of_operation(state, &ErrorBody::read(body))),
        Some(_) => Look::Running,
    }
}

fn state(body: &Value) -> Option<&str> {
    body.get("status").and_then(Value::as_str).or_else(|| provisioning_state(body))
}

fn provisioning_state(body: &Value) -> Option<&str> {
    body.get("properties")?.get("provisioningState")?.as_str()
}

/// Whether an operation in this state is over: there are exactly three such states, and any other means that it goes
/// on (`Updating`, `InProgress`, `Deleting`, `Accepted`).
fn is_terminal(state: &str) -> bool {
    ["Succeeded", "Failed", "Canceled"].iter().any(|known| known.eq_ignore_ascii_case(state))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_state_is_read_from_its_place() {
        for (body, expected) in [
            (json!({ "status": "Succeeded" }), Look::Done),
            (json!({ "status": "InProgress" }), Look::Running),
            (json!({ "properties": { "provisioningState": "Updating" } }), Look::Running),
            (json!({ "properties": { "provisioningState": "Succeeded" } }), Look::Done),
            (
                json!({ "status": "InProgress", "properties": { "provisioningState": "Succeeded" } }),
                Look::Running,
            ),
            (Value::Null, Look::Done),
        ] {
            assert_eq!(found(&body), expected, "{body}");
        }
        assert!(matches!(
            found(&json!({ "status": "Failed", "error": { "code": "SecurityRuleConflict" } })),
            Look::Failed(AzureError::Conflict(_))
        ));
    }
}
