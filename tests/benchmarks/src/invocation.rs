//! What a real invocation costs the executable: messages to `reconcile` about NSGs that are as they should be, each of
//! which reads the store and Azure Resource Manager and writes the lease twice.

use end_to_end_tests::{Stack, id};
use functions_host::OutgoingMessage;
use serde_json::json;
use std::time::Duration;

/// How often each NSG is looked at.
const ROUNDS: u32 = 20;

/// The CPU time, user and system, that the handler takes for each look.
pub(crate) async fn cost(stack: &Stack, nsgs: usize) -> Duration {
    let handler = stack.host.handler_pid().unwrap();
    // The first looks open connections.
    look(stack, nsgs).await;
    let before = crate::effort::cpu_time(handler).unwrap();
    for _ in 0..ROUNDS {
        look(stack, nsgs).await;
    }
    let looks = ROUNDS * u32::try_from(nsgs).unwrap();
    (crate::effort::cpu_time(handler).unwrap() - before) / looks
}

/// Sends one message for each NSG, and waits until all were handled.
async fn look(stack: &Stack, nsgs: usize) {
    for index in 0..nsgs {
        let nsg = id("Microsoft.Network/networkSecurityGroups", &format!("bench-{index}"));
        let body = json!({ "point": nsg }).to_string().into();
        stack.host.send("reconcile", OutgoingMessage { body, ..OutgoingMessage::default() }).unwrap();
    }
    stack.eventually("all were looked at", crate::PATIENCE, async |stack| stack.is_at_rest()).await;
}
