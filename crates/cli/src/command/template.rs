//! `ajar template check`: whether templates can be read and go together, as the application checks them at its start.

use std::io::Write;

use ajar_access::template::{Template, Templates};

use crate::arguments::TemplateCheck;
use crate::outcome::{Failure, Outcome};
use crate::shown::printable;

pub(crate) fn check(arguments: &TemplateCheck) -> Result<Outcome, Failure> {
    let mut out = std::io::stdout().lock();
    let (mut templates, mut is_bad) = (Vec::new(), false);
    for file in &arguments.files {
        let text =
            std::fs::read_to_string(file).map_err(|error| Failure::Input { file: file.clone(), error })?;
        match Template::parse(&text) {
            Ok(template) => templates.push(template),
            Err(error) => {
                is_bad = true;
                writeln!(out, "{}", printable(&format!("{}: {error}", file.display())))?;
            }
        }
    }
    let count = templates.len();
    match Templates::new(templates) {
        Err(error) => {
            is_bad = true;
            writeln!(out, "{}", printable(&error.to_string()))?;
        }
        Ok(_) if !is_bad => writeln!(out, "{count} templates, which go together")?,
        Ok(_) => {}
    }
    out.flush()?;
    Ok(if is_bad { Outcome::BadInput } else { Outcome::Clean })
}
