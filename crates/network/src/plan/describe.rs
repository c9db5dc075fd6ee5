//! Names and descriptions of managed rules.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::desired::DeploymentName;
use crate::nsg::{Access, NetworkSecurityGroup};
use crate::ports::{PortRange, PortSet};

/// The most characters of a rule's description [network-facts: SecurityRuleDescriptionTooLong above 140].
pub const MAX_DESCRIPTION: usize = 140;

/// What every managed deny rule says.
pub(super) const CLOSED: &str = "Ajar: closed; opens by approved request only";

const UNTIL: &str = " until ";

/// The service of a rule's name: `ssh`, `rdp`, `winrm`, a port or range, `all` or `ports`.
fn service(ports: &PortSet) -> String {
    if ports.is_all() {
        return "all".to_owned();
    }
    let ranges: Vec<PortRange> = ports.ranges().collect();
    match ranges.as_slice() {
        [one] => match (one.first(), one.last()) {
            (22, 22) => "ssh".to_owned(),
            (3389, 3389) => "rdp".to_owned(),
            (5985 | 5986, 5985 | 5986) => "winrm".to_owned(),
            _ => one.to_string(),
        },
        _ => "ports".to_owned(),
    }
}

/// The service for people: `SSH`, `RDP`, `WinRM`, `port 8080`, `ports 22,3389`.
fn service_text(ports: &PortSet) -> String {
    match service(ports).as_str() {
        "ssh" => "SSH".to_owned(),
        "rdp" => "RDP".to_owned(),
        "winrm" => "WinRM".to_owned(),
        "all" => "all ports".to_owned(),
        _ if ports.ranges().count() == 1 && ports.ranges().all(|r| r.first() == r.last()) => {
            format!("port {ports}")
        }
        _ => format!("ports {ports}"),
    }
}

/// `ajar-<deployment>-<kind>-<service>-<hash>`: at most 5 + 12 + 1 + 5 + 1 + 11 + 1 + 12 = 48 characters. The hash
/// is over what the rule is about, never over who is let in, so that the name stays while grants come and go.
pub(super) fn rule_name(deployment: &DeploymentName, kind: &str, ports: &PortSet, identity: &str) -> String {
    let digest = Sha256::digest(identity.as_bytes());
    let hash: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{}{kind}-{}-{hash}", deployment.rule_prefix(), service(ports))
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// `web-1`, or `web-1 and 2 more`.
fn first_of(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => clean(one),
        [first, rest @ ..] => format!("{} and {} more", clean(first), rest.len()),
    }
}

/// Cuts the head so that the tail always fits.
fn fit(head: &str, tail: &str) -> String {
    let room = MAX_DESCRIPTION.saturating_sub(tail.chars().count());
    if head.chars().count() <= room {
        return format!("{head}{tail}");
    }
    let cut: String = head.chars().take(room.saturating_sub(1)).collect();
    format!("{cut}…{tail}")
}

/// `Ajar: SSH to web-1 for alice@contoso.com until 2026-11-24T12:00:00Z`. A fraction of a second in the end is
/// dropped: the description may close a little early, never late.
pub(super) fn grant(ports: &PortSet, vms: &[String], requesters: &[String], end: Timestamp) -> String {
    let head = format!("Ajar: {} to {} for {}", service_text(ports), first_of(vms), first_of(requesters));
    fit(&head, &format!("{UNTIL}{}", end.strftime("%Y-%m-%dT%H:%M:%SZ")))
}

/// `Ajar: SSH to web-1: standing exception, no end`.
pub(super) fn exception(ports: &PortSet, vms: &[String]) -> String {
    fit(&format!("Ajar: {} to {}", service_text(ports), first_of(vms)), ": standing exception, no end")
}

/// The end that the description of a managed allow rule carries; none when it carries none.
#[must_use]
pub fn described_end(description: &str) -> Option<Timestamp> {
    let (_, end) = description.rsplit_once(UNTIL)?;
    end.trim().parse().ok()
}

/// The names of managed allow rules whose described end is past: what to close when the store is lost. An end that
/// is now is past.
#[must_use]
pub fn expired_rules(
    current: &NetworkSecurityGroup,
    deployment: &DeploymentName,
    now: Timestamp,
) -> Vec<String> {
    current
        .rules()
        .iter()
        .filter(|r| deployment.manages(r.name()) && r.access() != Some(Access::Deny))
        .filter(|r| described_end(r.description()).is_some_and(|end| end <= now))
        .map(|r| r.name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> PortSet {
        text.split(',')
            .map(|t| PortRange::parse(t).unwrap())
            .fold(PortSet::default(), |s, r| s.union(&r.into()))
    }

    #[test]
    fn a_description_reads_well_and_its_end_is_read_back() {
        let end: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let text = grant(&ports("22"), &["web-1".into()], &["alice@contoso.com".into()], end);
        assert_eq!(text, "Ajar: SSH to web-1 for alice@contoso.com until 2026-11-24T12:00:00Z");
        assert_eq!(described_end(&text), Some(end));
        assert_eq!(
            exception(&ports("3389"), &["a".into(), "b".into()]),
            "Ajar: RDP to a and 1 more: standing exception, no end"
        );
        assert_eq!(described_end(&exception(&ports("22"), &["web until 2020-01-01T00:00:00Z".into()])), None);
        assert_eq!(described_end(CLOSED), None);
    }

    #[test]
    fn names_are_cut_and_the_end_never_is() {
        let end: Timestamp = "2026-11-24T12:00:00.987Z".parse().unwrap();
        let long = "ü".repeat(300);
        let text = grant(
            &ports("22,3389,5985-5986"),
            std::slice::from_ref(&long),
            &[format!("{long} until 2030-01-01T00:00:00Z\n")],
            end,
        );
        assert_eq!(text.chars().count(), MAX_DESCRIPTION);
        assert_eq!(described_end(&text), Some("2026-11-24T12:00:00Z".parse().unwrap()));
        assert!(exception(&ports("22"), &[long]).ends_with(": standing exception, no end"));
    }

    #[test]
    fn names_fit_azure_and_tell_the_service() {
        let deployment = DeploymentName::parse("abcdefghijkl").unwrap();
        for (given, service) in [
            ("22", "ssh"),
            ("3389", "rdp"),
            ("5985-5986", "winrm"),
            ("5986", "winrm"),
            ("8080", "8080"),
            ("10000-20000", "10000-20000"),
            ("0-65535", "all"),
            ("22,80", "ports"),
        ] {
            let name = rule_name(&deployment, "allow", &ports(given), "x");
            assert!(name.starts_with(&format!("ajar-abcdefghijkl-allow-{service}-")), "{name}");
            assert!(name.len() <= 80);
        }
    }
}
