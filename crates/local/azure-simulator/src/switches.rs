//! What a run may turn: latency, asynchronous writes, overlapping writes, paging, throttling.

use serde::{Deserialize, Serialize};

/// How the simulator behaves; read and changed at `/sim/switches` too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Switches {
    /// Milliseconds before any read takes effect and is answered. Default 0.
    pub read_latency_ms: u64,
    /// Milliseconds before any write or deletion takes effect and is answered. Default 0.
    pub write_latency_ms: u64,
    /// Writes are answered at once with `provisioningState: Updating`, and packets meet the change only when
    /// the operation ends. Default false: the answer says `Succeeded` and is true.
    pub asynchronous: bool,
    /// Milliseconds that an asynchronous operation takes. Default 200.
    pub operation_latency_ms: u64,
    /// What happens to a write on a resource whose earlier operation still runs.
    pub overlap: Overlap,
    /// How often that happens, from 0 (never: writes are serialised) to 1 (always, the default).
    pub overlap_probability: f64,
    /// `If-Match` on whole resources is obeyed (412). Default true; false ignores the header.
    pub honour_if_match: bool,
    /// Resources on one page of a list, at least 1. Default 100.
    pub page_size: usize,
    /// Token buckets per subscription, principal and kind of call.
    pub throttle: Throttle,
    /// `Retry-After` on accepted writes, in seconds. Default 10, as recorded on Azure.
    pub retry_after_seconds: u64,
    /// Life of issued tokens, in seconds. Default 3600.
    pub token_lifetime_seconds: u32,
    /// The most milliseconds that an event of a write is late; how much is drawn for each, so that events overtake one
    /// another. Default 0.
    pub event_delay_ms: u64,
    /// How often an event is delivered twice, from 0 (never, the default) to 1 (always).
    pub event_doubled_probability: f64,
    /// Resource Graph shows the resources as they were when it was first asked with this on. Default false: it shows
    /// what Azure Resource Manager shows.
    pub resource_graph_held_back: bool,
}

/// A write that meets a running operation on the same resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Overlap {
    /// Operations run one after the other; both succeed.
    Serialise,
    /// The earlier operation ends `Canceled` (`CanceledAndSupersededDueToAnotherOperation`); its change is part
    /// of what the later one carries out.
    Supersede,
    /// The same, and the earlier change is lost.
    SupersedeAndLose,
    /// The later write is refused: 429 `RetryableErrorDueToAnotherOperation`.
    Refuse,
}

/// Token buckets, one per subscription, principal and kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Throttle {
    /// GET.
    pub reads: Bucket,
    /// PUT, PATCH and POST.
    pub writes: Bucket,
    /// DELETE.
    pub deletes: Bucket,
}

/// One bucket's size and refill.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bucket {
    /// Calls that may come at once.
    pub capacity: u32,
    /// Calls that come back each second.
    pub per_second: u32,
}

impl Throttle {
    /// Azure Resource Manager's own limits: reads 250 refilling 25/s, writes and deletes 200 refilling 10/s.
    pub fn azure() -> Self {
        let changes = Bucket { capacity: 200, per_second: 10 };
        Self { reads: Bucket { capacity: 250, per_second: 25 }, writes: changes, deletes: changes }
    }
}

impl Default for Throttle {
    /// Forty times Azure's, so that only a test that asks for throttling meets it.
    fn default() -> Self {
        let changes = Bucket { capacity: 8000, per_second: 400 };
        Self { reads: Bucket { capacity: 10_000, per_second: 1000 }, writes: changes, deletes: changes }
    }
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            read_latency_ms: 0,
            write_latency_ms: 0,
            asynchronous: false,
            operation_latency_ms: 200,
            overlap: Overlap::Serialise,
            overlap_probability: 1.0,
            honour_if_match: true,
            page_size: 100,
            throttle: Throttle::default(),
            retry_after_seconds: 10,
            token_lifetime_seconds: 3600,
            event_delay_ms: 0,
            event_doubled_probability: 0.0,
            resource_graph_held_back: false,
        }
    }
}
