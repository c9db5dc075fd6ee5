//! What Azure refuses in security rules, with its error codes. See the README for which codes were seen and
//! which were not.

use serde_json::Value;

use crate::address::Prefix;
use crate::exchange::Refusal;

const MAX_RULES: usize = 1000;
const MAX_PREFIXES: usize = 4000;
const MAX_APPLICATION_GROUPS: usize = 10;
const MAX_DESCRIPTION: usize = 140;

/// Checks every rule of a group and brings `access` and `direction` into the case that ARM shows.
pub(crate) fn check_group(group: &mut Value) -> Result<(), Refusal> {
    let id = group.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let rules = match group.pointer_mut("/properties/securityRules") {
        Some(Value::Array(rules)) => rules,
        _ => {
            return Err(Refusal::bad("InvalidRequestFormat", "`properties.securityRules` must be an array."));
        }
    };
    if rules.len() > MAX_RULES {
        return Err(Refusal::bad(
            "NetworkSecurityGroupRuleLimitReached",
            format!("Network security group {id} has {} rules; {MAX_RULES} are allowed.", rules.len()),
        ));
    }
    for rule in rules.iter_mut() {
        check_rule(rule)?;
    }
    for side in ["source", "destination"] {
        let total: usize = rules.iter().map(|rule| addresses(rule, side).count()).sum();
        if total > MAX_PREFIXES {
            return Err(Refusal::bad(
                "NetworkSecurityGroupAddressPrefixLimitReached",
                format!(
                    "Network security group {id} has {total} {side} address prefixes; {MAX_PREFIXES} are allowed."
                ),
            ));
        }
    }
    check_conflicts(&id, rules)
}

fn check_conflicts(group: &str, rules: &[Value]) -> Result<(), Refusal> {
    let mut seen: std::collections::HashMap<(u64, String), &str> = std::collections::HashMap::new();
    let mut names = std::collections::HashSet::new();
    for rule in rules {
        let name = text(rule, "/name");
        if !names.insert(name.to_ascii_lowercase()) {
            return Err(Refusal::bad(
                "DuplicateResourceName",
                format!("Resource {group} has two child resources with the same name ({name})."),
            ));
        }
        let priority = rule.pointer("/properties/priority").and_then(Value::as_u64).unwrap_or_default();
        let direction = text(rule, "/properties/direction").to_ascii_lowercase();
        if let Some(other) = seen.insert((priority, direction), name) {
            return Err(Refusal::bad(
                "SecurityRuleConflict",
                format!(
                    "Security rule {other} conflicts with rule {name}. Rules cannot have the same Priority and Direction."
                ),
            ));
        }
    }
    Ok(())
}

fn text<'a>(rule: &'a Value, pointer: &str) -> &'a str {
    rule.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn check_rule(rule: &mut Value) -> Result<(), Refusal> {
    let name = text(rule, "/name").to_owned();
    let id = text(rule, "/id").to_owned();
    check_name(&name)?;
    let Some(Value::Object(_)) = rule.get("properties") else {
        return Err(Refusal::bad("InvalidRequestFormat", format!("Security rule {id} has no properties.")));
    };
    check_priority(rule, &id)?;
    canonical(rule, &id, "access", &["Allow", "Deny"])?;
    canonical(rule, &id, "direction", &["Inbound", "Outbound"])?;
    one_of(rule, &id, "protocol", &["Tcp", "Udp", "Icmp", "Esp", "Ah", "*"])?;
    if text(rule, "/properties/description").chars().count() > MAX_DESCRIPTION {
        return Err(Refusal::bad(
            "SecurityRuleDescriptionTooLong",
            format!("Security rule {id} has a description longer than {MAX_DESCRIPTION} characters."),
        ));
    }
    let mut family: Option<(bool, String)> = None;
    for side in ["source", "destination"] {
        check_ports(rule, &id, side)?;
        check_side(rule, &id, side)?;
        for prefix in addresses(rule, side) {
            let Some(v6) = Prefix::parse(prefix).map(|parsed| parsed.v6) else { continue };
            match &family {
                Some((known, other)) if *known != v6 => {
                    return Err(Refusal::bad(
                        "ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies",
                        format!(
                            "Resource {id} cannot contain address prefixes from different address families: {other}, {prefix}."
                        ),
                    ));
                }
                Some(_) => {}
                None => family = Some((v6, prefix.to_owned())),
            }
        }
    }
    Ok(())
}

/// Names of rules: 1 to 80 word characters, `.`, `-`; a word character first, a word character or `_` last.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let word = |c: char| c.is_ascii_alphanumeric();
    let good = (1..=80).contains(&name.chars().count())
        && name.chars().all(|c| word(c) || "._-".contains(c))
        && name.starts_with(word)
        && name.ends_with(|c| word(c) || c == '_');
    if good {
        return Ok(());
    }
    Err(Refusal::bad(
        "InvalidResourceName",
        format!(
            "Resource name {name} is invalid. The name can be up to 80 characters long. It must begin with a word \
             character, and it must end with a word character or with '_'. The name may contain word characters \
             or '.', '-', '_'."
        ),
    ))
}

fn check_priority(rule: &Value, id: &str) -> Result<(), Refusal> {
    let value = rule.pointer("/properties/priority").unwrap_or(&Value::Null);
    match value.as_i64() {
        Some(100..=4096) => Ok(()),
        Some(priority) => Err(Refusal::bad(
            "SecurityRuleInvalidPriority",
            format!("Security rule has invalid Priority. Value provided: {priority} Allowed range 100-4096."),
        )),
        None => Err(Refusal::bad(
            "InvalidRequestFormat",
            format!("Security rule {id} needs a whole number `priority`; {value} is none."),
        )),
    }
}

fn one_of(rule: &Value, id: &str, property: &str, allowed: &[&'static str]) -> Result<&'static str, Refusal> {
    let value = rule.pointer(&format!("/properties/{property}")).unwrap_or(&Value::Null);
    let known = value.as_str().and_then(|text| allowed.iter().find(|known| known.eq_ignore_ascii_case(text)));
    known.copied().ok_or_else(|| {
        Refusal::bad(
            "InvalidRequestFormat",
            format!("Security rule {id}: `{property}` must be one of {}; it is {value}.", allowed.join(", ")),
        )
    })
}

fn canonical(rule: &mut Value, id: &str, property: &str, allowed: &[&'static str]) -> Result<(), Refusal> {
    let known = one_of(rule, id, property, allowed)?;
    if let Some(value) = rule.pointer_mut(&format!("/properties/{property}")) {
        *value = Value::String(known.to_owned());
    }
    Ok(())
}

/// A singular property's text; empty counts as absent.
fn single<'a>(rule: &'a Value, property: &str) -> Option<&'a str> {
    rule.pointer(&format!("/properties/{property}")).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn several<'a>(rule: &'a Value, property: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    rule.pointer(&format!("/properties/{property}")).and_then(Value::as_array).into_iter().flatten()
}

fn addresses<'a>(rule: &'a Value, side: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    single(rule, &format!("{side}AddressPrefix"))
        .into_iter()
        .chain(several(rule, &format!("{side}AddressPrefixes")).filter_map(Value::as_str))
}

fn check_ports(rule: &Value, id: &str, side: &str) -> Result<(), Refusal> {
    let (one, many) = (format!("{side}PortRange"), format!("{side}PortRanges"));
    let listed: Vec<&Value> = several(rule, &many).collect();
    exactly_one_form(id, &[(&one, single(rule, &one).is_some()), (&many, !listed.is_empty())])?;
    let listed = listed.into_iter().map(|value| (value.as_str().unwrap_or_default(), true));
    for (range, in_list) in single(rule, &one).map(|range| (range, false)).into_iter().chain(listed) {
        if !(is_port_range(range) || range == "*" && !in_list) {
            return Err(Refusal::bad(
                "SecurityRuleInvalidPortRange",
                format!(
                    "Security rule has invalid Port range. Value provided: {range}. Value should be an integer OR \
                     integer range with '-' delimiter. Valid range 0-65535."
                ),
            ));
        }
    }
    Ok(())
}

fn is_port_range(range: &str) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    matches!((port(first), port(last)), (Some(first), Some(last)) if first <= last)
}

fn check_side(rule: &Value, id: &str, side: &str) -> Result<(), Refusal> {
    let (one, many) = (format!("{side}AddressPrefix"), format!("{side}AddressPrefixes"));
    let groups = format!("{side}ApplicationSecurityGroups");
    let listed: Vec<&Value> = several(rule, &many).collect();
    let group_count = several(rule, &groups).count();
    exactly_one_form(
        id,
        &[(&one, single(rule, &one).is_some()), (&many, !listed.is_empty()), (&groups, group_count > 0)],
    )?;
    if group_count > MAX_APPLICATION_GROUPS {
        return Err(Refusal::bad(
            "SecurityRuleApplicationSecurityGroupLimitReached",
            format!("Security rule {id} names {group_count} {groups}; {MAX_APPLICATION_GROUPS} are allowed."),
        ));
    }
    if let Some(prefix) = single(rule, &one)
        && !(prefix == "*" || Prefix::parse(prefix).is_some() || looks_like_tag(prefix))
    {
        return Err(invalid_prefix(prefix));
    }
    for value in listed {
        let prefix = value.as_str().unwrap_or_default();
        if prefix == "*" || looks_like_tag(prefix) {
            return Err(Refusal::bad(
                "SecurityRuleParameterContainsUnsupportedValue",
                format!(
                    "Security rule parameter {many} for rule with Id {id} cannot specify existing VIRTUALNETWORK, \
                     INTERNET, AZURELOADBALANCER, '*' or system tags. Unsupported value used: {prefix}."
                ),
            ));
        }
        if Prefix::parse(prefix).is_none() {
            return Err(invalid_prefix(prefix));
        }
    }
    Ok(())
}

fn invalid_prefix(prefix: &str) -> Refusal {
    Refusal::bad(
        "SecurityRuleInvalidAddressPrefix",
        format!("Security rule has invalid Address prefix. Value provided: {prefix}"),
    )
}

/// `Storage.WestEurope`, `Internet`: letters and digits in dotted parts, a letter first.
pub(crate) fn looks_like_tag(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric()))
}

fn exactly_one_form(id: &str, forms: &[(&str, bool)]) -> Result<(), Refusal> {
    let used: Vec<&str> = forms.iter().filter(|(_, used)| *used).map(|(name, _)| *name).collect();
    let all: Vec<&str> = forms.iter().map(|(name, _)| *name).collect();
    match used.as_slice() {
        [_] => Ok(()),
        [] => Err(Refusal::bad(
            "SecurityRuleMissingRequiredParameter",
            format!(
                "Required security rule parameters are missing for security rule with Id: {id}. Security rule must \
                 specify one of {}.",
                all.join(", ")
            ),
        )),
        several => Err(Refusal::bad(
            "SecurityRuleParameterConflict",
            format!("Security rule with Id {id} cannot specify {} together.", several.join(" and ")),
        )),
    }
}
