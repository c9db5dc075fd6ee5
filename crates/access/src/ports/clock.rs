//! Time and fresh identifiers, injected so that a test decides both.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

/// The clock of this instance. Clocks of different instances may differ by seconds.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Returns once `duration` has passed; at once when it is not positive.
    async fn sleep(&self, duration: SignedDuration);
}

/// A source of identifiers that nobody can guess and that never repeat.
pub trait Ids: Send + Sync {
    /// A fresh identifier of 32 lower-case hexadecimal digits.
    fn fresh(&self) -> String;
}
