//! The custom handler executable: configuration -> adapters -> functions -> serve.

mod adapters;
mod cause;
mod compliance_step;
mod compliance_sweep;
mod configuration;
#[cfg(test)]
mod deployed_settings;
mod evaluate_vm;
mod functions;
mod notify;
mod organisation_policies;
mod process_request;
mod reconcile;
mod sweep_expired;
mod system;
mod telemetry;
mod templates;

use custom_handler::Exit;

fn main() -> Exit {
    let (layer, problem) = match telemetry::layer() {
        Ok(layer) => (layer, None),
        Err(problem) => (None, Some(problem)),
    };
    custom_handler::logging::init_with(layer);
    if let Some(error) = problem {
        tracing::error!(%error, "no telemetry is sent: see the settings OTEL_*");
    }
    custom_handler::run(async {
        telemetry::connect();
        let configuration = configuration::Configuration::from_variables(|name| std::env::var(name).ok())?;
        let world = adapters::connect(&configuration)?;
        Ok::<_, configuration::ConfigurationError>(functions::functions(world))
    })
}
