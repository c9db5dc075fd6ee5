//! JSON as Newtonsoft.Json reads and writes it, which is what the host does to every body it touches.
//!
//! It differs from strict JSON where a handler can see it: comments, single quotes, unquoted names and trailing
//! commas are read; text that looks like an ISO date-time becomes a date and is written back differently;
//! a later duplicate name wins.

use jiff::civil::DateTime;

/// Newtonsoft 13 refuses deeper nesting unless told otherwise.
const DEFAULT_MAX_DEPTH: usize = 64;

/// A parsed value. Object members keep their order, because it is visible on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Integer(String),
    Float { value: f64, text: String },
    Text(String),
    Date(Date),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

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

    fn iso(&self) -> String {
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

/// How to treat what is not strictly part of one JSON value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Turn ISO-looking strings into dates (Newtonsoft's default).
    pub(crate) dates: bool,
    /// Read as into a .NET object: text after the value is ignored, and a member that comes twice is applied twice.
    pub(crate) typed: bool,
    /// Deepest nesting that is read.
    pub(crate) max_depth: usize,
}

/// `JToken.Parse` with default settings.
pub(crate) const STRICT_END: Reading = Reading { dates: true, typed: false, max_depth: DEFAULT_MAX_DEPTH };

/// Parses `text`. `Ok(None)` means that there was nothing but blanks and comments.
pub(crate) fn parse(text: &str, reading: Reading) -> Result<Option<Json>, String> {
    let mut reader = Reader { rest: text.trim_start_matches('\u{feff}'), reading };
    reader.skip_blank()?;
    if reader.rest.is_empty() {
        return Ok(None);
    }
    let value = reader.value(0)?;
    if !reading.typed {
        reader.skip_blank()?;
        if let Some(next) = reader.rest.chars().next() {
            return Err(format!("Additional text encountered after finished reading JSON content: {next}."));
        }
    }
    Ok(Some(value))
}

/// Parses a configuration file: comments are allowed, dates stay text.
pub(crate) fn parse_file(text: &str) -> Result<Json, String> {
    let reading = Reading { dates: false, typed: false, max_depth: DEFAULT_MAX_DEPTH };
    parse(text, reading)?.ok_or_else(|| "the file is empty".to_owned())
}

struct Reader<'a> {
    rest: &'a str,
    reading: Reading,
}

impl Reader<'_> {
    fn skip_blank(&mut self) -> Result<(), String> {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(after) = self.rest.strip_prefix("/*") {
                let (_, rest) = after.split_once("*/").ok_or("Unexpected end while parsing comment.")?;
                self.rest = rest;
            } else if let Some(after) = self.rest.strip_prefix("//") {
                self.rest = after.split_once('\n').map_or("", |(_, rest)| rest);
            } else {
                return Ok(());
            }
        }
    }

    fn take(&mut self, token: char) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, String> {
        if depth > self.reading.max_depth {
            return Err(format!("The reader's MaxDepth of {} has been exceeded.", self.reading.max_depth));
        }
        self.skip_blank()?;
        match self.rest.chars().next() {
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            Some('"' | '\'') => {
                let text = self.string()?;
                if self.reading.dates
                    && let Some(date) = as_date(&text)
                {
                    return Ok(Json::Date(date));
                }
                Ok(Json::Text(text))
            }
            Some(_) => self.bare(),
            None => Err("Unexpected end of content.".to_owned()),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, String> {
        self.take('{');
        let mut members: Vec<(String, Json)> = Vec::new();
        loop {
            self.skip_blank()?;
            if self.take('}') {
                return Ok(Json::Object(members));
            }
            let name = match self.rest.chars().next() {
                Some('"' | '\'') => self.string()?,
                Some(first) if first.is_alphanumeric() || first == '_' || first == '$' => {
                    let end = self
                        .rest
                        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
                        .unwrap_or(self.rest.len());
                    let (name, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    name.to_owned()
                }
                Some(other) => return Err(format!("Invalid property identifier character: {other}.")),
                None => return Err("Unexpected end when reading an object.".to_owned()),
            };
            self.skip_blank()?;
            if !self.take(':') {
                let got = self.rest.chars().next().unwrap_or(' ');
                return Err(format!(
                    "Invalid character after parsing property name. Expected ':' but got: {got}."
                ));
            }
            let value = self.value(depth + 1)?;
            match members.iter_mut().find(|(known, _)| *known == name) {
                Some((_, slot)) if depth > 0 || !self.reading.typed => *slot = value,
                _ => members.push((name, value)),
            }
            self.skip_blank()?;
            if !self.take(',') && !self.rest.starts_with('}') {
                return Err("Unexpected end or character after a property value.".to_owned());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, String> {
        self.take('[');
        let mut items = Vec::new();
        loop {
            self.skip_blank()?;
            if self.take(']') {
                return Ok(Json::Array(items));
            }
            items.push(self.value(depth + 1)?);
            self.skip_blank()?;
            if !self.take(',') && !self.rest.starts_with(']') {
                return Err("Unexpected end or character after an array value.".to_owned());
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let mut chars = self.rest.chars();
        let quote = chars.next();
        let mut text = String::new();
        loop {
            match chars.next() {
                None => return Err("Unterminated string.".to_owned()),
                next if next == quote => {
                    self.rest = chars.as_str();
                    return Ok(text);
                }
                Some('\\') => match chars.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some('b') => text.push('\u{8}'),
                    Some('f') => text.push('\u{c}'),
                    Some('u') => {
                        let unit = hex4(&mut chars)?;
                        text.push(match unit {
                            0xd800..=0xdbff => {
                                let mut ahead = chars.clone();
                                let low = if ahead.next() == Some('\\') && ahead.next() == Some('u') {
                                    hex4(&mut ahead).ok()
                                } else {
                                    None
                                };
                                match low {
                                    Some(low @ 0xdc00..=0xdfff) => {
                                        chars = ahead;
                                        char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
                                            .unwrap_or(char::REPLACEMENT_CHARACTER)
                                    }
                                    _ => char::REPLACEMENT_CHARACTER,
                                }
                            }
                            _ => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                        });
                    }
                    Some(plain @ ('"' | '\'' | '\\' | '/')) => text.push(plain),
                    other => return Err(format!("Bad JSON escape sequence: \\{}.", other.unwrap_or(' '))),
                },
                Some(plain) => text.push(plain),
            }
        }
    }

    fn bare(&mut self) -> Result<Json, String> {
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || matches!(c, ',' | '}' | ']' | ':' | '/'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let value = match word {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ => number(word).ok_or_else(|| {
                format!(
                    "Unexpected character encountered while parsing value: {}.",
                    word.chars().next().unwrap_or(' ')
                )
            })?,
        };
        self.rest = rest;
        Ok(value)
    }
}

fn hex4(chars: &mut std::str::Chars<'_>) -> Result<u32, String> {
    let mut unit = 0;
    for _ in 0..4 {
        let digit = chars.next().and_then(|c| c.to_digit(16)).ok_or("Invalid Unicode escape sequence.")?;
        unit = unit * 16 + digit;
    }
    Ok(unit)
}

fn number(word: &str) -> Option<Json> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Json::Integer(word.to_owned()));
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value = word.parse::<f64>().ok()?;
    Some(Json::Float { value, text: word.to_owned() })
}

/// The exact shapes Newtonsoft converts: `yyyy-MM-ddTHH:mm:ss[.f{1,7}][Z|+HH:mm]` and `/Date(ms)/`. A bare date
/// stays text.
fn as_date(text: &str) -> Option<Date> {
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

impl Json {
    pub(crate) fn text(value: impl Into<String>) -> Self {
        Self::Text(value.into())
    }

    pub(crate) fn integer(value: i64) -> Self {
        Self::Integer(value.to_string())
    }

    pub(crate) fn object<const N: usize>(members: [(&str, Json); N]) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    pub(crate) fn as_object(&self) -> Option<&[(String, Json)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Date(date) => Some(&date.text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// A member by name, letter case ignored, as the host reads its configuration.
    pub(crate) fn member(&self, name: &str) -> Option<&Json> {
        self.as_object()?.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// A member by path; null counts as absent.
    pub(crate) fn path(&self, names: &[&str]) -> Option<&Json> {
        let found = names.iter().try_fold(self, |value, name| value.member(name))?;
        (!found.is_null()).then_some(found)
    }

    /// `JToken.ToString()`: what a scalar or structure becomes when .NET makes text of it.
    pub(crate) fn to_invariant_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Integer(text) | Self::Text(text) => text.clone(),
            Self::Float { value, .. } => float_text(*value),
            Self::Date(date) => date.invariant(),
            Self::Array(_) | Self::Object(_) => self.indented(),
        }
    }

    /// `Formatting.None`.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// `Formatting.Indented`.
    pub(crate) fn indented(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        out
    }

    fn write(&self, out: &mut String, indent: Option<usize>) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Integer(text) => out.push_str(text),
            Self::Float { value, .. } => {
                let text = float_text(*value);
                let is_integral = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
                out.push_str(&text);
                if is_integral {
                    out.push_str(".0");
                }
            }
            Self::Text(text) => quote(out, text),
            Self::Date(date) => quote(out, &date.iso()),
            Self::Array(items) => write_sequence(out, indent, ('[', ']'), items, |out, item, inner| {
                item.write(out, inner);
            }),
            Self::Object(members) => {
                write_sequence(out, indent, ('{', '}'), members, |out, (name, value), inner| {
                    quote(out, name);
                    out.push_str(if inner.is_some() { ": " } else { ":" });
                    value.write(out, inner);
                })
            }
        }
    }
}

fn write_sequence<T>(
    out: &mut String,
    indent: Option<usize>,
    (open, close): (char, char),
    items: &[T],
    mut write_item: impl FnMut(&mut String, &T, Option<usize>),
) {
    out.push(open);
    let inner = indent.map(|level| level + 1);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        new_line(out, inner);
        write_item(out, item, inner);
    }
    if !items.is_empty() {
        new_line(out, indent);
    }
    out.push(close);
}

fn new_line(out: &mut String, indent: Option<usize>) {
    if let Some(level) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', level * 2));
    }
}

/// .NET's shortest round-trip text: exponent form from 1E+15 and below 1E-05.
fn float_text(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() || magnitude == 0.0 || (1e-5..1e15).contains(&magnitude) {
        return format!("{value}");
    }
    let scientific = format!("{value:E}");
    match scientific.split_once('E') {
        Some((mantissa, exponent)) => match exponent.strip_prefix('-') {
            Some(digits) => format!("{mantissa}E-{digits:0>2}"),
            None => format!("{mantissa}E+{exponent:0>2}"),
        },
        None => scientific,
    }
}

/// A JSON string literal with Newtonsoft's escapes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(&mut out, text);
    out
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}
