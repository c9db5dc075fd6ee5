//! A handler for the host's tests: it records what it is sent and answers as it is told.
//!
//! `RECORD` names a file that gets one JSON line for the start and one for each request but the readiness probe.
//! `ANSWERS` is a JSON object `{"/Path": [{"status": 200, "type": "application/json", "body": "{}"}, ...]}`; answers
//! are used in turn, the last one again and again. Paths that are not listed get 200 and `{}`.
//! `do=` in the query of a request wins over both: `ok`, `exit0`, `exit1`, `exit200`, `crash`, `empty`, `sleep<ms>`.
//! `START` changes the start: `exit<code>`, `never` (do not listen), `late<ms>`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a helper of tests fails by panicking"
)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

type Used = Arc<Mutex<HashMap<String, usize>>>;

fn main() {
    let environment: HashMap<String, String> = std::env::vars().collect();
    record(&json!({
        "start": {
            "argv": std::env::args().skip(1).collect::<Vec<_>>(),
            "cwd": std::env::current_dir().unwrap(),
            "exe": std::env::args().next(),
            "env": environment,
        }
    }));
    let start = std::env::var("START").unwrap_or_default();
    if let Some(lines) = environment.get("STDOUT") {
        println!("{lines}");
    }
    if let Some(lines) = environment.get("STDERR") {
        eprintln!("{lines}");
    }
    if let Some(code) = start.strip_prefix("exit") {
        std::process::exit(code.parse().unwrap());
    }
    if let Some(milliseconds) = start.strip_prefix("late") {
        std::thread::sleep(Duration::from_millis(milliseconds.parse().unwrap()));
    }
    if start == "never" {
        loop {
            std::thread::park();
        }
    }
    let port: u16 = environment["FUNCTIONS_CUSTOMHANDLER_PORT"].parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let used = Used::default();
    for stream in listener.incoming() {
        let used = Arc::clone(&used);
        std::thread::spawn(move || serve(stream.unwrap(), &used));
    }
}

fn record(line: &Value) {
    let Ok(path) = std::env::var("RECORD") else {
        return;
    };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn serve(mut stream: TcpStream, used: &Used) {
    let mut buffer = Vec::new();
    let head = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break String::from_utf8_lossy(&buffer[..at]).into_owned();
        }
        if fill(&mut stream, &mut buffer) == 0 {
            return;
        }
    };
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> = lines
        .map(|header| header.split_once(": ").unwrap_or((header.trim_end_matches(':'), "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut rest = buffer.split_off(head.len() + 4);
    let find = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let (framing, body) = if find("Transfer-Encoding") == Some("chunked") {
        ("chunked", read_chunked(&mut stream, &mut rest))
    } else if let Some(length) = find("Content-Length") {
        let length: usize = length.parse().unwrap();
        while rest.len() < length {
            assert_ne!(fill(&mut stream, &mut rest), 0, "the request ended early");
        }
        ("content-length", rest)
    } else {
        ("none", Vec::new())
    };
    let target = line.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_probe = line == "GET / HTTP/1.1" && headers.len() == 1;
    if !is_probe {
        record(&json!({
            "line": line, "headers": headers, "framing": framing, "body": String::from_utf8_lossy(&body),
        }));
    }
    let order = query.split('&').find_map(|pair| pair.strip_prefix("do=")).unwrap_or_default();
    match order {
        "crash" => std::process::exit(1),
        "empty" => answer(&mut stream, 200, "application/json", ""),
        "ok" => answer(&mut stream, 200, "text/plain", "ok"),
        sleep if sleep.starts_with("sleep") => {
            std::thread::sleep(Duration::from_millis(sleep["sleep".len()..].parse().unwrap()));
            answer(&mut stream, 200, "text/plain", "slept");
        }
        exit if exit.starts_with("exit") => {
            answer(&mut stream, 200, "text/plain", exit);
            std::process::exit(exit["exit".len()..].parse().unwrap());
        }
        _ => scripted(&mut stream, path, used),
    }
}

fn scripted(stream: &mut TcpStream, path: &str, used: &Used) {
    let answers: Value =
        std::env::var("ANSWERS").map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    let Some(list) = answers[path].as_array() else {
        return answer(stream, 200, "application/json", "{}");
    };
    let at = {
        let mut used = used.lock().unwrap();
        let count = used.entry(path.to_owned()).or_default();
        *count += 1;
        (*count - 1).min(list.len() - 1)
    };
    let next = &list[at];
    if let Some(milliseconds) = next["delay"].as_u64() {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
    answer(
        stream,
        next["status"].as_u64().unwrap_or(200),
        next["type"].as_str().unwrap_or("application/json"),
        next["body"].as_str().unwrap_or("{}"),
    );
}

fn answer(stream: &mut TcpStream, status: u64, content_type: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // The host may have given up on this request.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> usize {
    let mut piece = [0; 65536];
    let length = stream.read(&mut piece).unwrap_or(0);
    buffer.extend_from_slice(&piece[..length]);
    length
}

fn read_chunked(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            assert_ne!(fill(stream, rest), 0, "the request ended early");
        };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest.drain(..end + 2);
        while rest.len() < size + 2 {
            assert_ne!(fill(stream, rest), 0, "the request ended early");
        }
        body.extend_from_slice(&rest[..size]);
        rest.drain(..size + 2);
        if size == 0 {
            return body;
        }
    }
}
