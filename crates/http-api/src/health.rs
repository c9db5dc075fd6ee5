//! Liveness: that the process answers. It asks nobody else, so that an outage of Azure does not make the host
//! restart processes that could still close ports.

use crate::Api;
use axum::Json;
use axum::extract::State;
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Health {
    status: &'static str,
    deployment: String,
}

pub(crate) async fn health(State(api): State<Api>) -> Json<Health> {
    Json(Health { status: "ok", deployment: api.ajar().settings.deployment.as_str().to_owned() })
}
