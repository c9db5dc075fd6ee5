//! Traces and metrics over OTLP, when `OTEL_EXPORTER_OTLP_ENDPOINT` says where to. Without it nothing of OpenTelemetry
//! is set up, and the log lines hold the same values.
//!
//! The standard's own variables are the settings: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_METRIC_EXPORT_INTERVAL`,
//! `OTEL_SERVICE_NAME` and so on.

mod collector;
mod measurements;
mod trace_ids;

use collector::Collector;
use measurements::Measurements;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::sync::Arc;
use trace_ids::TraceIds;
use tracing::Metadata;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::Registry;

pub(crate) use collector::connect;

/// The setting that turns it on: the base address of an OTLP receiver that speaks http/protobuf.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// What traces and metrics say they are of, unless `OTEL_SERVICE_NAME` says otherwise.
const SERVICE: &str = "ajar";

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The layer that sends traces and metrics, when that is wanted and works.
///
/// # Errors
/// What is wrong with the settings: the executable then starts without telemetry, since closing ports matters more.
pub(crate) fn layer() -> Result<Option<BoxedLayer>, ExporterBuildError> {
    match std::env::var(ENDPOINT) {
        Ok(endpoint) if !endpoint.trim().is_empty() => build().map(Some),
        _ => Ok(None),
    }
}

fn build() -> Result<BoxedLayer, ExporterBuildError> {
    let collector = Arc::new(Collector::new());
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(SERVICE);
    }
    let resource = resource.build();
    let spans = SpanExporter::builder().with_http().with_shared_http_client(collector.clone()).build()?;
    let tracer = SdkTracerProvider::builder()
        .with_batch_exporter(spans)
        .with_id_generator(TraceIds::default())
        .with_resource(resource.clone())
        .build()
        .tracer(SERVICE);
    let metrics = MetricExporter::builder().with_http().with_shared_http_client(collector).build()?;
    let meters = SdkMeterProvider::builder().with_periodic_exporter(metrics).with_resource(resource).build();
    let measurements = Measurements::new(&meters.meter(SERVICE), meters);
    let traces = tracing_opentelemetry::layer().with_tracer(tracer).with_filter(filter_fn(is_traced));
    Ok(Box::new(traces.and_then(measurements)))
}

/// Ajar's own spans. Not those of the protocol with the host, which belong to the host's trace; and no log lines, whose
/// fields the never-log list of the logs guards.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("ajar")
}
