//! function.json files: what functions there are and what starts them (protocol page, sections 4.1 and 4.2).

use std::path::Path;

use crate::HostError;
use crate::host_json::{self, Forwarding, HostJson, Retry};
use crate::newtonsoft::{self, Json};
use crate::route::Template;
use crate::schedule::Schedule;
use crate::settings::Settings;

/// Who may call an HTTP function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthLevel {
    Anonymous,
    Function,
    Admin,
}

/// What starts a function.
#[derive(Debug, Clone)]
pub(crate) enum Trigger {
    Http {
        /// Upper case; `None` admits every method.
        methods: Option<Vec<String>>,
        template: Template,
        level: AuthLevel,
    },
    Timer {
        schedule: Schedule,
        run_on_startup: bool,
        /// Whether a schedule status is kept, and with it past-due detection.
        monitored: bool,
    },
    ServiceBusQueue {
        queue: String,
    },
    /// Known to Azure, not started by this host.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputKind {
    Http,
    ServiceBus { queue: String },
    Other(String),
}

/// One output binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputBinding {
    pub(crate) name: String,
    pub(crate) kind: OutputKind,
    pub(crate) binary: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) trigger_name: String,
    pub(crate) trigger: Trigger,
    pub(crate) trigger_is_binary: bool,
    pub(crate) outputs: Vec<OutputBinding>,
    pub(crate) retry: Option<Retry>,
    pub(crate) disabled: bool,
    pub(crate) forwarding: Forwarding,
    /// The host's HTTP client follows redirects only while forwarding is off for the whole app.
    pub(crate) follows_redirects: bool,
    pub(crate) source: Json,
}

/// The valid functions in the host's order, and what was wrong with the others.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    pub(crate) valid: Vec<Function>,
    pub(crate) errors: Vec<String>,
}

/// Reads every `app_root/*/function.json`.
pub(crate) fn load(app_root: &Path, host: &HostJson, settings: &Settings) -> Result<Functions, HostError> {
    let read = |path: &Path, source| HostError::Read { path: path.to_owned(), source };
    let mut functions = Functions::default();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(app_root).map_err(|source| read(app_root, source))? {
        let path = entry.map_err(|source| read(app_root, source))?.path();
        if path.join("function.json").is_file()
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    // First match in this order wins a route.
    names.sort_by_key(|name| name.to_ascii_lowercase());
    for name in names {
        if host
            .allowed
            .as_ref()
            .is_some_and(|allowed| !allowed.iter().any(|known| known.eq_ignore_ascii_case(&name)))
        {
            continue;
        }
        let path = app_root.join(&name).join("function.json");
        let text = std::fs::read_to_string(&path).map_err(|source| read(&path, source))?;
        let loaded = newtonsoft::parse_file(&text)
            .map_err(|reason| format!("Unable to parse function.json: {reason}"))
            .and_then(|source| function(&name, source, host, settings))
            .and_then(|function| match conflict(&function, &functions.valid) {
                Some(reason) => Err(reason),
                None => Ok(function),
            });
        match loaded {
            Ok(function) => functions.valid.push(function),
            Err(reason) => functions.errors.push(format!("The '{name}' function is in error: {reason}")),
        }
    }
    Ok(functions)
}

/// Two functions must not have the same template with a common method; the later one loses.
fn conflict(function: &Function, earlier: &[Function]) -> Option<String> {
    let Trigger::Http { methods, template, .. } = &function.trigger else {
        return None;
    };
    earlier.iter().find_map(|other| match &other.trigger {
        Trigger::Http { methods: other_methods, template: other_template, .. }
            if template.text().eq_ignore_ascii_case(other_template.text())
                && match (methods, other_methods) {
                    (Some(mine), Some(theirs)) => mine.iter().any(|method| theirs.contains(method)),
                    _ => true,
                } =>
        {
            Some(format!(
                "The route specified conflicts with the route defined by function '{}'.",
                other.name
            ))
        }
        _ => None,
    })
}

fn is_function_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 128
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        && !name.eq_ignore_ascii_case("host")
}

fn is_binding_name(name: &str) -> bool {
    name == "$return"
        || (name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.len() <= 128
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

struct Binding<'a> {
    json: &'a Json,
    settings: &'a Settings,
}

impl Binding<'_> {
    /// A string property with its `%SETTING%`s resolved.
    fn text(&self, name: &str) -> Result<Option<String>, String> {
        self.json
            .path(&[name])
            .map(|value| {
                self.settings.resolve(&value.to_invariant_text()).map_err(|setting| {
                    format!("'%{setting}%' does not resolve to a value; set the app setting {setting}")
                })
            })
            .transpose()
    }

    fn required(&self, name: &str) -> Result<String, String> {
        self.text(name)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("the binding property '{name}' is required"))
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.json
            .path(&[name])
            .map_or(default, |value| value.to_invariant_text().eq_ignore_ascii_case("true"))
    }

    fn is_binary(&self) -> bool {
        self.json
            .path(&["dataType"])
            .is_some_and(|kind| kind.to_invariant_text().eq_ignore_ascii_case("binary"))
    }
}

pub(crate) fn function(
    name: &str,
    source: Json,
    host: &HostJson,
    settings: &Settings,
) -> Result<Function, String> {
    if !is_function_name(name) {
        return Err(format!("'{name}' is not a valid function name."));
    }
    let bindings: Vec<Binding<'_>> = match source.path(&["bindings"]) {
        Some(Json::Array(items)) => items.iter().map(|json| Binding { json, settings }).collect(),
        _ => Vec::new(),
    };
    if bindings.is_empty() {
        return Err("At least one binding must be declared.".to_owned());
    }
    let mut trigger = None;
    let mut inputs = 0;
    let mut outputs = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for binding in &bindings {
        let kind = binding.required("type")?;
        let binding_name = binding.required("name")?;
        if !is_binding_name(&binding_name) {
            return Err(format!(
                "The binding name {binding_name} is invalid. Please assign a valid name to the binding."
            ));
        }
        if names.iter().any(|known| known.eq_ignore_ascii_case(&binding_name)) {
            return Err(format!(
                "Multiple bindings with name '{binding_name}' discovered. Binding names must be unique."
            ));
        }
        names.push(binding_name.clone());
        let direction = binding.text("direction")?.unwrap_or_else(|| "in".to_owned());
        if direction.eq_ignore_ascii_case("out") {
            outputs.push(OutputBinding {
                kind: match kind.as_str() {
                    "http" => OutputKind::Http,
                    _ if kind.eq_ignore_ascii_case("serviceBus") => {
                        OutputKind::ServiceBus { queue: binding.required("queueName")? }
                    }
                    _ => OutputKind::Other(kind),
                },
                binary: binding.is_binary(),
                name: binding_name,
            });
        } else {
            inputs += 1;
            if kind.to_ascii_lowercase().ends_with("trigger") {
                if trigger.is_some() {
                    return Err(format!("Multiple trigger bindings defined in function '{name}'."));
                }
                trigger = Some((binding, kind, binding_name));
            }
        }
    }
    let Some((binding, trigger_type, trigger_name)) = trigger else {
        return Err("No trigger binding specified. A function must have a trigger input binding.".to_owned());
    };
    let trigger = match trigger_type.to_ascii_lowercase().as_str() {
        "httptrigger" => http_trigger(name, binding, host)?,
        "timertrigger" => {
            let schedule = Schedule::parse(&binding.required("schedule")?)?;
            Trigger::Timer {
                run_on_startup: binding.flag("runOnStartup", false),
                monitored: binding.flag("useMonitor", true) && !schedule.is_faster_than_a_minute(),
                schedule,
            }
        }
        "servicebustrigger" if binding.json.path(&["queueName"]).is_some() => {
            Trigger::ServiceBusQueue { queue: binding.required("queueName")? }
        }
        _ => Trigger::Other,
    };
    let is_simple_http = matches!(trigger, Trigger::Http { .. })
        && inputs == 1
        && matches!(outputs.as_slice(), [OutputBinding { kind: OutputKind::Http, .. }]);
    let disabled_setting = settings
        .get(&format!("AzureWebJobs.{name}.Disabled"))
        .is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
    Ok(Function {
        name: name.to_owned(),
        trigger_is_binary: binding.is_binary(),
        trigger_name,
        trigger,
        outputs,
        retry: host_json::retry(&source).map_err(|error| error.to_string())?.or_else(|| host.retry.clone()),
        disabled: disabled_setting
            || source
                .path(&["disabled"])
                .is_some_and(|value| value.to_invariant_text().eq_ignore_ascii_case("true")),
        forwarding: if is_simple_http { host.forwarding } else { Forwarding::Off },
        follows_redirects: host.forwarding != Forwarding::Path,
        source: source.clone(),
    })
}

fn http_trigger(name: &str, binding: &Binding<'_>, host: &HostJson) -> Result<Trigger, String> {
    let route = binding.text("route")?.unwrap_or_else(|| name.to_owned());
    let route = route.trim_matches('/');
    let first = route.split('/').next().unwrap_or_default();
    if first.eq_ignore_ascii_case("admin") || first.eq_ignore_ascii_case("runtime") {
        return Err("The specified route conflicts with one or more built in routes.".to_owned());
    }
    let template = if host.route_prefix.is_empty() {
        route.to_owned()
    } else {
        format!("{}/{route}", host.route_prefix)
    };
    Ok(Trigger::Http {
        methods: match binding.json.path(&["methods"]) {
            Some(Json::Array(methods)) => {
                Some(methods.iter().map(|method| method.to_invariant_text().to_ascii_uppercase()).collect())
            }
            _ => None,
        },
        template: Template::parse(&template)?,
        level: match binding.text("authLevel")?.unwrap_or_default().to_ascii_lowercase().as_str() {
            "anonymous" => AuthLevel::Anonymous,
            "admin" => AuthLevel::Admin,
            "function" | "" => AuthLevel::Function,
            other => return Err(format!("authLevel is '{other}'; use anonymous, function or admin")),
        },
    })
}
