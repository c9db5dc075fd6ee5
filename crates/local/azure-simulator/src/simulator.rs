//! The state machine: one request in, one reaction out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use crate::clock::Clock;
use crate::directory::{self, Principal};
use crate::estate::{Estate, EstateError};
use crate::event_grid::EventGrid;
use crate::exchange::{Reaction, Refusal, Request, Response};
use crate::faults::{Fault, FaultKind, Faults};
use crate::operations::Operations;
use crate::random::Random;
use crate::request_log::{LogEntry, RequestLog};
use crate::resource_graph::HeldBack;
use crate::switches::Switches;
use crate::throttle::Buckets;
use crate::tokens::Tokens;
use crate::{arm, control, entra};

/// Azure, as far as Ajar uses it. See the crate's documentation.
pub struct Simulator {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) estate: Estate,
    pub(crate) operations: Operations,
    pub(crate) tokens: Tokens,
    pub(crate) switches: Switches,
    pub(crate) faults: Faults,
    pub(crate) log: RequestLog,
    pub(crate) buckets: Buckets,
    pub(crate) changes: VecDeque<Change>,
    pub(crate) events: EventGrid,
    pub(crate) graph: HeldBack,
    pub(crate) base_url: String,
    pub(crate) identity_header: Option<String>,
}

/// A resource was written or deleted: what Event Grid would tell about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it took effect on the control plane.
    pub time: Timestamp,
    /// The top-level or child resource that was written, in the case the request used.
    pub resource: String,
    /// `Microsoft.Resources.ResourceWriteSuccess` or `Microsoft.Resources.ResourceDeleteSuccess`.
    pub event_type: &'static str,
    /// The permission it took, e.g. `Microsoft.Network/networkSecurityGroups/write`.
    pub action: String,
    /// The object id of whoever did it.
    pub caller: String,
}

/// Changes nobody has taken; older ones are forgotten, as a full event queue would.
const REMEMBERED_CHANGES: usize = 10_000;

/// What happens to a request before it takes effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// How long it is held.
    pub hold: Duration,
    fault: Option<Fault>,
}

impl Simulator {
    /// A simulator of the estate, a JSON array of ARM resources (and the pseudo-resources of the directory,
    /// see the crate's documentation). All identifiers, etags, keys and chances follow from `seed`.
    ///
    /// # Errors
    /// If the text is no such array; the error names the offending resource.
    pub fn new(estate_json: &str, clock: Arc<dyn Clock>, seed: u64) -> Result<Self, EstateError> {
        let mut random = Random::new(seed, "identifiers");
        let estate = Estate::parse(estate_json, || random.guid())?;
        Ok(Self {
            clock,
            random,
            estate,
            operations: Operations::default(),
            tokens: Tokens::new(seed),
            switches: Switches::default(),
            faults: Faults::default(),
            log: RequestLog::default(),
            buckets: Buckets::default(),
            changes: VecDeque::new(),
            events: EventGrid::new(seed),
            graph: HeldBack::default(),
            base_url: "http://127.0.0.1:7072".to_owned(),
            identity_header: None,
        })
    }

    /// How the simulator behaves.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Turns switches.
    pub fn switches_mut(&mut self) -> &mut Switches {
        &mut self.switches
    }

    /// Where clients reach it, without a slash at the end: the start of every link, operation URL and token
    /// issuer. [`crate::serve`] sets it to the address it listens on. Default `http://127.0.0.1:7072`.
    pub fn set_base_url(&mut self, base_url: &str) {
        base_url.trim_end_matches('/').clone_into(&mut self.base_url);
    }

    /// The secret that the managed-identity endpoint wants in `X-IDENTITY-HEADER`. Without one it refuses
    /// everybody.
    pub fn set_identity_header(&mut self, secret: &str) {
        self.identity_header = Some(secret.to_owned());
    }

    /// The tenant of the estate.
    pub fn tenant_id(&self) -> String {
        self.estate.tenant()
    }

    /// The ids (GUIDs) of the estate's subscriptions, in order.
    pub fn subscription_ids(&self) -> Vec<String> {
        let subscriptions = self.estate.control.all(crate::catalogue::SUBSCRIPTIONS);
        subscriptions.filter_map(|(id, _)| id.rsplit('/').next().map(str::to_owned)).collect()
    }

    /// A resource as ARM shows it; the id in any case, of a top-level resource.
    pub fn resource(&mut self, id: &str) -> Option<Value> {
        self.settle();
        let name = crate::resource_path::ResourceName::parse(id)?;
        let kind = crate::catalogue::Kind::find(&name.namespace, &name.kind)?;
        let stored = self.estate.control.get(kind.name, id).cloned()?;
        Some(self.estate.view(stored))
    }

    /// The whole estate, as [`Simulator::new`] takes it.
    pub fn estate(&mut self) -> Value {
        self.settle();
        self.estate.save()
    }

    /// Replaces the estate. Operations under way are forgotten; keys, switches and faults stay.
    ///
    /// # Errors
    /// As [`Simulator::new`]; the estate is then unchanged.
    pub fn load_estate(&mut self, estate_json: &str) -> Result<(), EstateError> {
        let random = &mut self.random;
        self.estate = Estate::parse(estate_json, || random.guid())?;
        self.operations = Operations::default();
        Ok(())
    }

    /// Orders a fault.
    pub fn order_fault(&mut self, fault: Fault) {
        self.faults.0.push(fault);
    }

    /// The recent ARM requests, oldest first.
    pub fn log(&self) -> impl Iterator<Item = &LogEntry> {
        self.log.entries()
    }

    /// How many writes (everything but GET and HEAD, refused ones too) each resource was asked for since the start, its
    /// children's among them: by its id in lower case. Other than [`Simulator::log`] it forgets nothing.
    pub fn writes(&self) -> &BTreeMap<String, u64> {
        self.log.writes()
    }

    /// Takes what has changed since the last call: what Event Grid would have delivered.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes.drain(..).collect()
    }

    pub(crate) fn note_change(&mut self, resource: &str, deleted: bool, action: &str, caller: &Principal) {
        if self.changes.len() == REMEMBERED_CHANGES {
            self.changes.pop_front();
        }
        let event_type = if deleted {
            "Microsoft.Resources.ResourceDeleteSuccess"
        } else {
            "Microsoft.Resources.ResourceWriteSuccess"
        };
        let change = Change {
            time: self.clock.now(),
            resource: resource.to_owned(),
            event_type,
            action: action.to_owned(),
            caller: caller.object_id.clone(),
        };
        let tenant = self.estate.tenant();
        self.events.tell(&change, caller, &tenant, &self.switches);
        self.changes.push_back(change);
    }

    pub(crate) fn settle(&mut self) {
        let now = self.clock.now();
        self.operations.settle(&mut self.estate, &mut self.random, now);
    }

    /// What happens to a request on arrival: how long it is held, and which fault befalls it (it is used up).
    pub fn admit(&mut self, request: &Request) -> Admission {
        if is_control(&request.path) {
            return Admission { hold: Duration::ZERO, fault: None };
        }
        let fault = self.faults.strike(&request.method, &request.path);
        let latency = match request.method {
            Method::GET | Method::HEAD => self.switches.read_latency_ms,
            _ => self.switches.write_latency_ms,
        };
        let hold = fault.as_ref().map(Fault::hold).unwrap_or_default();
        Admission { hold: hold.saturating_add(Duration::from_millis(latency)), fault }
    }

    /// Lets an admitted request take effect. The caller has held it for `admission.hold`.
    pub fn perform(&mut self, request: &Request, admission: Admission) -> Reaction {
        self.react(request, admission, None)
    }

    /// [`Simulator::admit`] and [`Simulator::perform`] in one, without holding the request.
    pub fn handle(&mut self, request: &Request) -> Reaction {
        let admission = self.admit(request);
        self.perform(request, admission)
    }

    /// As [`Simulator::handle`], as a principal of the directory (name, sign-in name or object id) instead of
    /// with a token: a seeded simulation signs nothing.
    pub fn handle_as(&mut self, principal: &str, request: &Request) -> Reaction {
        let admission = self.admit(request);
        self.react(request, admission, Some(principal))
    }

    fn react(&mut self, request: &Request, admission: Admission, principal: Option<&str>) -> Reaction {
        self.settle();
        let is_arm = is_arm(&request.path);
        let mut caller = None;
        let fault = admission.fault;
        let reaction = match fault.as_ref().map(|fault| fault.kind) {
            Some(FaultKind::DropBefore) => Reaction::Drop,
            Some(FaultKind::Error) => {
                let refusal = fault.as_ref().map(Fault::refusal);
                Reaction::Answer(
                    refusal.map_or_else(|| Response::empty(StatusCode::OK), |refusal| refusal.response()),
                )
            }
            kind => {
                let response = self.answer(request, principal, &mut caller);
                match kind {
                    Some(FaultKind::DropAfter) => Reaction::Drop,
                    _ => Reaction::Answer(response),
                }
            }
        };
        if is_arm {
            let (status, code) = match &reaction {
                Reaction::Answer(response) => {
                    (Some(response.status.as_u16()), response.error_code().map(str::to_owned))
                }
                Reaction::Drop => (None, None),
            };
            self.log.note(LogEntry {
                time: self.clock.now(),
                method: request.method.to_string(),
                path: request.path.clone(),
                status,
                code,
                caller: caller.map(|caller: Principal| caller.object_id),
                correlation: request.header("x-ms-correlation-request-id").map(str::to_owned),
            });
        }
        reaction
    }

    fn answer(
        &mut self,
        request: &Request,
        principal: Option<&str>,
        caller: &mut Option<Principal>,
    ) -> Response {
        if is_control(&request.path) {
            return control::answer(self, request);
        }
        if !is_arm(&request.path) {
            return entra::answer(self, request);
        }
        let known = match principal {
            Some(name) => directory::find(&self.estate.control, name).ok_or_else(|| {
                Refusal::new(
                    StatusCode::UNAUTHORIZED,
                    "AuthenticationFailed",
                    format!("The estate knows no {name}."),
                )
            }),
            None => entra::authenticate(self, request),
        };
        let outcome = known.and_then(|principal| {
            *caller = Some(principal.clone());
            arm::answer(self, request, &principal)
        });
        match outcome {
            Ok(response) => response,
            Err(refusal) if refusal.status == StatusCode::UNAUTHORIZED => {
                let authority = format!("{}/{}", self.base_url, self.tenant_id());
                let challenge = format!(
                    "Bearer authorization_uri=\"{authority}\", error=\"invalid_token\", error_description=\"{}\"",
                    refusal.message
                );
                refusal.response().with_header("www-authenticate", &challenge)
            }
            Err(refusal) => refusal.response(),
        }
    }
}

fn first_segment(path: &str) -> String {
    path.trim_start_matches('/').split('/').next().unwrap_or_default().to_ascii_lowercase()
}

fn is_control(path: &str) -> bool {
    ["sim", "dev"].contains(&first_segment(path).as_str())
}

fn is_arm(path: &str) -> bool {
    ["subscriptions", "providers"].contains(&first_segment(path).as_str())
}
