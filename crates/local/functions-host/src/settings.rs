//! App settings: what the host process inherited with the given settings on top.

use std::time::Duration;

use crate::newtonsoft::Json;

/// Prefix of settings that override host.json.
const OVERRIDE_PREFIX: &str = "AzureFunctionsJobHost__";

/// The environment of the host, which the handler inherits whole.
#[derive(Debug, Clone)]
pub(crate) struct Settings(Vec<(String, String)>);

impl Settings {
    pub(crate) fn new(
        inherited: impl IntoIterator<Item = (String, String)>,
        given: &[(String, String)],
    ) -> Self {
        let mut all: Vec<(String, String)> = inherited.into_iter().collect();
        for (name, value) in given {
            all.retain(|(known, _)| known != name);
            all.push((name.clone(), value.clone()));
        }
        Self(all)
    }

    /// A setting by name, ignoring case as configuration does.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Replaces every `%NAME%`. `Err` holds the first name that is not set.
    pub(crate) fn resolve(&self, text: &str) -> Result<String, String> {
        self.expand(text, |name| Err(name.to_owned()))
    }

    /// Replaces every `%NAME%`; what is not set becomes empty.
    pub(crate) fn resolve_or_empty(&self, text: &str) -> String {
        self.expand(text, |_| Ok(String::new())).unwrap_or_default()
    }

    fn expand(&self, text: &str, missing: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            out.push_str(before);
            match after.split_once('%') {
                Some((name, after)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
                    match self.get(name) {
                        Some(value) => out.push_str(value),
                        None => out.push_str(&missing(name)?),
                    }
                    rest = after;
                }
                _ => {
                    out.push('%');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Writes every `AzureFunctionsJobHost__a__b` setting into the host.json tree.
    pub(crate) fn override_host_json(&self, root: &mut Json) {
        for (name, value) in self.iter() {
            let Some(path) = name
                .get(..OVERRIDE_PREFIX.len())
                .filter(|prefix| prefix.eq_ignore_ascii_case(OVERRIDE_PREFIX))
                .and_then(|_| name.get(OVERRIDE_PREFIX.len()..))
            else {
                continue;
            };
            let mut at = &mut *root;
            for part in path.split("__") {
                at = child(at, part);
            }
            *at = Json::text(value);
        }
    }
}

fn child<'a>(at: &'a mut Json, name: &str) -> &'a mut Json {
    if !matches!(at, Json::Object(_)) {
        *at = Json::Object(Vec::new());
    }
    let Json::Object(members) = at else {
        return at;
    };
    let position = members.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
    let position = position.unwrap_or_else(|| {
        members.push((name.to_owned(), Json::Null));
        members.len() - 1
    });
    // The position was found in or pushed to this very list.
    #[expect(clippy::indexing_slicing, reason = "the position was found in or pushed to this very list")]
    &mut members[position].1
}

/// Reads a .NET TimeSpan: `[-][d.]hh:mm:ss[.fffffff]`. `None` for anything else; negative spans are `Some(None)`.
pub(crate) fn parse_time_span(text: &str) -> Option<Option<Duration>> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if negative && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(None);
    }
    let mut parts = text.splitn(3, ':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (days, hours) = hours.split_once('.').unwrap_or(("0", hours));
    let whole = days.parse::<u64>().ok()? * 86_400
        + hours.parse::<u64>().ok().filter(|hours| *hours < 24)? * 3_600
        + minutes.parse::<u64>().ok().filter(|minutes| *minutes < 60)? * 60;
    let seconds = seconds.parse::<f64>().ok().filter(|seconds| (0.0..60.0).contains(seconds))?;
    let span = Duration::from_secs(whole) + Duration::from_secs_f64(seconds);
    Some((!negative).then_some(span))
}
