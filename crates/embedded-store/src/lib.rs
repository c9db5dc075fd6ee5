//! Adapter: the store in one local file, for a first run.
