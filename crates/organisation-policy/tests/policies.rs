//! Policies as they ship, and what is wrong with others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_organisation_policy::{
    Answer, Asked, Authentication, Circumstances, Clock, Machine, Person, Policies, Problem, Question, Want,
};

const DEFAULT: &str = include_str!("../../../infra/policies/default.cedar");

fn person(id: &str, groups: &[&str]) -> Person {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Person { id: id.to_owned(), name: format!("{id}@contoso.example"), groups }
}

fn asked() -> Asked {
    let one = |text: &str| [text.to_owned()].into();
    Asked {
        ports: one("22"),
        lowest_port: 22,
        highest_port: 22,
        protocols: one("Tcp"),
        sources: one("203.0.113.7/32"),
        widest_source_bits: 0,
        duration_seconds: 3600,
        justification: None,
        ticket: None,
    }
}

fn question(want: Want) -> Question {
    Question {
        person: person("b0b", &["cafe"]),
        vm: Machine {
            id: "/subscriptions/S1/resourceGroups/Web/providers/Microsoft.Compute/virtualMachines/Web-1"
                .to_owned(),
            location: "westeurope".to_owned(),
            tags: [("environment".to_owned(), "test".to_owned())].into(),
        },
        by: Circumstances {
            authentication: Authentication::default(),
            clock: Clock { zone: "UTC".to_owned(), weekday: "Monday".to_owned(), minute_of_day: 600 },
            on_call: false,
            channel: "api".to_owned(),
        },
        want,
    }
}

fn requesting() -> Question {
    question(Want::Request { asked: asked() })
}

fn parse(text: &str) -> Result<Policies, Vec<Problem>> {
    Policies::parse([("mine.cedar", text)])
}

fn problem(text: &str) -> String {
    let problems = parse(text).unwrap_err();
    problems.first().unwrap().to_string()
}

#[test]
fn a_problem_names_file_line_and_rule() {
    for (text, place, rule) in [
        ("\npermit (principal,", "mine.cedar:", "unexpected end of input"),
        ("permit (principal, action == Ajar::Action::\"request\", resource);", "mine.cedar:", "needs @id"),
        ("\n\n@id(\"One\") permit (principal, action, resource);", "mine.cedar:3:", "lower-case"),
        (
            "@id(\"one\") permit (principal, action == Ajar::Action::\"requst\", resource);",
            "mine.cedar:1:",
            "requst",
        ),
        (
            "// first\n@id(\"one\")\npermit (principal, action == Ajar::Action::\"configure\", resource) when { context.asked.lowestPort == 22 };",
            "mine.cedar:2:",
            "asked",
        ),
        ("@id(\"one\") @nonsense(\"x\") permit (principal, action, resource);", "mine.cedar:1:", "@nonsense"),
        (
            "@id(\"one\") @approvals(\"2\") permit (principal, action == Ajar::Action::\"autoApprove\", resource);",
            "mine.cedar:1:",
            "@approvals is a number from 1 to 10 on a `forbid`",
        ),
        (
            "@id(\"one\") @approvals(\"11\") forbid (principal, action == Ajar::Action::\"autoApprove\", resource);",
            "mine.cedar:1:",
            "from 1 to 10",
        ),
        (
            "@id(\"one\") @selfApproval(\"allowed\") permit (principal, action == Ajar::Action::\"request\", resource);",
            "mine.cedar:1:",
            "@selfApproval",
        ),
        (
            "@id(\"never\") permit (principal, action == Ajar::Action::\"configure\", resource) when { false };",
            "mine.cedar:1:",
            "impossible",
        ),
        ("@id(\"no-self-approval\") permit (principal, action, resource);", "mine.cedar:1:", "take another"),
        ("@id(\"one\") permit (principal == ?principal, action, resource);", "mine.cedar:", "not used"),
    ] {
        let said = problem(text);
        assert!(said.starts_with(place) && said.contains(rule), "{text}\n{said}");
    }
    let twice = [("a.cedar", DEFAULT), ("b.cedar", DEFAULT)];
    let problems = Policies::parse(twice).unwrap_err();
    assert_eq!(problems.len(), parse(DEFAULT).unwrap().len());
    assert!(
        problems.iter().all(|p| p.file == "b.cedar" && p.line.is_some() && p.message.contains("a.cedar"))
    );
}

#[test]
fn what_cannot_be_evaluated_forbids() {
    // The sum overflows: Cedar leaves the policy out, and the other one would let everybody in.
    let text = "@id(\"all\") permit (principal, action, resource);\n\
                @id(\"broken\") forbid (principal, action == Ajar::Action::\"request\", resource) \
                when { context.asked.lowestPort + 9223372036854775807 == 0 };";
    let answer = parse(text).unwrap().decide(&requesting()).unwrap();
    assert_eq!((answer.is_allowed(), answer.by()), (false, vec!["broken"]));
}

#[test]
fn nothing_is_permitted_without_policies_nor_about_what_is_no_vm() {
    let none = parse("").unwrap();
    assert!(none.is_empty());
    let Answer::Denied(denial) = none.decide(&requesting()).unwrap() else { panic!("allowed") };
    assert_eq!(denial.to_string(), "no policy of the organisation permits `request` here");

    let mut strange = requesting();
    strange.vm.id = "/subscriptions/s/resourceGroups/g".to_owned();
    let error = parse(DEFAULT).unwrap().decide(&strange).unwrap_err();
    assert!(error.to_string().contains("is not the resource id of a VM"), "{error}");
}

#[test]
fn a_denial_names_what_would_be_permitted_only_where_its_scope_fits() {
    let text = "@id(\"for-cafe\") @advice(\"be on call\") permit (principal in Ajar::Group::\"cafe\", action == Ajar::Action::\"request\", resource) when { context.by.onCall };\n\
                @id(\"for-others\") permit (principal in Ajar::Group::\"beef\", action == Ajar::Action::\"request\", resource) when { context.by.onCall };\n\
                @id(\"elsewhere\") permit (principal, action == Ajar::Action::\"request\", resource in Ajar::Subscription::\"s2\");";
    let policies = parse(text).unwrap();
    let Answer::Denied(denial) = policies.decide(&requesting()).unwrap() else { panic!("allowed") };
    assert_eq!(
        denial.to_string(),
        "no policy of the organisation permits `request` as it is; one of these would: `for-cafe` (be on call)"
    );
    let mut on_call = requesting();
    on_call.by.on_call = true;
    assert_eq!(policies.decide(&on_call).unwrap().by(), ["for-cafe"]);
    let mut there = requesting();
    there.vm.id = there.vm.id.replace("S1", "S2");
    assert_eq!(policies.decide(&there).unwrap().by(), ["elsewhere"], "ids are compared in lower case");
}

#[test]
fn nobody_approves_their_own_request_unless_a_policy_says_so() {
    let approve = |requester: &str| {
        let requester = person(requester, &["cafe"]);
        question(Want::Approve { asked: asked(), requester, approvals: 0 })
    };
    let plain = "@id(\"one\") permit (principal, action == Ajar::Action::\"approve\", resource);";
    let policies = parse(plain).unwrap();
    assert!(policies.decide(&approve("alice")).unwrap().is_allowed());
    for own in ["b0b", "B0B"] {
        let Answer::Denied(denial) = policies.decide(&approve(own)).unwrap() else { panic!("allowed") };
        assert!(denial.to_string().contains("`no-self-approval` (somebody else approves it)"), "{denial}");
    }
    let allowing = plain.replace("permit", "@selfApproval(\"allowed\") permit");
    assert!(parse(&allowing).unwrap().decide(&approve("b0b")).unwrap().is_allowed());
}

#[test]
fn the_clock_is_the_one_on_the_wall() {
    let at = |zone: &str| {
        Clock::at("2026-11-24T23:30:00Z".parse().unwrap(), &jiff::tz::TimeZone::get(zone).unwrap())
    };
    assert_eq!(
        at("Asia/Tokyo"),
        Clock { zone: "Asia/Tokyo".to_owned(), weekday: "Wednesday".to_owned(), minute_of_day: 8 * 60 + 30 }
    );
    assert_eq!(at("UTC").minute_of_day, 23 * 60 + 30);
}
