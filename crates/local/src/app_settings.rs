//! The app settings that the handler starts with.

use std::path::Path;

/// What the settings point to.
pub(crate) struct Surroundings<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) subscriptions: &'a [String],
    pub(crate) azure_url: &'a str,
    pub(crate) service_bus_port: u16,
    pub(crate) identity_header: &'a str,
    /// Absolute: the handler runs in another directory.
    pub(crate) state_dir: &'a Path,
}

/// The settings, with those of the command line last, which win.
pub(crate) fn app_settings(
    surroundings: &Surroundings<'_>,
    given: &[(String, String)],
) -> Vec<(String, String)> {
    let Surroundings { tenant, subscriptions, azure_url, service_bus_port, identity_header, state_dir } =
        surroundings;
    let mut settings = vec![
        ("AJAR_DEPLOYMENT", "local".to_owned()),
        ("AJAR_TENANT_ID", (*tenant).to_owned()),
        ("AJAR_AUDIENCE", "api://ajar".to_owned()),
        ("AJAR_AUTHORITY", (*azure_url).to_owned()),
        ("AJAR_ARM_ENDPOINT", (*azure_url).to_owned()),
        ("AJAR_SUBSCRIPTIONS", subscriptions.join(",")),
        ("ServiceBusConnection__fullyQualifiedNamespace", "local.servicebus.windows.net".to_owned()),
        ("AJAR_SERVICE_BUS_ENDPOINT", format!("http://127.0.0.1:{service_bus_port}")),
        ("IDENTITY_ENDPOINT", format!("{azure_url}/msi/token")),
        ("IDENTITY_HEADER", (*identity_header).to_owned()),
    ];
    if !given.iter().any(|(name, _)| name == "AJAR_TABLES_ENDPOINT") {
        settings.push(("AJAR_STORE_FILE", state_dir.join("ajar.redb").display().to_string()));
    }
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
    let settings = settings.filter(|(name, _)| !given.iter().any(|(other, _)| other == name));
    settings.chain(given.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(given: &[(&str, &str)]) -> Vec<(String, String)> {
        let surroundings = Surroundings {
            tenant: "t",
            subscriptions: &["a".to_owned(), "b".to_owned()],
            azure_url: "http://127.0.0.1:1",
            service_bus_port: 2,
            identity_header: "h",
            state_dir: Path::new("/state"),
        };
        let given: Vec<_> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        app_settings(&surroundings, &given)
    }

    fn value<'a>(settings: &'a [(String, String)], name: &str) -> Vec<&'a str> {
        settings.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn the_command_line_wins() {
        let settings = settings(&[("AJAR_DEPLOYMENT", "other"), ("EXTRA", "1")]);
        assert_eq!(value(&settings, "AJAR_DEPLOYMENT"), ["other"]);
        assert_eq!(value(&settings, "EXTRA"), ["1"]);
        assert_eq!(value(&settings, "AJAR_SUBSCRIPTIONS"), ["a,b"]);
    }

    #[test]
    fn a_table_endpoint_takes_the_place_of_the_store_file() {
        assert_eq!(value(&settings(&[]), "AJAR_STORE_FILE"), ["/state/ajar.redb"]);
        let with_tables = settings(&[("AJAR_TABLES_ENDPOINT", "http://127.0.0.1:10002/devstoreaccount1")]);
        assert!(value(&with_tables, "AJAR_STORE_FILE").is_empty());
    }
}
