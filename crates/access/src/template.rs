//! Templates: the JIT policy that a new VM in a scope gets by itself.

use crate::error::AccessError;
use crate::policy::{PolicyInput, PolicyTerms};
use crate::ports::identity::{Caller, SignIn};
use ajar_network::resource_id::ResourceId;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The longest name of a template, in characters.
const LONGEST_NAME: usize = 64;

/// What is done with a VM that a template fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateMode {
    /// It is only noted what the VM's policy would be.
    Report,
    /// JIT is turned on at once.
    Protect,
    /// JIT is turned on once somebody who may has approved it.
    ProtectAfterApproval,
}

/// A file in `infra/templates`. Strict: an unknown field is an error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TemplateInput {
    name: String,
    mode: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    policy: Value,
}

/// A template, checked in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its name, which stands in the history of what it turned on.
    pub name: String,
    /// What it does.
    pub mode: TemplateMode,
    /// Where: subscriptions and resource groups; everywhere when empty.
    pub scopes: Vec<ResourceId>,
    /// Tags that the VM must have, all of them. Names without regard to case, as Azure compares them, values with.
    pub tags: BTreeMap<String, String>,
    /// The policy that the VM gets.
    pub terms: PolicyTerms,
}

/// Templates that go together: of no VM it is open which one fits best.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Templates(Vec<Template>);

impl Template {
    /// Reads a template from JSON text.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] naming the first field that breaks a rule, and the rule.
    pub fn parse(text: &str) -> Result<Template, AccessError> {
        let input: TemplateInput = serde_json::from_str(text)
            .map_err(|error| AccessError::invalid("template", error.to_string()))?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if input.name.is_empty() || input.name.len() > LONGEST_NAME || !input.name.chars().all(is_plain) {
            return Err(AccessError::invalid(
                "name",
                format!("write 1 to {LONGEST_NAME} letters, digits, `-`, `_` and `.`"),
            ));
        }
        let mode = match input.mode.as_str() {
            "report" => TemplateMode::Report,
            "protect" => TemplateMode::Protect,
            "protectAfterApproval" => TemplateMode::ProtectAfterApproval,
            other => {
                return Err(AccessError::invalid(
                    "mode",
                    format!("`{other}` is none of `report`, `protect` and `protectAfterApproval`"),
                ));
            }
        };
        let scopes = input
            .scopes
            .iter()
            .enumerate()
            .map(|(index, scope)| parse_scope(&format!("scopes[{index}]"), scope))
            .collect::<Result<_, _>>()?;
        Ok(Template { mode, scopes, tags: input.tags, terms: parse_policy(input.policy)?, name: input.name })
    }

    /// How narrow the scope is in which the template fits the VM: 0 for everywhere, 1 for its subscription, 2 for its
    /// resource group. `None` when it does not fit.
    fn fits(&self, vm: &ResourceId, tags: &BTreeMap<String, String>) -> Option<u8> {
        let has = |(name, value): (&String, &String)| {
            tags.iter().any(|(other, has)| other.eq_ignore_ascii_case(name) && has == value)
        };
        if !self.tags.iter().all(has) {
            return None;
        }
        if self.scopes.is_empty() {
            return Some(0);
        }
        self.scopes.iter().filter(|scope| holds(scope, vm)).map(narrowness).max()
    }

    /// Whose name stands in the history of what the template turned on.
    #[must_use]
    pub fn as_configurer(&self) -> Caller {
        Caller {
            object_id: format!("template:{}", self.name),
            tenant_id: String::new(),
            name: format!("template {}", self.name),
            sign_in: SignIn::default(),
        }
    }
}

fn narrowness(scope: &ResourceId) -> u8 {
    if scope.resource_group().is_some() { 2 } else { 1 }
}

fn holds(scope: &ResourceId, vm: &ResourceId) -> bool {
    let in_group = |group: &str| vm.resource_group().is_some_and(|other| other.eq_ignore_ascii_case(group));
    scope.subscription().eq_ignore_ascii_case(vm.subscription())
        && scope.resource_group().is_none_or(in_group)
}

fn parse_scope(field: &str, text: &str) -> Result<ResourceId, AccessError> {
    if text.to_ascii_lowercase().contains("microsoft.management/managementgroups") {
        return Err(AccessError::invalid(
            field,
            "management groups are not resolved by this release: name their subscriptions",
        ));
    }
    let id = ResourceId::parse(text).map_err(|error| AccessError::invalid(field, error.to_string()))?;
    if id.as_str().to_ascii_lowercase().contains("/providers/") {
        return Err(AccessError::invalid(
            field,
            format!("{text} is no scope: name a subscription (/subscriptions/ID) or a resource group"),
        ));
    }
    Ok(id)
}

/// Reads the policy: a body of `PUT /api/policies` without `vm`.
fn parse_policy(policy: Value) -> Result<PolicyTerms, AccessError> {
    /// Takes the place of the VM that the policy will be for.
    const ANY_VM: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v";
    let Value::Object(mut fields) = policy else {
        return Err(AccessError::invalid(
            "policy",
            "write an object, as PUT /api/policies takes it, without `vm`",
        ));
    };
    if fields.insert("vm".to_owned(), Value::from(ANY_VM)).is_some() {
        return Err(AccessError::invalid(
            "policy.vm",
            "leave it out: a template is for every VM that it fits",
        ));
    }
    let input: PolicyInput = serde_json::from_value(Value::Object(fields))
        .map_err(|error| AccessError::invalid("policy", error.to_string()))?;
    input.terms().map_err(|error| match error {
        AccessError::Invalid { field, rule } => {
            AccessError::Invalid { field: format!("policy.{field}"), rule }
        }
        other => other,
    })
}

impl Templates {
    /// Puts templates together.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] for two of one name, and for two that fit one VM equally well: with one scope in
    /// common, and no tag that keeps them apart.
    pub fn new(templates: Vec<Template>) -> Result<Templates, AccessError> {
        for (index, one) in templates.iter().enumerate() {
            for other in templates.iter().skip(index + 1) {
                if one.name.eq_ignore_ascii_case(&other.name) {
                    return Err(AccessError::invalid(
                        "name",
                        format!("two templates are called `{}`", one.name),
                    ));
                }
                if let Some(scope) = common_scope(one, other)
                    && !are_kept_apart(one, other)
                {
                    return Err(AccessError::invalid(
                        "scopes",
                        format!(
                            "`{}` and `{}` can fit one VM equally well ({scope}): give them different scopes, or one \
                             tag with different values",
                            one.name, other.name
                        ),
                    ));
                }
            }
        }
        Ok(Templates(templates))
    }

    /// The template that fits the VM best: the one with the narrowest scope. No two are equally good.
    #[must_use]
    pub fn best(&self, vm: &ResourceId, tags: &BTreeMap<String, String>) -> Option<&Template> {
        let fitting = self.0.iter().filter_map(|template| Some((template.fits(vm, tags)?, template)));
        fitting.max_by_key(|(narrowness, _)| *narrowness).map(|(_, template)| template)
    }

    /// The templates, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Template> {
        self.0.iter()
    }
}

/// A scope that both have.
fn common_scope(one: &Template, other: &Template) -> Option<String> {
    if one.scopes.is_empty() && other.scopes.is_empty() {
        return Some("both are for everywhere".to_owned());
    }
    let both = one.scopes.iter().find(|scope| other.scopes.contains(scope))?;
    Some(format!("both are for {both}"))
}

/// Whether some tag must have two values to fit both.
fn are_kept_apart(one: &Template, other: &Template) -> bool {
    one.tags.iter().any(|(name, value)| {
        other.tags.iter().any(|(others, different)| others.eq_ignore_ascii_case(name) && different != value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SUBSCRIPTION: &str = "/subscriptions/11111111-1111-1111-1111-111111111111";

    fn template(name: &str, scopes: &[&str], tags: Value) -> Template {
        let scopes: Vec<String> = scopes.iter().map(|scope| format!("{SUBSCRIPTION}{scope}")).collect();
        let text = json!({ "name": name, "mode": "protect", "scopes": scopes, "tags": tags,
            "policy": { "ports": [{ "port": 22 }] } });
        Template::parse(&text.to_string()).unwrap()
    }

    fn vm(group: &str) -> ResourceId {
        let text =
            format!("{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/v");
        ResourceId::parse(&text).unwrap()
    }

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_narrowest_scope_wins_whatever_the_order() {
        let everywhere = template("everywhere", &[], json!({}));
        let subscription = template("subscription", &[""], json!({}));
        let group = template("group", &["/resourceGroups/Web"], json!({ "env": "prod" }));
        for order in [
            vec![everywhere.clone(), subscription.clone(), group.clone()],
            vec![group.clone(), subscription.clone(), everywhere.clone()],
        ] {
            let all = Templates::new(order).unwrap();
            let best = |vm: &ResourceId, has: &[(&str, &str)]| all.best(vm, &tags(has)).unwrap().name.clone();
            assert_eq!(best(&vm("web"), &[("ENV", "prod")]), "group", "tag names are compared without case");
            assert_eq!(best(&vm("web"), &[("env", "Prod")]), "subscription", "tag values with case");
            assert_eq!(best(&vm("other"), &[("env", "prod")]), "subscription");
            let elsewhere = vm("web").as_str().replace("1111-1111", "2222-2222");
            assert_eq!(best(&ResourceId::parse(&elsewhere).unwrap(), &[]), "everywhere");
        }
    }

    #[test]
    fn a_tie_is_an_error_unless_a_tag_keeps_them_apart() {
        let group = "/resourceGroups/web";
        let tie = |one: Value, other: Value| {
            Templates::new(vec![template("a", &[group], one), template("b", &["/resourceGroups/WEB"], other)])
        };
        let error = tie(json!({}), json!({ "env": "prod" })).unwrap_err().to_string();
        assert!(error.contains("`a` and `b`"), "{error}");
        assert!(tie(json!({ "env": "dev" }), json!({ "Env": "prod" })).is_ok());
        assert!(
            Templates::new(vec![template("a", &[], json!({})), template("A", &[group], json!({}))]).is_err()
        );
        assert!(Templates::new(vec![template("a", &[], json!({})), template("b", &[], json!({}))]).is_err());
    }

    #[test]
    fn a_wrong_field_is_named() {
        let good = || {
            json!({ "name": "a", "mode": "protect", "scopes": [SUBSCRIPTION],
                "policy": { "ports": [{ "port": 22 }] } })
        };
        assert!(Template::parse(&good().to_string()).is_ok());
        let cases: [(&str, Value, &str); 8] = [
            ("/name", json!(""), "name: "),
            ("/mode", json!("Protect"), "none of `report`, `protect` and `protectAfterApproval`"),
            ("/scopes/0", json!("/providers/Microsoft.Management/managementGroups/root"), "subscriptions"),
            ("/scopes/0", json!(vm("g").as_str()), "scopes[0]: "),
            ("/policy/ports/0/port", json!(0), "policy.ports[0].port: "),
            ("/policy/ports/0", json!({ "port": 22, "prot": "Tcp" }), "unknown field `prot`"),
            ("/policy", json!({ "vm": vm("g").as_str(), "ports": [{ "port": 22 }] }), "policy.vm: "),
            ("/policy", json!([]), "policy: "),
        ];
        for (place, value, told) in cases {
            let mut bad = good();
            *bad.pointer_mut(place).unwrap() = value;
            let error = Template::parse(&bad.to_string()).unwrap_err().to_string();
            assert!(error.contains(told), "{place}: {error}");
        }
        let mut unknown = good();
        unknown["scope"] = json!(SUBSCRIPTION);
        assert!(Template::parse(&unknown.to_string()).unwrap_err().to_string().contains("`scope`"));
    }
}
