//! host.json: the parts that change what this host does (protocol page, sections 1.2 and 4.4).

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::HostError;
use crate::newtonsoft::{self, Json};
use crate::settings::{Settings, parse_time_span};

/// Default of Flex Consumption, Premium and Dedicated plans.
const DEFAULT_FUNCTION_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const DEFAULT_INITIALIZATION_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_MAX_AUTO_LOCK_RENEWAL: Duration = Duration::from_secs(5 * 60);
/// Times the processor count when host.json says nothing.
const DEFAULT_CONCURRENT_CALLS_PER_CPU: usize = 16;

/// What happens to simple HTTP functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// They get the DEFAULT envelope.
    Off,
    /// The request is passed on under its own path.
    Path,
    /// Legacy `httpWorker`: passed on to `/{FunctionName}`.
    FunctionName,
}

/// How to start the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerDescription {
    pub(crate) executable: PathBuf,
    pub(crate) working_directory: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) stderr_is_errors: bool,
}

/// A retry policy of host.json or function.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retry {
    /// `None` repeats without end.
    pub(crate) max_retry_count: Option<u32>,
    pub(crate) minimum: Duration,
    /// Equal to `minimum` for a fixed delay.
    pub(crate) maximum: Duration,
}

impl Retry {
    /// The pause before attempt `retry` (1 is the first repetition).
    pub(crate) fn delay(&self, retry: u32) -> Duration {
        self.minimum.saturating_mul(2_u32.saturating_pow(retry.saturating_sub(1))).min(self.maximum)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct HostJson {
    pub(crate) worker: WorkerDescription,
    pub(crate) forwarding: Forwarding,
    pub(crate) initialization_timeout: Duration,
    /// `None`: no limit.
    pub(crate) function_timeout: Option<Duration>,
    pub(crate) route_prefix: String,
    pub(crate) max_concurrent_calls: usize,
    pub(crate) max_auto_lock_renewal: Duration,
    pub(crate) retry: Option<Retry>,
    /// The `functions` allow list.
    pub(crate) allowed: Option<Vec<String>>,
    pub(crate) warnings: Vec<String>,
}

fn invalid(message: impl Into<String>) -> HostError {
    HostError::Configuration(message.into())
}

/// Reads `app_root/host.json` with the overrides of `settings`.
pub(crate) fn load(app_root: &Path, settings: &Settings) -> Result<HostJson, HostError> {
    let path = app_root.join("host.json");
    let text =
        std::fs::read_to_string(&path).map_err(|source| HostError::Read { path: path.clone(), source })?;
    let mut root = newtonsoft::parse_file(&text).map_err(|reason| {
        invalid(format!("Unable to parse host configuration file '{}': {reason}", path.display()))
    })?;
    if root.path(&["version"]).and_then(Json::as_text) != Some("2.0") {
        return Err(invalid(
            "The host.json file is missing the required 'version' property with the value \"2.0\"",
        ));
    }
    settings.override_host_json(&mut root);
    from_json(&root, app_root, settings)
}

pub(crate) fn from_json(root: &Json, app_root: &Path, settings: &Settings) -> Result<HostJson, HostError> {
    let mut warnings = Vec::new();
    let custom = root.path(&["customHandler"]);
    let legacy = root.path(&["httpWorker"]);
    if custom.is_some() && legacy.is_some() {
        warnings.push(
            "Both httpWorker and customHandler sections are spefified in host.json file. customHandler takes precedence."
                .to_owned(),
        );
    }
    let section = custom.or(legacy).ok_or_else(|| {
        invalid("host.json has no customHandler section; add one with a description object")
    })?;
    if custom.is_some()
        && section
            .path(&["type"])
            .and_then(Json::as_text)
            .is_some_and(|kind| kind.eq_ignore_ascii_case("none"))
    {
        warnings.push("CustomHandlerType None is not supported. Defaulting to Http.".to_owned());
    }
    let forwarding = if custom.is_none() {
        Forwarding::FunctionName
    } else if flag(section, "enableForwardingHttpRequest") {
        Forwarding::Path
    } else {
        Forwarding::Off
    };
    Ok(HostJson {
        worker: worker(section, app_root, settings)?,
        forwarding,
        initialization_timeout: span(section, &["initializationTimeout"])?
            .flatten()
            .unwrap_or(DEFAULT_INITIALIZATION_TIMEOUT),
        function_timeout: span(root, &["functionTimeout"])?.unwrap_or(Some(DEFAULT_FUNCTION_TIMEOUT)),
        route_prefix: root
            .path(&["extensions", "http", "routePrefix"])
            .and_then(Json::as_text)
            .unwrap_or("api")
            .trim_matches('/')
            .to_owned(),
        max_concurrent_calls: max_concurrent_calls(root)?,
        max_auto_lock_renewal: span(root, &["extensions", "serviceBus", "maxAutoLockRenewalDuration"])?
            .flatten()
            .unwrap_or(DEFAULT_MAX_AUTO_LOCK_RENEWAL),
        retry: retry(root)?,
        allowed: match root.path(&["functions"]) {
            Some(Json::Array(names)) => Some(names.iter().map(Json::to_invariant_text).collect()),
            _ => None,
        },
        warnings,
    })
}

fn worker(section: &Json, app_root: &Path, settings: &Settings) -> Result<WorkerDescription, HostError> {
    let description = section
        .path(&["description"])
        .filter(|description| description.as_object().is_some())
        .ok_or_else(|| invalid("Missing worker Description."))?;
    let text = |name: &str| {
        description
            .path(&[name])
            .map(Json::to_invariant_text)
            .map(|text| settings.resolve_or_empty(&text))
            .unwrap_or_default()
    };
    let executable = text("defaultExecutablePath");
    if executable.is_empty() {
        return Err(invalid("WorkerDescription DefaultExecutablePath cannot be empty"));
    }
    let worker_directory = app_root.join(text("workerDirectory"));
    let in_directory = worker_directory.join(&executable);
    let executable = if in_directory.is_file() { in_directory } else { PathBuf::from(executable) };
    let mut line = words(description, "arguments").join(" ");
    let worker_path = text("defaultWorkerPath");
    if !worker_path.is_empty() {
        line.push_str(&format!(" \"{worker_path}\""));
    }
    for word in words(description, "workerArguments") {
        line.push(' ');
        line.push_str(&word);
    }
    Ok(WorkerDescription {
        executable,
        working_directory: app_root.join(text("workingDirectory")),
        arguments: split_arguments(&settings.resolve_or_empty(&line)),
        stderr_is_errors: description.path(&["useStdErrorStreamForErrorsOnly"]).is_none_or(is_true),
    })
}

/// A list of words; an environment override gives it as one string holding a JSON array.
fn words(description: &Json, name: &str) -> Vec<String> {
    let items = |value: &Json| match value {
        Json::Array(items) => items.iter().map(Json::to_invariant_text).collect(),
        Json::Object(indexed) => indexed.iter().map(|(_, item)| item.to_invariant_text()).collect(),
        _ => Vec::new(),
    };
    match description.path(&[name]) {
        Some(Json::Text(text)) => newtonsoft::parse_file(text).map(|value| items(&value)).unwrap_or_default(),
        Some(value) => items(value),
        None => Vec::new(),
    }
}

/// .NET's own splitting of an argument string: blanks separate, double quotes group, a backslash matters only before
/// a quote.
pub(crate) fn split_arguments(line: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut current = String::new();
    let mut open = false;
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'"') => {
                current.extend(characters.next());
                open = true;
            }
            '"' => {
                quoted = !quoted;
                open = true;
            }
            blank if blank.is_whitespace() && !quoted => {
                if open {
                    arguments.push(std::mem::take(&mut current));
                    open = false;
                }
            }
            other => {
                current.push(other);
                open = true;
            }
        }
    }
    if open {
        arguments.push(current);
    }
    arguments
}

fn is_true(value: &Json) -> bool {
    value.to_invariant_text().eq_ignore_ascii_case("true")
}

fn flag(section: &Json, name: &str) -> bool {
    section.path(&[name]).is_some_and(is_true)
}

/// Absent is `None`; `"-1"` and other negative spans are `Some(None)`, no limit.
fn span(root: &Json, path: &[&str]) -> Result<Option<Option<Duration>>, HostError> {
    root.path(path)
        .map(|value| {
            let text = value.to_invariant_text();
            parse_time_span(&text).ok_or_else(|| {
                invalid(format!("host.json: {} is '{text}'; write it as hh:mm:ss", path.join(".")))
            })
        })
        .transpose()
}

fn max_concurrent_calls(root: &Json) -> Result<usize, HostError> {
    match root.path(&["extensions", "serviceBus", "maxConcurrentCalls"]) {
        Some(value) => value.to_invariant_text().parse().ok().filter(|calls| *calls > 0).ok_or_else(|| {
            invalid("host.json: extensions.serviceBus.maxConcurrentCalls must be a number above 0")
        }),
        None => Ok(DEFAULT_CONCURRENT_CALLS_PER_CPU
            * std::thread::available_parallelism().map_or(1, std::num::NonZero::get)),
    }
}

/// The `retry` object of host.json or a function.json.
pub(crate) fn retry(root: &Json) -> Result<Option<Retry>, HostError> {
    let Some(policy) = root.path(&["retry"]) else {
        return Ok(None);
    };
    let required = |name: &str| {
        policy
            .path(&[name])
            .map(Json::to_invariant_text)
            .ok_or_else(|| invalid(format!("retry: {name} is required")))
    };
    let required_span = |name: &str| {
        let text = required(name)?;
        parse_time_span(&text)
            .flatten()
            .ok_or_else(|| invalid(format!("retry: {name} is '{text}'; write it as hh:mm:ss")))
    };
    let strategy = required("strategy")?;
    let count = required("maxRetryCount")?;
    let max_retry_count = if count == "-1" {
        None
    } else {
        Some(count.parse().map_err(|_| {
            invalid(format!("retry: maxRetryCount is '{count}'; give a number, -1 for no end"))
        })?)
    };
    let (minimum, maximum) = match strategy.to_ascii_lowercase().as_str() {
        "fixeddelay" => {
            let delay = required_span("delayInterval")?;
            (delay, delay)
        }
        "exponentialbackoff" => (required_span("minimumInterval")?, required_span("maximumInterval")?),
        _ => {
            return Err(invalid(format!(
                "retry: strategy is '{strategy}'; use fixedDelay or exponentialBackoff"
            )));
        }
    };
    Ok(Some(Retry { max_retry_count, minimum, maximum }))
}
