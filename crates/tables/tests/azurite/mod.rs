//! A real Azurite for the tests of this crate.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// An Azurite: somebody else's that is left running, or one of our own that ends with this value.
pub struct Azurite {
    /// What `TableStore::azurite` takes.
    pub endpoint: String,
    _own: Option<Child>,
}

/// The Azurite that `AJAR_TEST_AZURITE` names, or a fresh one.
pub async fn azurite() -> Azurite {
    match std::env::var("AJAR_TEST_AZURITE") {
        Ok(endpoint) => Azurite { endpoint, _own: None },
        Err(_) => start().await,
    }
}

async fn start() -> Azurite {
    let program = program();
    // A port that is free now may be taken when Azurite asks for it: then it ends, and another port is tried.
    for _ in 0..5 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
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
            _ = child.wait() => {}
            answered = tokio::time::timeout(Duration::from_secs(30), ready) => {
                answered.expect("Azurite accepts no connection within 30 seconds");
                return Azurite {
                    endpoint: format!("http://127.0.0.1:{port}/devstoreaccount1"),
                    _own: Some(child),
                };
            }
        }
    }
    panic!("Azurite ended five times before it accepted a connection: run {} by hand", program.display());
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
