//! A simulated Azure in a process of its own, and Ajar before it.

use ajar_access::ports::azure::Azure;
use ajar_access::ports::clock::Clock;
use ajar_access::ports::identity::{AuthenticationError, Caller, Tokens};
use ajar_arm::ResourceManager;
use async_trait::async_trait;
use azure_simulator::{Simulator, SystemClock};
use end_to_end_tests::{TENANT, sample_estate};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Serves an estate, and the people of the sample estate, until its input ends.
pub(crate) async fn serve(resources: &[Value]) {
    let sample: Vec<Value> = serde_json::from_str(&sample_estate()).unwrap();
    let is_person = |resource: &Value| {
        let kind = resource["type"].as_str().unwrap_or_default();
        !kind.starts_with("Microsoft.Network/") && !kind.starts_with("Microsoft.Compute/")
    };
    let all: Vec<Value> = sample.into_iter().filter(is_person).chain(resources.iter().cloned()).collect();
    let simulator = Simulator::new(&json!(all).to_string(), Arc::new(SystemClock), 1).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = azure_simulator::serve(listener, simulator).unwrap();
    println!("{}", running.base_url());
    let ended = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    ended.await.unwrap().unwrap();
    running.shut_down().await;
}

/// A simulated Azure; it ends with this value.
pub(crate) struct Simulated {
    url: String,
    client: reqwest::Client,
    _child: Child,
}

/// A call of Azure Resource Manager as the simulator logged it.
pub(crate) struct Logged {
    pub(crate) method: String,
    pub(crate) path: String,
}

impl Logged {
    pub(crate) fn is_resource_graph(&self) -> bool {
        self.path.contains("Microsoft.ResourceGraph")
    }
}

impl Simulated {
    /// Starts one with the estate of that name.
    pub(crate) async fn start(estate: &str) -> Simulated {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", estate])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.next_line().await.unwrap().expect("the simulated Azure says where it is");
        Simulated { url, client: reqwest::Client::new(), _child: child }
    }

    /// Ajar's adapter before it.
    pub(crate) async fn resource_manager(&self) -> Arc<dyn Azure> {
        let path = "/dev/token?user=ajar-identity&audience=arm";
        let token = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        let token = token.error_for_status().unwrap().text().await.unwrap();
        let client = ResourceManager::client().unwrap();
        let tokens = Arc::new(Issued(token));
        Arc::new(ResourceManager::new(&self.url, tokens, client, Arc::new(RealClock)).unwrap())
    }

    /// How many writes to NSGs and their rules there were so far.
    pub(crate) async fn nsg_writes(&self) -> u64 {
        let url = format!("{}/sim/writes", self.url);
        let writes: BTreeMap<String, u64> = self.client.get(&url).send().await.unwrap().json().await.unwrap();
        writes.iter().filter(|(id, _)| id.contains("/networksecuritygroups/")).map(|(_, count)| count).sum()
    }

    /// The calls since the last time, oldest first; the simulator keeps 10,000.
    pub(crate) async fn take_log(&self) -> Vec<Logged> {
        let url = format!("{}/sim/log", self.url);
        let log: Vec<Value> = self.client.get(&url).send().await.unwrap().json().await.unwrap();
        assert!(log.len() < 10_000, "the log is full: calls are missing");
        self.client.delete(&url).send().await.unwrap();
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        log.iter().map(|entry| Logged { method: text(entry, "method"), path: text(entry, "path") }).collect()
    }
}

struct Issued(String);

#[async_trait]
impl Tokens for Issued {
    async fn token(&self, _: &str) -> Result<String, AuthenticationError> {
        Ok(self.0.clone())
    }
}

pub(crate) struct RealClock;

#[async_trait]
impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: SignedDuration) {
        tokio::time::sleep(duration.try_into().unwrap_or_default()).await;
    }
}

/// A person of the sample estate.
pub(crate) fn person(name: &str) -> Caller {
    let sample: Vec<Value> = serde_json::from_str(&sample_estate()).unwrap();
    let is_it = |resource: &&Value| resource["type"] == "Microsoft.Graph/users" && resource["name"] == name;
    let found = sample.iter().find(is_it).expect("a user of the sample estate");
    Caller {
        object_id: found["id"].as_str().unwrap().to_owned(),
        tenant_id: TENANT.to_owned(),
        name: format!("{name}@contoso.example"),
        sign_in: Default::default(),
    }
}
