//! The machine's clock and randomness.

use ajar_access::ports::clock::{Clock, Ids};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

/// The machine's clock.
pub(crate) struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: SignedDuration) {
        // What is not positive has no unsigned form: nothing to wait for.
        if let Ok(duration) = duration.try_into() {
            tokio::time::sleep(duration).await;
        }
    }
}

/// Random identifiers from the operating system.
pub(crate) struct RandomIds;

impl Ids for RandomIds {
    fn fresh(&self) -> String {
        uuid::Uuid::new_v4().simple().to_string()
    }
}
