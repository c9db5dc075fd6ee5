//! The custom handler executable: configuration -> adapters -> functions -> serve.

mod adapters;
mod compliance_step;
mod compliance_sweep;
mod configuration;
#[cfg(test)]
mod deployed_settings;
mod evaluate_vm;
mod functions;
mod notify;
mod process_request;
mod reconcile;
mod sweep_expired;
mod system;
mod templates;

use custom_handler::Exit;

fn main() -> Exit {
    custom_handler::logging::init();
    custom_handler::run(async {
        let configuration = configuration::Configuration::from_variables(|name| std::env::var(name).ok())?;
        let world = adapters::connect(&configuration)?;
        Ok::<_, configuration::ConfigurationError>(functions::functions(world))
    })
}
