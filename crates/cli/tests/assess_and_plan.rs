//! `ajar assess`, `ajar plan` and `ajar generate` from the outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking; not every test file uses all of the support"
)]

mod support;

use serde_json::{Value, json};
use std::path::PathBuf;
use support::{Run, ajar, id, nsg, nsg_id, rule};

fn vm_id(name: &str) -> String {
    id(&format!("Microsoft.Compute/virtualMachines/{name}"))
}

/// A VM at 10.0.0.4 behind `nsg` on its network interface; each VM has a subnet of its own.
fn vm(name: &str, nsg: Option<&str>) -> Vec<Value> {
    let nic = id(&format!("Microsoft.Network/networkInterfaces/{name}"));
    let network = id(&format!("Microsoft.Network/virtualNetworks/{name}"));
    let subnet = format!("{network}/subnets/a");
    let reference = nsg.map(|nsg| json!({ "id": nsg_id(nsg) }));
    vec![
        json!({ "id": vm_id(name), "name": name,
            "properties": { "networkProfile": { "networkInterfaces": [{ "id": nic }] } } }),
        json!({ "id": nic, "properties": { "networkSecurityGroup": reference, "ipConfigurations": [
            { "name": "c", "properties": { "privateIPAddress": "10.0.0.4", "subnet": { "id": subnet } } }] } }),
        json!({ "id": network, "properties": { "subnets": [{ "id": subnet, "properties": {} }] } }),
    ]
}

fn estate() -> String {
    let mut resources = vm("web-1", Some("web"));
    resources.push(nsg("web", &[rule("ssh", 100, "Allow", "Internet", "22")]));
    json!({ "count": resources.len(), "data": resources }).to_string()
}

fn assess(input: &str) -> Run {
    ajar(&["assess", "--format", "json", "-"], input)
}

#[test]
fn each_vm_gets_its_verdict() {
    let mut resources = vm("open", Some("web"));
    resources.extend(vm("closed", Some("db")));
    resources.extend(vm("bare", None));
    resources.extend(vm("lost", Some("missing")));
    resources.push(nsg("web", &[rule("ssh", 100, "Allow", "Internet", "22")]));
    resources.push(nsg("db", &[]));
    resources.push(json!({ "id": id("Microsoft.ClassicCompute/virtualMachines/old") }));
    let run = assess(&json!(resources).to_string());
    assert_eq!((run.code, run.err.as_str()), (1, ""));
    let json = run.json();
    let verdicts: Vec<(&str, &str, &str)> = json["vms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vm| {
            let id = vm["id"].as_str().unwrap();
            (id.rsplit('/').next().unwrap(), vm["status"].as_str().unwrap(), vm["reason"].as_str().unwrap())
        })
        .collect();
    let mut expected = [
        ("old", "NotSupported", "ClassicVm"),
        ("bare", "NotApplicable", "NoEnforcementPoint"),
        ("closed", "Healthy", "NsgClosed"),
        ("lost", "Unknown", "Unreadable"),
        ("open", "Unhealthy", "ManagementPortsOpen"),
    ];
    let mut found = verdicts.clone();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let open = json["vms"].as_array().unwrap().iter().find(|vm| vm["id"] == vm_id("open")).unwrap();
    let finding = &open["findings"][0];
    assert_eq!((&finding["port"], &finding["protocol"]), (&json!(22), &json!("Tcp")));
    assert_eq!(finding["serviceTags"], json!(["Internet"]));
    assert_eq!(finding["internet"], true);
    assert_eq!(
        finding["evidence"],
        json!([{ "enforcementPoint": nsg_id("web"), "rule": "ssh", "priority": 100 }])
    );
    assert_eq!(finding["witness"]["destination"], "10.0.0.4");
}

#[test]
fn what_is_shut_is_clean_and_the_table_says_so() {
    let mut resources = vm("closed", Some("db"));
    resources.push(nsg("db", &[]));
    let run = ajar(&["assess", "-"], json!(resources).to_string());
    let expected = format!(
        "Healthy       closed  {}  NsgClosed\n1 virtual machine, 0 unhealthy or unknown\n",
        vm_id("closed")
    );
    assert_eq!((run.code, run.out, run.err), (0, expected, String::new()));
}

#[test]
fn an_estate_with_bad_resources_is_judged_and_they_are_pointed_to() {
    let estate =
        estate().replacen("\"data\":[", "\"data\":[\n{\"name\": \"no id\"},\n{\"id\": \"nonsense\"},\n", 1);
    let run = assess(&estate);
    assert_eq!(run.code, 2);
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(lines.len(), 2, "{}", run.err);
    assert!(lines[0].starts_with("<stdin>:2:1: this is no resource: it has no id"), "{}", run.err);
    assert!(lines[1].starts_with("<stdin>:3:1: nonsense: "), "{}", run.err);
    assert_eq!(run.json()["vms"][0]["status"], "Unhealthy");
    let run = assess("[]");
    assert_eq!(run.code, 2);
    assert!(run.err.contains("there is no virtual machine"), "{}", run.err);
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn policy() -> Value {
    json!({ "vm": vm_id("web-1"), "ports": [{ "port": 22, "allowedSources": ["203.0.113.0/24"] }] })
}

fn grant() -> Value {
    json!({ "vm": vm_id("web-1"), "ports": [{ "port": 22, "sources": ["203.0.113.7"] }], "duration": "PT1H",
        "requester": "bob@contoso.com" })
}

/// Plans at noon.
fn plan(policy: &str, grant: Option<&str>, estate: &str, more: &[&str]) -> Run {
    let files = Files::new();
    let policy = files.write("policy.json", policy);
    let mut arguments = vec!["plan", "--now", "2026-11-24T12:00:00Z", "--policy", &policy];
    let grant = grant.map(|text| files.write("grant.json", text));
    if let Some(grant) = &grant {
        arguments.extend(["--grant", grant]);
    }
    arguments.extend(more);
    arguments.push("-");
    let mut run = ajar(&arguments, estate);
    run.err = run.err.replace(files.0.path().to_str().unwrap(), "DIR");
    run
}

#[test]
fn a_plan_closes_opens_and_says_who_gets_in() {
    let run = plan(&policy().to_string(), Some(&grant().to_string()), &estate(), &["--format", "json"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let json = run.json();
    let one = &json["plans"][0];
    assert_eq!(one["nsg"], nsg_id("web"));
    let changes = one["changes"].as_array().unwrap();
    let actions: Vec<&str> = changes.iter().map(|c| c["action"].as_str().unwrap()).collect();
    // The allow first, then the deny, then what was there: moved, since it would come before both.
    assert_eq!(actions, ["Add", "Add", "Move"]);
    assert_eq!(changes[2]["rule"], "ssh");
    assert_eq!(changes[2]["priorityBefore"], 100);
    let priorities: Vec<u64> = changes.iter().map(|c| c["priority"].as_u64().unwrap()).collect();
    assert!(priorities[0] < priorities[1] && priorities[1] < priorities[2], "{priorities:?}");
    assert_eq!(
        changes[0]["description"],
        "Ajar: SSH to web-1 for bob@contoso.com until 2026-11-24T13:00:00Z"
    );
    assert!(changes[0]["rule"].as_str().unwrap().starts_with("ajar-ajar-allow-ssh-"));
    assert_eq!(one["flushConnection"], true);
    let reached = &one["reachability"][0];
    assert_eq!((&reached["address"], &reached["ports"]), (&json!("10.0.0.4"), &json!(["22"])));
    assert_eq!(reached["before"]["serviceTags"], json!(["Internet", "VirtualNetwork"]));
    assert_eq!(reached["after"], json!({ "sources": ["203.0.113.7"], "serviceTags": [] }));
    assert_eq!(one["reachability"].as_array().unwrap().len(), 1);
}

#[test]
fn a_plan_reads_like_a_diff() {
    let run = plan(&policy().to_string(), None, &estate(), &["--deployment", "prod"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines[0], format!("web  {}", nsg_id("web")));
    assert!(lines[1].starts_with("  +  ") && lines[1].contains(" ajar-prod-deny-ssh-"), "{}", lines[1]);
    assert!(lines[2].starts_with("  >  ") && lines[2].ends_with(" ssh (was 100)"), "{}", lines[2]);
    assert_eq!(lines[3], "  ~      flushConnection becomes true");
    assert_eq!(lines[4], "  10.0.0.4 Tcp 22");
    assert!(lines[5].starts_with("    before  Internet, "), "{}", lines[5]);
    assert_eq!(lines[6], "    after   nobody");
    assert_eq!(lines.len(), 7);
}

#[test]
fn a_grant_may_have_absolute_times() {
    let with = |start: &str, end: &str| {
        let mut grant = grant();
        let map = grant.as_object_mut().unwrap();
        map.remove("duration");
        map.insert("start".into(), json!(start));
        map.insert("end".into(), json!(end));
        plan(&policy().to_string(), Some(&grant.to_string()), &estate(), &["--format", "json"])
    };
    let active = with("2026-11-24T11:00:00Z", "2026-11-24T12:30:00Z").json();
    assert!(
        active["plans"][0]["changes"][0]["description"].as_str().unwrap().ends_with("2026-11-24T12:30:00Z")
    );
    assert_eq!(active["plans"][0]["reachability"][0]["after"]["sources"], json!(["203.0.113.7"]));
    // Not yet, and no more: a grant is open while start <= now < end.
    for (start, end) in
        [("2026-11-24T12:00:01Z", "2026-11-24T13:00:00Z"), ("2026-11-24T11:00:00Z", "2026-11-24T12:00:00Z")]
    {
        let json = with(start, end).json();
        assert_eq!(json["plans"][0]["reachability"][0]["after"]["sources"], json!([]), "{start} {end}");
    }
    let run = with("2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z");
    assert_eq!(run.code, 2);
    assert!(run.err.contains("end: is not after the start"), "{}", run.err);
}

#[test]
fn what_a_policy_leaves_open_counts_as_exposed() {
    let mut policy = policy();
    policy["existingRules"] = json!("respect");
    let run = plan(&policy.to_string(), None, &estate(), &["--format", "json"]);
    assert_eq!((run.code, run.err.as_str()), (1, ""));
    let json = run.json();
    assert_eq!(json["plans"][0]["notes"][0]["code"], "respectedRules");
    assert_eq!(json["plans"][0]["reachability"][0]["after"]["serviceTags"], json!(["Internet"]));
}

#[test]
fn a_second_plan_of_the_same_has_nothing_to_do() {
    // The estate as the first plan leaves it, rebuilt from what it says it does.
    let first = plan(&policy().to_string(), None, &estate(), &["--format", "json"]).json();
    let deny = &first["plans"][0]["changes"][0];
    let moved = &first["plans"][0]["changes"][1];
    let mut closed = rule(deny["rule"].as_str().unwrap(), 1, "Deny", "*", "22");
    closed["properties"]["priority"] = deny["priority"].clone();
    closed["properties"]["description"] = deny["description"].clone();
    closed["properties"]["destinationAddressPrefix"] = json!("10.0.0.4");
    let mut ssh = rule("ssh", 1, "Allow", "Internet", "22");
    ssh["properties"]["priority"] = moved["priority"].clone();
    let mut web = nsg("web", &[ssh, closed]);
    web["properties"]["flushConnection"] = json!(true);
    let mut resources = vm("web-1", Some("web"));
    resources.push(web);
    let run = plan(&policy().to_string(), None, &json!(resources).to_string(), &[]);
    assert!(run.out.contains("  nothing to change\n"), "{}", run.out);
    assert_eq!(run.code, 0);
}

#[test]
fn errors_point_into_policy_and_grant() {
    let good = policy().to_string();
    let policies: [(String, &str); 6] = [
        ("{\n \"vm\": 1}".into(), "DIR/policy.json:2:8: invalid type"),
        ("{\n \"vmm\": \"\"}".into(), "DIR/policy.json:2:6: unknown field `vmm`"),
        (
            format!("[{good},\n{}]", good.replace("22", "70000").replace("web-1", "web-2")),
            "DIR/policy.json:2:",
        ),
        (format!("[{good},\n{good}]"), "DIR/policy.json:2:7: vm: this VM has a policy in this file already"),
        (good.replace("virtualMachines", "disks"), "DIR/policy.json:1:7: vm: "),
        ("".into(), "DIR/policy.json:1:1: EOF"),
    ];
    for (text, start) in policies {
        let run = plan(&text, None, &estate(), &[]);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{text}");
        assert!(run.err.starts_with(&format!("ajar: {start}")), "{text}: {}", run.err);
    }
    let wide = format!("{:#}", grant()).replace("203.0.113.7", "198.51.100.1");
    let line = wide.lines().position(|line| line.contains("\"sources\"")).unwrap() + 1;
    let run = plan(&good, Some(&wide), &estate(), &[]);
    assert!(run.err.starts_with(&format!("ajar: DIR/grant.json:{line}:")), "{}", run.err);
    assert!(
        run.err.contains("ports[0].sources: 198.51.100.1 is outside the sources the policy allows"),
        "{}",
        run.err
    );
    let other = grant().to_string().replace("web-1", "web-2");
    let run = plan(&good, Some(&other), &estate(), &[]);
    assert!(run.err.contains("none of the policies is for this VM"), "{}", run.err);
}

#[test]
fn a_vm_that_is_not_in_the_estate_is_a_problem() {
    let other = policy().to_string().replace("web-1", "web-2");
    let run = plan(&format!("[{},{other}]", policy()), None, &estate(), &["--format", "json"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("the estate has no such virtual machine"), "{}", run.err);
    // The other one is planned all the same.
    assert_eq!(run.json()["plans"].as_array().unwrap().len(), 1);
}

#[test]
fn completions_and_manual_page_are_generated() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = ajar(&["generate", "completions", shell], "");
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{shell}");
        for word in ["exposure", "assess", "plan", "policy"] {
            assert!(run.out.contains(word), "{shell} {word}");
        }
    }
    let run = ajar(&["generate", "man"], "");
    assert_eq!(run.code, 0);
    for title in [".TH ajar 1", ".TH ajar-exposure 1", ".TH ajar-assess 1", ".TH ajar-plan 1"] {
        assert!(run.out.contains(title), "{title}");
    }
    assert!(run.out.contains("Exit codes"));
}
