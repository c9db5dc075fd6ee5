//! The stack that end-to-end tests drive: the packaged executable in the local Functions host, against the
//! simulated Azure and a real Azurite, everything over real HTTP on free ports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "a test without its stack fails by panicking"
)]

pub mod receiver;

use azure_simulator::{Running, Simulator, SystemClock};
use azurite::{Azurite, AzuriteBlobs};
use functions_host::{FunctionsHost, Options};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The sample estate's subscription.
pub const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";

/// The sample estate's tenant.
pub const TENANT: &str = "22222222-2222-2222-2222-222222222222";

/// The secret between the handler and the simulated identity endpoint.
const IDENTITY_HEADER: &str = "end-to-end";

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The package under test: `AJAR_DIST`, else dist/.
pub fn dist() -> PathBuf {
    let dist = std::env::var_os("AJAR_DIST").map_or_else(|| repository().join("dist"), PathBuf::from);
    assert!(
        dist.join("handler").exists(),
        "there is no package at {}: run `scripts/package --profile dev`",
        dist.display()
    );
    dist
}

/// The sample estate: a JSON array of ARM resources.
pub fn sample_estate() -> String {
    std::fs::read_to_string(repository().join("crates/local/sample-estate.json")).unwrap()
}

/// The resource id of something in the sample estate.
pub fn id(kind: &str, name: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/demo-rg/providers/{kind}/{name}")
}

/// The resource id of a VM of the sample estate.
pub fn vm(name: &str) -> String {
    id("Microsoft.Compute/virtualMachines", name)
}

/// The resource id of an NSG of the sample estate.
pub fn nsg(name: &str) -> String {
    id("Microsoft.Network/networkSecurityGroups", name)
}

/// An answer as a client sees it.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: reqwest::header::HeaderMap,
    /// Its body as JSON; a string when it is none.
    pub body: Value,
}

/// Everything, started.
pub struct Stack {
    /// The Functions host, with the handler in it.
    pub host: FunctionsHost,
    /// The simulated Azure.
    pub azure: Running,
    /// Table Storage.
    pub azurite: Azurite,
    /// Blob Storage.
    pub blobs: AzuriteBlobs,
    log: Arc<Mutex<Vec<String>>>,
    client: reqwest::Client,
    events: tokio::task::JoinHandle<()>,
    options: Options,
}

/// The app settings that the handler needs in front of a simulated Azure at `azure`.
pub fn settings(azure: &str, service_bus: &str, tables: &str, blobs: &str) -> Vec<(String, String)> {
    [
        ("AJAR_DEPLOYMENT", "e2e"),
        ("AJAR_TENANT_ID", TENANT),
        ("AJAR_AUDIENCE", "api://ajar"),
        ("AJAR_AUTHORITY", azure),
        ("AJAR_ARM_ENDPOINT", azure),
        ("AJAR_SUBSCRIPTIONS", SUBSCRIPTION),
        ("AJAR_TABLES_ENDPOINT", tables),
        ("AJAR_BLOBS_ENDPOINT", blobs),
        ("AJAR_SERVICE_BUS_ENDPOINT", service_bus),
        ("ServiceBusConnection__fullyQualifiedNamespace", "local.servicebus.windows.net"),
        ("IDENTITY_ENDPOINT", &format!("{azure}/msi/token")),
        ("IDENTITY_HEADER", IDENTITY_HEADER),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

impl Stack {
    /// Starts everything on the sample estate and waits until the handler answers.
    pub async fn start() -> Stack {
        Stack::start_on(&sample_estate()).await
    }

    /// Starts everything on an estate and waits until the handler answers.
    pub async fn start_on(estate: &str) -> Stack {
        Stack::start_with(estate, &[]).await
    }

    /// The same with more app settings, or other values for some.
    pub async fn start_with(estate: &str, more: &[(&str, &str)]) -> Stack {
        let (azurite, blobs) = tokio::join!(azurite::start(), azurite::start_blobs());
        let mut simulator = Simulator::new(estate, Arc::new(SystemClock), 1).unwrap();
        simulator.set_identity_header(IDENTITY_HEADER);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let azure = azure_simulator::serve(listener, simulator).unwrap();
        // The Service Bus's address is part of the handler's settings, so it is chosen before the host starts.
        let service_bus = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut options = Options::new(dist());
        options.listen = ([127, 0, 0, 1], 0).into();
        options.service_bus_listen = service_bus;
        options.extra_queues = vec!["parked".into()];
        options.environment =
            settings(&azure.base_url(), &format!("http://{service_bus}"), &azurite.endpoint, &blobs.endpoint);
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        options.environment.extend(more);
        let issuer = azure.simulator();
        options.token_check = Arc::new(move |token| {
            let issuer = issuer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            issuer.check_token(token, "https://servicebus.azure.net").is_ok()
        });
        let lines = Arc::clone(&log);
        options.log = Some(Arc::new(move |line| {
            let line = format!("{line:?}");
            // Captured by the test runner, which shows it when the test fails.
            eprintln!("{line}");
            lines.lock().unwrap().push(line);
        }));
        let host = FunctionsHost::start(options.clone()).await.unwrap();
        host.ready().await.unwrap();
        let client = reqwest::Client::new();
        let events = tokio::spawn(deliver_events(
            azure.simulator(),
            client.clone(),
            format!("http://{service_bus}/vm-events/messages"),
        ));
        let stack = Stack { host, azure, azurite, blobs, log, client, events, options };
        stack.answers().await;
        stack
    }

    async fn answers(&self) {
        self.eventually("the handler has initialised", Duration::from_secs(20), async |stack| {
            stack.call(Method::GET, "/api/health", None, None).await.status == StatusCode::OK
        })
        .await;
    }

    /// Stops the host with all the messages of its bus, and starts another on the same store and the same Azure. The
    /// addresses of Ajar and of the bus are others then.
    pub async fn with_another_host(self) -> Stack {
        let Stack { host, azure, azurite, blobs, log, client, events, mut options } = self;
        host.stop().await;
        events.abort();
        let service_bus = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        options.service_bus_listen = service_bus;
        // The last of several values for one name is the one that counts.
        options.environment.push(("AJAR_SERVICE_BUS_ENDPOINT".into(), format!("http://{service_bus}")));
        let events = tokio::spawn(deliver_events(
            azure.simulator(),
            client.clone(),
            format!("http://{service_bus}/vm-events/messages"),
        ));
        let host = FunctionsHost::start(options.clone()).await.unwrap();
        host.ready().await.unwrap();
        let stack = Stack { host, azure, azurite, blobs, log, client, events, options };
        stack.answers().await;
        stack
    }

    /// What the host and the handler have written so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// The address of Ajar.
    pub fn url(&self) -> String {
        format!("http://{}", self.host.http_address())
    }

    /// A token of a sample user for Ajar's audience.
    pub fn token(&self, user: &str) -> String {
        self.token_for(user, "api://ajar")
    }

    /// A token of a sample user for any audience.
    pub fn token_for(&self, user: &str, audience: &str) -> String {
        self.azure.with(|azure| azure.token(user, audience)).unwrap().expect("a sample user")
    }

    /// Calls Ajar.
    pub async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.url()));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// Calls Ajar as a sample user.
    pub async fn call_as(&self, user: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let token = self.token(user);
        self.call(method, path, Some(&token), body).await
    }

    /// A request to Ajar with everything left to the caller.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url()))
    }

    /// Calls the simulated Azure as a sample user, as `az` would.
    pub async fn arm_as(&self, user: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let token = self.token_for(user, "https://management.azure.com");
        let mut request =
            self.client.request(method, format!("{}{path}", self.azure.base_url())).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// Whether a TCP packet reaches a VM, by the simulator's own walk over the rules.
    pub async fn passes(&self, source: &str, vm_name: &str, port: u16) -> bool {
        let body = json!({ "source": source, "destination": vm(vm_name), "port": port, "protocol": "Tcp" });
        let url = format!("{}/sim/probe", self.azure.base_url());
        let answer = answer(self.client.post(url).json(&body)).await;
        answer.body["allowed"].as_bool().unwrap_or_else(|| panic!("{answer:?}"))
    }

    /// The writes to NSGs and their rules so far: method and path of each.
    pub fn writes(&self) -> Vec<String> {
        self.azure.with(|azure| {
            azure
                .log()
                .filter(|entry| {
                    entry.method != "GET" && entry.path.to_lowercase().contains("networksecuritygroups")
                })
                .map(|entry| format!("{} {}", entry.method, entry.path))
                .collect()
        })
    }

    /// How many writes to NSGs and their rules there were so far. Cheap, and forgets nothing.
    pub fn write_count(&self) -> u64 {
        self.azure.with(|azure| {
            let of_groups = azure.writes().iter().filter(|(id, _)| id.contains("/networksecuritygroups/"));
            of_groups.map(|(_, count)| count).sum()
        })
    }

    /// The custom rules of an NSG as they are now.
    pub fn rules(&self, name: &str) -> Vec<Value> {
        let resource =
            self.azure.with(|azure| azure.resource(&nsg(name))).expect("an NSG of the sample estate");
        resource["properties"]["securityRules"].as_array().cloned().unwrap_or_default()
    }

    /// Turns JIT on for ports 22 and 3389 of a VM, as alice, and waits until it is shut.
    pub async fn protect(&self, name: &str) {
        let policy =
            json!({ "vm": vm(name), "ports": [{ "port": 22 }, { "port": 3389 }], "minimumDuration": "PT1S" });
        let answer = self.call_as("alice", Method::PUT, "/api/policies", Some(policy)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        self.eventually("port 22 is shut", Duration::from_secs(10), async |stack| {
            !stack.passes("198.51.100.77", name, 22).await
        })
        .await;
    }

    /// Asks for port 22 of a VM as bob; the answer's body is the request.
    pub async fn ask(&self, name: &str, source: &str, duration: &str) -> Value {
        let body = json!({
            "vm": vm(name), "ports": [{ "port": 22, "sources": [source] }], "duration": duration,
            "justification": "INC-42",
        });
        let answer = self.call_as("bob", Method::POST, "/api/requests", Some(body)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.body
    }

    /// Whether no message waits to be handled now or is being handled.
    pub fn is_at_rest(&self) -> bool {
        ["access-requests", "reconcile"].iter().all(|queue| {
            let queue = self.host.queue(queue).unwrap();
            queue.active.is_empty() && queue.locked.is_empty()
        })
    }

    /// A request's status as bob sees it.
    pub async fn status(&self, request: &Value) -> String {
        let path = format!("/api/requests/{}", request["id"].as_str().unwrap());
        let answer = self.call_as("bob", Method::GET, &path, None).await;
        answer.body["status"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    /// Waits until `holds`, looking again every 20 ms; fails with the log after `most`. Returns how long it took.
    pub async fn eventually(
        &self,
        what: &str,
        most: Duration,
        holds: impl AsyncFn(&Stack) -> bool,
    ) -> Duration {
        let started = Instant::now();
        while !holds(self).await {
            assert!(started.elapsed() < most, "not within {most:?}: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        started.elapsed()
    }

    /// Stops everything.
    pub async fn stop(self) {
        self.events.abort();
        self.host.stop().await;
        self.azure.shut_down().await;
    }
}

/// Plays Event Grid's part: brings the events of writes to their queue, again where it cannot be reached.
async fn deliver_events(azure: Arc<Mutex<Simulator>>, client: reqwest::Client, queue: String) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (events, token) = {
            let mut azure = azure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (azure.take_events(), azure.token("ajar-identity", "https://servicebus.azure.net"))
        };
        let token = token.unwrap().expect("an identity of the sample estate");
        for event in events {
            let send = || client.post(&queue).bearer_auth(&token).body(event.to_string()).send();
            while !send().await.is_ok_and(|answer| answer.status().is_success()) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, headers, body }
}
