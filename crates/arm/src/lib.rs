//! Adapter: Azure Resource Manager.
