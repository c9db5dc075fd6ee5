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
    /// What was asked is stored for good when it is answered; nothing of it can fail later.
    provisioning_state: &'static str,
}

/// `JitNetworkAccessPoliciesList`. All of it is one page.
#[derive(Serialize)]
pub(super) struct PolicyList {
    value: Vec<Policy>,
}

impl From<AzurePolicy> for Policy {
    fn from(policy: AzurePolicy) -> Policy {
        Policy {
            kind: policy.kind,
            properties: Properties {
                virtual_machines: policy.virtual_machines,
                requests: policy.requests,
                provisioning_state: "Succeeded",
            },
            id: policy.id,
            name: policy.name,
            resource_type: TYPE,
            location: policy.location,
        }
    }
}

impl From<Vec<AzurePolicy>> for PolicyList {
    fn from(policies: Vec<AzurePolicy>) -> PolicyList {
        PolicyList { value: policies.into_iter().map(Policy::from).collect() }
    }
}
