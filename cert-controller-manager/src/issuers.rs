//! Issuers: turns Issuer objects into values that issue certificates.
//!
//! - [`query`] reads what a Certificate says about its issuer, and [`selection`] selects the
//!   issuer.
//! - [`registry`] contains all issuers for the other controllers.
//! - [`reconcile`] updates the registry; [`watched`] decides when.
//! - [`prepare`] prepares an issuer by its kind: [`acme`] with [`account`], or [`private_ca`].
//! - [`rotation`] replaces account keys, and [`quota`] limits orders.
//! - [`status`] and [`conditions`] compute the status.

pub mod account;
pub mod acme;
mod conditions;
pub mod limits;
pub mod nameservers;
mod prepare;
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
