//! `ajar close-expired` and `ajar drain`: which rules of a deployment are to go, as a list or as commands of the Azure
//! CLI, which run with the operator's own credential. They work with the application stopped and its tables lost:
//! all they know is in the rules' names and descriptions.

use std::io::{BufWriter, Write};

use ajar_network::nsg::{Access, NetworkSecurityGroup, SecurityRule};
use ajar_network::plan::{DeploymentName, described_end, expired_rules};
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use serde_json::Value;

use crate::arguments::{CloseExpired, Drain, Removal, RemovalFormat};
use crate::elements::{Element, Piece, split};
use crate::input::Input;
use crate::outcome::{Failure, Outcome, read_all};
use crate::problems::Problems;
use crate::resources::network_security_groups;
use crate::shown::printable;

/// Which rules are to go.
#[derive(Debug, Clone, Copy)]
enum Which {
    /// Allow rules whose described end is past.
    Expired(Timestamp),
    /// Every allow rule.
    Allows,
    /// Every rule.
    All,
}

/// Every allow rule whose described end is past.
pub(crate) fn close_expired(arguments: &CloseExpired) -> Result<Outcome, Failure> {
    let now = arguments.now.unwrap_or_else(Timestamp::now);
    run(&arguments.removal, Which::Expired(now))
}

/// Every allow rule of the deployment, and its deny rules when told to.
pub(crate) fn drain(arguments: &Drain) -> Result<Outcome, Failure> {
    run(&arguments.removal, if arguments.remove_deny { Which::All } else { Which::Allows })
}

fn run(arguments: &Removal, which: Which) -> Result<Outcome, Failure> {
    let mut input = Input::open(&arguments.file)?;
    let problems = Problems::of(&input.name, input.has_progress());
    let mut search = Search { deployment: arguments.deployment.clone(), which, problems, rules: Vec::new() };
    let name = input.name.clone();
    read_all(split(&mut input, &mut |piece| search.piece(piece)), &name)?;
    search.problems.finish();
    // What lets somebody in goes before what keeps others out.
    search.rules.sort_by_key(|rule| rule.is_deny);
    let mut out = BufWriter::new(std::io::stdout().lock());
    for rule in &search.rules {
        match arguments.format {
            RemovalFormat::Table => {
                let what = if rule.is_deny { "shuts" } else { "opens" };
                let end = rule.end.map_or_else(|| "no end".to_owned(), |end| format!("until {end}"));
                let told = format!("{}/{}  {what}, {end}: {}", rule.nsg, rule.name, rule.description);
                writeln!(out, "{}", printable(&told))?;
            }
            // Both parts hold nothing that a shell would take for more than text.
            RemovalFormat::Commands => {
                writeln!(out, "az network nsg rule delete --ids '{}/securityRules/{}'", rule.nsg, rule.name)?;
            }
        }
    }
    out.flush()?;
    Ok(match () {
        () if search.problems.any() => Outcome::BadInput,
        () if search.rules.is_empty() => Outcome::Clean,
        () => Outcome::Exposed,
    })
}

/// A rule that is to go.
struct Doomed {
    nsg: ResourceId,
    name: String,
    is_deny: bool,
    end: Option<Timestamp>,
    description: String,
}

struct Search {
    deployment: DeploymentName,
    which: Which,
    problems: Problems,
    rules: Vec<Doomed>,
}

impl Search {
    fn piece(&mut self, piece: Piece<'_>) -> Result<(), Failure> {
        match piece {
            Piece::Broken { place, problem } => self.problems.add_at(place, problem),
            Piece::Element(element) => self.element(&element),
        }
        if self.problems.too_many() { Err(Failure::TooManyProblems) } else { Ok(()) }
    }

    fn element(&mut self, element: &Element<'_>) {
        let value = match serde_json::from_slice::<Value>(element.bytes) {
            Ok(value) => value,
            Err(error) => {
                self.problems.add_unread(element, &error);
                return;
            }
        };
        let found = network_security_groups(value);
        for (path, explanation) in found.strange {
            self.problems.add_at(element.place_of(&path), explanation);
        }
        for group in found.nsgs {
            if let Err(explanation) = self.group(group.json) {
                self.problems.add_at(element.place_of(&group.path), explanation);
            }
        }
    }

    fn group(&mut self, json: Value) -> Result<(), String> {
        let nsg = NetworkSecurityGroup::from_json(json).map_err(|error| error.to_string())?;
        let mut doomed: Vec<&SecurityRule> = match self.which {
            Which::Expired(now) => {
                let expired = expired_rules(&nsg, &self.deployment, now);
                nsg.rules().iter().filter(|rule| expired.iter().any(|name| name == rule.name())).collect()
            }
            Which::Allows | Which::All => {
                nsg.rules().iter().filter(|rule| self.deployment.manages(rule.name())).collect()
            }
        };
        if matches!(self.which, Which::Allows) {
            doomed.retain(|rule| rule.access() != Some(Access::Deny));
        }
        if doomed.is_empty() {
            return Ok(());
        }
        let id = nsg.id().ok_or("the network security group has no id, so its rules cannot be named")?;
        for rule in doomed {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
            if !rule.name().bytes().all(is_plain) || id.as_str().contains('\'') {
                return Err(format!("rule {:?} has a name that no rule in Azure has", rule.name()));
            }
            self.rules.push(Doomed {
                nsg: id.clone(),
                name: rule.name().to_owned(),
                is_deny: rule.access() == Some(Access::Deny),
                end: described_end(rule.description()),
                description: rule.description().to_owned(),
            });
        }
        Ok(())
    }
}
