//! Issuers: turns Issuer objects into values that issue certificates.
//!
//! - [`query`] reads what a Certificate says about its issuer, and [`selection`] selects the
//!   issuer.
//! - [`registry`] contains all issuers for the other controllers.
//! - [`reconcile`] updates the registry; [`watched`] decides when. The state is in [`controller`].
//! - [`prepare`] prepares an issuer by its kind: [`acme`] with [`account`], or [`private_ca`].
//! - [`rotation`] replaces account keys, and [`quota`] limits orders.
//! - [`status`] and [`conditions`] compute the status from the [`outcome`] of a pass.

pub mod account;
pub mod acme;
mod built;
mod conditions;
pub mod controller;
pub mod error;
pub mod limits;
pub mod nameservers;
pub mod outcome;
mod prepare;
pub mod private_ca;
pub mod query;
pub mod quota;
mod recheck;
pub mod reconcile;
pub mod record;
pub mod registry;
mod rotation;
pub mod selection;
mod server_url;
mod solvers;
pub mod status;
pub mod watched;
