//! The shape of a network security group as ARM shows it.

use serde_json::{Map, Value, json};

use crate::exchange::Refusal;

/// (name, description, source, destination, access, priority, direction), as 53 of 53 recorded groups have them.
const DEFAULT_RULES: [(&str, &str, &str, &str, &str, u16, &str); 6] = [
    (
        "AllowVnetInBound",
        "Allow inbound traffic from all VMs in VNET",
        "VirtualNetwork",
        "VirtualNetwork",
        "Allow",
        65000,
        "Inbound",
    ),
    (
        "AllowAzureLoadBalancerInBound",
        "Allow inbound traffic from azure load balancer",
        "AzureLoadBalancer",
        "*",
        "Allow",
        65001,
        "Inbound",
    ),
    ("DenyAllInBound", "Deny all inbound traffic", "*", "*", "Deny", 65500, "Inbound"),
    (
        "AllowVnetOutBound",
        "Allow outbound traffic from all VMs to all VMs in VNET",
        "VirtualNetwork",
        "VirtualNetwork",
        "Allow",
        65000,
        "Outbound",
    ),
    (
        "AllowInternetOutBound",
        "Allow outbound traffic from all VMs to Internet",
        "*",
        "Internet",
        "Allow",
        65001,
        "Outbound",
    ),
    ("DenyAllOutBound", "Deny all outbound traffic", "*", "*", "Deny", 65500, "Outbound"),
];

/// The four list properties that ARM shows as `[]` when they are not used.
const PLURALS: [&str; 4] =
    ["sourcePortRanges", "destinationPortRanges", "sourceAddressPrefixes", "destinationAddressPrefixes"];

/// Fills in what ARM always shows: default rules, names and ids of rules, empty lists, etags and states. What
/// a rule says is not changed.
pub(crate) fn complete(group: &mut Value) {
    let id = group.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let etag = group.get("etag").cloned();
    let Some(Value::Object(properties)) = group.get_mut("properties") else { return };
    let state = properties.get("provisioningState").cloned().unwrap_or_else(|| json!("Succeeded"));
    properties.entry("securityRules").or_insert_with(|| json!([]));
    properties.entry("defaultSecurityRules").or_insert_with(default_rules);
    for list in ["securityRules", "defaultSecurityRules"] {
        let rules = properties.get_mut(list).and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten() {
            let name = rule.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            *rule = shown_rule(&id, list, &name, rule, etag.as_ref(), &state);
        }
    }
}

fn shown_rule(
    group: &str,
    list: &str,
    name: &str,
    rule: &Value,
    etag: Option<&Value>,
    state: &Value,
) -> Value {
    let mut shown = Map::new();
    shown.insert("name".to_owned(), json!(name));
    shown.insert("id".to_owned(), json!(format!("{group}/{list}/{name}")));
    if let Some(etag) = etag {
        shown.insert("etag".to_owned(), etag.clone());
    }
    shown.insert("type".to_owned(), json!(format!("Microsoft.Network/networkSecurityGroups/{list}")));
    let mut properties = Map::new();
    properties.insert("provisioningState".to_owned(), state.clone());
    let given = rule.get("properties").and_then(Value::as_object);
    for (key, value) in given.into_iter().flatten().filter(|(key, _)| *key != "provisioningState") {
        // Terraform and the portal send null for what is not set; ARM then does not show the property.
        if !value.is_null() {
            properties.insert(key.clone(), value.clone());
        }
    }
    for plural in PLURALS {
        properties.entry(plural).or_insert_with(|| json!([]));
    }
    shown.insert("properties".to_owned(), Value::Object(properties));
    for (key, value) in rule.as_object().into_iter().flatten() {
        shown.entry(key).or_insert_with(|| value.clone());
    }
    Value::Object(shown)
}

fn default_rules() -> Value {
    DEFAULT_RULES
        .iter()
        .map(|(name, description, source, destination, access, priority, direction)| {
            json!({"name": name, "properties": {
                "description": description, "protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*",
                "sourceAddressPrefix": source, "destinationAddressPrefix": destination, "access": access,
                "priority": priority, "direction": direction,
            }})
        })
        .collect()
}

/// What a whole PUT leaves behind: the body, without what callers cannot set, with what ARM adds. The rules
/// have been checked.
pub(crate) fn from_put(
    id: &str,
    name: &str,
    body: &Value,
    existing: Option<&Value>,
) -> Result<Value, Refusal> {
    let mut group = Map::new();
    group.insert("name".to_owned(), json!(name));
    group.insert("id".to_owned(), json!(id));
    group.insert("etag".to_owned(), Value::Null);
    group.insert("type".to_owned(), json!(crate::catalogue::NETWORK_SECURITY_GROUPS));
    for (key, value) in body.as_object().into_iter().flatten() {
        group.entry(key).or_insert_with(|| value.clone());
    }
    let mut properties = match body.get("properties") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(properties)) => properties.clone(),
        Some(_) => return Err(Refusal::bad("InvalidRequestFormat", "`properties` must be an object.")),
    };
    for read_only in ["defaultSecurityRules", "networkInterfaces", "subnets", "flowLogs", "resourceGuid"] {
        properties.shift_remove(read_only);
        let kept = existing.and_then(|group| group.pointer(&format!("/properties/{read_only}")));
        if let Some(kept) = kept {
            properties.insert(read_only.to_owned(), kept.clone());
        }
    }
    group.insert("properties".to_owned(), Value::Object(properties));
    let mut group = Value::Object(group);
    complete(&mut group);
    Ok(group)
}

/// Puts an etag on the group and its rules, and a state on all of them: ARM shows one etag for the whole group.
pub(crate) fn stamp(group: &mut Value, etag: &str, state: &str) {
    let mark = |value: &mut Value| {
        if let Some(object) = value.as_object_mut() {
            object.insert("etag".to_owned(), json!(etag));
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                properties.insert("provisioningState".to_owned(), json!(state));
            }
        }
    };
    mark(group);
    for list in ["/properties/securityRules", "/properties/defaultSecurityRules"] {
        group.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(mark);
    }
}
