//! Whether what Ajar depends on answers, each dependency by its name.

use crate::Ajar;
use crate::ports::clock::Clock;
use crate::ports::identity::Authenticator;
use crate::scope;
use crate::store_marker;
use futures::future::{Either, join4, select};
use jiff::SignedDuration;
use std::future::Future;
use std::pin::pin;

/// How long one dependency may take to answer.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(3);

/// Something outside that Ajar cannot work without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dependency {
    /// Where its state is.
    Store,
    /// Where its messages go.
    Bus,
    /// Azure Resource Manager: a token for it, and leave to read the first subscription.
    Azure,
    /// The keys that callers' tokens are checked with.
    SigningKeys,
}

impl Dependency {
    /// Its name, for callers and the log.
    pub fn name(self) -> &'static str {
        match self {
            Dependency::Store => "store",
            Dependency::Bus => "bus",
            Dependency::Azure => "azure",
            Dependency::SigningKeys => "signingKeys",
        }
    }
}

/// How one dependency was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub dependency: Dependency,
    /// Why it cannot be used, if it cannot: for the log, never for a caller.
    pub problem: Option<String>,
}

/// Asks every dependency, all at once, each for at most [`LONGEST_WAIT`]. Nothing is written. In Azure it reads Ajar's
/// own role assignments, which are few however large the subscription is.
pub async fn look(ajar: &Ajar, callers: &dyn Authenticator) -> [Found; 4] {
    let store = async { store_marker::standing(ajar).await.map(drop).map_err(|error| error.log_text()) };
    let bus = async { ajar.ports.bus.reach().await.map_err(|error| error.to_string()) };
    let keys = async { callers.ready().await.map_err(|error| error.to_string()) };
    let clock = ajar.ports.clock.as_ref();
    let (store, bus, azure, keys) = join4(
        found(clock, Dependency::Store, store),
        found(clock, Dependency::Bus, bus),
        found(clock, Dependency::Azure, azure(ajar)),
        found(clock, Dependency::SigningKeys, keys),
    )
    .await;
    [store, bus, azure, keys]
}

async fn azure(ajar: &Ajar) -> Result<(), String> {
    let azure = ajar.ports.azure.as_ref();
    let own = azure.own_object_id().await.map_err(|error| error.to_string())?;
    let own = own.ok_or("Ajar's own token names no object id")?;
    let subscription = match ajar.settings.subscriptions.first() {
        Some(subscription) => Some(subscription.clone()),
        None => scope::subscriptions(ajar).await.map_err(|error| error.log_text())?.into_iter().next(),
    };
    let Some(subscription) = subscription else { return Ok(()) };
    let scope = format!("/subscriptions/{subscription}");
    azure.role_assignments(&scope, &own).await.map(drop).map_err(|error| error.to_string())
}

async fn found(
    clock: &dyn Clock,
    dependency: Dependency,
    asked: impl Future<Output = Result<(), String>>,
) -> Found {
    let problem = match select(pin!(asked), pin!(clock.sleep(LONGEST_WAIT))).await {
        Either::Left((answer, _)) => answer.err(),
        Either::Right(((), _)) => Some(format!("no answer within {LONGEST_WAIT:#}")),
    };
    if let Some(problem) = &problem {
        tracing::warn!(dependency = dependency.name(), problem, "a dependency is not ready");
    }
    Found { dependency, problem }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::{FakeAuthenticator, World};
    use std::sync::atomic::Ordering;

    fn failed(found: &[Found]) -> Vec<&'static str> {
        found.iter().filter(|one| one.problem.is_some()).map(|one| one.dependency.name()).collect()
    }

    #[tokio::test]
    async fn whoever_does_not_answer_is_named_and_nobody_else_is() {
        let world = World::new();
        assert_eq!(failed(&look(&world.ajar, &FakeAuthenticator).await), [""; 0]);
        world.bus.is_down.store(true, Ordering::SeqCst);
        assert_eq!(failed(&look(&world.ajar, &FakeAuthenticator).await), ["bus"]);
        world.bus.is_down.store(false, Ordering::SeqCst);
        world.budget.limit(0, false);
        assert_eq!(failed(&look(&world.ajar, &FakeAuthenticator).await), ["store", "bus", "azure"]);
    }

    #[tokio::test]
    async fn silence_is_a_problem_after_three_seconds() {
        let world = World::new();
        let before = world.ajar.ports.clock.now();
        let clock = world.ajar.ports.clock.as_ref();
        let silent = found(clock, Dependency::Store, std::future::pending()).await;
        assert!(silent.problem.unwrap().contains('3'));
        assert_eq!(world.ajar.ports.clock.now() - before, LONGEST_WAIT);
    }
}
