//! Trace ids that are correlation ids, so that one id finds a request in logs, traces and Azure's activity log.

use ajar_access::correlation;
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

#[derive(Debug, Default)]
pub(crate) struct TraceIds(RandomIdGenerator);

impl IdGenerator for TraceIds {
    fn new_trace_id(&self) -> TraceId {
        correlation::current().map_or_else(|| self.0.new_trace_id(), |id| TraceId::from(id.as_u128()))
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}
