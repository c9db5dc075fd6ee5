//! The organisation's policies that come with the package, or are in the folder that the settings name.

use crate::configuration::ConfigurationError;
use ajar_organisation_policy::{OrganisationPolicies, Policies};
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};

/// Reads every `*.cedar` of the folder, checked whole.
///
/// # Errors
/// [`ConfigurationError`] naming file and line of everything that is wrong; and a folder that is not there, or holds no
/// policy: without any, nothing would be permitted to anybody.
pub(crate) fn read(
    folder: Option<&Path>,
    zone: TimeZone,
) -> Result<OrganisationPolicies, ConfigurationError> {
    let packaged = packaged();
    let Some(folder) = folder.or(packaged.as_deref()) else {
        return Err(ConfigurationError(vec!["AJAR_ORGANISATION_POLICIES: name a folder".to_owned()]));
    };
    let about = |problem: &dyn std::fmt::Display| {
        ConfigurationError(vec![format!("AJAR_ORGANISATION_POLICIES: {}: {problem}", folder.display())])
    };
    let entries = std::fs::read_dir(folder).map_err(|error| about(&error))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cedar"))
        .collect();
    files.sort();
    let mut read = Vec::new();
    for file in files {
        let text =
            std::fs::read_to_string(&file).map_err(|error| about(&format!("{}: {error}", file.display())))?;
        read.push((file.display().to_string(), text));
    }
    let policies = Policies::parse(read.iter().map(|(name, text)| (name.as_str(), text.as_str())))
        .map_err(|problems| ConfigurationError(problems.iter().map(ToString::to_string).collect()))?;
    if policies.is_empty() {
        return Err(about(&"holds no policy (*.cedar), so nothing would be permitted to anybody"));
    }
    Ok(OrganisationPolicies::new(policies, zone))
}

/// `policies` beside the executable.
fn packaged() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.join("policies"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ajar_access::ports::organisation::OrganisationPolicy;

    #[test]
    fn the_policies_that_are_shipped_are_whole_and_need_nothing_of_azure() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/policies");
        assert!(!read(Some(&folder), TimeZone::UTC).unwrap().looks_at_machines());
        assert!(read(Some(&folder.join("samples")), TimeZone::UTC).unwrap().looks_at_machines());
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_line() {
        let folder = std::env::temp_dir().join(format!("ajar-policies-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let problems = || read(Some(&folder), TimeZone::UTC).unwrap_err().0.join("; ");
        assert!(problems().contains("holds no policy"), "{}", problems());
        let text = "// mine\n@id(\"a\")\npermit (principal, action == Ajar::Action::\"requst\", resource);";
        std::fs::write(folder.join("mine.cedar"), text).unwrap();
        assert!(problems().contains("mine.cedar:2:"), "{}", problems());
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(problems().contains("AJAR_ORGANISATION_POLICIES"), "{}", problems());
    }
}
