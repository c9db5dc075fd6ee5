//! What an element of the input holds: network security groups, wherever they are in it, and other resources.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::place::Step;

const NSG: &str = "Microsoft.Network/networkSecurityGroups";
const RULE: &str = "Microsoft.Network/networkSecurityGroups/securityRules";
const DEPLOYMENT: &str = "Microsoft.Resources/deployments";

/// The network security groups of one element.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) nsgs: Vec<NsgJson>,
    /// What is neither a group nor any other resource.
    pub(crate) strange: Vec<(Vec<Step>, String)>,
}

/// A group as written, its rules that stand elsewhere in the element among them.
#[derive(Debug)]
pub(crate) struct NsgJson {
    pub(crate) json: Value,
    /// Where it is in the element.
    pub(crate) path: Vec<Step>,
    /// Where its last rules are, which are written as resources of their own.
    pub(crate) more_rules: Vec<Vec<Step>>,
    /// Whether only rules of the group are in the element and the group is not.
    pub(crate) only_rules: bool,
}

/// The value of a key in any case; null counts as absent.
pub(crate) fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let map = value.as_object()?;
    map.get(key)
        .or_else(|| map.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v))
        .filter(|v| !v.is_null())
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    get(value, key).and_then(Value::as_str)
}

/// Finds the groups of an element: the element itself, what its template deploys, what its pages hold.
pub(crate) fn network_security_groups(element: Value) -> Found {
    let mut search = Search::default();
    search.resource(element, Vec::new(), None);
    search.joined()
}

#[derive(Default)]
struct Search {
    found: Found,
    /// Rules that are resources, with the name of their group.
    rules: Vec<(String, Value, Vec<Step>)>,
}

impl Search {
    fn resource(&mut self, mut resource: Value, path: Vec<Step>, parent: Option<(&str, &str)>) {
        if !resource.is_object() {
            return self
                .found
                .strange
                .push((path, format!("expected a resource, found {}", kind(&resource))));
        }
        let given = text(&resource, "type").map(str::to_owned);
        let own_name = text(&resource, "name").unwrap_or_default().to_owned();
        // Children in a template may leave out what their parent says.
        let (resource_type, name) = match (given, parent) {
            (Some(t), Some((parent_type, parent_name))) if !t.contains('/') => {
                (Some(format!("{parent_type}/{t}")), format!("{parent_name}/{own_name}"))
            }
            (Some(t), Some((_, parent_name))) if is(&t, RULE) && !own_name.contains('/') => {
                (Some(t), format!("{parent_name}/{own_name}"))
            }
            (t, _) => (t.or_else(|| type_of_id(&resource)), own_name),
        };
        let children = take(&mut resource, "resources");
        let has_children = children.is_some();
        match resource_type.as_deref() {
            Some(t) if is(t, NSG) => self.nsg(resource, path.clone()),
            Some(t) if is(t, RULE) => self.rule(&name, resource, path.clone()),
            Some(t) if is(t, DEPLOYMENT) => {
                let resources = get(&resource, "properties")
                    .and_then(|p| get(p, "template"))
                    .and_then(|t| get(t, "resources"))
                    .cloned();
                let inner = ["properties", "template", "resources"].map(Step::key);
                self.list(resources, &[path.as_slice(), &inner].concat(), None);
            }
            Some(_) => {}
            None if has_rules(&resource) => self.nsg(resource, path.clone()),
            None if has_children => {}
            None => {
                let pages = ["value", "data"].into_iter().find_map(|key| {
                    get(&resource, key).filter(|v| v.is_array()).map(|v| (Step::key(key), v.clone()))
                });
                match pages {
                    Some((key, page)) => self.list(Some(page), &[path.as_slice(), &[key]].concat(), None),
                    None => self.found.strange.push((
                        path.clone(),
                        "this is no network security group: it has no type, no id and no securityRules"
                            .to_owned(),
                    )),
                }
            }
        }
        let parent = resource_type.as_deref().map(|t| (t, name.as_str()));
        self.list(children, &[path.as_slice(), &[Step::key("resources")]].concat(), parent);
    }

    /// Resources in a list, or under their symbolic names.
    fn list(&mut self, resources: Option<Value>, path: &[Step], parent: Option<(&str, &str)>) {
        let at = |step: Step| [path, &[step]].concat();
        match resources {
            Some(Value::Array(list)) => {
                for (index, resource) in list.into_iter().enumerate() {
                    self.resource(resource, at(Step::Item(index)), parent);
                }
            }
            Some(Value::Object(map)) => {
                for (name, resource) in map {
                    self.resource(resource, at(Step::Key(Cow::Owned(name))), parent);
                }
            }
            None => {}
            Some(_) => self.found.strange.push((path.to_vec(), "expected a list of resources".to_owned())),
        }
    }

    fn nsg(&mut self, json: Value, path: Vec<Step>) {
        self.found.nsgs.push(NsgJson { json, path, more_rules: Vec::new(), only_rules: false });
    }

    fn rule(&mut self, name: &str, mut json: Value, path: Vec<Step>) {
        let (nsg, rule) = group_and_rule(name, text(&json, "id"));
        if let Value::Object(map) = &mut json {
            map.insert("name".to_owned(), Value::String(rule));
        }
        self.rules.push((nsg, json, path));
    }

    /// Rules that stand alone are put where they belong.
    fn joined(mut self) -> Found {
        for (name, json, path) in self.rules {
            let named = |nsg: &NsgJson| text(&nsg.json, "name").is_some_and(|n| same_name(n, &name));
            let nsgs = &mut self.found.nsgs;
            let at = nsgs.iter().position(named).unwrap_or_else(|| {
                nsgs.push(NsgJson {
                    json: json!({ "name": name, "properties": { "securityRules": [] } }),
                    path: path.clone(),
                    more_rules: Vec::new(),
                    only_rules: true,
                });
                nsgs.len() - 1
            });
            if let Some(nsg) = nsgs.get_mut(at)
                && let Some(list) = rules_of(&mut nsg.json)
            {
                list.push(json);
                nsg.more_rules.push(path);
            }
        }
        self.found
    }
}

fn is(text: &str, other: &str) -> bool {
    text.trim().eq_ignore_ascii_case(other)
}

/// `[parameters('a')]` and `[format('{0}', parameters('a'))]` are not the same text, but white space and case never
/// make a difference.
fn same_name(one: &str, other: &str) -> bool {
    let plain = |text: &str| -> String {
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect()
    };
    plain(one) == plain(other)
}

/// The group's and the rule's name of a rule that is a resource: `nsg/rule`, or an expression that builds it.
fn group_and_rule(name: &str, id: Option<&str>) -> (String, String) {
    if let Some((nsg, rule)) = id.and_then(|id| {
        let mut parts = id.rsplit('/');
        let rule = parts.next()?;
        let nsg = parts.nth(1)?;
        Some((nsg.to_owned(), rule.to_owned()))
    }) {
        return (nsg, rule);
    }
    // [concat(parameters('nsg'), '/ssh')]: the first argument names the group.
    if let Some(inner) = name.trim().strip_prefix("[concat(")
        && let Some((nsg, rule)) = inner.split_once(",")
    {
        let rule = rule.trim_end_matches([']', ')']).trim().trim_matches(['\'', '/']);
        return (format!("[{}]", nsg.trim()), rule.to_owned());
    }
    // [format('{0}/{1}', parameters('nsg'), 'ssh')]: so does the first after the format.
    if let Some(inner) = name.trim().strip_prefix("[format('{0}/")
        && let Some((_, arguments)) = inner.split_once(",")
    {
        let (nsg, rule) = arguments.split_once(',').unwrap_or((arguments, name));
        let nsg = nsg.trim_end_matches(']').trim();
        let nsg = nsg.strip_suffix("))").map_or(nsg.to_owned(), |n| format!("{n})"));
        return (format!("[{nsg}]"), rule.trim_end_matches([']', ')']).trim().trim_matches('\'').to_owned());
    }
    match name.rsplit_once('/') {
        Some((nsg, rule)) => (nsg.to_owned(), rule.to_owned()),
        None => (String::new(), name.to_owned()),
    }
}

/// The resource type in an id: the namespace and every second part after it.
fn type_of_id(resource: &Value) -> Option<String> {
    let id = text(resource, "id")?;
    let lower = id.to_ascii_lowercase();
    let at = lower.rfind("/providers/")?;
    let mut parts = id.get(at + "/providers/".len()..)?.split('/');
    let mut resource_type = parts.next()?.to_owned();
    for part in parts.step_by(2) {
        resource_type.push('/');
        resource_type.push_str(part);
    }
    Some(resource_type)
}

fn has_rules(resource: &Value) -> bool {
    let properties = get(resource, "properties").filter(|p| p.is_object()).unwrap_or(resource);
    get(properties, "securityRules").or_else(|| get(properties, "defaultSecurityRules")).is_some()
}

fn take(resource: &mut Value, key: &str) -> Option<Value> {
    let map = resource.as_object_mut()?;
    let spelled = map.keys().find(|k| k.eq_ignore_ascii_case(key))?.clone();
    map.get(&spelled).filter(|v| v.is_array() || v.is_object())?;
    map.remove(&spelled)
}

/// The list of a group's rules, made where there is none; nothing where something else is in its place.
fn rules_of(nsg: &mut Value) -> Option<&mut Vec<Value>> {
    let frame = nsg.as_object_mut()?;
    let properties = slot(frame, "properties");
    if properties.is_null() {
        *properties = json!({});
    }
    let rules = slot(properties.as_object_mut()?, "securityRules");
    if rules.is_null() {
        *rules = json!([]);
    }
    rules.as_array_mut()
}

fn slot<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Value {
    let spelled = map.keys().find(|k| k.eq_ignore_ascii_case(key)).cloned().unwrap_or_else(|| key.to_owned());
    map.entry(spelled).or_insert(Value::Null)
}

/// What a value is, in words.
pub(crate) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
