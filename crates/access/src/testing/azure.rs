//! A scripted Azure: a handful of VMs and NSGs, writes that take effect at once, and a referee that decides
//! packets by walking the rules' JSON without any code of the product.

use super::azure_roles::FakeRoles;
use super::{Budget, Verdict, lock, nsg, user, vm};
use crate::ports::azure::{Azure, AzureError, DenyAssignment, RoleAssignment, RolePermissions, WriteOutcome};
use ajar_network::nsg::{NetworkSecurityGroup, SecurityRule};
use ajar_network::resource_id::ResourceId;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const GROUP: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/demo";

/// Who Ajar is to the scripted Azure.
pub const OWN_OBJECT_ID: &str = "99999999-0000-0000-0000-000000000000";

/// The scripted Azure.
#[derive(Debug)]
pub struct FakeAzure {
    budget: Arc<Budget>,
    nsgs: Mutex<BTreeMap<ResourceId, Value>>,
    machines: Mutex<BTreeMap<String, Vec<Value>>>,
    reads: AtomicU64,
    writes: Mutex<Vec<String>>,
    versions: Mutex<u64>,
    below: Mutex<BTreeMap<String, Vec<String>>>,
    event_subscriptions: Mutex<BTreeMap<String, Vec<Value>>>,
    /// Groups, roles, and who has or is denied which.
    pub roles: FakeRoles,
    /// While set, every call fails.
    pub is_down: AtomicBool,
    /// While set, role assignments cannot be read.
    pub hides_roles: AtomicBool,
    /// While set, rules are written and the answer is lost.
    pub loses_answers: AtomicBool,
    /// While set, there is no VM any more, and no role assignments at the scope of one.
    pub has_lost_vms: AtomicBool,
    /// While set, Azure has no policy resources, and no role assignments at the scope of one.
    pub has_no_policies: AtomicBool,
}

impl FakeAzure {
    pub(super) fn new(budget: Arc<Budget>) -> FakeAzure {
        let azure = FakeAzure {
            budget,
            nsgs: Mutex::default(),
            machines: Mutex::default(),
            reads: AtomicU64::new(0),
            writes: Mutex::default(),
            versions: Mutex::default(),
            below: Mutex::default(),
            event_subscriptions: Mutex::default(),
            roles: FakeRoles::new(),
            is_down: AtomicBool::new(false),
            hides_roles: AtomicBool::new(false),
            has_lost_vms: AtomicBool::new(false),
            has_no_policies: AtomicBool::new(false),
            loses_answers: AtomicBool::new(false),
        };
        azure.set_rules(
            "web-nsg",
            vec![allow("AllowSSH", 300, "*", "22"), allow("AllowHTTPS", 310, "*", "443")],
        );
        azure.set_rules("first-nsg", vec![allow("AllowMgmt", 100, "Internet", "22-3389")]);
        azure.set_rules("second-nsg", vec![allow("AllowSSH", 200, "*", "22")]);
        azure.set_machine("web-1", "10.0.0.4", Some("web-nsg"), None);
        azure.set_machine("web-2", "10.0.0.5", Some("web-nsg"), None);
        azure.set_machine("both-1", "10.0.1.4", Some("second-nsg"), Some("first-nsg"));
        azure.set_machine("bare-1", "10.0.2.4", None, None);
        for (name, role) in
            [("alice", "configure"), ("alice", "request"), ("bob", "request"), ("carol", "read")]
        {
            azure.assign(name, role, GROUP);
        }
        azure
    }

    /// Puts subscriptions below a management group.
    pub fn put_below(&self, management_group: &str, subscriptions: &[&str]) {
        let subscriptions = subscriptions.iter().map(|one| (*one).to_owned()).collect();
        lock(&self.below).insert(management_group.to_owned(), subscriptions);
    }

    /// Subscribes a Service Bus queue to a subscription's events, by its resource id.
    pub fn watch(&self, subscription: &str, queue: &str) {
        let subscribed = json!({ "properties": { "destination": { "endpointType": "ServiceBusQueue",
            "properties": { "resourceId": queue } } } });
        lock(&self.event_subscriptions).entry(subscription.to_owned()).or_default().push(subscribed);
    }

    /// Gives a user a role: `configure`, `request` or `read`.
    pub fn assign(&self, name: &str, role: &str, scope: &str) {
        self.roles.assign(&user(name).object_id, role, scope, None);
    }

    /// Takes all roles from a user.
    pub fn unassign(&self, name: &str) {
        self.roles.unassign(&user(name).object_id);
    }

    /// Puts a VM there, or changes where it is: its private address, the NSG of its interface and of its subnet.
    pub fn set_machine(&self, name: &str, address: &str, nic_nsg: Option<&str>, subnet_nsg: Option<&str>) {
        lock(&self.machines).insert(name.to_owned(), machine(name, address, nic_nsg, subnet_nsg));
    }

    /// Changes a VM's own properties: a JSON object that is laid over them (`vmId`), and its tags.
    pub fn change_machine(&self, name: &str, properties: &Value, tags: &Value) {
        let mut machines = lock(&self.machines);
        let Some(vm) = machines.get_mut(name).and_then(|machine| machine.first_mut()) else { return };
        let (own, given) =
            (vm.pointer_mut("/properties").and_then(Value::as_object_mut), properties.as_object());
        if let Some((own, given)) = own.zip(given) {
            own.extend(given.clone());
        }
        if let Some(vm) = vm.as_object_mut() {
            vm.insert("tags".into(), tags.clone());
        }
    }

    /// Deletes a VM; its network interface stays, unless `with_interface`.
    pub fn delete_machine(&self, name: &str, with_interface: bool) {
        let mut machines = lock(&self.machines);
        if with_interface {
            machines.remove(name);
        } else if let Some(machine) = machines.get_mut(name) {
            machine.retain(|resource| resource.get("type").and_then(Value::as_str) != Some(VM_TYPE));
        }
    }

    /// How often something was read since the last call.
    pub fn take_reads(&self) -> u64 {
        self.reads.swap(0, Ordering::SeqCst)
    }

    fn resources(&self) -> Vec<Value> {
        let machines: Vec<Value> = lock(&self.machines).values().flatten().cloned().collect();
        // Azure keeps on an NSG the references of what uses it.
        let uses = |resource: &Value, nsg: &ResourceId| {
            let id = resource.pointer("/properties/networkSecurityGroup/id").and_then(Value::as_str);
            id.is_some_and(|id| id.eq_ignore_ascii_case(nsg.as_str()))
        };
        let subnets: Vec<Value> = machines
            .iter()
            .filter_map(|resource| resource.pointer("/properties/subnets")?.as_array())
            .flatten()
            .cloned()
            .collect();
        let ids = |all: &[Value], nsg: &ResourceId| -> Vec<Value> {
            all.iter().filter(|one| uses(one, nsg)).map(|one| json!({ "id": one.get("id") })).collect()
        };
        let mut nsgs: Vec<Value> = Vec::new();
        for (id, nsg) in lock(&self.nsgs).iter() {
            let mut nsg = nsg.clone();
            if let Some(properties) = nsg.pointer_mut("/properties").and_then(Value::as_object_mut) {
                properties.insert("networkInterfaces".into(), ids(&machines, id).into());
                properties.insert("subnets".into(), ids(&subnets, id).into());
            }
            nsgs.push(nsg);
        }
        machines.into_iter().chain(nsgs).collect()
    }

    /// Replaces an NSG's custom rules, as a person or Terraform would; creates it when it is missing.
    pub fn set_rules(&self, name: &str, rules: Vec<Value>) {
        let id = nsg(name);
        let json = json!({ "id": id.as_str(), "name": name,
            "type": "Microsoft.Network/networkSecurityGroups", "location": "westeurope", "tags": {"owner": "ops"},
            "properties": { "provisioningState": "Succeeded", "securityRules": rules } });
        self.put(&id, json);
    }

    /// The custom rules of an NSG as they are now.
    pub fn rules(&self, name: &str) -> Vec<Value> {
        lock(&self.nsgs)
            .get(&nsg(name))
            .and_then(|json| json.pointer("/properties/securityRules").and_then(Value::as_array).cloned())
            .unwrap_or_default()
    }

    /// A property of an NSG.
    pub fn property(&self, name: &str, property: &str) -> Option<Value> {
        lock(&self.nsgs)
            .get(&nsg(name))
            .and_then(|json| json.pointer(&format!("/properties/{property}")).cloned())
    }

    /// Removes an NSG.
    pub fn delete_nsg(&self, name: &str) {
        lock(&self.nsgs).remove(&nsg(name));
    }

    /// The writes since the last call, each as `METHOD name[/rule]`.
    pub fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.writes))
    }

    /// Whether a TCP packet from `source` to a private `address` and `port` passes every NSG on its path. Knows
    /// IPv4, `*`, `Internet` (every source outside 10.0.0.0/8), `VirtualNetwork` (10.0.0.0/8) and lists.
    pub fn allows(&self, source: &str, address: &str, port: u16) -> bool {
        let path: &[&str] = match address {
            "10.0.0.4" | "10.0.0.5" => &["web-nsg"],
            "10.0.1.4" => &["first-nsg", "second-nsg"],
            _ => &[],
        };
        path.iter().all(|name| self.nsg_allows(name, source, address, port))
    }

    fn nsg_allows(&self, name: &str, source: &str, address: &str, port: u16) -> bool {
        let mut rules: Vec<Value> =
            self.rules(name).into_iter().filter_map(|rule| rule.get("properties").cloned()).collect();
        rules.push(json!({"priority": 65000, "direction": "Inbound", "access": "Allow", "protocol": "*",
            "sourceAddressPrefix": "VirtualNetwork", "destinationAddressPrefix": "*", "destinationPortRange": "*"}));
        rules.sort_by_key(|rule| rule.get("priority").and_then(Value::as_u64));
        let text =
            |rule: &Value, key: &str| rule.get(key).and_then(Value::as_str).unwrap_or("").to_lowercase();
        let list = |rule: &Value, one: &str, many: &str| -> Vec<String> {
            let several = rule.get(many).and_then(Value::as_array).cloned().unwrap_or_default();
            let several = several.iter().filter_map(Value::as_str).map(str::to_owned);
            several.chain(Some(text(rule, one)).filter(|text| !text.is_empty())).collect()
        };
        rules
            .iter()
            .find(|rule| {
                text(rule, "direction") == "inbound"
                    && ["tcp", "*"].contains(&text(rule, "protocol").as_str())
                    && list(rule, "sourceAddressPrefix", "sourceAddressPrefixes")
                        .iter()
                        .any(|p| covers(p, source))
                    && list(rule, "destinationAddressPrefix", "destinationAddressPrefixes")
                        .iter()
                        .any(|p| covers(p, address))
                    && list(rule, "destinationPortRange", "destinationPortRanges")
                        .iter()
                        .any(|p| holds(p, port))
            })
            .is_some_and(|rule| text(rule, "access") == "allow")
    }

    fn put(&self, id: &ResourceId, mut json: Value) {
        let mut versions = lock(&self.versions);
        *versions += 1;
        if let Some(object) = json.as_object_mut() {
            object.insert("etag".into(), json!(format!("W/\"{versions}\"")));
        }
        lock(&self.nsgs).insert(id.clone(), json);
    }

    fn begin(&self) -> Result<Verdict, AzureError> {
        let verdict = self.budget.spend();
        if verdict == Verdict::Fail || self.is_down.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        Ok(verdict)
    }

    fn begin_reading_roles(&self, scope: &str) -> Result<Verdict, AzureError> {
        let verdict = self.begin()?;
        if self.hides_roles.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        let is_missing = |flag: &AtomicBool, kind: &str| {
            flag.load(Ordering::SeqCst) && scope.to_lowercase().contains(kind)
        };
        if is_missing(&self.has_lost_vms, "/virtualmachines/")
            || is_missing(&self.has_no_policies, "/jitnetworkaccesspolicies/")
        {
            return Err(AzureError::NotFound(scope.to_owned()));
        }
        Ok(verdict)
    }

    fn end<T>(verdict: Verdict, result: T) -> Result<T, AzureError> {
        if verdict == Verdict::LoseTheAnswer { Err(unavailable()) } else { Ok(result) }
    }

    fn change_rules(
        &self,
        id: &ResourceId,
        what: String,
        change: impl FnOnce(&mut Vec<Value>),
    ) -> Result<WriteOutcome, AzureError> {
        let verdict = self.begin()?;
        let mut json =
            lock(&self.nsgs).get(id).cloned().ok_or_else(|| AzureError::NotFound(id.to_string()))?;
        let mut rules =
            json.pointer("/properties/securityRules").and_then(Value::as_array).cloned().unwrap_or_default();
        change(&mut rules);
        check(&rules)?;
        if let Some(slot) = json.pointer_mut("/properties/securityRules") {
            *slot = Value::Array(rules);
        }
        self.put(id, json);
        lock(&self.writes).push(what);
        if self.loses_answers.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        Self::end(verdict, WriteOutcome::Done)
    }
}

/// What Azure would refuse.
fn check(rules: &[Value]) -> Result<(), AzureError> {
    let mut seen = std::collections::BTreeSet::new();
    for rule in rules {
        let place = (
            rule.pointer("/properties/priority").and_then(Value::as_u64),
            rule.pointer("/properties/direction").and_then(Value::as_str).unwrap_or("").to_lowercase(),
        );
        if !seen.insert(place) {
            return Err(AzureError::Conflict("SecurityRuleConflict".into()));
        }
        let description = rule.pointer("/properties/description").and_then(Value::as_str).unwrap_or("");
        if description.chars().count() > 140 {
            return Err(AzureError::Rejected {
                code: "SecurityRuleDescriptionTooLong".into(),
                message: description.into(),
            });
        }
    }
    Ok(())
}

fn unavailable() -> AzureError {
    AzureError::Unavailable { reason: "made to fail".into(), retry_after: None }
}

/// A rule that allows TCP to every address.
pub(super) fn allow(name: &str, priority: u16, source: &str, port: &str) -> Value {
    json!({ "name": name, "properties": { "priority": priority, "direction": "Inbound", "access": "Allow",
        "protocol": "Tcp", "sourceAddressPrefix": source, "sourcePortRange": "*",
        "destinationAddressPrefix": "*", "destinationPortRange": port } })
}

fn covers(prefix: &str, address: &str) -> bool {
    let bits = |text: &str| text.parse::<Ipv4Addr>().ok().map(u32::from);
    let Some(address) = bits(address) else { return false };
    let inside = address >> 24 == 10;
    match prefix.to_lowercase().as_str() {
        "*" | "0.0.0.0/0" => true,
        "internet" => !inside,
        "virtualnetwork" => inside,
        other => {
            let (network, length) = other.split_once('/').unwrap_or((other, "32"));
            let (Some(network), Ok(length)) = (bits(network), length.parse::<u32>()) else { return false };
            length == 0 || (network ^ address) >> (32 - length.min(32)) == 0
        }
    }
}

fn holds(range: &str, port: u16) -> bool {
    if range == "*" {
        return true;
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return false };
    (first..=last).contains(&port)
}

/// The VM `name` with one NIC, its NSG and its subnet's.
fn machine(name: &str, address: &str, nic_nsg: Option<&str>, subnet_nsg: Option<&str>) -> Vec<Value> {
    let nic = format!("{GROUP}/providers/Microsoft.Network/networkInterfaces/{name}-nic");
    let vnet = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/{name}-vnet");
    let subnet = format!("{vnet}/subnets/default");
    let reference = |name: Option<&str>| name.map(|name| json!({ "id": nsg(name).as_str() }));
    vec![
        json!({ "id": vm(name).as_str(), "name": name, "type": "Microsoft.Compute/virtualMachines",
            "location": "westeurope",
            "properties": { "timeCreated": super::EPOCH,
                "networkProfile": { "networkInterfaces": [ { "id": nic } ] } } }),
        json!({ "id": nic, "name": format!("{name}-nic"), "type": "Microsoft.Network/networkInterfaces",
            "properties": { "virtualMachine": { "id": vm(name).as_str() },
                "networkSecurityGroup": reference(nic_nsg),
                "ipConfigurations": [ { "name": "ipconfig1", "properties": { "primary": true,
                    "privateIPAddress": address, "privateIPAddressVersion": "IPv4",
                    "subnet": { "id": subnet } } } ] } }),
        json!({ "id": vnet, "name": format!("{name}-vnet"), "type": "Microsoft.Network/virtualNetworks",
            "properties": { "addressSpace": { "addressPrefixes": ["10.0.0.0/8"] }, "subnets": [
                { "id": subnet, "name": "default", "properties": { "addressPrefix": "10.0.0.0/8",
                    "ipConfigurations": [ { "id": format!("{nic}/ipConfigurations/ipconfig1") } ],
                    "networkSecurityGroup": reference(subnet_nsg) } } ] } }),
    ]
}

const VM_TYPE: &str = "Microsoft.Compute/virtualMachines";

#[async_trait]
impl Azure for FakeAzure {
    async fn vm_estate(&self, wanted: &ResourceId) -> Result<Vec<Value>, AzureError> {
        let verdict = self.begin()?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        let mut found = lock(&self.machines)
            .values()
            .find(|machine| {
                let is_wanted = |id: &str| id.eq_ignore_ascii_case(wanted.as_str());
                machine.iter().any(|one| one.get("id").and_then(Value::as_str).is_some_and(is_wanted))
            })
            .cloned()
            .ok_or_else(|| AzureError::NotFound(wanted.to_string()))?;
        found.extend(lock(&self.nsgs).values().cloned());
        Self::end(verdict, found)
    }

    async fn subscription_estate(&self, _: &str) -> Result<Vec<Value>, AzureError> {
        let verdict = self.begin()?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        Self::end(verdict, self.resources())
    }

    async fn subscriptions_below(&self, management_group: &str) -> Result<Vec<String>, AzureError> {
        let verdict = self.begin()?;
        let found = lock(&self.below).get(management_group).cloned();
        Self::end(verdict, found.ok_or_else(|| AzureError::NotFound(management_group.to_owned()))?)
    }

    async fn event_subscriptions(&self, subscription: &str) -> Result<Vec<Value>, AzureError> {
        let verdict = self.begin()?;
        let found = lock(&self.event_subscriptions).get(subscription).cloned();
        Self::end(verdict, found.unwrap_or_default())
    }

    async fn own_object_id(&self) -> Result<Option<String>, AzureError> {
        Ok(Some(OWN_OBJECT_ID.to_owned()))
    }

    async fn network_security_group(&self, id: &ResourceId) -> Result<NetworkSecurityGroup, AzureError> {
        let verdict = self.begin()?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        let json = lock(&self.nsgs).get(id).cloned().ok_or_else(|| AzureError::NotFound(id.to_string()))?;
        Self::end(verdict, read(json)?)
    }

    async fn network_security_groups(&self, _: &str) -> Result<Vec<NetworkSecurityGroup>, AzureError> {
        let verdict = self.begin()?;
        let all: Vec<Value> = lock(&self.nsgs).values().cloned().collect();
        Self::end(verdict, all.into_iter().map(read).collect::<Result<_, _>>()?)
    }

    async fn put_rule(&self, id: &ResourceId, rule: &SecurityRule) -> Result<WriteOutcome, AzureError> {
        let name = rule.name().to_owned();
        self.change_rules(id, format!("PUT {}/{name}", id.name()), |rules| {
            rules.retain(|old| old.get("name").and_then(Value::as_str) != Some(&name));
            rules.push(rule.json().clone());
        })
    }

    async fn delete_rule(&self, id: &ResourceId, name: &str) -> Result<WriteOutcome, AzureError> {
        self.change_rules(id, format!("DELETE {}/{name}", id.name()), |rules| {
            rules.retain(|old| old.get("name").and_then(Value::as_str) != Some(name));
        })
    }

    async fn put_network_security_group(
        &self,
        written: &NetworkSecurityGroup,
    ) -> Result<WriteOutcome, AzureError> {
        let verdict = self.begin()?;
        let id = written.id().cloned().ok_or_else(|| AzureError::NotFound("an NSG without id".into()))?;
        let current =
            lock(&self.nsgs).get(&id).cloned().ok_or_else(|| AzureError::NotFound(id.to_string()))?;
        if current.get("etag").and_then(Value::as_str) != written.etag() {
            return Err(AzureError::Conflict("PreconditionFailedEtagMismatch".into()));
        }
        let json = written.to_json();
        check(
            json.pointer("/properties/securityRules").and_then(Value::as_array).map_or(&[], Vec::as_slice),
        )?;
        self.put(&id, json);
        lock(&self.writes).push(format!("PUT {}", id.name()));
        Self::end(verdict, WriteOutcome::Done)
    }

    async fn operation(&self, _: &str) -> Result<WriteOutcome, AzureError> {
        let verdict = self.begin()?;
        Self::end(verdict, WriteOutcome::Done)
    }

    async fn role_assignments(
        &self,
        scope: &str,
        principal: &str,
    ) -> Result<Vec<RoleAssignment>, AzureError> {
        let verdict = self.begin_reading_roles(scope)?;
        Self::end(verdict, self.roles.assignments_at(scope, principal))
    }

    async fn deny_assignments(
        &self,
        scope: &str,
        principal: Option<&str>,
    ) -> Result<Vec<DenyAssignment>, AzureError> {
        let verdict = self.begin_reading_roles(scope)?;
        Self::end(verdict, self.roles.denials_at(scope, principal))
    }

    async fn role_permissions(&self, role: &str) -> Result<Vec<RolePermissions>, AzureError> {
        let verdict = self.begin()?;
        let found = self.roles.permissions_of(role).ok_or_else(|| AzureError::NotFound(role.to_owned()))?;
        Self::end(verdict, found)
    }
}

fn read(json: Value) -> Result<NetworkSecurityGroup, AzureError> {
    NetworkSecurityGroup::from_json(json)
        .map_err(|error| AzureError::Rejected { code: "Unreadable".into(), message: error.to_string() })
}
