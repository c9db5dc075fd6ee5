//! Azure.

use crate::Api;
use crate::error::ApiError;
use axum::extract::Request;
use axum::response::Response;

pub(crate) struct Route;
impl Route {
    pub(crate) fn parse(_: &str) -> Option<Route> {
        None
    }
}

pub(crate) async fn handle(_: &Api, _: Route, request: Request) -> Result<Response, ApiError> {
    Err(ApiError::no_such_route(request.uri().path()))
}
