//! Asking for access in Azure's shape (`JitNetworkAccessPolicies_Initiate`).

use super::address::PolicyAddress;
use super::first_answer::{self, FirstAnswer, Key};
use super::resource::{self, check_policy};
use super::view::{AzureRequest, OpenedVm, ports_of, status_of};
use super::wishes::{self, Asked, InitiateBody, Wanted};
use super::{MOST_VMS, do_all};
use crate::Ajar;
use crate::error::AccessError;
use crate::history;
use crate::life_cycle::Status;
use crate::permission::{self, Action, Subject};
use crate::policy::{JitPolicy, parse_vm};
use crate::ports::identity::Caller;
use crate::ports::store::StoreError;
use crate::request::AccessRequest;
use crate::request_id::RequestId;
use crate::submit;
use ajar_network::resource_id::ResourceId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How often an initiate looks again when a repeat of it is under way at the same time.
const ATTEMPTS: usize = 5;

/// What comes with an initiate besides its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// The caller's own address, where something that can be believed says it: the source of ports that name none.
    pub caller_address: Option<IpAddr>,
    /// Header `x-ms-client-request-id`, which clients send again with every repeat of one call.
    pub client_request_id: Option<String>,
}

/// Takes a request for ports of the resource's VMs. Each port is decided and opened through the queue; once it
/// is, it takes the place of what the caller had on that port of that VM.
///
/// A repeat becomes no second request: for a day when it has the same client request id and body, else for five
/// minutes and while everything that it asked for is under way. It is answered with how that stands, and finishes
/// what broke off.
///
/// # Errors
/// [`AccessError::Forbidden`] without the permission to initiate, [`AccessError::NotFound`] when there is no
/// such resource, [`AccessError::Invalid`] when a VM is not in it or its policy does not allow a port. Nothing
/// is stored then.
pub async fn initiate(
    ajar: &Ajar,
    caller: &Caller,
    address: &PolicyAddress,
    body: &InitiateBody,
    circumstances: &Circumstances,
) -> Result<AzureRequest, AccessError> {
    check_policy(ajar, caller, address, Action::Initiate).await?;
    let scope = address.scope();
    let key = Key::of(caller, address, body, circumstances)?;
    let (policies, known) =
        futures::join!(policies(ajar, caller, address, body), first_answer::find(ajar, &key));
    let (policies, mut known) = (policies?, known?);
    for _ in 0..ATTEMPTS {
        let is_repeat = known.as_ref().is_some_and(|known| !known.is_over);
        let first = match &known {
            Some(known) if !known.is_over => known.answer.clone(),
            _ => FirstAnswer { at: ajar.ports.clock.now(), initiation: ajar.ports.ids.fresh() },
        };
        let asked = Asked {
            at: first.at,
            caller_address: circumstances.caller_address,
            initiation: &first.initiation,
            policy: &scope,
        };
        let wanted: Vec<(RequestId, Wanted)> = wishes::read(body, &policies, &asked)?
            .into_iter()
            .enumerate()
            .map(|(index, wanted)| (first.request_id(&wanted.wish.vm, index), wanted))
            .collect();
        if let Some(known) = known.as_mut().filter(|_| is_repeat) {
            if circumstances.client_request_id.is_none() && !is_under_way(ajar, &wanted).await? {
                known.is_over = true;
                continue;
            }
        } else {
            match first_answer::keep(ajar, &key, &first, known.as_ref()).await {
                Ok(()) => {}
                // Somebody repeats it at this very moment, and was first.
                Err(StoreError::Conflict) => {
                    known = first_answer::find(ajar, &key).await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let submitting = submit_all(ajar, caller, &wanted, is_repeat);
        let (requests, ()) = futures::join!(submitting, first_answer::clear(ajar, &key));
        return Ok(shown(caller, &first, body, &requests?));
    }
    Err(StoreError::Conflict.into())
}

/// The policies in force of the body's VMs, in its order, for a caller who may ask for access under each.
async fn policies(
    ajar: &Ajar,
    caller: &Caller,
    address: &PolicyAddress,
    body: &InitiateBody,
) -> Result<Vec<JitPolicy>, AccessError> {
    let (resource, mut read) =
        futures::join!(resource::read(ajar, address), policies_ahead(ajar, caller, address, body));
    let resource = resource?.ok_or_else(|| resource::no_such(address))?.content;
    if body.virtual_machines.is_empty() || body.virtual_machines.len() > MOST_VMS {
        return Err(AccessError::invalid(
            "virtualMachines",
            format!("name 1 to {MOST_VMS} virtual machines"),
        ));
    }
    let mut vms: Vec<ResourceId> = Vec::new();
    for (index, written) in body.virtual_machines.iter().enumerate() {
        let field = format!("virtualMachines[{index}].id");
        let vm = parse_vm(&field, &written.id)?;
        if !resource.lists(&vm) {
            return Err(AccessError::invalid(
                field,
                format!("{} is not in the JIT policy {}", vm.name(), address.name()),
            ));
        }
        if vms.contains(&vm) {
            return Err(AccessError::invalid(field, format!("{} is named twice", vm.name())));
        }
        vms.push(vm);
    }
    let scope = &address.scope();
    let policies = vms.iter().map(|vm| {
        let ahead = read.remove(vm);
        async move {
            match ahead {
                Some(policy) => policy,
                None => submit::authorised_policy(ajar, caller, Subject { vm, policy: Some(scope) }).await,
            }
        }
    });
    do_all(policies.collect()).await
}

/// The same for what the body names in the resource's own group, where the caller may ask, while it is not known yet
/// whether the resource lists it: the store is asked for both at once.
async fn policies_ahead(
    ajar: &Ajar,
    caller: &Caller,
    address: &PolicyAddress,
    body: &InitiateBody,
) -> BTreeMap<ResourceId, Result<JitPolicy, AccessError>> {
    let is_there = |vm: &ResourceId| {
        permission::resource_group_scope(vm)
            .is_ok_and(|group| group.eq_ignore_ascii_case(&address.group_scope()))
    };
    let named = body.virtual_machines.iter().take(MOST_VMS);
    let vms: BTreeSet<ResourceId> =
        named.filter_map(|written| parse_vm("id", &written.id).ok()).filter(is_there).collect();
    let scope = &address.scope();
    let read = vms.into_iter().map(|vm| async move {
        let subject = Subject { vm: &vm, policy: Some(scope) };
        let policy = submit::authorised_policy(ajar, caller, subject).await;
        Ok((vm, policy))
    });
    do_all(read.collect()).await.unwrap_or_default().into_iter().collect()
}

/// Whether all that exists of an earlier call is still on its way to being open, or open.
async fn is_under_way(ajar: &Ajar, wanted: &[(RequestId, Wanted)]) -> Result<bool, AccessError> {
    for (id, _) in wanted {
        if let Some(found) = history::read(ajar, id).await?
            && (found.content.status.is_final() || found.content.status == Status::Closing)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Submits what is wanted, the VMs beside each other, the ports of one after the other: they share its history.
async fn submit_all(
    ajar: &Ajar,
    caller: &Caller,
    wanted: &[(RequestId, Wanted)],
    is_repeat: bool,
) -> Result<Vec<AccessRequest>, AccessError> {
    let of_one_vm = wanted.chunk_by(|(_, one), (_, other)| one.wish.vm == other.wish.vm);
    let work = of_one_vm.map(|wanted| submit_on_one_vm(ajar, caller, wanted, is_repeat));
    Ok(do_all(work.collect()).await?.into_iter().flatten().collect())
}

async fn submit_on_one_vm(
    ajar: &Ajar,
    caller: &Caller,
    wanted: &[(RequestId, Wanted)],
    is_repeat: bool,
) -> Result<Vec<AccessRequest>, AccessError> {
    let mut requests = Vec::new();
    for (id, wanted) in wanted {
        requests.push(submit_one(ajar, caller, id, wanted, is_repeat).await?);
    }
    Ok(requests)
}

async fn submit_one(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
    wanted: &Wanted,
    is_repeat: bool,
) -> Result<AccessRequest, AccessError> {
    let known = if is_repeat { history::read(ajar, id).await?.map(|found| found.content) } else { None };
    // Of one that nobody has decided yet, the rest of its rows or its message may be missing.
    if let Some(known) = &known
        && known.status != Status::Requested
    {
        return Ok(known.clone());
    }
    let submitted = submit::submit_wish(ajar, caller, id.clone(), wanted.wish.clone(), &wanted.policy)
        .await
        .map_err(|error| wanted.in_azure_words(error))?;
    Ok(known.unwrap_or(submitted))
}

fn shown(
    caller: &Caller,
    first: &FirstAnswer,
    body: &InitiateBody,
    requests: &[AccessRequest],
) -> AzureRequest {
    let virtual_machines = requests
        .chunk_by(|one, other| one.wish.vm == other.wish.vm)
        .map(|requests| OpenedVm {
            id: requests.first().map(|request| request.wish.vm.to_string()).unwrap_or_default(),
            ports: requests
                .iter()
                .flat_map(|request| {
                    let (status, reason) = status_of(request);
                    ports_of(request, status, reason)
                })
                .collect(),
        })
        .collect();
    AzureRequest {
        virtual_machines,
        start_time_utc: first.at,
        requestor: caller.name.clone(),
        justification: body.justification.clone(),
    }
}
