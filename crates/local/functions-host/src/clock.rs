//! Time as the host sees it: real in local runs, moved by hand in tests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

/// What timers, scheduled messages, message locks and expiry run on. Process supervision and function timeouts
/// always use real time, because a real process is watched.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Resolves at the first moment not before `deadline`; at once if that is past.
    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        async move {
            // The loop makes "not before" true: a monotonic sleep can end before the wall clock reaches the deadline.
            while let Ok(left) = Duration::try_from(deadline.duration_since(Timestamp::now())) {
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Duration::from_secs(3600))).await;
            }
        }
        .boxed()
    }
}

/// A clock that stands still until it is advanced.
///
/// ```
/// use functions_host::{Clock, ManualClock};
/// let clock = ManualClock::new("2026-06-15T10:00:00Z".parse()?);
/// clock.advance(std::time::Duration::from_secs(60));
/// assert_eq!(clock.now().to_string(), "2026-06-15T10:01:00Z");
/// # Ok::<(), jiff::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: Arc<Mutex<watch::Sender<Timestamp>>>,
}

impl ManualClock {
    /// A clock standing at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self { now: Arc::new(Mutex::new(watch::Sender::new(start))) }
    }

    /// Moves the clock and wakes every sleeper whose deadline was reached.
    pub fn advance(&self, by: Duration) {
        let sender = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        sender.send_modify(|now| {
            // Saturates at the end of representable time, year 9999.
            *now = now.checked_add(by).unwrap_or(Timestamp::MAX);
        });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner).borrow()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner).subscribe();
        async move {
            // An error means the clock was dropped: then time never reaches the deadline.
            if now.wait_for(|now| *now >= deadline).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}
