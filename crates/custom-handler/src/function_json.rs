//! Holding the registered functions against the `function.json` files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::functions::Functions;
use crate::http_request::HttpRequest;
use crate::trigger::Trigger;

/// A difference between the registered functions and the `function.json` files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// A folder or file cannot be read, or is no function.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A function that is deployed but nothing would run.
    #[error("function `{function}` ({binding}) has a function.json but is not registered")]
    NotRegistered {
        /// Its folder.
        function: String,
        /// Its trigger.
        binding: String,
    },
    /// A function that nothing would ever invoke.
    #[error("function `{function}` is registered but has no function.json")]
    NoFunctionJson {
        /// Its name.
        function: String,
    },
    /// A function registered for another trigger.
    #[error(
        "function `{function}` is registered for {registered}, but its function.json declares {declared}"
    )]
    OtherTrigger {
        /// Its name.
        function: String,
        /// The binding type it is registered for.
        registered: String,
        /// The binding type in its file.
        declared: String,
    },
    /// A function that gets batches but takes single events.
    #[error("function `{function}` takes one event, but its function.json declares `cardinality` \"many\"")]
    Batch {
        /// Its name.
        function: String,
    },
    /// An HTTP function that is to be forwarded, without a router.
    #[error("function `{function}` is a forwarded HTTP function, but no router is registered")]
    NoRouter {
        /// Its folder.
        function: String,
    },
}

pub(crate) fn check(functions: &Functions, dir: &Path) -> Result<(), Vec<Mismatch>> {
    let mut mismatches = Vec::new();
    let mut deployed = BTreeSet::new();
    match folders(dir) {
        Ok(folders) => {
            for (name, file) in folders {
                match Declared::read(&file) {
                    Ok(declared) => mismatches.extend(compare(functions, &name, &declared)),
                    Err(reason) => mismatches.push(Mismatch::Unreadable { path: file, reason }),
                }
                deployed.insert(name);
            }
        }
        Err(error) => {
            mismatches.push(Mismatch::Unreadable { path: dir.to_owned(), reason: error.to_string() });
        }
    }
    for name in functions.names().filter(|name| !deployed.contains(*name)) {
        mismatches.push(Mismatch::NoFunctionJson { function: name.to_owned() });
    }
    if mismatches.is_empty() { Ok(()) } else { Err(mismatches) }
}

/// The names of the folders with a `function.json`, and that file.
fn folders(dir: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let file = entry.path().join("function.json");
        if file.is_file() {
            folders.push((entry.file_name().to_string_lossy().into_owned(), file));
        }
    }
    folders.sort();
    Ok(folders)
}

struct Declared {
    binding: String,
    batches: bool,
    /// One `httpTrigger` in and one `http` out and nothing else: the host forwards such a function.
    simple_http: bool,
}

impl Declared {
    fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let json: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let bindings = member(&json, "bindings").and_then(Value::as_array).ok_or("declares no bindings")?;
        let is_trigger =
            |binding: &&Value| text_of(binding, "type").to_ascii_lowercase().ends_with("trigger");
        let mut triggers = bindings.iter().filter(is_trigger);
        let trigger = triggers.next().ok_or("declares no trigger")?;
        if triggers.next().is_some() {
            return Err("declares more than one trigger".to_owned());
        }
        let out = |binding: &&Value| text_of(binding, "direction").eq_ignore_ascii_case("out");
        let outputs: Vec<_> = bindings.iter().filter(out).collect();
        let one_http_output =
            matches!(outputs[..], [output] if text_of(output, "type").eq_ignore_ascii_case("http"));
        let binding = text_of(trigger, "type").to_owned();
        Ok(Self {
            simple_http: binding.eq_ignore_ascii_case(HttpRequest::BINDING)
                && one_http_output
                && bindings.len() == 2,
            batches: text_of(trigger, "cardinality").eq_ignore_ascii_case("many"),
            binding,
        })
    }
}

fn compare(functions: &Functions, name: &str, declared: &Declared) -> Option<Mismatch> {
    let function = name.to_owned();
    let Some(registered) = functions.registered.get(name) else {
        if !declared.simple_http {
            return Some(Mismatch::NotRegistered { function, binding: declared.binding.clone() });
        }
        return if functions.router.is_none() { Some(Mismatch::NoRouter { function }) } else { None };
    };
    if !registered.binding.eq_ignore_ascii_case(&declared.binding) {
        let (registered, declared) = (registered.binding.clone(), declared.binding.clone());
        return Some(Mismatch::OtherTrigger { function, registered, declared });
    }
    if declared.batches && !registered.batches {
        return Some(Mismatch::Batch { function });
    }
    None
}

/// The host matches property names whatever their case.
fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn text_of<'a>(binding: &'a Value, name: &str) -> &'a str {
    member(binding, name).and_then(Value::as_str).unwrap_or_default()
}
