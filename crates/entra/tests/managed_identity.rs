//! Tokens from the managed identity endpoint: what is asked, what is cached, what failures mean.
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

use ajar_access::ports::identity::{AuthenticationError, Tokens};
use ajar_entra::{ManagedIdentity, ManagedIdentitySettings, TokenError};
use axum::http::StatusCode;
use azure_core::auth::{Secret, TokenCredential};
use jiff::{SignedDuration, Timestamp};
use stub::{HandClock, Stub};

const RESOURCE: &str = "https://management.azure.com";
const START: i64 = 1_800_000_000;

struct Fixture {
    stub: Arc<Stub>,
    clock: Arc<HandClock>,
    identity: ManagedIdentity,
}

async fn fixture(client_id: Option<&str>) -> Fixture {
    let stub = Stub::start().await;
    let clock = HandClock::at(Timestamp::from_second(START).unwrap());
    let settings = ManagedIdentitySettings {
        endpoint: format!("{}/msi/token", stub.base),
        header: Secret::new("header-secret"),
        client_id: client_id.map(str::to_owned),
    };
    let identity = ManagedIdentity::new(settings, reqwest::Client::new(), clock.clone()).unwrap();
    Fixture { stub, clock, identity }
}

fn token(name: &str, expires: i64) -> (StatusCode, String) {
    let body = serde_json::json!({
        "access_token": name, "expires_on": expires.to_string(), "resource": RESOURCE, "token_type": "Bearer",
    });
    (StatusCode::OK, body.to_string())
}

#[tokio::test]
async fn the_endpoint_is_asked_as_app_service_documents_it() {
    let f = fixture(Some("11111111-2222-3333-4444-555555555555")).await;
    f.stub.answers(|_| token("t1", START + 3600));
    let got = f.identity.token(RESOURCE).await.unwrap();
    assert_eq!(got.secret.secret(), "t1");
    assert_eq!(got.expires.as_second(), START + 3600);

    let asked = &f.stub.seen()[0];
    assert_eq!(asked.path, "/msi/token");
    assert_eq!(
        asked.query,
        "resource=https%3A%2F%2Fmanagement.azure.com&api-version=2019-08-01&client_id=11111111-2222-3333-4444-555555555555"
    );
    assert_eq!(asked.headers["x-identity-header"], "header-secret");
}

#[tokio::test]
async fn a_token_is_kept_per_resource_until_five_minutes_before_it_expires() {
    let f = fixture(None).await;
    f.stub.answers(|seen| {
        if seen.query.contains("servicebus") {
            token("bus", START + 7200)
        } else {
            token("arm", START + 3600)
        }
    });
    assert_eq!(f.identity.token(RESOURCE).await.unwrap().secret.secret(), "arm");
    assert_eq!(f.identity.token("https://servicebus.azure.net").await.unwrap().secret.secret(), "bus");

    f.clock.advance(SignedDuration::from_secs(3600 - 301));
    f.identity.token(RESOURCE).await.unwrap();
    assert_eq!(f.stub.seen().len(), 2, "still good for more than five minutes");

    f.stub.answers(|_| token("arm-2", START + 7200));
    f.clock.advance(SignedDuration::from_secs(1));
    assert_eq!(f.identity.token(RESOURCE).await.unwrap().secret.secret(), "arm-2");
    assert_eq!(f.stub.seen().len(), 3);
}

#[tokio::test]
async fn many_callers_at_once_make_one_call() {
    let f = fixture(None).await;
    f.stub.answers(|_| token("t", START + 3600));
    let identity = Arc::new(f.identity);
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let identity = Arc::clone(&identity);
            tokio::spawn(async move { identity.token(RESOURCE).await.unwrap().secret })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().secret(), "t");
    }
    assert_eq!(f.stub.seen().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_told_from_an_outage() {
    let f = fixture(None).await;
    f.stub.answers(|_| (StatusCode::BAD_REQUEST, r#"{"message":"No managed identity found"}"#.to_owned()));
    let error = f.identity.token(RESOURCE).await.unwrap_err();
    assert!(matches!(error, TokenError::Refused { .. }));
    assert!(error.to_string().contains("No managed identity found"), "{error}");
    assert!(matches!(AuthenticationError::from(error), AuthenticationError::Rejected(_)));

    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS, StatusCode::FOUND] {
        f.clock.advance(SignedDuration::from_secs(1));
        f.stub.answers(move |_| (status, String::new()));
        assert!(matches!(f.identity.token(RESOURCE).await, Err(TokenError::Unavailable { .. })), "{status}");
    }
    f.clock.advance(SignedDuration::from_secs(1));
    f.stub.answers(|_| token("recovered", START + 3600));
    let token: &dyn Tokens = &f.identity;
    assert_eq!(token.token(RESOURCE).await.unwrap(), "recovered");
}

#[tokio::test]
async fn a_failure_is_everybodys_answer_for_a_second() {
    let f = fixture(None).await;
    f.stub.answers(|_| (StatusCode::INTERNAL_SERVER_ERROR, String::new()));
    for _ in 0..5 {
        f.identity.token(RESOURCE).await.unwrap_err();
    }
    assert_eq!(f.stub.seen().len(), 1);
    f.clock.advance(SignedDuration::from_secs(1));
    f.identity.token(RESOURCE).await.unwrap_err();
    assert_eq!(f.stub.seen().len(), 2);
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_is_used_to_its_end_and_not_longer() {
    let f = fixture(None).await;
    f.stub.answers(|_| token("old", START + 600));
    f.identity.token(RESOURCE).await.unwrap();
    f.stub.answers(|_| (StatusCode::SERVICE_UNAVAILABLE, String::new()));
    f.clock.advance(SignedDuration::from_secs(599));
    assert_eq!(f.identity.token(RESOURCE).await.unwrap().secret.secret(), "old");
    f.clock.advance(SignedDuration::from_secs(1));
    assert!(matches!(f.identity.token(RESOURCE).await, Err(TokenError::Unavailable { .. })));
}

#[tokio::test]
async fn no_text_shows_a_secret() {
    let f = fixture(None).await;
    f.stub.answers(|_| (StatusCode::OK, r#"{"access_token":"sesame","expires_on":"soon"}"#.to_owned()));
    let error = f.identity.token(RESOURCE).await.unwrap_err();
    f.clock.advance(SignedDuration::from_secs(1));
    f.stub.answers(|_| token("sesame", START + 3600));
    let token = f.identity.token(RESOURCE).await.unwrap();
    let texts = format!("{error} {error:?} {token:?} {:?}", f.identity);
    assert!(!texts.contains("sesame") && !texts.contains("header-secret"), "{texts}");
}

#[tokio::test]
async fn azure_core_clients_get_the_same_token_by_scope() {
    let f = fixture(None).await;
    f.stub.answers(|_| token("tables", START + 3600));
    let credential: &dyn TokenCredential = &f.identity;
    let token = credential.get_token(&["https://storage.azure.com/.default"]).await.unwrap();
    assert_eq!(token.token.secret(), "tables");
    assert_eq!(token.expires_on.unix_timestamp(), START + 3600);
    assert!(f.stub.seen()[0].query.starts_with("resource=https%3A%2F%2Fstorage.azure.com&"));
    assert!(credential.get_token(&["a", "b"]).await.is_err());

    credential.clear_cache().await.unwrap();
    credential.get_token(&["https://storage.azure.com/.default"]).await.unwrap();
    assert_eq!(f.stub.seen().len(), 2);
}

#[test]
fn missing_variables_are_named() {
    let all = |name: &str| match name {
        "IDENTITY_ENDPOINT" => Some("http://127.0.0.1:1/msi/token".to_owned()),
        "IDENTITY_HEADER" => Some("h".to_owned()),
        _ => None,
    };
    assert_eq!(ManagedIdentitySettings::from_variables(all).unwrap().client_id, None);
    for missing in ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"] {
        let error = ManagedIdentitySettings::from_variables(|name| all(name).filter(|_| name != missing))
            .unwrap_err();
        assert_eq!(error.setting, missing);
    }
}
