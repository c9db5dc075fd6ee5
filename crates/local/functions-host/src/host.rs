//! Puts the parts together.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::authorization::Keys;
use crate::clock::{Clock, SystemClock};
use crate::front::{self, Front};
use crate::functions::{self, Function, OutputKind, Trigger};
use crate::host_json;
use crate::invocation::Invoker;
use crate::log::{Log, LogLevel, LogLine};
use crate::newtonsoft::{self, Json};
use crate::queue_trigger::{self, Limits};
use crate::sending::{self, TokenCheck};
use crate::service_bus::{OutgoingMessage, QueueOptions, QueueView, ServiceBus};
use crate::settings::Settings;
use crate::timer_trigger::{StatusStore, Timer};
use crate::worker::{HandlerState, Worker, WorkerPlan, free_port};

/// How to run an app. Start from [`Options::new`] and change what differs.
#[derive(Clone)]
pub struct Options {
    /// Folder with `host.json`, the function folders and the handler executable.
    pub app_root: PathBuf,
    /// Where clients call; 127.0.0.1:7071 by default, port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where the Service Bus answers; 127.0.0.1:7073 by default, port 0 picks a free one.
    pub service_bus_listen: SocketAddr,
    /// App settings. They reach the handler on top of the inherited environment and `local.settings.json`.
    pub environment: Vec<(String, String)>,
    /// Queues that no function reads from, e.g. `parked`.
    pub extra_queues: Vec<String>,
    /// Settings of queues that differ from [`QueueOptions::default`], by name.
    pub queue_options: Vec<(String, QueueOptions)>,
    /// Checks bearer tokens sent to the Service Bus. By default any token that is not empty is right.
    pub token_check: TokenCheck,
    /// Function keys. `None`, the default, lets everybody in, as Core Tools does.
    pub keys: Option<Keys>,
    /// Takes every line of the host and the handler. By default they become `tracing` events.
    pub log: Option<Arc<dyn Fn(LogLine) + Send + Sync>>,
    /// What timers and messages go by; the machine's clock by default.
    pub clock: Arc<dyn Clock>,
    /// Where timer statuses are kept between runs, so that a missed occurrence is caught up. In memory if absent.
    pub timer_status_file: Option<PathBuf>,
}

impl Options {
    /// The defaults for an app.
    #[must_use]
    pub fn new(app_root: impl Into<PathBuf>) -> Self {
        Self {
            app_root: app_root.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7071)),
            service_bus_listen: SocketAddr::from(([127, 0, 0, 1], 7073)),
            environment: Vec::new(),
            extra_queues: Vec::new(),
            queue_options: Vec::new(),
            token_check: Arc::new(|token| !token.is_empty()),
            keys: None,
            log: None,
            clock: Arc::new(SystemClock),
            timer_status_file: None,
        }
    }
}

/// Why the host did not start, or could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// host.json, a setting or a state file is wrong. The text is the real host's where that is known.
    #[error("{0}")]
    Configuration(String),
    /// A file of the app cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An address is taken or not ours.
    #[error("cannot listen on {address}; stop what uses it or choose another port: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The app has no such function, or it has another trigger.
    #[error("there is no function '{0}' that can be run this way")]
    NoSuchFunction(String),
    /// Neither a function nor `extra_queues` names the queue.
    #[error("there is no queue '{0}'; name it in a function.json or in Options::extra_queues")]
    NoSuchQueue(String),
    /// The function ran and failed.
    #[error("{0}")]
    Invocation(String),
}

/// A running host. Dropping it stops everything, the handler by SIGKILL.
pub struct FunctionsHost {
    http_address: SocketAddr,
    service_bus_address: SocketAddr,
    front: Arc<Front>,
    load_errors: Vec<String>,
    tasks: Vec<JoinHandle<()>>,
}

impl FunctionsHost {
    /// Reads the app, opens both listeners and starts the handler. Like the real host it does not wait until the
    /// handler is ready; requests wait. See [`FunctionsHost::ready`].
    ///
    /// # Errors
    /// When host.json is missing or wrong, or an address cannot be bound. A wrong function.json is no error: that
    /// function is left out, see [`FunctionsHost::load_errors`].
    pub async fn start(options: Options) -> Result<Self, HostError> {
        let log = Log::new(options.log.clone());
        let http = bind(options.listen).await?;
        let http_address = local_address(&http, options.listen)?;
        let service_bus = bind(options.service_bus_listen).await?;
        let service_bus_address = local_address(&service_bus, options.service_bus_listen)?;
        let app_root = std::path::absolute(&options.app_root)
            .map_err(|source| HostError::Read { path: options.app_root.clone(), source })?;
        let settings = settings(&options, &app_root, http_address)?;
        let host_json = host_json::load(&app_root, &settings)?;
        for warning in &host_json.warnings {
            log.host(LogLevel::Warning, warning.as_str());
        }
        let functions = functions::load(&app_root, &host_json, &settings)?;
        for error in &functions.errors {
            log.host(LogLevel::Error, error.as_str());
        }
        let store = Arc::new(StatusStore::open(options.timer_status_file.as_deref())?);
        let bus = ServiceBus::new(queues(&functions.valid, &options), Arc::clone(&options.clock));

        let port = free_port()?;
        let plan = (!functions.valid.is_empty()).then(|| WorkerPlan {
            description: host_json.worker.clone(),
            app_root: app_root.clone(),
            settings: settings.clone(),
            initialization_timeout: host_json.initialization_timeout,
            port,
        });
        let worker = Worker::supervise(plan, port, host_json.initialization_timeout, log.clone());
        let invoker = Invoker { worker, bus: bus.clone(), function_timeout: host_json.function_timeout, log };
        let functions_in_order: Vec<Arc<Function>> = functions.valid.into_iter().map(Arc::new).collect();
        let timers = timers(&functions_in_order, &invoker, &store);
        let limits = Limits {
            max_concurrent_calls: host_json.max_concurrent_calls,
            max_auto_lock_renewal: host_json.max_auto_lock_renewal,
        };
        let mut tasks = listeners(&functions_in_order, &timers, &invoker, limits);
        let front = Arc::new(Front {
            functions: functions_in_order,
            timers,
            invoker,
            keys: options.keys.clone(),
            has_homepage: !settings
                .get("AzureWebJobsDisableHomepage")
                .is_some_and(|value| value.eq_ignore_ascii_case("true")),
        });
        tasks.push(tokio::spawn(serve(http, front::router(Arc::clone(&front)))));
        tasks.push(tokio::spawn(serve(service_bus, sending::router(bus, Arc::clone(&options.token_check)))));
        Ok(Self { http_address, service_bus_address, front, load_errors: functions.errors, tasks })
    }

    /// Where clients call.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where the Service Bus answers.
    #[must_use]
    pub fn service_bus_address(&self) -> SocketAddr {
        self.service_bus_address
    }

    /// Process id of the handler; `None` while none is running. It changes with each restart.
    #[must_use]
    pub fn handler_pid(&self) -> Option<u32> {
        self.front.invoker.worker.pid()
    }

    /// The port the handler was told to listen on; the same for every restart.
    #[must_use]
    pub fn handler_port(&self) -> u16 {
        self.front.invoker.worker.port
    }

    /// How often the handler process was started.
    #[must_use]
    pub fn handler_starts(&self) -> u32 {
        self.front.invoker.worker.starts()
    }

    /// Where the handler stands.
    #[must_use]
    pub fn handler_state(&self) -> HandlerState {
        self.front.invoker.worker.state()
    }

    /// Follows the handler's state.
    #[must_use]
    pub fn watch_handler_state(&self) -> tokio::sync::watch::Receiver<HandlerState> {
        self.front.invoker.worker.watch_state()
    }

    /// Waits until the handler answered the readiness probe.
    ///
    /// # Errors
    /// When the host stopped, or the handler did not come up within four initialization timeouts.
    pub async fn ready(&self) -> Result<(), HostError> {
        self.front.invoker.worker.ready().await.map_err(HostError::Invocation)
    }

    /// Names of the functions that were loaded, in routing order.
    #[must_use]
    pub fn functions(&self) -> Vec<String> {
        self.front.functions.iter().map(|function| function.name.clone()).collect()
    }

    /// What is wrong with the functions that were left out.
    #[must_use]
    pub fn load_errors(&self) -> &[String] {
        &self.load_errors
    }

    /// What is in a queue now. Names compare ignoring case.
    ///
    /// # Errors
    /// [`HostError::NoSuchQueue`].
    pub fn queue(&self, name: &str) -> Result<QueueView, HostError> {
        self.front.invoker.bus.view(name).ok_or_else(|| HostError::NoSuchQueue(name.to_owned()))
    }

    /// Sends a message without HTTP and token.
    ///
    /// # Errors
    /// [`HostError::NoSuchQueue`].
    pub fn send(&self, queue: &str, message: OutgoingMessage) -> Result<(), HostError> {
        self.front.invoker.bus.send(queue, vec![message]).map_err(|error| HostError::NoSuchQueue(error.0))
    }

    /// Runs a timer function now, outside its schedule, and waits for its end. Waits for a scheduled run first.
    ///
    /// # Errors
    /// [`HostError::NoSuchFunction`] if it is no timer, [`HostError::Invocation`] if it failed.
    pub async fn run_timer(&self, function: &str) -> Result<(), HostError> {
        let timer = self
            .front
            .timers
            .iter()
            .find(|timer| timer.function.name.eq_ignore_ascii_case(function))
            .ok_or_else(|| HostError::NoSuchFunction(function.to_owned()))?;
        timer.run_now(None).await.map_err(|error| HostError::Invocation(error.to_string()))
    }

    /// Fault: while down, every request to the Service Bus is answered 503. Deliveries go on; see
    /// [`FunctionsHost::set_receiving_paused`].
    pub fn set_bus_down(&self, is_down: bool) {
        self.front.invoker.bus.set_down(is_down);
    }

    /// Fault: while paused, no message is delivered to any function.
    pub fn set_receiving_paused(&self, is_paused: bool) {
        self.front.invoker.bus.set_receiving_paused(is_paused);
    }

    /// Fault: the next `count` completions in a queue are lost, so that their messages are delivered again although
    /// their function succeeded. This is how a duplicate reaches a handler in Azure.
    ///
    /// # Errors
    /// [`HostError::NoSuchQueue`].
    pub fn deliver_again(&self, queue: &str, count: u32) -> Result<(), HostError> {
        self.front.invoker.bus.lose_completions(queue, count).map_err(|error| HostError::NoSuchQueue(error.0))
    }

    /// Fault: kills the handler with SIGKILL. The host sees a crash and starts it again, or stops at the third.
    pub fn kill_handler(&self) {
        self.front.invoker.worker.kill();
    }

    /// Stops as the host does: no more triggers, then SIGKILL for the handler, at most a second of waiting.
    pub async fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.front.invoker.worker.stop("the host was stopped").await;
    }
}

impl Drop for FunctionsHost {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // Clients' open connections keep parts of the host alive, so that nothing else would end the handler.
        self.front.invoker.worker.stop_later("the host was dropped");
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, HostError> {
    TcpListener::bind(address).await.map_err(|source| HostError::Bind { address, source })
}

fn local_address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, HostError> {
    listener.local_addr().map_err(|source| HostError::Bind { address, source })
}

async fn serve(listener: TcpListener, router: axum::Router) {
    // `axum::serve` retries failed accepts itself and never returns an error.
    let _ = axum::serve(listener, router).await;
}

/// What Core Tools puts into the host's environment, then `local.settings.json`, then what the host inherited, then
/// the options: later ones win.
fn settings(options: &Options, app_root: &std::path::Path, http: SocketAddr) -> Result<Settings, HostError> {
    let mut base: BTreeMap<String, String> = BTreeMap::from([
        ("WEBSITE_HOSTNAME".to_owned(), format!("localhost:{}", http.port())),
        ("AzureWebJobsScriptRoot".to_owned(), app_root.display().to_string()),
        ("AZURE_FUNCTIONS_ENVIRONMENT".to_owned(), "Development".to_owned()),
        ("FUNCTIONS_WORKER_RUNTIME".to_owned(), "custom".to_owned()),
    ]);
    let path = app_root.join("local.settings.json");
    if path.is_file() {
        let text = std::fs::read_to_string(&path)
            .map_err(|source| HostError::Read { path: path.clone(), source })?;
        let root = newtonsoft::parse_file(&text)
            .map_err(|reason| HostError::Configuration(format!("local.settings.json: {reason}")))?;
        for (name, value) in root.path(&["Values"]).and_then(Json::as_object).unwrap_or_default() {
            base.insert(name.clone(), value.to_invariant_text());
        }
    }
    // Variables that are not Unicode cannot be settings and are not passed on.
    base.extend(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    Ok(Settings::new(base, &options.environment))
}

fn queues(functions: &[Function], options: &Options) -> Vec<(String, QueueOptions)> {
    let mut names: Vec<String> = options.extra_queues.clone();
    for function in functions {
        if let Trigger::ServiceBusQueue { queue } = &function.trigger {
            names.push(queue.clone());
        }
        for output in &function.outputs {
            if let OutputKind::ServiceBus { queue } = &output.kind {
                names.push(queue.clone());
            }
        }
    }
    names
        .into_iter()
        .map(|name| {
            let given = options
                .queue_options
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(&name))
                .map(|(_, options)| options.clone());
            (name, given.unwrap_or_default())
        })
        .collect()
}

fn timers(functions: &[Arc<Function>], invoker: &Invoker, store: &Arc<StatusStore>) -> Vec<Arc<Timer>> {
    functions
        .iter()
        .filter_map(|function| match &function.trigger {
            Trigger::Timer { schedule, run_on_startup, monitored } => Some(Arc::new(Timer {
                invoker: invoker.clone(),
                function: Arc::clone(function),
                schedule: schedule.clone(),
                run_on_startup: *run_on_startup,
                monitored: *monitored,
                store: Arc::clone(store),
                running: tokio::sync::Mutex::new(()),
            })),
            _ => None,
        })
        .collect()
}

/// Starts what makes functions run by themselves. Disabled functions have no listener.
fn listeners(
    functions: &[Arc<Function>],
    timers: &[Arc<Timer>],
    invoker: &Invoker,
    limits: Limits,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for function in functions.iter().filter(|function| !function.disabled) {
        if let Trigger::ServiceBusQueue { queue } = &function.trigger {
            tasks.push(tokio::spawn(queue_trigger::listen(
                invoker.clone(),
                Arc::clone(function),
                queue.clone(),
                limits,
            )));
        }
    }
    for timer in timers.iter().filter(|timer| !timer.function.disabled) {
        tasks.push(tokio::spawn(Arc::clone(timer).run()));
    }
    tasks
}
