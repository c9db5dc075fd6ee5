//! The native and the Azure-compatible HTTP API over the use cases.
