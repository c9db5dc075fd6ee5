//! What Event Grid tells of writes: late, doubled and out of order, as the switches and the seed say.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rsa::rand_core::RngCore as _;
use serde_json::{Value, json};

use crate::directory::Principal;
use crate::random::Random;
use crate::simulator::{Change, Simulator};
use crate::switches::Switches;

/// Events nobody has taken; of more, the earliest are forgotten, as a full queue would.
const REMEMBERED: usize = 20_000;

/// Events on their way.
pub(crate) struct EventGrid {
    random: Random,
    /// By the moment of their delivery, and in the order of their making.
    pending: BTreeMap<(Timestamp, u64), Value>,
    made: u64,
}

impl EventGrid {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, "events"), pending: BTreeMap::new(), made: 0 }
    }

    /// Makes the event of a change, once or twice.
    pub(crate) fn tell(&mut self, change: &Change, caller: &Principal, tenant: &str, switches: &Switches) {
        // Azure tells of success: an operation's when it ends.
        let takes = if switches.asynchronous { switches.operation_latency_ms } else { 0 };
        let at = later(change.time, takes);
        let event = event(change, caller, tenant, at, &mut self.random);
        let is_doubled = self.random.chance(switches.event_doubled_probability);
        for _ in 0..=u8::from(is_doubled) {
            let delay = match switches.event_delay_ms {
                0 => 0,
                most => self.random.next_u64() % (most + 1),
            };
            self.pending.insert((later(at, delay), self.made), event.clone());
            self.made += 1;
        }
        while self.pending.len() > REMEMBERED {
            self.pending.pop_first();
        }
    }

    fn take(&mut self, now: Timestamp) -> Vec<Value> {
        let mut due = Vec::new();
        while let Some(entry) = self.pending.first_entry()
            && entry.key().0 <= now
        {
            due.push(entry.remove());
        }
        due
    }
}

fn later(at: Timestamp, millis: u64) -> Timestamp {
    at.checked_add(Duration::from_millis(millis)).unwrap_or(Timestamp::MAX)
}

impl Simulator {
    /// Takes the events that have been delivered by now, in the order of their delivery: one JSON object each, in the
    /// Event Grid schema, as they reach a Service Bus queue.
    pub fn take_events(&mut self) -> Vec<Value> {
        let now = self.clock.now();
        self.events.take(now)
    }
}

fn event(change: &Change, caller: &Principal, tenant: &str, at: Timestamp, random: &mut Random) -> Value {
    let subscription = change.resource.split('/').nth(2).unwrap_or_default();
    let provider = change.action.split('/').next().unwrap_or_default();
    let mut claims = json!({
        "appid": if caller.is_application { caller.label.as_str() } else { "04b07795-8ddb-461a-bbee-02f9e1bf7b46" },
        "http://schemas.microsoft.com/identity/claims/objectidentifier": caller.object_id,
        "http://schemas.microsoft.com/identity/claims/tenantid": tenant,
        "ver": "1.0",
    });
    if let Some(claims) = claims.as_object_mut().filter(|_| !caller.is_application) {
        claims.insert("name".to_owned(), json!(caller.display_name));
        claims.insert(
            "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn".to_owned(),
            json!(caller.label),
        );
    }
    json!({
        "subject": change.resource,
        "eventType": change.event_type,
        "eventTime": at.to_string(),
        "id": random.guid(),
        "data": {
            "authorization": {
                "scope": change.resource,
                "action": change.action,
                "evidence": { "principalId": caller.object_id },
            },
            "claims": claims,
            "correlationId": random.guid(),
            "resourceProvider": provider,
            "resourceUri": change.resource,
            "operationName": change.action,
            "status": "Succeeded",
            "subscriptionId": subscription,
            "tenantId": tenant,
        },
        "dataVersion": "2",
        "metadataVersion": "1",
        "topic": format!("/subscriptions/{subscription}"),
    })
}
