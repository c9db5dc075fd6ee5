//! A custom handler for the tests of `ajar-local`: answers every request with its process id and its settings.

use std::collections::BTreeMap;
use std::io;

use axum::{Json, Router};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> io::Result<()> {
    let port = std::env::var("FUNCTIONS_CUSTOMHANDLER_PORT").map_err(io::Error::other)?;
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    axum::serve(listener, Router::new().fallback(settings)).await
}

async fn settings() -> Json<Value> {
    let settings: BTreeMap<String, String> = std::env::vars().collect();
    Json(json!({"pid": std::process::id(), "settings": settings}))
}
