//! `package EXECUTABLE OUT`: makes the folder OUT and OUT.zip from the repository in the current folder.
//!
//! The layout is the Functions host's: host.json and the executable at the root, one folder with a
//! function.json for each function, nothing else in those, the templates and the organisation's policies. The zip carries Unix mode bits, because on Flex
//! Consumption the package is mounted read-only and an executable without its bit cannot be started.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zip::write::SimpleFileOptions;

/// A file of the package: its path there, where it comes from, and whether it is run.
struct Entry {
    path: String,
    source: PathBuf,
    is_executable: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [executable, out] = arguments.as_slice() else {
        return fail("usage: package EXECUTABLE OUT");
    };
    match package(Path::new("."), executable, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

#[expect(clippy::print_stderr, reason = "a command line tool tells its user what is wrong there")]
fn fail(problem: &str) -> ExitCode {
    eprintln!("package: {problem}");
    ExitCode::FAILURE
}

fn package(repository: &Path, executable: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let entries = entries(repository, executable)?;
    if out.exists() {
        if !out.join("host.json").exists() {
            return Err(format!("{} exists and is not a package: remove it first", out.display()).into());
        }
        fs::remove_dir_all(out)?;
    }
    for entry in &entries {
        let target = out.join(&entry.path);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        // Copying keeps the mode, and the build made the executable one.
        fs::copy(&entry.source, &target).map_err(|error| format!("{}: {error}", entry.source.display()))?;
    }
    write_zip(&entries, &out.with_extension("zip"))
}

/// What goes into the package, in order of path.
fn entries(repository: &Path, executable: &Path) -> Result<Vec<Entry>, Box<dyn Error>> {
    let plain = |path: String, source: PathBuf| Entry { path, source, is_executable: false };
    let mut entries = vec![
        Entry { path: "handler".into(), source: executable.into(), is_executable: true },
        plain("host.json".into(), repository.join("host.json")),
    ];
    for folder in fs::read_dir(repository.join("handlers"))? {
        let folder = folder?;
        let source = folder.path().join("function.json");
        if source.exists() {
            entries.push(plain(format!("{}/function.json", folder.file_name().to_string_lossy()), source));
        }
    }
    for (folder, kind) in [("templates", "json"), ("policies", "cedar")] {
        let files = repository.join("infra").join(folder);
        if files.exists() {
            for file in fs::read_dir(files)? {
                let source = file?.path();
                if source.extension().is_some_and(|extension| extension == kind) {
                    let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    entries.push(plain(format!("{folder}/{name}"), source));
                }
            }
        }
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

fn write_zip(entries: &[Entry], path: &Path) -> Result<(), Box<dyn Error>> {
    let mut zip = zip::ZipWriter::new(File::create(path)?);
    for entry in entries {
        let mode = if entry.is_executable { 0o755 } else { 0o644 };
        // The format's own beginning of time, so that the same files give the same bytes.
        let options =
            SimpleFileOptions::default().unix_permissions(mode).last_modified_time(zip::DateTime::default());
        zip.start_file(&entry.path, options)?;
        zip.write_all(&fs::read(&entry.source)?)?;
    }
    zip.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_zip_has_the_hosts_layout_and_mode_bits() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = std::env::temp_dir().join(format!("ajar-package-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let executable = folder.join("built");
        fs::write(&executable, b"\x7fELF").unwrap();
        let out = folder.join("dist");
        package(&repository, &executable, &out).unwrap();
        // Twice: the second replaces the first.
        package(&repository, &executable, &out).unwrap();

        let mut zip = zip::ZipArchive::new(File::open(folder.join("dist.zip")).unwrap()).unwrap();
        let mut modes = Vec::new();
        for index in 0..zip.len() {
            let mut file = zip.by_index(index).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            let name = file.name().unwrap().into_owned();
            assert_eq!(content, fs::read(out.join(&name)).unwrap(), "{name}");
            modes.push((name, file.unix_mode().unwrap() & 0o777));
        }
        assert!(modes.contains(&("handler".into(), 0o755)));
        assert!(modes.contains(&("host.json".into(), 0o644)));
        assert!(modes.contains(&("reconcile/function.json".into(), 0o644)));
        assert!(modes.contains(&("templates/report.json".into(), 0o644)));
        // host.json must name the executable as it lies in the package.
        let host = fs::read_to_string(out.join("host.json")).unwrap();
        assert!(host.contains("\"defaultExecutablePath\": \"handler\""));
        fs::remove_dir_all(&folder).unwrap();
    }

    /// The zip is mounted where anybody who may read the app sees it: nothing gets in by being somewhere.
    #[test]
    fn the_package_holds_what_is_listed_and_nothing_else() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let entries = entries(&repository, Path::new("handler")).unwrap();
        let packed: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        let listed = include_str!("../contents.txt").lines().filter(|line| !line.starts_with('#'));
        assert_eq!(packed, listed.collect::<Vec<_>>(), "is crates/package/contents.txt up to date?");
        let run: Vec<_> =
            entries.iter().filter(|entry| entry.is_executable).map(|entry| &entry.path).collect();
        assert_eq!(run, ["handler"]);
    }

    #[test]
    fn a_folder_that_is_no_package_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("ajar-package-other-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(package(&repository, Path::new("none"), &folder).is_err());
        assert!(folder.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
