//! Text that Newtonsoft takes for a date-time.

use jiff::civil::DateTime;

/// A string that Newtonsoft took for a date-time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Date {
    /// The wall time in the host's zone, which is always UTC here.
    pub(crate) civil: DateTime,
    /// `Z` for UTC input, `+00:00` for input with an offset (converted to the host's zone), empty without zone.
    pub(crate) suffix: &'static str,
    /// The text as it was received, for the few readers that take strings undecoded.
    pub(crate) text: String,
}

impl Date {
    /// `DateTime.ToString()` in the invariant culture.
    pub(crate) fn invariant(&self) -> String {
        self.civil.strftime("%m/%d/%Y %H:%M:%S").to_string()
    }

    pub(super) fn iso(&self) -> String {
        format!("{}{}", iso_seconds_and_fraction(self.civil), self.suffix)
    }
}

/// ISO date-time with at most seven fraction digits and no trailing zeros, as .NET writes it.
pub(crate) fn iso_seconds_and_fraction(civil: DateTime) -> String {
    let ticks = civil.subsec_nanosecond() / 100;
    let whole = civil.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    if ticks == 0 {
        return whole;
    }
    let fraction = format!("{ticks:07}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// The exact shapes Newtonsoft converts: `yyyy-MM-ddTHH:mm:ss[.f{1,7}][Z|+HH:mm]` and `/Date(ms)/`. A bare date
/// stays text.
pub(super) fn as_date(text: &str) -> Option<Date> {
    if let Some(milliseconds) = text.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/")) {
        let timestamp = jiff::Timestamp::from_millisecond(milliseconds.parse().ok()?).ok()?;
        return Some(Date {
            civil: timestamp.to_zoned_datetime(jiff::tz::TimeZone::UTC).datetime(),
            suffix: "Z",
            text: text.to_owned(),
        });
    }
    let whole = text.get(..19)?;
    let shape = whole.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    });
    if !shape {
        return None;
    }
    let after = text.get(19..)?;
    let (fraction, zone) = match after.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            if end == 0 || end > 7 {
                return None;
            }
            (rest.get(..end)?, rest.get(end..)?)
        }
        None => ("", after),
    };
    let mut civil: DateTime = whole.parse().ok()?;
    if !fraction.is_empty() {
        let nanoseconds: i32 = format!("{fraction:0<9}").parse().ok()?;
        civil = civil.with().subsec_nanosecond(nanoseconds).build().ok()?;
    }
    let suffix = match zone {
        "" => "",
        "Z" => "Z",
        offset => {
            let sign = match offset.get(..1)? {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            if hours.len() != 2 || minutes.len() != 2 {
                return None;
            }
            let minutes = sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?);
            civil = civil.checked_sub(jiff::Span::new().minutes(minutes)).ok()?;
            "+00:00"
        }
    };
    Some(Date { civil, suffix, text: text.to_owned() })
}
