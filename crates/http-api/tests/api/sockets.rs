//! What only a connection shows.

use ajar_access::testing::{FakeAuthenticator, World};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_client_that_sends_too_much_still_reads_why_it_is_refused() {
    let world = World::new();
    let router = ajar_http_api::router(world.ajar.clone(), Arc::new(FakeAuthenticator), Default::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    // More than the buffers of both ends hold.
    let size = 15_000_000;
    let head = format!(
        "PUT /api/policies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nContent-Type: application/json\r\n\
         Content-Length: {size}\r\nConnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&vec![b' '; size]).await.expect("the server reads all of it");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("RequestContentTooLarge"), "{answer}");
    server.abort();
}
