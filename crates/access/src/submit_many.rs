//! Asking for access to several VMs at once: each is decided by itself, and one that is refused keeps none of the
//! others from being granted.

use crate::Ajar;
use crate::error::AccessError;
use crate::ports::identity::Caller;
use crate::request::{AccessRequest, RequestInput, RequestPortInput};
use crate::submit;
use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The most VMs of one request.
pub(crate) const MOST_VMS: usize = 50;

/// How many VMs are worked on at once.
pub(crate) const CONCURRENCY: usize = 8;

/// A request for one VM (`vm`) or several (`vms`), as a user writes it. Strict: an unknown field is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestsInput {
    /// Resource id of the VM.
    #[serde(default)]
    pub vm: Option<String>,
    /// Resource ids of VMs, 1 to 50, each once.
    #[serde(default)]
    pub vms: Option<Vec<String>>,
    /// What to open on each.
    pub ports: Vec<RequestPortInput>,
    /// As [`RequestInput::duration`].
    pub duration: String,
    /// As [`RequestInput::start`].
    #[serde(default)]
    pub start: Option<String>,
    /// As [`RequestInput::justification`].
    #[serde(default)]
    pub justification: Option<String>,
    /// As [`RequestInput::ticket`].
    #[serde(default)]
    pub ticket: Option<String>,
    /// As [`RequestInput::break_glass`].
    #[serde(default)]
    pub break_glass: bool,
}

/// What became of the request for one VM.
#[derive(Debug)]
pub struct VmAnswer {
    /// The VM, as the caller wrote it.
    pub vm: String,
    /// The request, or why there is none.
    pub answer: Result<AccessRequest, AccessError>,
}

/// What became of a request for several VMs.
#[derive(Debug)]
pub struct Group {
    /// The id that its requests share.
    pub id: String,
    /// One answer for each VM, in the caller's order.
    pub answers: Vec<VmAnswer>,
}

/// What a caller asked for: one VM, whose answer is the answer, or several.
#[derive(Debug)]
pub enum Asked {
    /// `vm`
    One(RequestInput),
    /// `vms`
    Several(Vec<RequestInput>),
}

impl RequestsInput {
    /// Tells one VM from several.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] naming `vm` or the entry of `vms` that breaks a rule.
    pub fn asked(&self) -> Result<Asked, AccessError> {
        match (&self.vm, &self.vms) {
            (Some(vm), None) => Ok(Asked::One(self.of(vm))),
            (None, Some(vms)) => {
                if vms.is_empty() || vms.len() > MOST_VMS {
                    return Err(AccessError::invalid("vms", format!("name 1 to {MOST_VMS} VMs")));
                }
                let mut seen = BTreeSet::new();
                if let Some(index) = vms.iter().position(|vm| !seen.insert(vm.to_ascii_lowercase())) {
                    return Err(AccessError::invalid(format!("vms[{index}]"), "is named twice"));
                }
                Ok(Asked::Several(vms.iter().map(|vm| self.of(vm)).collect()))
            }
            _ => Err(AccessError::invalid("vm", "name the VM (`vm`) or several VMs (`vms`), not both")),
        }
    }

    fn of(&self, vm: &str) -> RequestInput {
        RequestInput {
            vm: vm.to_owned(),
            ports: self.ports.clone(),
            duration: self.duration.clone(),
            start: self.start.clone(),
            justification: self.justification.clone(),
            ticket: self.ticket.clone(),
            break_glass: self.break_glass,
        }
    }
}

/// Takes a request for several VMs. What is refused for one VM is in its answer and touches no other.
pub async fn submit_many(ajar: &Ajar, caller: &Caller, inputs: Vec<RequestInput>) -> Group {
    let id = ajar.ports.ids.fresh();
    let group = &id;
    let answers = stream::iter(inputs)
        .map(|input| async move {
            let answer = submit::submit_in(ajar, caller, &input, Some(group.clone())).await;
            VmAnswer { vm: input.vm, answer }
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    Group { id, answers }
}
