//! A plan, rule by rule, for people to read before it is carried out.

use serde::{Deserialize, Serialize};

use crate::nsg::{NetworkSecurityGroup, SecurityRule};

use super::{RuleWrite, Write};

/// What becomes of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleChange {
    /// The rule's name.
    pub rule: String,
    /// What is done to it.
    pub action: RuleAction,
    /// Its priority afterwards; before, when it is removed.
    pub priority: Option<u16>,
    /// Its priority before, when that changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_before: Option<u16>,
    /// Its description afterwards; before, when it is removed.
    pub description: String,
}

/// What is done to a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RuleAction {
    /// It is new.
    Add,
    /// It gets another priority and nothing else.
    Move,
    /// It gets other content.
    Change,
    /// It goes.
    Remove,
}

impl Write {
    /// What this write does to each rule of `current`, which it was planned from, in order of priority.
    #[must_use]
    pub fn changes(&self, current: &NetworkSecurityGroup) -> Vec<RuleChange> {
        let before = |name: &str| current.rules().iter().find(|rule| rule.name().eq_ignore_ascii_case(name));
        let mut changes: Vec<RuleChange> = match self {
            Self::Nothing => Vec::new(),
            Self::Rules(writes) => writes
                .iter()
                .filter_map(|write| match write {
                    RuleWrite::Put(after) => change(before(after.name()), Some(after)),
                    RuleWrite::Delete(name) => change(before(name), None),
                })
                .collect(),
            Self::Whole(after) => {
                let kept =
                    |name: &str| after.rules().iter().any(|rule| rule.name().eq_ignore_ascii_case(name));
                let gone = current.rules().iter().filter(|rule| !kept(rule.name()));
                let put = after.rules().iter().filter_map(|rule| change(before(rule.name()), Some(rule)));
                gone.filter_map(|rule| change(Some(rule), None)).chain(put).collect()
            }
        };
        changes.sort_by_key(|change| change.priority);
        changes
    }
}

fn change(before: Option<&SecurityRule>, after: Option<&SecurityRule>) -> Option<RuleChange> {
    let action = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => RuleAction::Add,
        (Some(_), None) => RuleAction::Remove,
        (Some(before), Some(after)) if before == after => return None,
        (Some(before), Some(after)) => match after.priority() {
            Some(priority) if before.with_priority(priority) == *after => RuleAction::Move,
            _ => RuleAction::Change,
        },
    };
    let shown = after.or(before)?;
    Some(RuleChange {
        rule: shown.name().to_owned(),
        action,
        priority: shown.priority(),
        priority_before: before
            .filter(|_| after.is_some())
            .and_then(SecurityRule::priority)
            .filter(|priority| Some(*priority) != shown.priority()),
        description: shown.description().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(name: &str, priority: u16, description: &str) -> SecurityRule {
        SecurityRule::from_json(json!({ "name": name,
            "properties": { "priority": priority, "description": description } }))
    }

    #[test]
    fn each_rule_is_told_apart() {
        let frame =
            NetworkSecurityGroup::from_json(json!({ "properties": { "securityRules": [] } })).unwrap();
        let current =
            frame.with_rules(vec![rule("same", 100, ""), rule("moved", 110, ""), rule("gone", 120, "g")]);
        let after =
            frame.with_rules(vec![rule("same", 100, ""), rule("Moved", 200, ""), rule("new", 90, "n")]);
        // Another case in the name is another content, though the same rule.
        let told: Vec<(String, RuleAction, Option<u16>, Option<u16>)> = Write::Whole(after)
            .changes(&current)
            .into_iter()
            .map(|change| (change.rule, change.action, change.priority, change.priority_before))
            .collect();
        assert_eq!(
            told,
            [
                ("new".to_owned(), RuleAction::Add, Some(90), None),
                ("gone".to_owned(), RuleAction::Remove, Some(120), None),
                ("Moved".to_owned(), RuleAction::Change, Some(200), Some(110)),
            ]
        );
        let moved = Write::Rules(vec![RuleWrite::Put(Box::new(rule("moved", 300, "")))]).changes(&current);
        assert_eq!(
            (moved.len(), moved[0].action, moved[0].priority_before),
            (1, RuleAction::Move, Some(110))
        );
        let removed = Write::Rules(vec![RuleWrite::Delete("gone".into())]).changes(&current);
        assert_eq!((removed[0].action, removed[0].description.as_str()), (RuleAction::Remove, "g"));
        assert!(Write::Nothing.changes(&current).is_empty());
    }
}
