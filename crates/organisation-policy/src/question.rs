//! What is put to the policies.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// One question: may this person do this with this VM, now?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// Who wants it.
    pub person: Person,
    /// The VM that it is about.
    pub vm: Machine,
    /// What is known whatever is wanted.
    pub by: Circumstances,
    /// What is wanted.
    pub want: Want,
}

/// A user, service principal or managed identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Person {
    /// Entra object id; case does not matter.
    pub id: String,
    /// What people call it. Never an authority.
    pub name: String,
    /// Object ids of all groups it is a member of, however indirectly.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

/// A VM, as policies see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Machine {
    /// Azure resource id; case does not matter.
    pub id: String,
    /// Azure region, such as `westeurope`.
    pub location: String,
    /// Its tags, as they are.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// What is known about every question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Circumstances {
    /// How the person has signed in.
    #[serde(default)]
    pub authentication: Authentication,
    /// The time where the deployment is.
    pub clock: Clock,
    /// Whether the person is on call. False when that is not known.
    #[serde(default)]
    pub on_call: bool,
    /// Where the question came from: `api`, `azure`, `slack`, ...
    pub channel: String,
}

/// How somebody has signed in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authentication {
    /// The token's `amr`: `pwd`, `mfa`, ...
    #[serde(default)]
    pub methods: BTreeSet<String>,
    /// The token's `acrs`: authentication contexts of Conditional Access, `c1` to `c99`.
    #[serde(default)]
    pub contexts: BTreeSet<String>,
}

/// A time of day in a named zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Clock {
    /// Name in the IANA time zone database, such as `Europe/Berlin`.
    pub zone: String,
    /// `Monday` to `Sunday`.
    pub weekday: String,
    /// Minutes since midnight, 0 to 1439.
    pub minute_of_day: u16,
}

impl Clock {
    /// What a clock on the wall of `zone` shows at `now`.
    #[must_use]
    pub fn at(now: jiff::Timestamp, zone: &jiff::tz::TimeZone) -> Self {
        let local = now.to_zoned_datetime(zone.clone());
        let minutes = i32::from(local.hour()) * 60 + i32::from(local.minute());
        Self {
            zone: zone.iana_name().unwrap_or("UTC").to_owned(),
            weekday: local.strftime("%A").to_string(),
            // At most 23 * 60 + 59.
            minute_of_day: u16::try_from(minutes).unwrap_or_default(),
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", deny_unknown_fields)]
pub enum Want {
    /// To ask for access.
    Request {
        /// What it would open.
        asked: Asked,
    },
    /// To get it without approval.
    AutoApprove {
        /// What it would open.
        asked: Asked,
    },
    /// To approve another person's request.
    Approve {
        /// What it would open.
        asked: Asked,
        /// Who asked.
        requester: Person,
        /// How many others have approved it already.
        approvals: u32,
    },
    /// To open at once in an emergency.
    BreakGlass {
        /// What it would open.
        asked: Asked,
    },
    /// To change how the VM is protected.
    Configure,
}

impl Want {
    /// The action's name in policies.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Request { .. } => "request",
            Self::AutoApprove { .. } => "autoApprove",
            Self::Approve { .. } => "approve",
            Self::BreakGlass { .. } => "breakGlass",
            Self::Configure => "configure",
        }
    }

    /// What would be opened, if anything.
    #[must_use]
    pub fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Request { asked }
            | Self::AutoApprove { asked }
            | Self::Approve { asked, .. }
            | Self::BreakGlass { asked } => Some(asked),
            Self::Configure => None,
        }
    }
}

/// What a request would open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    /// Ports and ranges as `22` and `5985-5986`, with protocol: see `protocols`.
    pub ports: BTreeSet<String>,
    /// The lowest port of all.
    pub lowest_port: u16,
    /// The highest port of all.
    pub highest_port: u16,
    /// `Tcp`, `Udp`, `*` for all.
    pub protocols: BTreeSet<String>,
    /// Addresses and CIDR blocks.
    pub sources: BTreeSet<String>,
    /// How many bits of an address the widest source leaves free, 0 to 128.
    pub widest_source_bits: u8,
    /// For how long, in seconds.
    pub duration_seconds: u32,
    /// Why.
    #[serde(default)]
    pub justification: Option<String>,
    /// The ticket that it is for.
    #[serde(default)]
    pub ticket: Option<Ticket>,
}

/// A ticket that a request names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ticket {
    /// Its number or key, such as `OPS-42`.
    pub id: String,
    /// Its state, as the ticketing system calls it, in lower case; none when it was not asked or did not answer.
    #[serde(default)]
    pub state: Option<String>,
}

/// Why a question cannot be put to the policies. Nothing is allowed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the organisation's policies cannot judge this: {0}")]
pub struct Undecidable(pub(crate) String);
