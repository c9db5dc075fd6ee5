//! Replays of recorded traffic of the real host (`tests/host-traces/traces.jsonl`).
//!
//! Every recorded case is accounted for: replayed here, checked with a real process in `tests/`, or named below with
//! the reason why this host does not model it.

mod bodies;
mod front;
mod judgements;
mod options;
mod readiness;
mod replay;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value as Recorded;

/// How a case is checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    /// A client's request goes through the host's server to a replayed handler.
    Front,
    /// A replayed answer is judged.
    Judgement,
    /// The request body, or the whole request, is built from the recorded inputs.
    Body,
    /// Checked by name: with a real handler process in `tests/`, or in `readiness` and `options`.
    Process,
    /// Not modelled, and why.
    Not(&'static str),
}

const DOTNET_TYPE: &str = "a .NET value that no trigger of this host ever holds";
const EVENT_GRID: &str = "Event Grid is not modelled";
const BATCH: &str = "cardinality many and dataType stream are not modelled";

fn check(case: &str) -> Check {
    let not = |reason| Check::Not(reason);
    match case {
        "meta" => not("describes the recording"),
        "forward-keepalive-answer-204"
        | "forward-keepalive-answer-304"
        | "forward-keepalive-answer-200-empty"
        | "forward-keepalive-answer-200" => Check::Front,
        "client-timeout-5min" | "client-timeout-none" | "client-timeout-30min" => not(
            "a second limit above functionTimeout that never takes effect while functionTimeout kills the handler",
        ),
        "client-status-0" => not("a status line that the HTTP library cannot write; the client gets 500"),
        "client-header-content-length" => {
            not("a Content-Length that contradicts the body; this host sends the body's own length")
        }
        "client-logs-category-detail" => not("log categories are not modelled"),
        "concurrency-200" => {
            not("a measurement of .NET's connection pool; this host opens one connection per request")
        }
        "traceparent-with-activity" => not("this host has no distributed tracing"),
        "legacy-startup-logs" | "host-function-order" => Check::Body,
        "trigger-parameter-types" => not("names of .NET types"),
        "default-retrycontext-third-with-exception" => {
            not("a serialised .NET exception; this host gives its class and message only")
        }
        "resp-invalid-json-secret" => not("secret masking in logs is not modelled"),
        "queue-shape" | "queue-host-plain" => not("storage queue triggers are not modelled"),
        "sb-host-workermany"
        | "sb-host-workermanybin"
        | "sb-host-workermanynotype"
        | "sb-host-workerstream" => not(BATCH),
        "out-host-one-output-fails" => {
            not("storage queue outputs, of which one fails here, are not modelled")
        }
        "ready-hangs-client-timeout-2s" | "ready-hangs-client-timeout-6min" => {
            not("the HTTP client's own timeout during the probe")
        }
        "ready-302-to-hang-free-path" | "ready-302-to-dead-port" => {
            not("the probe does not follow redirects")
        }
        "ready-cancelled" => not("cancellation of the probe from outside"),
        "proc-chmod-linux-consumption" => not("needs the environment of the Linux Consumption plan"),
        "timer-status-writes" => Check::Process,
        "callasync-events" => not(EVENT_GRID),
        _ => match case.split('-').next().unwrap_or_default() {
            "forward" | "http" if !case.starts_with("http-out") => Check::Front,
            "client" | "legacy" | "retry" => Check::Front,
            "resp" | "out" | "http" | "redirect" | "cookie" => Check::Judgement,
            "default" if bodies::value_of(case).is_none() && case.starts_with("default-value-") => {
                not(DOTNET_TYPE)
            }
            "default" | "overlay" | "servicebus" | "sb" | "timer" | "callasync" | "q1" | "redirected" => {
                Check::Body
            }
            "ready" | "proc" | "options" => Check::Process,
            "eventgrid" => not(EVENT_GRID),
            _ => not("unknown"),
        },
    }
}

/// All cases by name.
static TRACES: LazyLock<BTreeMap<String, Recorded>> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/host-traces/traces.jsonl");
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| {
            let trace: Recorded = serde_json::from_str(line).unwrap();
            (trace["case"].as_str().unwrap().to_owned(), trace)
        })
        .collect()
});

fn cases(of: &Check) -> Vec<(&'static str, &'static Recorded)> {
    TRACES.iter().filter(|(case, _)| check(case) == *of).map(|(case, trace)| (case.as_str(), trace)).collect()
}

/// Collects differences so that one run shows all of them.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, case: &str, what: &str, recorded: T, ours: T) {
        if recorded != ours {
            self.0.push(format!("{case}: {what}\n  recorded {recorded:?}\n  ours     {ours:?}"));
        }
    }

    fn none(self) {
        assert!(self.0.is_empty(), "{} differences\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Replaces what differs from run to run, as the recording did.
fn normalized(text: &str, handler_port: u16) -> String {
    let mut text = text.replace(&format!("127.0.0.1:{handler_port}"), "127.0.0.1:8080");
    for (name, fixed) in [
        ("\"UtcNow\":\"", "2026-01-01T00:00:00.1234567Z"),
        ("\"RandGuid\":\"", "00000000-0000-0000-0000-0000000000aa"),
    ] {
        let mut from = 0;
        while let Some(at) = text[from..].find(name) {
            let start = from + at + name.len();
            let end = start + text[start..].find('"').unwrap();
            text.replace_range(start..end, fixed);
            from = start;
        }
    }
    text
}

#[test]
fn every_recorded_case_is_accounted_for() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for case in TRACES.keys() {
        let kind = match check(case) {
            Check::Front => "front",
            Check::Judgement => "judgement",
            Check::Body => "body",
            Check::Process => "process",
            Check::Not("unknown") => panic!("{case} is not accounted for"),
            Check::Not(_) => "not modelled",
        };
        *counts.entry(kind).or_default() += 1;
    }
    assert_eq!(TRACES.len(), 606);
    assert_eq!(
        counts,
        BTreeMap::from([
            ("front", 226),
            ("judgement", 197),
            ("body", 86),
            ("process", 39),
            ("not modelled", 58)
        ])
    );
}
