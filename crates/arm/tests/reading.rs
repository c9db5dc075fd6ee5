//! Reading estates and lists: what is read, in which version, how often, and what is left out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod stub;

use std::collections::BTreeMap;

use ajar_access::ports::azure::{Azure, AzureError};
use ajar_network::resource_id::ResourceId;
use serde_json::{Value, json};
use stub::{GROUP, Stub, TOKEN, error, fixture, network_id, reply};

fn vm_id() -> ResourceId {
    ResourceId::parse(&format!("{GROUP}/Microsoft.Compute/virtualMachines/web")).unwrap()
}

/// Two NICs in two subnets of one VNet, whose ids come in different case, as they do from Azure.
fn estate() -> BTreeMap<String, Value> {
    let subnet = |name: &str| format!("{}/subnets/{name}", network_id("virtualNetworks", "net"));
    let nic = |name: &str, subnet_id: String, public: &str| {
        json!({
            "id": network_id("networkInterfaces", name),
            "properties": {
                "networkSecurityGroup": { "id": network_id("networkSecurityGroups", "on-nic") },
                "ipConfigurations": [{ "properties": {
                    "subnet": { "id": subnet_id },
                    "publicIPAddress": { "id": network_id("publicIPAddresses", public) },
                    "applicationSecurityGroups": [{ "id": network_id("applicationSecurityGroups", "web") }],
                    "loadBalancerBackendAddressPools": [
                        { "id": format!("{}/backendAddressPools/all", network_id("loadBalancers", "lb")) },
                    ],
                    "loadBalancerInboundNatRules": [
                        { "id": format!("{}/inboundNatRules/ssh", network_id("loadBalancers", "LB")) },
                    ],
                }}],
            },
        })
    };
    let resources = [
        json!({ "id": vm_id().as_str(), "properties": { "networkProfile": { "networkInterfaces": [
            { "id": network_id("networkInterfaces", "a") }, { "id": network_id("networkInterfaces", "b") },
        ]}}}),
        nic("a", subnet("one"), "p"),
        nic("b", subnet("two").to_uppercase(), "gone"),
        json!({ "id": network_id("publicIPAddresses", "p") }),
        json!({ "id": network_id("applicationSecurityGroups", "web") }),
        json!({ "id": network_id("networkSecurityGroups", "on-nic") }),
        json!({ "id": network_id("networkSecurityGroups", "on-subnet") }),
        json!({ "id": network_id("routeTables", "rt") }),
        json!({ "id": network_id("loadBalancers", "lb") }),
        json!({ "id": network_id("virtualNetworks", "net"), "properties": { "subnets": [
            { "id": subnet("one"), "properties": {
                // The same NSG as on the NICs, in another case: it must not be read twice.
                "networkSecurityGroup": { "id": network_id("networkSecurityGroups", "ON-NIC") },
                "routeTable": { "id": network_id("routeTables", "rt") },
            }},
            { "id": subnet("two"), "properties": {
                "networkSecurityGroup": { "id": network_id("networkSecurityGroups", "on-subnet") },
            }},
            { "id": subnet("unused"), "properties": {
                "networkSecurityGroup": { "id": network_id("networkSecurityGroups", "elsewhere") },
            }},
        ]}}),
    ];
    resources.into_iter().map(|r| (r["id"].as_str().unwrap().to_lowercase(), r)).collect()
}

#[tokio::test]
async fn a_vms_estate_is_everything_on_its_path_each_once() {
    let f = fixture().await;
    let all = estate();
    let served = all.clone();
    f.stub.answers(move |seen| match served.get(&seen.path.to_lowercase()) {
        Some(resource) => reply(200, resource.clone()),
        None => error(404, "ResourceNotFound"),
    });
    let found = f.azure.vm_estate(&vm_id()).await.unwrap();
    let mut found: Vec<_> = found.iter().map(|r| r["id"].as_str().unwrap().to_lowercase()).collect();
    found.sort();
    assert_eq!(found, all.keys().cloned().collect::<Vec<_>>());

    let mut paths: Vec<_> = f.stub.seen().iter().map(|seen| seen.path.to_lowercase()).collect();
    let asked = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), asked, "nothing is read twice: {paths:?}");
    assert_eq!(asked, all.len() + 1, "and only the missing public address beside");
    assert!(!paths.iter().any(|path| path.ends_with("elsewhere")), "another subnet's NSG is not on the path");
    for seen in f.stub.seen() {
        let version = if seen.path.contains("Microsoft.Compute") { "2024-07-01" } else { "2024-05-01" };
        assert_eq!(seen.query, format!("api-version={version}"), "{}", seen.path);
        assert_eq!(seen.headers["authorization"], format!("Bearer {TOKEN}"));
    }
}

#[tokio::test]
async fn only_the_vm_itself_can_be_not_found() {
    let f = fixture().await;
    let error = f.azure.vm_estate(&vm_id()).await.unwrap_err();
    assert_eq!(error, AzureError::NotFound(vm_id().to_string()));
}

#[tokio::test]
async fn what_may_not_be_read_is_an_error_and_not_an_absence() {
    let f = fixture().await;
    let served = estate();
    f.stub.answers(move |seen| match served.get(&seen.path.to_lowercase()) {
        _ if seen.path.ends_with("on-subnet") => error(403, "AuthorizationFailed"),
        Some(resource) => reply(200, resource.clone()),
        None => error(404, "ResourceNotFound"),
    });
    assert!(matches!(f.azure.vm_estate(&vm_id()).await, Err(AzureError::Forbidden(_))));
}

#[tokio::test]
async fn an_id_that_cannot_be_read_is_an_error_and_not_an_absence() {
    let f = fixture().await;
    f.stub.answers(|_| {
        reply(200, json!({ "properties": { "networkProfile": { "networkInterfaces": [{ "id": "nic" }] } } }))
    });
    assert!(matches!(
        f.azure.vm_estate(&vm_id()).await,
        Err(AzureError::Rejected { code, .. }) if code == "UnreadableAnswer"
    ));
}

#[tokio::test]
async fn a_subscriptions_estate_is_nine_lists_with_all_their_pages() {
    let f = fixture().await;
    let base = f.stub.base.clone();
    f.stub.answers(move |seen| {
        let kind = seen.path.rsplit('/').next().unwrap();
        let page =
            |names: &[&str]| names.iter().map(|n| json!({ "id": format!("{kind}-{n}") })).collect::<Vec<_>>();
        if seen.query.contains("skip") {
            reply(200, json!({ "value": page(&["2"]) }))
        } else {
            let next = format!("{base}{}?api-version=2024-05-01&$skiptoken=skip", seen.path);
            reply(200, json!({ "value": page(&["0", "1"]), "nextLink": next }))
        }
    });
    let found = f.azure.subscription_estate("s1").await.unwrap();
    assert_eq!(found.len(), 9 * 3);
    for kind in [
        "virtualMachines",
        "networkInterfaces",
        "publicIPAddresses",
        "virtualNetworks",
        "networkSecurityGroups",
        "routeTables",
        "applicationSecurityGroups",
        "azureFirewalls",
        "loadBalancers",
    ] {
        for page in 0..3 {
            assert!(found.iter().any(|r| r["id"] == format!("{kind}-{page}")), "{kind} {page}");
        }
    }
}

#[tokio::test]
async fn a_next_page_elsewhere_is_refused_and_gets_no_token() {
    let f = fixture().await;
    let foreign = Stub::start().await;
    let next = format!("{}/page2", foreign.base);
    f.stub.answers(move |_| reply(200, json!({ "value": [], "nextLink": next })));
    let outcome = f.azure.network_security_groups("s1").await;
    assert!(matches!(outcome, Err(AzureError::Rejected { code, .. }) if code == "ForeignAddress"));
    assert_eq!(foreign.seen().len(), 0);
}

#[tokio::test]
async fn a_list_that_never_ends_is_given_up() {
    let f = fixture().await;
    let next = format!("{}/again", f.stub.base);
    f.stub.answers(move |_| reply(200, json!({ "value": [], "nextLink": next })));
    assert!(matches!(
        f.azure.network_security_groups("s1").await,
        Err(AzureError::Rejected { code, .. }) if code == "UnreadableAnswer"
    ));
    assert_eq!(f.stub.seen().len(), 1000);
}

#[tokio::test]
async fn a_subscription_that_is_no_id_is_not_asked_for() {
    let f = fixture().await;
    for bad in ["", "s1/resourceGroups/x", "s1?x=", "s 1"] {
        assert!(f.azure.subscription_estate(bad).await.is_err(), "{bad}");
    }
    assert_eq!(f.stub.seen().len(), 0);
}

#[tokio::test]
async fn nsgs_are_listed_with_what_is_unknown_to_us() {
    let f = fixture().await;
    let nsg = json!({
        "id": network_id("networkSecurityGroups", "n"), "etag": "W/\"1\"",
        "properties": { "securityRules": [], "inventedNextYear": { "a": 1 } },
    });
    let served = nsg.clone();
    f.stub.answers(move |_| reply(200, json!({ "value": [served.clone()] })));
    let found = f.azure.network_security_groups("s1").await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_json(), nsg);
}
