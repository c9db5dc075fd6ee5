//! Faults that a test orders for matching requests.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::exchange::Refusal;

/// One ordered fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Which requests it befalls. Absent: all but `/sim` and `/dev`.
    #[serde(default, rename = "match")]
    pub matching: Matching,
    /// What befalls them.
    pub kind: FaultKind,
    /// The status of an `error`; default 500.
    #[serde(default)]
    pub status: Option<u16>,
    /// The code of an `error`; default `InternalServerError`.
    #[serde(default)]
    pub code: Option<String>,
    /// The message of an `error`.
    #[serde(default)]
    pub message: Option<String>,
    /// `Retry-After` of an `error`, in seconds.
    #[serde(default)]
    pub retry_after: Option<u64>,
    /// How long a `delay` holds the request before it takes effect, in milliseconds.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// How many requests it befalls; 0 is all until the faults are deleted. Default 1.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// Which requests a fault befalls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Matching {
    /// The method, in any case; absent matches all.
    #[serde(default)]
    pub method: Option<String>,
    /// A part of the path, in any case; absent matches all.
    #[serde(default)]
    pub path_contains: Option<String>,
}

/// What befalls a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// It is refused with `status`, `code` and `message` and has no effect.
    Error,
    /// It is held for `delayMs`, then takes effect and is answered, even if the client has gone.
    Delay,
    /// The connection ends; nothing took effect.
    DropBefore,
    /// It takes effect, then the connection ends without an answer.
    DropAfter,
}

impl Fault {
    pub(crate) fn refusal(&self) -> Refusal {
        let status = self.status.and_then(|status| StatusCode::from_u16(status).ok());
        let mut refusal = Refusal::new(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            self.code.as_deref().unwrap_or("InternalServerError"),
            self.message.as_deref().unwrap_or("A fault was ordered for this request."),
        );
        refusal.retry_after = self.retry_after;
        refusal
    }

    pub(crate) fn hold(&self) -> Duration {
        match self.kind {
            FaultKind::Delay => Duration::from_millis(self.delay_ms.unwrap_or(0)),
            FaultKind::Error | FaultKind::DropBefore | FaultKind::DropAfter => Duration::ZERO,
        }
    }

    fn befalls(&self, method: &Method, path: &str) -> bool {
        let Matching { method: wanted, path_contains } = &self.matching;
        wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method.as_str()))
            && path_contains
                .as_ref()
                .is_none_or(|part| path.to_ascii_lowercase().contains(&part.to_ascii_lowercase()))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    /// The first ordered fault that befalls this request; it is used up.
    pub(crate) fn strike(&mut self, method: &Method, path: &str) -> Option<Fault> {
        let at = self.0.iter().position(|fault| fault.befalls(method, path))?;
        let fault = self.0.get_mut(at)?;
        let struck = fault.clone();
        match fault.times {
            0 => {}
            1 => {
                self.0.remove(at);
            }
            _ => fault.times -= 1,
        }
        Some(struck)
    }
}
