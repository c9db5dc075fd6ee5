//! Network security groups as ARM lists them, made up from a seed: as long, as mixed and as full of things that
//! nobody asks about as real ones.

use std::io::{self, Write};

const SUBSCRIPTION: &str = "11111111-1111-4111-8111-111111111111";

/// xorshift64*: the same numbers everywhere, and nothing to depend on.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit.max(1)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from.get(index).copied().unwrap_or_default()
    }

    fn prefix(&mut self) -> String {
        let (a, b, c) = (1 + self.below(222), self.below(256), self.below(256));
        match self.below(4) {
            0 => format!("{a}.{b}.{c}.{}", self.below(256)),
            1 => format!("{a}.{b}.{c}.0/24"),
            2 => format!("{a}.{b}.0.0/16"),
            _ => format!("10.{b}.{c}.0/24"),
        }
    }
}

/// Writes `{"value": [...]}` with this many groups of this many rules.
pub(crate) fn write(mut out: impl Write, groups: u64, rules: u64) -> io::Result<()> {
    let mut random = Random(20_261_124);
    out.write_all(b"{\"value\":[")?;
    for group in 0..groups {
        if group > 0 {
            out.write_all(b",")?;
        }
        one(&mut out, &mut random, group, rules)?;
    }
    out.write_all(b"]}\n")
}

fn one(out: &mut impl Write, random: &mut Random, group: u64, rules: u64) -> io::Result<()> {
    let id = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-app-{:04}/providers/Microsoft.Network/networkSecurityGroups/nsg-app-{group:05}",
        group / 8
    );
    let etag =
        format!("W/\\\"{:08x}-0000-4000-8000-{:012x}\\\"", random.below(1 << 32), random.below(1 << 48));
    write!(
        out,
        "{{\"name\":\"nsg-app-{group:05}\",\"id\":\"{id}\",\"etag\":\"{etag}\",\
         \"type\":\"Microsoft.Network/networkSecurityGroups\",\"location\":\"westeurope\",\
         \"tags\":{{\"costCenter\":\"{}\",\"environment\":\"{}\"}},\
         \"properties\":{{\"provisioningState\":\"Succeeded\",\"resourceGuid\":\"{:08x}-0000-4000-8000-000000000000\",\
         \"securityRules\":[",
        random.below(100_000),
        random.pick(&["production", "staging", "development"]),
        random.below(1 << 32),
    )?;
    for rule in 0..rules {
        if rule > 0 {
            out.write_all(b",")?;
        }
        self::rule(out, random, &id, rule)?;
    }
    out.write_all(b"],\"defaultSecurityRules\":[")?;
    let defaults = [
        ("AllowVnetInBound", "VirtualNetwork", "VirtualNetwork", "Allow", 65000, "Inbound"),
        ("AllowAzureLoadBalancerInBound", "AzureLoadBalancer", "*", "Allow", 65001, "Inbound"),
        ("DenyAllInBound", "*", "*", "Deny", 65500, "Inbound"),
        ("AllowVnetOutBound", "VirtualNetwork", "VirtualNetwork", "Allow", 65000, "Outbound"),
        ("AllowInternetOutBound", "*", "Internet", "Allow", 65001, "Outbound"),
        ("DenyAllOutBound", "*", "*", "Deny", 65500, "Outbound"),
    ];
    for (index, (name, source, destination, access, priority, direction)) in defaults.iter().enumerate() {
        write!(
            out,
            "{}{{\"name\":\"{name}\",\"id\":\"{id}/defaultSecurityRules/{name}\",\"etag\":\"{etag}\",\
             \"type\":\"Microsoft.Network/networkSecurityGroups/defaultSecurityRules\",\"properties\":{{\
             \"provisioningState\":\"Succeeded\",\"description\":\"{name}\",\"protocol\":\"*\",\
             \"sourcePortRange\":\"*\",\"destinationPortRange\":\"*\",\"sourceAddressPrefix\":\"{source}\",\
             \"destinationAddressPrefix\":\"{destination}\",\"access\":\"{access}\",\"priority\":{priority},\
             \"direction\":\"{direction}\",\"sourcePortRanges\":[],\"destinationPortRanges\":[],\
             \"sourceAddressPrefixes\":[],\"destinationAddressPrefixes\":[]}}}}",
            if index > 0 { "," } else { "" },
        )?;
    }
    out.write_all(b"]}}")
}

fn rule(out: &mut impl Write, random: &mut Random, nsg: &str, index: u64) -> io::Result<()> {
    let direction = if random.below(4) == 0 { "Outbound" } else { "Inbound" };
    let access = if random.below(5) == 0 { "Deny" } else { "Allow" };
    let protocol = random.pick(&["Tcp", "Tcp", "TCP", "Udp", "*"]);
    let name =
        format!("{}-{}-{index:03}", access.to_lowercase(), random.pick(&["web", "ssh", "rdp", "sql", "ops"]));
    // A third lists prefixes, the rest has one, or a tag, or everything.
    let (source, sources) = match random.below(12) {
        0..4 => {
            let list: Vec<String> =
                (0..2 + random.below(8)).map(|_| format!("\"{}\"", random.prefix())).collect();
            (String::new(), list.join(","))
        }
        4..9 => (format!("\"sourceAddressPrefix\":\"{}\",", random.prefix()), String::new()),
        9 => (
            format!(
                "\"sourceAddressPrefix\":\"{}\",",
                random.pick(&["VirtualNetwork", "Internet", "AzureCloud"])
            ),
            String::new(),
        ),
        10 => ("\"sourceAddressPrefix\":\"*\",".to_owned(), String::new()),
        _ => ("\"sourceAddressPrefix\":\"10.0.0.0/8\",".to_owned(), String::new()),
    };
    let (port, ports) = match random.below(6) {
        0 => (String::new(), "\"22\",\"3389\",\"5985-5986\"".to_owned()),
        1 => (String::new(), format!("\"80\",\"443\",\"{}\"", 1024 + random.below(60_000))),
        2 => ("\"destinationPortRange\":\"22\",".to_owned(), String::new()),
        3 => (
            format!("\"destinationPortRange\":\"{}-{}\",", random.below(4_000), 4_000 + random.below(4_000)),
            String::new(),
        ),
        _ => (format!("\"destinationPortRange\":\"{}\",", 1024 + random.below(60_000)), String::new()),
    };
    let destination = if random.below(3) == 0 {
        random.prefix()
    } else {
        random.pick(&["*", "*", "VirtualNetwork"]).to_owned()
    };
    write!(
        out,
        "{{\"name\":\"{name}\",\"id\":\"{nsg}/securityRules/{name}\",\"properties\":{{\
         \"provisioningState\":\"Succeeded\",\"description\":\"Requested with change {}.\",\"protocol\":\"{protocol}\",\
         \"sourcePortRange\":\"*\",{port}{source}\"destinationAddressPrefix\":\"{destination}\",\
         \"access\":\"{access}\",\"priority\":{},\"direction\":\"{direction}\",\"sourcePortRanges\":[],\
         \"destinationPortRanges\":[{ports}],\"sourceAddressPrefixes\":[{sources}],\"destinationAddressPrefixes\":[]}}}}",
        random.below(1_000_000),
        100 + index * 10,
    )
}
