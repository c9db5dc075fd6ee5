//! The least a handler can be, without this crate: what start-up times are compared with.

use axum::Router;
use axum::routing::{get, post};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("FUNCTIONS_CUSTOMHANDLER_PORT")?.parse()?;
    let answer = r#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#;
    let router = Router::new()
        .route("/", get(|| async { "ready" }))
        .route("/tick", post(move || async move { ([("content-type", "application/json")], answer) }));
    axum::serve(tokio::net::TcpListener::bind(("127.0.0.1", port)).await?, router).await?;
    Ok(())
}
