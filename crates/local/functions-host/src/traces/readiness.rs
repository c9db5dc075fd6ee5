//! The readiness probe against servers of the recorded kinds.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::TRACES;
use super::replay::{Replay, answer};
use crate::worker::probe;

fn recorded(case: &str) -> bool {
    TRACES[case]["outcome"]["result"].as_bool().unwrap()
}

#[tokio::test]
async fn whatever_is_answered_counts_as_ready() {
    for (case, bytes) in [
        ("ready-200", answer(200, &[], b"")),
        ("ready-404", answer(404, &[], b"")),
        ("ready-500", answer(500, &[], b"")),
        ("ready-401", answer(401, &[], b"")),
        ("ready-closes", Vec::new()),
        ("ready-not-http", b"SSH-2.0-x\r\n".to_vec()),
    ] {
        let replay = Replay::start(vec![bytes]).await;
        assert_eq!(probe(replay.port, Duration::from_secs(1)).await, recorded(case), "{case}");
    }
}

#[tokio::test]
async fn a_reset_connection_counts_as_ready() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_zero_linger().unwrap();
        }
    });
    assert_eq!(probe(port, Duration::from_secs(1)).await, recorded("ready-connection-reset"));
}

#[tokio::test]
async fn a_server_that_comes_late_is_found() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        // The delay is what the case is about.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let listener = socket.listen(16).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert_ne!(stream.read(&mut request).await.unwrap(), 0);
        stream.write_all(&answer(200, &[], b"")).await.unwrap();
    });
    assert_eq!(probe(port, Duration::from_secs(10)).await, recorded("ready-late-300ms"));
    server.await.unwrap();
}

#[tokio::test]
async fn the_probe_gives_up_after_the_timeout_counted_in_pauses() {
    for (case, timeout) in [("ready-nothing-listens", 1), ("ready-nothing-listens-3s", 3)] {
        // Bound but not listening: connections are refused, and nobody else can take the port meanwhile.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = silent.local_addr().unwrap().port();
        let start = Instant::now();
        assert_eq!(probe(port, Duration::from_secs(timeout)).await, recorded(case), "{case}");
        assert!(start.elapsed() >= Duration::from_secs(timeout), "{case}");
    }
    let ipv6 = TcpListener::bind(("::1", 0)).await;
    // Machines without IPv6 cannot have this case.
    if let Ok(listener) = ipv6 {
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probe(port, Duration::from_millis(100)).await, recorded("ready-ipv6-only"));
    }
}
