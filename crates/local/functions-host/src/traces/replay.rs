//! A handler that answers with recorded bytes and keeps what it was sent.

use std::sync::{Arc, Mutex};

use serde_json::Value as Recorded;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came over the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) framing: &'static str,
    pub(super) chunk_sizes: Vec<usize>,
    pub(super) body: Vec<u8>,
}

pub(super) struct Replay {
    pub(super) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Replay {
    /// Answers the first request with the first answer and so on, and repeats the last. An empty answer closes.
    pub(super) async fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                let at = {
                    let mut requests = requests.lock().unwrap();
                    requests.push(request);
                    (requests.len() - 1).min(answers.len() - 1)
                };
                // The host may close first.
                let _ = stream.write_all(&answers[at]).await;
            }
        });
        Self { port, seen }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> Seen {
    let mut buffer = Vec::new();
    let head = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break String::from_utf8(buffer[..at].to_vec()).unwrap();
        }
        assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "the request ended early");
    };
    let mut rest = buffer.split_off(head.len() + 4);
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> = lines
        .map(|header| header.split_once(':').unwrap())
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let find = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let mut chunk_sizes = Vec::new();
    let (framing, body) = if find("Transfer-Encoding") == Some("chunked") {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                assert_ne!(stream.read_buf(&mut rest).await.unwrap(), 0);
            };
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            rest.drain(..end + 2);
            while rest.len() < size + 2 {
                assert_ne!(stream.read_buf(&mut rest).await.unwrap(), 0);
            }
            body.extend_from_slice(&rest[..size]);
            rest.drain(..size + 2);
            chunk_sizes.push(size);
            if size == 0 {
                break;
            }
        }
        ("chunked", body)
    } else if let Some(length) = find("Content-Length") {
        let length: usize = length.parse().unwrap();
        while rest.len() < length {
            assert_ne!(stream.read_buf(&mut rest).await.unwrap(), 0);
        }
        ("content-length", rest)
    } else {
        ("none", rest)
    };
    Seen { line, headers, framing, chunk_sizes, body }
}

/// The bytes of a recorded `respond`, one element per request.
pub(super) fn answers(respond: &Recorded) -> Vec<Vec<u8>> {
    let text = |name: &str| respond[name].as_str();
    if let Some(action) = text("action") {
        return if action.contains("closes the first time") {
            vec![Vec::new(), answer(200, &[("Content-Type", "text/plain")], b"second")]
        } else if action.contains("non-HTTP") {
            vec![b"SSH-2.0-x\r\n".to_vec()]
        } else if action.starts_with("Content-Length 100") {
            vec![b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"Outputs\"".to_vec()]
        } else {
            vec![Vec::new()]
        };
    }
    if let Some(head) = text("head") {
        // Some are recorded whole, with the line ends of the wire, some without.
        if head.contains("\r\n\r\n") {
            return vec![head.as_bytes().to_vec()];
        }
        let body = text("body").unwrap_or_default();
        return vec![format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n")).into_bytes()];
    }
    if let Some(second) = text("second") {
        let location = [("Location", "/other")];
        let status = respond["first"].as_str().unwrap()[..3].parse().unwrap();
        let body = second.strip_prefix("200 application/json ").unwrap();
        return vec![
            answer(status, &location, b""),
            answer(200, &[("Content-Type", "application/json")], body.as_bytes()),
        ];
    }
    if let Some(location) = text("Location") {
        let status = respond["status"].as_u64().unwrap();
        return vec![answer(status, &[("Location", location)], b"")];
    }
    match &respond["always"] {
        Recorded::Number(status) => return vec![answer(status.as_u64().unwrap(), &[], b"")],
        Recorded::String(redirect) => {
            return vec![answer(redirect[..3].parse().unwrap(), &[("Location", "/other")], b"")];
        }
        _ => {}
    }
    if let Some(sequence) = text("sequence") {
        let last = if sequence.contains("res") { r#"{"Outputs":{"res":{"body":"third"}}}"# } else { "{}" };
        return vec![
            answer(500, &[], b""),
            answer(500, &[], b""),
            answer(200, &[("Content-Type", "application/json")], last.as_bytes()),
        ];
    }
    vec![plain(respond)]
}

fn plain(respond: &Recorded) -> Vec<u8> {
    let note = respond["note"].as_str().unwrap_or_default();
    let json = ("Content-Type".to_owned(), "application/json".to_owned());
    let mut headers: Vec<(String, String)> = match respond["headers"].as_array() {
        Some(list) if list.iter().all(Recorded::is_string) => list
            .chunks(2)
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()))
            .collect(),
        Some(list) => list
            .iter()
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()))
            .collect(),
        None if respond["status"] == 204 || respond["body"] == "" => Vec::new(),
        None => vec![json],
    };
    let envelope = r#"{"Outputs":{"outq":"m!"}}"#;
    let body: Vec<u8> = match respond["body"].as_str() {
        Some("gzip of a valid envelope") => b"\x1f\x8b\x08\x00\x00\x00\x00\x00".to_vec(),
        Some("arrays nested 200 deep in an output") => nested(200),
        Some("arrays nested 300 deep in an output") => nested(300),
        Some(body) => body.as_bytes().to_vec(),
        None if note.contains("BOM") => format!("\u{feff}{envelope}").into_bytes(),
        None => match respond["bodyBytes"].as_u64() {
            Some(length) => {
                let frame = r#"{"Outputs":{"outq":""}}"#.len() as u64;
                format!(r#"{{"Outputs":{{"outq":"{}"}}}}"#, "!".repeat((length - frame) as usize))
                    .into_bytes()
            }
            None => Vec::new(),
        },
    };
    let version = if note.contains("HTTP/1.0") { "1.0" } else { "1.1" };
    let is_chunked = headers.iter().any(|(name, _)| name == "Transfer-Encoding");
    let is_until_close = headers.iter().any(|(name, _)| name == "Connection") || version == "1.0";
    if !is_chunked && !is_until_close {
        headers.push(("Content-Length".to_owned(), body.len().to_string()));
    }
    let mut out = format!("HTTP/{version} {} X\r\n", respond["status"].as_u64().unwrap_or(200)).into_bytes();
    for (name, value) in &headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if is_chunked {
        if !body.is_empty() {
            out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            out.extend_from_slice(&body);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
    } else {
        out.extend_from_slice(&body);
    }
    out
}

fn nested(depth: usize) -> Vec<u8> {
    format!(r#"{{"Outputs":{{"outq":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth)).into_bytes()
}

pub(super) fn answer(status: u64, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}
