//! `/sim` and `/dev`: what a test or a person turns. No tokens: the simulator listens on loopback only.

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::entra;
use crate::exchange::{Refusal, Request, Response};
use crate::faults::Fault;
use crate::probe::{self, Packet};
use crate::simulator::Simulator;
use crate::switches::Switches;

pub(crate) fn answer(simulator: &mut Simulator, request: &Request) -> Response {
    let outcome = if request.path.starts_with("/sim/") {
        steer(simulator, request)
    } else {
        entra::development(simulator, request)
    };
    outcome.unwrap_or_else(|refusal| refusal.response())
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| Refusal::bad("InvalidInput", error.to_string()))
}

fn body(request: &Request) -> Result<Value, Refusal> {
    serde_json::from_slice(&request.body)
        .map_err(|error| Refusal::bad("InvalidInput", format!("the body is not JSON: {error}")))
}

fn steer(simulator: &mut Simulator, request: &Request) -> Result<Response, Refusal> {
    let done = Ok(Response::empty(StatusCode::NO_CONTENT));
    match (&request.method, request.path.trim_end_matches('/')) {
        (&Method::POST, "/sim/probe") => {
            let packet: Packet = parse(body(request)?)?;
            let verdict = simulator
                .probe(&packet)
                .map_err(|error: probe::ProbeError| Refusal::bad("InvalidInput", error.to_string()))?;
            Ok(Response::json(StatusCode::OK, json!(verdict)))
        }
        (&Method::POST, "/sim/faults") => {
            let fault: Fault = parse(body(request)?)?;
            if fault.status.is_some_and(|status| StatusCode::from_u16(status).is_err()) {
                return Err(Refusal::bad("InvalidInput", "`status` must be an HTTP status."));
            }
            simulator.order_fault(fault);
            done
        }
        (&Method::GET, "/sim/faults") => Ok(Response::json(StatusCode::OK, json!(simulator.faults.0))),
        (&Method::DELETE, "/sim/faults") => {
            simulator.faults.0.clear();
            done
        }
        (&Method::GET, "/sim/log") => {
            let entries: Vec<_> = simulator.log.entries().collect();
            Ok(Response::json(StatusCode::OK, json!(entries)))
        }
        (&Method::DELETE, "/sim/log") => {
            simulator.log.clear();
            done
        }
        (&Method::GET, "/sim/writes") => Ok(Response::json(StatusCode::OK, json!(simulator.writes()))),
        (&Method::GET, "/sim/estate") => Ok(Response::json(StatusCode::OK, simulator.estate())),
        (&Method::PUT, "/sim/estate") => {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            simulator.load_estate(&text).map_err(|error| Refusal::bad("InvalidInput", error.to_string()))?;
            done
        }
        (&Method::GET, "/sim/switches") => Ok(Response::json(StatusCode::OK, json!(simulator.switches))),
        (&Method::PUT, "/sim/switches") => {
            let mut merged = json!(simulator.switches);
            let given = body(request)?;
            let Value::Object(given) = given else {
                return Err(Refusal::bad("InvalidInput", "the body must be a JSON object of switches"));
            };
            if let Some(merged) = merged.as_object_mut() {
                merged.extend(given);
            }
            simulator.switches = parse::<Switches>(merged)?;
            Ok(Response::json(StatusCode::OK, json!(simulator.switches)))
        }
        _ => Err(Refusal::not_modelled(&request.method, &request.path, "this path")),
    }
}
