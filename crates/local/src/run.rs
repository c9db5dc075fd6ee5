//! Starts everything, waits until Ajar answers, and stops everything again.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_simulator::{EstateError, Running, Simulator, SystemClock};
use functions_host::{FunctionsHost, HandlerState, HostError, OutgoingMessage};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use uuid::Uuid;

use crate::app_settings::{Surroundings, app_settings};
use crate::options::Options;
use crate::story::story;

/// The queue that events of writes go to.
const EVENTS: &str = "vm-events";
/// How often events are taken from the simulated Azure.
const EVENT_INTERVAL: Duration = Duration::from_millis(50);
/// The queues that Ajar sends to: they exist whether a function reads them or not.
const QUEUES: [&str; 5] = [EVENTS, "access-requests", "reconcile", "notifications", "parked"];
/// Who may send to the Service Bus: whoever holds a token for it.
const SERVICE_BUS_AUDIENCE: &str = "https://servicebus.azure.net";
/// How long Ajar may take to answer its health check after its handler is up.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot read the estate {path}: {source}; name another with --estate")]
    ReadEstate { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Estate { path: PathBuf, source: EstateError },
    #[error("cannot use the state directory {path}: {source}; name another with --state-dir")]
    StateDirectory { path: PathBuf, source: io::Error },
    #[error(
        "cannot listen on 127.0.0.1:{port}: {source}; stop what uses it or choose another with --azure-port"
    )]
    Bind { port: u16, source: io::Error },
    #[error("no free port was found: {0}")]
    NoPort(io::Error),
    #[error("the Functions host did not start: {0}; is the application packaged (scripts/package)?")]
    Host(#[from] HostError),
    #[error("these functions were left out: {0}")]
    Functions(String),
    #[error("Ajar does not answer {url} with 200 within {} seconds: {last}", HEALTH_TIMEOUT.as_secs())]
    NotHealthy { url: String, last: String },
    #[error("the handler is gone for good: {0}")]
    HandlerGone(String),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

pub(crate) async fn run(options: Options) -> Result<(), RunError> {
    let mut stop = StopSignals::new()?;
    let state_error = |source| RunError::StateDirectory { path: options.state_dir.clone(), source };
    std::fs::create_dir_all(&options.state_dir).map_err(state_error)?;
    let state_dir = std::path::absolute(&options.state_dir).map_err(state_error)?;
    let estate = std::fs::read_to_string(&options.estate)
        .map_err(|source| RunError::ReadEstate { path: options.estate.clone(), source })?;
    let (seed, _) = Uuid::new_v4().as_u64_pair();
    let mut simulator = Simulator::new(&estate, Arc::new(SystemClock), seed)
        .map_err(|source| RunError::Estate { path: options.estate.clone(), source })?;
    let identity_header = Uuid::new_v4().simple().to_string();
    simulator.set_identity_header(&identity_header);
    let (tenant, subscriptions) = (simulator.tenant_id(), simulator.subscription_ids());

    let bind_error = |source| RunError::Bind { port: options.azure_port, source };
    let listener = TcpListener::bind(("127.0.0.1", options.azure_port)).await.map_err(bind_error)?;
    let azure = azure_simulator::serve(listener, simulator).map_err(bind_error)?;
    let azure_url = azure.base_url();
    // The handler must be told the port before the host opens it.
    let service_bus_port = match options.service_bus_port {
        0 => free_port().await?,
        port => port,
    };
    let environment = app_settings(
        &Surroundings {
            tenant: &tenant,
            subscriptions: &subscriptions,
            azure_url: &azure_url,
            service_bus_port,
            identity_header: &identity_header,
            state_dir: &state_dir,
        },
        &options.environment,
    );
    let tokens = azure.simulator();
    let host = FunctionsHost::start(functions_host::Options {
        listen: ([127, 0, 0, 1], options.port).into(),
        service_bus_listen: ([127, 0, 0, 1], service_bus_port).into(),
        environment,
        extra_queues: QUEUES.map(str::to_owned).to_vec(),
        token_check: Arc::new(move |token| may_use_service_bus(&tokens, token)),
        timer_status_file: Some(state_dir.join("timers.json")),
        ..functions_host::Options::new(&options.dist)
    })
    .await?;

    let outcome = tokio::select! {
        outcome = serve_until_broken(&host, &azure_url) => outcome,
        outcome = deliver_events(&host, &azure) => outcome,
        () = stop.received() => Ok(()),
    };
    host.stop().await;
    azure.shut_down().await;
    outcome
}

/// Plays Event Grid's part: brings events of writes to their queue. Ends only when it cannot go on.
async fn deliver_events(host: &FunctionsHost, azure: &Running) -> Result<(), RunError> {
    let mut ticks = tokio::time::interval(EVENT_INTERVAL);
    loop {
        ticks.tick().await;
        for event in azure.with(Simulator::take_events) {
            let body = event.to_string().into();
            host.send(EVENTS, OutgoingMessage { body, ..OutgoingMessage::default() })?;
        }
    }
}

/// Tells when Ajar is ready; ends only when it cannot go on.
async fn serve_until_broken(host: &FunctionsHost, azure_url: &str) -> Result<(), RunError> {
    if !host.load_errors().is_empty() {
        return Err(RunError::Functions(host.load_errors().join("; ")));
    }
    host.ready().await?;
    let ajar_url = format!("http://{}", host.http_address());
    wait_until_healthy(&format!("{ajar_url}/api/health")).await?;
    println!("Ajar is ready: {ajar_url}");
    println!("{}", story(&ajar_url, azure_url));
    let mut states = host.watch_handler_state();
    loop {
        if let HandlerState::Stopped(why) = states.borrow_and_update().clone() {
            return Err(RunError::HandlerGone(why));
        }
        if states.changed().await.is_err() {
            return Err(RunError::HandlerGone("the host has ended".to_owned()));
        }
    }
}

async fn wait_until_healthy(url: &str) -> Result<(), RunError> {
    let client = reqwest::Client::new();
    let mut last = "no answer".to_owned();
    let answered = tokio::time::timeout(HEALTH_TIMEOUT, async {
        loop {
            match client.get(url).send().await {
                Ok(answer) if answer.status() == reqwest::StatusCode::OK => return,
                Ok(answer) => last = format!("it answered {}", answer.status()),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let outcome = answered.await;
    outcome.map_err(|_| RunError::NotHealthy { url: url.to_owned(), last })
}

/// Ctrl-C and SIGTERM. Made before anything is started: a signal in between would end this process alone.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn new() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(RunError::Signals);
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn free_port() -> Result<u16, RunError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(RunError::NoPort)?;
    listener.local_addr().map(|address| address.port()).map_err(RunError::NoPort)
}

fn may_use_service_bus(simulator: &Mutex<Simulator>, token: &str) -> bool {
    let simulator = simulator.lock().unwrap_or_else(PoisonError::into_inner);
    match simulator.check_token(token, SERVICE_BUS_AUDIENCE) {
        Ok(_) => true,
        Err(why) => {
            tracing::warn!(why, "the Service Bus refused a token");
            false
        }
    }
}
