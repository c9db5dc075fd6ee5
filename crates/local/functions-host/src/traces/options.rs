//! Reading of host.json and function folders, and the ranking of console lines, as recorded.

use std::path::Path;

use serde_json::{Value as Recorded, json};

use super::{Differences, TRACES};
use crate::host_json::{self, HostJson};
use crate::log::{LogLevel, LogSource, console_line};
use crate::settings::Settings;
use crate::{HostError, functions};

fn app() -> tempfile::TempDir {
    let app = tempfile::tempdir().unwrap();
    for file in ["handler", "other"] {
        std::fs::write(app.path().join(file), "").unwrap();
    }
    app
}

fn load(app: &Path, given: &Recorded, settings: &[(&str, &str)]) -> Result<HostJson, HostError> {
    let mut root = given.as_object().unwrap().clone();
    root.retain(|name, _| name == "customHandler" || name == "httpWorker");
    root.insert("version".to_owned(), json!("2.0"));
    std::fs::write(app.join("host.json"), Recorded::Object(root).to_string()).unwrap();
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    host_json::load(app, &Settings::new(settings, &[]))
}

#[test]
fn the_handler_section_is_read_as_recorded() {
    let mut differences = Differences::default();
    let mut compared = 0;
    for (case, trace) in TRACES.iter().filter(|(case, _)| case.starts_with("options-")) {
        let app = app();
        let given = &trace["given"];
        let outcome = &trace["outcome"];
        let loaded = if case == "options-arguments-env-override" {
            let name = "AzureFunctionsJobHost__customHandler__description__arguments";
            let given = json!({ "customHandler": { "description": {
                "defaultExecutablePath": "handler", "arguments": ["serve", "fromjson"] } } });
            load(app.path(), &given, &[(name, r#"["serve","fromenv"]"#)])
        } else {
            load(app.path(), given, &[("HEXE", "handler")])
        };
        compared += 1;
        match loaded {
            Err(error) => {
                let recorded = outcome["hostStartThrew"][0]["message"].as_str();
                differences.same(case, "error", recorded, Some(error.to_string().as_str()));
            }
            Ok(host) => {
                let root = app.path().display().to_string();
                let path =
                    |path: &Path| path.display().to_string().trim_end_matches('/').replace(&root, "/app");
                for (name, ours) in [
                    ("executablePath", path(&host.worker.executable)),
                    ("workingDirectory", path(&host.worker.working_directory)),
                ] {
                    if let Some(recorded) = outcome[name].as_str() {
                        differences.same(case, name, recorded, ours.as_str());
                    }
                }
                if outcome["warnings"].is_array() {
                    differences.same(case, "warnings", &outcome["warnings"], &json!(host.warnings));
                }
                if outcome["argv"].is_array() {
                    differences.same(case, "argv", &outcome["argv"], &json!(host.worker.arguments));
                }
            }
        }
    }
    let legacy = json!({ "httpWorker": { "description": { "defaultExecutablePath": "handler" } } });
    let host = load(app().path(), &legacy, &[]);
    let warnings = host.map(|host| json!(host.warnings)).unwrap_or_default();
    differences.same(
        "legacy-startup-logs",
        "warnings",
        &TRACES["legacy-startup-logs"]["outcome"]["warnings"],
        &warnings,
    );
    differences.none();
    assert_eq!(compared, 9);
}

#[test]
fn arguments_are_joined_expanded_and_split_as_recorded() {
    let trace = &TRACES["proc-env-args-cwd"];
    let settings = [("HVAR", "hval"), ("FUNCTIONS_CUSTOMHANDLER_PORT", "1")];
    let host = load(app().path(), &trace["given"], &settings).unwrap();
    assert_eq!(json!(host.worker.arguments), trace["outcome"]["argv"]);
}

#[test]
fn functions_are_ordered_as_recorded() {
    let app = tempfile::tempdir().unwrap();
    let recorded = TRACES["host-function-order"]["outcome"]["functionsInOrder"].as_array().unwrap();
    for name in recorded.iter().rev() {
        let folder = app.path().join(name.as_str().unwrap());
        std::fs::create_dir(&folder).unwrap();
        let source = json!({ "bindings": [{ "type": "httpTrigger", "name": "req" }] });
        std::fs::write(folder.join("function.json"), source.to_string()).unwrap();
    }
    let given = json!({ "customHandler": { "description": { "defaultExecutablePath": "handler" } } });
    let host = load(app.path(), &given, &[]).unwrap();
    let loaded = functions::load(app.path(), &host, &Settings::new(Vec::new(), &[])).unwrap();
    let names: Vec<&str> = loaded.valid.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(json!(names), json!(recorded));
}

/// The recording masks secrets in console lines, which this host does not.
const MASKED: &str = "AccountKey=";

#[test]
fn console_lines_are_ranked_as_recorded() {
    for (case, stderr_is_errors) in [("proc-stdio-default", true), ("proc-stdio-flag-false", false)] {
        let trace = &TRACES[case];
        let lines = |stream: &str| -> Vec<String> {
            let lines = trace["given"][stream].as_array().unwrap().iter();
            lines
                .map(|line| line.as_str().unwrap().to_owned())
                .filter(|line| !line.starts_with(MASKED))
                .collect()
        };
        let mut ours: Vec<(String, String, String)> = Vec::new();
        for (stream, from_stderr) in [("stdout", false), ("stderr", true)] {
            for line in lines(stream) {
                let entry = console_line(&line, from_stderr, stderr_is_errors);
                let category = match entry.source {
                    LogSource::System => "system",
                    _ => "console",
                };
                let level = match entry.level {
                    LogLevel::Information => "Information",
                    LogLevel::Warning => "Warning",
                    LogLevel::Error => "Error",
                    LogLevel::Debug => "Debug",
                };
                ours.push((category.to_owned(), level.to_owned(), entry.text));
            }
        }
        let mut recorded: Vec<(String, String, String)> = trace["outcome"]["logs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|log| {
                let category = log[0].as_str().unwrap();
                let category = if category.starts_with("Worker.") { "system" } else { "console" };
                (
                    category.to_owned(),
                    log[1].as_str().unwrap().to_owned(),
                    log[2].as_str().unwrap().to_owned(),
                )
            })
            .filter(|(_, _, text)| !text.starts_with(MASKED) && !text.contains("[Hidden Credential]"))
            .collect();
        ours.sort();
        recorded.sort();
        assert_eq!(ours, recorded, "{case}");
    }
}
