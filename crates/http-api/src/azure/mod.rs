//! The Azure-compatible API: the eight operations of `Microsoft.Security/locations/jitNetworkAccessPolicies`,
//! `api-version=2020-01-01`, on Azure's own paths.

mod paging;
mod route;
mod shape;

pub(crate) use route::Route;

use crate::Api;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::identity::authenticate;
use crate::query::Query;
use ajar_access::azure_policy::{self, Circumstances, InitiateBody, PolicyBody};
use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode};
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
    let query = Query::parse(request.uri().query())?;
    check_version(&query)?;
    let ajar = api.ajar();
    Ok(match route {
        Route::List(scope) => {
            let after = paging::place(&query)?;
            let page = azure_policy::list(ajar, &caller, &scope, after.as_ref()).await?;
            let next = page.next.map(|next| paging::link(&request, &next));
            Json(PolicyList::new(page.policies, next)).into_response()
        }
        Route::Policy(path) if method == Method::PUT => {
            let JsonBody(body) = JsonBody::<PolicyBody>::from_request(request, &()).await?;
            let policy = azure_policy::put(ajar, &caller, &path.address()?, &body).await?;
            Json(Policy::written(policy, body.properties.append_mode)).into_response()
        }
        Route::Policy(path) if method == Method::DELETE => {
            let existed = azure_policy::delete(ajar, &caller, &path.address()?).await?;
            if existed { StatusCode::OK } else { StatusCode::NO_CONTENT }.into_response()
        }
        Route::Policy(path) => {
            Json(Policy::from(azure_policy::get(ajar, &caller, &path.address()?).await?)).into_response()
        }
        Route::Initiate(path) => {
            let circumstances = circumstances(api, request.headers());
            let JsonBody(body) = JsonBody::<InitiateBody>::from_request(request, &()).await?;
            let opened =
                azure_policy::initiate(ajar, &caller, &path.address()?, &body, &circumstances).await?;
            (StatusCode::ACCEPTED, Json(opened)).into_response()
        }
    })
}

fn circumstances(api: &Api, headers: &HeaderMap) -> Circumstances {
    let id = headers.get("x-ms-client-request-id").and_then(|id| id.to_str().ok());
    Circumstances {
        caller_address: api.front_end().caller_address(headers),
        client_request_id: id.map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned),
    }
}

fn check_version(query: &Query) -> Result<(), ApiError> {
    match query.get("api-version")? {
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
