//! Development only: a state machine of the part of Azure that Ajar uses, and an HTTP shell around it.
