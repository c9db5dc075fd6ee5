//! The host's own HTTP server: routes of functions, keys, admin endpoints (protocol page, sections 4.3, 4.7, 5.1).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::answer::{ClientAnswer, client_answer};
use crate::authorization::{Identity, KeyLevel, Keys, admits};
use crate::envelope::{BindingData, Value};
use crate::functions::{Function, Trigger};
use crate::host_json::Forwarding;
use crate::http_trigger;
use crate::incoming::Incoming;
use crate::invocation::{self, Invoker};
use crate::newtonsoft::{self, Json};
use crate::outgoing::HOST_VERSION;
use crate::route::Parameters;
use crate::timer_trigger::Timer;
use crate::wire::WireAnswer;
use crate::worker::HandlerState;

/// The host's default limit of a request body.
const MAX_BODY: usize = 104_857_600;

/// Everything a request can need.
pub(crate) struct Front {
    pub(crate) functions: Vec<Arc<Function>>,
    pub(crate) timers: Vec<Arc<Timer>>,
    pub(crate) invoker: Invoker,
    /// `None`: keys are not checked, as Core Tools does locally.
    pub(crate) keys: Option<Keys>,
    pub(crate) has_homepage: bool,
}

pub(crate) fn router(front: Arc<Front>) -> Router {
    Router::new().fallback(serve).with_state(front)
}

async fn serve(State(front): State<Arc<Front>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    };
    let incoming = match Incoming::new(&parts.method, &parts.uri, &parts.headers, body) {
        Ok(incoming) => incoming,
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    };
    // In a task of its own: a client that leaves must not cancel an invocation.
    tokio::spawn(async move { front.answer(incoming).await })
        .await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The function that answers a request, and its route values. The first match in function order wins.
pub(crate) fn find_route<'a>(
    functions: &'a [Arc<Function>],
    incoming: &Incoming,
) -> Option<(&'a Arc<Function>, Parameters)> {
    functions.iter().find_map(|function| match &function.trigger {
        Trigger::Http { methods, template, .. }
            if methods.as_ref().is_none_or(|methods| methods.contains(&incoming.method)) =>
        {
            template.matches(&incoming.path).map(|parameters| (function, parameters))
        }
        _ => None,
    })
}

impl Front {
    async fn answer(self: &Arc<Self>, incoming: Incoming) -> Response {
        if let HandlerState::Stopped(_) = self.invoker.worker.state() {
            return (StatusCode::SERVICE_UNAVAILABLE, "Function host is not running.").into_response();
        }
        let lower = incoming.path.to_ascii_lowercase();
        if lower == "/admin" || lower.starts_with("/admin/") {
            return self.admin(&incoming, lower.trim_end_matches('/'));
        }
        match find_route(&self.functions, &incoming) {
            Some((function, parameters)) => self.call(function, &parameters, &incoming).await,
            None if incoming.path == "/" && self.has_homepage => {
                (StatusCode::OK, "Your Functions host is up and running.").into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }

    /// Key check, then the disabled check, then the invocation.
    async fn call(&self, function: &Arc<Function>, parameters: &Parameters, incoming: &Incoming) -> Response {
        let identity = match self.authorize(function, incoming) {
            Ok(identity) => identity,
            Err(refusal) => return refusal.into_response(),
        };
        match function.forwarding {
            Forwarding::Off => {
                let trigger = http_trigger::trigger(incoming, parameters, identity.as_ref());
                match self.invoker.invoke(function, &trigger).await {
                    Ok(outcome) => to_response(client_answer(&outcome, &function.outputs)),
                    Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                }
            }
            Forwarding::Path => {
                forwarded(self.invoker.forward(function, incoming, None).await, &incoming.method)
            }
            Forwarding::FunctionName => {
                let path = format!("/{}", function.name);
                forwarded(self.invoker.forward(function, incoming, Some(&path)).await, &incoming.method)
            }
        }
    }

    fn authorize(&self, function: &Function, incoming: &Incoming) -> Result<Option<Identity>, StatusCode> {
        let identity = self.keys.as_ref().and_then(|keys| keys.identify(incoming, Some(&function.name)));
        if self.keys.is_some()
            && let Trigger::Http { level, .. } = &function.trigger
            && !admits(*level, identity.as_ref())
        {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let is_master = identity.as_ref().is_some_and(|caller| caller.level == KeyLevel::Admin);
        if function.disabled && !is_master {
            return Err(StatusCode::NOT_FOUND);
        }
        Ok(identity)
    }

    fn admin(self: &Arc<Self>, incoming: &Incoming, path: &str) -> Response {
        let method = incoming.method.as_str();
        if path == "/admin/host/ping" {
            return match method {
                "GET" | "POST" => StatusCode::OK.into_response(),
                _ => StatusCode::NOT_FOUND.into_response(),
            };
        }
        let is_master = self.keys.as_ref().is_none_or(|keys| {
            keys.identify(incoming, None).is_some_and(|caller| caller.level == KeyLevel::Admin)
        });
        if !is_master {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        match (method, path) {
            ("GET", "/admin/host/status") => json(&Json::object([
                ("id", Json::text("local")),
                ("state", Json::text("Running")),
                ("version", Json::text(HOST_VERSION)),
                ("versionDetails", Json::text(HOST_VERSION)),
                ("processUptime", Json::integer(0)),
            ])),
            ("GET", "/admin/functions") => {
                json(&Json::Array(self.functions.iter().map(|function| describe(function)).collect()))
            }
            ("POST", path) => match path.strip_prefix("/admin/functions/") {
                Some(name) => self.start(name, &incoming.body),
                None => StatusCode::NOT_FOUND.into_response(),
            },
            ("GET", path) => {
                let found = path.strip_prefix("/admin/functions/").and_then(|name| self.function(name));
                found.map_or_else(
                    || StatusCode::NOT_FOUND.into_response(),
                    |function| json(&describe(function)),
                )
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn function(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions.iter().find(|function| function.name.eq_ignore_ascii_case(name))
    }

    /// Runs a function with a text as its trigger value and answers before it ends.
    fn start(self: &Arc<Self>, name: &str, body: &Bytes) -> Response {
        let Some(function) = self.function(name) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let Ok(Json::Object(_)) = newtonsoft::parse_file(&String::from_utf8_lossy(body)) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let input = newtonsoft::parse_file(&String::from_utf8_lossy(body))
            .ok()
            .and_then(|body| body.path(&["input"]).map(Json::to_invariant_text));
        let front = Arc::clone(self);
        let function = Arc::clone(function);
        tokio::spawn(async move {
            // The invoker logs a failure; nobody waits for it here.
            let _ = front.run_with_input(&function, input.as_deref()).await;
        });
        StatusCode::ACCEPTED.into_response()
    }

    /// `ScriptHost.CallAsync`: the text is the trigger value and a binding-data entry of the trigger's name.
    pub(crate) async fn run_with_input(
        &self,
        function: &Arc<Function>,
        input: Option<&str>,
    ) -> Result<(), invocation::InvocationFailed> {
        if let Some(timer) = self.timers.iter().find(|timer| timer.function.name == function.name) {
            return timer.run_now(input).await;
        }
        self.invoker.invoke(function, &called_with(function, input.unwrap_or_default())).await.map(|_| ())
    }
}

/// The trigger of a function that is called with a text.
pub(crate) fn called_with(function: &Function, input: &str) -> invocation::Trigger {
    let mut binding_data = BindingData::default();
    binding_data.set(&function.trigger_name, Value::Text(input.to_owned()));
    invocation::Trigger {
        value: if function.trigger_is_binary {
            Value::Bytes(input.as_bytes().to_vec())
        } else {
            Value::Text(input.to_owned())
        },
        binding_data,
        new_id_for_each_attempt: false,
    }
}

fn describe(function: &Function) -> Json {
    Json::object([
        ("name", Json::text(function.name.as_str())),
        ("language", Json::text("custom")),
        ("isDisabled", Json::Bool(function.disabled)),
        ("config", function.source.clone()),
    ])
}

fn json(value: &Json) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], value.compact()).into_response()
}

fn to_response(answer: ClientAnswer) -> Response {
    let Ok(status) = StatusCode::from_u16(answer.status) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let may_have_body = !matches!(answer.status, 204 | 304);
    let mut response = Response::builder().status(status);
    if let Some(content_type) = answer.content_type {
        response = response.header(header::CONTENT_TYPE, content_type);
    }
    for (name, value) in answer.headers {
        // The body's own length is sent.
        if !name.eq_ignore_ascii_case("content-length") && !name.eq_ignore_ascii_case("transfer-encoding") {
            response = response.header(name, value);
        }
    }
    let body = if may_have_body { Body::from(answer.body) } else { Body::empty() };
    response.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The handler's answer passed on, whatever it says.
fn forwarded(answer: Result<WireAnswer, invocation::InvocationFailed>, method: &str) -> Response {
    let Ok(answer) = answer else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = Response::new(Body::from(answer.body));
    match StatusCode::from_u16(answer.status) {
        Ok(status) => *response.status_mut() = status,
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
    for (name, value) in &answer.headers {
        let is_framing =
            ["connection", "transfer-encoding"].iter().any(|framing| name.eq_ignore_ascii_case(framing))
                || (name.eq_ignore_ascii_case("content-length") && method != "HEAD");
        if is_framing {
            continue;
        }
        if let (Ok(name), Ok(value)) =
            (header::HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            response.headers_mut().append(name, value);
        }
    }
    if matches!(answer.status, 204 | 304) {
        // The real host trips over the empty body afterwards and closes the client's connection.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
