//! Writing.

use super::Json;

impl Json {
    pub(super) fn write(&self, out: &mut String, indent: Option<usize>) {
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
pub(super) fn float_text(value: f64) -> String {
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
