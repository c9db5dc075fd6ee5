//! The command line.

use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
usage: ajar-local [--dist DIR] [--estate FILE] [--port N] [--azure-port N] [--service-bus-port N]
                  [--state-dir DIR] [--env NAME=VALUE]...

  --dist DIR             the packaged application (default: dist)
  --estate FILE          the simulated Azure's resources (default: crates/local/sample-estate.json)
  --port N               Ajar's port (default: 7071; 0 picks a free one)
  --azure-port N         the simulated Azure's port (default: 7072; 0 picks a free one)
  --service-bus-port N   the Service Bus's port (default: 7073; 0 picks a free one)
  --state-dir DIR        where Ajar keeps its state (default: .local)
  --env NAME=VALUE       one more app setting; may be repeated";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Run(Options),
}

/// How to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) dist: PathBuf,
    pub(crate) estate: PathBuf,
    pub(crate) port: u16,
    pub(crate) azure_port: u16,
    pub(crate) service_bus_port: u16,
    pub(crate) state_dir: PathBuf,
    /// In the order given.
    pub(crate) environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dist: "dist".into(),
            estate: "crates/local/sample-estate.json".into(),
            port: 7071,
            azure_port: 7072,
            service_bus_port: 7073,
            state_dir: ".local".into(),
            environment: Vec::new(),
        }
    }
}

/// A command line that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionsError {
    #[error("there is no option {0}")]
    Unknown(String),
    #[error("{0} needs a value")]
    NoValue(String),
    #[error("{0} needs a port number from 0 to 65535, not {1:?}")]
    Port(String, String),
    #[error("--env needs NAME=VALUE, not {0:?}")]
    Setting(String),
}

pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, OptionsError> {
    let mut options = Options::default();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == "--help" || argument == "-h" {
            return Ok(Command::Help);
        }
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let mut value =
            || inline.clone().or_else(|| arguments.next()).ok_or(OptionsError::NoValue(name.clone()));
        let port = |text: String| text.parse().map_err(|_| OptionsError::Port(name.clone(), text));
        match name.as_str() {
            "--dist" => options.dist = value()?.into(),
            "--estate" => options.estate = value()?.into(),
            "--state-dir" => options.state_dir = value()?.into(),
            "--port" => options.port = port(value()?)?,
            "--azure-port" => options.azure_port = port(value()?)?,
            "--service-bus-port" => options.service_bus_port = port(value()?)?,
            "--env" => {
                let setting = value()?;
                let (name, value) = setting
                    .split_once('=')
                    .filter(|(name, _)| !name.is_empty())
                    .ok_or_else(|| OptionsError::Setting(setting.clone()))?;
                options.environment.push((name.to_owned(), value.to_owned()));
            }
            _ => return Err(OptionsError::Unknown(name)),
        }
    }
    Ok(Command::Run(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, OptionsError> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_come_in_both_spellings() {
        let expected = Options {
            port: 0,
            dist: "out".into(),
            environment: vec![("A".to_owned(), "1=2".to_owned()), ("B".to_owned(), String::new())],
            ..Options::default()
        };
        assert_eq!(parsed("--port=0 --dist out --env A=1=2 --env=B="), Ok(Command::Run(expected)));
        assert_eq!(parsed(""), Ok(Command::Run(Options::default())));
        assert_eq!(parsed("--port 1 --help"), Ok(Command::Help));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parsed("--prot 1"), Err(OptionsError::Unknown("--prot".to_owned())));
        assert_eq!(parsed("--port"), Err(OptionsError::NoValue("--port".to_owned())));
        assert_eq!(parsed("--port x"), Err(OptionsError::Port("--port".to_owned(), "x".to_owned())));
        assert_eq!(parsed("--env A"), Err(OptionsError::Setting("A".to_owned())));
    }
}
