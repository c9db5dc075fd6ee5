//! A real Azurite for tests: Table and Blob Storage on this machine, in memory, gone with the value.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test without its Azurite fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// An Azurite's tables: somebody else's that are left running, or our own that end with this value.
pub struct Azurite {
    /// What `TableStore::azurite` takes.
    pub endpoint: String,
    own: Option<Own>,
}

/// An Azurite's blobs, which end with this value.
pub struct AzuriteBlobs {
    /// What `BlobStore::azurite` takes.
    pub endpoint: String,
    own: Own,
}

struct Own {
    service: Service,
    port: u16,
    child: Child,
}

/// One of Azurite's services; each is a process of its own.
#[derive(Debug, Clone, Copy)]
enum Service {
    Table,
    Blob,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Service::Table => "table",
            Service::Blob => "blob",
        }
    }
}

impl Azurite {
    /// Ends it, as an outage: every later call finds nobody there. Only one of our own can be ended.
    pub async fn stop(&mut self) {
        self.own.as_mut().expect("an Azurite of our own").child.kill().await.unwrap();
    }

    /// Ends it and starts it anew at the same address: every table is gone, since they were in memory.
    pub async fn wipe(&mut self) {
        self.stop().await;
        self.own.as_mut().expect("an Azurite of our own").start_again().await;
    }
}

impl AzuriteBlobs {
    /// Ends it, as an outage: every later call finds nobody there.
    pub async fn stop(&mut self) {
        self.own.child.kill().await.unwrap();
    }

    /// Ends it and starts it anew at the same address: every blob is gone, since they were in memory.
    pub async fn wipe(&mut self) {
        self.stop().await;
        self.own.start_again().await;
    }
}

impl Own {
    /// A fresh service on a port of its own.
    async fn start(service: Service) -> Own {
        // A port that is free now may be taken when Azurite asks for it: then it ends, and another port is tried.
        for _ in 0..5 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(child) = start_on(service, port).await {
                return Own { service, port, child };
            }
        }
        let program = program(service);
        panic!("Azurite ended five times before it accepted a connection: run {} by hand", program.display());
    }

    async fn start_again(&mut self) {
        self.child = start_on(self.service, self.port).await.expect("the port it had a moment ago is free");
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/devstoreaccount1", self.port)
    }
}

/// The tables of the Azurite that `AJAR_TEST_AZURITE` names, or fresh ones.
pub async fn azurite() -> Azurite {
    match std::env::var("AJAR_TEST_AZURITE") {
        Ok(endpoint) => Azurite { endpoint, own: None },
        Err(_) => start().await,
    }
}

/// Fresh tables.
pub async fn start() -> Azurite {
    let own = Own::start(Service::Table).await;
    Azurite { endpoint: own.endpoint(), own: Some(own) }
}

/// Fresh blobs.
pub async fn start_blobs() -> AzuriteBlobs {
    let own = Own::start(Service::Blob).await;
    AzuriteBlobs { endpoint: own.endpoint(), own }
}

/// Starts a service on `port` and waits until it accepts connections; `None` when it ends instead.
async fn start_on(service: Service, port: u16) -> Option<Child> {
    let program = program(service);
    let name = service.name();
    let mut child = Command::new(&program)
        .args(["--inMemoryPersistence", "--disableTelemetry", "--silent", "--skipApiVersionCheck"])
        .args([&format!("--{name}Host"), "127.0.0.1", &format!("--{name}Port"), &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
    let ready = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = child.wait() => None,
        answered = tokio::time::timeout(Duration::from_secs(30), ready) => {
            answered.expect("Azurite accepts no connection within 30 seconds");
            Some(child)
        }
    }
}

fn program(service: Service) -> PathBuf {
    if let Some(path) = std::env::var_os(format!("AZURITE_{}", service.name().to_uppercase())) {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("node_modules/.bin").join(format!("azurite-{}", service.name()));
    assert!(
        path.exists(),
        "there is no Azurite at {}: run `npm ci` in the repository's root",
        path.display()
    );
    path
}
