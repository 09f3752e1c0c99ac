//! Issuers: from the object to something that issues.
//!
//! [`choice`] says which issuer a Certificate means that says about it what [`asked`] reads; [`registry`] is where Certificates find it;
//! [`reconcile`] keeps it current, fed by [`watched`]; [`acme`] with [`account`] and [`own`] are what
//! the kinds of issuers need from Secrets and CAs; [`rotation`] changes the key of an account; [`quota`] is how much they may be asked for;
//! [`status`] says how it went, with [`conditions`].

pub mod account;
pub mod acme;
pub mod asked;
pub mod choice;
mod conditions;
mod doubts;
mod nameservers;
pub mod own;
pub mod quota;
pub mod reconcile;
pub mod registry;
mod rotation;
pub mod status;
pub mod watched;
