//! `ajar exposure` from the outside: every form of input, every format, every exit code.
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

use ajar_network::address::SourceSet;
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::ports::Protocol;
use ajar_network::reachability::{Destination, Flow, InboundRules, Level, path_reach};
use ajar_network::resource_id::ResourceId;
use serde_json::{Value, json};
use support::{Run, ajar, nsg, nsg_id, rule};

fn exposure(input: impl AsRef<[u8]>) -> Run {
    ajar(&["exposure", "--format", "json", "-"], input)
}

/// Names of groups with their exposed ports.
fn exposed(run: &Run) -> Vec<(String, Vec<u64>)> {
    let json = run.json();
    json["nsgs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|nsg| {
            let ports = nsg["exposures"].as_array().unwrap().iter().map(|e| e["port"].as_u64().unwrap());
            (nsg["name"].as_str().unwrap().to_owned(), ports.collect())
        })
        .collect()
}

/// Open to the Internet on 22, and closed.
fn two() -> [Value; 2] {
    [
        nsg("web", &[rule("ssh", 300, "Allow", "*", "22"), rule("web", 310, "Allow", "*", "443")]),
        nsg("db", &[rule("no", 100, "Deny", "*", "*"), rule("late", 200, "Allow", "*", "22")]),
    ]
}

fn expected_of_two() -> Vec<(String, Vec<u64>)> {
    vec![("web".to_owned(), vec![22]), ("db".to_owned(), vec![])]
}

/// As `az network nsg show` flattens it.
fn flat(nsg: &Value) -> Value {
    let mut flat = nsg.clone();
    let rules: Vec<Value> = nsg["properties"]["securityRules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            let mut flat = rule["properties"].clone();
            flat["name"] = rule["name"].clone();
            flat["sourceAddressPrefixes"] = json!([]);
            flat["destinationPortRanges"] = json!([]);
            flat
        })
        .collect();
    flat.as_object_mut().unwrap().remove("properties");
    flat["securityRules"] = json!(rules);
    flat["defaultSecurityRules"] = json!([]);
    flat["networkInterfaces"] = Value::Null;
    flat
}

#[test]
fn every_form_of_input_gives_the_same_answer() {
    let [web, db] = two();
    let without_id = |nsg: &Value| {
        let mut nsg = nsg.clone();
        nsg.as_object_mut().unwrap().remove("id");
        nsg
    };
    let inputs = [
        ("az list", json!([flat(&web), flat(&db)]).to_string()),
        ("ARM list", json!({ "value": [web, db], "nextLink": null }).to_string()),
        ("Resource Graph", json!({ "count": 2, "data": [web, db], "skip_token": null }).to_string()),
        ("keys before and after", format!("{{\"a\":{{\"b\":[1]}},\"Value\":[{web},{db}],\"z\":\"]}}\"}}")),
        ("JSON lines", format!("{web}\n{db}\n")),
        ("JSON lines of flat groups", format!("{}\n\n{}", flat(&web), flat(&db))),
        ("written after one another", format!("{:#}{:#}", web, db)),
        ("pages", json!([{ "value": [web] }, { "value": [db] }]).to_string()),
        ("lines of lists", format!("[{web}]\n[{db}]\n")),
        ("template", json!({ "$schema": "s", "resources": [without_id(&web), without_id(&db)] }).to_string()),
        (
            "template with symbolic names",
            json!({ "languageVersion": "2.0", "resources": { "a": without_id(&web), "b": without_id(&db) } })
                .to_string(),
        ),
        (
            "nested deployment",
            json!({ "resources": [{ "type": "Microsoft.Resources/deployments", "name": "d", "properties": {
                "template": { "resources": [without_id(&web), without_id(&db)] } } }] })
            .to_string(),
        ),
        ("pretty with a byte order mark", format!("\u{feff}{:#}", json!([web, db]))),
        (
            "other resources between",
            json!([web, { "id": "/subscriptions/s/resourceGroups/g", "type": "x/y" }, db]).to_string(),
        ),
    ];
    for (form, input) in inputs {
        let run = exposure(&input);
        assert_eq!(run.err, "", "{form}");
        assert_eq!(exposed(&run), expected_of_two(), "{form}");
        assert_eq!(run.code, 1, "{form}");
        let json = run.json();
        let exposure = &json["nsgs"][0]["exposures"][0];
        assert_eq!(exposure["sources"], json!(["0.0.0.0/0", "::/0"]), "{form}");
        assert_eq!(exposure["rules"], json!(["ssh"]), "{form}");
    }
    for (form, input) in [("ARM GET", web.clone()), ("az show", flat(&web))] {
        assert_eq!(exposed(&exposure(input.to_string())), vec![("web".to_owned(), vec![22])], "{form}");
    }
}

#[test]
fn rules_that_a_template_writes_beside_their_group_count_as_its_rules() {
    let standing = |name: &str, rule: &Value| {
        json!({ "type": "Microsoft.Network/networkSecurityGroups/securityRules", "name": name,
            "properties": rule["properties"] })
    };
    let mut group = nsg("web", &[]);
    group.as_object_mut().unwrap().remove("id");
    let ssh = rule("ssh", 300, "Allow", "Internet", "22");
    let mut nested = group.clone();
    nested["resources"] =
        json!([{ "type": "securityRules", "name": "ssh", "properties": ssh["properties"] }]);
    let mut by_parameter = group.clone();
    by_parameter["name"] = json!("[parameters('nsg')]");
    let inputs = [
        json!({ "resources": [group, standing("web/ssh", &ssh)] }),
        json!({ "resources": [standing("web/ssh", &ssh), group] }),
        json!({ "resources": [nested] }),
        json!({ "resources": [by_parameter, standing("[concat(parameters('nsg'), '/ssh')]", &ssh)] }),
        json!({ "resources": [by_parameter, standing("[format('{0}/{1}', parameters('nsg'), 'ssh')]", &ssh)] }),
    ];
    for input in &inputs {
        let run = exposure(input.to_string());
        assert_eq!((run.code, run.err.as_str()), (1, ""), "{input}");
        let json = run.json();
        assert_eq!(json["nsgs"].as_array().unwrap().len(), 1, "{input}");
        assert_eq!(json["nsgs"][0]["exposures"][0]["serviceTags"], json!(["Internet"]), "{input}");
        assert_eq!(json["nsgs"][0]["exposures"][0]["rules"], json!(["ssh"]), "{input}");
    }
    // Without the group, a rule of it that denies first cannot be ruled out: that is told.
    let run = exposure(json!({ "resources": [standing("web/ssh", &ssh)] }).to_string());
    assert_eq!(run.code, 2);
    assert!(run.err.contains("only rules of this group are here"), "{}", run.err);
}

#[test]
fn the_json_says_who_how_and_by_what() {
    let rules = [
        rule("jump", 100, "Allow", "198.51.100.0/24", "22"),
        rule("office", 200, "Allow", "10.0.0.0/8", "20-25"),
        rule("azure", 210, "Allow", "AzureCloud", "3389"),
    ];
    let run = exposure(nsg("web", &rules).to_string());
    let exposures = run.json()["nsgs"][0]["exposures"].clone();
    // 198.51.100.0/24 is public but not the Internet at large; AzureCloud is rented by anyone.
    assert_eq!(
        exposures[0],
        json!({ "port": 22, "protocol": "Tcp", "sources": ["10.0.0.0/8", "198.51.100.0/24"], "serviceTags": [],
            "internet": false, "internetReach": "some", "certain": true, "rules": ["jump", "office"],
            "witness": { "source": "198.51.100.0", "sourcePort": 50000, "destination": "10.0.0.4",
                "protocol": "Tcp", "port": 22 } })
    );
    assert_eq!(exposures[1]["port"], 3389);
    assert_eq!(exposures[1]["serviceTags"], json!(["AzureCloud"]));
    assert_eq!(exposures[1]["internetReach"], "some");
    assert_eq!(exposures.as_array().unwrap().len(), 2);
    // Two halves are the whole Internet, whatever a text search finds.
    let mut halves = rule("ssh", 100, "Allow", "*", "22");
    halves["properties"]["sourceAddressPrefix"] = Value::Null;
    halves["properties"]["sourceAddressPrefixes"] = json!(["0.0.0.0/1", "128.0.0.0/1"]);
    let run = exposure(nsg("web", &[halves]).to_string());
    assert_eq!(run.json()["nsgs"][0]["exposures"][0]["internet"], true);
}

#[test]
fn ports_and_protocol_are_as_asked() {
    let web = nsg("web", &[rule("web", 300, "Allow", "*", "443")]);
    let run = ajar(&["exposure", "--ports", "440-445,80", "--format", "json", "-"], web.to_string());
    assert_eq!((run.code, exposed(&run)), (1, vec![("web".to_owned(), vec![443])]));
    let run =
        ajar(&["exposure", "--ports=443", "--protocol", "udp", "--format", "json", "-"], web.to_string());
    assert_eq!((run.code, exposed(&run)), (0, vec![("web".to_owned(), vec![])]));
    for bad in ["x", "70000", "9-1", "0-65535", ""] {
        let run = ajar(&["exposure", "--ports", bad, "-"], web.to_string());
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{bad}");
        assert!(run.err.contains("--ports"), "{}", run.err);
    }
}

#[test]
fn the_table_is_for_people() {
    let [web, db] = two();
    let run = ajar(&["exposure", "-"], json!([web, db]).to_string());
    // Nothing here is a terminal, so there is no colour.
    let expected = format!(
        "web  {}\n  22/tcp     Internet: 0.0.0.0/0, ::/0  by ssh\n2 network security groups, 1 exposed\n",
        nsg_id("web")
    );
    assert_eq!(run.out, expected);
    let run = ajar(&["exposure", "-"], db.to_string());
    assert_eq!((run.code, run.out.as_str()), (0, "1 network security group, none exposed\n"));
}

#[test]
fn sarif_has_what_the_standard_requires_and_points_to_the_rule() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("my groups.json");
    let [web, db] = two();
    std::fs::write(&file, format!("[\n{web:#},\n{db}\n, {{\"name\": 5}}]")).unwrap();
    let run = ajar(&["exposure", "--format", "sarif", file.to_str().unwrap()], "");
    assert_eq!(run.code, 2);
    let sarif = run.json();
    assert_eq!(sarif["version"], "2.1.0");
    assert!(sarif["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let one = &sarif["runs"][0];
    assert_eq!(one["tool"]["driver"]["name"], "ajar");
    let results = one["results"].as_array().unwrap();
    assert_eq!(results.len(), 1);
    let rules = one["tool"]["driver"]["rules"].as_array().unwrap();
    for result in results {
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        assert!(["error", "warning", "note", "none"].contains(&result["level"].as_str().unwrap()));
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(result["ruleId"], rules[index]["id"]);
    }
    let physical = &results[0]["locations"][0]["physicalLocation"];
    let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
    assert!(uri.starts_with("file:///") && uri.ends_with("/my%20groups.json"), "{uri}");
    // The rule is the object that `"name": "ssh"` is in, which begins on the line before.
    let text = std::fs::read_to_string(&file).unwrap();
    let name_line = text.lines().position(|line| line.contains("\"name\": \"ssh\"")).unwrap() as u64 + 1;
    assert_eq!(physical["region"]["startLine"], name_line - 1);
    assert_eq!(results[0]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], nsg_id("web"));
    assert_eq!(one["invocations"][0]["executionSuccessful"], false);
    assert_eq!(one["invocations"][0]["toolExecutionNotifications"].as_array().unwrap().len(), 1);
    // Standard input has no address.
    let run = ajar(&["exposure", "--format", "sarif", "-"], web.to_string());
    assert_eq!(run.code, 1);
    assert_eq!(run.json()["runs"][0]["results"][0]["locations"][0].get("physicalLocation"), None);
    assert_eq!(run.json()["runs"][0]["invocations"][0]["executionSuccessful"], true);
}

#[test]
fn live_groups_are_judged_as_the_path_evaluator_judges_them() {
    let live: Vec<Value> = include_str!("../../network/tests/data/live_nsgs.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["nsg"].clone())
        .collect();
    let text: String = live.iter().map(|nsg| format!("{nsg}\n")).collect();
    let run = exposure(&text);
    assert_eq!((run.code, run.err.as_str()), (1, ""));
    let json = run.json();
    let judged = json["nsgs"].as_array().unwrap();
    assert_eq!(judged.len(), 53);
    let point = ResourceId::parse(&nsg_id("any")).unwrap();
    let mut exposures = 0;
    for (given, judged) in live.iter().zip(judged) {
        assert_eq!(given["id"], judged["id"]);
        let nsg = NetworkSecurityGroup::from_json(given.clone()).unwrap();
        let rules = InboundRules::of(&nsg);
        for port in [22, 3389, 5985, 5986] {
            let reaches = ["10.0.0.4", "fd00::4"].map(|address| {
                let flow = Flow {
                    destination: Destination {
                        address: address.parse().unwrap(),
                        groups: Some(std::collections::BTreeSet::new()),
                    },
                    protocol: Protocol::Tcp,
                    port,
                };
                let levels = [Level::Filtered { nsg: point.clone(), rules: rules.clone() }];
                path_reach(&levels, &flow).certain_by_custom_rule
            });
            let expected = reaches[0].union(&reaches[1]);
            let found = judged["exposures"].as_array().unwrap().iter().find(|e| e["port"] == port);
            let everywhere = nsg.rules().iter().all(|r| r.destination().any);
            match found {
                Some(found) if everywhere => {
                    exposures += 1;
                    let sources = json!({ "addresses": found["sources"], "tags": found["serviceTags"],
                        "conditional": found.get("conditional").cloned().unwrap_or_else(|| json!([])) });
                    let sources: SourceSet = serde_json::from_value(sources).unwrap();
                    assert_eq!(sources, expected, "{} {port}", judged["id"]);
                }
                // Some destination may be open where these two are not.
                Some(_) => {}
                None => assert!(expected.is_empty(), "{} {port}", judged["id"]),
            }
        }
    }
    assert!(exposures > 10, "{exposures}");
}

fn groups_in(value: &Value, groups: &mut Vec<Value>) {
    match value {
        Value::Object(map) => {
            if value["properties"]["securityRules"].is_array() {
                groups.push(value.clone());
            }
            map.values().for_each(|v| groups_in(v, groups));
        }
        Value::Array(list) => list.iter().for_each(|v| groups_in(v, groups)),
        _ => {}
    }
}

#[test]
fn published_examples_are_all_read() {
    let mut groups = Vec::new();
    for line in include_str!("../../network/tests/data/restspec_examples.jsonl").lines() {
        groups_in(&serde_json::from_str(line).unwrap(), &mut groups);
    }
    assert!(groups.len() > 10);
    let run = exposure(Value::Array(groups.clone()).to_string());
    assert_eq!(run.err, "");
    assert_eq!(run.json()["nsgs"].as_array().unwrap().len(), groups.len());
}

#[test]
fn scanner_cases_get_a_verdict_each() {
    // The other scanner wraps every value in a list; unwrapped they are rules as ARM has them.
    fn unwrapped(value: &Value) -> Value {
        match value {
            Value::Array(list) if list.len() == 1 => unwrapped(&list[0]),
            other => other.clone(),
        }
    }
    let mut input = String::new();
    let mut count = 0;
    for line in include_str!("../../network/tests/data/checkov_cases.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let rules: Vec<Value> = case["rules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| {
                let properties = rule["properties"].as_object().unwrap();
                let properties: serde_json::Map<String, Value> =
                    properties.iter().map(|(k, v)| (k.clone(), unwrapped(v))).collect();
                json!({ "name": unwrapped(&rule["name"]), "properties": properties })
            })
            .collect();
        count += 1;
        input.push_str(&json!({ "name": case["id"], "properties": { "securityRules": rules } }).to_string());
        input.push('\n');
    }
    let run = exposure(&input);
    assert_eq!(run.json()["nsgs"].as_array().unwrap().len(), count);
    // Many of its rules leave out what Azure requires or name variables: each is told, none is taken for closed.
    assert_eq!(run.code, 2);
    for line in run.err.lines() {
        assert!(line.starts_with("<stdin>:") && line.contains("rule "), "{line}");
    }
}

#[test]
fn published_prefixes_take_the_place_of_service_tags() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tags.json");
    let tags = json!({ "values": [{ "name": "AzureCloud", "properties": {
        "addressPrefixes": ["20.0.0.0/11", "2603:1000::/24"] } }] });
    std::fs::write(&file, tags.to_string()).unwrap();
    let rules =
        [rule("no", 100, "Deny", "20.16.0.0/12", "22"), rule("azure", 110, "Allow", "AzureCloud", "22")];
    for format in ["json", "sarif"] {
        let arguments = ["exposure", "--format", format, "--service-tags", file.to_str().unwrap(), "-"];
        let run = ajar(&arguments, nsg("web", &rules).to_string());
        assert_eq!((run.code, run.err.as_str()), (1, ""));
        let json = run.json();
        let exposure = match format {
            "json" => &json["nsgs"][0]["exposures"][0],
            _ => &json["runs"][0]["results"][0]["properties"]["sources"],
        };
        // The upper half of 20.0.0.0/11 is denied first.
        assert_eq!(exposure["sources"], json!(["20.0.0.0/12", "2603:1000::/24"]), "{format}");
        assert_eq!(exposure["serviceTags"], json!([]), "{format}");
    }
    std::fs::write(&file, "{\n\"values\": 1}").unwrap();
    let arguments = ["exposure", "--service-tags", file.to_str().unwrap(), "-"];
    let run = ajar(&arguments, nsg("web", &rules).to_string());
    assert_eq!((run.code, run.out.as_str()), (2, ""));
    assert!(run.err.contains("tags.json:2:11: "), "{}", run.err);
}
