//! DNS-01: checks whether the values of a challenge name are visible to the CA.
//!
//! [`Propagation`] asks, through a [`Resolver`](crate::net::Resolver), the authoritative servers of
//! the name's zone, name servers that the operator configured, or both, as its [`Check`] says. It
//! caches the addresses of a zone's servers for some minutes. [`PropagationWaits`] remembers how
//! long each owner has waited.
//!
//! Not here: publishing. The result of [`Propagation::check`] is valid for this moment.

mod authority;
mod delegation;
mod nameserver;
mod options;
mod propagation;
mod servers;
mod view;
mod wait;

pub use delegation::DelegationError;
pub use nameserver::{Nameserver, NameserverError};
pub use options::{Check, PropagationOptions, PropagationOptionsError, additional_wait};
pub use propagation::Propagation;
pub use view::Visibility;
pub use wait::{PropagationWaits, WaitState};

#[cfg(test)]
pub(super) mod tests;
