//! `ajar assess`: the verdict on every virtual machine of an estate.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};

use ajar_network::assessment::{Assessment, Finding, Internet, JitStatus, Status, Witness, assess};
use ajar_network::ports::{Port, Protocol};
use ajar_network::resource_id::ResourceId;
use serde::Serialize;

use crate::arguments::{Assess, Format};
use crate::estate_file::EstateFile;
use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::report::flow_text;
use crate::report::json::problems_json;
use crate::service_tags_file;
use crate::shown::{Paint, Sources, internet_word, printable};

pub(crate) fn run(arguments: &Assess) -> Result<Outcome, Failure> {
    let tags = service_tags_file::read(arguments.service_tags.as_deref())?;
    let EstateFile { mut estate, other_machines, mut problems } =
        EstateFile::read(Input::open(&arguments.file)?)?;
    if let Some(tags) = &tags {
        estate.resolve_service_tags(tags);
    }
    let machines: BTreeSet<&ResourceId> = estate.vms().chain(&other_machines).collect();
    if machines.is_empty() && !problems.any() {
        problems.add(crate::problems::Problem {
            place: None,
            subject: String::new(),
            explanation: "there is no virtual machine in this estate; query resources of all types"
                .to_owned(),
        });
    }
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    let mut unprotected = 0_u64;
    let mut any = false;
    let paint = Paint::for_stdout();
    if arguments.format == Format::Json {
        out.write_all(b"{\"vms\":[")?;
    }
    for vm in &machines {
        // Nothing in a file says that a policy of Ajar is in force.
        let assessment = assess(&estate, vm, JitStatus::Disabled);
        if is_open_or_unknown(assessment.status) {
            unprotected += 1;
        }
        match arguments.format {
            Format::Json => {
                out.write_all(if any { b",\n" } else { b"\n" })?;
                serde_json::to_writer(&mut out, &VmJson::of(&assessment)).map_err(std::io::Error::from)?;
            }
            Format::Table => table(&mut out, paint, &assessment)?,
        }
        any = true;
    }
    match arguments.format {
        Format::Json => {
            out.write_all(b"\n]")?;
            if problems.any() {
                out.write_all(b",\"problems\":")?;
                serde_json::to_writer(&mut out, &problems_json(&problems)).map_err(std::io::Error::from)?;
            }
            out.write_all(b"}\n")?;
        }
        Format::Table => {
            let count = machines.len();
            let plural = if count == 1 { "" } else { "s" };
            writeln!(out, "{count} virtual machine{plural}, {unprotected} unhealthy or unknown")?;
        }
    }
    out.flush()?;
    problems.finish();
    Ok(match () {
        () if problems.any() => Outcome::BadInput,
        () if unprotected > 0 => Outcome::Exposed,
        () => Outcome::Clean,
    })
}

/// What is not known to be shut is not clean.
const fn is_open_or_unknown(status: Status) -> bool {
    matches!(status, Status::Unhealthy | Status::Unknown)
}

#[derive(Serialize)]
struct VmJson<'a> {
    id: &'a ResourceId,
    status: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    details: &'a [String],
    findings: Vec<FindingJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FindingJson<'a> {
    address: std::net::IpAddr,
    port: Port,
    protocol: Protocol,
    #[serde(flatten)]
    sources: Sources,
    internet: bool,
    internet_reach: &'static str,
    certain: bool,
    way_in: Option<bool>,
    evidence: Vec<EvidenceJson<'a>>,
    witness: Option<&'a Witness>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EvidenceJson<'a> {
    enforcement_point: &'a ResourceId,
    rule: &'a str,
    priority: Option<u16>,
}

impl<'a> VmJson<'a> {
    fn of(assessment: &'a Assessment) -> Self {
        Self {
            id: &assessment.vm,
            status: assessment.status.name(),
            reason: assessment.reason.code(),
            details: assessment.reason.details(),
            findings: assessment.findings.iter().map(FindingJson::of).collect(),
        }
    }
}

impl<'a> FindingJson<'a> {
    fn of(finding: &'a Finding) -> Self {
        let evidence = finding.evidence.iter().map(|e| EvidenceJson {
            enforcement_point: &e.enforcement_point,
            rule: &e.rule,
            priority: e.priority,
        });
        Self {
            address: finding.address,
            port: finding.port,
            protocol: finding.protocol,
            sources: Sources::of(&finding.sources),
            internet: finding.internet == Internet::Everyone,
            internet_reach: internet_word(finding.internet),
            certain: finding.certain,
            way_in: finding.way_in,
            evidence: evidence.collect(),
            witness: finding.witness.as_ref(),
        }
    }
}

fn table(out: &mut impl Write, paint: Paint, assessment: &Assessment) -> std::io::Result<()> {
    let word = format!("{:<13}", assessment.status.name());
    let word = match assessment.status {
        Status::Healthy => paint.green(&word),
        Status::Unhealthy => paint.red(&word),
        Status::Unknown => paint.yellow(&word),
        Status::NotApplicable | Status::NotSupported => word,
    };
    let reason = assessment.reason.code();
    let name = assessment.vm.name();
    writeln!(
        out,
        "{word} {}  {}  {reason}",
        paint.bold(&printable(name)),
        printable(assessment.vm.as_str())
    )?;
    for detail in assessment.reason.details() {
        writeln!(out, "    {}", printable(detail))?;
    }
    for finding in &assessment.findings {
        let rules: Vec<String> =
            finding.evidence.iter().map(|e| format!("{}/{}", e.enforcement_point.name(), e.rule)).collect();
        let by = if rules.is_empty() { "no filter".to_owned() } else { rules.join(", ") };
        let maybe = if finding.certain { "" } else { "perhaps " };
        writeln!(
            out,
            "    {:<10} {}  {maybe}from {}  by {}",
            flow_text(finding.port, finding.protocol),
            finding.address,
            printable(&Sources::of(&finding.sources).line()),
            printable(&by),
        )?;
    }
    Ok(())
}
