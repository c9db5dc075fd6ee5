//! The sample estate tells the stories it was made for.

use crate::machine::{Machine, machine};

const INTERNET: &str = "203.0.113.7";
const NEIGHBOUR: &str = "10.0.1.200";

#[test]
fn every_machine_tells_its_story() {
    let mut azure = Machine::new();
    for (source, name, port, expected, rules) in [
        (INTERNET, "web-1", 22, true, &["AllowSSH"][..]),
        (INTERNET, "web-1", 443, true, &["AllowHTTPS"]),
        (INTERNET, "web-1", 3389, false, &["DenyAllInBound"]),
        (INTERNET, "web-2", 22, true, &["AllowSSH"]),
        (INTERNET, "db-1", 22, false, &["DenyAllInBound"]),
        (NEIGHBOUR, "db-1", 5432, true, &["AllowPostgresFromWeb"]),
        (INTERNET, "win-1", 3389, true, &["AllowRemoteTools"]),
        (INTERNET, "win-1", 22, false, &["DenyAllInBound"]),
        (INTERNET, "bare-1", 22, false, &["noNsg"]),
        (NEIGHBOUR, "bare-1", 22, true, &["noNsg"]),
        (INTERNET, "both-1", 22, true, &["AllowSSHSubnet", "AllowSSHNic"]),
        (INTERNET, "shadowed-1", 22, false, &["DenyManagement"]),
        (INTERNET, "vnet-only-1", 22, false, &["DenyAllInBound"]),
        (NEIGHBOUR, "vnet-only-1", 22, true, &["AllowSSHFromVnet"]),
        ("2001:db8::7", "v6-1", 22, true, &["AllowSSHv6"]),
        (INTERNET, "v6-1", 22, false, &["DenyAllInBound"]),
        (INTERNET, "two-nics-1", 443, true, &["AllowHTTPS"]),
        (INTERNET, "fw-1", 22, true, &["AllowSSH"]),
    ] {
        let (allowed, by) = azure.probe(source, &machine(name), port, "Tcp");
        assert_eq!(
            (allowed, by.iter().map(String::as_str).collect::<Vec<_>>()),
            (expected, rules.to_vec()),
            "{source} -> {name}:{port}"
        );
    }
    // The second NIC, by its address.
    assert_eq!(azure.probe("10.0.7.9", "10.0.7.4", 5985, "Tcp"), (true, vec!["AllowWinRM".to_owned()]));
}

#[test]
fn the_estate_names_its_tenant_and_subscription() {
    let azure = Machine::new();
    assert_eq!(azure.azure.tenant_id(), "22222222-2222-2222-2222-222222222222");
    assert_eq!(azure.azure.subscription_ids(), ["11111111-1111-1111-1111-111111111111"]);
}
