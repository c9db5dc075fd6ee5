//! The functions of an app: what runs for which name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;

use crate::answer::{IntoInvocationResponse, InvocationResponse};
use crate::envelope::InvocationRequest;
use crate::event_grid::EventGridEvent;
use crate::function_json::{self, Mismatch};
use crate::http_request::HttpRequest;
use crate::invocation::Invocation;
use crate::service_bus::ServiceBusMessage;
use crate::storage_queue::StorageQueueMessage;
use crate::timer::TimerEvent;
use crate::trigger::{DecodeError, QueueMessage, Trigger};

/// The largest invocation that is read unless [`Functions::invocation_limit`] says otherwise: 200 MiB. The host
/// accepts messages and HTTP bodies of 100 MiB, base64 adds a third to that, and JSON inside JSON about as much.
pub const DEFAULT_INVOCATION_LIMIT: usize = 200 * 1024 * 1024;

/// The largest body of a forwarded HTTP request unless [`Functions::http_limit`] says otherwise: 1 MiB.
pub const DEFAULT_HTTP_LIMIT: usize = 1024 * 1024;

/// The functions of an app. A function is an async fn (or a closure that captures state and calls one) taking
/// the event and the [`Invocation`], whose error fails the invocation: the host then delivers the event again
/// or gives up on it, as its trigger has it.
pub struct Functions {
    pub(crate) registered: BTreeMap<Arc<str>, Registered>,
    pub(crate) router: Option<Router>,
    pub(crate) invocation_limit: usize,
    pub(crate) http_limit: usize,
    pub(crate) restart: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    errors: Vec<RegistrationError>,
}

pub(crate) struct Registered {
    pub(crate) binding: String,
    pub(crate) batches: bool,
    pub(crate) run: Box<dyn Fn(InvocationRequest, Invocation) -> Run + Send + Sync>,
}

type Run = Pin<Box<dyn Future<Output = Result<InvocationResponse, Failure>> + Send>>;

pub(crate) enum Failure {
    Undecodable(DecodeError),
    Failed(String),
}

/// Why the functions of an app cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// Two registrations of one name.
    #[error("function `{0}` is registered twice")]
    Twice(String),
    /// A name the host does not accept.
    #[error(
        "`{0}` is no function name: a letter, then up to 127 letters, digits, `_` or `-`, and not `host`"
    )]
    Name(String),
}

impl Default for Functions {
    fn default() -> Self {
        Self::new()
    }
}

impl Functions {
    /// No functions yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            registered: BTreeMap::new(),
            router: None,
            invocation_limit: DEFAULT_INVOCATION_LIMIT,
            http_limit: DEFAULT_HTTP_LIMIT,
            restart: None,
            errors: Vec::new(),
        }
    }

    /// Serves all forwarded HTTP requests (`enableForwardingHttpRequest`) with an axum router. Paths are those
    /// the client used, route prefix included, after the host's own decoding; a path that names a registered
    /// function never arrives here.
    #[must_use]
    pub fn http(mut self, router: Router) -> Self {
        self.router = Some(router);
        self
    }

    /// Runs `handler` for each message of a queue: of Service Bus or of Azure Storage, as the type of its first
    /// argument says.
    #[must_use]
    pub fn queue<T, H, Fut, R, E>(self, name: &str, handler: H) -> Self
    where
        T: QueueMessage,
        H: Fn(T, Invocation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoInvocationResponse + 'static,
        E: Display + 'static,
    {
        self.on(name, handler)
    }

    /// Runs `handler` for each message of a Service Bus queue or subscription.
    #[must_use]
    pub fn service_bus<H, Fut, R, E>(self, name: &str, handler: H) -> Self
    where
        H: Fn(ServiceBusMessage, Invocation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoInvocationResponse + 'static,
        E: Display + 'static,
    {
        self.on(name, handler)
    }

    /// Runs `handler` for each message of a Storage queue.
    #[must_use]
    pub fn storage_queue<H, Fut, R, E>(self, name: &str, handler: H) -> Self
    where
        H: Fn(StorageQueueMessage, Invocation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoInvocationResponse + 'static,
        E: Display + 'static,
    {
        self.on(name, handler)
    }

    /// Runs `handler` on a schedule, which `function.json` gives.
    #[must_use]
    pub fn timer<H, Fut, R, E>(self, name: &str, handler: H) -> Self
    where
        H: Fn(TimerEvent, Invocation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoInvocationResponse + 'static,
        E: Display + 'static,
    {
        self.on(name, handler)
    }

    /// Runs `handler` for each event of an Event Grid subscription.
    #[must_use]
    pub fn event_grid<H, Fut, R, E>(self, name: &str, handler: H) -> Self
    where
        H: Fn(EventGridEvent, Invocation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoInvocationResponse + 'static,
        E: Display + 'static,
    {
        self.on(name, handler)
    }

    /// Runs `handler` for the HTTP requests of a function that is not forwarded: forwarding is off, or its
    /// bindings are more or less than one `httpTrigger` and one `http` output. Answer with
    /// [`InvocationResponse::http`].
    #[must_use]
    pub fn http_function<H, Fut, R, E>(self, name: &str, handler: H) -> Self
    where
        H: Fn(HttpRequest, Invocation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoInvocationResponse + 'static,
        E: Display + 'static,
    {
        self.on(name, handler)
    }

    /// Runs `handler` for the events of a [`Trigger`] of your own.
    #[must_use]
    pub fn on<T, H, Fut, R, E>(self, name: &str, handler: H) -> Self
    where
        T: Trigger,
        H: Fn(T, Invocation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoInvocationResponse + 'static,
        E: Display + 'static,
    {
        let run = move |request, invocation| -> Run {
            match T::decode(request) {
                Ok(event) => Box::pin(outcome(handler(event, invocation))),
                Err(error) => Box::pin(std::future::ready(Err(Failure::Undecodable(error)))),
            }
        };
        self.register(name, Registered { binding: T::BINDING.to_owned(), batches: false, run: Box::new(run) })
    }

    /// Runs `handler` with the undecoded body, for any other trigger (`binding` is its type, such as
    /// `cosmosDBTrigger`) and for triggers with `cardinality: "many"`.
    #[must_use]
    pub fn other<H, Fut, R, E>(self, name: &str, binding: &str, handler: H) -> Self
    where
        H: Fn(InvocationRequest, Invocation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoInvocationResponse + 'static,
        E: Display + 'static,
    {
        let run = move |request, invocation| -> Run { Box::pin(outcome(handler(request, invocation))) };
        self.register(name, Registered { binding: binding.to_owned(), batches: true, run: Box::new(run) })
    }

    /// The most bytes of one invocation that are read; more is answered with 413 and fails the invocation.
    #[must_use]
    pub fn invocation_limit(mut self, bytes: usize) -> Self {
        self.invocation_limit = bytes;
        self
    }

    /// The most bytes of one forwarded HTTP request that are read; more is answered with 413. A route can set
    /// itself a lower limit with [`axum::extract::DefaultBodyLimit`], not a higher one.
    #[must_use]
    pub fn http_limit(mut self, bytes: usize) -> Self {
        self.http_limit = bytes;
        self
    }

    /// Asks the host for a fresh process when `wish` completes: requests in progress get ten seconds, then the
    /// process ends with code 200, which the host answers with a restart that does not count as an error.
    #[must_use]
    pub fn restart_when(mut self, wish: impl Future<Output = ()> + Send + 'static) -> Self {
        self.restart = Some(Box::pin(wish));
        self
    }

    /// The names of the registered functions, sorted. Functions of the router are not among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.registered.keys().map(AsRef::as_ref)
    }

    /// Compares what is registered with what is deployed: the `function.json` files one level below `dir`.
    /// Each function that is not forwarded must be registered under its exact name with the trigger type its
    /// file declares, none may be missing and none left over; a forwarded one needs a router. Meant for a test
    /// of the app, since a difference otherwise shows only in Azure. Reads files, synchronously.
    ///
    /// # Errors
    /// Every difference.
    pub fn check_against(&self, dir: impl AsRef<Path>) -> Result<(), Vec<Mismatch>> {
        function_json::check(self, dir.as_ref())
    }

    /// What is wrong with the registrations; serving such functions fails.
    #[must_use]
    pub fn registration_errors(&self) -> &[RegistrationError] {
        &self.errors
    }

    fn register(mut self, name: &str, registered: Registered) -> Self {
        if !is_function_name(name) {
            self.errors.push(RegistrationError::Name(name.to_owned()));
            return self;
        }
        match self.registered.entry(name.into()) {
            Entry::Vacant(free) => {
                free.insert(registered);
            }
            Entry::Occupied(_) => self.errors.push(RegistrationError::Twice(name.to_owned())),
        }
        self
    }
}

async fn outcome<R, E>(handler: impl Future<Output = Result<R, E>>) -> Result<InvocationResponse, Failure>
where
    R: IntoInvocationResponse + 'static,
    E: Display + 'static,
{
    match handler.await {
        Ok(answer) => Ok(answer.into_invocation_response()),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

/// The host's rule for the name of a function folder.
fn is_function_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    name.len() <= 128
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && name.bytes().all(rest)
        && !name.eq_ignore_ascii_case("host")
}
