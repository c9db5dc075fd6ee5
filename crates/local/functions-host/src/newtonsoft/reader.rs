//! Reading.

use super::Json;
use super::dates::as_date;

/// Newtonsoft 13 refuses deeper nesting unless told otherwise.
const DEFAULT_MAX_DEPTH: usize = 64;

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
