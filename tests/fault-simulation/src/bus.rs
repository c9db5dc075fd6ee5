//! The bus, clock and identifiers of one instance.

use crate::random::mix;
use crate::world::{Event, Fault, Kind, World};
use ajar_access::ports::bus::{Bus, BusError, Message, Queue};
use ajar_access::ports::clock::{Clock, Ids};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

/// The bus as one instance reaches it.
pub(crate) struct Sender {
    pub world: World,
    pub instance: usize,
}

#[async_trait]
impl Bus for Sender {
    async fn send(&self, queue: Queue, message: Message) -> Result<(), BusError> {
        self.world
            .call(self.instance, Kind::Send, move |state, call| {
                if queue == Queue::Parked {
                    state.tell(|| format!("    parked: {}", message.body));
                    return;
                }
                // The bus has a clock of its own, which is the world's.
                let wanted = message.at.map_or(state.now, |at| millis(at).max(state.now));
                let jitter = mix(state.script.seed, 5, call) % 40;
                let struck = state.struck.get(&call).copied();
                let deliver = |tries| Event::Deliver { queue, body: message.body.clone(), tries };
                match struck {
                    Some(Fault::LoseMessage) => {}
                    Some(Fault::RepeatMessage { millis }) => {
                        state.plan(wanted + jitter, deliver(0));
                        state.plan(wanted + millis, deliver(0));
                        state.referee.disturbed(wanted + millis);
                    }
                    Some(Fault::DelayMessage { millis }) => {
                        state.plan(wanted + millis, deliver(0));
                        state.referee.disturbed(wanted + millis);
                    }
                    _ => state.plan(wanted + jitter, deliver(0)),
                }
            })
            .await
            .map_err(|_| BusError::Unavailable { reason: "a fault".to_owned(), retry_after: None })
    }

    async fn reach(&self) -> Result<(), BusError> {
        // Nothing that is simulated asks.
        Ok(())
    }
}

/// Milliseconds from the beginning.
pub(crate) fn millis(at: Timestamp) -> u64 {
    at.duration_since(crate::world::timestamp(0)).as_millis().max(0) as u64
}

/// The clock of one instance.
pub(crate) struct InstanceClock {
    pub world: World,
    pub instance: usize,
}

#[async_trait]
impl Clock for InstanceClock {
    fn now(&self) -> Timestamp {
        self.world.now_of(self.instance)
    }

    async fn sleep(&self, duration: SignedDuration) {
        let millis = duration.as_millis().clamp(0, 86_400_000) as u64;
        self.world.pause(millis).await;
    }
}

/// Identifiers that follow from the seed.
pub(crate) struct SeededIds(pub World);

impl Ids for SeededIds {
    fn fresh(&self) -> String {
        let mut state = self.0.lock();
        state.identifiers += 1;
        let half = |stream| mix(state.script.seed, stream, state.identifiers);
        format!("{:016x}{:016x}", half(6), half(7))
    }
}
