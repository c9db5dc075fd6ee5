//! What people and other systems are told: what happened, to what, and who has to know.

use crate::life_cycle::CloseReason;
use crate::ports::identity::Caller;
use crate::request::{AccessRequest, RequestedFlow};
use crate::request_id::RequestId;
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What happened. More will be added; a receiver ignores what it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Happened {
    /// Somebody asked for access.
    Asked,
    /// A request waits for people to approve it.
    ApprovalWanted,
    /// As many people as were needed have approved it.
    Approved {
        /// What they are called.
        by: Vec<String>,
    },
    /// Nobody approved it in time.
    TimedOut,
    /// Access is opened in an emergency; somebody has to review it.
    BrokeGlass {
        /// Why, as the requester says.
        reason: String,
    },
    /// Access was promised for a later start.
    Scheduled {
        /// When it begins.
        start: Timestamp,
    },
    /// Access is open at every enforcement point.
    Opened {
        /// When it ends.
        end: Timestamp,
    },
    /// Access was refused.
    Refused {
        /// Why, for the requester.
        reason: String,
    },
    /// Access is granted but cannot be opened at present.
    Hindered {
        /// Why, for the requester.
        reason: String,
    },
    /// Access ends soon.
    AboutToEnd {
        /// When.
        end: Timestamp,
    },
    /// The end was moved.
    Extended {
        /// When access ends now.
        end: Timestamp,
    },
    /// A request was withdrawn before it opened.
    Cancelled,
    /// Access is shut at every enforcement point.
    Closed {
        /// Why it ended.
        reason: CloseReason,
    },
    /// A request could not be carried out.
    Failed {
        /// Why, for the requester.
        reason: String,
    },
    /// The owner of live access has no longer the permission for it.
    RoleLost {
        /// What is missing.
        reason: String,
    },
    /// What should be shut was not seen shut in time.
    Overdue {
        /// When it should have been shut.
        since: Timestamp,
    },
    /// A VM's verdict is another one than before.
    VerdictChanged {
        /// The verdict before; none when the VM is new.
        before: Option<String>,
        /// The verdict now.
        after: String,
        /// Why, in a sentence.
        reason: String,
    },
    /// A template fits a VM, and somebody has to approve that it is protected so.
    ProtectionWanted {
        /// What it would do, in a sentence.
        what: String,
    },
    /// Rules that Ajar owns were changed by somebody else.
    Drifted {
        /// What was found, in a sentence.
        what: String,
    },
}

impl Happened {
    /// The name of the kind, as receivers compare it: `access.opened`, `vm.verdictChanged`.
    pub fn name(&self) -> &'static str {
        match self {
            Happened::Asked => "access.asked",
            Happened::ApprovalWanted => "access.approvalWanted",
            Happened::Approved { .. } => "access.approved",
            Happened::TimedOut => "access.timedOut",
            Happened::BrokeGlass { .. } => "access.brokeGlass",
            Happened::Scheduled { .. } => "access.scheduled",
            Happened::Opened { .. } => "access.opened",
            Happened::Refused { .. } => "access.refused",
            Happened::Hindered { .. } => "access.hindered",
            Happened::AboutToEnd { .. } => "access.aboutToEnd",
            Happened::Extended { .. } => "access.extended",
            Happened::Cancelled => "access.cancelled",
            Happened::Closed { .. } => "access.closed",
            Happened::Failed { .. } => "access.failed",
            Happened::RoleLost { .. } => "access.roleLost",
            Happened::Overdue { .. } => "access.overdue",
            Happened::VerdictChanged { .. } => "vm.verdictChanged",
            Happened::ProtectionWanted { .. } => "vm.protectionWanted",
            Happened::Drifted { .. } => "vm.drifted",
        }
    }

    /// Who has to know.
    fn audience(&self) -> Vec<Audience> {
        match self {
            Happened::Asked | Happened::ApprovalWanted => vec![Audience::Requester, Audience::Approvers],
            Happened::BrokeGlass { .. } => {
                vec![Audience::Requester, Audience::Approvers, Audience::Operators]
            }
            Happened::Hindered { .. } | Happened::Failed { .. } | Happened::RoleLost { .. } => {
                vec![Audience::Requester, Audience::Operators]
            }
            Happened::ProtectionWanted { .. } => vec![Audience::Approvers, Audience::Operators],
            Happened::Overdue { .. } | Happened::VerdictChanged { .. } | Happened::Drifted { .. } => {
                vec![Audience::Operators]
            }
            Happened::Approved { .. }
            | Happened::TimedOut
            | Happened::Scheduled { .. }
            | Happened::Opened { .. }
            | Happened::Refused { .. }
            | Happened::AboutToEnd { .. }
            | Happened::Extended { .. }
            | Happened::Cancelled
            | Happened::Closed { .. } => vec![Audience::Requester],
        }
    }
}

/// Who has to know. A channel that reaches everybody, such as a webhook, passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Audience {
    /// Whoever asked for the access.
    Requester,
    /// Whoever may approve it.
    Approvers,
    /// Whoever runs Ajar and looks after the VM.
    Operators,
}

/// What it happened to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Subject {
    /// An access request, as it was then.
    Request(Box<RequestSubject>),
    /// A VM.
    Vm {
        /// The VM.
        vm: ResourceId,
    },
}

/// What is told about an access request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestSubject {
    /// Its id.
    pub id: RequestId,
    /// The VM.
    pub vm: ResourceId,
    /// Who asked.
    pub requester: Caller,
    /// What for.
    pub flows: Vec<RequestedFlow>,
    /// Why.
    pub justification: Option<String>,
    /// When access begins, once that is fixed.
    pub start: Option<Timestamp>,
    /// When access ends, once that is fixed.
    pub end: Option<Timestamp>,
}

impl From<&AccessRequest> for Subject {
    fn from(request: &AccessRequest) -> Subject {
        Subject::Request(Box::new(RequestSubject {
            id: request.id.clone(),
            vm: request.wish.vm.clone(),
            requester: request.requester.clone(),
            flows: request.wish.flows.clone(),
            justification: request.wish.justification.clone(),
            start: request.start,
            end: request.end,
        }))
    }
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Its id, the same however often it is delivered: at most 100 letters, digits and dashes.
    pub id: String,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub happened: Happened,
    /// To what.
    pub subject: Subject,
    /// Who has to know.
    pub audience: Vec<Audience>,
}

impl Notification {
    /// Something that happened at `at`. `id` must be the same whenever the same change is tried again, and no
    /// other change may ever have it.
    pub fn new(id: String, at: Timestamp, happened: Happened, subject: Subject) -> Notification {
        let audience = happened.audience();
        Notification { id, at, happened, subject, audience }
    }

    /// The VM it is about.
    pub fn vm(&self) -> &ResourceId {
        match &self.subject {
            Subject::Request(request) => &request.vm,
            Subject::Vm { vm } => vm,
        }
    }

    /// What happened, in a sentence.
    pub fn sentence(&self) -> String {
        let vm = self.vm().name();
        let who = match &self.subject {
            Subject::Request(request) => request.requester.name.as_str(),
            Subject::Vm { .. } => "somebody",
        };
        match &self.happened {
            Happened::Asked => format!("{who} asks for access to {vm}"),
            Happened::ApprovalWanted => format!("{who} asks for access to {vm} and needs an approval"),
            Happened::Approved { by } => {
                format!("the request of {who} for access to {vm} was approved by {}", by.join(", "))
            }
            Happened::TimedOut => {
                format!("the request of {who} for access to {vm} was not approved in time")
            }
            Happened::BrokeGlass { reason } => {
                format!("{who} opens {vm} in an emergency, and somebody has to review it: {reason}")
            }
            Happened::Scheduled { start } => format!("{who} gets access to {vm} from {start:.0}"),
            Happened::Opened { end } => format!("{who} has access to {vm} until {end:.0}"),
            Happened::Refused { reason } => format!("{who} gets no access to {vm}: {reason}"),
            Happened::Hindered { reason } => format!("access of {who} to {vm} {reason}"),
            Happened::AboutToEnd { end } => format!("access of {who} to {vm} ends at {end:.0}"),
            Happened::Extended { end } => format!("access of {who} to {vm} now ends at {end:.0}"),
            Happened::Cancelled => format!("the request of {who} for access to {vm} was withdrawn"),
            Happened::Closed { reason } => {
                let why = match reason {
                    CloseReason::Expired => "its time was up",
                    CloseReason::Revoked => "it was ended early",
                    CloseReason::Superseded => "a newer request took its place",
                };
                format!("access of {who} to {vm} is closed: {why}")
            }
            Happened::Failed { reason } => {
                format!("access of {who} to {vm} could not be given: {reason}")
            }
            Happened::RoleLost { reason } => {
                format!("access of {who} to {vm} has lost its permission: {reason}")
            }
            Happened::Overdue { since } => {
                format!("{vm} should be shut since {since:.0} and was not seen shut")
            }
            Happened::VerdictChanged { before: Some(before), after, reason } => {
                format!("{vm} was {before} and is now {after}: {reason}")
            }
            Happened::VerdictChanged { before: None, after, reason } => format!("{vm} is {after}: {reason}"),
            Happened::ProtectionWanted { what } => format!("{vm} waits for protection: {what}"),
            Happened::Drifted { what } => {
                format!("the rules that protect {vm} were changed by others: {what}")
            }
        }
    }
}
