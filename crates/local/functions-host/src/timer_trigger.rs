//! Runs timer functions on their schedule, one run at a time (protocol page, section 2.9).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::HostError;
use crate::envelope::{BindingData, Value, utc_offset};
use crate::functions::Function;
use crate::invocation::{InvocationFailed, Invoker, Trigger};
use crate::log::LogLevel;
use crate::newtonsoft::Json;
use crate::schedule::Schedule;

/// What the host remembers of a monitored timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Status {
    /// When it ran last; `None` before the first run.
    pub(crate) last: Option<Timestamp>,
    /// The occurrence that is due next. During a run: the one being run.
    pub(crate) next: Timestamp,
}

/// Keeps the statuses in memory and, if a path is given, in a file that outlives the host.
#[derive(Debug)]
pub(crate) struct StatusStore {
    path: Option<PathBuf>,
    statuses: Mutex<BTreeMap<String, Status>>,
}

impl StatusStore {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, HostError> {
        let statuses = match path {
            Some(path) if path.exists() => {
                let read = |source| HostError::Read { path: path.to_owned(), source };
                let text = std::fs::read_to_string(path).map_err(read)?;
                serde_json::from_str(&text).map_err(|error| {
                    HostError::Configuration(format!(
                        "the timer status file {} cannot be read, delete it: {error}",
                        path.display()
                    ))
                })?
            }
            _ => BTreeMap::new(),
        };
        Ok(Self { path: path.map(Path::to_owned), statuses: Mutex::new(statuses) })
    }

    fn get(&self, function: &str) -> Option<Status> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).get(function).copied()
    }

    fn set(&self, function: &str, status: Status) -> std::io::Result<()> {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.insert(function.to_owned(), status);
        match &self.path {
            Some(path) => std::fs::write(path, serde_json::to_vec_pretty(&*statuses)?),
            None => Ok(()),
        }
    }
}

/// One timer function.
pub(crate) struct Timer {
    pub(crate) invoker: Invoker,
    pub(crate) function: Arc<Function>,
    pub(crate) schedule: Schedule,
    pub(crate) run_on_startup: bool,
    pub(crate) monitored: bool,
    pub(crate) store: Arc<StatusStore>,
    /// Held during a run, so that a forced run and a scheduled one never overlap.
    pub(crate) running: tokio::sync::Mutex<()>,
}

impl Timer {
    /// Runs the schedule until the host stops or there is no further occurrence.
    pub(crate) async fn run(self: Arc<Self>) {
        let clock = Arc::clone(self.invoker.bus.clock());
        let start = clock.now();
        let stored = self.monitored.then(|| self.store.get(&self.function.name)).flatten();
        let is_past_due = stored.is_some_and(|status| status.next < start);
        if is_past_due {
            self.scheduled_run(true).await;
        } else {
            if stored.is_none()
                && let Some(next) = self.schedule.next_after(start)
            {
                self.remember(Status { last: None, next });
            }
            if self.run_on_startup {
                self.scheduled_run(false).await;
            }
        }
        let mut from = clock.now();
        while let Some(next) = self.schedule.next_after(from) {
            tokio::select! {
                () = clock.sleep_until(next) => {}
                () = self.invoker.worker.stopped() => return,
            }
            self.scheduled_run(false).await;
            // A run longer than the interval skips occurrences.
            from = clock.now().max(next);
        }
    }

    async fn scheduled_run(&self, is_past_due: bool) {
        let _running = self.running.lock().await;
        let started = self.invoker.bus.clock().now();
        // A failure never stops the schedule, and the invoker has logged it.
        let _ = self.invoke(is_past_due, None).await;
        if let Some(next) = self.schedule.next_after(started) {
            self.remember(Status { last: Some(started), next });
        }
    }

    /// Runs the function now, outside its schedule.
    pub(crate) async fn run_now(&self, input: Option<&str>) -> Result<(), InvocationFailed> {
        let _running = self.running.lock().await;
        self.invoke(false, input).await
    }

    async fn invoke(&self, is_past_due: bool, input: Option<&str>) -> Result<(), InvocationFailed> {
        let status = if self.monitored { self.store.get(&self.function.name) } else { None };
        let mut binding_data = BindingData::default();
        if let Some(input) = input {
            binding_data.set(&self.function.trigger_name, Value::Text(input.to_owned()));
        }
        let trigger = Trigger {
            value: Value::Json(timer_info(status, is_past_due)),
            binding_data,
            new_id_for_each_attempt: false,
        };
        self.invoker.invoke(&self.function, &trigger).await.map(|_| ())
    }

    fn remember(&self, status: Status) {
        if self.monitored
            && let Err(error) = self.store.set(&self.function.name, status)
        {
            self.invoker.log.host(LogLevel::Error, format!("the timer status cannot be written: {error}"));
        }
    }
}

/// The trigger value.
pub(crate) fn timer_info(status: Option<Status>, is_past_due: bool) -> Json {
    const NEVER: &str = "0001-01-01T00:00:00+00:00";
    let status = status.map_or(Json::Null, |status| {
        let last = Json::Text(status.last.map_or_else(|| NEVER.to_owned(), utc_offset));
        Json::object([
            ("Last", last.clone()),
            ("Next", Json::Text(utc_offset(status.next))),
            ("LastUpdated", last),
        ])
    });
    Json::object([
        ("Schedule", Json::object([("AdjustForDST", Json::Bool(true))])),
        ("ScheduleStatus", status),
        ("IsPastDue", Json::Bool(is_past_due)),
    ])
}
