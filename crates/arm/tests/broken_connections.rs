//! Connections that break: reads are sent once more, writes are not, and no error shows the token.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod stub;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ajar_access::ports::azure::{Azure, AzureError};
use ajar_network::resource_id::ResourceId;
use stub::{TOKEN, azure_at, network_id};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const EMPTY_NSG: &str = r#"{"id":"/subscriptions/s1/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/n","properties":{"securityRules":[]}}"#;

/// A server that reads the first request of each connection and hangs up on the first `broken` of them.
async fn flaky(broken: usize) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            if socket.read(&mut buffer).await.unwrap_or(0) == 0 {
                continue;
            }
            if counter.fetch_add(1, Ordering::SeqCst) >= broken {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    EMPTY_NSG.len()
                );
                socket.write_all(format!("{head}{EMPTY_NSG}").as_bytes()).await.unwrap();
            }
        }
    });
    (base, requests)
}

fn nsg_id() -> ResourceId {
    ResourceId::parse(&network_id("networkSecurityGroups", "n")).unwrap()
}

#[tokio::test]
async fn a_read_survives_one_broken_connection() {
    let (base, requests) = flaky(1).await;
    let (azure, _) = azure_at(&base);
    azure.network_security_group(&nsg_id()).await.unwrap();
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_read_is_not_repeated_more_than_once() {
    let (base, requests) = flaky(usize::MAX).await;
    let (azure, _) = azure_at(&base);
    let error = azure.network_security_group(&nsg_id()).await.unwrap_err();
    assert!(matches!(error, AzureError::Unavailable { .. }));
    assert!(!format!("{error} {error:?} {azure:?}").contains(TOKEN));
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_write_is_sent_once_whatever_happens() {
    let (base, requests) = flaky(usize::MAX).await;
    let (azure, _) = azure_at(&base);
    let error = azure.delete_rule(&nsg_id(), "r").await.unwrap_err();
    assert!(matches!(error, AzureError::Unavailable { .. }));
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}
