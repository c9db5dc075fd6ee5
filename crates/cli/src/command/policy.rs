//! `ajar policy`: whether the organisation's policies can be read, and whether they answer as a table of cases says.

use std::io::Write;

use ajar_organisation_policy::{Cases, Policies};

use crate::arguments::{PolicyFiles, PolicyTest};
use crate::outcome::{Failure, Outcome};
use crate::shown::printable;

pub(crate) fn check(arguments: &PolicyFiles) -> Result<Outcome, Failure> {
    let mut out = std::io::stdout().lock();
    let Some(policies) = read(arguments, &mut out)? else { return Ok(Outcome::BadInput) };
    writeln!(out, "{} policies, each of what there is", policies.len())?;
    out.flush()?;
    Ok(Outcome::Clean)
}

pub(crate) fn test(arguments: &PolicyTest) -> Result<Outcome, Failure> {
    let mut out = std::io::stdout().lock();
    let Some(policies) = read(&arguments.policies, &mut out)? else { return Ok(Outcome::BadInput) };
    let file = &arguments.cases;
    let text = std::fs::read_to_string(file).map_err(|error| Failure::Input { file: file.clone(), error })?;
    let table: Cases = match serde_json::from_str(&text) {
        Ok(table) => table,
        Err(error) => {
            writeln!(out, "{}", printable(&format!("{}: {error}", file.display())))?;
            out.flush()?;
            return Ok(Outcome::BadInput);
        }
    };
    let problems = table.run(&policies);
    for problem in &problems {
        writeln!(out, "{}", printable(&problem.to_string()))?;
    }
    let (failed, all) = (problems.len(), table.cases.len());
    writeln!(out, "{} of {all} cases answered as expected", all - failed)?;
    out.flush()?;
    Ok(if failed == 0 { Outcome::Clean } else { Outcome::Exposed })
}

/// The policies; none when something is wrong with them, which is said then.
fn read(arguments: &PolicyFiles, out: &mut impl Write) -> Result<Option<Policies>, Failure> {
    let mut files = Vec::new();
    for file in &arguments.files {
        let text =
            std::fs::read_to_string(file).map_err(|error| Failure::Input { file: file.clone(), error })?;
        files.push((file.display().to_string(), text));
    }
    match Policies::parse(files.iter().map(|(name, text)| (name.as_str(), text.as_str()))) {
        Ok(policies) => Ok(Some(policies)),
        Err(problems) => {
            for problem in problems {
                writeln!(out, "{}", printable(&problem.to_string()))?;
            }
            out.flush()?;
            Ok(None)
        }
    }
}
