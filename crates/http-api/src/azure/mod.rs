//! The Azure-compatible API: the eight operations of `Microsoft.Security/locations/jitNetworkAccessPolicies`,
//! `api-version=2020-01-01`, on Azure's own paths.

mod route;
mod shape;

pub(crate) use route::Route;

use crate::Api;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::identity::authenticate;
use crate::query::Query;
use ajar_access::azure_policy::{self, InitiateBody, PolicyBody};
use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use shape::{Policy, PolicyList};

/// The version that this API is.
const API_VERSION: &str = "2020-01-01";

/// Answers a request on one of the paths.
pub(crate) async fn handle(api: &Api, route: Route, request: Request) -> Result<Response, ApiError> {
    let method = request.method().clone();
    if !route.takes(&method) {
        return Err(ApiError::wrong_method(&method, request.uri().path()).allowing(route.allow()));
    }
    let caller = authenticate(api, request.headers()).await?;
    check_version(request.uri().query())?;
    let ajar = api.ajar();
    Ok(match route {
        Route::List(scope) => {
            let policies = azure_policy::list(ajar, &caller, &scope).await?;
            Json(PolicyList::from(policies)).into_response()
        }
        Route::Policy(path) if method == Method::PUT => {
            let JsonBody(body) = JsonBody::<PolicyBody>::from_request(request, &()).await?;
            Json(Policy::from(azure_policy::put(ajar, &caller, &path.address()?, &body).await?))
                .into_response()
        }
        Route::Policy(path) if method == Method::DELETE => {
            let existed = azure_policy::delete(ajar, &caller, &path.address()?).await?;
            if existed { StatusCode::OK } else { StatusCode::NO_CONTENT }.into_response()
        }
        Route::Policy(path) => {
            Json(Policy::from(azure_policy::get(ajar, &caller, &path.address()?).await?)).into_response()
        }
        Route::Initiate(path) => {
            let JsonBody(body) = JsonBody::<InitiateBody>::from_request(request, &()).await?;
            let opened = azure_policy::initiate(ajar, &caller, &path.address()?, &body).await?;
            (StatusCode::ACCEPTED, Json(opened)).into_response()
        }
    })
}

fn check_version(query: Option<&str>) -> Result<(), ApiError> {
    match Query::parse(query)?.get("api-version")? {
        Some(API_VERSION) => Ok(()),
        None | Some("") => Err(ApiError::bad_request(
            "MissingApiVersionParameter",
            format!("the query parameter api-version is required: add ?api-version={API_VERSION}"),
        )
        .at("api-version")),
        Some(other) => Err(ApiError::bad_request(
            "InvalidApiVersionParameter",
            format!("the api-version `{}` is not supported; {API_VERSION} is", crate::error::echo(other)),
        )
        .at("api-version")),
    }
}
