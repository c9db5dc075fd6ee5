//! `ajar generate`: completions and the manual page, for packagers.

use std::io::Write;

use clap::CommandFactory;

use crate::arguments::{Arguments, Generate, Generated};
use crate::outcome::{Failure, Outcome};

pub(crate) fn run(arguments: &Generate) -> Result<Outcome, Failure> {
    let mut command = Arguments::command();
    command.build();
    // Into memory first: the generators panic when a pipe is closed.
    let mut text = Vec::new();
    match arguments.what {
        Generated::Completions { shell } => clap_complete::generate(shell, &mut command, "ajar", &mut text),
        Generated::Man => {
            clap_mangen::Man::new(command.clone()).render(&mut text)?;
            for part in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
                clap_mangen::Man::new(part.clone()).render(&mut text)?;
            }
        }
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&text)?;
    out.flush()?;
    Ok(Outcome::Clean)
}
