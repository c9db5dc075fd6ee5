//! The HTTP server between the host and the functions.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode, request};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::net::TcpListener;
use tokio::sync::{SetOnce, oneshot};
use tower::ServiceExt as _;
use tracing::{Instrument as _, Span, error, info, info_span, warn};

use crate::envelope::InvocationRequest;
use crate::exit::{Exit, ServeError};
use crate::functions::{Failure, Functions, Registered};
use crate::invocation::Invocation;
use crate::provenance::{self, INVOCATION_ID, NotTheHost};

/// How long a forwarded HTTP request waits for initialisation before it is answered with 503 and
/// `Retry-After`. Invocations wait without limit: the host waits with them.
pub const HTTP_WAIT: Duration = Duration::from_secs(10);

/// How long requests in progress may take when a restart is wished.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves functions on a runtime of its own, on the port the host names in `FUNCTIONS_CUSTOMHANDLER_PORT`.
///
/// The port is bound and `GET /` answered before `initialise` is polled, so that slow initialisation does not
/// count against the host's time limit; what arrives meanwhile waits. Returns only when the process is to end.
pub fn run<E: Display>(initialise: impl Future<Output = Result<Functions, E>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failed(ServeError::Runtime(error)),
    };
    let exit = runtime.block_on(serve(initialise));
    // A blocking call that never returns must not keep a process alive that no longer listens.
    runtime.shutdown_background();
    exit
}

/// [`run`] on the current runtime, which must be multi-threaded if `initialise` ever blocks.
pub async fn serve<E: Display>(initialise: impl Future<Output = Result<Functions, E>>) -> Exit {
    let port = match port_of(std::env::var("FUNCTIONS_CUSTOMHANDLER_PORT").ok()) {
        Ok(port) => port,
        Err(error) => return Exit::Failed(error),
    };
    match Server::bind(port).await {
        Ok(server) => server.run(initialise).await,
        Err(error) => Exit::Failed(error),
    }
}

fn port_of(value: Option<String>) -> Result<u16, ServeError> {
    let value = value.ok_or(ServeError::NoPort)?;
    match value.trim().parse() {
        Ok(0) | Err(_) => Err(ServeError::BadPort(value)),
        Ok(port) => Ok(port),
    }
}

/// A bound server. What [`serve`] uses; a test binds port 0 and asks for the port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    port: u16,
    http_wait: Duration,
}

impl Server {
    /// Listens on `127.0.0.1:{port}`, where the host expects its handler; port 0 picks a free one.
    ///
    /// # Errors
    /// [`ServeError::Bind`].
    pub async fn bind(port: u16) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Bind { port, source };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self { listener, port, http_wait: HTTP_WAIT })
    }

    /// The port listened on, which is also the one the host must name in its `Host` header.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Replaces [`HTTP_WAIT`].
    #[must_use]
    pub fn http_wait(mut self, wait: Duration) -> Self {
        self.http_wait = wait;
        self
    }

    /// Answers `GET /` at once, everything else when `initialise` has given the functions. Returns when that
    /// fails, when a restart is wished ([`Functions::restart_when`]) or when the server breaks down.
    pub async fn run<E: Display>(self, initialise: impl Future<Output = Result<Functions, E>>) -> Exit {
        let shared = Arc::new(Shared { app: SetOnce::new(), port: self.port, http_wait: self.http_wait });
        let router = Router::new().fallback(dispatch).with_state(Arc::clone(&shared));
        let (drain, drained) = oneshot::channel::<()>();
        let serving = axum::serve(self.listener, router).with_graceful_shutdown(async {
            // A sender dropped without a word means that `run` itself was dropped.
            let _ = drained.await;
        });
        // On a task of its own: initialisation may block its thread.
        let mut serving = tokio::spawn(serving.into_future());
        let mut functions = tokio::select! {
            ended = &mut serving => return stopped(ended),
            built = initialise => match built {
                Ok(functions) => functions,
                Err(error) => return Exit::Failed(ServeError::Initialisation(error.to_string())),
            },
        };
        if !functions.registration_errors().is_empty() {
            return Exit::Failed(ServeError::Registration(functions.registration_errors().to_vec()));
        }
        let restart = functions.restart.take();
        if shared.app.set(App::from(functions)).is_err() {
            return Exit::Failed(ServeError::Stopped("it was initialised twice".to_owned()));
        }
        let Some(restart) = restart else { return stopped(serving.await) };
        tokio::select! {
            ended = &mut serving => stopped(ended),
            () = restart => {
                info!("restarting");
                // Failing to send means that the server is gone already, and the time-out that a request did
                // not end in time: the process ends all the same.
                let _ = drain.send(());
                let _ = tokio::time::timeout(DRAIN, serving).await;
                Exit::Restart
            }
        }
    }
}

fn stopped(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> Exit {
    Exit::Failed(ServeError::Stopped(match ended {
        Ok(Ok(())) => "it was shut down".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }))
}

struct Shared {
    app: SetOnce<App>,
    port: u16,
    http_wait: Duration,
}

struct App {
    registered: std::collections::BTreeMap<Arc<str>, Registered>,
    router: Option<Router>,
    invocation_limit: usize,
    http_limit: usize,
}

impl From<Functions> for App {
    fn from(functions: Functions) -> Self {
        let http_limit = functions.http_limit;
        Self {
            registered: functions.registered,
            // axum's extractors have a limit of their own, which this replaces.
            router: functions.router.map(|router| router.layer(DefaultBodyLimit::max(http_limit))),
            invocation_limit: functions.invocation_limit,
            http_limit,
        }
    }
}

async fn dispatch(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    // The probe comes straight from the host's supervisor and carries no invocation id; a forwarded `GET /` does.
    if head.method == Method::GET && head.uri.path() == "/" && !head.headers.contains_key(INVOCATION_ID) {
        return "ready".into_response();
    }
    let invocation_id = provenance::invocation_id(&head, shared.port).map(Arc::<str>::from);
    let app = match (shared.app.get(), &invocation_id) {
        (Some(app), _) => app,
        (None, Ok(_)) => shared.app.wait().await,
        (None, Err(_)) => match tokio::time::timeout(shared.http_wait, shared.app.wait()).await {
            Ok(app) => app,
            Err(_) => return starting(),
        },
    };
    let name = head.uri.path().strip_prefix('/').unwrap_or_default();
    let span = span(&head.headers, invocation_id.as_deref().ok());
    match (app.registered.get_key_value(name), invocation_id) {
        (Some((name, function)), Ok(id)) => {
            span.record("function", &**name);
            let name = Arc::clone(name);
            invoke(app, name, function, id, &head, body).instrument(span).await
        }
        (Some((name, _)), Err(evidence)) => span.in_scope(|| refuse(name, evidence)),
        (None, Ok(_)) => span.in_scope(|| not_registered(name)),
        (None, Err(_)) => forward(app, Request::from_parts(head, body)).instrument(span).await,
    }
}

/// What ties log lines to an invocation. A forwarded request carries a client's own invocation id before the
/// host's.
fn span(headers: &HeaderMap, own: Option<&str>) -> Span {
    let last = headers.get_all(INVOCATION_ID).iter().next_back().and_then(|value| value.to_str().ok());
    let id = own.or_else(|| last?.rsplit(',').next().map(str::trim));
    let traceparent = traceparent(headers);
    info_span!("invocation", invocation_id = id, traceparent, function = tracing::field::Empty)
}

fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers.get("traceparent")?.to_str().ok()
}

async fn invoke(
    app: &App,
    name: Arc<str>,
    function: &Registered,
    id: Arc<str>,
    head: &request::Parts,
    body: Body,
) -> Response {
    let started = Instant::now();
    let body = match Limited::new(body, app.invocation_limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            error!(limit = app.invocation_limit, "the invocation is too large");
            return too_large(app.invocation_limit);
        }
        Err(error) => {
            error!(error = %error, "the invocation could not be read");
            return (StatusCode::BAD_REQUEST, "unreadable invocation").into_response();
        }
    };
    let request: InvocationRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            error!(category = ?error.classify(), column = error.column(), "the invocation is not what a host sends");
            return (StatusCode::BAD_REQUEST, "undecodable invocation").into_response();
        }
    };
    drop(body);
    let invocation = Invocation::new(name, id, traceparent(&head.headers), &request.metadata);
    let logs = invocation.logs().clone();
    let outcome = to_the_end((function.run)(request, invocation)).await;
    let answer = match outcome {
        Ok(Ok(answer)) => answer
            .encode(&logs.lines())
            .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        Ok(Err(Failure::Failed(error))) => Err((StatusCode::INTERNAL_SERVER_ERROR, error)),
        Ok(Err(Failure::Undecodable(error))) => Err((StatusCode::BAD_REQUEST, error.to_string())),
        Err(Panicked) => Err((StatusCode::INTERNAL_SERVER_ERROR, "the function panicked".to_owned())),
    };
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match answer {
        Ok(answer) => {
            info!(elapsed_ms, "succeeded");
            ([(CONTENT_TYPE, "application/json")], answer).into_response()
        }
        Err((status, reason)) => {
            // The host drops the lines of an answer that is not 2xx.
            for line in logs.lines() {
                info!("{line}");
            }
            error!(elapsed_ms, error = reason, "failed");
            (status, reason).into_response()
        }
    }
}

async fn forward(app: &App, request: Request) -> Response {
    let Some(router) = app.router.clone() else { return StatusCode::NOT_FOUND.into_response() };
    let limit = app.http_limit;
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| usize::try_from(length).map_or(true, |length| length > limit)) {
        return too_large(limit);
    }
    let request = request.map(|body| Body::new(Limited::new(body, limit)));
    match to_the_end(router.oneshot(request)).await {
        Ok(Ok(response)) => response,
        Err(Panicked) => {
            error!("the router panicked");
            (StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
        }
    }
}

struct Panicked;

/// Runs a handler on a task of its own, within the current span: a panic stays there, and a connection that
/// the host closes does not cut the work off in the middle.
async fn to_the_end<F>(work: F) -> Result<F::Output, Panicked>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(work.in_current_span()).await.map_err(|_| Panicked)
}

/// A client got at the path of a function through the host. It learns nothing, not even that the path exists.
fn refuse(function: &str, evidence: NotTheHost) -> Response {
    warn!(function, evidence = %evidence, "attack: a request on the path of a function is not the host's");
    StatusCode::NOT_FOUND.into_response()
}

fn not_registered(function: &str) -> Response {
    error!(function, "the host invoked a function that is not registered");
    StatusCode::NOT_FOUND.into_response()
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], "starting").into_response()
}

fn too_large(limit: usize) -> Response {
    let message = format!("The request body must not be larger than {limit} bytes.");
    (StatusCode::PAYLOAD_TOO_LARGE, message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_port_is_named() {
        assert!(matches!(port_of(None), Err(ServeError::NoPort)));
    }

    #[test]
    fn a_port_must_be_a_number_other_than_zero() {
        for bad in ["", "0", "65536", "http", "-1"] {
            assert!(matches!(port_of(Some(bad.to_owned())), Err(ServeError::BadPort(value)) if value == bad));
        }
        assert_eq!(port_of(Some("8080".to_owned())).unwrap(), 8080);
    }
}
