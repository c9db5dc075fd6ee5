//! Tables of questions with the answers that are expected, to test policies with.

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::policies::Policies;
use crate::question::Question;

/// A table of cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cases {
    /// The cases.
    pub cases: Vec<Case>,
}

/// One question, and what the policies should say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// What is asked.
    pub question: Question,
    /// What should be answered.
    pub expect: Expected,
}

/// An expected answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expected {
    /// Whether it may be done.
    pub allowed: bool,
    /// Ids of the policies that decide, all of them, when it matters.
    #[serde(default)]
    pub by: Option<Vec<String>>,
    /// How many approvals are needed, when it matters.
    #[serde(default)]
    pub approvals: Option<u32>,
}

/// A case that came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{case}: {message}")]
pub struct CaseProblem {
    /// The case's name.
    pub case: String,
    /// What was expected and what came.
    pub message: String,
}

impl Cases {
    /// Asks every question and returns what came out otherwise.
    #[must_use]
    pub fn run(&self, policies: &Policies) -> Vec<CaseProblem> {
        self.cases.iter().filter_map(|case| case.run(policies)).collect()
    }
}

impl Case {
    fn run(&self, policies: &Policies) -> Option<CaseProblem> {
        let message = match policies.decide(&self.question) {
            Err(error) => error.to_string(),
            Ok(answer) => self.expect.difference(&answer)?,
        };
        Some(CaseProblem { case: self.name.clone(), message })
    }
}

impl Expected {
    fn difference(&self, answer: &Answer) -> Option<String> {
        let came = match answer {
            Answer::Allowed(_) => format!("allowed by {}", answer.by().join(", ")),
            Answer::Denied(denial) => denial.to_string(),
        };
        if answer.is_allowed() != self.allowed {
            let wanted = if self.allowed { "allowed" } else { "denied" };
            return Some(format!("expected {wanted}, but it is: {came}"));
        }
        if let Some(by) = &self.by {
            let mut wanted: Vec<&str> = by.iter().map(String::as_str).collect();
            wanted.sort_unstable();
            if wanted != answer.by() {
                return Some(format!("expected to be decided by [{}], but it is: {came}", wanted.join(", ")));
            }
        }
        match (self.approvals, answer) {
            (Some(wanted), Answer::Denied(denial)) if denial.approvals() != wanted => {
                Some(format!("expected {wanted} approvals, but {} are needed: {came}", denial.approvals()))
            }
            _ => None,
        }
    }
}
