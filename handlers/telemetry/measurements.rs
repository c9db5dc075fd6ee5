//! Turns the events of `ajar_access::metrics` into OpenTelemetry metrics.

use ajar_access::metrics::{Kind, Metric, TARGET};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use std::collections::HashMap;
use std::fmt::Debug;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Bounds in seconds: what people wait for a port to open, from at once to given up.
const SECONDS: [f64; 11] = [0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0];

pub(crate) struct Measurements {
    instruments: HashMap<Metric, Instrument>,
    /// Exports as long as it is there.
    _provider: SdkMeterProvider,
}

enum Instrument {
    Count(Counter<f64>),
    Gauge(Gauge<f64>),
    Distribution(Histogram<f64>),
}

impl Measurements {
    pub(crate) fn new(meter: &Meter, provider: SdkMeterProvider) -> Measurements {
        let instrument = |metric: Metric| {
            let (name, unit) = (metric.name(), metric.unit());
            match metric.kind() {
                Kind::Count => Instrument::Count(meter.f64_counter(name).with_unit(unit).build()),
                Kind::Gauge => Instrument::Gauge(meter.f64_gauge(name).with_unit(unit).build()),
                Kind::Distribution => Instrument::Distribution(
                    meter.f64_histogram(name).with_unit(unit).with_boundaries(SECONDS.to_vec()).build(),
                ),
            }
        };
        let instruments = Metric::ALL.into_iter().map(|metric| (metric, instrument(metric))).collect();
        Measurements { instruments, _provider: provider }
    }
}

impl<S: Subscriber> Layer<S> for Measurements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut found = Fields::default();
        event.record(&mut found);
        let instrument = found.metric.and_then(|metric| self.instruments.get(&metric));
        let (Some(instrument), Some(value)) = (instrument, found.value) else { return };
        let reason = (!found.reason.is_empty()).then(|| KeyValue::new("reason", found.reason));
        let attributes = reason.as_slice();
        match instrument {
            Instrument::Count(counter) => counter.add(value, attributes),
            Instrument::Gauge(gauge) => gauge.record(value, attributes),
            Instrument::Distribution(histogram) => histogram.record(value, attributes),
        }
    }
}

#[derive(Default)]
struct Fields {
    metric: Option<Metric>,
    value: Option<f64>,
    reason: String,
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "value" {
            self.value = Some(value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "metric" => self.metric = Metric::named(value),
            "reason" => value.clone_into(&mut self.reason),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
