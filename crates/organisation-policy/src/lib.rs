#![doc = include_str!("../README.md")]

mod adapter;
mod answer;
mod cases;
mod entities;
mod policies;
mod question;
mod scope;

pub use adapter::OrganisationPolicies;
pub use answer::{Answer, Denial, Named};
pub use cases::{Case, CaseProblem, Cases, Expected};
pub use policies::{Policies, Problem, SCHEMA};
pub use question::{
    Asked, Authentication, Circumstances, Clock, Machine, Person, Question, Ticket, Undecidable, Want,
};
