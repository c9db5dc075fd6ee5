//! The templates that come with the package, or are in the folder that the settings name.

use crate::configuration::ConfigurationError;
use ajar_access::template::{Template, Templates};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Reads every `*.json` of the folder; none when the folder that comes with the package is not there.
///
/// # Errors
/// [`ConfigurationError`] naming each file that is no template, and templates that do not go together.
pub(crate) fn read(folder: Option<&Path>) -> Result<Templates, ConfigurationError> {
    let packaged = packaged();
    let (folder, is_given) = match (folder, &packaged) {
        (Some(given), _) => (given, true),
        (None, Some(packaged)) => (packaged.as_path(), false),
        (None, None) => return Ok(Templates::default()),
    };
    let about = |problem: &dyn std::fmt::Display| format!("AJAR_TEMPLATES: {}: {problem}", folder.display());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound && !is_given => return Ok(Templates::default()),
        Err(error) => return Err(ConfigurationError(vec![about(&error)])),
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let (mut templates, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string());
        match text.and_then(|text| Template::parse(&text).map_err(|error| error.to_string())) {
            Ok(template) => templates.push(template),
            Err(problem) => problems.push(about(&format!("{name}: {problem}"))),
        }
    }
    if !problems.is_empty() {
        return Err(ConfigurationError(problems));
    }
    Templates::new(templates).map_err(|error| ConfigurationError(vec![about(&error)]))
}

/// `templates` beside the executable.
fn packaged() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.join("templates"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_that_are_shipped_go_together() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/templates");
        assert!(read(Some(&folder)).unwrap().iter().count() > 0);
    }

    #[test]
    fn a_wrong_file_is_named_and_a_folder_that_is_named_must_be_there() {
        let folder = std::env::temp_dir().join(format!("ajar-templates-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["a.json", "b.json"] {
            std::fs::write(folder.join(name), "{}").unwrap();
        }
        std::fs::write(folder.join("README.md"), "no template").unwrap();
        let ConfigurationError(problems) = read(Some(&folder)).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("a.json: template: missing field `name`"), "{problems:?}");
        std::fs::remove_dir_all(&folder).unwrap();
        let ConfigurationError(problems) = read(Some(&folder)).unwrap_err();
        assert!(problems[0].contains("AJAR_TEMPLATES"), "{problems:?}");
    }
}
