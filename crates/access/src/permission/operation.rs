//! What each operation takes: the one table that the use cases, the documentation and its tests share.

/// An action of Azure RBAC that Ajar asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Turn JIT on or off.
    WritePolicy,
    /// See a policy and what happened under it.
    ReadPolicy,
    /// Ask for access.
    Initiate,
    /// Change the VM: the second half of configuring.
    WriteVm,
    /// See the VM.
    ReadVm,
}

/// Where an action is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The JIT policy: the policy resource where the caller names one, as in the Azure-compatible API; elsewhere, and
    /// for lists, the VM's resource group, since a VM's own policy is no resource.
    Policy,
    /// The VM itself.
    Vm,
}

impl Action {
    /// The action's name in Azure (Microsoft Learn, "Enable just-in-time access on VMs", Prerequisites).
    pub fn name(self) -> &'static str {
        match self {
            Action::WritePolicy => "Microsoft.Security/locations/jitNetworkAccessPolicies/write",
            Action::ReadPolicy => "Microsoft.Security/locations/jitNetworkAccessPolicies/read",
            Action::Initiate => "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action",
            Action::WriteVm => "Microsoft.Compute/virtualMachines/write",
            Action::ReadVm => "Microsoft.Compute/virtualMachines/read",
        }
    }

    /// Where it is asked about.
    pub fn scope(self) -> Scope {
        match self {
            Action::WritePolicy | Action::ReadPolicy | Action::Initiate => Scope::Policy,
            Action::WriteVm | Action::ReadVm => Scope::Vm,
        }
    }
}

/// Something a caller may want to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Turn JIT on, change it, see what that would do, turn it off.
    Configure,
    /// Ask for access, and have it opened.
    Request,
    /// See JIT policies.
    ReadPolicy,
    /// See verdicts on VMs.
    Assess,
    /// See another person's request and its history.
    FollowAnother,
    /// End another person's request or access.
    EndAnother,
    /// Approve or refuse another person's request, or review an emergency.
    Approve,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 7] = [
        Operation::Configure,
        Operation::Request,
        Operation::ReadPolicy,
        Operation::Assess,
        Operation::FollowAnother,
        Operation::EndAnother,
        Operation::Approve,
    ];

    /// What docs/permissions.md calls it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Configure => "configure",
            Operation::Request => "request",
            Operation::ReadPolicy => "read policies",
            Operation::Assess => "assess",
            Operation::FollowAnother => "follow another's request",
            Operation::EndAnother => "end another's access",
            Operation::Approve => "approve",
        }
    }

    /// What it takes. All of these are needed.
    pub fn needs(self) -> &'static [Action] {
        match self {
            Operation::Configure | Operation::EndAnother => &[Action::WritePolicy, Action::WriteVm],
            // Whoever may open it themselves may let others in; the organisation's policies narrow that.
            Operation::Request | Operation::Approve => &[Action::Initiate, Action::ReadVm],
            Operation::ReadPolicy | Operation::FollowAnother => &[Action::ReadPolicy],
            Operation::Assess => &[Action::ReadVm],
        }
    }
}
