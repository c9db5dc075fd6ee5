//! Which function does what: each name is a folder here with its `function.json`.

use crate::adapters::World;
use crate::{
    cause, compliance_step, compliance_sweep, evaluate_vm, notify, process_request, reconcile, sweep_expired,
};
use ajar_access::Ajar;
use custom_handler::Functions;

/// Registers every function. `api` and `azure_api` are HTTP functions: their requests reach the router.
pub(crate) fn functions(World { ajar, authenticator, front_end }: World) -> Functions {
    let with = |ajar: &Ajar| ajar.clone();
    let (requests, points, sweeps, events) = (with(&ajar), with(&ajar), with(&ajar), with(&ajar));
    let (notifications, estate, steps) = (with(&ajar), with(&ajar), with(&ajar));
    Functions::new()
        .http(ajar_http_api::router(ajar, authenticator, front_end))
        .queue("evaluate_vm", move |message, invocation| {
            let ajar = events.clone();
            cause::of_message(message, invocation, "evaluate_vm", |message| evaluate_vm::run(ajar, message))
        })
        .queue("process_request", move |message, invocation| {
            let ajar = requests.clone();
            cause::of_message(message, invocation, "process_request", |message| {
                process_request::run(ajar, message)
            })
        })
        .queue("reconcile", move |message, invocation| {
            let ajar = points.clone();
            cause::of_message(message, invocation, "reconcile", |message| reconcile::run(ajar, message))
        })
        .queue("notify", move |message, invocation| {
            let ajar = notifications.clone();
            cause::of_message(message, invocation, "notify", |message| notify::run(ajar, message))
        })
        .queue("compliance_step", move |message, invocation| {
            let ajar = steps.clone();
            cause::of_message(message, invocation, "compliance_step", |message| {
                compliance_step::run(ajar, message)
            })
        })
        .timer("compliance_sweep", move |event, _| compliance_sweep::run(estate.clone(), event))
        .timer("sweep_expired", move |event, _| sweep_expired::run(sweeps.clone(), event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ajar_access::testing::{FakeAuthenticator, World as Fakes};
    use ajar_http_api::FrontEnd;
    use std::sync::Arc;

    #[test]
    fn every_folder_is_registered_with_its_trigger_and_nothing_else_is() {
        let world = World {
            ajar: Fakes::new().ajar,
            authenticator: Arc::new(FakeAuthenticator),
            front_end: FrontEnd::default(),
        };
        let registered = functions(world);
        assert_eq!(registered.check_against(env!("CARGO_MANIFEST_DIR")), Ok(()));
        assert_eq!(registered.names().count(), 7);
    }
}
