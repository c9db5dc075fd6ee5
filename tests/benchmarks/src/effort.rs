//! What a run costs beside its time: CPU time of each process, and invocations of each function.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// A hundredth of a second: `USER_HZ`, the unit of `/proc/PID/stat`, is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// CPU time so far, user and system, of this process and of each of its children, by name. This one holds the local
/// Functions host and the simulated Azure.
pub(crate) fn cpu_times() -> BTreeMap<String, Duration> {
    let own = std::process::id();
    let mut times = BTreeMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(id) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process that has ended meanwhile is none of ours any more.
        let Some(process) = read(id).filter(|process| id == own || process.parent == own) else { continue };
        *times.entry(process.name).or_default() += process.cpu;
    }
    times
}

/// CPU time of a process so far, user and system; `None` when there is none.
pub(crate) fn cpu_time(id: u32) -> Option<Duration> {
    read(id).map(|process| process.cpu)
}

struct Process {
    name: String,
    parent: u32,
    cpu: Duration,
}

fn read(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the fields after it begin with the state and the parent.
    let (before, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u32>().ok();
    Some(Process {
        name: before.split_once('(')?.1.to_owned(),
        parent: number(1)?,
        cpu: TICK * (number(11)? + number(12)?),
    })
}

/// What was added between two readings, in seconds.
pub(crate) fn spent(before: &BTreeMap<String, Duration>, after: &BTreeMap<String, Duration>) -> String {
    let added = |(name, time): (&String, &Duration)| {
        let added = time.saturating_sub(before.get(name).copied().unwrap_or_default());
        format!("{name} {:.1}", added.as_secs_f64())
    };
    after.iter().map(added).collect::<Vec<_>>().join(", ")
}

/// How often each function has been invoked, by what the Functions host logs of each.
pub(crate) fn invocations(log: &str) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for after in log.split("Executed 'Functions.").skip(1) {
        let name = after.split('\'').next().unwrap_or_default();
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

/// What was added between two counts.
pub(crate) fn more(before: &BTreeMap<String, u32>, after: &BTreeMap<String, u32>) -> String {
    let added = |(name, count): (&String, &u32)| {
        let added = count - before.get(name).copied().unwrap_or_default();
        (added > 0).then(|| format!("{name} {added}"))
    };
    after.iter().filter_map(added).collect::<Vec<_>>().join(", ")
}
