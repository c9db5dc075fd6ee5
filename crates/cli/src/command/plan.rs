//! `ajar plan`: what Ajar would change, and what that does to reachability.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;

use ajar_access::policy::{JitPolicy, PolicyInput, PolicyState, PolicyTerms};
use ajar_access::ports::identity::{Caller, SignIn};
use ajar_network::estate::{Estate, VmNetwork};
use ajar_network::nsg::{NetworkSecurityGroup, SecurityRule};
use ajar_network::plan::{
    Desired, GrantedFlow, Note, ProtectedPort, Protection, ProtectionState, RuleAction, RuleChange,
    RuleWrite, StandingException, Write as PlannedWrite, plan,
};
use ajar_network::ports::{PortSet, Protocol};
use ajar_network::reachability::{Destination, Flow, InboundRules, port_classes};
use ajar_network::resource_id::ResourceId;
use ajar_network::service_tags::ServiceTags;
use jiff::Timestamp;
use serde::Serialize;

use crate::arguments::{Format, Plan};
use crate::estate_file::EstateFile;
use crate::grant_input::{CheckedGrant, GrantInput, wrong};
use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::problems::{Problem, Problems};
use crate::report::json::problems_json;
use crate::service_tags_file;
use crate::shown::{Paint, Sources, printable};
use crate::strict_file::StrictFile;

pub(crate) fn run(arguments: &Plan) -> Result<Outcome, Failure> {
    let now = arguments.now.unwrap_or_else(Timestamp::now);
    let policies = policies(&arguments.policy)?;
    let grants = match &arguments.grant {
        Some(file) => grants(file, &policies, now)?,
        None => Vec::new(),
    };
    let tags = service_tags_file::read(arguments.service_tags.as_deref())?;
    let EstateFile { estate, mut problems, .. } = EstateFile::read(Input::open(&arguments.estate)?)?;
    let points = points(&estate, &policies, &grants, arguments, &mut problems);
    let mut plans = Vec::new();
    for (id, point) in points {
        let Some(nsg) = estate.nsg(&id) else {
            problems.add(about(&id, "this network security group is not in the estate".to_owned()));
            continue;
        };
        match plan(nsg, &point.desired, now) {
            Ok(planned) => plans.push(PointPlan::of(&id, nsg, planned, &point, tags.as_ref())),
            Err(error) => problems.add(about(&id, error.to_string())),
        }
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    match arguments.format {
        Format::Json => {
            out.write_all(b"{\"plans\":")?;
            serde_json::to_writer(&mut out, &plans).map_err(std::io::Error::from)?;
            if problems.any() {
                out.write_all(b",\"problems\":")?;
                serde_json::to_writer(&mut out, &problems_json(&problems)).map_err(std::io::Error::from)?;
            }
            out.write_all(b"}\n")?;
        }
        Format::Table => table(&mut out, Paint::for_stdout(), &plans)?,
    }
    out.flush()?;
    problems.finish();
    let stays_open = plans.iter().flat_map(|p| &p.notes).any(|n| matches!(n, Note::RespectedRules { .. }));
    Ok(match () {
        () if problems.any() => Outcome::BadInput,
        () if stays_open => Outcome::Exposed,
        () => Outcome::Clean,
    })
}

fn about(subject: &ResourceId, explanation: String) -> Problem {
    Problem { place: None, subject: subject.to_string(), explanation }
}

type Policies = BTreeMap<ResourceId, PolicyTerms>;

fn policies(file: &Path) -> Result<Policies, Failure> {
    let read = StrictFile::<PolicyInput>::read(file)?;
    let mut policies = Policies::new();
    for (index, input) in read.values.iter().enumerate() {
        let refused = |(field, rule): (String, String)| {
            Failure::Asked(format!("{}:{}: {field}: {rule}", file.display(), read.place_of(index, &field)))
        };
        let vm = input.vm().map_err(|error| refused(wrong(&error, "vm")))?;
        let terms = input.terms().map_err(|error| refused(wrong(&error, "ports")))?;
        if policies.insert(vm, terms).is_some() {
            return Err(refused(("vm".to_owned(), "this VM has a policy in this file already".to_owned())));
        }
    }
    Ok(policies)
}

fn grants(file: &Path, policies: &Policies, now: Timestamp) -> Result<Vec<CheckedGrant>, Failure> {
    let read = StrictFile::<GrantInput>::read(file)?;
    let mut grants = Vec::new();
    for (index, input) in read.values.iter().enumerate() {
        let refused = |(field, rule): (String, String)| {
            Failure::Asked(format!("{}:{}: {field}: {rule}", file.display(), read.place_of(index, &field)))
        };
        let vm = input.vm().map_err(refused)?;
        let Some(terms) = policies.get(&vm) else {
            return Err(refused(("vm".to_owned(), "none of the policies is for this VM".to_owned())));
        };
        let grant = input.check(terms, now).map_err(refused)?;
        // Only the terms are asked; the rest of a stored policy does not matter to what may be granted.
        let policy = JitPolicy {
            vm,
            vm_id: None,
            location: String::new(),
            state: PolicyState::Enabled,
            terms: terms.clone(),
            points: Vec::new(),
            configured_by: Caller {
                object_id: String::new(),
                tenant_id: String::new(),
                name: String::new(),
                sign_in: SignIn::default(),
            },
            configured_at: now,
        };
        grant.wish.check_against(&policy).map_err(|error| refused(wrong(&error, "ports")))?;
        grants.push(grant);
    }
    Ok(grants)
}

/// One group and what is wanted of it.
struct Point {
    desired: Desired,
    /// The addresses that are protected there.
    destinations: Vec<Destination>,
}

fn points(
    estate: &Estate,
    policies: &Policies,
    grants: &[CheckedGrant],
    arguments: &Plan,
    problems: &mut Problems,
) -> BTreeMap<ResourceId, Point> {
    let mut points: BTreeMap<ResourceId, Point> = BTreeMap::new();
    for (vm, terms) in policies {
        let Some(network) = estate.vm(vm) else {
            problems.add(about(vm, "the estate has no such virtual machine".to_owned()));
            continue;
        };
        for problem in &network.problems {
            problems.add(about(vm, problem.clone()));
        }
        let places = network.enforcement_points();
        if places.is_empty() {
            problems.add(about(
                vm,
                "no network security group filters it, so nothing can be closed; put one on its subnet"
                    .to_owned(),
            ));
        }
        for (id, addresses) in places {
            let point = points.entry(id).or_insert_with(|| Point {
                desired: Desired {
                    deployment: arguments.deployment.clone(),
                    protections: Vec::new(),
                    grants: Vec::new(),
                    originals: Vec::new(),
                    original_flush_connection: None,
                },
                destinations: Vec::new(),
            });
            point.destinations.extend(addresses.iter().map(|a| destination(&network, *a)));
            let of_vm = grants.iter().enumerate().filter(|(_, grant)| grant.wish.vm == *vm);
            for (index, grant) in of_vm {
                point.desired.grants.extend(granted(index, grant, &addresses));
            }
            point.desired.protections.push(protection(vm, terms, addresses));
        }
    }
    points
}

fn destination(network: &VmNetwork, address: IpAddr) -> Destination {
    let configurations = network.nics.iter().flat_map(|nic| &nic.ip_configurations);
    let mut of_address = configurations.filter(|c| c.address == Some(address));
    Destination { address, groups: of_address.next().and_then(|c| c.application_security_groups.clone()) }
}

fn protection(vm: &ResourceId, terms: &PolicyTerms, addresses: Vec<IpAddr>) -> Protection {
    Protection {
        vm: vm.clone(),
        addresses,
        released: Vec::new(),
        ports: terms
            .ports
            .iter()
            .map(|port| ProtectedPort { ports: port.ports, protocol: port.protocol })
            .collect(),
        exceptions: terms
            .standing_exceptions
            .iter()
            .map(|source| StandingException { source: source.clone() })
            .collect(),
        existing_rules: terms.existing_rules,
        flush_connection: terms.flush_connections,
        state: ProtectionState::Enabled,
    }
}

fn granted<'a>(
    index: usize,
    grant: &'a CheckedGrant,
    addresses: &'a [IpAddr],
) -> impl Iterator<Item = GrantedFlow> + 'a {
    grant.wish.flows.iter().enumerate().map(move |(flow_index, flow)| GrantedFlow {
        id: format!("grant {index}, ports[{flow_index}]"),
        vm: grant.wish.vm.clone(),
        addresses: addresses.to_vec(),
        ports: flow.ports,
        protocol: flow.protocol,
        sources: flow.sources.clone(),
        start: grant.start,
        end: grant.end,
        requester: grant.requester.clone(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PointPlan {
    nsg: ResourceId,
    changes: Vec<RuleChange>,
    /// The new value, when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    flush_connection: Option<bool>,
    reachability: Vec<Reached>,
    notes: Vec<Note>,
}

/// Who passes the group to some ports of an address, before and after.
#[derive(Serialize)]
struct Reached {
    address: IpAddr,
    protocol: Protocol,
    ports: PortSet,
    before: Sources,
    after: Sources,
}

impl PointPlan {
    fn of(
        id: &ResourceId,
        nsg: &NetworkSecurityGroup,
        planned: ajar_network::plan::Plan,
        point: &Point,
        tags: Option<&ServiceTags>,
    ) -> Self {
        let after = after(nsg, &planned.write);
        // Rules are planned with their tags; only the answer to who gets in is better without.
        let evaluated =
            |nsg: &NetworkSecurityGroup| tags.map_or_else(|| nsg.clone(), |tags| nsg.with_service_tags(tags));
        let flush = after.flush_connection().unwrap_or(false);
        Self {
            nsg: id.clone(),
            changes: planned.write.changes(nsg),
            flush_connection: (flush != nsg.flush_connection().unwrap_or(false)).then_some(flush),
            reachability: reachability(&evaluated(nsg), &evaluated(&after), point),
            notes: planned.notes,
        }
    }
}

fn after(nsg: &NetworkSecurityGroup, write: &PlannedWrite) -> NetworkSecurityGroup {
    match write {
        PlannedWrite::Nothing => nsg.clone(),
        PlannedWrite::Whole(after) => after.clone(),
        PlannedWrite::Rules(writes) => {
            let mut rules = nsg.rules().to_vec();
            for write in writes {
                let name = match write {
                    RuleWrite::Put(rule) => rule.name(),
                    RuleWrite::Delete(name) => name,
                };
                rules.retain(|rule| !rule.name().eq_ignore_ascii_case(name));
                if let RuleWrite::Put(rule) = write {
                    rules.push(rule.as_ref().clone());
                }
            }
            nsg.with_rules(rules)
        }
    }
}

fn reachability(before: &NetworkSecurityGroup, after: &NetworkSecurityGroup, point: &Point) -> Vec<Reached> {
    let rules_before = InboundRules::of(before);
    let rules_after = InboundRules::of(after);
    let mut all = Vec::new();
    for destination in &point.destinations {
        let mut managed: BTreeMap<Protocol, PortSet> = BTreeMap::new();
        let here = point.desired.protections.iter().filter(|p| p.addresses.contains(&destination.address));
        for port in here.flat_map(|p| &p.ports) {
            let protocols = match port.protocol {
                Protocol::Any => vec![Protocol::Tcp, Protocol::Udp],
                one => vec![one],
            };
            for protocol in protocols {
                let ports = managed.entry(protocol).or_default();
                *ports = ports.union(&port.ports.into());
            }
        }
        for (protocol, ports) in managed {
            let rules = before.rules().iter().chain(after.rules()).map(SecurityRule::meaning);
            for class in port_classes(rules, &ports) {
                let Some(port) = class.ranges().next().map(|range| range.first()) else { continue };
                let flow = Flow { destination: destination.clone(), protocol, port };
                all.push(Reached {
                    address: destination.address,
                    protocol,
                    ports: class,
                    before: Sources::of(&rules_before.reach(&flow).possible),
                    after: Sources::of(&rules_after.reach(&flow).possible),
                });
            }
        }
    }
    all
}

fn table(out: &mut impl Write, paint: Paint, plans: &[PointPlan]) -> std::io::Result<()> {
    for plan in plans {
        let id = plan.nsg.as_str();
        writeln!(out, "{}  {}", paint.bold(&printable(plan.nsg.name())), printable(id))?;
        if plan.changes.is_empty() && plan.flush_connection.is_none() {
            writeln!(out, "  nothing to change")?;
        }
        for change in &plan.changes {
            writeln!(out, "{}", change_line(paint, change))?;
        }
        if let Some(flush) = plan.flush_connection {
            writeln!(out, "  ~      flushConnection becomes {flush}")?;
        }
        for reached in &plan.reachability {
            writeln!(out, "  {} {} {}", reached.address, reached.protocol, reached.ports)?;
            writeln!(out, "    before  {}", printable(&reached.before.line()))?;
            writeln!(out, "    after   {}", printable(&reached.after.line()))?;
        }
        for note in &plan.notes {
            writeln!(out, "  {} {}", paint.yellow("note:"), printable(&note_text(note)))?;
        }
    }
    Ok(())
}

fn change_line(paint: Paint, change: &RuleChange) -> String {
    let priority = change.priority.map_or_else(|| "?".to_owned(), |p| p.to_string());
    let was = change.priority_before.map_or_else(String::new, |p| format!(" (was {p})"));
    let description = match change.description.as_str() {
        "" => String::new(),
        text => format!("  {}", printable(text)),
    };
    let line = |sign: &str| format!("  {sign} {priority:>4} {}{was}{description}", printable(&change.rule));
    match change.action {
        RuleAction::Add => paint.green(&line("+")),
        RuleAction::Move => paint.yellow(&line(">")),
        RuleAction::Change => paint.yellow(&line("~")),
        RuleAction::Remove => paint.red(&line("-")),
    }
}

fn note_text(note: &Note) -> String {
    match note {
        Note::OrphanedProtection { rule, addresses } => {
            format!(
                "rule {rule} covers {}, for which there is no policy here; it stays",
                addresses.join(", ")
            )
        }
        Note::RespectedRules { address, protocol, ports, rules, open, closed } => format!(
            "rules {} come first, as the policy wishes: {address} {protocol} {ports} stays open to {open} and closed \
             to {closed}",
            rules.join(", ")
        ),
        Note::OtherDeployments { rules } => {
            format!("rules of other deployments are left alone: {}", rules.join(", "))
        }
        Note::GrantOutsideProtection { grant } => format!("{grant} opens nothing here"),
        Note::AddressClaimedTwice { address, vms } => {
            let names: Vec<&str> = vms.iter().map(ResourceId::name).collect();
            format!("{address} belongs to {}: a grant to one opens it for all", names.join(" and "))
        }
        Note::NotRestored { rule, priority } => {
            format!("rule {rule} cannot go back to priority {priority}")
        }
    }
}
