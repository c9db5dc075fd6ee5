//! An app in a temporary folder, run by a real host with the test handler as its executable.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use functions_host::{FunctionsHost, HostError, LogLine, Options};
use serde_json::{Value, json};

/// An app being put together.
pub(crate) struct App {
    folder: tempfile::TempDir,
    pub(crate) options: Options,
    pub(crate) logs: Arc<Mutex<Vec<LogLine>>>,
}

impl App {
    /// An app with forwarding on, no prefix and no functions.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(
            env!("CARGO_BIN_EXE_functions-host-test-handler"),
            folder.path().join("handler"),
        )
        .unwrap();
        let mut options = Options::new(folder.path());
        options.listen = ([127, 0, 0, 1], 0).into();
        options.service_bus_listen = ([127, 0, 0, 1], 0).into();
        let logs = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&logs);
        options.log = Some(Arc::new(move |line| sink.lock().unwrap().push(line)));
        let mut app = Self { folder, options, logs };
        let record = app.root().join("record.jsonl");
        app = app.setting("RECORD", &record.display().to_string());
        app.host_json(json!({
            "version": "2.0",
            "customHandler": {
                "description": { "defaultExecutablePath": "handler" },
                "enableForwardingHttpRequest": true
            },
            "extensions": { "http": { "routePrefix": "" } }
        }))
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn host_json(self, value: Value) -> Self {
        std::fs::write(self.root().join("host.json"), value.to_string()).unwrap();
        self
    }

    /// Changes one value of host.json, named by a JSON pointer whose parents exist.
    pub(crate) fn host_json_with(self, pointer: &str, value: Value) -> Self {
        let text = std::fs::read_to_string(self.root().join("host.json")).unwrap();
        let mut root: Value = serde_json::from_str(&text).unwrap();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        root.pointer_mut(parent).unwrap()[name] = value;
        self.host_json(root)
    }

    pub(crate) fn function(self, name: &str, bindings: Value) -> Self {
        self.function_json(name, json!({ "bindings": bindings }))
    }

    pub(crate) fn function_json(self, name: &str, value: Value) -> Self {
        let folder = self.root().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("function.json"), value.to_string()).unwrap();
        self
    }

    /// A forwarded HTTP function.
    pub(crate) fn http(self, name: &str, route: &str) -> Self {
        self.function(
            name,
            json!([
                { "type": "httpTrigger", "direction": "in", "name": "req", "authLevel": "anonymous", "route": route },
                { "type": "http", "direction": "out", "name": "res" }
            ]),
        )
    }

    /// A function on a Service Bus queue, `dataType: binary`.
    pub(crate) fn queue(self, name: &str, queue: &str) -> Self {
        self.function(
            name,
            json!([{
                "type": "serviceBusTrigger", "direction": "in", "name": "msg",
                "queueName": queue, "connection": "ServiceBusConnection", "dataType": "binary"
            }]),
        )
    }

    pub(crate) fn timer(self, name: &str, schedule: &str) -> Self {
        self.function(
            name,
            json!([{ "type": "timerTrigger", "direction": "in", "name": "timer", "schedule": schedule }]),
        )
    }

    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        self.options.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What the handler answers, by path; see the handler.
    pub(crate) fn answers(self, answers: Value) -> Self {
        self.setting("ANSWERS", &answers.to_string())
    }

    pub(crate) async fn start(&self) -> Result<FunctionsHost, HostError> {
        FunctionsHost::start(self.options.clone()).await
    }

    /// Everything the handlers of this app recorded.
    pub(crate) fn record(&self) -> Vec<Value> {
        read_record(&self.root().join("record.jsonl"))
    }

    /// The recorded requests.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.record().into_iter().filter(|line| line.get("line").is_some()).collect()
    }

    pub(crate) fn has_logged(&self, text: &str) -> bool {
        self.logs.lock().unwrap().iter().any(|line| line.text.contains(text))
    }
}

fn read_record(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may still be being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits for something that another process or task is about to do. Gives up loudly.
pub(crate) async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "it never came true that {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Sends over plain HTTP to the Service Bus of `host`.
pub(crate) async fn send_message(
    host: &FunctionsHost,
    queue: &str,
    broker_properties: &str,
    body: &str,
) -> u16 {
    reqwest::Client::new()
        .post(format!("http://{}/{queue}/messages?api-version=2017-04", host.service_bus_address()))
        .header("Authorization", "Bearer t")
        .header("BrokerProperties", broker_properties)
        .header("Content-Type", "application/json")
        .body(body.to_owned())
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}

pub(crate) async fn get(host: &FunctionsHost, target: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{}{target}", host.http_address())).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
