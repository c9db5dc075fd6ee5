//! For code scanning: SARIF 2.1.0 (OASIS), a result for each exposed port of a group.

use std::io::{self, Write};
use std::path::Path;

use ajar_network::assessment::Internet;
use serde_json::{Map, Value, json};

use super::{Judged, Report, flow_text};
use crate::place::Place;
use crate::problems::Problems;
use crate::shown::{Sources, internet_word};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub(crate) struct Sarif<W> {
    out: W,
    /// Where results are; none for standard input, which has no address.
    uri: Option<String>,
    any: bool,
}

impl<W: Write> Sarif<W> {
    pub(crate) fn new(out: W, file: &Path) -> Self {
        Self { out, uri: (file != Path::new("-")).then(|| uri(file)), any: false }
    }

    fn location(&self, place: Place, logical: Option<(&str, Option<&str>)>) -> Value {
        let mut location = Map::new();
        if let Some(uri) = &self.uri {
            let region = json!({ "startLine": place.line, "startColumn": place.column });
            let physical = json!({ "artifactLocation": { "uri": uri }, "region": region });
            location.insert("physicalLocation".to_owned(), physical);
        }
        if let Some((name, id)) = logical {
            let whole_name = id.unwrap_or(name);
            let logical = json!([{ "name": name, "fullyQualifiedName": whole_name, "kind": "resource" }]);
            location.insert("logicalLocations".to_owned(), logical);
        }
        Value::Object(location)
    }
}

/// A relative or absolute URI reference for a path, as RFC 3986 wants it.
fn uri(file: &Path) -> String {
    let mut uri = if file.is_absolute() { "file://".to_owned() } else { String::new() };
    for byte in file.to_string_lossy().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

impl<W: Write> Report for Sarif<W> {
    fn shows_places(&self) -> bool {
        true
    }

    fn begin(&mut self) -> io::Result<()> {
        let rule = |id: &str, name: &str, text: &str, level: &str| {
            json!({
                "id": id, "name": name, "shortDescription": { "text": text },
                "defaultConfiguration": { "level": level },
            })
        };
        let driver = json!({
            "name": "ajar",
            "version": env!("CARGO_PKG_VERSION"),
            "rules": [
                rule("AJAR001", "OpenToTheInternet", "The Internet reaches a port.", "error"),
                rule("AJAR002", "OpenToSome", "A custom rule lets some sources reach a port.", "warning"),
            ],
        });
        // The results come last but one, so that they can be written one by one.
        write!(
            self.out,
            "{{\"$schema\":\"{SCHEMA}\",\"version\":\"2.1.0\",\"runs\":[{{\"tool\":{{\"driver\":{driver}}},\
             \"columnKind\":\"unicodeCodePoints\",\"results\":["
        )
    }

    fn nsg(&mut self, judged: &Judged<'_>) -> io::Result<()> {
        for (exposed, place) in judged.exposures.iter().zip(&judged.rule_places) {
            self.out.write_all(if self.any { b",\n" } else { b"\n" })?;
            self.any = true;
            let (rule, level) = match exposed.internet {
                Internet::Everyone => ("AJAR001", "error"),
                Internet::Some | Internet::None => ("AJAR002", "warning"),
            };
            let lead = if exposed.certain { "is open to" } else { "may be open to" };
            let sources = Sources::of(&exposed.sources);
            let flow = flow_text(exposed.port, exposed.protocol);
            let result = json!({
                "ruleId": rule,
                "ruleIndex": usize::from(rule == "AJAR002"),
                "level": level,
                "message": { "text": format!(
                    "{flow} behind {} {lead} {} by {}", judged.title(), sources.line(), exposed.rules.join(", ")
                ) },
                "locations": [self.location(*place, Some((judged.title(), judged.id)))],
                // The same exposure in the next run, whatever moved in the file.
                "partialFingerprints": {
                    "exposure/v1": format!("{}|{flow}", judged.id.unwrap_or(judged.name).to_ascii_lowercase()),
                },
                "properties": {
                    "internetReach": internet_word(exposed.internet),
                    "certain": exposed.certain,
                    "rules": exposed.rules,
                    "sources": sources,
                    "witness": exposed.witness,
                },
            });
            serde_json::to_writer(&mut self.out, &result)?;
        }
        Ok(())
    }

    fn finish(&mut self, problems: &Problems) -> io::Result<()> {
        let notifications: Vec<Value> = problems
            .kept
            .iter()
            .map(|problem| {
                let text = match problem.subject.as_str() {
                    "" => problem.explanation.clone(),
                    subject => format!("{subject}: {}", problem.explanation),
                };
                let locations: Vec<Value> = problem
                    .place
                    .filter(|_| self.uri.is_some())
                    .map(|p| self.location(p, None))
                    .into_iter()
                    .collect();
                json!({ "level": "error", "message": { "text": text }, "locations": locations })
            })
            .collect();
        let invocation =
            json!({ "executionSuccessful": !problems.any(), "toolExecutionNotifications": notifications });
        writeln!(self.out, "\n],\"invocations\":[{invocation}]}}]}}")?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_uri() {
        assert_eq!(uri(Path::new("out/my nsgs.json")), "out/my%20nsgs.json");
        assert_eq!(uri(Path::new("/tmp/ü.json")), "file:///tmp/%C3%BC.json");
    }
}
