//! Against the local Azure: an independent model of the identity endpoint and of the sign-in service.
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

use ajar_access::ports::identity::{AuthenticationError, Authenticator};
use ajar_entra::{
    AuthenticatorSettings, EntraAuthenticator, ManagedIdentity, ManagedIdentitySettings, TokenError,
};
use azure_core::auth::Secret;
use azure_simulator::{Running, Simulator, SystemClock, serve};
use jiff::{SignedDuration, Timestamp};
use stub::HandClock;

const SAMPLE: &str = include_str!("../../local/sample-estate.json");

async fn start() -> Running {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut simulator = Simulator::new(SAMPLE, Arc::new(SystemClock), 1).unwrap();
    simulator.set_identity_header("header-secret");
    serve(listener, simulator).unwrap()
}

fn identity(azure: &Running, header: &'static str) -> ManagedIdentity {
    let settings = ManagedIdentitySettings {
        endpoint: format!("{}/msi/token", azure.base_url()),
        header: Secret::new(header),
        client_id: None,
    };
    ManagedIdentity::new(settings, reqwest::Client::new(), HandClock::at(Timestamp::now())).unwrap()
}

#[tokio::test]
async fn the_managed_identity_gets_a_token_that_the_local_azure_accepts() {
    let azure = start().await;
    let resource = "https://servicebus.azure.net";
    let token = identity(&azure, "header-secret").token(resource).await.unwrap();
    azure.with(|simulator| simulator.check_token(token.secret.secret(), resource)).unwrap();
    let refused = identity(&azure, "wrong").token(resource).await;
    assert!(matches!(refused, Err(TokenError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_persons_token_is_believed_before_and_after_a_rotation() {
    let azure = start().await;
    let clock = HandClock::at(Timestamp::now());
    let settings = AuthenticatorSettings {
        authority: azure.base_url(),
        tenant: azure.with(|simulator| simulator.tenant_id()),
        audiences: vec!["api://ajar".to_owned()],
    };
    let authenticator = EntraAuthenticator::new(&settings, reqwest::Client::new(), clock.clone()).unwrap();
    let token = |user: &str, audience: &str| {
        azure.with(|simulator| simulator.token(user, audience)).unwrap().unwrap()
    };

    let caller = authenticator.authenticate(&token("bob", "api://ajar")).await.unwrap();
    assert_eq!(caller.object_id, "a0000000-0000-4000-8000-000000000002");
    assert_eq!(caller.name, "bob@contoso.example");

    match authenticator.authenticate(&token("bob", "https://management.azure.com")).await {
        Err(AuthenticationError::Rejected(text)) => {
            assert!(text.contains("Azure Resource Manager"), "{text}")
        }
        other => panic!("{other:?}"),
    }

    azure.with(Simulator::rotate_keys).unwrap();
    clock.advance(SignedDuration::from_secs(60));
    authenticator.authenticate(&token("bob", "api://ajar")).await.unwrap();
}
