//! Security admin rules of Azure Virtual Network Manager, which are evaluated before every NSG of a VNet.
//!
//! `Deny` ends it, `AlwaysAllow` lets the packet pass without asking an NSG, `Allow` hands it on to the NSGs, as does
//! the absence of a rule [network-facts, security admin rules].

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::address::{AddressSet, SourceSet};
use crate::json;
use crate::nsg::{Access, RuleMeaning};
use crate::ports::Port;
use crate::reachability::{Decision, Flow, Relevant, Uncertainty, matching, reach_over, source_ports};
use crate::resource_id::ResourceId;

/// What a security admin rule does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAction {
    /// Hands it on to the NSGs.
    Allow,
    /// Drops it.
    Deny,
    /// Lets it pass; no NSG is asked.
    AlwaysAllow,
}

/// A security admin rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminRule {
    /// What it matches; the name is the rule's resource id, as names repeat between collections.
    pub meaning: RuleMeaning,
    /// What it does; none when it cannot be read.
    pub action: Option<AdminAction>,
}

/// The security admin rules in force on a VNet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminRules {
    /// The VNet.
    pub network: ResourceId,
    /// The rules, in order of evaluation; of rules with one priority the one listed first comes first.
    pub rules: Vec<AdminRule>,
    /// Whether the last page of the answer is there.
    pub complete: bool,
}

/// Who passes the rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdminReach {
    /// Passes for good: at most, and at least.
    pub(crate) always_possible: SourceSet,
    pub(crate) always_certain: SourceSet,
    /// Is dropped: at most, and at least.
    pub(crate) denied_possible: SourceSet,
    pub(crate) denied_certain: SourceSet,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) uncertainties: Vec<Uncertainty>,
}

impl AdminReach {
    /// Who passes at most, when NSGs let these pass at most.
    pub(crate) fn over_possible(&self, by_nsgs: &SourceSet) -> SourceSet {
        self.always_possible.union(&by_nsgs.difference(&self.denied_certain))
    }

    /// Who passes at least, when NSGs let these pass at least.
    pub(crate) fn over_certain(&self, by_nsgs: &SourceSet) -> SourceSet {
        self.always_certain.union(&by_nsgs.difference(&self.denied_possible))
    }
}

fn rule(json: &Value) -> AdminRule {
    let properties = json::properties(json);
    let prefixes = |key: &str| -> Vec<Value> {
        json::list(properties, key)
            .iter()
            .map(|p| json::get(p, "addressPrefix").cloned().unwrap_or_default())
            .collect()
    };
    // Port lists may be left out, which means every port.
    let ports = |key: &str| match json::list(properties, key) {
        [] => json!(["*"]),
        given => json!(given),
    };
    let id = json::text(json, "id").or_else(|| json::text(json, "name"));
    let action = match json::text(properties, "access").map(|t| t.trim().to_ascii_lowercase()).as_deref() {
        Some("allow") => Some(AdminAction::Allow),
        Some("deny") => Some(AdminAction::Deny),
        Some("alwaysallow") => Some(AdminAction::AlwaysAllow),
        _ => None,
    };
    let access = action.map(|a| if a == AdminAction::Deny { Access::Deny } else { Access::Allow });
    let meaning = RuleMeaning::of(&json!({
        "name": id.unwrap_or("a security admin rule without id"),
        "properties": {
            "direction": json::get(properties, "direction"),
            "access": access,
            "priority": json::get(properties, "priority"),
            "protocol": json::get(properties, "protocol"),
            "sourceAddressPrefixes": prefixes("sources"),
            "destinationAddressPrefixes": prefixes("destinations"),
            "sourcePortRanges": ports("sourcePortRanges"),
            "destinationPortRanges": ports("destinationPortRanges"),
        },
    }));
    AdminRule { meaning, action }
}

impl AdminRules {
    /// Reads what `listNetworkManagerEffectiveSecurityAdminRules` of a VNet answers, leniently.
    #[must_use]
    pub fn from_json(network: ResourceId, answer: &Value) -> Self {
        let mut rules: Vec<AdminRule> = json::list(answer, "value").iter().map(rule).collect();
        rules.sort_by_key(|r| r.meaning.priority);
        let complete = json::text(answer, "skipToken").is_none_or(str::is_empty);
        Self { network, rules, complete }
    }

    /// With another page of the same answer.
    #[must_use]
    pub(crate) fn joined(mut self, page: Self) -> Self {
        self.rules.extend(page.rules);
        self.rules.sort_by_key(|r| r.meaning.priority);
        self.complete |= page.complete;
        self
    }

    fn relevant(&self, flow: &Flow) -> Vec<Relevant<'_>> {
        let matches = self.rules.iter().map(|r| Relevant::of(&r.meaning, matching(&r.meaning, flow)));
        matches.filter(Relevant::may_match).collect()
    }

    pub(crate) fn source_ports(&self, flow: &Flow) -> BTreeSet<Port> {
        source_ports(&self.relevant(flow), flow)
    }

    pub(crate) fn reach_from_port(&self, flow: &Flow, source_port: Port) -> AdminReach {
        let decided = reach_over(&self.relevant(flow), flow, source_port);
        let mut reach = AdminReach { uncertainties: decided.uncertainties, ..AdminReach::default() };
        for decision in &decided.decisions {
            let action = self.rules.iter().find(|r| r.meaning.name == decision.rule).and_then(|r| r.action);
            let (possible, certain) = (&decision.possible, &decision.certain);
            if matches!(action, Some(AdminAction::AlwaysAllow) | None) {
                reach.always_possible = reach.always_possible.union(possible);
            }
            if matches!(action, Some(AdminAction::Deny) | None) {
                reach.denied_possible = reach.denied_possible.union(possible);
            }
            match action {
                Some(AdminAction::AlwaysAllow) => reach.always_certain = reach.always_certain.union(certain),
                Some(AdminAction::Deny) => reach.denied_certain = reach.denied_certain.union(certain),
                Some(AdminAction::Allow) | None => {}
            }
        }
        reach.decisions = decided.decisions;
        reach
    }

    /// Who is surely dropped, whatever source port they use.
    pub(crate) fn surely_denied(&self, flow: &Flow) -> SourceSet {
        let everybody = SourceSet::from_addresses(AddressSet::family_of(flow.destination.address));
        self.source_ports(flow).into_iter().fold(everybody, |denied, port| {
            denied.intersection(&self.reach_from_port(flow, port).denied_certain)
        })
    }
}
