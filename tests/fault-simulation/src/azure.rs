//! Azure Resource Manager as one instance reaches it: requests to the simulated Azure, and their answers read as
//! `ajar-arm` reads them.

use crate::estate::{AJAR_OBJECT, SUBSCRIPTION};
use crate::mutant::Mutant;
use crate::world::{Kind, NoAnswer, State, World};
use ajar_access::ports::azure::{
    Azure, AzureError, DenyAssignment, GraphPage, RoleAssignment, RolePermissions, WriteOutcome,
};
use ajar_network::nsg::{NetworkSecurityGroup, SecurityRule};
use ajar_network::resource_id::ResourceId;
use async_trait::async_trait;
use azure_simulator::{Reaction, Request, Response};
use http::Method;
use jiff::SignedDuration;
use serde_json::Value;
use std::sync::Arc;

/// Who Ajar is in the simulated Azure.
pub(crate) const AJAR: &str = "ajar-identity";
/// How old the lists of Azure Resource Graph may be, in milliseconds.
const LISTS_AGE: u64 = 180_000;
/// How long one write is waited for, as `ajar-arm` does.
const PATIENCE: u64 = 20_000;

/// Azure as one instance reaches it.
pub(crate) struct Arm {
    pub world: World,
    pub instance: usize,
}

/// The meaning of an answer other than 2xx, as `ajar-arm` has it.
fn refusal(answer: &Response, what: &str) -> AzureError {
    let status = answer.status.as_u16();
    let code = answer.error_code().unwrap_or_default().to_owned();
    let text = format!("{what}: status {status}: {code}");
    let is_conflict =
        ["CanceledAndSupersededDueToAnotherOperation", "SecurityRuleConflict", "PreconditionFailed"]
            .contains(&code.as_str());
    match status {
        429 | 408 | 500..=599 => AzureError::Unavailable { reason: text, retry_after: None },
        _ if is_conflict => AzureError::Conflict(text),
        404 => AzureError::NotFound(what.to_owned()),
        409 | 412 => AzureError::Conflict(text),
        401 | 403 => AzureError::Forbidden(text),
        _ => AzureError::Rejected { code, message: text },
    }
}

fn no_answer(failure: NoAnswer) -> AzureError {
    match failure {
        NoAnswer::Failed => AzureError::Unavailable { reason: "a fault".to_owned(), retry_after: None },
        NoAnswer::Throttled => AzureError::Unavailable {
            reason: "429".to_owned(),
            retry_after: Some(SignedDuration::from_secs(7)),
        },
    }
}

/// The API version of a path.
pub(crate) fn target(path: &str) -> String {
    let version = if path.contains("Microsoft.Authorization/") {
        "2022-04-01"
    } else if path.contains("Microsoft.Compute/") {
        "2024-07-01"
    } else {
        "2024-05-01"
    };
    format!("{path}?api-version={version}")
}

/// A read on nobody's behalf in particular, without faults.
fn read(state: &mut State, path: &str) -> Result<Value, AzureError> {
    answer(state, &Request::new(Method::GET, &target(path)), path)
}

fn answer(state: &mut State, request: &Request, what: &str) -> Result<Value, AzureError> {
    match state.azure.handle_as(AJAR, request) {
        Reaction::Answer(answer) if answer.status.is_success() => Ok(answer.value().clone()),
        Reaction::Answer(answer) => Err(refusal(&answer, what)),
        Reaction::Drop => Err(no_answer(NoAnswer::Failed)),
    }
}

impl Arm {
    async fn read<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&mut State) -> Result<T, AzureError> + Send + 'static,
    ) -> Result<T, AzureError> {
        let effect = move |state: &mut State, _| effect(state);
        self.world.call(self.instance, Kind::AzureRead, effect).await.map_err(no_answer)?
    }

    async fn read_roles<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&mut State) -> Result<T, AzureError> + Send + 'static,
    ) -> Result<T, AzureError> {
        let effect = move |state: &mut State, _| effect(state);
        self.world.call(self.instance, Kind::RoleRead, effect).await.map_err(no_answer)?
    }

    async fn write(&self, request: Request, nsg: &ResourceId) -> Result<WriteOutcome, AzureError> {
        let (path, id) = (request.path.clone(), nsg.to_string());
        let started = self.world.lock().now;
        let answered = self
            .world
            .call(self.instance, Kind::AzureWrite, move |state, _| {
                state.tell(|| format!("  {} {}", request.method, request.path));
                let reaction = state.azure.handle_as(AJAR, &request);
                let now = state.now;
                let State { referee, azure, trace, .. } = state;
                referee.written_by_ajar(now, azure, &id, trace.as_mut());
                reaction
            })
            .await
            .map_err(no_answer)?;
        let Reaction::Answer(answer) = answered else { return Err(no_answer(NoAnswer::Failed)) };
        if !answer.status.is_success() {
            return Err(refusal(&answer, &path));
        }
        let header =
            |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let Some(operation) = header("azure-asyncoperation") else { return Ok(WriteOutcome::Done) };
        let mut pace = 100;
        while self.world.lock().now - started + pace < PATIENCE {
            self.world.pause(pace).await;
            match self.look(&operation).await {
                Ok(WriteOutcome::Done) => return Ok(WriteOutcome::Done),
                Ok(WriteOutcome::Running(_)) | Err(AzureError::Unavailable { .. }) => {}
                Err(error) => return Err(error),
            }
            pace = (pace + pace / 2).min(1_000);
        }
        Ok(WriteOutcome::Running(operation))
    }

    async fn look(&self, operation: &str) -> Result<WriteOutcome, AzureError> {
        let path = operation.find("/subscriptions/").map_or(operation, |at| &operation[at..]).to_owned();
        let running = WriteOutcome::Running(operation.to_owned());
        self.read(move |state| {
            let request = Request::new(Method::GET, &path);
            match answer(state, &request, &path) {
                Ok(body) => match body["status"].as_str() {
                    Some("InProgress") => Ok(running),
                    Some("Canceled") => Err(AzureError::Conflict("superseded".to_owned())),
                    _ => Ok(WriteOutcome::Done),
                },
                Err(AzureError::NotFound(_)) => Ok(WriteOutcome::Done),
                Err(error) => Err(error),
            }
        })
        .await
    }
}

fn parse(json: Value) -> Result<NetworkSecurityGroup, AzureError> {
    NetworkSecurityGroup::from_json(json)
        .map_err(|error| AzureError::Rejected { code: "Unreadable".to_owned(), message: error.to_string() })
}

fn ids(value: &Value, pointer: &str) -> Vec<String> {
    let found = value.pointer(pointer);
    let items = match found {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    items.into_iter().filter_map(|item| item["id"].as_str()).map(str::to_owned).collect()
}

fn vm_estate(state: &mut State, vm: &str) -> Result<Vec<Value>, AzureError> {
    let machine = read(state, vm)?;
    let mut wanted = ids(&machine, "/properties/networkProfile/networkInterfaces");
    let mut found = vec![machine];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = wanted.pop() {
        if !seen.insert(id.to_ascii_lowercase()) {
            continue;
        }
        let resource = match read(state, &id) {
            Ok(resource) => resource,
            Err(AzureError::NotFound(_)) => continue,
            Err(error) => return Err(error),
        };
        wanted.extend(ids(&resource, "/properties/networkSecurityGroup"));
        for configuration in resource["properties"]["ipConfigurations"].as_array().into_iter().flatten() {
            for subnet in ids(configuration, "/properties/subnet") {
                let network = subnet.split("/subnets/").next().unwrap_or_default();
                wanted.push(network.to_owned());
            }
        }
        if id.contains("virtualNetworks") {
            for subnet in resource["properties"]["subnets"].as_array().into_iter().flatten() {
                wanted.extend(ids(subnet, "/properties/networkSecurityGroup"));
            }
        }
        found.push(resource);
    }
    Ok(found)
}

#[async_trait]
impl Azure for Arm {
    async fn vm_estate(&self, vm: &ResourceId) -> Result<Vec<Value>, AzureError> {
        let vm = vm.to_string();
        self.read(move |state| vm_estate(state, &vm)).await
    }

    async fn subscription_estate(&self, _: &str) -> Result<Vec<Value>, AzureError> {
        let kinds = [
            "Microsoft.Compute/virtualMachines",
            "Microsoft.Network/networkInterfaces",
            "Microsoft.Network/networkSecurityGroups",
            "Microsoft.Network/virtualNetworks",
        ];
        self.read(move |state| {
            let mut all = Vec::new();
            for kind in kinds {
                let list = read(state, &format!("/subscriptions/{SUBSCRIPTION}/providers/{kind}"))?;
                all.extend(list["value"].as_array().into_iter().flatten().cloned());
            }
            Ok(all)
        })
        .await
    }

    async fn graph_page(
        &self,
        subscription: &str,
        resource_type: &str,
        _: Option<&str>,
    ) -> Result<GraphPage, AzureError> {
        let now = self.world.lock().now;
        let kept = self.world.lock().listed.clone();
        let listed = match kept {
            Some((at, listed)) if now < at + LISTS_AGE => listed,
            _ => Arc::new(self.subscription_estate(subscription).await?),
        };
        let wanted = resource_type.to_owned();
        self.read(move |state| {
            if state.listed.as_ref().is_none_or(|(at, _)| *at + LISTS_AGE <= now) {
                state.listed = Some((now, Arc::clone(&listed)));
            }
            let is_of_type = |resource: &&Value| {
                resource["type"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(&wanted))
            };
            Ok(GraphPage { resources: listed.iter().filter(is_of_type).cloned().collect(), next: None })
        })
        .await
    }

    async fn resource(&self, id: &ResourceId) -> Result<Value, AzureError> {
        let id = id.to_string();
        self.read(move |state| read(state, &id)).await
    }

    async fn own_object_id(&self) -> Result<Option<String>, AzureError> {
        // Read from a token that is kept: no call.
        Ok(Some(AJAR_OBJECT.to_owned()))
    }

    async fn network_security_group(&self, nsg: &ResourceId) -> Result<NetworkSecurityGroup, AzureError> {
        let id = nsg.to_string();
        let effect = move |state: &mut State, _| parse(read(state, &id)?);
        self.world.call(self.instance, Kind::PointRead, effect).await.map_err(no_answer)?
    }

    async fn network_security_groups(&self, _: &str) -> Result<Vec<NetworkSecurityGroup>, AzureError> {
        self.read(|state| {
            let path =
                format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Network/networkSecurityGroups");
            let list = read(state, &path)?;
            list["value"].as_array().into_iter().flatten().cloned().map(parse).collect()
        })
        .await
    }

    async fn put_rule(&self, nsg: &ResourceId, rule: &SecurityRule) -> Result<WriteOutcome, AzureError> {
        let is_deny = rule.json()["properties"]["access"].as_str() == Some("Deny");
        if is_deny && self.world.lock().mutant == Mutant::NoDenies {
            return Ok(WriteOutcome::Done);
        }
        let path = format!("{nsg}/securityRules/{}", rule.name());
        if self.world.lock().mutant == Mutant::NarrowFirst {
            let _ = self.write(Request::new(Method::DELETE, &target(&path)), nsg).await;
        }
        self.write(Request::new(Method::PUT, &target(&path)).with_json(rule.json()), nsg).await
    }

    async fn delete_rule(&self, nsg: &ResourceId, name: &str) -> Result<WriteOutcome, AzureError> {
        if name.contains("-allow-") && self.world.lock().mutant == Mutant::KeptAllows {
            return Ok(WriteOutcome::Done);
        }
        let path = format!("{nsg}/securityRules/{name}");
        match self.write(Request::new(Method::DELETE, &target(&path)), nsg).await {
            Err(AzureError::NotFound(_)) => Ok(WriteOutcome::Done),
            outcome => outcome,
        }
    }

    async fn put_network_security_group(
        &self,
        nsg: &NetworkSecurityGroup,
    ) -> Result<WriteOutcome, AzureError> {
        let id = nsg.id().cloned().expect("what was read has an id");
        let mut request = Request::new(Method::PUT, &target(id.as_str())).with_json(&nsg.to_json());
        if self.world.lock().mutant != Mutant::NoIfMatch {
            request = request.with_header("if-match", nsg.etag().expect("what was read has an etag"));
        }
        self.write(request, &id).await
    }

    async fn operation(&self, operation: &str) -> Result<WriteOutcome, AzureError> {
        self.look(operation).await
    }

    async fn role_assignments(
        &self,
        scope: &str,
        principal: &str,
    ) -> Result<Vec<RoleAssignment>, AzureError> {
        let filter = format!("atScope() and assignedTo('{principal}')");
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments");
        self.read_roles(move |state| {
            let mut request = Request::new(Method::GET, &target(&path));
            request.query.push(("$filter".to_owned(), filter));
            let list = answer(state, &request, &path)?;
            let properties =
                list["value"].as_array().into_iter().flatten().map(|one| one["properties"].clone());
            Ok(properties.map(|one| serde_json::from_value(one).expect("an assignment")).collect())
        })
        .await
    }

    async fn deny_assignments(
        &self,
        scope: &str,
        principal: Option<&str>,
    ) -> Result<Vec<DenyAssignment>, AzureError> {
        let filter = match principal {
            Some(principal) => format!("atScope() and assignedTo('{principal}')"),
            None => "atScope()".to_owned(),
        };
        let path = format!("{scope}/providers/Microsoft.Authorization/denyAssignments");
        self.read(move |state| {
            let mut request = Request::new(Method::GET, &target(&path));
            request.query.push(("$filter".to_owned(), filter));
            let list = answer(state, &request, &path)?;
            let elements = list["value"].as_array().into_iter().flatten().cloned();
            Ok(elements.map(|one| DenyAssignment::from_json(one).expect("a deny assignment")).collect())
        })
        .await
    }

    async fn role_permissions(&self, role: &str) -> Result<Vec<RolePermissions>, AzureError> {
        let role = role.to_owned();
        self.read_roles(move |state| {
            let definition = read(state, &role)?;
            Ok(serde_json::from_value(definition["properties"]["permissions"].clone()).expect("permissions"))
        })
        .await
    }
}
