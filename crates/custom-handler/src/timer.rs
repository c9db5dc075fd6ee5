//! `timerTrigger`.

use jiff::Timestamp;
use serde::Deserialize;

use crate::envelope::{InvocationRequest, decoded, point_in_time};
use crate::trigger::{DecodeError, Trigger};

/// A run of a schedule. The host runs one at a time per function, over all instances; a run longer than the
/// interval skips occurrences, and a failure never stops the schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimerEvent {
    /// Whether this run makes up, at host start, for an occurrence that was missed.
    pub is_past_due: bool,
    /// What the host remembers of the schedule. `None` when it keeps no such record: with `useMonitor: false`,
    /// or for a schedule that fires more often than once a minute.
    pub schedule_status: Option<ScheduleStatus>,
}

/// What the host remembers of a schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScheduleStatus {
    /// The run before this one; `None` when there was none.
    pub last: Option<Timestamp>,
    /// The occurrence that is being run (in a regular run) or comes next.
    pub next: Option<Timestamp>,
    /// When the record was last written; `None` when it never was.
    pub last_updated: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(default)]
    is_past_due: bool,
    schedule_status: Option<WireStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireStatus {
    last: Option<String>,
    next: Option<String>,
    last_updated: Option<String>,
}

impl Trigger for TimerEvent {
    const BINDING: &'static str = "timerTrigger";

    fn decode(request: InvocationRequest) -> Result<Self, DecodeError> {
        let value = match request.trigger().ok_or(DecodeError::NoInput)? {
            serde_json::Value::String(text) => serde_json::from_str(text),
            native => Ok(decoded(native)),
        };
        let wire: Wire = value
            .and_then(serde_json::from_value)
            .map_err(|source| DecodeError::Shape { event: "timer event", source })?;
        Ok(Self {
            is_past_due: wire.is_past_due,
            schedule_status: wire.schedule_status.map(|status| ScheduleStatus {
                last: instant(status.last),
                next: instant(status.next),
                last_updated: instant(status.last_updated),
            }),
        })
    }
}

/// .NET's default date, which the host writes for "never", is the first day of the year 1.
fn instant(text: Option<String>) -> Option<Timestamp> {
    let text = text?;
    if text.starts_with("0001-01-01") { None } else { point_in_time(&text) }
}
