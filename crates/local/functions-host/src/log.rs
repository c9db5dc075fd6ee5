//! What the host and the handler say.

use std::sync::Arc;

/// Severity as the host ranks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Details of the host's own work.
    Debug,
    /// Handler standard output, and `Logs` of an answer.
    Information,
    /// Standard error lines with "warn" in them; doubtful configuration.
    Warning,
    /// Standard error lines, failed invocations, handler crashes.
    Error,
}

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// This host.
    Host,
    /// The handler's standard output or error.
    Console,
    /// A console line with the prefix `LanguageWorkerConsoleLog`, which only Microsoft would see in Azure.
    System,
    /// `Logs` of a handler's answer, written after it came.
    Function,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Severity.
    pub level: LogLevel,
    /// Who wrote it.
    pub source: LogSource,
    /// Without line end.
    pub text: String,
}

/// Where lines go.
#[derive(Clone)]
pub(crate) struct Log(Arc<dyn Fn(LogLine) + Send + Sync>);

impl Log {
    pub(crate) fn new(sink: Option<Arc<dyn Fn(LogLine) + Send + Sync>>) -> Self {
        Self(sink.unwrap_or_else(|| Arc::new(trace)))
    }

    pub(crate) fn write(&self, level: LogLevel, source: LogSource, text: impl Into<String>) {
        (self.0)(LogLine { level, source, text: text.into() });
    }

    pub(crate) fn host(&self, level: LogLevel, text: impl Into<String>) {
        self.write(level, LogSource::Host, text);
    }
}

fn trace(line: LogLine) {
    let LogLine { level, source, text } = line;
    match level {
        LogLevel::Debug => tracing::debug!(?source, "{text}"),
        LogLevel::Information => tracing::info!(?source, "{text}"),
        LogLevel::Warning => tracing::warn!(?source, "{text}"),
        LogLevel::Error => tracing::error!(?source, "{text}"),
    }
}

/// Prefix that sends a console line to the system log.
const SYSTEM_PREFIX: &str = "LanguageWorkerConsoleLog";
/// Prefix of lines meant for development tools; they are shown as they are.
const TOOLING_PREFIX: &str = "azfuncjsonlog:";

/// Ranks a console line (protocol page, section 1.7).
pub(crate) fn console_line(text: &str, from_stderr: bool, stderr_is_errors: bool) -> LogLine {
    let level = if from_stderr { stderr_level(text, stderr_is_errors) } else { LogLevel::Information };
    match text.strip_prefix(SYSTEM_PREFIX) {
        Some(rest) => LogLine { level, source: LogSource::System, text: rest.to_owned() },
        None => LogLine {
            level: if text.starts_with(TOOLING_PREFIX) { LogLevel::Information } else { level },
            source: LogSource::Console,
            text: text.to_owned(),
        },
    }
}

fn stderr_level(text: &str, stderr_is_errors: bool) -> LogLevel {
    let lower = text.to_ascii_lowercase();
    if lower.contains("warn") {
        LogLevel::Warning
    } else if stderr_is_errors
        || ["error", "fail", "severe", "unhandled exception"].iter().any(|word| lower.contains(word))
    {
        LogLevel::Error
    } else {
        LogLevel::Information
    }
}
