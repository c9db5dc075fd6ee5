//! How the process ends, and what that tells the host.

use std::io::Write as _;
use std::process::{ExitCode, Termination};

use crate::functions::RegistrationError;

/// How serving ended. Return it from `main`: it becomes the exit code the host understands, and the reason
/// goes to stderr, whose last lines the host puts into its own error.
#[derive(Debug)]
pub enum Exit {
    /// A fresh process is wished for: code 200, restarted at once and not counted as an error.
    Restart,
    /// Serving is impossible: code 1. The host tries three times in all, then shuts down.
    Failed(ServeError),
}

/// Why functions cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The host did not say where to listen.
    #[error(
        "FUNCTIONS_CUSTOMHANDLER_PORT is not set: start this through the Functions host (`func start`), or set it to a free port"
    )]
    NoPort,
    /// What should be a port is none.
    #[error("FUNCTIONS_CUSTOMHANDLER_PORT is `{0}`: it must be a port number from 1 to 65535")]
    BadPort(String),
    /// The port cannot be listened on.
    #[error("cannot listen on 127.0.0.1:{port}: {source}")]
    Bind {
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The asynchronous runtime cannot be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    /// The app could not be put together.
    #[error("initialisation failed: {0}")]
    Initialisation(String),
    /// The functions contradict each other or the host's rules.
    #[error("invalid functions: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Registration(Vec<RegistrationError>),
    /// The server ended by itself.
    #[error("the server stopped: {0}")]
    Stopped(String),
}

impl Exit {
    /// The exit code: 200 or 1, never 0, which the host would take for "nothing to restart" and leave the app
    /// dead.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Restart => 200,
            Self::Failed(_) => 1,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        if let Self::Failed(error) = &self {
            // One line, so that the host's quote of the last stderr lines holds all of it. Nothing is left to
            // be done if stderr is gone.
            let line = error.to_string().replace(['\r', '\n'], " ");
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        ExitCode::from(self.code())
    }
}
