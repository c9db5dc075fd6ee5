//! Adapter: the store on Azure Table Storage.
