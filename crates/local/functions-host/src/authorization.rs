//! Function keys (protocol page, section 5.1).

use crate::functions::AuthLevel;
use crate::incoming::Incoming;

/// The keys of an app. All values are compared as they are.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Opens everything, the admin endpoints included. Empty: there is no master key.
    pub master: String,
    /// `(name, key)`: open every function of level `function`.
    pub host: Vec<(String, String)>,
    /// `(function, name, key)`: open one function.
    pub function: Vec<(String, String, String)>,
    /// `(name, key)`: open webhooks of extensions, no function.
    pub system: Vec<(String, String)>,
}

/// The level a key gives its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyLevel {
    Function,
    System,
    Admin,
}

impl KeyLevel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Function => "Function",
            Self::System => "System",
            Self::Admin => "Admin",
        }
    }
}

/// A caller that brought a valid key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) level: KeyLevel,
    pub(crate) key_name: String,
}

impl Keys {
    /// Who the caller is. The header wins even if it is wrong. `function` is the function called, if one is.
    pub(crate) fn identify(&self, incoming: &Incoming, function: Option<&str>) -> Option<Identity> {
        let key = incoming
            .header("x-functions-key")
            .or_else(|| incoming.query_value("code"))
            .filter(|key| !key.is_empty())?;
        let identity = |level, name: &str| Identity { level, key_name: name.to_owned() };
        if !self.master.is_empty() && key == self.master {
            return Some(identity(KeyLevel::Admin, "master"));
        }
        let of_function = self
            .function
            .iter()
            .filter(|(owner, _, _)| function.is_some_and(|function| owner.eq_ignore_ascii_case(function)))
            .map(|(_, name, value)| (KeyLevel::Function, name, value));
        let of_host = self.host.iter().map(|(name, value)| (KeyLevel::Function, name, value));
        let of_system = self.system.iter().map(|(name, value)| (KeyLevel::System, name, value));
        of_function
            .chain(of_host)
            .chain(of_system)
            .find(|(_, _, value)| *value == key)
            .map(|(level, name, _)| identity(level, name))
    }
}

/// Whether this caller may call a function of this level: equality or admin, not "at least".
pub(crate) fn admits(level: AuthLevel, caller: Option<&Identity>) -> bool {
    match (level, caller.map(|caller| caller.level)) {
        (AuthLevel::Anonymous, _) | (_, Some(KeyLevel::Admin)) => true,
        (AuthLevel::Function, Some(KeyLevel::Function)) => true,
        (AuthLevel::Function | AuthLevel::Admin, _) => false,
    }
}
