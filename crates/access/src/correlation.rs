//! What joins everything that one cause brings about: an HTTP request, the messages it sends, the invocations that
//! handle them, and what is written in Azure at the end.
//!
//! The id goes along with the work and not through every signature, since no decision depends on it: adapters read it
//! with [`current`] when they send something, and log lines have it as `correlation_id`.

use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tracing::Instrument as _;

/// 128 bits, not all zero: a W3C trace id, and a GUID where Azure wants one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CorrelationId(u128);

/// A text that is neither a GUID nor 32 hexadecimal digits, or all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a correlation id is a GUID, or 32 hexadecimal digits, and not all zeros")]
pub struct NoCorrelationId;

impl CorrelationId {
    /// Reads a GUID with its hyphens, as in `x-ms-client-request-id`, or 32 hexadecimal digits.
    ///
    /// # Errors
    /// [`NoCorrelationId`] for anything else: what a caller sends goes into logs and headers.
    pub fn parse(text: &str) -> Result<CorrelationId, NoCorrelationId> {
        let bytes = text.as_bytes();
        let is_guid = bytes.len() == 36
            && bytes.iter().enumerate().all(|(at, byte)| matches!(at, 8 | 13 | 18 | 23) == (*byte == b'-'));
        let digits = if is_guid { text.replace('-', "") } else { text.to_owned() };
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoCorrelationId);
        }
        match u128::from_str_radix(&digits, 16) {
            Ok(id) if id != 0 => Ok(CorrelationId(id)),
            _ => Err(NoCorrelationId),
        }
    }

    /// The trace id of a W3C `traceparent` header (`00-<trace id>-<parent id>-<flags>`).
    ///
    /// # Errors
    /// [`NoCorrelationId`] when there is none in it.
    pub fn of_traceparent(header: &str) -> Result<CorrelationId, NoCorrelationId> {
        header.split('-').nth(1).ok_or(NoCorrelationId).and_then(CorrelationId::parse)
    }

    /// The id as a number.
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

/// A GUID in lower case.
impl fmt::Display for CorrelationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let mut rest = digits.as_str();
        for (length, end) in [(8, "-"), (4, "-"), (4, "-"), (4, "-"), (12, "")] {
            let (part, others) = rest.split_at_checked(length).unwrap_or((rest, ""));
            write!(formatter, "{part}{end}")?;
            rest = others;
        }
        Ok(())
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl TryFrom<String> for CorrelationId {
    type Error = NoCorrelationId;

    fn try_from(text: String) -> Result<CorrelationId, NoCorrelationId> {
        CorrelationId::parse(&text)
    }
}

impl From<CorrelationId> for String {
    fn from(id: CorrelationId) -> String {
        id.to_string()
    }
}

thread_local! {
    static CURRENT: Cell<Option<CorrelationId>> = const { Cell::new(None) };
}

/// The id of the work that runs here now, if it was given one.
pub fn current() -> Option<CorrelationId> {
    CURRENT.get()
}

/// Does `work` under an id: [`current`] returns it in there, and log lines have it. `kind` is what the work is, for
/// log and trace. Work that is handed to another task is not under it. Without an id, and under the one that is there
/// already, it is done as it is.
pub async fn within<F: Future>(
    id: impl Into<Option<CorrelationId>>,
    kind: &'static str,
    work: F,
) -> F::Output {
    let Some(id) = id.into().filter(|id| current() != Some(*id)) else { return work.await };
    let work = async {
        // Made in here, so that whatever names traces can name this one after the id.
        let span = tracing::info_span!("work", kind, correlation_id = %id);
        work.instrument(span).await
    };
    Within { id, work: Box::pin(work) }.await
}

struct Within<F> {
    id: CorrelationId,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _restore = Restore(CURRENT.replace(Some(self.id)));
        self.work.as_mut().poll(context)
    }
}

/// Puts the id back that was there before, also when the work panics.
struct Restore(Option<CorrelationId>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "0af76519-16cd-43dd-8448-eb211c80319c";

    #[test]
    fn guids_and_trace_ids_are_the_same_id() {
        let id = CorrelationId::parse(GUID).unwrap();
        assert_eq!(id.to_string(), GUID);
        assert_eq!(CorrelationId::parse("0AF7651916CD43DD8448EB211C80319C"), Ok(id));
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(CorrelationId::of_traceparent(header), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{GUID}\""));
        assert_eq!(serde_json::from_str::<CorrelationId>(&format!("\"{GUID}\"")).unwrap(), id);
    }

    #[test]
    fn nothing_else_is_one() {
        let zeros = "0".repeat(32);
        for bad in [
            "",
            "1",
            zeros.as_str(),
            "00000000-0000-0000-0000-000000000000",
            "0af7651916cd43dd8448eb211c80319",
            "0af7651916cd43dd8448eb211c80319c0",
            "0af76519-16cd-43dd-8448eb21-1c80319c",
            "+af7651916cd43dd8448eb211c80319c",
            "0af76519-16cd-43dd-8448-eb211c80319\n",
            "{0af76519-16cd-43dd-8448-eb211c80319c}",
            "äaf7651916cd43dd8448eb211c80319",
        ] {
            assert_eq!(CorrelationId::parse(bad), Err(NoCorrelationId), "{bad:?}");
        }
        assert!(CorrelationId::of_traceparent("00").is_err());
    }

    #[tokio::test]
    async fn work_that_takes_turns_keeps_its_own_id() {
        let (one, other) = (CorrelationId(1), CorrelationId(2));
        let seen = |id| {
            within(id, "test", async {
                let before = current();
                tokio::task::yield_now().await;
                (before, current())
            })
        };
        let (first, second) = futures::join!(seen(one), seen(other));
        assert_eq!(first, (Some(one), Some(one)));
        assert_eq!(second, (Some(other), Some(other)));
        assert_eq!(current(), None);
        let nested =
            within(one, "outer", async { (within(other, "inner", async { current() }).await, current()) });
        assert_eq!(nested.await, (Some(other), Some(one)));
    }
}
