//! Colour and progress: on a terminal only, and not where somebody wants none. The terminal is a pseudo-terminal.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking; not every test file uses all of the support"
)]

mod support;

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use support::{nsg, rule};

/// A terminal: the end a process writes to, and what is written there, as it comes.
fn terminal() -> (File, Receiver<Vec<u8>>) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&ours).unwrap();
    let name = std::ffi::OsString::from_vec(ptsname(&ours, Vec::new()).unwrap().into_bytes());
    let theirs = OpenOptions::new().read(true).write(true).open(name).unwrap();
    let (sender, receiver) = channel();
    let mut ours = File::from(ours);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // Linux ends a terminal that nobody has open any more with an error.
        while let Ok(length @ 1..) = ours.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    (theirs, receiver)
}

fn rest(shown: &Receiver<Vec<u8>>) -> String {
    String::from_utf8(shown.iter().flatten().collect()).unwrap()
}

fn ajar(file: &File) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ajar"));
    command.args(["exposure", "--format", "table", "-"]).stdin(Stdio::from(file.try_clone().unwrap()));
    command.env_remove("NO_COLOR").env("TERM", "xterm");
    command
}

/// The table of one open group, on a terminal, in this environment.
fn table(environment: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.json");
    std::fs::write(&path, nsg("web", &[rule("ssh", 300, "Allow", "*", "22")]).to_string()).unwrap();
    let (theirs, shown) = terminal();
    let mut command = ajar(&File::open(&path).unwrap());
    command.envs(environment.iter().copied()).stdout(Stdio::from(theirs));
    let mut child = command.spawn().unwrap();
    // It holds the terminal's other end.
    drop(command);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    rest(&shown)
}

#[test]
fn a_table_is_coloured_on_a_terminal_only() {
    let coloured = table(&[]);
    assert!(coloured.contains("\u{1b}[1mweb\u{1b}[0m"), "{coloured:?}");
    let plain = support::ajar(
        &["exposure", "--format", "table", "-"],
        nsg("web", &[rule("ssh", 300, "Allow", "*", "22")]).to_string(),
    );
    assert!(!plain.out.contains('\u{1b}'), "{}", plain.out);
}

#[test]
fn who_wants_no_colour_gets_none() {
    for environment in [("NO_COLOR", "1"), ("NO_COLOR", "0"), ("TERM", "dumb")] {
        let plain = table(&[environment]);
        assert!(plain.contains("web") && !plain.contains('\u{1b}'), "{environment:?}: {plain:?}");
    }
    // By the convention at no-color.org an empty value says nothing.
    assert!(table(&[("NO_COLOR", "")]).contains('\u{1b}'));
}

/// Reads a file of many groups with standard error on a terminal or a pipe, while somebody takes the results so slowly
/// that it lasts: a piece each time nothing comes from standard error for a while, until `enough`.
fn slowly(on_terminal: bool, enough: impl Fn(&str, usize) -> bool) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("many.json");
    let open = nsg("web", &[rule("ssh", 300, "Allow", "*", "22")]);
    std::fs::write(&path, format!("{open}\n").repeat(20_000)).unwrap();
    let (theirs, shown) = terminal();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ajar"));
    command.args(["exposure", "--format", "json"]).arg(&path).stdout(Stdio::piped());
    command.stderr(if on_terminal { Stdio::from(theirs.try_clone().unwrap()) } else { Stdio::piped() });
    let mut child = command.spawn().unwrap();
    drop(command);
    // Nobody else has an unused terminal open, and one that is closed says nothing at once.
    let unused = (!on_terminal).then_some(theirs);
    let mut results = child.stdout.take().unwrap();
    let (mut text, mut pieces, mut buffer) = (String::new(), 0, [0; 4096]);
    while !enough(&text, pieces) {
        match shown.recv_timeout(Duration::from_millis(25)) {
            Ok(more) => text.push_str(std::str::from_utf8(&more).unwrap()),
            Err(_) => {
                assert!(results.read(&mut buffer).unwrap() > 0, "it ended before its patience: {text:?}");
                pieces += 1;
            }
        }
    }
    std::io::copy(&mut results, &mut std::io::sink()).unwrap();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut text).unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(1));
    drop(unused);
    text + &rest(&shown)
}

#[test]
fn a_long_run_shows_its_progress_on_a_terminal_and_clears_it() {
    let shown = slowly(true, |text, _| text.contains('%'));
    assert!(shown.starts_with("\r[") && shown.contains("] "), "{shown:?}");
    assert!(shown.ends_with("\r\u{1b}[K"), "{shown:?}");
}

#[test]
fn a_long_run_shows_nothing_elsewhere() {
    // Thirty pieces, 25 ms each, last longer than the patience of half a second.
    assert_eq!(slowly(false, |_, pieces| pieces == 30), "");
}
