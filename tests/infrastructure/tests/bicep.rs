//! The templates, through the real Bicep CLI.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use infrastructure_tests::{EXAMPLES, repository, text, tool};

/// The templates that are deployed; they use every module.
const ENTRIES: [&str; 2] = ["main.bicep", "management-group.bicep"];

/// Runs `bicep`; what it says on standard error is a problem, whatever its exit code.
fn bicep(program: &Path, folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let answer = Command::new(program).current_dir(folder).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    if answer.status.success() && said.trim().is_empty() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&answer.stdout);
    Err(format!("bicep {}: {}\n{said}\n{output}", arguments.join(" "), answer.status))
}

fn sources() -> Vec<PathBuf> {
    let infra = repository().join("infra");
    let mut found = Vec::new();
    for folder in [infra.clone(), infra.join("modules"), infra.join("examples")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "bicep" || end == "bicepparam") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_rule_and_every_type_is_kept() {
    let Some(program) = tool("BICEP", "bicep") else { return };
    let infra = repository().join("infra");
    let out = tempfile::tempdir().unwrap();
    for entry in ENTRIES {
        bicep(&program, &infra, &["lint", entry]).unwrap();
        let compiled = out.path().join(entry).with_extension("json");
        bicep(&program, &infra, &["build", entry, "--outfile", compiled.to_str().unwrap()]).unwrap();
    }
    bicep(&program, &infra, &["lint", "main.bicepparam"]).unwrap();
}

/// Without this, a linter that is switched off would look like templates without fault.
#[test]
fn a_fault_is_found() {
    let Some(program) = tool("BICEP", "bicep") else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bicepconfig.json"), text("infra/bicepconfig.json")).unwrap();
    let faults = [
        (
            "no-unused-params",
            "param unused string\noutput place string = resourceGroup().location\n".to_owned(),
        ),
        (
            "BCP037",
            "resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {\n  \
             name: 'one'\n  location: resourceGroup().location\n  misspelt: true\n}\n"
                .to_owned(),
        ),
    ];
    for (fault, source) in faults {
        std::fs::write(folder.path().join("main.bicep"), source).unwrap();
        let problem = bicep(&program, folder.path(), &["lint", "main.bicep"]).unwrap_err();
        assert!(problem.contains(fault), "{problem}");
    }
}

#[test]
fn sources_are_formatted() {
    let Some(program) = tool("BICEP", "bicep") else { return };
    // One run for all of them: the CLI takes seconds to start.
    let folder = tempfile::tempdir().unwrap();
    let copies: Vec<_> = sources()
        .into_iter()
        .map(|source| {
            let within = source.strip_prefix(repository()).unwrap().to_owned();
            let copy = folder.path().join(&within);
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(&source, &copy).unwrap();
            (source, copy)
        })
        .collect();
    for pattern in ["infra/**/*.bicep", "infra/**/*.bicepparam"] {
        bicep(&program, folder.path(), &["format", "--pattern", pattern]).unwrap();
    }
    for (source, copy) in copies {
        let (written, formatted) = (std::fs::read(&source).unwrap(), std::fs::read(copy).unwrap());
        assert!(written == formatted, "run `bicep format {}`", source.display());
    }
}

#[test]
fn modules_are_local_and_all_are_used() {
    let sources: Vec<_> = sources().into_iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for source in &sources {
        assert!(!source.contains("br:") && !source.contains("br/"), "no registry is reachable everywhere");
    }
    for module in std::fs::read_dir(repository().join("infra/modules")).unwrap() {
        let name = module.unwrap().file_name().into_string().unwrap();
        assert!(sources.iter().any(|source| source.contains(&format!("{name}'"))), "{name} is not used");
    }
}

/// What a deployment would make is reviewed as text. After a wanted change: `infra/snapshots`.
#[test]
fn snapshots_are_what_the_templates_make() {
    let Some(program) = tool("BICEP", "bicep") else { return };
    let answer = Command::new(repository().join("infra/snapshots"))
        .arg("validate")
        .env("BICEP", program)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success(), "{said}\n{}", String::from_utf8_lossy(&answer.stderr));
    for example in EXAMPLES {
        assert!(said.contains(example), "{example} was not looked at: {said}");
        let snapshot = infrastructure_tests::snapshot(example);
        assert_eq!(snapshot["diagnostics"].as_array().unwrap().len(), 0, "{example} has blind spots");
    }
}
