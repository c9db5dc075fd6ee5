//! The envelope of a policy as a resource (`Resource` of Azure's common types).

use ajar_access::azure_policy::{AzurePolicy, AzureRequest, VmTerms};
use serde::Serialize;

/// The resource's type.
const TYPE: &str = "Microsoft.Security/locations/jitNetworkAccessPolicies";

/// `JitNetworkAccessPolicy`
#[derive(Serialize)]
pub(super) struct Policy {
    kind: String,
    properties: Properties,
    id: String,
    name: String,
    #[serde(rename = "type")]
    resource_type: &'static str,
    location: String,
}

/// `JitNetworkAccessPolicyProperties`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    virtual_machines: Vec<VmTerms>,
    requests: Vec<AzureRequest>,
    provisioning_state: &'static str,
    /// In answers to PUT alone, as in recorded traffic of the service; not in the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    append_mode: Option<bool>,
}

/// `JitNetworkAccessPoliciesList`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PolicyList {
    value: Vec<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_link: Option<String>,
}

impl PolicyList {
    pub(super) fn new(policies: Vec<AzurePolicy>, next_link: Option<String>) -> PolicyList {
        PolicyList { value: policies.into_iter().map(Policy::from).collect(), next_link }
    }
}

impl Policy {
    /// The answer to a PUT.
    pub(super) fn written(policy: AzurePolicy, append_mode: Option<bool>) -> Policy {
        let mut shown = Policy::from(policy);
        shown.properties.append_mode = Some(append_mode.unwrap_or(false));
        shown
    }
}

impl From<AzurePolicy> for Policy {
    fn from(policy: AzurePolicy) -> Policy {
        Policy {
            kind: policy.kind,
            properties: Properties {
                virtual_machines: policy.virtual_machines,
                requests: policy.requests,
                provisioning_state: policy.provisioning_state,
                append_mode: None,
            },
            id: policy.id,
            name: policy.name,
            resource_type: TYPE,
            location: policy.location,
        }
    }
}
