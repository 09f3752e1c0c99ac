//! The values of the engine: keys, names, requests, certificates. No input or output here.

pub(crate) mod armor;
pub mod bundle;
pub mod cert_id;
pub(crate) mod der;
pub mod disposition;
pub mod key;
pub mod limit_scope;
pub mod name;
pub mod phase;
pub mod reason;
pub mod request;
pub mod scope;
