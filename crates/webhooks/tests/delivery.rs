//! A receiver that checks what arrives by itself: HMAC written out from RFC 2104, not the library's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::life_cycle::CloseReason;
use ajar_access::notification::{Happened, Notification, Subject};
use ajar_access::ports::notifier::{Notifier, NotifierError};
use ajar_access::testing::{World, vm};
use ajar_webhooks::{Address, SigningSecret, Webhook};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex};

const KEY: [u8; 32] = [0x5a; 32];

type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A receiver on this machine that answers `status` with `headers` and keeps what it got.
async fn receiver(status: StatusCode, headers: Vec<(&'static str, String)>) -> (String, Seen) {
    let seen: Seen = Arc::default();
    let keep = Arc::clone(&seen);
    let answer = move |got: HeaderMap, body: Bytes| {
        keep.lock().unwrap().push((got, body));
        let mut answer = HeaderMap::new();
        for (name, value) in headers.clone() {
            answer.insert(name, value.parse().unwrap());
        }
        async move { (status, answer) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/hook/secret-path", listener.local_addr().unwrap());
    let router = Router::new().route("/hook/secret-path", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, seen)
}

fn webhook(world: &World, address: &str) -> Webhook {
    let secret = SigningSecret::parse(&format!("whsec_{}", STANDARD.encode(KEY))).unwrap();
    Webhook::new(Address::parse(address).unwrap(), secret, "test", world.clock.clone()).unwrap()
}

fn told(world: &World) -> Notification {
    let happened = Happened::VerdictChanged {
        before: Some("Healthy".into()),
        after: "Unhealthy".into(),
        reason: "ü".into(),
    };
    let now = world.ajar.ports.clock.now();
    Notification::new("vm-1".into(), now, happened, Subject::Vm { vm: vm("web-1") })
}

/// RFC 2104 for a key no longer than a block of 64 bytes.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| -> Vec<u8> {
        (0..64).map(|index| key.get(index).copied().unwrap_or_default() ^ byte).collect()
    };
    let inner = Sha256::digest([pad(0x36).as_slice(), text].concat());
    Sha256::digest([pad(0x5c).as_slice(), inner.as_slice()].concat()).to_vec()
}

#[tokio::test]
async fn what_arrives_is_a_cloud_event_whose_signature_holds() {
    let world = World::new();
    let (address, seen) = receiver(StatusCode::NO_CONTENT, vec![]).await;
    webhook(&world, &address).send(&told(&world)).await.unwrap();

    let (headers, body) = seen.lock().unwrap().pop().unwrap();
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/cloudevents+json");
    assert_eq!(header("webhook-id"), "vm-1");
    assert_eq!(header("webhook-timestamp"), world.ajar.ports.clock.now().as_second().to_string());
    let signed = [format!("vm-1.{}.", header("webhook-timestamp")).as_bytes(), &body].concat();
    let (version, signature) = header("webhook-signature").split_once(',').unwrap();
    assert_eq!(version, "v1");
    assert_eq!(STANDARD.decode(signature).unwrap(), hmac(&KEY, &signed));

    let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["id"], "vm-1");
    assert_eq!(event["type"], "ajar.vm.verdictChanged");
    assert_eq!(event["source"], "/ajar/test");
    assert_eq!(event["subject"], vm("web-1").as_str());
    assert_eq!(event["time"], "2026-11-24T12:00:00Z");
    assert_eq!(event["data"]["before"], "Healthy");
    assert_eq!(event["data"]["reason"], "ü");
    assert_eq!(event["data"]["message"], "web-1 was Healthy and is now Unhealthy: ü");
}

#[tokio::test]
async fn only_a_success_counts_as_received_and_what_is_gone_is_not_tried_again() {
    let world = World::new();
    for (status, headers, is_again, wait) in [
        (StatusCode::INTERNAL_SERVER_ERROR, vec![], true, None),
        (StatusCode::NOT_FOUND, vec![], true, None),
        (StatusCode::TOO_MANY_REQUESTS, vec![("retry-after", "90".to_owned())], true, Some(90)),
        (StatusCode::GONE, vec![], false, None),
    ] {
        let (address, seen) = receiver(status, headers).await;
        let error = webhook(&world, &address).send(&told(&world)).await.unwrap_err();
        match error {
            NotifierError::Unavailable { retry_after, reason } => {
                assert!(is_again && reason.contains(status.as_str()), "{status}: {reason}");
                assert_eq!(retry_after, wait.map(SignedDuration::from_secs));
            }
            NotifierError::Refused { .. } => assert!(!is_again, "{status}"),
        }
        assert_eq!(seen.lock().unwrap().len(), 1, "the queue tries again, not the channel");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::new();
    let (elsewhere, leaked) = receiver(StatusCode::OK, vec![]).await;
    for status in [StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT] {
        let (address, _) = receiver(status, vec![("location", elsewhere.clone())]).await;
        let error = webhook(&world, &address).send(&told(&world)).await.unwrap_err();
        assert!(matches!(error, NotifierError::Refused { .. }), "{status}: {error}");
    }
    assert!(leaked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_unreachable_receiver_is_an_outage_and_its_path_is_not_told() {
    let world = World::new();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/hook/secret-path", free.local_addr().unwrap());
    drop(free);
    let error = webhook(&world, &address).send(&told(&world)).await.unwrap_err();
    assert!(matches!(error, NotifierError::Unavailable { .. }));
    assert!(!error.to_string().contains("secret-path"), "{error}");
}

#[test]
fn a_closed_request_says_why() {
    let happened = Happened::Closed { reason: CloseReason::Revoked };
    let at = "2026-11-24T12:00:00Z".parse().unwrap();
    let told = Notification::new("n".into(), at, happened, Subject::Vm { vm: vm("web-1") });
    assert_eq!(ajar_webhooks::event("prod", &told)["data"]["reason"], "Revoked");
}
