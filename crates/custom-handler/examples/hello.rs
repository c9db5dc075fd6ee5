//! A complete custom handler: one HTTP route, one queue, one timer.
//!
//! ```text
//! FUNCTIONS_CUSTOMHANDLER_PORT=8080 cargo run -p custom-handler --example hello
//! curl localhost:8080/api/hello
//! ```

use axum::Router;
use axum::routing::get;
use custom_handler::{Exit, Functions, Invocation, ServiceBusMessage, TimerEvent};

fn main() -> Exit {
    custom_handler::logging::init();
    custom_handler::run(functions())
}

async fn functions() -> Result<Functions, String> {
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "hello".to_owned());
    if greeting.is_empty() {
        return Err("GREETING is empty: set it to a word, or unset it".to_owned());
    }
    let router = Router::new().route("/api/hello", get(greeting.clone()));
    Ok(Functions::new()
        .http(router)
        .queue("greet", move |message, invocation| greet(greeting.clone(), message, invocation))
        .timer("tick", tick))
}

async fn greet(greeting: String, message: ServiceBusMessage, invocation: Invocation) -> Result<(), String> {
    let name =
        std::str::from_utf8(&message.body).map_err(|error| format!("the name is not text: {error}"))?;
    invocation.logs().push(format!("{greeting}, {name}"));
    Ok(())
}

async fn tick(event: TimerEvent, _: Invocation) -> Result<(), std::convert::Infallible> {
    tracing::info!(late = event.is_past_due, "tick");
    Ok(())
}
