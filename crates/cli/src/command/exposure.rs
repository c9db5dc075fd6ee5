//! `ajar exposure`: which sources reach which ports through which rules.

use std::io::BufWriter;

use ajar_network::exposure::{NsgInput, exposures};
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::ports::{Port, Protocol};
use ajar_network::reachability::InboundRules;
use ajar_network::service_tags::ServiceTags;
use serde_json::Value;

use crate::arguments::{Exposure as Arguments, ExposureFormat};
use crate::elements::{Element, Piece, split};
use crate::input::Input;
use crate::outcome::{Failure, Outcome, read_all};
use crate::place::Step;
use crate::problems::{Problem, Problems};
use crate::report::json::Json;
use crate::report::sarif::Sarif;
use crate::report::table::Table;
use crate::report::{Judged, Report};
use crate::resources::{NsgJson, get, network_security_groups};
use crate::service_tags_file;
use crate::shown::Paint;
use crate::unread::{is_plain, rule_path, unread};

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let ports = arguments.ports().map_err(Failure::Asked)?;
    let protocol = arguments.protocol();
    let tags = service_tags_file::read(arguments.service_tags.as_deref())?;
    let mut input = Input::open(&arguments.file)?;
    let out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    let report: Box<dyn Report> = match arguments.format {
        ExposureFormat::Table => Box::new(Table::new(out, Paint::for_stdout())),
        ExposureFormat::Json => Box::new(Json::new(out)),
        ExposureFormat::Sarif => Box::new(Sarif::new(out, &arguments.file)),
    };
    let problems = Problems::of(&input.name, input.has_progress());
    let mut run = Run { ports, protocol, tags, report, problems, exposed: false };
    run.report.begin()?;
    let name = input.name.clone();
    read_all(split(&mut input, &mut |piece| run.piece(piece)), &name)?;
    run.report.finish(&run.problems)?;
    run.problems.finish();
    Ok(match () {
        () if run.problems.any() => Outcome::BadInput,
        () if run.exposed => Outcome::Exposed,
        () => Outcome::Clean,
    })
}

struct Run {
    ports: Vec<Port>,
    protocol: Protocol,
    tags: Option<ServiceTags>,
    report: Box<dyn Report>,
    problems: Problems,
    exposed: bool,
}

impl Run {
    fn piece(&mut self, piece: Piece<'_>) -> Result<(), Failure> {
        match piece {
            Piece::Broken { place, problem } => self.problems.add_at(place, problem),
            Piece::Element(element) => self.element(&element)?,
        }
        if self.problems.too_many() { Err(Failure::TooManyProblems) } else { Ok(()) }
    }

    fn element(&mut self, element: &Element<'_>) -> Result<(), Failure> {
        if let Some(input) = self.plain_group(element) {
            let exposures = exposures(&input, &self.ports, self.protocol);
            if exposures.is_empty() || !self.report.shows_places() {
                let id = input.id.as_deref();
                let name = input.name.as_deref().unwrap_or_else(|| last_of(id));
                return self.judged(&Judged { id, name, exposures, rule_places: Vec::new() });
            }
        }
        let value = match serde_json::from_slice::<Value>(element.bytes) {
            Ok(value) => value,
            Err(error) => {
                self.problems.add_unread(element, &error);
                return Ok(());
            }
        };
        let found = network_security_groups(value);
        for (path, problem) in found.strange {
            self.problems.add_at(element.place_of(&path), problem);
        }
        for nsg in found.nsgs {
            self.group(element, &nsg)?;
        }
        Ok(())
    }

    /// Reads an element that is a group, all of it readable, without building JSON values. None: it is something
    /// else, or what is wrong with it is to be told.
    fn plain_group(&self, element: &Element<'_>) -> Option<NsgInput> {
        let mut input = serde_json::from_slice::<NsgInput>(element.bytes).ok()?;
        if !input.id.as_deref().is_some_and(is_nsg_id) {
            return None;
        }
        if !input.rules.iter().all(|rule| is_plain(rule, &self.ports, self.protocol)) {
            return None;
        }
        if let Some(tags) = &self.tags {
            input.resolve(tags);
        }
        Some(input)
    }

    fn judged(&mut self, judged: &Judged<'_>) -> Result<(), Failure> {
        self.exposed |= !judged.exposures.is_empty();
        self.report.nsg(judged)?;
        Ok(())
    }

    fn group(&mut self, element: &Element<'_>, found: &NsgJson) -> Result<(), Failure> {
        let text = |key: &str| get(&found.json, key).and_then(Value::as_str);
        let id = text("id");
        let name = text("name").unwrap_or_else(|| last_of(id));
        let title = if name.is_empty() { "the network security group" } else { name }.to_owned();
        let place = element.place_of(&found.path);
        let nsg = match NetworkSecurityGroup::from_json(found.json.clone()) {
            Ok(nsg) => nsg,
            Err(error) => {
                let steps = [Step::key("properties"), Step::key("securityRules")];
                self.problems.add(Problem {
                    place: Some(element.place_of(&[found.path.as_slice(), &steps].concat())),
                    subject: title,
                    explanation: error.to_string(),
                });
                return Ok(());
            }
        };
        if found.only_rules {
            self.problems.add(Problem {
                place: Some(place),
                subject: title.clone(),
                explanation:
                    "only rules of this group are here, not the group: other rules of it may come first"
                        .to_owned(),
            });
        }
        for unread in unread(found, &nsg, &self.ports, self.protocol) {
            self.problems.add(Problem {
                place: Some(element.place_of(&unread.path)),
                subject: format!("{title}, rule {}, {}", unread.rule, unread.property),
                explanation: unread.explanation,
            });
        }
        let nsg = match &self.tags {
            Some(tags) => nsg.with_service_tags(tags),
            None => nsg,
        };
        let exposures = InboundRules::of(&nsg).exposures(&self.ports, self.protocol);
        let rule_place = |rule: Option<&&str>| {
            let index = rule.and_then(|name| nsg.rules().iter().position(|r| r.name() == *name));
            index.map_or(place, |index| element.place_of(&rule_path(found, &nsg, index)))
        };
        let rule_places = exposures.iter().map(|e| rule_place(e.rules.first())).collect();
        self.judged(&Judged { id, name, exposures, rule_places })
    }
}

fn last_of(id: Option<&str>) -> &str {
    id.and_then(|id| id.rsplit('/').next()).unwrap_or_default()
}

/// Whether an id is that of a group and of nothing below it.
fn is_nsg_id(id: &str) -> bool {
    id.rsplit('/').nth(1).is_some_and(|part| part.eq_ignore_ascii_case("networkSecurityGroups"))
}
