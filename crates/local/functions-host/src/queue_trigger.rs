//! Takes messages from a queue and runs its function with them (protocol page, sections 2.7 and 3.5).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::envelope::{BindingData, Value};
use crate::functions::Function;
use crate::invocation::{Invoker, Trigger};
use crate::log::LogLevel;
use crate::newtonsoft::Json;
use crate::service_bus::{Delivery, Message};

/// The namespace name that handlers see in Metadata.
const NAMESPACE: &str = "local.servicebus.windows.net";

/// Limits from host.json.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_concurrent_calls: usize,
    pub(crate) max_auto_lock_renewal: Duration,
}

/// Runs until the host stops.
pub(crate) async fn listen(invoker: Invoker, function: Arc<Function>, queue: String, limits: Limits) {
    let calls = Arc::new(Semaphore::new(limits.max_concurrent_calls));
    // Aborts the running invocations when the listener is aborted.
    let mut running = tokio::task::JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else {
            return;
        };
        // A stopped host takes no messages; they wait for the next one.
        let received = tokio::select! {
            received = invoker.bus.receive(&queue) => received,
            () = invoker.worker.stopped() => return,
        };
        let delivery = match received {
            Ok(delivery) => delivery,
            Err(error) => {
                invoker.log.host(LogLevel::Error, error.to_string());
                return;
            }
        };
        while running.try_join_next().is_some() {}
        let (invoker, function, queue) = (invoker.clone(), Arc::clone(&function), queue.clone());
        running.spawn(async move {
            process(&invoker, &function, &queue, &delivery, limits.max_auto_lock_renewal).await;
            drop(permit);
        });
    }
}

async fn process(
    invoker: &Invoker,
    function: &Function,
    queue: &str,
    delivery: &Delivery,
    max_renewal: Duration,
) {
    let trigger = trigger(function, delivery);
    let run = invoker.invoke(function, &trigger);
    let renewal = keep_lock(invoker, queue, delivery, max_renewal);
    let result = tokio::select! {
        result = run => result,
        never = renewal => match never {},
    };
    let settled = match result {
        Ok(_) => invoker.bus.complete(queue, delivery.token),
        Err(_) => invoker.bus.abandon(queue, delivery.token),
    };
    if let Err(error) = settled {
        invoker.log.host(
            LogLevel::Error,
            format!("Message {} of queue '{queue}': {error}", delivery.message.message_id),
        );
    }
}

/// Renews the lock at half its life until `max_renewal` has passed since the delivery; then it may expire.
async fn keep_lock(
    invoker: &Invoker,
    queue: &str,
    delivery: &Delivery,
    max_renewal: Duration,
) -> std::convert::Infallible {
    let clock = invoker.bus.clock();
    let step = delivery.lock_duration / 2;
    let mut passed = Duration::ZERO;
    let mut at = clock.now();
    while passed + step <= max_renewal && !step.is_zero() {
        passed += step;
        at = at.checked_add(step).unwrap_or(jiff::Timestamp::MAX);
        clock.sleep_until(at).await;
        if invoker.bus.renew(queue, delivery.token).is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// The trigger value and binding data of one message.
pub(crate) fn trigger(function: &Function, delivery: &Delivery) -> Trigger {
    let body = &delivery.message.sent.body;
    Trigger {
        value: if function.trigger_is_binary {
            Value::Bytes(body.to_vec())
        } else {
            Value::Text(String::from_utf8_lossy(body).into_owned())
        },
        binding_data: binding_data(&delivery.message, &delivery.token.to_string()),
        new_id_for_each_attempt: false,
    }
}

fn binding_data(message: &Message, lock_token: &str) -> BindingData {
    let mut data = BindingData::default();
    for helper in ["MessageReceiver", "MessageSession", "MessageActions", "SessionActions", "ReceiveActions"]
    {
        data.set(helper, Value::Json(Json::Object(Vec::new())));
    }
    data.set(
        "Client",
        Value::Json(Json::object([
            ("FullyQualifiedNamespace", Json::text(NAMESPACE)),
            ("IsClosed", Json::Bool(false)),
            ("TransportType", Json::integer(0)),
            ("Identifier", Json::text("local")),
        ])),
    );
    let sent = &message.sent;
    let text = |value: &Option<String>| value.clone().map_or(Value::Null, Value::Text);
    let properties = Value::Json(Json::Object(
        sent.properties.iter().map(|(name, value)| (name.clone(), Json::text(value.as_str()))).collect(),
    ));
    for (name, value) in [
        ("DeliveryCount", Value::Number(i64::from(message.delivery_count))),
        ("LockToken", Value::Text(lock_token.to_owned())),
        ("ExpiresAtUtc", Value::DateTime(message.expires)),
        ("ExpiresAt", Value::DateTimeOffset(message.expires)),
        ("EnqueuedTimeUtc", Value::DateTime(message.enqueued)),
        ("EnqueuedTime", Value::DateTimeOffset(message.enqueued)),
        ("MessageId", Value::Text(message.message_id.clone())),
        ("ContentType", text(&sent.content_type)),
        ("ReplyTo", text(&sent.reply_to)),
        ("SequenceNumber", Value::Number(i64::try_from(message.sequence_number).unwrap_or(i64::MAX))),
        ("To", text(&sent.to)),
        ("Subject", text(&sent.label)),
        ("Label", text(&sent.label)),
        ("CorrelationId", text(&sent.correlation_id)),
        ("ApplicationProperties", properties.clone()),
        ("UserProperties", properties),
        ("SessionId", text(&sent.session_id)),
        ("ReplyToSessionId", text(&sent.reply_to_session_id)),
        ("PartitionKey", text(&sent.partition_key)),
    ] {
        data.set(name, value);
    }
    data
}
