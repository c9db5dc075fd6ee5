//! Turning JIT on for many VMs at once, and for VMs whose protection outlived its policy; each is shown before it is done.

use crate::Ajar;
use crate::behind;
use crate::configure::{self, Preview};
use crate::error::AccessError;
use crate::permission::{self, Operation};
use crate::point;
use crate::policy::{JitPolicy, PolicyInput};
use crate::ports::identity::Caller;
use ajar_network::plan::{self, Note};
use ajar_network::resource_id::ResourceId;
use futures::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The most VMs in one call: each takes a dozen reads of Azure, and the caller waits.
pub const MOST_VMS: usize = 50;

/// How many VMs are worked on at once.
const CONCURRENCY: usize = 4;

/// Many VMs and the policy that each of them gets. Strict: an unknown field is an error.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManyInput {
    /// Resource ids of the VMs, at most [`MOST_VMS`].
    pub vms: Vec<String>,
    /// The policy: a body of `PUT /api/policies` without `vm`.
    pub policy: Map<String, Value>,
    /// Whether it is only shown what would be done, which it is unless this is `false`.
    #[serde(default = "yes")]
    pub what_if: bool,
}

/// An enforcement point whose orphaned protection is to be adopted. Strict: an unknown field is an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdoptInput {
    /// Resource id of the network security group.
    pub enforcement_point: String,
    /// Whether it is only shown what would be done, which it is unless this is `false`.
    #[serde(default = "yes")]
    pub what_if: bool,
}

fn yes() -> bool {
    true
}

/// What became, or would become, of one VM.
#[derive(Debug)]
pub struct Remediated {
    /// The VM.
    pub vm: String,
    /// What happened.
    pub outcome: Result<Remedy, AccessError>,
}

/// What was done.
#[derive(Debug)]
pub enum Remedy {
    /// JIT would be turned on, with these changes.
    WouldChange(Vec<Preview>),
    /// JIT was turned on.
    Enabled(Box<JitPolicy>),
}

/// Turns JIT on for many VMs, or shows what that would do. What fails on one VM keeps none of the others from it.
///
/// # Errors
/// [`AccessError::Invalid`] when the list or the policy breaks a rule; nothing is done then.
pub async fn enable_many(
    ajar: &Ajar,
    caller: &Caller,
    input: &ManyInput,
) -> Result<Vec<Remediated>, AccessError> {
    if input.vms.is_empty() || input.vms.len() > MOST_VMS {
        return Err(AccessError::invalid("vms", format!("name 1 to {MOST_VMS} VMs")));
    }
    if input.policy.contains_key("vm") {
        return Err(AccessError::invalid("policy.vm", "leave it out: the policy is for each of `vms`"));
    }
    let mut inputs = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, vm) in input.vms.iter().enumerate() {
        let mut fields = input.policy.clone();
        fields.insert("vm".to_owned(), json!(vm));
        let one: PolicyInput = serde_json::from_value(Value::Object(fields))
            .map_err(|error| AccessError::invalid("policy", error.to_string()))?;
        let id =
            one.vm().map_err(|error| AccessError::invalid(format!("vms[{index}]"), error.to_string()))?;
        one.terms().map_err(|error| match error {
            AccessError::Invalid { field, rule } => AccessError::invalid(format!("policy.{field}"), rule),
            other => other,
        })?;
        if !seen.insert(id) {
            return Err(AccessError::invalid(format!("vms[{index}]"), "name each VM once"));
        }
        inputs.push(one);
    }
    Ok(enable_each(ajar, caller, inputs, input.what_if).await)
}

async fn enable_each(
    ajar: &Ajar,
    caller: &Caller,
    inputs: Vec<PolicyInput>,
    what_if: bool,
) -> Vec<Remediated> {
    stream::iter(inputs)
        .map(|input| async move {
            let outcome = if what_if {
                configure::preview(ajar, caller, &input).await.map(Remedy::WouldChange)
            } else {
                let policy = configure::enable(ajar, caller, &input).await;
                policy.map(|policy| Remedy::Enabled(Box::new(policy)))
            };
            Remediated { vm: input.vm, outcome }
        })
        .buffered(CONCURRENCY)
        .collect()
        .await
}

/// Gives the VMs behind deny rules that no policy accounts for a policy for just these ports, or shows what that would
/// do. Rules for addresses that no VM holds, and rules that cover more than single addresses, are left.
///
/// # Errors
/// [`AccessError::Invalid`] for something else than an NSG, [`AccessError::Forbidden`] without the permission to
/// configure every VM that is concerned, [`AccessError::NotFound`] when there is nothing to adopt.
pub async fn adopt(ajar: &Ajar, caller: &Caller, input: &AdoptInput) -> Result<Vec<Remediated>, AccessError> {
    let id = ResourceId::parse(&input.enforcement_point)
        .map_err(|error| AccessError::invalid("enforcementPoint", error.to_string()))?;
    if !id.is_type("Microsoft.Network/networkSecurityGroups") {
        return Err(AccessError::invalid("enforcementPoint", "name a network security group"));
    }
    configure::check_subscription(ajar, &id).await?;
    // Before anything of it is told: whoever may configure no VM of the group learns nothing.
    permission::require(ajar, caller, &id, Operation::ReadPolicy).await?;
    let nothing = || AccessError::NotFound(format!("{} has no protection that could be adopted", id.name()));
    let nsg = ajar.ports.azure.network_security_group(&id).await?;
    let desired = point::read(ajar, &id).await?.desired(ajar);
    let planned = plan::plan(&nsg, &desired, ajar.ports.clock.now()).map_err(|error| {
        AccessError::Conflict { code: "CannotBePlanned", message: format!("{}: {error}", id.name()) }
    })?;
    let behind = behind::read(ajar, &id).await?.ok_or_else(nothing)?;
    let mut ports: BTreeMap<ResourceId, Vec<Value>> = BTreeMap::new();
    for note in planned.notes {
        let Note::OrphanedProtection { rule, addresses } = note else { continue };
        let Some(rule) = nsg.rules().iter().find(|other| other.name() == rule) else { continue };
        let vms: BTreeSet<ResourceId> =
            addresses.iter().filter_map(|address| behind.holder(address.parse().ok()?)).collect();
        for vm in vms {
            let known = ports.entry(vm).or_default();
            for port in ports_of(rule.json()) {
                if !known.contains(&port) {
                    known.push(port);
                }
            }
        }
    }
    if ports.is_empty() {
        return Err(nothing());
    }
    let mut inputs = Vec::new();
    for (vm, ports) in ports {
        let input: PolicyInput = serde_json::from_value(json!({ "vm": vm.as_str(), "ports": ports }))
            .map_err(|error| AccessError::internal(format!("a policy could not be made: {error}")))?;
        inputs.push(input);
    }
    Ok(enable_each(ajar, caller, inputs, input.what_if).await)
}

/// The ports of a rule, as a policy names them.
fn ports_of(rule: &Value) -> Vec<Value> {
    let property = |name: &str| rule.pointer(&format!("/properties/{name}"));
    let one = property("destinationPortRange").and_then(Value::as_str).filter(|text| !text.is_empty());
    let several = property("destinationPortRanges").and_then(Value::as_array).into_iter().flatten();
    let protocol = property("protocol").and_then(Value::as_str).unwrap_or("*");
    one.into_iter()
        .chain(several.filter_map(Value::as_str))
        .map(|port| {
            let port = match port {
                "*" => json!("1-65535"),
                text => text.parse::<u16>().map_or_else(|_| json!(text), |port| json!(port)),
            };
            json!({ "port": port, "protocol": protocol })
        })
        .collect()
}
