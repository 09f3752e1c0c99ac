//! Issuers: from the object to something that issues.
//!
//! [`choice`] says which issuer a Certificate means that says about it what [`asked`] reads; [`registry`] is where Certificates find it;
//! [`reconcile`] keeps it current, fed by [`watched`]; [`acme`] with [`account`] and [`own`] are what
//! the kinds of issuers need from Secrets and CAs; [`rotation`] changes the key of an account; [`quota`] is how much they may be asked for;
//! [`status`] says how it went, with [`conditions`].

pub mod account;
pub mod acme;
mod conditions;
mod nameservers;
pub mod private_ca;
pub mod query;
pub mod quota;
mod recheck;
pub mod reconcile;
pub mod registry;
mod rotation;
pub mod selection;
pub mod status;
pub mod watched;
