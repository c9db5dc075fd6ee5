//! `exposure AJAR`: how long `ajar exposure` takes for four ports on 2,000 NSGs of 50 rules and how much memory it
//! has at most, against a process that only parses the same file into `serde_json::Value`, in turn, in one run.
//!
//! `exposure parse FILE` is that other process.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod generated_nsgs;

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 20;
const GROUPS: u64 = 2_000;
const RULES: u64 = 50;

/// How many times longer the file is that shows whether memory grows.
const LONGER: u64 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["parse", file] => parse(Path::new(file)),
        [ajar] => compare(ajar),
        _ => Err("usage: exposure AJAR | exposure parse FILE".into()),
    }
}

/// The fastest way to values: the whole text in memory, and nothing freed at the end.
fn parse(file: &Path) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read(file)?;
    let value: serde_json::Value = serde_json::from_slice(&text)?;
    std::mem::forget(value);
    println!("{}", peak_kib("self")?);
    std::mem::forget(text);
    Ok(())
}

fn compare(ajar: &str) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let file = generate(directory.path(), "nsgs.json", GROUPS)?;
    let parser = std::env::current_exe()?;
    let megabytes = |path: &Path| path.metadata().map(|m| m.len() as f64 / 1e6);
    println!("{GROUPS} NSGs of {RULES} rules, {:.1} MB; {RUNS} runs of each in turn\n", megabytes(&file)?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first pair warms the page cache and is not counted.
    for index in 0..=RUNS {
        let one = timed(exposure(ajar, &file).stdout(Stdio::null()), Some(1))?;
        let other = timed(Command::new(&parser).arg("parse").arg(&file).stdout(Stdio::null()), Some(0))?;
        if index > 0 {
            ours.push(one);
            theirs.push(other);
        }
    }
    let (one, other) = (spread(ours), spread(theirs));
    println!("| | ajar exposure | only parsing | ratio of medians |\n|---|---|---|---|");
    println!(
        "| whole process, ms, median (min to max) | {:.0} ({:.0} to {:.0}) | {:.0} ({:.0} to {:.0}) | {:.2} |",
        one.0,
        one.1,
        one.2,
        other.0,
        other.1,
        other.2,
        one.0 / other.0
    );
    let parsing = Command::new(&parser).arg("parse").arg(&file).output()?;
    let parsing: u64 = String::from_utf8(parsing.stdout)?.trim().parse()?;
    let ours = peak_while_writing(&mut exposure(ajar, &file))?;
    let kib = |kib: u64| kib as f64 * 1024.0 / 1e6;
    println!(
        "| peak resident memory, MB | {:.1} | {:.1} | {:.3} |",
        kib(ours),
        kib(parsing),
        kib(ours) / kib(parsing)
    );
    let longer = generate(directory.path(), "longer.json", GROUPS * LONGER)?;
    let long = peak_while_writing(&mut exposure(ajar, &longer))?;
    println!("| the same, a file of {:.0} MB | {:.1} | | |", megabytes(&longer)?, kib(long));
    Ok(())
}

fn generate(directory: &Path, name: &str, groups: u64) -> Result<std::path::PathBuf, Box<dyn Error>> {
    let path = directory.join(name);
    let mut out = BufWriter::new(File::create(&path)?);
    generated_nsgs::write(&mut out, groups, RULES)?;
    out.flush()?;
    Ok(path)
}

fn exposure(ajar: &str, file: &Path) -> Command {
    let mut command = Command::new(ajar);
    command.args(["exposure", "--ports", "22,3389,5985,5986", "--format", "json"]).arg(file);
    command.stdin(Stdio::null());
    command
}

fn timed(command: &mut Command, code: Option<i32>) -> Result<Duration, Box<dyn Error>> {
    let started = Instant::now();
    let status = command.status()?;
    let taken = started.elapsed();
    if status.code() != code {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok(taken)
}

fn spread(times: Vec<Duration>) -> (f64, f64, f64) {
    let mut figures: Vec<f64> = times.iter().map(|t| t.as_secs_f64() * 1e3).collect();
    figures.sort_by(f64::total_cmp);
    let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
    (at(figures.len() / 2), at(0), at(figures.len().saturating_sub(1)))
}

/// The peak while it writes, looked up after every piece of output: Linux forgets it when a process has ended.
fn peak_while_writing(command: &mut Command) -> Result<u64, Box<dyn Error>> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let process = child.id().to_string();
    let mut out = child.stdout.take().ok_or("no standard output")?;
    let mut buffer = vec![0; 1 << 16];
    let mut peak = 0;
    while out.read(&mut buffer)? > 0 {
        // Gone already: the last figure stands.
        peak = peak_kib(&process).unwrap_or(peak);
    }
    child.wait()?;
    Ok(peak)
}

fn peak_kib(process: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc")?;
    Ok(line.trim().strip_suffix("kB").unwrap_or(line).trim().parse()?)
}
