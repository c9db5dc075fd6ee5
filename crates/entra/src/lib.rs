//! Adapter: Microsoft Entra ID tokens, in and out.
