//! VMs to measure with, each behind an NSG of its own that lets everybody reach SSH.

use end_to_end_tests::id;
use serde_json::{Value, json};

/// The resource id of the VM with this index.
pub(crate) fn vm(index: usize) -> String {
    id("Microsoft.Compute/virtualMachines", &format!("bench-{index}"))
}

/// The virtual network of all of them, and the id of its one subnet.
pub(crate) fn network() -> (Value, String) {
    let vnet = id("Microsoft.Network/virtualNetworks", "bench-vnet");
    let subnet = format!("{vnet}/subnets/default");
    let network = json!({ "id": vnet, "name": "bench-vnet", "type": "Microsoft.Network/virtualNetworks",
        "location": "westeurope", "properties": { "addressSpace": { "addressPrefixes": ["10.0.0.0/8"] },
            "subnets": [{ "name": "default", "properties": { "addressPrefix": "10.0.0.0/8" } }] } });
    (network, subnet)
}

/// The network and so many VMs.
pub(crate) fn open_vms(count: usize) -> Vec<Value> {
    let (network, subnet) = network();
    let mut resources = vec![network];
    for index in 0..count {
        let name = format!("bench-{index}");
        let nsg = id("Microsoft.Network/networkSecurityGroups", &name);
        let nic = id("Microsoft.Network/networkInterfaces", &name);
        resources.push(json!({ "id": nsg, "name": name, "type": "Microsoft.Network/networkSecurityGroups",
            "location": "westeurope", "properties": { "securityRules": [{ "name": "AllowSSH", "properties": {
                "priority": 300, "direction": "Inbound", "access": "Allow", "protocol": "Tcp",
                "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "*",
                "destinationPortRange": "22" } }] } }));
        resources.push(json!({ "id": nic, "name": name, "type": "Microsoft.Network/networkInterfaces",
            "location": "westeurope", "properties": { "networkSecurityGroup": { "id": nsg },
                "ipConfigurations": [{ "name": "ipconfig1", "properties": { "primary": true,
                    "privateIPAddress": format!("10.1.{}.{}", index / 250, index % 250 + 4),
                    "privateIPAllocationMethod": "Static", "privateIPAddressVersion": "IPv4",
                    "subnet": { "id": subnet } } }] } }));
        resources.push(json!({ "id": vm(index), "name": name, "type": "Microsoft.Compute/virtualMachines",
            "location": "westeurope", "properties": { "hardwareProfile": { "vmSize": "Standard_B2s" },
                "networkProfile": { "networkInterfaces": [{ "id": nic }] } } }));
    }
    resources
}
