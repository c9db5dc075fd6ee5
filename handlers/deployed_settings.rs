//! The app settings that the templates make, read by the code that starts with them.

use crate::adapters;
use crate::configuration::Configuration;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

const SNAPSHOTS: [&str; 4] = [
    include_str!("../infra/examples/smallest.snapshot.json"),
    include_str!("../infra/examples/private-network.snapshot.json"),
    include_str!("../infra/examples/management-group.snapshot.json"),
    include_str!("../infra/examples/everything.snapshot.json"),
];

/// What the Functions host reads of the settings, and Ajar does not.
const HOST: [&str; 7] = [
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
    "ServiceBusConnection__clientId",
    "ServiceBusConnection__credential",
];

/// What App Service adds to the settings of an application with a managed identity.
const PLATFORM: [(&str, &str); 2] =
    [("IDENTITY_ENDPOINT", "http://127.0.0.1:4141/msi/token"), ("IDENTITY_HEADER", "header")];

/// The settings of a snapshot; what only a deployment knows stands for what it would be in the public cloud.
fn settings(snapshot: &str) -> BTreeMap<String, String> {
    let snapshot: Value = serde_json::from_str(snapshot).unwrap();
    let resources = snapshot["predictedResources"].as_array().unwrap();
    let app = resources.iter().find(|one| one["type"] == "Microsoft.Web/sites").unwrap();
    let listed = app["properties"]["siteConfig"]["appSettings"].as_array().unwrap();
    let settings: BTreeMap<_, _> = listed
        .iter()
        .map(|one| {
            let (name, value) = (one["name"].as_str().unwrap(), one["value"].as_str().unwrap());
            let known = match value {
                _ if value.ends_with("SecretName=webhook-url)") => "https://hooks.contoso.example/ajar",
                _ if value.ends_with("SecretName=webhook-secret)") => {
                    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
                }
                _ if !value.starts_with('[') => value,
                _ if value.contains(".clientId") => "66666666-6666-6666-6666-666666666666",
                _ if value.contains(".serviceBusEndpoint") => "contoso.servicebus.windows.net",
                _ if value.contains("loginEndpoint") => "https://login.microsoftonline.com/",
                _ if value.contains("resourceManager") => "https://management.azure.com/",
                _ if value.contains("blob.{1}") => "https://contoso.blob.core.windows.net",
                _ if value.contains("suffixes.storage") => "https://contoso.table.core.windows.net",
                _ if name == "APPLICATIONINSIGHTS_CONNECTION_STRING" => "InstrumentationKey=none",
                _ => panic!("{name} is {value}: say here what it is in a deployment"),
            };
            (name.to_owned(), known.to_owned())
        })
        .collect();
    assert_eq!(settings.len(), listed.len(), "a setting is there twice");
    settings
}

#[test]
fn they_are_enough_to_start_and_all_of_them_are_read() {
    for snapshot in SNAPSHOTS {
        let mut settings = settings(snapshot);
        settings.extend(PLATFORM.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let asked = RefCell::new(BTreeSet::new());
        let configuration = Configuration::from_variables(|name| {
            asked.borrow_mut().insert(name.to_owned());
            settings.get(name).cloned()
        });
        let mut configuration = configuration.unwrap_or_else(|error| panic!("{error}"));
        // In a package they are beside the executable.
        let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/policies");
        configuration.deployment.organisation_policies = Some(policies.into());
        // The adapters check addresses and names further.
        adapters::connect(&configuration).map(|_| ()).unwrap_or_else(|error| panic!("{error}"));
        let asked = asked.into_inner();
        for name in settings.keys() {
            assert!(
                asked.contains(name) || HOST.contains(&name.as_str()),
                "the template sets {name}, and nothing reads it"
            );
        }
    }
}

#[test]
fn none_of_those_that_the_start_needs_can_be_left_out() {
    let settings = settings(SNAPSHOTS[0]);
    for needed in [
        "AJAR_AUDIENCE",
        "AJAR_BLOBS_ENDPOINT",
        "AJAR_DEPLOYMENT",
        "AJAR_SUBSCRIPTIONS",
        "AJAR_TABLES_ENDPOINT",
        "AJAR_TENANT_ID",
        "ServiceBusConnection__fullyQualifiedNamespace",
    ] {
        assert!(settings.contains_key(needed), "{needed}");
        let without = |name: &str| {
            let platform =
                PLATFORM.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
            settings.get(name).filter(|_| name != needed).cloned().or(platform)
        };
        assert!(Configuration::from_variables(without).is_err(), "{needed} is not needed");
    }
}
