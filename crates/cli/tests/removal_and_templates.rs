//! `ajar close-expired`, `ajar drain` and `ajar template check`.
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
use support::{ajar, nsg, nsg_id, rule};

fn described(name: &str, priority: u16, access: &str, description: &str) -> Value {
    let mut rule = rule(name, priority, access, "203.0.113.7", "22");
    rule["properties"]["description"] = json!(description);
    rule
}

fn estate() -> String {
    let web = nsg(
        "web",
        &[
            described("ajar-prod-deny", 130, "Deny", "Ajar: shut"),
            described("ajar-prod-a", 100, "Allow", "Ajar: SSH to web-1 for bob until 2026-11-24T12:00:00Z"),
            described("ajar-prod-b", 101, "Allow", "Ajar: SSH to web-1 for bob until 2026-11-24T12:00:01Z"),
            described("ajar-test-a", 102, "Allow", "Ajar: SSH to web-1 for bob until 2020-01-01T00:00:00Z"),
            described("ssh", 200, "Allow", "until 2020-01-01T00:00:00Z"),
        ],
    );
    json!([web]).to_string()
}

fn command(rule: &str) -> String {
    format!("az network nsg rule delete --ids '{}/securityRules/{rule}'\n", nsg_id("web"))
}

#[test]
fn only_this_deployments_allow_rules_past_their_end_are_closed() {
    let arguments = ["close-expired", "--deployment", "prod", "--now", "2026-11-24T12:00:00Z"];
    let commands = ajar(&[&arguments[..], &["--format", "commands", "-"]].concat(), estate());
    assert_eq!((commands.code, commands.out), (1, command("ajar-prod-a")), "{}", commands.err);
    let shown = ajar(&[&arguments[..], &["-"]].concat(), estate());
    assert!(shown.out.contains("ajar-prod-a") && !shown.out.contains("az "), "{}", shown.out);
    let earlier = ["close-expired", "--deployment", "prod", "--now", "2026-11-24T11:59:59Z", "-"];
    assert_eq!(ajar(&earlier, estate()).code, 0);
}

#[test]
fn draining_takes_deny_rules_only_when_told_and_last() {
    let drain = ["drain", "--deployment", "prod", "--format", "commands"];
    let allows = format!("{}{}", command("ajar-prod-a"), command("ajar-prod-b"));
    assert_eq!(ajar(&[&drain[..], &["-"]].concat(), estate()).out, allows);
    let all = ajar(&[&drain[..], &["--remove-deny", "-"]].concat(), estate());
    assert_eq!(all.out, format!("{allows}{}", command("ajar-prod-deny")));
}

/// Ajar had moved `ssh` and `rdp` behind its deny; the owner has put `late` between since, so `rdp` cannot pass it.
#[test]
fn what_was_moved_goes_back_after_the_deny_rules_as_far_as_the_order_of_others_stays() {
    let mut web = nsg(
        "web",
        &[
            described("ajar-prod-deny", 130, "Deny", "Ajar: shut"),
            rule("ssh", 4000, "Allow", "*", "22"),
            rule("late", 4001, "Deny", "*", "443"),
            rule("rdp", 4002, "Allow", "*", "3389"),
        ],
    );
    web["properties"]["flushConnection"] = json!(true);
    let folder = tempfile::tempdir().unwrap();
    let original = |name: &str, priority: u16| json!({ "name": name, "priority": priority, "rule": {} });
    let file = folder.path().join("copy.json");
    let write = |copy: Value| std::fs::write(&file, copy.to_string()).unwrap();
    write(json!({ "v": 1, "point": nsg_id("web"), "flushConnection": false,
        "rules": [original("SSH", 130), original("rdp", 140), original("gone", 150)] }));
    let copy = file.to_str().unwrap();
    let drain = ["drain", "--deployment", "prod", "--format", "commands", "--originals", copy];

    let run = ajar(&[&drain[..], &["--remove-deny", "-"]].concat(), json!([web]).to_string());
    let update =
        format!("az network nsg rule update --ids '{}/securityRules/ssh' --priority 130\n", nsg_id("web"));
    let flush =
        format!("az resource update --ids '{}' --set properties.flushConnection=false\n", nsg_id("web"));
    let expected = format!("{}{update}{flush}# {}/rdp  stays", command("ajar-prod-deny"), nsg_id("web"));
    assert!(run.code == 1 && run.out.starts_with(&expected), "{}{}", run.out, run.err);

    // Before the denies go, it would open what they shut.
    let run = ajar(&[&drain[..], &["-"]].concat(), json!([web]).to_string());
    assert!(
        run.code == 2 && run.out.is_empty() && run.err.contains("--remove-deny"),
        "{}{}",
        run.out,
        run.err
    );

    write(json!({ "v": 2, "point": nsg_id("web"), "rules": [] }));
    let run = ajar(&[&drain[..], &["--remove-deny", "-"]].concat(), json!([web]).to_string());
    assert!(run.code == 2 && run.err.contains("copy.json: ") && run.err.contains("version"), "{}", run.err);
}

/// The commands go to a shell.
#[test]
fn a_name_that_a_shell_would_obey_is_a_problem_and_no_command() {
    let bad = nsg("web", &[described("ajar-prod-$(id)'", 100, "Allow", "x until 2020-01-01T00:00:00Z")]);
    let run = ajar(&["close-expired", "--deployment", "prod", "--format", "commands", "-"], bad.to_string());
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
}

#[test]
fn templates_are_checked_as_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, template: Value| {
        let file = folder.path().join(name);
        std::fs::write(&file, template.to_string()).unwrap();
        file.display().to_string()
    };
    let template =
        |name: &str| json!({ "name": name, "mode": "protect", "policy": { "ports": [{ "port": 22 }] } });
    let (one, two) = (write("one.json", template("one")), write("two.json", template("two")));
    assert_eq!(ajar(&["template", "check", &one], "").code, 0);
    let tie = ajar(&["template", "check", &one, &two], "");
    assert!(tie.code == 2 && tie.out.contains("`one` and `two`"), "{}", tie.out);
    let bad = write("bad.json", json!({ "name": "bad" }));
    let run = ajar(&["template", "check", &bad], "");
    assert!(run.code == 2 && run.out.contains("bad.json: "), "{}", run.out);
}
