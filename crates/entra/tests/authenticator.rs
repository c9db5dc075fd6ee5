//! Tokens against a sign-in service on this machine: which are believed, which are not and why, and how keys rotate.
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
use ajar_entra::{AuthenticatorSettings, EntraAuthenticator, PUBLIC_AUTHORITY};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use stub::{HandClock, Stub};

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const OBJECT: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const START: i64 = 1_800_000_000;
const METADATA: &str = "/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0/.well-known/openid-configuration";

/// A signing key of the sign-in service.
struct Key {
    id: &'static str,
    signs: EncodingKey,
    jwk: Value,
    modulus: Vec<u8>,
}

/// 1024 bits: too few for the world, enough to tell right from wrong, and quick to make.
fn key(id: &'static str) -> Key {
    let private = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
    let modulus = private.n().to_bytes_be();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Key {
        id,
        signs: EncodingKey::from_rsa_der(private.to_pkcs1_der().unwrap().as_bytes()),
        jwk: json!({
            "kty": "RSA", "use": "sig", "kid": id,
            "n": encode(&modulus), "e": encode(&private.e().to_bytes_be()),
        }),
        modulus,
    }
}

struct Fixture {
    stub: Arc<Stub>,
    clock: Arc<HandClock>,
    authenticator: EntraAuthenticator,
}

async fn fixture(published: &[&Key]) -> Fixture {
    let stub = Stub::start().await;
    let clock = HandClock::at(Timestamp::from_second(START).unwrap());
    let settings = AuthenticatorSettings {
        authority: stub.base.clone(),
        tenant: TENANT.to_uppercase(),
        audiences: vec!["api://ajar".to_owned()],
    };
    let authenticator = EntraAuthenticator::new(&settings, reqwest::Client::new(), clock.clone()).unwrap();
    let fixture = Fixture { stub, clock, authenticator };
    fixture.publish(published);
    fixture
}

impl Fixture {
    fn publish(&self, keys: &[&Key]) {
        let base = self.stub.base.clone();
        let keys = json!({ "keys": keys.iter().map(|key| key.jwk.clone()).collect::<Vec<_>>() }).to_string();
        self.stub.answers(move |seen| match seen.path.as_str() {
            METADATA => (
                StatusCode::OK,
                json!({ "issuer": format!("{base}/{TENANT}/v2.0"), "jwks_uri": format!("{base}/keys") })
                    .to_string(),
            ),
            "/keys" => (StatusCode::OK, keys.clone()),
            _ => (StatusCode::NOT_FOUND, String::new()),
        });
    }

    fn break_down(&self) {
        self.stub.answers(|_| (StatusCode::SERVICE_UNAVAILABLE, String::new()));
    }

    fn claims(&self) -> Value {
        json!({
            "iss": format!("{}/{TENANT}/v2.0", self.stub.base), "aud": "api://ajar",
            "exp": START + 3600, "nbf": START, "tid": TENANT, "oid": OBJECT, "preferred_username": "alice@contoso.com",
            "azp": "11111111-2222-3333-4444-555555555555",
        })
    }

    fn claims_with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        claims[name] = value;
        claims
    }

    async fn rejection(&self, token: &str) -> String {
        match self.authenticator.authenticate(token).await {
            Err(AuthenticationError::Rejected(text)) => text,
            other => panic!("expected a rejection, got {other:?}"),
        }
    }
}

fn sign(key: &Key, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(key.id.to_owned());
    jsonwebtoken::encode(&header, claims, &key.signs).unwrap()
}

fn with_header(token: &str, header: &Value) -> String {
    let rest = token.split_once('.').unwrap().1;
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[tokio::test]
async fn a_good_token_proves_its_caller_and_keys_are_read_once() {
    let key = key("k1");
    let f = fixture(&[&key]).await;
    assert_eq!(f.stub.seen().len(), 0, "nothing is fetched before the first token");
    let token = sign(&key, &f.claims());
    for _ in 0..3 {
        let caller = f.authenticator.authenticate(&token).await.unwrap();
        assert_eq!(caller.object_id, OBJECT);
        assert_eq!(caller.tenant_id, TENANT);
        assert_eq!(caller.name, "alice@contoso.com");
    }
    assert_eq!((f.stub.count(METADATA), f.stub.count("/keys")), (1, 1));
}

#[tokio::test]
async fn each_failed_check_is_named() {
    let key = key("k1");
    let f = fixture(&[&key]).await;
    for (claim, value, named) in [
        ("iss", json!("https://evil.example/v2.0"), "issuer"),
        ("aud", json!("api://other"), "audience"),
        ("aud", json!("https://management.azure.com/"), "Azure Resource Manager"),
        ("exp", json!(START - 61), "expired"),
        ("nbf", json!(START + 61), "not valid yet"),
        ("tid", json!("00000000-0000-0000-0000-000000000000"), "tenant"),
        ("oid", Value::Null, "object id"),
        ("azp", Value::Null, "ID token"),
    ] {
        let text = f.rejection(&sign(&key, &f.claims_with(claim, value))).await;
        assert!(text.contains(named), "{claim}: {text}");
    }
}

#[tokio::test]
async fn a_signature_by_another_key_or_over_another_text_is_wrong() {
    let (real, thief) = (key("k1"), key("k1"));
    let f = fixture(&[&real]).await;
    assert!(f.rejection(&sign(&thief, &f.claims())).await.contains("signature"));

    let token = sign(&real, &f.claims());
    let parts: Vec<_> = token.split('.').collect();
    let richer = URL_SAFE_NO_PAD
        .encode(f.claims_with("oid", json!("bbbbbbbb-0000-0000-0000-000000000002")).to_string());
    let forged = format!("{}.{richer}.{}", parts[0], parts[2]);
    assert!(f.rejection(&forged).await.contains("signature"));
}

#[tokio::test]
async fn only_rs256_is_accepted_whatever_the_header_says() {
    let key = key("k1");
    let f = fixture(&[&key]).await;
    let good = sign(&key, &f.claims());

    let unsigned = with_header(&good, &json!({ "alg": "none", "kid": "k1" }));
    let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    assert!(f.rejection(&unsigned).await.contains("alg"));

    // The classic confusion: the public key used as an HMAC secret.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k1".to_owned());
    let confused =
        jsonwebtoken::encode(&header, &f.claims(), &EncodingKey::from_secret(&key.modulus)).unwrap();
    assert!(f.rejection(&confused).await.contains("alg"));
    // The same with a header that claims RS256.
    let lying = with_header(&confused, &json!({ "alg": "RS256", "kid": "k1" }));
    assert!(f.rejection(&lying).await.contains("signature"));

    let mut header = Header::new(Algorithm::RS512);
    header.kid = Some("k1".to_owned());
    let other = jsonwebtoken::encode(&header, &f.claims(), &key.signs).unwrap();
    assert!(f.rejection(&other).await.contains("alg"));

    let critical = with_header(&good, &json!({ "alg": "RS256", "kid": "k1", "crit": ["b64"], "b64": false }));
    assert!(f.rejection(&critical).await.contains("crit"));
    assert!(f.rejection(&with_header(&good, &json!({ "alg": "RS256" }))).await.contains("kid"));
}

#[tokio::test]
async fn no_text_makes_it_panic_or_fetch_keys() {
    let f = fixture(&[]).await;
    let deep = URL_SAFE_NO_PAD.encode("[".repeat(5000));
    for text in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "e30.e30.e30",
        "\u{0}.\u{ffff}.é",
        &deep,
        &format!("{deep}.{deep}.{deep}"),
    ] {
        f.rejection(text).await;
    }
    assert!(f.rejection(&"a".repeat(100_000)).await.contains("too long"));
    assert_eq!(f.stub.seen().len(), 0);
}

#[tokio::test]
async fn a_signed_body_that_is_no_object_of_claims_is_rejected() {
    let key = key("k1");
    let f = fixture(&[&key]).await;
    for claims in [json!([]), json!("text"), json!(null), json!({})] {
        f.rejection(&sign(&key, &claims)).await;
    }
}

#[tokio::test]
async fn a_new_key_is_found_but_unknown_keys_make_no_traffic() {
    let (old, new) = (key("old"), key("new"));
    let f = fixture(&[&old]).await;
    f.authenticator.authenticate(&sign(&old, &f.claims())).await.unwrap();

    f.publish(&[&old, &new]);
    let token = sign(&new, &f.claims());
    for _ in 0..5 {
        assert!(f.rejection(&token).await.contains("kid"));
    }
    f.clock.advance(SignedDuration::from_secs(9));
    assert!(f.rejection(&token).await.contains("kid"));
    assert_eq!(f.stub.count("/keys"), 1, "not again within ten seconds");

    f.clock.advance(SignedDuration::from_secs(1));
    f.authenticator.authenticate(&token).await.unwrap();
    f.authenticator.authenticate(&sign(&old, &f.claims())).await.unwrap();
    assert_eq!(f.stub.count("/keys"), 2);
}

#[tokio::test]
async fn keys_are_read_again_after_a_day_and_a_withdrawn_one_is_forgotten() {
    let (old, new) = (key("old"), key("new"));
    let f = fixture(&[&old]).await;
    f.authenticator.authenticate(&sign(&old, &f.claims())).await.unwrap();
    f.publish(&[&new]);
    f.clock.advance(SignedDuration::from_hours(24));
    let later = f.claims_with("exp", json!(START + 30 * 3600));
    assert!(f.rejection(&sign(&old, &later)).await.contains("kid"));
    f.authenticator.authenticate(&sign(&new, &later)).await.unwrap();
}

#[tokio::test]
async fn an_outage_of_the_sign_in_service_is_survived_for_another_day() {
    let key = key("k1");
    let f = fixture(&[&key]).await;
    let token = sign(&key, &f.claims_with("exp", json!(START + 72 * 3600)));
    f.authenticator.authenticate(&token).await.unwrap();
    f.break_down();
    f.clock.advance(SignedDuration::from_hours(47));
    f.authenticator.authenticate(&token).await.unwrap();
    f.clock.advance(SignedDuration::from_hours(1));
    assert!(matches!(f.authenticator.authenticate(&token).await, Err(AuthenticationError::Unavailable(_))));
}

#[tokio::test]
async fn without_keys_nobody_is_believed_and_soon_they_are_asked_for_again() {
    let key = key("k1");
    let f = fixture(&[&key]).await;
    f.break_down();
    let token = sign(&key, &f.claims());
    for _ in 0..3 {
        let outcome = f.authenticator.authenticate(&token).await;
        assert!(matches!(outcome, Err(AuthenticationError::Unavailable(_))), "{outcome:?}");
    }
    assert_eq!(f.stub.count(METADATA), 1);
    f.publish(&[&key]);
    f.clock.advance(SignedDuration::from_secs(2));
    f.authenticator.authenticate(&token).await.unwrap();
}

#[tokio::test]
async fn metadata_of_another_issuer_is_not_believed() {
    let key = key("k1");
    let f = fixture(&[&key]).await;
    let base = f.stub.base.clone();
    f.stub.answers(move |_| {
        (
            StatusCode::OK,
            json!({ "issuer": "https://evil.example", "jwks_uri": format!("{base}/keys") }).to_string(),
        )
    });
    let outcome = f.authenticator.authenticate(&sign(&key, &f.claims())).await;
    assert!(
        matches!(&outcome, Err(AuthenticationError::Unavailable(text)) if text.contains("evil.example")),
        "{outcome:?}"
    );
}

#[test]
fn settings_that_cannot_work_are_named() {
    let clock = HandClock::at(Timestamp::UNIX_EPOCH);
    let refused = |authority: &str, tenant: &str, audience: &str| {
        let settings = AuthenticatorSettings {
            authority: authority.to_owned(),
            tenant: tenant.to_owned(),
            audiences: vec![audience.to_owned()],
        };
        EntraAuthenticator::new(&settings, reqwest::Client::new(), clock.clone())
            .err()
            .map(|error| error.setting)
    };
    assert_eq!(refused(PUBLIC_AUTHORITY, TENANT, "api://ajar"), None);
    assert_eq!(refused("http://login.example", TENANT, "api://ajar"), Some("authority"));
    assert_eq!(refused("login.microsoftonline.com", TENANT, "api://ajar"), Some("authority"));
    assert_eq!(refused(PUBLIC_AUTHORITY, "contoso.com", "api://ajar"), Some("tenant"));
    assert_eq!(refused(PUBLIC_AUTHORITY, TENANT, " "), Some("audiences"));
    assert_eq!(refused(PUBLIC_AUTHORITY, TENANT, "https://management.azure.com/"), Some("audiences"));
}
