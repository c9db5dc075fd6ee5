//! Input that is broken in every way: never a panic, never a hang, errors that point into it, and what is good is
//! judged all the same.
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
use std::process::{Command, Stdio};
use support::{Run, ajar, nsg, rule};

fn open(name: &str) -> Value {
    nsg(name, &[rule("ssh", 300, "Allow", "*", "22")])
}

fn exposure(input: impl AsRef<[u8]>) -> Run {
    let run = ajar(&["exposure", "--format", "json", "-"], input);
    assert!(!run.err.contains("panicked"), "{}", run.err);
    run
}

fn names(run: &Run) -> Vec<String> {
    let json = run.json();
    json["nsgs"].as_array().unwrap().iter().map(|nsg| nsg["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_property_that_cannot_be_read_is_pointed_to() {
    let cases = [
        ("destinationPortRange", json!("22x"), "`22x` is not a port, a range or *"),
        ("sourceAddressPrefix", json!("10.0.0.0/33"), "`10.0.0.0/33` is not an address"),
        ("sourceAddressPrefix", Value::Null, "is missing"),
        ("priority", json!("first"), "`first` is not a whole number from 100 to 4096"),
        ("priority", json!(-1), "-1 is not a whole number"),
        ("access", json!("Permit"), "`Permit` is not Allow or Deny"),
        ("direction", json!(true), "expected Inbound or Outbound, found a truth value"),
        ("protocol", json!("[parameters('p')]"), "is a template expression"),
    ];
    for (property, value, message) in cases {
        let mut bad = open("bad");
        bad["properties"]["securityRules"][0]["properties"][property] = value.clone();
        let text = format!("[\n{:#},\n{:#}]", bad, open("good"));
        let run = exposure(&text);
        assert_eq!(run.code, 2, "{property}");
        assert_eq!(names(&run), ["bad", "good"]);
        // The first in the text is that of the bad group.
        let key = format!("\"{property}\": ");
        let line = text.lines().position(|line| line.contains(&key)).unwrap();
        let column = text.lines().nth(line).unwrap().find(&key).unwrap() + key.len() + 1;
        let start = format!("<stdin>:{}:{column}: bad, rule ssh, {property}: ", line + 1);
        assert!(run.err.starts_with(&start), "{start} / {}", run.err);
        assert!(run.err.contains(message), "{message} / {}", run.err);
        assert_eq!(run.err.lines().count(), 1);
        // It may let somebody in, so it is not closed.
        let json = run.json();
        assert_eq!(json["nsgs"][0]["exposures"][0]["certain"], false, "{property}");
        assert_eq!(json["problems"][0]["line"], line + 1);
    }
}

#[test]
fn a_rule_about_other_ports_may_be_unreadable() {
    let mut nsg = nsg("web", &[rule("web", 100, "Allow", "*", "443")]);
    nsg["properties"]["securityRules"][0]["properties"]["sourceAddressPrefix"] = json!("10.0.0.0/33");
    let run = exposure(nsg.to_string());
    assert_eq!((run.code, run.err.as_str()), (0, ""));
}

#[test]
fn rules_that_are_no_list_are_pointed_to() {
    let run = exposure("[\n {\"name\": \"a\",\n  \"properties\": {\"securityRules\": {}}}]");
    assert_eq!(run.code, 2);
    assert!(run.err.starts_with("<stdin>:3:35: a: "), "{}", run.err);
}

#[test]
fn what_is_no_group_is_pointed_to() {
    for (input, start) in [
        ("[1, \"a\", null]", "<stdin>:1:2: expected a resource, found a number\n<stdin>:1:5: "),
        ("{\"a\": 1}", "<stdin>:1:1: this is no network security group"),
        ("hello", "<stdin>:1:1: expected a JSON object or list, found `hello`"),
        ("", "<stdin>:1:1: the input is empty"),
        (" \n ", "<stdin>:2:2: the input is empty"),
    ] {
        let run = exposure(input);
        assert_eq!(run.code, 2, "{input}");
        assert!(run.err.starts_with(start), "{input}: {}", run.err);
    }
}

#[test]
fn good_elements_beside_broken_ones_are_judged() {
    let (a, b) = (open("a"), open("b"));
    let broken = [
        ("a word", "nope"),
        ("a bad number", "{\"name\": 1.2.3}"),
        ("a missing colon", "{\"name\" 1}"),
        ("mixed brackets", "{\"name\": [1}}"),
        ("a deep list", &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("a deep object", &format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))),
        ("a bad escape", r#"{"name": "\x"}"#),
        ("a NUL", "{\"name\": \0}"),
    ];
    for (what, element) in broken {
        for (form, text) in [
            ("list", format!("[{a},\n{element},\n{b}]")),
            ("value", format!("{{\"value\":[{a},\n{element},\n{b}]}}")),
            ("lines", format!("{a}\n{element}\n{b}\n")),
        ] {
            let run = exposure(&text);
            assert_eq!(run.code, 2, "{what} {form}");
            assert_eq!(names(&run), ["a", "b"], "{what} {form}: {}", run.err);
            assert!(run.err.starts_with("<stdin>:2:"), "{what} {form}: {}", run.err);
        }
    }
}

#[test]
fn a_broken_line_of_json_lines_ends_with_its_line() {
    let (a, b) = (open("a"), open("b"));
    for broken in ["{\"id\": \"abc", "{\"id\": {\"x\": [1", "[{\"id\": 1}", "}", "]", "\"", "\u{1}"] {
        let run = exposure(format!("{a}\n{broken}\n{b}\n"));
        assert_eq!(run.code, 2, "{broken}");
        assert_eq!(names(&run), ["a", "b"], "{broken}: {}", run.err);
        assert!(
            run.err.starts_with("<stdin>:2:") || run.err.starts_with("<stdin>:3:1"),
            "{broken}: {}",
            run.err
        );
    }
}

#[test]
fn input_that_is_cut_off_anywhere_ends_with_an_error() {
    let pretty = format!("{:#}", json!({ "value": [open("a"), open("b")] }));
    // Where the last bracket is missing only white space is.
    for length in (1..pretty.trim_end().len()).step_by(7) {
        let run = exposure(&pretty[..length]);
        assert_eq!(run.code, 2, "{length}");
        assert!(run.err.starts_with("<stdin>:"), "{length}: {}", run.err);
    }
}

#[test]
fn commas_in_the_wrong_places_are_told() {
    let (a, b) = (open("a"), open("b"));
    for (text, place) in
        [(format!("[\n{a}\n{b}]"), "3:1"), (format!("[\n,{a},{b}]"), "2:1"), (format!("[{a},{b},\n]"), "2:1")]
    {
        let run = exposure(&text);
        assert_eq!(names(&run), ["a", "b"]);
        assert_eq!(run.code, 2);
        assert!(run.err.starts_with(&format!("<stdin>:{place}: ")), "{}", run.err);
    }
}

#[test]
fn bytes_that_are_no_text_are_told() {
    let a = open("a").to_string();
    let mut list = format!("[{a},\n{{\"name\": \"").into_bytes();
    list.extend(b"\xff\xfe\"},\n");
    list.extend(format!("{a}]").into_bytes());
    let run = exposure(list);
    assert_eq!((run.code, names(&run).len()), (2, 2));
    assert!(run.err.starts_with("<stdin>:2:"), "{}", run.err);

    let utf16: Vec<u8> = "\u{feff}[]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let run = exposure(utf16);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("UTF-16"), "{}", run.err);
}

#[test]
fn garbage_of_any_length_ends() {
    // Bounded, so that an unoptimised build passes quickly; nothing in the reading depends on the length.
    let long = 6 << 20;
    let garbage: [(&str, Vec<u8>); 7] = [
        ("brackets", vec![b'['; long]),
        ("braces", vec![b'{'; long]),
        ("one string", [b"[\"".to_vec(), vec![b'x'; 3 * long]].concat()),
        ("one word", vec![b'x'; long]),
        ("NUL bytes", vec![0; long]),
        ("lines", b"x\n".repeat(200_000)),
        ("backslashes", [b"[\"".to_vec(), vec![b'\\'; long]].concat()),
    ];
    for (what, bytes) in garbage {
        let run = exposure(bytes);
        assert_eq!(run.code, 2, "{what}");
        let lines = run.err.lines().count();
        assert!((1..=102).contains(&lines), "{what}: {lines}");
        // What cannot be Azure's is not read to its end, and that is told.
        assert_eq!(run.err.contains("the rest was not read"), what == "lines", "{what}");
    }
}

#[test]
fn an_element_that_is_too_long_is_passed_over() {
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(20 << 20));
    let run = exposure(format!("[{},\n{huge},\n{}]", open("a"), open("b")));
    assert_eq!((run.code, names(&run)), (2, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(run.err, "<stdin>:2:1: this element is longer than 16 MiB and not read\n");
    let run = exposure(&huge);
    assert_eq!((run.code, names(&run).len()), (2, 0));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let run = ajar(&["exposure", "no/such/file.json"], "");
    assert_eq!((run.code, run.out.as_str()), (2, ""));
    assert!(run.err.starts_with("ajar: no/such/file.json cannot be read: "), "{}", run.err);
    assert_eq!(ajar(&["exposure"], "").code, 2);
    assert_eq!(ajar(&["expose", "-"], "").code, 2);
}

#[test]
fn a_closed_pipe_ends_quietly_and_does_not_say_clean() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("many.json");
    let closed = nsg("n", &[]);
    // More than the pipe and the buffer before it hold.
    std::fs::write(&file, format!("{closed}\n").repeat(10_000)).unwrap();
    for format in ["json", "table", "sarif"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ajar"))
            .args(["exposure", "--format", format, file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{format}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{format}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_input() {
    use std::io::Write;

    let rules: Vec<Value> =
        (0..50).map(|i| rule(&format!("r{i}"), 100 + i, "Allow", "10.0.0.0/8", "22")).collect();
    let line = format!("{}\n", nsg("n", &rules));
    let mut child = Command::new(env!("CARGO_BIN_EXE_ajar"))
        .args(["exposure", "--format", "table", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // All but what a pipe holds has been read when the last of it is written.
    let mut write = |mib: usize| {
        for _ in 0..(mib << 20) / line.len() {
            stdin.write_all(line.as_bytes()).unwrap();
        }
        peak(child.id())
    };
    let (early, late) = (write(2), write(18));
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(late - early < 1 << 10, "{early} KiB at most after 2 MiB, {late} after 20");
}

/// The most memory a process had so far, in KiB. Much of it is the executable itself, whatever it reads.
#[cfg(target_os = "linux")]
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}
