//! Starts, watches and restarts the handler process (protocol page, sections 1.3 to 1.8).

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use crate::HostError;
use crate::host_json::WorkerDescription;
use crate::log::{Log, LogLevel, console_line};
use crate::outgoing::probe_request;
use crate::settings::Settings;
use crate::wire::WireError;

const PROBE_INTERVAL: Duration = Duration::from_millis(25);
const ERRORS_THAT_STOP_THE_HOST: usize = 3;
const ERROR_MEMORY: Duration = Duration::from_secs(30 * 60);
const KILL_WAIT: Duration = Duration::from_secs(1);
/// The exit code with which a handler asks for a restart that is no error.
const EXIT_FOR_RESTART: i32 = 200;
const LAST_STDERR_LINES: usize = 3;

/// Where the handler stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerState {
    /// There are no functions, so the handler is not started.
    NotStarted,
    /// The process was started and does not answer yet, or could not be started.
    Initializing,
    /// The process answered the readiness probe.
    Initialized,
    /// The process failed and the next one is being started.
    Restarting,
    /// The host has stopped; the text says why.
    Stopped(String),
}

/// What the process needs to start.
#[derive(Debug, Clone)]
pub(crate) struct WorkerPlan {
    pub(crate) description: WorkerDescription,
    pub(crate) app_root: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) initialization_timeout: Duration,
    pub(crate) port: u16,
}

enum Order {
    /// Function timeout: kill and start again, not counted as an error.
    Restart,
    /// Fault injection: kill, and let the supervisor find out.
    Kill,
    /// The host stops.
    Stop(String),
}

/// The rest of the host's view of the handler.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) port: u16,
    state: watch::Receiver<HandlerState>,
    pid: Arc<Mutex<Option<u32>>>,
    starts: watch::Receiver<u32>,
    orders: mpsc::UnboundedSender<Order>,
    initialization_timeout: Duration,
}

/// Finds a free port. It is kept for every start of the process, as the host does.
///
/// It lies below the ports that systems hand out by themselves (from 32768 on Linux), so that between this look and
/// the process's binding nobody gets it by chance.
pub(crate) fn free_port() -> Result<u16, HostError> {
    let is_free = |port: &u16| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).is_ok();
    let random = || {
        let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
        // Less than 12,000, so it fits.
        20_000 + u16::try_from(high % 12_000).unwrap_or(0)
    };
    std::iter::repeat_with(random).take(100).find(is_free).map_or_else(any_free_port, Ok)
}

fn any_free_port() -> Result<u16, HostError> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| HostError::Bind { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), source })
}

impl Worker {
    /// Starts supervision. Without a plan the process is not started.
    pub(crate) fn supervise(
        plan: Option<WorkerPlan>,
        port: u16,
        initialization_timeout: Duration,
        log: Log,
    ) -> Self {
        let initial = if plan.is_some() { HandlerState::Initializing } else { HandlerState::NotStarted };
        let (state, state_receiver) = watch::channel(initial);
        let (starts, starts_receiver) = watch::channel(0);
        let (orders, order_receiver) = mpsc::unbounded_channel();
        let pid = Arc::new(Mutex::new(None));
        let supervisor = Supervisor {
            state,
            starts,
            pid: Arc::clone(&pid),
            orders: order_receiver,
            errors: VecDeque::new(),
            log,
        };
        tokio::spawn(supervisor.run(plan));
        Self { port, state: state_receiver, pid, starts: starts_receiver, orders, initialization_timeout }
    }

    /// A handler that some test runs itself.
    #[cfg(test)]
    pub(crate) fn already_running(port: u16) -> Self {
        Self {
            port,
            state: watch::channel(HandlerState::Initialized).1,
            pid: Arc::default(),
            starts: watch::channel(1).1,
            orders: mpsc::unbounded_channel().0,
            initialization_timeout: Duration::from_secs(1),
        }
    }

    pub(crate) fn state(&self) -> HandlerState {
        self.state.borrow().clone()
    }

    pub(crate) fn watch_state(&self) -> watch::Receiver<HandlerState> {
        self.state.clone()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn starts(&self) -> u32 {
        *self.starts.borrow()
    }

    pub(crate) fn restart(&self) {
        // Fails only when the supervisor has ended, and then there is nothing to restart.
        let _ = self.orders.send(Order::Restart);
    }

    pub(crate) fn kill(&self) {
        // See `restart`.
        let _ = self.orders.send(Order::Kill);
    }

    /// Stops the handler without waiting for its end.
    pub(crate) fn stop_later(&self, reason: &str) {
        // See `restart`.
        let _ = self.orders.send(Order::Stop(reason.to_owned()));
    }

    /// Resolves when the handler is known to be gone, at the latest after `limit`.
    pub(crate) async fn not_initialized(&self, limit: Duration) {
        let mut state = self.state.clone();
        let gone = state.wait_for(|state| *state != HandlerState::Initialized);
        // Running into the limit is an answer too: the process lives.
        let _ = tokio::time::timeout(limit, gone).await;
    }

    /// Resolves when the host has stopped for whatever reason.
    pub(crate) async fn stopped(&self) {
        let mut state = self.state.clone();
        // An error means that the supervisor is gone, which is as stopped as it gets.
        let _ = state.wait_for(|state| matches!(state, HandlerState::Stopped(_))).await;
    }

    /// Stops the handler with SIGKILL and waits until that is done.
    pub(crate) async fn stop(&self, reason: &str) {
        self.stop_later(reason);
        self.stopped().await;
    }

    /// Waits for the handler as an invocation does: four initialization timeouts, then the host stops.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let mut state = self.state.clone();
        let settled =
            state.wait_for(|state| matches!(state, HandlerState::Initialized | HandlerState::Stopped(_)));
        match tokio::time::timeout(self.initialization_timeout.saturating_mul(4), settled).await {
            Ok(Ok(state)) => match &*state {
                HandlerState::Stopped(reason) => Err(format!("Function host is not running. {reason}")),
                _ => Ok(()),
            },
            Ok(Err(_)) => Err("Function host is not running.".to_owned()),
            Err(_) => {
                let reason = "Initialization timed out and host is shutting down";
                let _ = self.orders.send(Order::Stop(reason.to_owned()));
                Err(reason.to_owned())
            }
        }
    }
}

struct Supervisor {
    state: watch::Sender<HandlerState>,
    starts: watch::Sender<u32>,
    pid: Arc<Mutex<Option<u32>>>,
    orders: mpsc::UnboundedReceiver<Order>,
    errors: VecDeque<Instant>,
    log: Log,
}

/// Why one life of the process is over.
enum End {
    Restart,
    Error(String),
    Stop(String),
}

impl Supervisor {
    async fn run(mut self, plan: Option<WorkerPlan>) {
        let reason = match plan {
            Some(plan) => self.keep_running(&plan).await,
            None => self.wait_for_stop().await,
        };
        self.state.send_replace(HandlerState::Stopped(reason));
    }

    async fn wait_for_stop(&mut self) -> String {
        loop {
            match self.orders.recv().await {
                Some(Order::Stop(reason)) => return reason,
                Some(Order::Kill | Order::Restart) => {}
                None => return "the host was dropped".to_owned(),
            }
        }
    }

    async fn keep_running(&mut self, plan: &WorkerPlan) -> String {
        loop {
            let end = self.one_life(plan).await;
            *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
            match end {
                End::Stop(reason) => return reason,
                End::Restart => {}
                End::Error(message) => {
                    self.log.host(LogLevel::Error, message);
                    let now = Instant::now();
                    if self.errors.back().is_some_and(|last| now.duration_since(*last) > ERROR_MEMORY) {
                        self.errors.clear();
                    }
                    self.errors.push_back(now);
                    if self.errors.len() >= ERRORS_THAT_STOP_THE_HOST {
                        let reason = "Exceeded http worker restart retry count. Shutting down Functions Host";
                        self.log.host(LogLevel::Error, reason);
                        return reason.to_owned();
                    }
                }
            }
            self.state.send_replace(HandlerState::Restarting);
        }
    }

    async fn one_life(&mut self, plan: &WorkerPlan) -> End {
        let executable = plan.description.executable.display().to_string();
        let mut child = match self.spawn(plan) {
            Ok(child) => child,
            Err(error) => {
                // No error event follows in the real host either: the state stays, and the first invocation waits.
                self.log.host(
                    LogLevel::Error,
                    format!("Failed to start Worker Channel. Process fileName: {executable}: {error}"),
                );
                return match self.wait_for_stop_or_restart().await {
                    Some(reason) => End::Stop(reason),
                    None => End::Restart,
                };
            }
        };
        let stderr = self.read_output(&mut child, plan.description.stderr_is_errors);
        let probe = probe(plan.port, plan.initialization_timeout);
        tokio::pin!(probe);
        let mut probing = true;
        let mut running = true;
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Restart) => {
                        kill(&mut child, &self.log).await;
                        return End::Restart;
                    }
                    Some(Order::Kill) => {
                        // Fails only if the process is gone already.
                        let _ = child.start_kill();
                    }
                    Some(Order::Stop(reason)) => {
                        kill(&mut child, &self.log).await;
                        return End::Stop(reason);
                    }
                    None => {
                        kill(&mut child, &self.log).await;
                        return End::Stop("the host was dropped".to_owned());
                    }
                },
                is_ready = &mut probe, if probing => {
                    probing = false;
                    if !is_ready {
                        kill(&mut child, &self.log).await;
                        return End::Error("Initializing HttpWorker timed out.".to_owned());
                    }
                    self.log.host(LogLevel::Information, "Worker process started and initialized.");
                    self.state.send_replace(HandlerState::Initialized);
                }
                status = child.wait(), if running => {
                    running = false;
                    *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    match status.map(exit_code) {
                        // No restart, no error: the app is dead until the host restarts. While it is not ready, the
                        // probe goes on and times out.
                        Ok(0) => self.log.host(LogLevel::Debug, format!("{executable} exited with code 0")),
                        Ok(EXIT_FOR_RESTART) => return End::Restart,
                        Ok(code) => {
                            let last = stderr.await.unwrap_or_default().join(",");
                            return End::Error(format!("{executable} exited with code {code} (0x{code:X}) {last}"));
                        }
                        Err(error) => return End::Error(format!("{executable} cannot be watched: {error}")),
                    }
                }
            }
        }
    }

    async fn wait_for_stop_or_restart(&mut self) -> Option<String> {
        loop {
            match self.orders.recv().await {
                Some(Order::Stop(reason)) => return Some(reason),
                Some(Order::Restart) => return None,
                Some(Order::Kill) => {}
                None => return Some("the host was dropped".to_owned()),
            }
        }
    }

    fn spawn(&mut self, plan: &WorkerPlan) -> std::io::Result<Child> {
        let id = uuid::Uuid::new_v4().to_string();
        let port = plan.port.to_string();
        let child = Command::new(&plan.description.executable)
            .args(&plan.description.arguments)
            .current_dir(&plan.description.working_directory)
            .env_clear()
            .envs(plan.settings.iter())
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", &port)
            .env("FUNCTIONS_HTTPWORKER_PORT", &port)
            .env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", &id)
            .env("FUNCTIONS_HTTPWORKER_ID", &id)
            .env("FUNCTIONS_APP_ROOT_PATH", &plan.app_root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The real host leaves the handler behind when it dies; a test run must not.
            .kill_on_drop(true)
            .spawn()?;
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = child.id();
        self.starts.send_modify(|starts| *starts += 1);
        Ok(child)
    }

    /// Passes the process's output on. The returned task yields the last lines of standard error.
    fn read_output(&self, child: &mut Child, stderr_is_errors: bool) -> tokio::task::JoinHandle<Vec<String>> {
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(pass_lines(stdout, self.log.clone(), false, stderr_is_errors));
        }
        let log = self.log.clone();
        match child.stderr.take() {
            Some(stderr) => tokio::spawn(pass_lines(stderr, log, true, stderr_is_errors)),
            None => tokio::spawn(async { Vec::new() }),
        }
    }
}

async fn pass_lines(
    stream: impl AsyncRead + Unpin,
    log: Log,
    from_stderr: bool,
    stderr_is_errors: bool,
) -> Vec<String> {
    let mut last = VecDeque::new();
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    // Ends at end of file or when the pipe breaks; there is no more output in either case.
    while matches!(reader.read_until(b'\n', &mut line).await, Ok(length) if length > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        let entry = console_line(text, from_stderr, stderr_is_errors);
        log.write(entry.level, entry.source, entry.text);
        if last.len() == LAST_STDERR_LINES {
            last.pop_front();
        }
        last.push_back(text.to_owned());
        line.clear();
    }
    last.into()
}

/// A shell's view of the exit: 128 plus the signal's number for a killed process.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// `Process.Kill()`: SIGKILL, and at most a second of waiting.
async fn kill(child: &mut Child, log: &Log) {
    // Fails only if the process is gone already.
    let _ = child.start_kill();
    if tokio::time::timeout(KILL_WAIT, child.wait()).await.is_err() {
        log.host(LogLevel::Warning, "Worker process has not exited within 1000 ms of being killed");
    }
}

/// Whether the handler came up in time. Anything but a refused connection counts as up, whatever it answers.
pub(crate) async fn probe(port: u16, timeout: Duration) -> bool {
    let mut slept = Duration::ZERO;
    loop {
        match probe_request(port).send(port).await {
            Err(WireError::Connect { .. }) => {}
            _ => return true,
        }
        // Only the pauses count towards the limit.
        if slept >= timeout {
            return false;
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
        slept += PROBE_INTERVAL;
    }
}
