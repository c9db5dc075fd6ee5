//! What the organisation's own policies say. They come after Azure's roles and after the VM's JIT policy, and can only
//! narrow what those two allow.

use crate::ports::identity::{Caller, SignIn};
use crate::request::Wish;
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Somebody, and how they have signed in.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// Who it is.
    pub caller: &'a Caller,
    /// What their token said beside that.
    pub sign_in: &'a SignIn,
}

impl<'a> From<&'a Caller> for Person<'a> {
    fn from(caller: &'a Caller) -> Person<'a> {
        Person { caller, sign_in: &caller.sign_in }
    }
}

/// What Azure says of a VM, as far as policies can speak of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Azure region, such as `westeurope`; empty when nobody asked Azure.
    pub location: String,
    /// Its tags, as they are.
    pub tags: BTreeMap<String, String>,
}

/// What somebody wants.
#[derive(Debug, Clone, Copy)]
pub enum Want<'a> {
    /// To ask for access.
    Request(&'a Wish),
    /// To get it without anybody's approval.
    AutoApprove(&'a Wish),
    /// To approve or refuse a request, or to review what was opened in an emergency.
    Approve {
        /// What was asked for.
        wish: &'a Wish,
        /// By whom.
        requester: Person<'a>,
        /// How many others have approved it already.
        approvals: u32,
    },
    /// To open at once in an emergency.
    BreakGlass(&'a Wish),
    /// To change how the VM is protected.
    Configure,
}

/// May this person do this with this VM, now?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who wants it.
    pub person: Person<'a>,
    /// The VM that it is about.
    pub vm: &'a ResourceId,
    /// What Azure says of it; what it says is left out where [`OrganisationPolicy::looks_at_machines`] is false.
    pub machine: &'a Machine,
    /// When it is asked.
    pub at: Timestamp,
    /// Over which of Ajar's interfaces: `api` or `azure`.
    pub channel: &'a str,
    /// What is wanted.
    pub want: Want<'a>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It may be done.
    Allowed {
        /// The names of the policies that permit it.
        by: Vec<String>,
    },
    /// It may not.
    Denied {
        /// In a sentence for the person: which policies forbid it, and what would satisfy them.
        reason: String,
        /// Where [`Want::AutoApprove`] was asked: how many people have to approve it, at least one.
        approvals: u32,
    },
}

/// The organisation's policies. Pure: an answer follows from the question alone.
pub trait OrganisationPolicy: Send + Sync {
    /// Whether any policy speaks of a VM's tags or location, so that they have to be read.
    fn looks_at_machines(&self) -> bool;

    /// Answers. What cannot be judged is denied.
    fn judge(&self, question: &Question<'_>) -> Judgement;
}

/// No policies of the organisation's own: everything that Azure's roles and the JIT policy allow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unrestricted;

impl OrganisationPolicy for Unrestricted {
    fn looks_at_machines(&self) -> bool {
        false
    }

    fn judge(&self, _question: &Question<'_>) -> Judgement {
        Judgement::Allowed { by: Vec::new() }
    }
}
