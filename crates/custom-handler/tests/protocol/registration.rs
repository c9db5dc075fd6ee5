//! Registered functions against `function.json` files.

use std::fs;
use std::path::PathBuf;

use axum::Router;
use custom_handler::{Functions, Invocation, InvocationRequest, Mismatch, ServiceBusMessage, TimerEvent};

/// A folder of its own with these functions, removed at the end.
struct App(PathBuf);

impl App {
    fn new(test: &str, functions: &[(&str, &str)]) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        for (name, bindings) in functions {
            fs::create_dir_all(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("function.json"), format!(r#"{{ "bindings": [ {bindings} ] }}"#))
                .unwrap();
        }
        // What is no function: a folder without the file, and a file beside the folders.
        fs::create_dir_all(dir.join("shared")).unwrap();
        fs::write(dir.join("host.json"), "{}").unwrap();
        Self(dir)
    }

    fn differences(&self, functions: &Functions) -> Vec<String> {
        let text = |mismatch: &Mismatch| mismatch.to_string();
        functions.check_against(&self.0).err().unwrap_or_default().iter().map(text).collect()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

const QUEUE: &str = r#"{ "type": "serviceBusTrigger", "direction": "in", "name": "msg", "queueName": "q" }"#;
const BATCH: &str =
    r#"{ "type": "serviceBusTrigger", "direction": "in", "name": "msg", "Cardinality": "many" }"#;
const TIMER: &str =
    r#"{ "Type": "TimerTrigger", "direction": "in", "name": "timer", "schedule": "0 * * * * *" }"#;
const HTTP: &str = r#"{ "type": "httpTrigger", "direction": "in", "name": "req" }, { "type": "http", "direction": "out", "name": "res" }"#;
const HTTP_AND_QUEUE: &str = r#"{ "type": "httpTrigger", "direction": "in", "name": "req" },
    { "type": "http", "direction": "out", "name": "res" }, { "type": "queue", "direction": "out", "name": "out" }"#;

fn functions() -> Functions {
    Functions::new()
        .http(Router::new())
        .queue("reconcile", |_: ServiceBusMessage, _: Invocation| async { Ok::<_, String>(()) })
        .timer("sweep_expired", |_: TimerEvent, _: Invocation| async { Ok::<_, String>(()) })
}

#[test]
fn equal_sets_agree() {
    let app = App::new("equal", &[("api", HTTP), ("reconcile", QUEUE), ("sweep_expired", TIMER)]);
    assert_eq!(functions().check_against(&app.0), Ok(()));
    assert_eq!(functions().names().collect::<Vec<_>>(), ["reconcile", "sweep_expired"]);
}

#[test]
fn every_difference_is_named() {
    let app = App::new(
        "different",
        &[("api", HTTP), ("multi", HTTP_AND_QUEUE), ("notify", QUEUE), ("reconcile", TIMER)],
    );
    let mut functions = functions();
    assert_eq!(
        app.differences(&functions),
        [
            "function `multi` (httpTrigger) has a function.json but is not registered",
            "function `notify` (serviceBusTrigger) has a function.json but is not registered",
            "function `reconcile` is registered for serviceBusTrigger, but its function.json declares TimerTrigger",
            "function `sweep_expired` is registered but has no function.json",
        ]
    );
    functions = Functions::new();
    assert!(
        app.differences(&functions)
            .contains(&"function `api` is a forwarded HTTP function, but no router is registered".to_owned())
    );
}

#[test]
fn names_agree_by_letter_case_too() {
    let app = App::new("case", &[("Reconcile", QUEUE), ("sweep_expired", TIMER)]);
    assert_eq!(app.differences(&functions()).len(), 2);
}

#[test]
fn batches_are_for_functions_that_take_them() {
    let app = App::new("batch", &[("reconcile", BATCH), ("sweep_expired", TIMER)]);
    let typed = app.differences(&functions());
    assert_eq!(
        typed,
        ["function `reconcile` takes one event, but its function.json declares `cardinality` \"many\""]
    );
    let undecoded = Functions::new()
        .other("reconcile", "serviceBusTrigger", |_: InvocationRequest, _| async { Ok::<_, String>(()) })
        .timer("sweep_expired", |_, _| async { Ok::<_, String>(()) });
    assert_eq!(undecoded.check_against(&app.0), Ok(()));
}

#[test]
fn what_cannot_be_read_is_named() {
    let app = App::new("unreadable", &[("reconcile", "{"), ("sweep_expired", TIMER), ("empty", "")]);
    let differences = app.differences(&functions());
    assert_eq!(differences.len(), 2, "{differences:?}");
    assert!(
        differences[0].contains("empty") && differences[0].ends_with("declares no trigger"),
        "{differences:?}"
    );
    assert!(differences[1].contains("reconcile"), "{differences:?}");
    let nowhere = functions().check_against(app.0.join("nowhere")).unwrap_err();
    assert_eq!(nowhere.len(), 3, "the folder, and both functions that have no file: {nowhere:?}");
}
