//! What the policies say.

use std::fmt;

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may be done; these policies permit it.
    Allowed(Vec<Named>),
    /// It may not.
    Denied(Denial),
}

impl Answer {
    /// Whether it may be done.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// The ids of the policies that decided.
    #[must_use]
    pub fn by(&self) -> Vec<&str> {
        let named = match self {
            Self::Allowed(by) => by,
            Self::Denied(denial) => &denial.by,
        };
        named.iter().map(|policy| policy.id.as_str()).collect()
    }
}

/// A policy that had a say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Its `@id`.
    pub id: String,
    /// Its `@advice`: what would satisfy it.
    pub advice: Option<String>,
    /// Its `@approvals`: how many people it wants.
    pub approvals: Option<u32>,
}

/// Why something may not be done, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What was wanted: the action's name.
    pub action: &'static str,
    /// The policies that forbid it, or that could not be evaluated; none when nothing permits it.
    pub by: Vec<Named>,
    /// When nothing forbids it: the policies about this person, action and VM that would permit it if their
    /// conditions were met.
    pub would_permit: Vec<Named>,
}

impl Denial {
    /// How many approvals a request needs that is not approved by itself: the most that a policy wants, at least one.
    #[must_use]
    pub fn approvals(&self) -> u32 {
        self.by.iter().filter_map(|policy| policy.approvals).max().unwrap_or(1).max(1)
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |policies: &[Named]| {
            let shown = policies.iter().map(|policy| match &policy.advice {
                Some(advice) => format!("`{}` ({advice})", policy.id),
                None => format!("`{}`", policy.id),
            });
            shown.collect::<Vec<_>>().join(", ")
        };
        if !self.by.is_empty() {
            write!(f, "the organisation's policy forbids `{}`: {}", self.action, list(&self.by))
        } else if self.would_permit.is_empty() {
            write!(f, "no policy of the organisation permits `{}` here", self.action)
        } else {
            write!(
                f,
                "no policy of the organisation permits `{}` as it is; one of these would: {}",
                self.action,
                list(&self.would_permit)
            )
        }
    }
}
