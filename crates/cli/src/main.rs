#![doc = include_str!("../README.md")]

mod arguments;
mod command;
mod elements;
mod estate_file;
mod grant_input;
mod input;
mod outcome;
mod place;
mod problems;
mod report;
mod resources;
mod service_tags_file;
mod shown;
mod strict_file;
mod unread;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, PolicyCommand, TemplateCommand};
use outcome::{Failure, Outcome};

/// The only place where an exit code is decided.
fn main() -> ExitCode {
    let outcome = match &Arguments::parse().command {
        Command::Exposure(arguments) => command::exposure::run(arguments),
        Command::Assess(arguments) => command::assess::run(arguments),
        Command::Plan(arguments) => command::plan::run(arguments),
        Command::CloseExpired(arguments) => command::removal::close_expired(arguments),
        Command::Drain(arguments) => command::removal::drain(arguments),
        Command::Template(arguments) => match &arguments.what {
            TemplateCommand::Check(arguments) => command::template::check(arguments),
        },
        Command::Policy(arguments) => match &arguments.what {
            PolicyCommand::Check(arguments) => command::policy::check(arguments),
            PolicyCommand::Test(arguments) => command::policy::test(arguments),
        },
        Command::Generate(arguments) => command::generate::run(arguments),
    };
    match outcome {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Exposed) => ExitCode::from(1),
        Ok(Outcome::BadInput) => ExitCode::from(2),
        // As a shell reports a process that SIGPIPE ended: whoever closed the pipe has seen enough, and "clean" would
        // be a claim about what was not read.
        Err(Failure::OutputClosed) => ExitCode::from(141),
        Err(failure) => {
            // Nobody is left to tell when standard error is closed too.
            let _ = writeln!(std::io::stderr(), "ajar: {failure}");
            ExitCode::from(2)
        }
    }
}
