//! `start HANDLER BARE`: how long the handler takes from spawn to its first 200 on `GET /` and to the answer to
//! its first queue invocation, how much memory it has then, and how much CPU time each further invocation takes, against
//! a bare axum handler, in turn, in one run.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 40;

/// No start takes so long; a handler that does not answer must not hold the benchmark for ever.
const PATIENCE: Duration = Duration::from_secs(10);

struct Run {
    ready: Duration,
    invoked: Duration,
    resident_kib: u64,
    /// CPU time of the process for each of [`INVOCATIONS`], user and system.
    cpu_each: Duration,
}

/// How many invocations share the CPU time that is measured: the kernel counts it in hundredths of a second.
const INVOCATIONS: u32 = 1000;

/// A hundredth of a second: `USER_HZ`, the unit of `/proc/PID/stat`, is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [handler, bare] = arguments.as_slice() else { return Err("usage: start HANDLER BARE".into()) };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first pair warms the page cache and is not counted.
    for index in 0..=RUNS {
        let (one, other) = (run(handler, "/reconcile")?, run(bare, "/tick")?);
        if index > 0 {
            ours.push(one);
            theirs.push(other);
        }
    }
    println!("{RUNS} runs of each in turn; median (min to max)\n");
    println!("| | handler | bare axum | ratio of medians |\n|---|---|---|---|");
    row("spawn to first 200 on GET /, ms", &ours, &theirs, |run| run.ready.as_secs_f64() * 1e3);
    row("spawn to first queue invocation answered, ms", &ours, &theirs, |run| {
        run.invoked.as_secs_f64() * 1e3
    });
    row("CPU time of each further invocation, µs", &ours, &theirs, |run| run.cpu_each.as_secs_f64() * 1e6);
    #[expect(clippy::cast_precision_loss, reason = "kibibytes of a small process")]
    row("resident memory then, MB", &ours, &theirs, |run| run.resident_kib as f64 * 1024.0 / 1e6);
    Ok(())
}

fn row(name: &str, ours: &[Run], theirs: &[Run], figure: impl Fn(&Run) -> f64) {
    let spread = |runs: &[Run]| {
        let mut figures: Vec<f64> = runs.iter().map(&figure).collect();
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        (at(figures.len() / 2), at(0), at(figures.len().saturating_sub(1)))
    };
    let (one, other) = (spread(ours), spread(theirs));
    println!(
        "| {name} | {:.1} ({:.1} to {:.1}) | {:.1} ({:.1} to {:.1}) | {:.2} |",
        one.0,
        one.1,
        one.2,
        other.0,
        other.1,
        other.2,
        one.0 / other.0
    );
}

fn run(executable: &str, function: &str) -> Result<Run, Box<dyn Error>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let started = Instant::now();
    let mut child = spawn(executable, port)?;
    let measured = measure(&child, started, port, function);
    child.kill()?;
    child.wait()?;
    measured
}

fn spawn(executable: &str, port: u16) -> std::io::Result<Child> {
    Command::new(executable)
        .env_clear()
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .env("AJAR_DEPLOYMENT", "bench")
        .env("AJAR_SUBSCRIPTIONS", "11111111-1111-1111-1111-111111111111")
        .env("AJAR_TENANT_ID", "22222222-2222-2222-2222-222222222222")
        .env("AJAR_AUDIENCE", "api://ajar")
        // Nobody answers at port 1: what the invocation sends is refused at once.
        .env("AJAR_TABLES_ENDPOINT", "https://127.0.0.1:1")
        .env("AJAR_BLOBS_ENDPOINT", "https://127.0.0.1:1")
        .env("ServiceBusConnection__fullyQualifiedNamespace", "bench.servicebus.windows.net")
        .env("AJAR_SERVICE_BUS_ENDPOINT", "http://127.0.0.1:1")
        .env("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token")
        .env("IDENTITY_HEADER", "bench")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}

fn measure(child: &Child, started: Instant, port: u16, function: &str) -> Result<Run, Box<dyn Error>> {
    let probe = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    while ask(port, &probe)? != Some(200) {
        if started.elapsed() > PATIENCE {
            return Err("the handler does not get ready".into());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    let ready = started.elapsed();
    // Framed as the Functions host frames it. The message is none that the function knows: it is parked.
    let body = r#"{"Data":{"message":"bm90IGpzb24="},"Metadata":{}}"#;
    let invocation = format!(
        "POST {function} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Azure-Functions-HostVersion: 4.1037.0.0\r\n\
         X-Azure-Functions-InvocationId: 00000000-0000-0000-0000-000000000001\r\n\
         User-Agent: Azure-Functions-Host/4.1037.0.0\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: application/json; charset=utf-8\r\nConnection: close\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let status = ask(port, &invocation)?;
    if status != Some(200) {
        return Err(format!("the invocation was answered {status:?}").into());
    }
    let invoked = started.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let resident_kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .ok_or("no VmRSS in /proc")?;
    let before = cpu_time(child.id())?;
    for _ in 0..INVOCATIONS {
        if ask(port, &invocation)? != Some(200) {
            return Err("a further invocation was not answered 200".into());
        }
    }
    let cpu_each = (cpu_time(child.id())? - before) / INVOCATIONS;
    Ok(Run { ready, invoked, resident_kib, cpu_each })
}

/// What `getrusage` tells a process of itself: the CPU time of all its threads, user and system.
fn cpu_time(process: u32) -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything; the fields after it begin with the third.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    let ticks: Vec<u32> =
        fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(TICK * ticks.iter().sum())
}

/// Sends a request and reads the answer's status; `None` while nobody listens.
fn ask(port: u16, request: &str) -> Result<Option<u16>, Box<dyn Error>> {
    let mut stream = match TcpStream::connect(("127.0.0.1", port)) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status =
        answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or("not an HTTP answer")?;
    Ok(Some(status.parse()?))
}
