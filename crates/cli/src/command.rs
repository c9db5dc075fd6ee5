//! The commands, each from its arguments to its outcome.

pub(crate) mod assess;
pub(crate) mod exposure;
pub(crate) mod generate;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod removal;
pub(crate) mod template;
