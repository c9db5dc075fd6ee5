//! The HTTP server around the state machine.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, State};
use axum::serve::{IncomingStream, Listener};
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, Limited};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::exchange::{Body, Reaction, Request, Response};
use crate::simulator::Simulator;

/// ARM's own limit on a request is 4 MB; an estate may be larger.
const BODY_LIMIT: usize = 64 << 20;

/// A simulator that is being served. Dropping it stops the server too, without waiting.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    simulator: Shared,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Simulator>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Simulator")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Simulator> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// `http://address:port`, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Looks at or changes the simulator between requests. Requests wait while `look` runs.
    pub fn with<T>(&self, look: impl FnOnce(&mut Simulator) -> T) -> T {
        look(&mut self.simulator.lock())
    }

    /// The simulator itself, to be locked for as short as possible: requests wait.
    pub fn simulator(&self) -> Arc<Mutex<Simulator>> {
        Arc::clone(&self.simulator.0)
    }

    /// Stops listening and waits until the requests under way are answered, at most five seconds.
    pub async fn shut_down(mut self) {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone only if the server has already ended.
            let _ = stop.send(());
        }
        if tokio::time::timeout(std::time::Duration::from_secs(5), &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// Serves a simulator. Its base URL becomes the listener's address. Must be called inside a Tokio runtime.
///
/// # Errors
/// If the listener has no address.
pub fn serve(listener: TcpListener, mut simulator: Simulator) -> io::Result<Running> {
    let address = listener.local_addr()?;
    simulator.set_base_url(&format!("http://{address}"));
    let simulator = Shared(Arc::new(Mutex::new(simulator)));
    let app = Router::new().fallback(answer).with_state(simulator.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let service = app.into_make_service_with_connect_info::<Cut>();
        let server = axum::serve(CuttableListener(listener), service);
        let ended = server.with_graceful_shutdown(async {
            // An error means that the handle was dropped: stop as well.
            let _ = stopped.await;
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "the Azure simulator's server ended");
        }
    });
    Ok(Running { address, simulator, stop: Some(stop), server })
}

async fn answer(
    State(simulator): State<Shared>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: axum::extract::Request,
) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::new(parts.method, target);
    request.headers = parts.headers;
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => request.body = body.to_bytes(),
        Err(error) => {
            tracing::warn!(%error, "a request's body could not be read");
            return plain(Response::text(http::StatusCode::BAD_REQUEST, error.to_string()));
        }
    }
    // In a task of its own: a client that gives up does not stop what Azure is doing.
    let reaction = tokio::spawn(async move {
        let admission = simulator.lock().admit(&request);
        if !admission.hold.is_zero() {
            tokio::time::sleep(admission.hold).await;
        }
        simulator.lock().perform(&request, admission)
    });
    match reaction.await {
        Ok(Reaction::Answer(response)) => plain(response),
        Ok(Reaction::Drop) => {
            cut.0.store(true, Ordering::Release);
            plain(Response::empty(http::StatusCode::OK))
        }
        Err(error) => {
            tracing::error!(%error, "the Azure simulator failed at a request");
            plain(Response::empty(http::StatusCode::INTERNAL_SERVER_ERROR))
        }
    }
}

fn plain(response: Response) -> axum::response::Response {
    let (kind, body) = match response.body {
        Body::Empty => (None, axum::body::Body::empty()),
        Body::Json(value) => {
            (Some("application/json; charset=utf-8"), axum::body::Body::from(value.to_string()))
        }
        Body::Text(text) => (Some("text/plain; charset=utf-8"), axum::body::Body::from(text)),
    };
    let mut out = http::Response::new(body);
    *out.status_mut() = response.status;
    *out.headers_mut() = response.headers;
    if let Some(kind) = kind {
        out.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    }
    out
}

/// Set when a connection is to end without another byte.
#[derive(Clone)]
struct Cut(Arc<AtomicBool>);

struct CuttableListener(TcpListener);

struct Cuttable {
    stream: TcpStream,
    cut: Arc<AtomicBool>,
}

impl Listener for CuttableListener {
    type Io = Cuttable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Cuttable, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (Cuttable { stream, cut: Arc::default() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for Cut {
    fn connect_info(stream: IncomingStream<'_, CuttableListener>) -> Self {
        Self(Arc::clone(&stream.io().cut))
    }
}

impl Cuttable {
    fn check(&self) -> io::Result<()> {
        if self.cut.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
