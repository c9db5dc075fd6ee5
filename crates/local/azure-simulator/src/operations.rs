//! Long-running operations: what ARM shows changes at once, what packets meet changes when they end.

use std::collections::VecDeque;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::catalogue::{Kind, NETWORK_SECURITY_GROUPS};
use crate::estate::Estate;
use crate::exchange::{Refusal, Response};
use crate::network_security_group;
use crate::random::Random;
use crate::switches::{Overlap, Switches};

/// Ended operations that can still be asked about.
const REMEMBERED: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    InProgress,
    Succeeded,
    Canceled,
}

#[derive(Debug)]
struct Operation {
    id: String,
    kind: &'static Kind,
    resource: String,
    due: Timestamp,
    before: Option<Value>,
    after: Option<Value>,
}

impl Operation {
    fn is_on(&self, resource: &str) -> bool {
        self.resource.eq_ignore_ascii_case(resource)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// In the order of their start; on one resource also in the order of their ends.
    running: Vec<Operation>,
    ended: VecDeque<(String, Status)>,
}

/// What a write starts from.
pub(crate) struct Base {
    pub(crate) existing: Option<Value>,
    supersedes: bool,
}

/// A write's outcome.
pub(crate) struct Written {
    pub(crate) operation: String,
    /// The resource as ARM now shows it; `None` after a deletion that is complete.
    pub(crate) shown: Option<Value>,
}

impl Operations {
    /// Carries out what has come due.
    pub(crate) fn settle(&mut self, estate: &mut Estate, random: &mut Random, now: Timestamp) {
        loop {
            let due = self.running.iter().enumerate().filter(|(_, operation)| operation.due <= now);
            let Some((next, _)) = due.min_by_key(|(_, operation)| operation.due) else { return };
            let Operation { id, kind, resource, after, .. } = self.running.remove(next);
            self.end(id, Status::Succeeded);
            let deleted = after.is_none();
            let packets = after.map(|mut packets| {
                set_state(kind, &mut packets, None, "Succeeded");
                packets
            });
            estate.data.put(kind.name, &resource, packets);
            if self.running.iter().any(|other| other.is_on(&resource)) {
                continue;
            }
            let current = estate.control.get(kind.name, &resource).filter(|_| !deleted).cloned();
            let shown = current.map(|mut shown| {
                // Ending changes the resource's state, and with it its etag, on Azure as here.
                let etag = kind.has_etag().then(|| etag(random));
                set_state(kind, &mut shown, etag.as_deref(), "Succeeded");
                shown
            });
            estate.put_control(kind.name, &resource, shown);
        }
    }

    fn end(&mut self, id: String, status: Status) {
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((id, status));
    }

    /// What a write to the resource starts from, given what is still running there.
    pub(crate) fn base(
        &self,
        estate: &Estate,
        kind: &'static Kind,
        resource: &str,
        switches: &Switches,
        random: &mut Random,
    ) -> Result<Base, Refusal> {
        let current = estate.control.get(kind.name, resource).cloned();
        let first = self.running.iter().find(|operation| operation.is_on(resource));
        let Some(first) = first else { return Ok(Base { existing: current, supersedes: false }) };
        if switches.overlap == Overlap::Serialise || !random.chance(switches.overlap_probability) {
            return Ok(Base { existing: current, supersedes: false });
        }
        match switches.overlap {
            Overlap::Serialise => Ok(Base { existing: current, supersedes: false }),
            Overlap::Supersede => Ok(Base { existing: current, supersedes: true }),
            Overlap::SupersedeAndLose => Ok(Base { existing: first.before.clone(), supersedes: true }),
            Overlap::Refuse => Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "RetryableErrorDueToAnotherOperation",
                format!(
                    "Operation on resource {resource} is conflicting with another operation {}.",
                    first.id
                ),
            )
            .with_retry_after(1)),
        }
    }

    /// Writes a resource (`None` deletes it): at once, or as an operation.
    #[expect(clippy::too_many_arguments, reason = "one write needs the whole machine beside what is written")]
    pub(crate) fn write(
        &mut self,
        estate: &mut Estate,
        random: &mut Random,
        switches: &Switches,
        now: Timestamp,
        kind: &'static Kind,
        resource: &str,
        base: &Base,
        after: Option<Value>,
    ) -> Written {
        let id = random.guid();
        let etag = kind.has_etag().then(|| etag(random));
        let state = match (&after, switches.asynchronous) {
            (_, false) => "Succeeded",
            (Some(_), true) => "Updating",
            (None, true) => "Deleting",
        };
        let mut after = after;
        if let Some(after) = &mut after {
            set_state(kind, after, etag.as_deref(), state);
        }
        // A synchronous write is true when it is answered, so that nothing may still come after it.
        let ends = match (base.supersedes, switches.asynchronous) {
            (true, _) => Some(Status::Canceled),
            (false, false) => Some(Status::Succeeded),
            (false, true) => None,
        };
        if let Some(status) = ends {
            let (ended, running) = std::mem::take(&mut self.running)
                .into_iter()
                .partition(|operation| operation.is_on(resource));
            self.running = running;
            let ended: Vec<Operation> = ended;
            ended.into_iter().for_each(|operation| self.end(operation.id, status));
        }
        let shown = match (&after, switches.asynchronous) {
            (Some(after), _) => Some(after.clone()),
            (None, false) => None,
            (None, true) => base.existing.clone().map(|mut existing| {
                set_state(kind, &mut existing, etag.as_deref(), state);
                existing
            }),
        };
        estate.put_control(kind.name, resource, shown.clone());
        if switches.asynchronous {
            let earlier = self.running.iter().filter(|operation| operation.is_on(resource));
            let start = earlier.map(|operation| operation.due).fold(now, Timestamp::max);
            let latency = Duration::from_millis(switches.operation_latency_ms);
            self.running.push(Operation {
                id: id.clone(),
                kind,
                resource: resource.to_owned(),
                due: start.checked_add(latency).unwrap_or(Timestamp::MAX),
                before: base.existing.clone(),
                after,
            });
        } else {
            estate.data.put(kind.name, resource, after);
            self.end(id.clone(), Status::Succeeded);
        }
        Written { operation: id, shown }
    }

    /// The status document, or what `Location` answers.
    pub(crate) fn poll(&self, id: &str, result: bool, location: &str) -> Result<Response, Refusal> {
        let same = |other: &str| other.eq_ignore_ascii_case(id);
        let ended = self.ended.iter().rev().find(|(other, _)| same(other)).map(|(_, status)| *status);
        let running = self.running.iter().any(|operation| same(&operation.id));
        let status = ended.or(running.then_some(Status::InProgress)).ok_or_else(|| {
            Refusal::missing("OperationNotFound", format!("The operation {id} is not known."))
        })?;
        let canceled = || {
            json!({"code": "CanceledAndSupersededDueToAnotherOperation",
                   "message": format!("Operation {id} was canceled and superseded by another operation.")})
        };
        Ok(match (status, result) {
            (Status::InProgress, false) => Response::json(StatusCode::OK, json!({"status": "InProgress"})),
            (Status::Succeeded, false) => Response::json(StatusCode::OK, json!({"status": "Succeeded"})),
            (Status::Canceled, false) => {
                Response::json(StatusCode::OK, json!({"status": "Canceled", "error": canceled()}))
            }
            (Status::InProgress, true) => {
                Response::empty(StatusCode::ACCEPTED).with_header("location", location)
            }
            (Status::Succeeded, true) => Response::empty(StatusCode::NO_CONTENT),
            (Status::Canceled, true) => Response::json(StatusCode::CONFLICT, json!({"error": canceled()})),
        })
    }
}

pub(crate) fn etag(random: &mut Random) -> String {
    format!("W/\"{}\"", random.guid())
}

/// Sets the state and, if given, the etag of a resource and its embedded children.
fn set_state(kind: &Kind, resource: &mut Value, etag: Option<&str>, state: &str) {
    if kind.name == NETWORK_SECURITY_GROUPS {
        let kept = resource.get("etag").and_then(Value::as_str).unwrap_or_default().to_owned();
        network_security_group::stamp(resource, etag.unwrap_or(&kept), state);
        return;
    }
    if let Some(object) = resource.as_object_mut() {
        if let Some(etag) = etag {
            object.insert("etag".to_owned(), json!(etag));
        }
        if let Some(Value::Object(properties)) = object.get_mut("properties") {
            properties.insert("provisioningState".to_owned(), json!(state));
        }
    }
    crate::estate::name_children(kind, resource);
}
