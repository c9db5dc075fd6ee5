//! A real Azurite for tests: Table Storage on this machine, in memory, gone with the value.

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

/// An Azurite: somebody else's that is left running, or one of our own that ends with this value.
pub struct Azurite {
    /// What `TableStore::azurite` takes.
    pub endpoint: String,
    own: Option<Own>,
}

struct Own {
    port: u16,
    child: Child,
}

impl Azurite {
    /// Ends it, as an outage: every later call finds nobody there. Only one of our own can be ended.
    pub async fn stop(&mut self) {
        self.own.as_mut().expect("an Azurite of our own").child.kill().await.unwrap();
    }

    /// Ends it and starts it anew at the same address: every table is gone, since they were in memory.
    pub async fn wipe(&mut self) {
        self.stop().await;
        let own = self.own.as_mut().expect("an Azurite of our own");
        own.child = start_on(own.port).await.expect("the port it had a moment ago is free");
    }
}

/// The Azurite that `AJAR_TEST_AZURITE` names, or a fresh one.
pub async fn azurite() -> Azurite {
    match std::env::var("AJAR_TEST_AZURITE") {
        Ok(endpoint) => Azurite { endpoint, own: None },
        Err(_) => start().await,
    }
}

/// A fresh one.
pub async fn start() -> Azurite {
    // A port that is free now may be taken when Azurite asks for it: then it ends, and another port is tried.
    for _ in 0..5 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if let Some(child) = start_on(port).await {
            return Azurite {
                endpoint: format!("http://127.0.0.1:{port}/devstoreaccount1"),
                own: Some(Own { port, child }),
            };
        }
    }
    panic!("Azurite ended five times before it accepted a connection: run {} by hand", program().display());
}

/// Starts one on `port` and waits until it accepts connections; `None` when it ends instead.
async fn start_on(port: u16) -> Option<Child> {
    let program = program();
    let mut child = Command::new(&program)
        .args(["--inMemoryPersistence", "--disableTelemetry", "--silent", "--skipApiVersionCheck"])
        .args(["--tableHost", "127.0.0.1", "--tablePort", &port.to_string()])
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

fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("AZURITE_TABLE") {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("node_modules/.bin/azurite-table");
    assert!(
        path.exists(),
        "there is no Azurite at {}: run `npm ci` in the repository's root",
        path.display()
    );
    path
}
