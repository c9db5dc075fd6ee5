//! How sets of sources, names and colours are shown.

use std::borrow::Cow;
use std::io::IsTerminal;

use ajar_network::address::{SourceGroup, SourceSet, SourceTerm};
use ajar_network::assessment::Internet;
use serde::Serialize;

/// How many sources a line of a table lists.
const MOST_LISTED: usize = 6;

/// A set of sources in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sources {
    /// Addresses that are let in without condition.
    pub(crate) sources: Vec<String>,
    /// Service tags that are let in as a whole.
    pub(crate) service_tags: Vec<String>,
    /// Addresses that are let in within or outside tags and application security groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditional: Vec<SourceTerm>,
}

impl Sources {
    pub(crate) fn of(set: &SourceSet) -> Self {
        let conditional =
            set.terms().iter().filter(|t| !t.is_unconditional() && !is_whole_tag(t)).cloned().collect();
        Self {
            sources: set.addresses().to_prefixes().iter().map(ToString::to_string).collect(),
            service_tags: set.tags().iter().map(ToString::to_string).collect(),
            conditional,
        }
    }

    /// On one line, cut where it gets long.
    pub(crate) fn line(&self) -> String {
        let conditional = self.conditional.iter().map(ToString::to_string);
        let all: Vec<String> =
            self.service_tags.iter().chain(&self.sources).cloned().chain(conditional).collect();
        match all.len() {
            0 => "nobody".to_owned(),
            n if n > MOST_LISTED => {
                let shown: Vec<&str> = all.iter().take(MOST_LISTED).map(String::as_str).collect();
                format!("{} and {} more", shown.join(", "), n - MOST_LISTED)
            }
            _ => all.join(", "),
        }
    }
}

/// A tag within one address family reads best as the tag.
fn is_whole_tag(term: &SourceTerm) -> bool {
    let whole = term.addresses.is_all_v4() || term.addresses.is_all_v6();
    let tag = term.within.first().is_some_and(|g| matches!(g, SourceGroup::Tag(_)));
    whole && tag && term.within.len() == 1 && term.outside.is_empty()
}

/// How much of the Internet is among the sources, in a word.
pub(crate) const fn internet_word(internet: Internet) -> &'static str {
    match internet {
        Internet::None => "none",
        Internet::Some => "some",
        Internet::Everyone => "everyone",
    }
}

/// Text of others that cannot play with the terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
            .collect::<String>()
            .into()
    } else {
        text.into()
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours only on a terminal, and not where somebody wants none (<https://no-color.org>).
    pub(crate) fn for_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        Self { on: std::io::stdout().is_terminal() && !unwanted }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_play_with_the_terminal() {
        assert_eq!(printable("web-1 ü"), "web-1 ü");
        assert_eq!(printable("a\x1b[2Jb\n\u{9b}"), "a\\u{1b}[2Jb\\n\\u{9b}");
    }
}
