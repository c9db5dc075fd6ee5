//! What is modelled: resource types, what may be done with them, and their embedded children.

/// A resource type.
#[derive(Debug)]
pub(crate) struct Kind {
    /// `Namespace/type`, in Azure's case.
    pub(crate) name: &'static str,
    /// PUT and DELETE are modelled.
    pub(crate) writable: bool,
    pub(crate) children: &'static [Child],
}

/// A sub-resource that lives inside its parent's `properties`.
#[derive(Debug)]
pub(crate) struct Child {
    /// The path segment, which is also the property that holds the children.
    pub(crate) name: &'static str,
    pub(crate) writable: bool,
}

const fn read_only(name: &'static str) -> Child {
    Child { name, writable: false }
}

pub(crate) const VIRTUAL_MACHINES: &str = "Microsoft.Compute/virtualMachines";
pub(crate) const NETWORK_INTERFACES: &str = "Microsoft.Network/networkInterfaces";
pub(crate) const NETWORK_SECURITY_GROUPS: &str = "Microsoft.Network/networkSecurityGroups";
pub(crate) const PUBLIC_ADDRESSES: &str = "Microsoft.Network/publicIPAddresses";
pub(crate) const VIRTUAL_NETWORKS: &str = "Microsoft.Network/virtualNetworks";
pub(crate) const ROUTE_TABLES: &str = "Microsoft.Network/routeTables";
pub(crate) const APPLICATION_GROUPS: &str = "Microsoft.Network/applicationSecurityGroups";

pub(crate) const ROLE_ASSIGNMENTS: &str = "Microsoft.Authorization/roleAssignments";
pub(crate) const ROLE_DEFINITIONS: &str = "Microsoft.Authorization/roleDefinitions";
pub(crate) const DENY_ASSIGNMENTS: &str = "Microsoft.Authorization/denyAssignments";

pub(crate) const SUBSCRIPTIONS: &str = "Microsoft.Resources/subscriptions";
pub(crate) const RESOURCE_GROUPS: &str = "Microsoft.Resources/resourceGroups";

/// Pseudo-resources that hold the directory; see the README.
pub(crate) const TENANTS: &str = "Microsoft.Resources/tenants";
pub(crate) const USERS: &str = "Microsoft.Graph/users";
pub(crate) const GROUPS: &str = "Microsoft.Graph/groups";
pub(crate) const SERVICE_PRINCIPALS: &str = "Microsoft.Graph/servicePrincipals";

static KINDS: &[Kind] = &[
    Kind { name: VIRTUAL_MACHINES, writable: true, children: &[] },
    Kind { name: NETWORK_INTERFACES, writable: true, children: &[read_only("ipConfigurations")] },
    Kind { name: PUBLIC_ADDRESSES, writable: true, children: &[] },
    Kind {
        name: VIRTUAL_NETWORKS,
        writable: false,
        children: &[Child { name: "subnets", writable: true }, read_only("virtualNetworkPeerings")],
    },
    Kind {
        name: NETWORK_SECURITY_GROUPS,
        writable: true,
        children: &[Child { name: "securityRules", writable: true }, read_only("defaultSecurityRules")],
    },
    Kind { name: APPLICATION_GROUPS, writable: false, children: &[] },
    Kind { name: ROUTE_TABLES, writable: false, children: &[read_only("routes")] },
    Kind {
        name: "Microsoft.Network/loadBalancers",
        writable: false,
        children: &[
            read_only("backendAddressPools"),
            read_only("frontendIPConfigurations"),
            read_only("inboundNatRules"),
            read_only("loadBalancingRules"),
        ],
    },
    Kind { name: "Microsoft.Network/azureFirewalls", writable: false, children: &[] },
    Kind { name: "Microsoft.Network/bastionHosts", writable: false, children: &[] },
    Kind {
        name: "Microsoft.EventGrid/systemTopics",
        writable: false,
        children: &[read_only("eventSubscriptions")],
    },
];

impl Kind {
    pub(crate) fn find(namespace: &str, name: &str) -> Option<&'static Self> {
        let wanted = format!("{namespace}/{name}");
        KINDS.iter().find(|kind| kind.name.eq_ignore_ascii_case(&wanted))
    }

    pub(crate) fn of_type(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn child(&self, name: &str) -> Option<&'static Child> {
        self.children.iter().find(|child| child.name.eq_ignore_ascii_case(name))
    }

    /// Network resources carry an `etag`; virtual machines do not.
    pub(crate) fn has_etag(&self) -> bool {
        self.name.starts_with("Microsoft.Network/")
    }
}
