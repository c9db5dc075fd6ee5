#![doc = include_str!("../README.md")]

mod answer;
mod authorization;
mod clock;
mod envelope;
mod front;
mod functions;
mod host;
mod host_json;
mod http_trigger;
mod incoming;
mod invocation;
mod log;
mod newtonsoft;
mod outgoing;
mod queue_trigger;
mod request_target;
mod route;
mod schedule;
mod sending;
mod service_bus;
mod settings;
mod timer_trigger;
mod wire;
mod worker;

#[cfg(test)]
mod traces;

pub use authorization::Keys;
pub use clock::{Clock, ManualClock, SystemClock};
pub use host::{FunctionsHost, HostError, Options};
pub use log::{LogLevel, LogLine, LogSource};
pub use outgoing::HOST_VERSION;
pub use sending::TokenCheck;
pub use service_bus::{DeadLetter, Message, OutgoingMessage, QueueOptions, QueueView};
pub use worker::HandlerState;
