//! What the app settings say, read once at start. A setting that is missing or cannot work stops the start
//! with its name and what it should hold; all of them are named at once.

use ajar_entra::{AuthenticatorSettings, ManagedIdentitySettings, PUBLIC_AUTHORITY};
use ajar_http_api::FrontEnd;
use ajar_network::plan::DeploymentName;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use std::path::PathBuf;

/// The longest time ahead that people are reminded of an end: no access lasts longer than a day.
const LONGEST_REMINDER: SignedDuration = SignedDuration::from_hours(24);

/// The longest time that a request waits for people: no start is farther ahead.
const LONGEST_APPROVAL: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Everything that the app settings say.
pub(crate) struct Configuration {
    pub(crate) deployment: DeploymentConfiguration,
    pub(crate) callers: AuthenticatorSettings,
    pub(crate) identity: ManagedIdentitySettings,
    /// `AJAR_ARM_ENDPOINT`: Azure Resource Manager, the public cloud's by default.
    pub(crate) arm_endpoint: String,
    pub(crate) store: StoreConfiguration,
    pub(crate) bus: BusConfiguration,
    pub(crate) webhook: Option<WebhookConfiguration>,
    /// `AJAR_TRUST_FORWARDED_FOR`: `true` where every call comes through a front end that appends the caller's address
    /// to `X-Forwarded-For`, as App Service's does. By default nobody is believed.
    pub(crate) front_end: FrontEnd,
}

/// What this deployment is and looks after.
pub(crate) struct DeploymentConfiguration {
    /// `AJAR_DEPLOYMENT`: part of every rule's name.
    pub(crate) name: DeploymentName,
    /// `AJAR_SUBSCRIPTIONS`: GUIDs, separated by commas. May be left out where there are management groups.
    pub(crate) subscriptions: Vec<String>,
    /// `AJAR_MANAGEMENT_GROUPS`: names of management groups, separated by commas, whose subscriptions are looked after too.
    pub(crate) management_groups: Vec<String>,
    /// `AJAR_REMIND_BEFORE`: how long before the end of access people are reminded, ISO 8601, ten minutes by default.
    pub(crate) remind_before: SignedDuration,
    /// `AJAR_TEMPLATES`: a folder of templates instead of the packaged one.
    pub(crate) templates: Option<PathBuf>,
    /// `AJAR_ORGANISATION_POLICIES`: a folder of policies in Cedar instead of the packaged one.
    pub(crate) organisation_policies: Option<PathBuf>,
    /// `AJAR_TIME_ZONE`: the zone in which they tell the time, by its name in the IANA database, UTC by default.
    pub(crate) zone: TimeZone,
    /// `AJAR_APPROVAL_TIME`: how long a request waits for people to approve it, ISO 8601, four hours by default.
    pub(crate) approval_time: SignedDuration,
}

/// Where state is kept.
pub(crate) enum StoreConfiguration {
    /// Table Storage, or a local Azurite.
    Tables(StorageConfiguration),
    /// `AJAR_STORE_FILE`: one file, for a first run without either. What is kept beside the store is in a folder of the
    /// same name with `.blobs`.
    File(PathBuf),
}

/// Where state is in Azure Storage.
pub(crate) struct StorageConfiguration {
    /// `AJAR_TABLES_ENDPOINT`: the tables.
    pub(crate) tables: String,
    /// `AJAR_BLOBS_ENDPOINT`: what is kept beside them.
    pub(crate) blobs: String,
    /// `AJAR_BLOBS_CONTAINER`: the container there, `state` by default. Two deployments never share one.
    pub(crate) container: String,
}

/// Where messages go.
pub(crate) struct BusConfiguration {
    /// `ServiceBusConnection__fullyQualifiedNamespace`: the namespace that the host receives from.
    pub(crate) namespace: String,
    /// `AJAR_SERVICE_BUS_ENDPOINT`: a local broker to send to instead.
    pub(crate) endpoint: Option<String>,
}

/// Who is told what happens.
pub(crate) struct WebhookConfiguration {
    /// `AJAR_WEBHOOK_URL`: where it is posted. Its path may be a secret.
    pub(crate) url: String,
    /// `AJAR_WEBHOOK_SECRET`: what it is signed with, `whsec_...`.
    pub(crate) secret: String,
}

/// Settings that are missing or cannot work.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigurationError(pub(crate) Vec<String>);

impl std::fmt::Display for ConfigurationError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the app settings need mending: {}", self.0.join("; "))
    }
}

/// Reads settings and gathers what is wrong with them.
struct Reader<F> {
    variable: F,
    problems: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn optional(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The setting as `parse` reads it; a problem is noted when it is missing or `parse` has none.
    fn required<T>(&mut self, name: &str, holds: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let parsed = match self.optional(name) {
            Some(value) => parse(&value).ok_or("does not hold"),
            None => Err("is not set; it should hold"),
        };
        parsed.map_err(|how| self.problems.push(format!("{name} {how} {holds}"))).ok()
    }
}

impl Configuration {
    /// Reads the settings.
    pub(crate) fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Configuration, ConfigurationError> {
        let mut reader = Reader { variable, problems: Vec::new() };
        let name = reader.required(
            "AJAR_DEPLOYMENT",
            "a name of 1 to 12 lower-case letters and digits, such as prod",
            |value| DeploymentName::parse(value).ok(),
        );
        let management_groups = read_management_groups(&mut reader);
        let has_groups = management_groups.as_ref().is_some_and(|groups| !groups.is_empty());
        let subscriptions = if has_groups && reader.optional("AJAR_SUBSCRIPTIONS").is_none() {
            Some(Vec::new())
        } else {
            reader.required(
                "AJAR_SUBSCRIPTIONS",
                "the subscriptions to look after: GUIDs, separated by commas",
                guids,
            )
        };
        let tenant =
            reader.required("AJAR_TENANT_ID", "the Entra tenant's id, a GUID", |value| guid(value.trim()));
        let audiences = reader.required(
            "AJAR_AUDIENCE",
            "Ajar's own application id URI or client id (or both, separated by commas), never Azure Resource \
             Manager's",
            |value| Some(value.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>()),
        );
        let store = read_store(&mut reader);
        let webhook = read_webhook(&mut reader);
        let namespace = reader.required(
            "ServiceBusConnection__fullyQualifiedNamespace",
            "the Service Bus namespace's full host name, such as contoso.servicebus.windows.net",
            |value| value.contains('.').then(|| value.to_owned()),
        );
        let identity = ManagedIdentitySettings::from_variables(|name| (reader.variable)(name));
        if let Err(error) = &identity {
            reader.problems.push(error.to_string());
        }
        let authority = reader.optional("AJAR_AUTHORITY").unwrap_or_else(|| PUBLIC_AUTHORITY.to_owned());
        let arm_endpoint =
            reader.optional("AJAR_ARM_ENDPOINT").unwrap_or_else(|| ajar_arm::PUBLIC_ENDPOINT.to_owned());
        let endpoint = reader.optional("AJAR_SERVICE_BUS_ENDPOINT");
        let templates = reader.optional("AJAR_TEMPLATES").map(PathBuf::from);
        let front_end = read_front_end(&mut reader);
        let remind_before = read_reminder(&mut reader);
        let organisation_policies = reader.optional("AJAR_ORGANISATION_POLICIES").map(PathBuf::from);
        let zone = read_zone(&mut reader);
        let approval_time = read_approval_time(&mut reader);
        match (
            name,
            subscriptions.zip(management_groups),
            tenant,
            audiences,
            store,
            namespace,
            identity,
            front_end,
            remind_before,
            zone.zip(approval_time),
        ) {
            (
                Some(name),
                Some((subscriptions, management_groups)),
                Some(tenant),
                Some(audiences),
                Some(store),
                Some(namespace),
                Ok(identity),
                Some(front_end),
                Some(remind_before),
                Some((zone, approval_time)),
            ) if reader.problems.is_empty() => Ok(Configuration {
                deployment: DeploymentConfiguration {
                    name,
                    subscriptions,
                    management_groups,
                    remind_before,
                    templates,
                    organisation_policies,
                    zone,
                    approval_time,
                },
                callers: AuthenticatorSettings { authority, tenant, audiences },
                identity,
                arm_endpoint,
                store,
                bus: BusConfiguration { namespace, endpoint },
                webhook,
                front_end,
            }),
            _ => Err(ConfigurationError(reader.problems)),
        }
    }
}

fn read_store<F: Fn(&str) -> Option<String>>(reader: &mut Reader<F>) -> Option<StoreConfiguration> {
    match (reader.optional("AJAR_TABLES_ENDPOINT"), reader.optional("AJAR_STORE_FILE")) {
        (Some(tables), None) => {
            let holds = "https://<account>.blob.core.windows.net, the blobs beside the tables, which tell when these are old";
            let blobs = reader.required("AJAR_BLOBS_ENDPOINT", holds, |value| Some(value.to_owned()))?;
            let container = reader.optional("AJAR_BLOBS_CONTAINER").unwrap_or_else(|| "state".to_owned());
            Some(StoreConfiguration::Tables(StorageConfiguration { tables, blobs, container }))
        }
        (None, Some(file)) => Some(StoreConfiguration::File(file.into())),
        (both, _) => {
            let how = if both.is_some() { "are both set" } else { "are both missing" };
            reader.problems.push(format!(
                "AJAR_TABLES_ENDPOINT and AJAR_STORE_FILE {how}: set one, the first to \
                 https://<account>.table.core.windows.net, or, to try Ajar out, the second to a file"
            ));
            None
        }
    }
}

fn read_webhook<F: Fn(&str) -> Option<String>>(reader: &mut Reader<F>) -> Option<WebhookConfiguration> {
    match (reader.optional("AJAR_WEBHOOK_URL"), reader.optional("AJAR_WEBHOOK_SECRET")) {
        (Some(url), Some(secret)) => Some(WebhookConfiguration { url, secret }),
        (None, None) => None,
        (url, _) => {
            let missing = if url.is_some() { "AJAR_WEBHOOK_SECRET" } else { "AJAR_WEBHOOK_URL" };
            reader.problems.push(format!(
                "{missing} is not set although the other one is: AJAR_WEBHOOK_URL and AJAR_WEBHOOK_SECRET say together \
                 who is told what happens"
            ));
            None
        }
    }
}

fn read_front_end<F: Fn(&str) -> Option<String>>(reader: &mut Reader<F>) -> Option<FrontEnd> {
    let name = "AJAR_TRUST_FORWARDED_FOR";
    match reader.optional(name).as_deref() {
        None | Some("false") => Some(FrontEnd::Untrusted),
        Some("true") => Some(FrontEnd::SetsForwardedFor),
        Some(_) => {
            reader.problems.push(format!(
                "{name} does not hold true (every call comes through a front end, such as App Service's, that appends \
                 the caller's address to X-Forwarded-For) or false"
            ));
            None
        }
    }
}

fn read_reminder<F: Fn(&str) -> Option<String>>(reader: &mut Reader<F>) -> Option<SignedDuration> {
    let Some(text) = reader.optional("AJAR_REMIND_BEFORE") else { return Some(ajar_access::REMIND_BEFORE) };
    let parsed: Option<SignedDuration> = text.parse().ok();
    let ahead = parsed.filter(|ahead| ahead.is_positive() && *ahead <= LONGEST_REMINDER);
    if ahead.is_none() {
        let holds =
            "how long before the end of access people are reminded: a duration such as PT10M, at most P1D";
        reader.problems.push(format!("AJAR_REMIND_BEFORE does not hold {holds}"));
    }
    ahead
}

fn read_zone<F: Fn(&str) -> Option<String>>(reader: &mut Reader<F>) -> Option<TimeZone> {
    let Some(name) = reader.optional("AJAR_TIME_ZONE") else { return Some(TimeZone::UTC) };
    let zone = TimeZone::get(&name).ok();
    if zone.is_none() {
        let holds = "the name of a time zone in the IANA database, such as Europe/Berlin";
        reader.problems.push(format!("AJAR_TIME_ZONE does not hold {holds}"));
    }
    zone
}

fn read_approval_time<F: Fn(&str) -> Option<String>>(reader: &mut Reader<F>) -> Option<SignedDuration> {
    let Some(text) = reader.optional("AJAR_APPROVAL_TIME") else { return Some(ajar_access::APPROVAL_TIME) };
    let parsed: Option<SignedDuration> = text.parse().ok();
    let time = parsed.filter(|time| time.is_positive() && *time <= LONGEST_APPROVAL);
    if time.is_none() {
        let holds =
            "how long a request waits for people to approve it: a duration such as PT4H, at most PT168H";
        reader.problems.push(format!("AJAR_APPROVAL_TIME does not hold {holds}"));
    }
    time
}

/// Names of management groups as Azure takes them: up to 90 characters out of letters, digits and `-_().`
/// (Azure Resource Manager, "Rules and restrictions for naming").
fn read_management_groups<F: Fn(&str) -> Option<String>>(reader: &mut Reader<F>) -> Option<Vec<String>> {
    let Some(text) = reader.optional("AJAR_MANAGEMENT_GROUPS") else { return Some(Vec::new()) };
    let is_name = |name: &str| {
        let takes = |byte: u8| byte.is_ascii_alphanumeric() || b"-_().".contains(&byte);
        (1..=90).contains(&name.len()) && name.bytes().all(takes)
    };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().all(|name| is_name(name)) {
        return Some(names);
    }
    reader.problems.push(
        "AJAR_MANAGEMENT_GROUPS does not hold names of management groups (not their display names), separated by commas"
            .to_owned(),
    );
    None
}

fn guids(text: &str) -> Option<Vec<String>> {
    text.split(',').map(|one| guid(one.trim())).collect()
}

fn guid(text: &str) -> Option<String> {
    uuid::Uuid::try_parse(text).ok().map(|id| id.hyphenated().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const GOOD: [(&str, &str); 9] = [
        ("AJAR_DEPLOYMENT", "prod"),
        ("AJAR_SUBSCRIPTIONS", "11111111-1111-1111-1111-111111111111, 22222222-2222-2222-2222-222222222222"),
        ("AJAR_TENANT_ID", "33333333-3333-3333-3333-333333333333"),
        ("AJAR_AUDIENCE", "api://ajar"),
        ("AJAR_TABLES_ENDPOINT", "https://state.table.core.windows.net"),
        ("AJAR_BLOBS_ENDPOINT", "https://state.blob.core.windows.net"),
        ("ServiceBusConnection__fullyQualifiedNamespace", "contoso.servicebus.windows.net"),
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:4141/msi/token"),
        ("IDENTITY_HEADER", "secret"),
    ];

    fn read(change: impl Fn(&mut BTreeMap<String, String>)) -> Result<Configuration, ConfigurationError> {
        let mut settings = GOOD.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        change(&mut settings);
        Configuration::from_variables(|name| settings.get(name).cloned())
    }

    #[test]
    fn good_settings_are_read() {
        let configuration = read(|_| {}).unwrap();
        assert_eq!(configuration.deployment.subscriptions.len(), 2);
        assert_eq!(configuration.arm_endpoint, "https://management.azure.com");
        assert!(matches!(configuration.store, StoreConfiguration::Tables(_)));
    }

    #[test]
    fn each_missing_setting_is_named() {
        for (name, _) in GOOD {
            for value in [None, Some("  ")] {
                let Err(error) = read(|settings| {
                    settings.remove(name);
                    settings.extend(value.map(|value| (name.to_owned(), value.to_owned())));
                }) else {
                    panic!("{name} is not needed")
                };
                assert!(error.0.len() == 1 && error.0[0].contains(name), "{error}");
            }
        }
    }

    #[test]
    fn management_groups_may_stand_in_for_subscriptions_and_are_names() {
        let groups = |names: &str| {
            read(|settings| {
                settings.remove("AJAR_SUBSCRIPTIONS");
                settings.insert("AJAR_MANAGEMENT_GROUPS".into(), names.into());
            })
        };
        let configuration = groups("corp, landing-zones").unwrap();
        assert_eq!(configuration.deployment.management_groups, ["corp", "landing-zones"]);
        assert_eq!(configuration.deployment.subscriptions, Vec::<String>::new());
        for bad in ["/providers/Microsoft.Management/managementGroups/corp", "corp,", "my group"] {
            let Err(error) = groups(bad) else { panic!("{bad} is a name") };
            assert!(error.to_string().contains("AJAR_MANAGEMENT_GROUPS"), "{error}");
        }
    }

    #[test]
    fn a_webhook_needs_both_its_settings_and_its_secret_is_not_shown() {
        let settings = [("AJAR_WEBHOOK_URL", "https://h.example/x"), ("AJAR_WEBHOOK_SECRET", "whsec_hidden")];
        assert!(read(|_| {}).unwrap().webhook.is_none());
        let both = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert!(read(|all| all.extend(both.clone())).unwrap().webhook.is_some());
        for (index, (missing, _)) in settings.iter().enumerate() {
            let Err(error) = read(|all| all.extend([both[1 - index].clone()])) else {
                panic!("{missing} is not needed")
            };
            assert!(error.0.len() == 1 && error.0[0].starts_with(missing), "{error}");
            assert!(!error.to_string().contains("hidden") && !error.to_string().contains("h.example"));
        }
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let Err(error) = read(|settings| {
            settings.insert("AJAR_DEPLOYMENT".into(), "Prod!".into());
            settings.insert("AJAR_SUBSCRIPTIONS".into(), "mine".into());
            settings.insert("AJAR_TENANT_ID".into(), "contoso.com".into());
            settings.insert("AJAR_STORE_FILE".into(), "ajar.redb".into());
            settings.insert("ServiceBusConnection__fullyQualifiedNamespace".into(), "contoso".into());
            settings.remove("IDENTITY_HEADER");
        }) else {
            panic!("six wrong settings were accepted")
        };
        assert_eq!(error.0.len(), 6, "{error}");
    }

    #[test]
    fn a_front_end_is_trusted_only_when_that_is_said() {
        let with = |value: &str| {
            read(|settings| {
                settings.insert("AJAR_TRUST_FORWARDED_FOR".into(), value.into());
            })
        };
        assert_eq!(read(|_| {}).unwrap().front_end, FrontEnd::Untrusted);
        assert_eq!(with("false").unwrap().front_end, FrontEnd::Untrusted);
        assert_eq!(with("true").unwrap().front_end, FrontEnd::SetsForwardedFor);
        let Err(error) = with("yes") else { panic!("an unclear setting was accepted") };
        assert!(error.to_string().contains("AJAR_TRUST_FORWARDED_FOR"), "{error}");
    }

    #[test]
    fn people_are_reminded_ten_minutes_before_or_as_it_is_set() {
        let with = |value: &str| {
            read(|settings| {
                settings.insert("AJAR_REMIND_BEFORE".into(), value.into());
            })
        };
        let ahead = |configuration: Configuration| configuration.deployment.remind_before;
        assert_eq!(ahead(read(|_| {}).unwrap()), SignedDuration::from_mins(10));
        assert_eq!(ahead(with("PT30M").unwrap()), SignedDuration::from_mins(30));
        for wrong in ["10", "PT0S", "-PT1M", "PT24H1S", "soon"] {
            let Err(error) = with(wrong) else { panic!("{wrong} was accepted") };
            assert!(error.0.len() == 1 && error.0[0].starts_with("AJAR_REMIND_BEFORE"), "{error}");
        }
    }

    #[test]
    fn policies_tell_the_time_of_a_named_zone_and_requests_wait_four_hours_or_as_it_is_set() {
        let with = |name: &str, value: &str| {
            read(|settings| {
                settings.insert(name.into(), value.into());
            })
        };
        let plain = read(|_| {}).unwrap().deployment;
        assert_eq!((plain.zone, plain.approval_time), (TimeZone::UTC, SignedDuration::from_hours(4)));
        let zone = with("AJAR_TIME_ZONE", "Asia/Tokyo").unwrap().deployment.zone;
        assert_eq!(zone.iana_name(), Some("Asia/Tokyo"));
        let time = with("AJAR_APPROVAL_TIME", "PT30M").unwrap().deployment.approval_time;
        assert_eq!(time, SignedDuration::from_mins(30));
        for (name, wrong) in
            [("AJAR_TIME_ZONE", "Tokyo"), ("AJAR_APPROVAL_TIME", "PT0S"), ("AJAR_APPROVAL_TIME", "PT169H")]
        {
            let Err(error) = with(name, wrong) else { panic!("{wrong} was accepted") };
            assert!(error.0.len() == 1 && error.0[0].starts_with(name), "{error}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let Err(error) = read(|settings| {
            settings.remove("AJAR_DEPLOYMENT");
        }) else {
            panic!("a missing setting was accepted")
        };
        assert!(!error.to_string().contains("secret"));
    }
}
