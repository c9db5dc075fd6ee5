//! Logs for the host: one line of JSON per record on stdout, with the ids of the invocation it belongs to.
//!
//! The host takes a line on stdout as an Information record that belongs to nothing, and one on stderr as an
//! error. So each line carries its own level and, from the spans around it, `invocation_id`, `traceparent` and
//! `function`. JSON because a line break in a message would otherwise become a second, forged record.

use std::fmt::Debug;
use std::io::Write as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Names of fields whose values are never written, `-` and `_` alike and whatever the case.
pub const NEVER_LOGGED: [&str; 10] = [
    "access_token",
    "authorization",
    "client_secret",
    "cookie",
    "password",
    "refresh_token",
    "secret",
    "set_cookie",
    "token",
    "x_functions_key",
];

/// Sends `tracing` records to stdout, from level INFO on or as `RUST_LOG` says (`info,my_app=debug`), and
/// panics with them. Does nothing if a subscriber is already installed.
pub fn init() {
    init_with(None);
}

/// [`init`], with one more layer that sees everything, whatever `RUST_LOG` says.
pub fn init_with(more: Option<Box<dyn Layer<Registry> + Send + Sync>>) {
    let wanted = std::env::var("RUST_LOG").ok();
    let parsed = wanted.as_deref().map(str::parse::<Targets>);
    let levels = match &parsed {
        Some(Ok(levels)) => levels.clone(),
        Some(Err(_)) | None => Targets::new().with_default(LevelFilter::INFO),
    };
    let subscriber =
        tracing_subscriber::registry().with(more).with(lines(write_to_stdout).with_filter(levels));
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        return;
    }
    std::panic::set_hook(Box::new(log_panic));
    if let Some(Err(error)) = parsed {
        tracing::warn!(error = %error, "RUST_LOG is not understood: logging from INFO on");
    }
}

/// The layer behind [`init`], with another place for the lines to go. Each ends with a line break and should
/// be written at once.
pub fn lines<S>(write: impl Fn(&[u8]) + Send + Sync + 'static) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Lines { write }
}

fn write_to_stdout(line: &[u8]) {
    // When stdout is gone there is nowhere left to say so.
    let _ = std::io::stdout().lock().write_all(line);
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("(no message)");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, panic = message, "panicked");
}

struct Lines<W> {
    write: W,
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&[u8]) + Send + Sync + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut line = Map::new();
        line.insert("time".to_owned(), jiff::Timestamp::now().to_string().into());
        line.insert("level".to_owned(), level(*event.metadata().level()).into());
        line.insert("message".to_owned(), own.0.remove("message").unwrap_or_default());
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.extend(fields.0.clone());
            }
        }
        line.insert("target".to_owned(), event.metadata().target().into());
        line.extend(own.0);
        let mut line = Value::Object(line).to_string();
        line.push('\n');
        (self.write)(line.as_bytes());
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let plain = field.name().to_ascii_lowercase().replace('-', "_");
        let secret = NEVER_LOGGED.contains(&plain.as_str()) || plain.starts_with("x_ms_token_");
        let value = if secret { Value::from("[redacted]") } else { value };
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}").into());
    }
}
