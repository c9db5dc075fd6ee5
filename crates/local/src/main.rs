#![doc = include_str!("../README.md")]

mod app_settings;
mod options;
mod run;
mod story;

use std::io::Write as _;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::options::{Command, USAGE};

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let command = match options::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => return fail(2, &format!("{error}\n{USAGE}")),
    };
    match command {
        Command::Help => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Command::Run(options) => match run::run(options).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &error.to_string()),
        },
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "ajar-local: {message}");
    ExitCode::from(code)
}
