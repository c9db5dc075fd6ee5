//! A simulator of the sample estate with a clock that stands still, and short ways to talk to it.

use std::sync::Arc;

use azure_simulator::{ManualClock, Request, Response, Simulator};
use http::Method;
use serde_json::{Value, json};

pub(crate) const SAMPLE: &str = include_str!("../../../sample-estate.json");
pub(crate) const SUBSCRIPTION: &str = "/subscriptions/11111111-1111-1111-1111-111111111111";
pub(crate) const GROUP: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/demo-rg";
pub(crate) const APP: &str = "ajar-identity";

pub(crate) fn network(rest: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Network/{rest}")
}

pub(crate) fn machine(name: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Compute/virtualMachines/{name}")
}

pub(crate) struct Machine {
    pub(crate) azure: Simulator,
    pub(crate) clock: ManualClock,
}

impl Machine {
    /// The sample estate, in which the application may also read what Ajar has no use for: rules one by one, groups and subscriptions.
    pub(crate) fn new() -> Self {
        let own = "\"Microsoft.Network/networkSecurityGroups/read\",";
        let more = "\"Microsoft.Network/networkSecurityGroups/securityRules/read\", \
                    \"Microsoft.Resources/subscriptions/read\", \
                    \"Microsoft.Resources/subscriptions/resourceGroups/read\",";
        assert!(SAMPLE.contains(own), "the application's role is in the sample estate");
        Self::of(&SAMPLE.replace(own, &format!("{own} {more}")))
    }

    pub(crate) fn of(estate: &str) -> Self {
        let clock = ManualClock::new("2026-11-24T12:00:00Z".parse().unwrap());
        let azure = Simulator::new(estate, Arc::new(clock.clone()), 7).unwrap();
        Self { azure, clock }
    }

    /// A call as the application's identity.
    pub(crate) fn call(&mut self, method: Method, path: &str, body: Option<Value>) -> Response {
        self.call_as(APP, method, path, body)
    }

    pub(crate) fn call_as(&mut self, who: &str, method: Method, path: &str, body: Option<Value>) -> Response {
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut request = Request::new(method, &format!("{path}{mark}api-version=2024-05-01"));
        if let Some(body) = body {
            request = request.with_json(&body);
        }
        self.azure.handle_as(who, &request).answer().unwrap()
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.call(Method::GET, path, None)
    }

    pub(crate) fn put(&mut self, path: &str, body: Value) -> Response {
        self.call(Method::PUT, path, Some(body))
    }

    pub(crate) fn delete(&mut self, path: &str) -> Response {
        self.call(Method::DELETE, path, None)
    }

    /// Follows an answer's `Azure-AsyncOperation`.
    pub(crate) fn operation(&mut self, response: &Response) -> Value {
        let url = response.headers["azure-asyncoperation"].to_str().unwrap();
        let path = url.strip_prefix("http://127.0.0.1:7072").unwrap();
        let request = Request::new(Method::GET, path);
        self.azure.handle_as(APP, &request).answer().unwrap().value().clone()
    }

    /// Whether a packet arrives, and the rules that decided.
    pub(crate) fn probe(
        &mut self,
        source: &str,
        destination: &str,
        port: u16,
        protocol: &str,
    ) -> (bool, Vec<String>) {
        let packet = serde_json::from_value(json!({
            "source": source, "destination": destination, "port": port, "protocol": protocol,
        }));
        let verdict = self.azure.probe(&packet.unwrap()).unwrap();
        (verdict.allowed, verdict.by.into_iter().map(|decision| decision.rule).collect())
    }
}

/// A rule that Azure accepts, with some properties replaced; `null` removes one.
pub(crate) fn rule(changes: Value) -> Value {
    let mut properties = json!({
        "protocol": "Tcp", "sourcePortRange": "*", "destinationPortRange": "22", "sourceAddressPrefix": "203.0.113.7",
        "destinationAddressPrefix": "10.0.1.4", "access": "Allow", "priority": 1000, "direction": "Inbound",
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            properties.as_object_mut().unwrap().remove(name);
        } else {
            properties[name] = value.clone();
        }
    }
    json!({"properties": properties})
}
