//! The executable, run on text.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What a run gave.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// Runs `ajar` with these arguments and standard input.
pub fn ajar(arguments: &[&str], input: impl AsRef<[u8]>) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ajar"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.as_ref().to_vec();
    // On a thread of its own, since the child may fill its output before it has read all. It may also end early.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The id of a resource in one group.
pub fn id(resource: &str) -> String {
    format!("/subscriptions/s/resourceGroups/g/providers/{resource}")
}

pub fn nsg_id(name: &str) -> String {
    id(&format!("Microsoft.Network/networkSecurityGroups/{name}"))
}

/// An inbound rule as ARM writes it.
pub fn rule(name: &str, priority: u16, access: &str, source: &str, ports: &str) -> Value {
    json!({ "name": name, "properties": {
        "priority": priority, "access": access, "direction": "Inbound", "protocol": "Tcp",
        "sourceAddressPrefix": source, "sourcePortRange": "*",
        "destinationAddressPrefix": "*", "destinationPortRange": ports,
    }})
}

/// A group as ARM writes it.
pub fn nsg(name: &str, rules: &[Value]) -> Value {
    json!({ "id": nsg_id(name), "name": name, "type": "Microsoft.Network/networkSecurityGroups",
        "properties": { "securityRules": rules } })
}
