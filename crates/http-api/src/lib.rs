#![doc = include_str!("../README.md")]

mod azure;
mod body;
mod correlated;
mod error;
mod front_end;
mod health;
mod identity;
mod native;
mod query;
mod ready;

use ajar_access::Ajar;
use ajar_access::ports::identity::Authenticator;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use error::ApiError;
pub use front_end::FrontEnd;
use http::Uri;
use std::sync::Arc;

/// What every handler sees.
#[derive(Clone)]
struct Api(Arc<Shared>);

struct Shared {
    ajar: Ajar,
    authenticator: Arc<dyn Authenticator>,
    front_end: FrontEnd,
    last_look: ready::LastLook,
}

impl Api {
    fn ajar(&self) -> &Ajar {
        &self.0.ajar
    }

    fn authenticator(&self) -> &dyn Authenticator {
        self.0.authenticator.as_ref()
    }

    fn front_end(&self) -> FrontEnd {
        self.0.front_end
    }
}

/// All routes under `/api` and `/subscriptions`. Every request but liveness and readiness is authenticated before
/// anything of it but its route is looked at.
///
/// Paths of other functions (`/console`, `/webhooks`) belong to other routers: merge them with this one, whose
/// fallback answers every unknown path with a JSON 404.
pub fn router(ajar: Ajar, authenticator: Arc<dyn Authenticator>, front_end: FrontEnd) -> Router {
    let api = Api(Arc::new(Shared { ajar, authenticator, front_end, last_look: Default::default() }));
    Router::new()
        .route("/api/health", get(health::health))
        .route("/api/ready", get(ready::ready))
        .merge(native::routes())
        .fallback(elsewhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(error::finish))
        .layer(middleware::from_fn_with_state(api.clone(), correlated::correlated))
        .with_state(api)
}

/// Azure's paths compare without regard to case, which a router of fixed routes cannot.
async fn elsewhere(State(api): State<Api>, request: Request) -> Response {
    match azure::Route::parse(request.uri().path()) {
        Some(route) => azure::handle(&api, route, request).await.into_response(),
        None => ApiError::no_such_route(request.uri().path()).into_response(),
    }
}

async fn wrong_method(method: http::Method, uri: Uri) -> ApiError {
    ApiError::wrong_method(&method, uri.path())
}
