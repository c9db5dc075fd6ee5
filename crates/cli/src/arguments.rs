//! The command line: what may be asked, and what it comes to.

use std::path::PathBuf;

use ajar_network::plan::DeploymentName;
use ajar_network::ports::{Port, PortRange, Protocol};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

/// More ports than this are a scan and not a question.
const MOST_PORTS: usize = 1024;

/// Who reaches what in Azure network rules, and what Ajar would change. Nothing is sent anywhere.
#[derive(Debug, Parser)]
#[command(
    name = "ajar",
    version,
    after_help = "Exit codes: 0 clean, 1 exposed, 2 bad input or bad arguments (the rest was judged all the same)."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Which sources reach which ports through which rules, per network security group
    ///
    /// Reads what `az network nsg list` or `show`, an ARM GET, an ARM list, a Resource Graph query or JSON lines
    /// give, and ARM templates. Counts what custom rules let in; the default rules of Azure let in the virtual
    /// network and the load balancer besides.
    Exposure(Exposure),
    /// The verdict on every virtual machine of an estate
    ///
    /// Reads resources of all kinds as Resource Graph or ARM give them: virtual machines, network interfaces,
    /// virtual networks, network security groups, public addresses, load balancers, route tables, firewalls.
    Assess(Assess),
    /// What Ajar would change for a policy and a grant, and what that does to reachability; nothing is written
    Plan(Plan),
    /// Which access of a deployment is past its end and still open, by the rules' own descriptions
    ///
    /// For when the application does not run or its tables are lost. Reads what `az network nsg list` gives; nothing is
    /// written. Look at the list, then run the commands with your own sign-in:
    /// az network nsg list | ajar close-expired --deployment NAME --format commands - | sh
    CloseExpired(CloseExpired),
    /// Every allow rule of a deployment, before the deployment is deleted; its deny rules too when told to
    ///
    /// Stop the application first: it would open again what is granted. Reads and writes as close-expired does. Rules of
    /// others that Ajar moved stay where they are: turn JIT off through the application to have them moved back.
    Drain(Drain),
    /// Templates of JIT policies
    Template(TemplateArguments),
    /// Check and test the organisation's policies, before they are used
    Policy(PolicyArguments),
    /// Completions and the manual page
    #[command(hide = true)]
    Generate(Generate),
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// How exposures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExposureFormat {
    /// For people
    Table,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// `ajar exposure`
#[derive(Debug, Args)]
pub(crate) struct Exposure {
    /// Ports and ranges to ask about
    #[arg(long, value_name = "PORTS", value_delimiter = ',', default_value = "22,3389,5985,5986")]
    ports: Vec<String>,
    /// The protocol to ask about
    #[arg(long, value_enum, default_value = "tcp")]
    protocol: Transport,
    /// The Service Tags JSON that Microsoft publishes, to resolve tags to addresses
    #[arg(long, value_name = "FILE")]
    pub(crate) service_tags: Option<PathBuf>,
    /// How to write the result
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: ExposureFormat,
    /// A JSON file, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

impl Exposure {
    /// The protocol asked about.
    pub(crate) const fn protocol(&self) -> Protocol {
        match self.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        }
    }

    /// The ports asked about, in order.
    pub(crate) fn ports(&self) -> Result<Vec<Port>, String> {
        let mut ports: Vec<Port> = Vec::new();
        for text in &self.ports {
            let range = PortRange::parse(text).map_err(|error| format!("--ports: {error}"))?;
            let count = usize::from(range.last() - range.first()) + 1;
            if ports.len() + count > MOST_PORTS {
                return Err(format!("--ports: ask about at most {MOST_PORTS} ports at a time"));
            }
            ports.extend(range.first()..=range.last());
        }
        ports.sort_unstable();
        ports.dedup();
        Ok(ports)
    }
}

/// `ajar assess`
#[derive(Debug, Args)]
pub(crate) struct Assess {
    /// The Service Tags JSON that Microsoft publishes, to resolve tags to addresses
    #[arg(long, value_name = "FILE")]
    pub(crate) service_tags: Option<PathBuf>,
    /// How to write the result
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// A JSON file, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `ajar plan`
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// A policy or a list of them, as `PUT /api/policies` takes it
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// A grant or a list of them: a request body of `POST /api/requests`, or one with `start` and `end`
    #[arg(long, value_name = "FILE")]
    pub(crate) grant: Option<PathBuf>,
    /// The deployment in whose name rules are written
    #[arg(long, default_value = "ajar")]
    pub(crate) deployment: DeploymentName,
    /// The Service Tags JSON that Microsoft publishes, to resolve tags to addresses
    #[arg(long, value_name = "FILE")]
    pub(crate) service_tags: Option<PathBuf>,
    /// The time to plan for, RFC 3339; now by default
    #[arg(long, value_name = "TIME")]
    pub(crate) now: Option<Timestamp>,
    /// How to write the result
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// The estate: a JSON file, or - for standard input
    #[arg(value_name = "ESTATE")]
    pub(crate) estate: PathBuf,
}

/// How rules that are to go are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RemovalFormat {
    /// For people
    Table,
    /// Commands of the Azure CLI, one a line
    Commands,
}

/// What `ajar close-expired` and `ajar drain` have in common.
#[derive(Debug, Args)]
pub(crate) struct Removal {
    /// The deployment whose rules are looked for
    #[arg(long)]
    pub(crate) deployment: DeploymentName,
    /// How to write the result
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: RemovalFormat,
    /// A JSON file, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `ajar close-expired`
#[derive(Debug, Args)]
pub(crate) struct CloseExpired {
    #[command(flatten)]
    pub(crate) removal: Removal,
    /// What ended by this time is to go, RFC 3339; now by default
    #[arg(long, value_name = "TIME")]
    pub(crate) now: Option<Timestamp>,
}

/// `ajar drain`
#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    pub(crate) removal: Removal,
    /// Also the deny rules: what they shut is open then wherever another rule allows it
    #[arg(long)]
    pub(crate) remove_deny: bool,
    /// A copy of originals from the container `state`: rules that Ajar moved go back where they were, after the deny rules
    #[arg(long, value_name = "FILE", requires = "remove_deny")]
    pub(crate) originals: Vec<PathBuf>,
}

/// `ajar template`
#[derive(Debug, Args)]
pub(crate) struct TemplateArguments {
    #[command(subcommand)]
    pub(crate) what: TemplateCommand,
}

/// What can be done with templates.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Whether templates can be read and go together
    Check(TemplateCheck),
}

/// `ajar template check`
#[derive(Debug, Args)]
pub(crate) struct TemplateCheck {
    /// The template files that would be in one folder
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// `ajar policy`
#[derive(Debug, Args)]
pub(crate) struct PolicyArguments {
    #[command(subcommand)]
    pub(crate) what: PolicyCommand,
}

/// What can be done with the organisation's policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Whether Cedar policies can be read and speak only of what there is
    Check(PolicyFiles),
    /// Whether they answer as a table of cases says
    Test(PolicyTest),
}

/// `ajar policy check`
#[derive(Debug, Args)]
pub(crate) struct PolicyFiles {
    /// The policy files (.cedar) that would be in one folder
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// `ajar policy test`
#[derive(Debug, Args)]
pub(crate) struct PolicyTest {
    /// The table of cases, JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) cases: PathBuf,
    #[command(flatten)]
    pub(crate) policies: PolicyFiles,
}

/// `ajar generate`
#[derive(Debug, Args)]
pub(crate) struct Generate {
    #[command(subcommand)]
    pub(crate) what: Generated,
}

/// What can be generated.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Generated {
    /// The completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The manual page of ajar and its commands, in roff
    Man,
}
