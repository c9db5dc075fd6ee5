//! Runs functions: builds the request, sends it, judges the answer, binds the outputs.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::answer::{self, Collector, Outcome, Output};
use crate::envelope::{self, BindingData, Value};
use crate::functions::{Function, OutputKind};
use crate::incoming::Incoming;
use crate::log::{Log, LogLevel, LogSource};
use crate::newtonsoft::Json;
use crate::outgoing::{default_request, forwarded_request, redirected};
use crate::service_bus::{OutgoingMessage, ServiceBus};
use crate::wire::{WireAnswer, WireRequest};
use crate::worker::Worker;

/// Between the timeout of a function and the kill, and before the client hears of it.
const TIMEOUT_GRACE: Duration = Duration::from_secs(2);
/// How long a failed request waits for news of the process's end.
const CRASH_NOTICE: Duration = Duration::from_millis(100);
/// How long a timed-out invocation waits until its handler is dead, which takes the host a second at most.
const KILL_NOTICE: Duration = Duration::from_secs(1);
const MAX_REDIRECTS: usize = 50;

/// Why an invocation failed, in the host's words where they are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Executed 'Functions.{function}' (Failed, Id={invocation}): {reason}")]
pub(crate) struct InvocationFailed {
    pub(crate) function: String,
    pub(crate) invocation: String,
    pub(crate) reason: String,
}

/// What a trigger hands to an invocation.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    /// The value of the trigger binding.
    pub(crate) value: Value,
    /// What the trigger put into binding data. `sys` and the overlay are added here.
    pub(crate) binding_data: BindingData,
    /// HTTP invocations get a new id for each attempt of a retry policy, others keep theirs.
    pub(crate) new_id_for_each_attempt: bool,
}

/// Runs invocations; clones share everything.
#[derive(Clone)]
pub(crate) struct Invoker {
    pub(crate) worker: Worker,
    pub(crate) bus: ServiceBus,
    pub(crate) function_timeout: Option<Duration>,
    pub(crate) log: Log,
}

impl Invoker {
    /// A DEFAULT-mode invocation with the function's retry policy.
    pub(crate) async fn invoke(
        &self,
        function: &Function,
        trigger: &Trigger,
    ) -> Result<Outcome, InvocationFailed> {
        let mut id = Uuid::new_v4();
        let mut retry_count = 0;
        let mut last_failure: Option<String> = None;
        loop {
            let context = function
                .retry
                .as_ref()
                .map(|policy| retry_context(retry_count, policy.max_retry_count, last_failure.as_deref()));
            let body = request_body(function, trigger, context, self.bus.clock().now(), Uuid::new_v4());
            let request = default_request(self.worker.port, &function.name, &id.to_string(), body);
            let result = self.attempt(function, &request).await;
            let failure = match result {
                Ok(outcome) => {
                    self.log.host(
                        LogLevel::Information,
                        format!("Executed 'Functions.{}' (Succeeded, Id={id})", function.name),
                    );
                    return Ok(outcome);
                }
                Err(reason) => {
                    InvocationFailed { function: function.name.clone(), invocation: id.to_string(), reason }
                }
            };
            self.log.host(LogLevel::Error, failure.to_string());
            let policy = function
                .retry
                .as_ref()
                .filter(|policy| policy.max_retry_count.is_none_or(|max| retry_count < max));
            let Some(policy) = policy else {
                return Err(failure);
            };
            retry_count += 1;
            last_failure = Some(failure.reason);
            tokio::time::sleep(policy.delay(retry_count)).await;
            if trigger.new_id_for_each_attempt {
                id = Uuid::new_v4();
            }
        }
    }

    async fn attempt(&self, function: &Function, request: &WireRequest) -> Result<Outcome, String> {
        let answer = self.limited(function, self.send_following_redirects(request, function)).await?;
        let judgement = answer::judge(&answer, &function.outputs);
        for line in judgement.logs {
            self.log.write(LogLevel::Information, LogSource::Function, line);
        }
        let outcome = judgement.result?;
        self.bind_outputs(function, &outcome)?;
        Ok(outcome)
    }

    /// A forwarded invocation: whatever the handler answers is a success.
    pub(crate) async fn forward(
        &self,
        function: &Function,
        incoming: &Incoming,
        target_path: Option<&str>,
    ) -> Result<WireAnswer, InvocationFailed> {
        let id = Uuid::new_v4().to_string();
        let result = match forwarded_request(incoming, &id, target_path) {
            Ok(request) => {
                let send = async { request.send(self.worker.port).await.map_err(|error| error.to_string()) };
                self.limited(function, send).await
            }
            Err(error) => Err(error.to_string()),
        };
        result
            .inspect(|_| {
                self.log.host(
                    LogLevel::Information,
                    format!("Executed 'Functions.{}' (Succeeded, Id={id})", function.name),
                );
            })
            .map_err(|reason| {
                let failure = InvocationFailed { function: function.name.clone(), invocation: id, reason };
                self.log.host(LogLevel::Error, failure.to_string());
                failure
            })
    }

    /// Waits for the handler, then applies functionTimeout; running into it kills the handler.
    async fn limited(
        &self,
        function: &Function,
        send: impl Future<Output = Result<WireAnswer, String>>,
    ) -> Result<WireAnswer, String> {
        self.worker.ready().await?;
        let Some(limit) = self.function_timeout else {
            return self.noticing_crashes(send).await;
        };
        let send = self.noticing_crashes(send);
        tokio::pin!(send);
        if let Ok(answer) = tokio::time::timeout(limit, &mut send).await {
            return answer;
        }
        // The grace lets a function that watches for cancellation end; this one cannot, but time passes all the same.
        tokio::time::sleep(TIMEOUT_GRACE).await;
        self.worker.restart();
        self.worker.not_initialized(KILL_NOTICE).await;
        Err(format!(
            "Timeout value of {}s was exceeded by function: Functions.{}",
            limit.as_secs_f64(),
            function.name
        ))
    }

    /// A broken connection usually means a crash, and the supervisor hears of it a moment later. Without the pause
    /// an abandoned message would come back at once, meet the dead handler again and use up its deliveries; in Azure
    /// the network between bus and host gives that moment.
    async fn noticing_crashes(
        &self,
        send: impl Future<Output = Result<WireAnswer, String>>,
    ) -> Result<WireAnswer, String> {
        let result = send.await;
        if result.is_err() {
            self.worker.not_initialized(CRASH_NOTICE).await;
        }
        result
    }

    pub(crate) async fn send_following_redirects(
        &self,
        request: &WireRequest,
        function: &Function,
    ) -> Result<WireAnswer, String> {
        let mut request = request.clone();
        for _ in 0..MAX_REDIRECTS {
            let answer = request.send(self.worker.port).await.map_err(|error| error.to_string())?;
            let next = answer
                .header("Location")
                // The host builds its client without redirects as soon as forwarding is enabled anywhere.
                .filter(|_| function.follows_redirects)
                .and_then(|location| redirected(&request, answer.status, location));
            match next {
                Some(next) => request = next,
                None => return Ok(answer),
            }
        }
        request.send(self.worker.port).await.map_err(|error| error.to_string())
    }

    fn bind_outputs(&self, function: &Function, outcome: &Outcome) -> Result<(), String> {
        for binding in &function.outputs {
            let value = bound_value(&binding.name, outcome);
            match (&binding.kind, value) {
                (OutputKind::Http, _) | (_, None) => {}
                (OutputKind::ServiceBus { queue }, Some(value)) => {
                    let messages = answer::messages(&value, Collector::Text)?
                        .into_iter()
                        .map(|body| OutgoingMessage {
                            body: body.into(),
                            ..OutgoingMessage::default()
                        })
                        .collect();
                    self.bus.send(queue, messages).map_err(|error| error.to_string())?;
                }
                (OutputKind::Other(kind), Some(_)) => self.log.host(
                    LogLevel::Warning,
                    format!(
                        "the output '{}' of function '{}' is dropped: this host does not model {kind} outputs",
                        binding.name, function.name
                    ),
                ),
            }
        }
        Ok(())
    }
}

/// The value of a non-HTTP output: `$return`, a member of a ReturnValue object (which wins), or of `Outputs`.
pub(crate) fn bound_value(binding: &str, outcome: &Outcome) -> Option<Output> {
    if binding == "$return" {
        return outcome.return_value.clone();
    }
    if let Some(Output::Json(Json::Object(members))) = &outcome.return_value
        && let Some((_, value)) = members.iter().find(|(name, _)| name == binding)
    {
        return (!value.is_null()).then(|| Output::Json(value.clone()));
    }
    outcome.outputs.iter().find(|(name, _)| name == binding).map(|(_, value)| value.clone())
}

fn retry_context(count: u32, max: Option<u32>, failure: Option<&str>) -> Json {
    Json::object([
        ("RetryCount", Json::integer(i64::from(count))),
        ("MaxRetryCount", Json::integer(max.map_or(-1, i64::from))),
        (
            "Exception",
            failure.map_or(Json::Null, |message| {
                Json::object([
                    ("ClassName", Json::text("Microsoft.Azure.WebJobs.Host.FunctionInvocationException")),
                    ("Message", Json::text(message)),
                ])
            }),
        ),
        ("Instance", Json::Null),
        ("State", Json::Object(Vec::new())),
    ])
}

/// The DEFAULT body of one attempt.
pub(crate) fn request_body(
    function: &Function,
    trigger: &Trigger,
    retry_context: Option<Json>,
    now: Timestamp,
    random: Uuid,
) -> String {
    let mut metadata = trigger.binding_data.clone();
    metadata.set_system(&function.name, now, random);
    if let Value::Text(text) = &trigger.value {
        metadata.overlay(text);
    }
    if let Some(context) = retry_context {
        metadata.set("RetryContext", Value::Json(context));
    }
    envelope::body(&[(function.trigger_name.clone(), trigger.value.clone())], &metadata)
}
