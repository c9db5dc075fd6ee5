//! Adapter: sending to Azure Service Bus.
