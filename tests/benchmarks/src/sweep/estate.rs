//! The sweep over an estate of 10,000 VMs: memory, lists, and calls of Azure Resource Manager.

use crate::open_vms;
use crate::simulated::{RealClock, Simulated, person};
use ajar_access::compliance;
use ajar_access::compliance_report;
use ajar_access::testing::World;
use ajar_tables::TableStore;
use end_to_end_tests::id;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const VMS: usize = 10_000;

/// VMs behind one NSG.
const BEHIND: usize = 10;

/// VMs whose NSG lets everybody reach SSH.
const OPEN: usize = 100;

/// The estate: each VM with one network interface, ten behind an NSG, the first hundred open.
pub(crate) fn resources() -> Vec<Value> {
    let (network, subnet) = open_vms::network();
    let mut resources = vec![network];
    for index in 0..VMS {
        let name = format!("bench-{index}");
        let group = id("Microsoft.Network/networkSecurityGroups", &format!("bench-{}", index / BEHIND));
        if index % BEHIND == 0 {
            resources.push(nsg(&group, if index < OPEN { "22" } else { "443" }));
        }
        let nic = id("Microsoft.Network/networkInterfaces", &name);
        resources.push(json!({ "id": nic, "name": name, "type": "Microsoft.Network/networkInterfaces",
            "location": "westeurope", "properties": { "networkSecurityGroup": { "id": group },
                "enableAcceleratedNetworking": true, "enableIPForwarding": false, "primary": true,
                "macAddress": "00-0D-3A-1B-C7-21", "nicType": "Standard", "dnsSettings": { "dnsServers": [] },
                "ipConfigurations": [{ "name": "ipconfig1", "properties": { "primary": true,
                    "privateIPAddress": format!("10.1.{}.{}", index / 250, index % 250 + 4),
                    "privateIPAllocationMethod": "Static", "privateIPAddressVersion": "IPv4",
                    "subnet": { "id": subnet } } }] } }));
        resources.push(vm(index, &name, &nic));
    }
    resources
}

fn nsg(group: &str, port: &str) -> Value {
    let name = group.rsplit('/').next().unwrap();
    json!({ "id": group, "name": name, "type": "Microsoft.Network/networkSecurityGroups",
        "location": "westeurope", "properties": { "securityRules": [{ "name": format!("Allow{port}"),
            "properties": { "priority": 300, "direction": "Inbound", "access": "Allow", "protocol": "Tcp",
                "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "*",
                "destinationPortRange": port } }] } })
}

/// A VM of the length that Azure's have: most of it is of no use to Ajar, and comes along all the same.
fn vm(index: usize, name: &str, nic: &str) -> Value {
    let disk = id("Microsoft.Compute/disks", &format!("{name}_OsDisk_1_0123456789abcdef0123456789abcdef"));
    json!({ "id": id("Microsoft.Compute/virtualMachines", name), "name": name,
        "type": "Microsoft.Compute/virtualMachines", "location": "westeurope",
        "tags": { "env": "prod", "team": format!("team-{}", index % 40), "costCenter": "4711" },
        "properties": { "vmId": format!("00000000-0000-4000-8000-{index:012}"),
            "timeCreated": "2026-01-01T00:00:00Z", "provisioningState": "Succeeded",
            "hardwareProfile": { "vmSize": "Standard_D4s_v5" },
            "storageProfile": { "imageReference": { "publisher": "Canonical", "offer": "ubuntu-24_04-lts",
                    "sku": "server", "version": "latest", "exactVersion": "24.04.202611010" },
                "osDisk": { "osType": "Linux", "name": format!("{name}_OsDisk_1"), "createOption": "FromImage",
                    "caching": "ReadWrite", "deleteOption": "Delete", "diskSizeGB": 64,
                    "managedDisk": { "storageAccountType": "Premium_LRS", "id": disk } },
                "dataDisks": [{ "lun": 0, "name": format!("{name}_data_0"), "createOption": "Attach",
                    "caching": "ReadOnly", "diskSizeGB": 512, "managedDisk": { "id": disk } }] },
            "osProfile": { "computerName": name, "adminUsername": "azureuser",
                "linuxConfiguration": { "disablePasswordAuthentication": true,
                    "ssh": { "publicKeys": [{ "path": "/home/azureuser/.ssh/authorized_keys",
                        "keyData": format!("ssh-ed25519 {}", "A".repeat(400)) }] } } },
            "diagnosticsProfile": { "bootDiagnostics": { "enabled": true } },
            "extended": { "instanceView": { "computerName": name, "osName": "ubuntu", "osVersion": "24.04",
                "powerState": { "code": "PowerState/running", "displayStatus": "VM running" } } },
            "networkProfile": { "networkInterfaces": [{ "id": nic }] } } })
}

pub(crate) async fn measure() {
    let simulated = Simulated::start("estate").await;
    let azurite = azurite::start().await;
    let mut world = World::new();
    world.ajar.settings.subscriptions = vec![end_to_end_tests::SUBSCRIPTION.to_owned()];
    world.ajar.ports.store = Arc::new(TableStore::azurite(&azurite.endpoint).unwrap());
    world.ajar.ports.azure = simulated.resource_manager().await;
    world.ajar.ports.clock = Arc::new(RealClock);
    println!(
        "\nThe estate: {VMS} VMs, {} NSGs, {OPEN} VMs open. Before: {:.1} MB.",
        VMS / BEHIND,
        memory("VmRSS")
    );
    println!("| sweep | s | peak memory, MB | lists read | calls of Azure Resource Manager |");
    println!("|---|---|---|---|---|");
    for sweep in ["first", "second"] {
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        simulated.take_log().await;
        let started = Instant::now();
        compliance::begin(&world.ajar).await.unwrap();
        let swept = loop {
            world.deliver().await;
            let report = compliance_report::report(&world.ajar, &person("carol")).await.unwrap();
            match report.trend.len() {
                found if found > usize::from(sweep == "second") => break report,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            assert!(started.elapsed() < Duration::from_secs(900), "the sweep does not end");
        };
        let took = started.elapsed();
        let peak = memory("VmHWM");
        let last = swept.trend.last().unwrap().verdicts;
        assert_eq!((last.healthy, last.unhealthy), ((VMS - OPEN) as u64, OPEN as u64));
        let log = simulated.take_log().await;
        let lists = log.iter().filter(|call| call.is_resource_graph()).count();
        // The report asks once for carol's roles; everything else was the sweep's.
        let calls: Vec<_> = log.iter().filter(|call| !call.is_resource_graph()).collect();
        let calls: Vec<_> = calls.iter().filter(|call| !call.path.contains("Authorization")).collect();
        println!("| {sweep} | {:.1} | {peak:.1} | {lists} | {} |", took.as_secs_f64(), calls.len());
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for call in calls {
            let kind = call.path.rsplit('/').nth(1).unwrap_or_default();
            *kinds.entry(format!("{} {kind}", call.method)).or_default() += 1;
        }
        println!("<!-- {kinds:?} -->");
    }
}

/// A figure of this process, in MB.
fn memory(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1000.0
}
