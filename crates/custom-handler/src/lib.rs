//! The Azure Functions custom handler protocol on axum.
