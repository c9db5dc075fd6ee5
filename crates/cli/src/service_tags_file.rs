//! The Service Tags file that Microsoft publishes, for `--service-tags`.

use std::error::Error;
use std::path::Path;

use ajar_network::service_tags::{InvalidServiceTags, ServiceTags};

use crate::outcome::Failure;

/// Reads the file, if one is named.
pub(crate) fn read(file: Option<&Path>) -> Result<Option<ServiceTags>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read(file).map_err(|error| Failure::Input { file: file.to_owned(), error })?;
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text);
    match ServiceTags::from_json(text) {
        Ok(tags) => Ok(Some(tags)),
        Err(InvalidServiceTags::Form(error)) => Err(Failure::Asked(format!(
            "{}:{}:{}: {}: {}",
            file.display(),
            error.line(),
            error.column(),
            crate::place::message_of(&error),
            "not a Service Tags file as Microsoft publishes it",
        ))),
        Err(error) => {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            Err(Failure::Asked(format!("{}: {error}{cause}", file.display())))
        }
    }
}
