//! A client that sends exactly the bytes it is given.

use std::sync::{Arc, Mutex};

use custom_handler::{Exit, Functions, Server, logging};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tracing_subscriber::layer::SubscriberExt;

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.text()))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A server that is running until the test ends.
pub struct Running {
    pub port: u16,
    pub task: JoinHandle<Exit>,
}

pub async fn serving(functions: Functions) -> Running {
    starting(async { Ok(functions) }).await
}

pub async fn starting(
    initialise: impl Future<Output = Result<Functions, String>> + Send + 'static,
) -> Running {
    let server = Server::bind(0).await.unwrap();
    Running { port: server.port(), task: tokio::spawn(server.run(initialise)) }
}

/// Sends bytes on a connection of their own and reads the answer. Interim answers are skipped.
pub async fn exchange(port: u16, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    // An answer given before the body was read makes the rest of the writing fail.
    let write = async { drop(writing.write_all(request).await) };
    let head_only = request.starts_with(b"HEAD ");
    let ((), answer) = tokio::join!(write, read_answer(&mut reading, head_only));
    answer
}

pub async fn read_answer(stream: &mut (impl AsyncReadExt + Unpin), head_only: bool) -> Answer {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap_or_else(|_| panic!("closed after {head:?}")));
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let pair =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let headers: Vec<_> = lines.filter_map(pair).collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if status < 200 {
            continue;
        }
        let bodyless = head_only || status == 204 || status == 304;
        match answer.header("content-length").map(|length| length.parse().unwrap()) {
            _ if bodyless => {}
            Some(length) => {
                answer.body = vec![0; length];
                stream.read_exact(&mut answer.body).await.unwrap();
            }
            None => panic!("an answer without a length: {head}"),
        }
        return answer;
    }
}

/// An invocation as the host sends it (case `q1-raw-bytes`).
pub fn invocation(port: u16, function: &str, body: &Value) -> Vec<u8> {
    let head = format!(
        "POST /{function} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Azure-Functions-HostVersion: 4.1037.0.0\r\n\
         X-Azure-Functions-InvocationId: 1d8d4b5e-0000-0000-0000-000000000001\r\n\
         User-Agent: Azure-Functions-Host/4.1037.0.0\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: application/json; charset=utf-8\r\n\r\n"
    );
    let body = body.to_string();
    [head.as_bytes(), &chunked(body.as_bytes(), &[body.len()])].concat()
}

pub async fn invoke(port: u16, function: &str, body: &Value) -> Answer {
    exchange(port, &invocation(port, function, body)).await
}

pub fn chunked(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    for size in sizes.iter().filter(|size| **size > 0) {
        let (chunk, after) = rest.split_at(*size);
        out.extend(format!("{size:X}\r\n").bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
        rest = after;
    }
    assert!(rest.is_empty(), "the chunks do not make up the body");
    out.extend(b"0\r\n\r\n");
    out
}

/// The log lines of this thread, on which a test's single-threaded runtime runs everything.
pub struct Logged(
    Arc<Mutex<Vec<u8>>>,
    #[expect(dead_code, reason = "held for its drop")] tracing::subscriber::DefaultGuard,
);

pub fn logged() -> Logged {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&bytes);
    let layer = logging::lines(move |line| sink.lock().unwrap().extend(line));
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    Logged(bytes, guard)
}

impl Logged {
    /// Records of this crate or of the test; hyper's own debug records are not of interest.
    pub fn records(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let parse =
            |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no record: {line}"));
        let ours = |record: &Value| {
            ["custom_handler", "protocol"].iter().any(|of| record["target"].as_str().unwrap().starts_with(of))
        };
        text.lines().map(parse).filter(ours).collect()
    }
}
