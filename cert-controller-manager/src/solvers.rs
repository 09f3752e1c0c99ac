//! Solvers, which publish proofs of control, and the [`registry`] that selects one for each name.
//!
//! - [`entry`] is the interface of a kind of solver: [`dnsentry`], [`skip`].
//! - [`routed`] is the solver of an issuer; it passes each proof to the solver in charge.

pub mod dnsentry;
pub mod entry;
#[cfg(test)]
mod memory;
pub mod registry;
pub mod routed;
pub mod skip;
