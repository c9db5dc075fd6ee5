//! Development only: an Azure Functions host and a Service Bus for one custom handler.
