//! Exact reachability.
