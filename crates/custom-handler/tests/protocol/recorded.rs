//! The recorded cases (`tests/host-traces`), and the requests in them as bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::wire;

/// The cases that try out answers.
const ANSWERS: [&str; 4] = ["resp-", "out-value-", "out-undeclared", "http-out-"];

pub struct Case {
    pub name: String,
    pub given: Value,
    pub request: Value,
    pub respond: Value,
    pub outcome: Value,
}

/// What a recorded case means for a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request of default mode, to be accepted and decoded: `invocations.rs`.
    Invocation,
    /// A forwarded request, for the router: `forwarded.rs`.
    Forwarded,
    /// The readiness probe: `starting.rs`.
    Probe,
    /// A client that steers a request onto the path of a function: `traversal.rs`.
    Traversal,
    /// What the host makes of an answer: `answers.rs`.
    Answer,
    /// Nothing: `not_replayed.rs` says why.
    NotReplayed,
}

pub fn cases() -> Vec<Case> {
    let text = include_str!("../../../../tests/host-traces/traces.jsonl");
    let case = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        Case {
            name: line["case"].as_str().unwrap().to_owned(),
            given: line["given"].take(),
            request: line["request"].take(),
            respond: line["respond"].take(),
            outcome: line["outcome"].take(),
        }
    };
    text.lines().map(case).collect()
}

pub fn of_kind(kind: Kind) -> Vec<Case> {
    cases().into_iter().filter(|case| case.kind() == kind).collect()
}

impl Case {
    pub fn kind(&self) -> Kind {
        if self.name.starts_with("forward-traversal-") {
            Kind::Traversal
        } else if self.name == "ready-probe-request" {
            Kind::Probe
        } else if self.request["raw"].is_string() || self.request["framing"] == "chunked" {
            Kind::Invocation
        } else if self.request.is_object() {
            Kind::Forwarded
        } else if self.respond.is_object() && ANSWERS.iter().any(|of| self.name.starts_with(of)) {
            Kind::Answer
        } else {
            Kind::NotReplayed
        }
    }

    /// The headers in wire order, for this port.
    pub fn headers(&self, port: u16) -> Vec<(String, String)> {
        let of_port = |value: &str| value.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"));
        let pair = |pair: &Value| (pair[0].as_str().unwrap().to_owned(), of_port(pair[1].as_str().unwrap()));
        self.request["headers"].as_array().unwrap().iter().map(pair).collect()
    }

    pub fn line(&self) -> &str {
        self.request["line"].as_str().unwrap()
    }

    pub fn body(&self) -> Vec<u8> {
        let request = &self.request;
        match (request["body"].as_str(), request["bodyBase64"].as_str(), request["bodyBytes"].as_u64()) {
            (Some(text), _, _) => text.as_bytes().to_vec(),
            (_, Some(base64), _) => STANDARD.decode(base64).unwrap(),
            // Of the two large bodies only the length is recorded; their content is of no account.
            (_, _, Some(6_666_700)) => {
                format!(r#"{{"Data":{{"in":"{}"}},"Metadata":{{}}}}"#, STANDARD.encode(vec![0; 5_000_000]))
                    .into()
            }
            (_, _, length) => vec![b'x'; usize::try_from(length.unwrap()).unwrap()],
        }
    }

    /// The request byte for byte: line, headers in wire order, body in the recorded chunks.
    pub fn bytes(&self, port: u16) -> Vec<u8> {
        if let Some(raw) = self.request["raw"].as_str() {
            return raw.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}")).into_bytes();
        }
        let mut bytes = format!("{}\r\n", self.line()).into_bytes();
        for (name, value) in self.headers(port) {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        let body = self.body();
        if self.request["framing"] == "chunked" {
            bytes.extend(wire::chunked(&body, &self.chunk_sizes(body.len())));
        } else {
            bytes.extend(body);
        }
        bytes
    }

    fn chunk_sizes(&self, length: usize) -> Vec<usize> {
        let size = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        match &self.request["chunkSizes"] {
            Value::Array(sizes) => {
                let sizes: Vec<_> = sizes.iter().map(size).collect();
                // Values replaced in the recording (ids, dates, stacks) made some bodies longer or shorter.
                if sizes.iter().sum::<usize>() == length { sizes } else { vec![length] }
            }
            // The large body: its first chunk, then equal ones up to the last, which is the remainder.
            large => {
                let (first, last) = (size(&large["first"]), size(&large["lastData"]));
                let between = 1024 * 4;
                let mut sizes = vec![first];
                let mut left = length - first - last;
                while left > 0 {
                    sizes.push(left.min(between));
                    left -= left.min(between);
                }
                sizes.push(last);
                sizes
            }
        }
    }
}
