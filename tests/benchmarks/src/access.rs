//! `access`: how soon a granted port is open and an ended one shut, in the whole stack: the packaged executable
//! in the local Functions host, Azurite or the embedded store, and a simulated Azure Resource Manager with a latency of 150 ms.
//!
//! `access [PLOT]` measures everything and draws it; `access GRANTS/NSGS...` measures some of it only.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot be carried out ends"
)]

mod effort;
mod invocation;
mod open_vms;
mod plot;

use azure_simulator::Packet;
use end_to_end_tests::{Stack, sample_estate};
use jiff::{SignedDuration, Timestamp};
use open_vms::{open_vms, vm};
use plot::Bar;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const ARM_LATENCY_MS: u64 = 150;

/// Longer than any opening or closing may take here.
const PATIENCE: Duration = Duration::from_secs(120);

/// A granted source, and what was seen of it.
struct Case {
    vm: String,
    source: String,
    request: String,
    accepted: Instant,
    opened: Option<Duration>,
    shut: Option<Duration>,
}

/// When the grants of a run begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// As soon as each is granted.
    AtOnce,
    /// All in the same second, and so they end in the same second.
    Together,
}

/// Where the state is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In Azurite: every call of the store takes its turn in one thread of JavaScript.
    Azurite,
    /// In the embedded store.
    Embedded,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Azurite => "Azurite",
            State::Embedded => "embedded",
        }
    }
}

/// How often it is looked whether Azure was written to.
const GLANCE: Duration = Duration::from_millis(5);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (wanted, plot): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| is_case(argument));
    println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    println!(
        "| store | grants | NSGs | begin | accepted within, s | open p50, ms | open p99, ms | close p50, ms | close p99, ms | writes to open | bar (6 M) | writes to close | bar (2 M) |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut bars = Vec::new();
    for (state, grants, nsgs, begin) in CASES {
        if wanted.is_empty() || wanted.iter().any(|case| **case == format!("{grants}/{nsgs}")) {
            measure(state, grants, nsgs, begin, &mut bars).await;
        }
    }
    if let Some(path) = plot.first().filter(|_| wanted.is_empty()) {
        let title =
            "Open after acceptance or start (blue), shut after the end (green): median / 99th percentile";
        std::fs::write(path, plot::svg(title, &bars)).unwrap();
    }
}

/// What is measured: where the state is, grants, NSGs, and when they begin.
const CASES: [(State, usize, usize, Start); 9] = [
    (State::Azurite, 1, 1, Start::AtOnce),
    (State::Azurite, 100, 1, Start::AtOnce),
    (State::Azurite, 100, 10, Start::AtOnce),
    (State::Azurite, 100, 100, Start::AtOnce),
    (State::Embedded, 100, 100, Start::AtOnce),
    (State::Azurite, 1000, 1, Start::Together),
    (State::Azurite, 1000, 10, Start::Together),
    (State::Azurite, 1000, 100, Start::Together),
    (State::Embedded, 1000, 100, Start::Together),
];

fn is_case(argument: &str) -> bool {
    let (grants, nsgs) = argument.split_once('/').unwrap_or_default();
    !grants.is_empty() && grants.bytes().chain(nsgs.bytes()).all(|byte| byte.is_ascii_digit())
}

async fn measure(state: State, grants: usize, nsgs: usize, begin: Start, bars: &mut Vec<Bar>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ajar.redb").display().to_string();
    let embedded = [("AJAR_TABLES_ENDPOINT", ""), ("AJAR_BLOBS_ENDPOINT", ""), ("AJAR_STORE_FILE", &*file)];
    let settings: &[_] = if state == State::Embedded { &embedded } else { &[] };
    let stack = Stack::start_with(&estate(nsgs), settings).await;
    let mut policies = JoinSet::new();
    for index in 0..nsgs {
        let body = json!({ "vm": vm(index), "ports": [{ "port": 22 }], "minimumDuration": "PT1S" });
        let request =
            stack.request(Method::PUT, "/api/policies").bearer_auth(stack.token("alice")).json(&body);
        policies.spawn(request.send());
        if policies.len() >= 16 {
            policies.join_next().await;
        }
    }
    while let Some(answer) = policies.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status(), StatusCode::OK);
    }
    stack
        .eventually("every VM is shut", PATIENCE, async |stack| {
            (0..nsgs).all(|index| !passes(stack, "203.0.113.1", &vm(index))) && stack.is_at_rest()
        })
        .await;
    stack.azure.with(|azure| {
        azure.switches_mut().read_latency_ms = ARM_LATENCY_MS;
        azure.switches_mut().write_latency_ms = ARM_LATENCY_MS;
    });
    if (state, grants, nsgs) == (State::Azurite, 100, 10) {
        let each = invocation::cost(&stack, nsgs).await;
        eprintln!(
            "an invocation of reconcile that finds all as it should be: {} µs of CPU time",
            each.as_micros()
        );
    }

    let (cpu, invoked) = (effort::cpu_times(), effort::invocations(&stack.log()));
    // Long enough that everything is open before the first one ends.
    let seconds = 10 + grants / 25;
    let before = stack.write_count();
    let asking = Instant::now();
    let start = Timestamp::now() + SignedDuration::from_secs(15 + i64::try_from(grants / 20).unwrap());
    let start = Timestamp::from_second(start.as_second()).unwrap();
    let token = stack.token("bob");
    let mut asked = JoinSet::new();
    let mut cases = Vec::new();
    for index in 0..grants {
        let (vm, source) = (vm(index % nsgs), format!("198.18.{}.{}", index / 250, index % 250 + 1));
        let mut body = json!({ "vm": vm, "ports": [{ "port": 22, "sources": [source] }],
            "duration": format!("PT{seconds}S") });
        if begin == Start::Together {
            body["start"] = json!(start.to_string());
            // People who plan ahead do not all ask at once.
            while asked.len() >= 32 {
                cases.push(asked.join_next().await.unwrap().unwrap());
            }
        }
        let request = stack.request(Method::POST, "/api/requests").bearer_auth(&token).json(&body);
        asked.spawn(async move {
            let answer = request.send().await.unwrap();
            let accepted = Instant::now();
            assert_eq!(answer.status(), StatusCode::ACCEPTED);
            let body: Value = answer.json().await.unwrap();
            let request = body["id"].as_str().unwrap().to_owned();
            Case { vm, source, request, accepted, opened: None, shut: None }
        });
    }
    let mut accepted_within = None;
    let started = Instant::now();
    let mut written = u64::MAX;
    while cases.len() < grants || cases.iter().any(|case: &Case| case.opened.is_none()) {
        assert!(started.elapsed() < PATIENCE, "not open in time\n{}", stack.log());
        while let Some(case) = asked.try_join_next() {
            cases.push(case.unwrap());
            written = u64::MAX;
        }
        if cases.len() == grants {
            accepted_within.get_or_insert(asking.elapsed());
        }
        // Only a write to Azure opens anything.
        let now = stack.write_count();
        if now != written {
            written = now;
            for case in cases.iter_mut().filter(|case| case.opened.is_none()) {
                if passes(&stack, &case.source, &case.vm) {
                    case.opened = Some(match begin {
                        Start::AtOnce => case.accepted.elapsed(),
                        Start::Together => since(start),
                    });
                }
            }
        }
        tokio::time::sleep(GLANCE).await;
    }
    let opening = stack.write_count() - before;
    let (cpu_open, invoked_open) = (effort::cpu_times(), effort::invocations(&stack.log()));

    let mut ends = Vec::new();
    for case in &cases {
        ends.push(match begin {
            Start::Together => start + SignedDuration::from_secs(i64::try_from(seconds).unwrap()),
            Start::AtOnce => {
                let path = format!("/api/requests/{}", case.request);
                let answer = stack.call_as("bob", Method::GET, &path, None).await;
                answer.body["end"].as_str().unwrap().parse().unwrap()
            }
        });
    }
    let before = stack.write_count();
    let started = Instant::now();
    let mut written = u64::MAX;
    while cases.iter().any(|case| case.shut.is_none()) {
        assert!(started.elapsed() < PATIENCE, "not shut in time\n{}", stack.log());
        let now = stack.write_count();
        if now != written {
            written = now;
            for (case, end) in cases.iter_mut().zip(&ends).filter(|(case, _)| case.shut.is_none()) {
                if !passes(&stack, &case.source, &case.vm) {
                    case.shut = Some(since(*end));
                }
            }
        }
        tokio::time::sleep(GLANCE).await;
    }
    let closing = stack.write_count() - before;
    let opened: Vec<Duration> = cases.iter().filter_map(|case| case.opened).collect();
    let shut: Vec<Duration> = cases.iter().filter_map(|case| case.shut).collect();
    let within = accepted_within.unwrap_or_default().as_secs_f64();
    let begins = if begin == Start::Together { "together" } else { "at once" };
    println!(
        "| {} | {grants} | {nsgs} | {begins} | {within:.1} | {} | {} | {} | {} | {opening} | {} | {closing} | {} |",
        state.name(),
        percentile(&opened, 50),
        percentile(&opened, 99),
        percentile(&shut, 50),
        percentile(&shut, 99),
        6 * nsgs,
        2 * nsgs,
    );
    eprintln!(
        "until all were open: CPU, s: {}; invocations: {}",
        effort::spent(&cpu, &cpu_open),
        effort::more(&invoked, &invoked_open)
    );
    eprintln!(
        "from then on until all were shut: CPU, s: {}; invocations: {}",
        effort::spent(&cpu_open, &effort::cpu_times()),
        effort::more(&invoked_open, &effort::invocations(&stack.log()))
    );
    for (what, figures, colour) in [("open", &opened, "#1f77b4"), ("shut", &shut, "#2ca02c")] {
        bars.push(Bar {
            name: format!("{}, {grants} on {nsgs} NSGs, {begins}: {what}", state.name()),
            median: percentile(figures, 50),
            most: percentile(figures, 99),
            colour,
        });
    }
    stack.stop().await;
}

/// How long ago a moment was; nothing for one that is to come.
fn since(moment: Timestamp) -> Duration {
    Timestamp::now().duration_since(moment).try_into().unwrap_or_default()
}

fn percentile(figures: &[Duration], percent: usize) -> u128 {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_millis()
}

fn passes(stack: &Stack, source: &str, vm: &str) -> bool {
    let packet = Packet {
        source: source.to_owned(),
        source_port: 50_000,
        source_tags: Vec::new(),
        destination: vm.to_owned(),
        port: 22,
        protocol: "Tcp".to_owned(),
    };
    stack.azure.with(|azure| azure.probe(&packet)).unwrap().allowed
}

/// The people and roles of the sample estate, and `nsgs` VMs, each behind an NSG of its own that lets everybody in.
fn estate(nsgs: usize) -> String {
    let sample: Vec<Value> = serde_json::from_str(&sample_estate()).unwrap();
    let mut resources: Vec<Value> = sample
        .into_iter()
        .filter(|resource| {
            let kind = resource["type"].as_str().unwrap_or_default();
            !kind.starts_with("Microsoft.Network/") && !kind.starts_with("Microsoft.Compute/")
        })
        .collect();
    resources.extend(open_vms(nsgs));
    serde_json::to_string(&resources).unwrap()
}
