//! Entra ID: discovery, tokens that verify with the published keys, expiry, rotation, the identity endpoint.

use std::time::Duration;

use azure_simulator::{Body, Request, Response};
use http::{Method, StatusCode};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use crate::machine::{Machine, machine};

const TENANT: &str = "22222222-2222-2222-2222-222222222222";

fn call(azure: &mut Machine, request: &Request) -> Response {
    azure.azure.handle(request).answer().unwrap()
}

fn get(azure: &mut Machine, target: &str) -> Response {
    call(azure, &Request::new(Method::GET, target))
}

fn token(azure: &mut Machine, query: &str) -> String {
    let answer = get(azure, &format!("/dev/token?{query}"));
    let Body::Text(token) = answer.body else { panic!("{answer:?}") };
    token
}

fn read_machine(azure: &mut Machine, token: &str) -> Response {
    let target = format!("{}?api-version=2024-05-01", machine("web-1"));
    call(azure, &Request::new(Method::GET, &target).with_bearer(token))
}

/// Verifies as a resource server would: discovery, keys, signature; returns the claims.
fn verify(azure: &mut Machine, token: &str, audience: &str) -> Result<Value, String> {
    let discovery = get(azure, &format!("/{TENANT}/v2.0/.well-known/openid-configuration"));
    let keys = discovery.value()["jwks_uri"].as_str().unwrap().to_owned();
    let keys = get(azure, keys.strip_prefix("http://127.0.0.1:7072").unwrap());
    let keys: JwkSet = serde_json::from_value(keys.value().clone()).unwrap();
    let id = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let key = keys.find(&id).ok_or("unknown key")?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[discovery.value()["issuer"].as_str().unwrap()]);
    validation.validate_exp = false; // The simulator's clock stands still, this check would use the machine's.
    let key = DecodingKey::from_jwk(key).unwrap();
    jsonwebtoken::decode::<Value>(token, &key, &validation)
        .map(|data| data.claims)
        .map_err(|error| error.to_string())
}

#[test]
fn a_persons_token_verifies_and_says_who_they_are() {
    let mut azure = Machine::new();
    let token = token(&mut azure, "user=bob");
    let claims = verify(&mut azure, &token, "api://ajar").unwrap();
    assert_eq!(claims["oid"], "a0000000-0000-4000-8000-000000000002");
    assert_eq!(claims["tid"], TENANT);
    assert_eq!(claims["preferred_username"], "bob@contoso.example");
    assert_eq!(claims["name"], "Bob Brown");
    assert_eq!(claims["ver"], "2.0");
    assert_eq!(claims["scp"], "user_impersonation");
    assert_eq!(claims["groups"].as_array().unwrap().len(), 2, "on-call and, through it, operators");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert!(verify(&mut azure, &token, "https://management.azure.com/").is_err(), "another audience");
}

#[test]
fn arm_takes_arm_tokens_only() {
    let mut azure = Machine::new();
    let good = token(&mut azure, "user=carol&audience=arm");
    assert_eq!(read_machine(&mut azure, &good).status, StatusCode::OK);
    let classic = token(&mut azure, "user=carol&audience=https%3A%2F%2Fmanagement.core.windows.net%2F");
    assert_eq!(read_machine(&mut azure, &classic).status, StatusCode::OK);
    for (bad, code) in [
        (token(&mut azure, "user=carol"), "InvalidAuthenticationTokenAudience"),
        (token(&mut azure, "user=carol&audience=arm&expired=1"), "ExpiredAuthenticationToken"),
        ("not.a.token".to_owned(), "InvalidAuthenticationToken"),
    ] {
        let answer = read_machine(&mut azure, &bad);
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.error_code(), Some(code));
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    let nobody = get(&mut azure, &format!("{}?api-version=2024-05-01", machine("web-1")));
    assert_eq!(nobody.error_code(), Some("AuthenticationFailed"));
}

#[test]
fn a_token_that_was_changed_is_refused() {
    let mut azure = Machine::new();
    let (mallory, carol) =
        (token(&mut azure, "user=mallory&audience=arm"), token(&mut azure, "user=carol&audience=arm"));
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (mallory, carol) = (parts(&mallory), parts(&carol));
    let forged = format!("{}.{}.{}", mallory[0], carol[1], mallory[2]);
    assert_eq!(read_machine(&mut azure, &forged).status, StatusCode::UNAUTHORIZED);
}

#[test]
fn tokens_run_out_by_the_simulators_clock() {
    let mut azure = Machine::new();
    let token = token(&mut azure, "user=carol&audience=arm");
    azure.clock.advance(Duration::from_secs(3599));
    assert_eq!(read_machine(&mut azure, &token).status, StatusCode::OK);
    azure.clock.advance(Duration::from_secs(1));
    assert_eq!(read_machine(&mut azure, &token).error_code(), Some("ExpiredAuthenticationToken"));
}

#[test]
fn an_old_key_outlives_one_rotation_and_not_two() {
    let mut azure = Machine::new();
    let old = token(&mut azure, "user=bob");
    let rotate = Request::new(Method::POST, "/dev/rotate-keys");
    assert_eq!(call(&mut azure, &rotate).status, StatusCode::NO_CONTENT);
    let new = token(&mut azure, "user=bob");
    let key = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    assert_ne!(key(&old), key(&new));
    assert!(verify(&mut azure, &old, "api://ajar").is_ok());
    assert!(verify(&mut azure, &new, "api://ajar").is_ok());
    call(&mut azure, &rotate);
    assert_eq!(verify(&mut azure, &old, "api://ajar"), Err("unknown key".to_owned()));
    assert!(verify(&mut azure, &new, "api://ajar").is_ok());
}

#[test]
fn the_identity_endpoint_answers_whoever_knows_its_secret() {
    let mut azure = Machine::new();
    azure.azure.set_identity_header("secret");
    let target = "/msi/token?resource=https%3A%2F%2Fmanagement.azure.com%2F&api-version=2019-08-01";
    assert_eq!(get(&mut azure, target).status, StatusCode::UNAUTHORIZED);
    let request = |target: &str| Request::new(Method::GET, target).with_header("X-IDENTITY-HEADER", "secret");
    let answer = call(&mut azure, &request(target));
    assert_eq!(answer.status, StatusCode::OK);
    let body = answer.value().clone();
    assert_eq!(
        (&body["resource"], &body["token_type"]),
        (&"https://management.azure.com/".into(), &"Bearer".into())
    );
    let expires: i64 = body["expires_on"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires, "2026-11-24T13:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second());
    let token = body["access_token"].as_str().unwrap().to_owned();
    assert_eq!(read_machine(&mut azure, &token).status, StatusCode::OK);
    let claims = verify(&mut azure, &token, "https://management.azure.com/").unwrap();
    assert_eq!(claims.get("scp"), None, "an application acts for itself");
    let by_client = format!("{target}&client_id=b0000000-0000-4000-8000-000000000001");
    assert_eq!(call(&mut azure, &request(&by_client)).status, StatusCode::OK);
    let unknown = format!("{target}&client_id=b0000000-0000-4000-8000-000000000002");
    assert_eq!(call(&mut azure, &request(&unknown)).status, StatusCode::BAD_REQUEST);
    assert_eq!(
        call(&mut azure, &request("/msi/token?api-version=2019-08-01")).status,
        StatusCode::BAD_REQUEST
    );
}

#[test]
fn without_a_secret_the_identity_endpoint_refuses_everybody() {
    let mut azure = Machine::new();
    let target = "/msi/token?resource=https%3A%2F%2Fmanagement.azure.com%2F&api-version=2019-08-01";
    assert_eq!(get(&mut azure, target).status, StatusCode::UNAUTHORIZED);
}

#[test]
fn a_local_broker_can_check_its_callers() {
    let mut azure = Machine::new();
    let bus = "https://servicebus.azure.net";
    let token = azure.azure.token("ajar-identity", bus).unwrap().unwrap();
    let claims = azure.azure.check_token(&token, bus).unwrap();
    assert_eq!(claims["appid"], "b0000000-0000-4000-8000-000000000001");
    assert!(azure.azure.check_token(&token, "https://management.azure.com").is_err());
    assert_eq!(azure.azure.token("nobody", bus), Ok(None));
}
