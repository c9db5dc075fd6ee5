//! Compiles and reviews `infra/`, and holds it against the code that runs on it.
//!
//! The tools are real ones: the Bicep CLI (`BICEP`, else `bicep` on `PATH`) and checkov (`CHECKOV`, else `checkov` on
//! `PATH`; `scripts/test` installs it). Where one is missing the test that needs it says so and passes on a
//! developer's machine, and fails where `CI` is set. What a deployment would make is read from the snapshots in
//! `infra/examples`, so the other tests need neither.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it leaves out"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The deployments that are kept as snapshots: `infra/examples/NAME.bicepparam`.
pub const EXAMPLES: [&str; 4] = ["smallest", "private-network", "management-group", "everything"];

/// The repository's folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The text of a file of the repository.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A tool: the program that `variable` names, else `name` on `PATH`.
///
/// # Panics
/// When there is none and `CI` is set, or when `variable` names something that does not run.
pub fn tool(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let program = named.clone().unwrap_or_else(|| PathBuf::from(name));
    match Command::new(&program).arg("--version").output() {
        Ok(answer) if answer.status.success() => Some(program),
        _ => {
            let problem = format!(
                "{name} does not run ({}): infra/ is NOT checked with it. Install it, or name it in {variable}",
                program.display()
            );
            assert!(named.is_none() && std::env::var_os("CI").is_none(), "{problem}");
            eprintln!("WARNING: {problem}");
            None
        }
    }
}

/// What a deployment of `example` would make.
pub fn snapshot(example: &str) -> Value {
    serde_json::from_str(&text(&format!("infra/examples/{example}.snapshot.json"))).unwrap()
}

/// The resources of one type in a snapshot.
pub fn resources<'a>(snapshot: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = snapshot["predictedResources"].as_array().unwrap().iter();
    all.filter(move |resource| resource["type"].as_str().unwrap().eq_ignore_ascii_case(kind))
}

/// A text property that must be there.
pub fn string<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// The last part of a resource's name.
pub fn last_name(resource: &Value) -> &str {
    string(resource, "/name").rsplit('/').next().unwrap()
}
