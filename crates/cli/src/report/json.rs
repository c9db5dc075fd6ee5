//! For programs: `{"nsgs": [...]}`, a group a line.

use std::io::{self, Write};

use ajar_network::assessment::{Internet, Witness};
use ajar_network::ports::{Port, Protocol};
use serde::Serialize;

use super::{Judged, Report};
use crate::problems::{Problem, Problems};
use crate::shown::{Sources, internet_word};

pub(crate) struct Json<W> {
    out: W,
    any: bool,
}

impl<W: Write> Json<W> {
    pub(crate) const fn new(out: W) -> Self {
        Self { out, any: false }
    }
}

#[derive(Serialize)]
struct NsgJson<'a> {
    id: Option<&'a str>,
    name: &'a str,
    exposures: Vec<ExposureJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExposureJson<'a> {
    port: Port,
    protocol: Protocol,
    #[serde(flatten)]
    sources: Sources,
    internet: bool,
    internet_reach: &'static str,
    certain: bool,
    rules: &'a [&'a str],
    witness: Option<&'a Witness>,
}

/// A problem in JSON.
#[derive(Serialize)]
pub(crate) struct ProblemJson<'a> {
    line: Option<u64>,
    column: Option<u64>,
    subject: &'a str,
    explanation: &'a str,
}

impl<'a> From<&'a Problem> for ProblemJson<'a> {
    fn from(problem: &'a Problem) -> Self {
        Self {
            line: problem.place.map(|p| p.line),
            column: problem.place.map(|p| p.column),
            subject: &problem.subject,
            explanation: &problem.explanation,
        }
    }
}

/// The problems that were kept, in JSON.
pub(crate) fn problems_json(problems: &Problems) -> Vec<ProblemJson<'_>> {
    problems.kept.iter().map(ProblemJson::from).collect()
}

impl<W: Write> Report for Json<W> {
    fn begin(&mut self) -> io::Result<()> {
        self.out.write_all(b"{\"nsgs\":[")
    }

    fn nsg(&mut self, judged: &Judged<'_>) -> io::Result<()> {
        self.out.write_all(if self.any { b",\n" } else { b"\n" })?;
        self.any = true;
        let exposures = judged.exposures.iter().map(|exposed| ExposureJson {
            port: exposed.port,
            protocol: exposed.protocol,
            sources: Sources::of(&exposed.sources),
            internet: exposed.internet == Internet::Everyone,
            internet_reach: internet_word(exposed.internet),
            certain: exposed.certain,
            rules: &exposed.rules,
            witness: exposed.witness.as_ref(),
        });
        let nsg = NsgJson { id: judged.id, name: judged.name, exposures: exposures.collect() };
        serde_json::to_writer(&mut self.out, &nsg)?;
        Ok(())
    }

    fn finish(&mut self, problems: &Problems) -> io::Result<()> {
        self.out.write_all(b"\n]")?;
        if problems.any() {
            self.out.write_all(b",\"problems\":")?;
            serde_json::to_writer(&mut self.out, &problems_json(problems))?;
        }
        self.out.write_all(b"}\n")?;
        self.out.flush()
    }
}
