//! Timer schedules: NCRONTAB with six or five fields, or a constant interval. All times are UTC.
//!
//! Written here because NCRONTAB differs from the cron that crates implement: day and weekday must *both* match, and
//! there are neither `L`, `W`, `#` nor nicknames.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::settings::parse_time_span;

/// Values a field admits, as bits 0..=63.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field(u64);

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| value < 64 && self.0 & (1 << value) != 0)
    }

    /// Parses `*`, `a`, `a-b`, each with `/step`, in comma lists; names stand for `first`, `first + 1`, and so on.
    fn parse(text: &str, low: u32, high: u32, names: &[&str]) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a valid schedule field; it holds numbers from {low} to {high}");
        let number = |text: &str| -> Result<u32, String> {
            let named = names
                .iter()
                .position(|name| text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(name)));
            let value = match named.and_then(|at| u32::try_from(at).ok()) {
                Some(at) => low + at,
                None => text.parse().map_err(|_| bad())?,
            };
            if (low..=high).contains(&value) { Ok(value) } else { Err(bad()) }
        };
        let mut bits = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => {
                    (range, step.parse::<u32>().ok().filter(|step| *step > 0).ok_or_else(bad)?)
                }
                None => (part, 1),
            };
            let (from, to) = match (range, range.split_once('-')) {
                ("*", _) => (low, high),
                (_, Some((from, to))) => (number(from)?, number(to)?),
                (single, None) => {
                    let from = number(single)?;
                    (from, if part.contains('/') { high } else { from })
                }
            };
            if from > to {
                return Err(bad());
            }
            let mut value = from;
            while value <= to {
                bits |= 1_u64 << value;
                value += step;
            }
        }
        Ok(Self(bits))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cron {
    second: Field,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

/// When a timer function runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Schedule {
    Cron(CronSchedule),
    /// Counted from the last run.
    Every(Duration),
}

/// The parsed fields behind [`Schedule::Cron`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CronSchedule(Cron);

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(Some(every)) = parse_time_span(text) {
            if every.is_zero() {
                return Err("a schedule interval must be longer than zero".to_owned());
            }
            return Ok(Self::Every(every));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (second, rest) = match fields.as_slice() {
            [second, rest @ ..] if rest.len() == 5 => (*second, rest),
            rest if rest.len() == 5 => ("0", rest),
            _ => {
                return Err(format!(
                    "the schedule '{text}' has {} fields; write {{second}} {{minute}} {{hour}} {{day}} {{month}} {{day of week}}",
                    fields.len()
                ));
            }
        };
        let [minute, hour, day, month, weekday] = rest else {
            return Err(format!("the schedule '{text}' does not have six fields"));
        };
        let mut weekday = Field::parse(weekday, 0, 7, &WEEKDAYS)?;
        if weekday.has(7) {
            weekday.0 |= 1;
        }
        Ok(Self::Cron(CronSchedule(Cron {
            second: Field::parse(second, 0, 59, &[])?,
            minute: Field::parse(minute, 0, 59, &[])?,
            hour: Field::parse(hour, 0, 23, &[])?,
            day: Field::parse(day, 1, 31, &[])?,
            month: Field::parse(month, 1, 12, &MONTHS)?,
            weekday,
        })))
    }

    /// Whether two neighbouring occurrences are less than a minute apart; such a timer keeps no status.
    pub(crate) fn is_faster_than_a_minute(&self) -> bool {
        match self {
            Self::Every(every) => *every < Duration::from_secs(60),
            Self::Cron(CronSchedule(cron)) => cron.second.0.count_ones() > 1,
        }
    }

    /// The first occurrence after `from`; `None` if there is none within eight years (31 February).
    pub(crate) fn next_after(&self, from: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(every) => from.checked_add(*every).ok(),
            Self::Cron(CronSchedule(cron)) => {
                let start = from.to_zoned_datetime(TimeZone::UTC).datetime();
                cron.next_after(start)?.to_zoned_datetime(TimeZone::UTC).ok().map(|at| at.timestamp())
            }
        }
    }
}

impl Cron {
    fn next_after(&self, from: DateTime) -> Option<DateTime> {
        let mut at =
            from.with().subsec_nanosecond(0).build().ok()?.checked_add(Span::new().seconds(1)).ok()?;
        let limit = from.checked_add(Span::new().years(8)).ok()?;
        // Each step moves to the start of the next larger unit that could match, so that eight years take at most
        // a few thousand steps.
        while at < limit {
            if !self.month.has(at.month()) {
                at = at
                    .with()
                    .day(1)
                    .time(jiff::civil::Time::midnight())
                    .build()
                    .ok()?
                    .checked_add(Span::new().months(1))
                    .ok()?;
            } else if !self.day.has(at.day()) || !self.weekday.has(at.weekday().to_sunday_zero_offset()) {
                at = at
                    .with()
                    .time(jiff::civil::Time::midnight())
                    .build()
                    .ok()?
                    .checked_add(Span::new().days(1))
                    .ok()?;
            } else if !self.hour.has(at.hour()) {
                at = at.with().minute(0).second(0).build().ok()?.checked_add(Span::new().hours(1)).ok()?;
            } else if !self.minute.has(at.minute()) {
                at = at.with().second(0).build().ok()?.checked_add(Span::new().minutes(1)).ok()?;
            } else if !self.second.has(at.second()) {
                at = at.checked_add(Span::new().seconds(1)).ok()?;
            } else {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, from: &str) -> String {
        let from: Timestamp = from.parse().unwrap();
        Schedule::parse(schedule).unwrap().next_after(from).unwrap().to_string()
    }

    #[test]
    fn the_next_occurrence_is_strictly_later() {
        assert_eq!(next("0 * * * * *", "2026-06-15T10:00:00Z"), "2026-06-15T10:01:00Z");
        assert_eq!(next("0 * * * * *", "2026-06-15T09:59:59.999Z"), "2026-06-15T10:00:00Z");
        assert_eq!(next("*/10 * * * * *", "2026-06-15T10:00:51Z"), "2026-06-15T10:01:00Z");
    }

    #[test]
    fn five_fields_mean_second_zero() {
        assert_eq!(next("*/5 * * * *", "2026-06-15T10:01:00Z"), "2026-06-15T10:05:00Z");
    }

    #[test]
    fn day_and_weekday_must_both_match() {
        // 13 November 2026 is the first Friday the 13th after June 2026.
        assert_eq!(next("0 0 0 13 * FRI", "2026-06-15T00:00:00Z"), "2026-11-13T00:00:00Z");
    }

    #[test]
    fn lists_ranges_steps_and_names() {
        // 15 June 2026 is a Monday.
        assert_eq!(next("0 30 9-17/4 * * MON-FRI", "2026-06-15T09:30:00Z"), "2026-06-15T13:30:00Z");
        assert_eq!(next("0 0 3 * Jan,Jul *", "2026-06-15T00:00:00Z"), "2026-07-01T03:00:00Z");
        assert_eq!(next("0 0 0 * * 7", "2026-06-15T00:00:00Z"), "2026-06-21T00:00:00Z");
        assert_eq!(next("0 0 0 29 2 *", "2026-06-15T00:00:00Z"), "2028-02-29T00:00:00Z");
    }

    #[test]
    fn an_interval_counts_from_the_last_run() {
        assert_eq!(next("00:05:00", "2026-06-15T10:00:07Z"), "2026-06-15T10:05:07Z");
    }

    #[test]
    fn impossible_dates_never_occur_and_bad_fields_are_refused() {
        let from: Timestamp = "2026-06-15T10:00:00Z".parse().unwrap();
        assert_eq!(Schedule::parse("0 0 0 31 2 *").unwrap().next_after(from), None);
        for bad in
            ["", "* * * *", "60 * * * * *", "0 0 24 * * *", "0 5-1 * * * *", "0 */0 * * * *", "0 0 0 0 * *"]
        {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_schedules_faster_than_a_minute_go_unmonitored() {
        assert!(Schedule::parse("*/10 * * * * *").unwrap().is_faster_than_a_minute());
        assert!(!Schedule::parse("0 * * * * *").unwrap().is_faster_than_a_minute());
    }
}
