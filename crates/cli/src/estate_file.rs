//! An estate from a file: its resources, and where each was.

use std::collections::HashMap;

use ajar_network::estate::Estate;
use ajar_network::resource_id::ResourceId;
use serde_json::Value;

use crate::elements::{Element, Piece, split};
use crate::input::Input;
use crate::outcome::{Failure, read_all};
use crate::place::{Place, message_of};
use crate::problems::{Problem, Problems};

/// Kinds of virtual machines that are no resource of their own in the estate, but get a verdict.
const OTHER_MACHINES: [&str; 2] =
    ["Microsoft.ClassicCompute/virtualMachines", "Microsoft.Compute/virtualMachineScaleSets/virtualMachines"];

/// What was read.
pub(crate) struct EstateFile {
    pub(crate) estate: Estate,
    /// Classic machines and instances of scale sets.
    pub(crate) other_machines: Vec<ResourceId>,
    pub(crate) problems: Problems,
}

impl EstateFile {
    pub(crate) fn read(mut input: Input) -> Result<Self, Failure> {
        let name = input.name.clone();
        let mut reading = Reading {
            resources: Vec::new(),
            places: HashMap::new(),
            other_machines: Vec::new(),
            problems: Problems::of(&name, input.has_progress()),
        };
        let split = split(&mut input, &mut |piece| {
            reading.piece(piece);
            if reading.problems.too_many() { Err(Failure::TooManyProblems) } else { Ok(()) }
        });
        read_all(split, &name)?;
        let Reading { resources, places, other_machines, mut problems } = reading;
        let estate = Estate::from_resources(resources);
        for problem in estate.problems() {
            problems.add(Problem {
                place: places.get(&problem.subject.to_ascii_lowercase()).copied(),
                subject: problem.subject.clone(),
                explanation: problem.explanation.clone(),
            });
        }
        Ok(Self { estate, other_machines, problems })
    }
}

struct Reading {
    resources: Vec<Value>,
    /// By id in lower case.
    places: HashMap<String, Place>,
    other_machines: Vec<ResourceId>,
    problems: Problems,
}

impl Reading {
    fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Broken { place, problem } => self.problems.add_at(place, problem),
            Piece::Element(element) => self.element(&element),
        }
    }

    fn element(&mut self, element: &Element<'_>) {
        let resource: Value = match serde_json::from_slice(element.bytes) {
            Ok(resource) => resource,
            Err(error) => return self.problems.add_at(element.place_of_error(&error), message_of(&error)),
        };
        let Some(id) = crate::resources::get(&resource, "id").and_then(Value::as_str) else {
            return self.problems.add_at(
                element.place,
                "this is no resource: it has no id. An estate is what `az graph query` or ARM returns"
                    .to_owned(),
            );
        };
        self.places.insert(id.to_ascii_lowercase(), element.place);
        if let Ok(id) = ResourceId::parse(id)
            && OTHER_MACHINES.iter().any(|t| id.is_type(t))
        {
            self.other_machines.push(id);
        }
        self.resources.push(resource);
    }
}
