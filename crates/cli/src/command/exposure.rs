//! `ajar exposure`: which sources reach which ports through which rules.

use std::io::BufWriter;

use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::ports::{Port, Protocol};
use serde_json::Value;

use crate::arguments::{Exposure, ExposureFormat};
use crate::elements::{Element, Piece, split};
use crate::exposed::exposed;
use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::place::{Step, message_of};
use crate::problems::{Problem, Problems};
use crate::report::json::Json;
use crate::report::sarif::Sarif;
use crate::report::table::Table;
use crate::report::{Judged, Report};
use crate::resources::{NsgJson, get, network_security_groups};
use crate::shown::Paint;
use crate::unread::{rule_path, unread};

pub(crate) fn run(arguments: &Exposure) -> Result<Outcome, Failure> {
    let flows = arguments.flows().map_err(Failure::Asked)?;
    let mut input = Input::open(&arguments.file)?;
    let out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    let report: Box<dyn Report> = match arguments.format {
        ExposureFormat::Table => Box::new(Table::new(out, Paint::for_stdout())),
        ExposureFormat::Json => Box::new(Json::new(out)),
        ExposureFormat::Sarif => Box::new(Sarif::new(out, &arguments.file)),
    };
    let problems = Problems::of(&input.name, input.has_progress());
    let mut run = Run { flows, report, problems, exposed: false };
    run.report.begin()?;
    let name = input.name.clone();
    split(&mut input, &mut |piece| run.piece(piece)).map_err(|stopped| stopped.of(&name))?;
    run.report.finish(&run.problems)?;
    run.problems.finish();
    Ok(match () {
        () if run.problems.any() => Outcome::BadInput,
        () if run.exposed => Outcome::Exposed,
        () => Outcome::Clean,
    })
}

struct Run {
    flows: Vec<(Port, Protocol)>,
    report: Box<dyn Report>,
    problems: Problems,
    exposed: bool,
}

impl Run {
    fn piece(&mut self, piece: Piece<'_>) -> Result<(), Failure> {
        match piece {
            Piece::Broken { place, problem } => {
                self.problems.add(Problem {
                    place: Some(place),
                    subject: String::new(),
                    explanation: problem,
                });
                Ok(())
            }
            Piece::Element(element) => self.element(&element),
        }
    }

    fn element(&mut self, element: &Element<'_>) -> Result<(), Failure> {
        let value = match serde_json::from_slice::<Value>(element.bytes) {
            Ok(value) => value,
            Err(error) => {
                self.problems.add(Problem {
                    place: Some(element.place_of_error(&error)),
                    subject: format!("the element at {}", element.place),
                    explanation: message_of(&error),
                });
                return Ok(());
            }
        };
        let found = network_security_groups(value);
        for (path, problem) in found.strange {
            self.problems.add(Problem {
                place: Some(element.place_of(&path)),
                subject: String::new(),
                explanation: problem,
            });
        }
        for nsg in found.nsgs {
            self.group(element, &nsg)?;
        }
        Ok(())
    }

    fn group(&mut self, element: &Element<'_>, found: &NsgJson) -> Result<(), Failure> {
        let text = |key: &str| get(&found.json, key).and_then(Value::as_str).map(str::to_owned);
        let id = text("id");
        let last = id.as_deref().and_then(|id| id.rsplit('/').next()).unwrap_or_default();
        let name = text("name").unwrap_or_else(|| last.to_owned());
        let title = if name.is_empty() { "the network security group".to_owned() } else { name.clone() };
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
        for unread in unread(found, &nsg, &self.flows) {
            self.problems.add(Problem {
                place: Some(element.place_of(&unread.path)),
                subject: format!("{title}, rule {}, {}", unread.rule, unread.property),
                explanation: unread.explanation,
            });
        }
        let exposures = exposed(&nsg, &self.flows);
        self.exposed |= !exposures.is_empty();
        let rule_place = |rule: Option<&String>| {
            let index = rule.and_then(|name| nsg.rules().iter().position(|r| r.name() == name));
            index.map_or(place, |index| element.place_of(&rule_path(found, &nsg, index)))
        };
        let rule_places = exposures.iter().map(|e| rule_place(e.rules.first())).collect();
        self.report.nsg(&Judged { id, name, exposures, rule_places })?;
        Ok(())
    }
}
