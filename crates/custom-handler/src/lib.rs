#![doc = include_str!("../README.md")]

mod answer;
mod envelope;
mod event_grid;
mod exit;
mod function_json;
mod functions;
mod http_output;
mod http_request;
mod invocation;
pub mod logging;
mod message_body;
mod provenance;
mod server;
mod service_bus;
mod storage_queue;
mod timer;
mod trigger;

pub use answer::{EncodeError, IntoInvocationResponse, InvocationResponse};
pub use envelope::{InvocationRequest, Metadata};
pub use event_grid::EventGridEvent;
pub use exit::{Exit, ServeError};
pub use function_json::Mismatch;
pub use functions::{DEFAULT_HTTP_LIMIT, DEFAULT_INVOCATION_LIMIT, Functions, RegistrationError};
pub use http_output::HttpOutput;
pub use http_request::HttpRequest;
pub use invocation::{Invocation, Logs, MAX_LOG_LINES, RetryHint};
pub use message_body::UnexpectedJson;
pub use server::{HTTP_WAIT, Server, run, serve};
pub use service_bus::{ServiceBusHints, ServiceBusMessage};
pub use storage_queue::{StorageQueueHints, StorageQueueMessage};
pub use timer::{ScheduleStatus, TimerEvent};
pub use trigger::{DecodeError, QueueMessage, Trigger};
