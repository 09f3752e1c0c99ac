//! Solvers, which publish proofs of control, and the [`registry`] that selects one for each name.
//!
//! - [`entry`] is the interface of a kind of solver: [`dnsentry`], [`skip`].
//! - [`dns_server`]: DNS servers that an issuer configures; [`routes`]: the solvers of an issuer and
//!   their names; [`leftovers`]: records that could not be removed yet.
//! - [`routed`] is the solver of an issuer; it passes each proof to the solver in charge.

pub mod dns_server;
pub mod dnsentry;
pub mod entry;
pub mod leftovers;
#[cfg(test)]
mod memory;
pub mod registry;
pub mod routed;
pub mod routes;
pub mod skip;
