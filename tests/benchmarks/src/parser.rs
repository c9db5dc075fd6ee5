//! `parser AJAR`: `ajar exposure`, `assess` and `plan` on 100 MB of input that is broken in one way each, and on input
//! nested 100,000 levels deep. Each must end with exit code 2 and an error that points into the file; how long it
//! takes and how much memory it has at most are printed.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod generated_nsgs;

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LENGTH: usize = 100_000_000;
const LEVELS: usize = 100_000;

/// Nothing may take longer: it would be a hang.
const LIMIT: Duration = Duration::from_secs(120);

const POLICY: &str = r#"{"vm": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/web-1",
    "ports": [{"port": 22, "allowedSources": ["203.0.113.0/24"]}]}"#;

type Generate = fn(&mut BufWriter<File>) -> std::io::Result<()>;

/// What the input is, and what writes it.
const INPUTS: [(&str, Generate); 12] = [
    ("100 MB of random bytes", random_bytes),
    ("100 MB of `[`", |out| repeated(out, b"[")),
    ("100 MB of `{\"a\":`", |out| repeated(out, b"{\"a\":")),
    ("100 MB of NUL bytes", |out| repeated(out, b"\0")),
    ("one string of 100 MB, not closed", |out| out.write_all(b"[\"").and_then(|()| repeated(out, b"x"))),
    ("a string of 100 MB of backslashes", |out| out.write_all(b"[\"").and_then(|()| repeated(out, b"\\"))),
    ("a number of 100 MB", |out| repeated(out, b"7")),
    ("100 MB of broken lines", |out| repeated(out, b"{\"id\": nope}\n")),
    ("one NSG of 100 MB", one_long_group),
    ("a list of NSGs of 100 MB, cut off", cut_off),
    ("100,000 nested lists", |out| nested(out, "[", "]")),
    ("100,000 nested objects", |out| nested(out, "{\"a\":", "}")),
];

fn main() -> Result<(), Box<dyn Error>> {
    let ajar = std::env::args().nth(1).ok_or("usage: parser AJAR")?;
    let directory = tempfile::tempdir()?;
    let policy = directory.path().join("policy.json");
    std::fs::write(&policy, POLICY)?;
    let policy = policy.to_str().ok_or("a temporary directory whose name is no text")?;
    println!("| input | command | s | peak MB | first line of the error |\n|---|---|---|---|---|");
    for (what, generate) in INPUTS {
        let file = directory.path().join("input.json");
        let mut out = BufWriter::new(File::create(&file)?);
        generate(&mut out)?;
        out.flush()?;
        for arguments in [&["exposure"][..], &["assess"], &["plan", "--policy", policy]] {
            let ended =
                run(&ajar, arguments, &file).map_err(|error| format!("{arguments:?} on {what}: {error}"))?;
            println!(
                "| {what} | {} | {:.1} | {:.0} | {} |",
                arguments.first().copied().unwrap_or_default(),
                ended.took.as_secs_f64(),
                ended.peak_kib as f64 * 1024.0 / 1e6,
                ended.error
            );
        }
    }
    Ok(())
}

fn repeated(out: &mut BufWriter<File>, piece: &[u8]) -> std::io::Result<()> {
    (0..LENGTH / piece.len()).try_for_each(|_| out.write_all(piece))
}

/// xorshift64*: the same bytes everywhere.
fn random_bytes(out: &mut BufWriter<File>) -> std::io::Result<()> {
    let mut state = 20_261_124u64;
    (0..LENGTH / 8).try_for_each(|_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        out.write_all(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes())
    })
}

fn nested(out: &mut BufWriter<File>, open: &str, close: &str) -> std::io::Result<()> {
    write!(out, "{}1{}", open.repeat(LEVELS), close.repeat(LEVELS))
}

const RULE: &str = r#"{"name":"r","properties":{"priority":100,"access":"Allow","direction":"Inbound","protocol":"Tcp",
"sourceAddressPrefix":"*","sourcePortRange":"*","destinationAddressPrefix":"*","destinationPortRange":"22"}}"#;

fn one_long_group(out: &mut BufWriter<File>) -> std::io::Result<()> {
    let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/n";
    write!(out, r#"{{"id":"{id}","name":"n","properties":{{"securityRules":[{RULE}"#)?;
    (0..LENGTH / RULE.len()).try_for_each(|_| write!(out, ",{RULE}"))?;
    out.write_all(b"]}}")
}

fn cut_off(out: &mut BufWriter<File>) -> std::io::Result<()> {
    let mut left = Limited { out, left: LENGTH };
    // The limit ends it; what was to come after it is not written.
    match generated_nsgs::write(&mut left, 1_000_000, 50) {
        Err(error) if error.kind() == std::io::ErrorKind::WriteZero => Ok(()),
        other => other,
    }
}

/// Takes so many bytes and no more.
struct Limited<'a> {
    out: &'a mut BufWriter<File>,
    left: usize,
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let fits = bytes.get(..bytes.len().min(self.left)).unwrap_or_default();
        let written = self.out.write(fits)?;
        self.left -= written;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

struct Ended {
    took: Duration,
    peak_kib: u64,
    error: String,
}

fn run(ajar: &str, arguments: &[&str], file: &Path) -> Result<Ended, Box<dyn Error>> {
    let started = Instant::now();
    let mut child = Command::new(ajar)
        .args(arguments)
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stderr = child.stderr.take().ok_or("no standard error")?;
    let told = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    let (code, peak_kib) = watch(&mut child, started)?;
    let took = started.elapsed();
    let text = told.join().map_err(|_| "standard error was not read")??;
    let first = text.lines().next().unwrap_or_default();
    if code != Some(2) || text.contains("panicked") {
        return Err(format!("exit code {code:?}: {first}").into());
    }
    let error = pointed(first, file).ok_or_else(|| format!("the error points to no place: {first}"))?;
    Ok(Ended { took, peak_kib, error })
}

/// Waits for the end, and looks at the peak of its memory meanwhile: Linux forgets it when a process has ended.
fn watch(child: &mut Child, started: Instant) -> Result<(Option<i32>, u64), Box<dyn Error>> {
    let mut peak = 0;
    loop {
        peak = peak_kib(child.id()).unwrap_or(peak);
        if let Some(status) = child.try_wait()? {
            return Ok((status.code(), peak));
        }
        if started.elapsed() > LIMIT {
            child.kill()?;
            return Err(format!("still running after {LIMIT:?}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn peak_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(PathBuf::from(format!("/proc/{process}/status"))).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// `LINE:COLUMN: what is wrong`, from an error that names the file.
fn pointed(error: &str, file: &Path) -> Option<String> {
    let error = error.strip_prefix("ajar: ").unwrap_or(error);
    let place = error.strip_prefix(file.to_str()?)?.strip_prefix(':')?;
    let (line, rest) = place.split_once(':')?;
    let (column, _) = rest.split_once(':')?;
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    (is_number(line) && is_number(column)).then(|| place.chars().take(120).collect())
}
