//! `ajar close-expired` and `ajar drain`: which rules of a deployment are to go, as a list or as commands of the Azure
//! CLI, which run with the operator's own credential. They work with the application stopped and its tables lost:
//! all they know is in the rules' names and descriptions, and in the copies of originals that they are given.

use std::io::{BufWriter, Write};
use std::path::Path;

use ajar_access::originals::OriginalsCopy;
use ajar_network::nsg::{Access, NetworkSecurityGroup, SecurityRule};
use ajar_network::plan::{self, DeploymentName, Move, Note, described_end, expired_rules};
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
    run(&arguments.removal, Which::Expired(now), Vec::new())
}

/// Every allow rule of the deployment, and when told to its deny rules, and then the rules that it moved.
pub(crate) fn drain(arguments: &Drain) -> Result<Outcome, Failure> {
    let originals = arguments.originals.iter().map(|file| read_originals(file)).collect::<Result<_, _>>()?;
    run(&arguments.removal, if arguments.remove_deny { Which::All } else { Which::Allows }, originals)
}

fn read_originals(file: &Path) -> Result<OriginalsCopy, Failure> {
    let text =
        std::fs::read_to_string(file).map_err(|error| Failure::Input { file: file.to_owned(), error })?;
    OriginalsCopy::parse(&text).map_err(|problem| Failure::Asked(format!("{}: {problem}", file.display())))
}

fn run(arguments: &Removal, which: Which, originals: Vec<OriginalsCopy>) -> Result<Outcome, Failure> {
    let mut input = Input::open(&arguments.file)?;
    let problems = Problems::of(&input.name, input.has_progress());
    let deployment = arguments.deployment.clone();
    let mut search =
        Search { deployment, which, originals, problems, rules: Vec::new(), put_back: Vec::new() };
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
    for step in &search.put_back {
        match arguments.format {
            RemovalFormat::Table => writeln!(out, "{}", printable(&step.told()))?,
            RemovalFormat::Commands => writeln!(out, "{}", step.command())?,
        }
    }
    out.flush()?;
    Ok(match () {
        () if search.problems.any() => Outcome::BadInput,
        () if search.rules.is_empty() && search.put_back.is_empty() => Outcome::Clean,
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

/// What of an NSG goes back to what it was.
enum PutBack {
    Rule { nsg: ResourceId, moved: Move },
    FlushConnection { nsg: ResourceId, was: bool },
    Stays { nsg: ResourceId, rule: String, priority: u16 },
}

impl PutBack {
    fn told(&self) -> String {
        match self {
            PutBack::Rule { nsg, moved: Move { rule, from, to } } => {
                format!("{nsg}/{rule}  goes back from priority {from} to {to}")
            }
            PutBack::FlushConnection { nsg, was } => format!("{nsg}  flushConnection is {was} again"),
            PutBack::Stays { nsg, rule, priority } => format!(
                "{nsg}/{rule}  stays: at its original priority, {priority}, it would pass a rule that it followed"
            ),
        }
    }

    /// Holds nothing that a shell would take for more than text.
    fn command(&self) -> String {
        match self {
            PutBack::Rule { nsg, moved: Move { rule, to, .. } } => {
                format!("az network nsg rule update --ids '{nsg}/securityRules/{rule}' --priority {to}")
            }
            PutBack::FlushConnection { nsg, was } => {
                format!("az resource update --ids '{nsg}' --set properties.flushConnection={was}")
            }
            PutBack::Stays { .. } => format!("# {}", self.told()),
        }
    }
}

struct Search {
    deployment: DeploymentName,
    which: Which,
    originals: Vec<OriginalsCopy>,
    problems: Problems,
    rules: Vec<Doomed>,
    put_back: Vec<PutBack>,
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
        let originals = nsg.id().and_then(|id| self.originals.iter().find(|copy| copy.point == *id));
        if doomed.is_empty() && originals.is_none() {
            return Ok(());
        }
        let id = nsg.id().ok_or("the network security group has no id, so its rules cannot be named")?;
        if id.as_str().contains('\'') {
            return Err(format!("{id} is an id that no network security group in Azure has"));
        }
        let put_back = match originals {
            Some(originals) => put_back(&nsg, id, &self.deployment, originals)?,
            None => Vec::new(),
        };
        for rule in &doomed {
            check_name(rule.name())?;
        }
        self.rules.extend(doomed.into_iter().map(|rule| Doomed {
            nsg: id.clone(),
            name: rule.name().to_owned(),
            is_deny: rule.access() == Some(Access::Deny),
            end: described_end(rule.description()),
            description: rule.description().to_owned(),
        }));
        self.put_back.extend(put_back);
        Ok(())
    }
}

/// What goes back once the deployment's rules are gone.
fn put_back(
    nsg: &NetworkSecurityGroup,
    id: &ResourceId,
    deployment: &DeploymentName,
    originals: &OriginalsCopy,
) -> Result<Vec<PutBack>, String> {
    let plan::PutBack { moves, notes } =
        plan::put_back(nsg, deployment, &originals.rules).map_err(|error| error.to_string())?;
    for moved in &moves {
        check_name(&moved.rule)?;
    }
    let stays = notes.into_iter().filter_map(|note| match note {
        Note::NotRestored { rule, priority } => Some(PutBack::Stays { nsg: id.clone(), rule, priority }),
        _ => None,
    });
    let flush = originals
        .flush_connection
        .filter(|was| nsg.flush_connection().unwrap_or(false) != *was)
        .map(|was| PutBack::FlushConnection { nsg: id.clone(), was });
    let moves = moves.into_iter().map(|moved| PutBack::Rule { nsg: id.clone(), moved });
    Ok(moves.chain(flush).chain(stays).collect())
}

/// The name goes to a shell.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if name.bytes().all(is_plain) {
        Ok(())
    } else {
        Err(format!("rule {name:?} has a name that no rule in Azure has"))
    }
}
