//! Solvers that write TXT records to a DNS server themselves: what all of them share.
//!
//! A server implements [`DnsRecords`]; [`DnsRecordsSolver`] is the solver on it.
//!
//! Not here: which values were published by an earlier process. The running order stores them
//! before they are published, see [`stores_proofs`](super::Solver::stores_proofs).

mod solver;

pub use solver::DnsRecordsSolver;

use async_trait::async_trait;

use super::SolveError;
use crate::model::name::DnsName;

/// Adds TXT values to a name of a zone, and removes them.
///
/// Both methods are *idempotent*, keep values of others at the same name, and have a deadline.
/// Several calls may run at once, for the same name, too.
#[async_trait]
pub trait DnsRecords: Send + Sync {
    /// Adds `values` to the TXT records of `fqdn`. Existing values are no error.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses: the message says what to do.
    async fn add(&self, fqdn: &DnsName, values: &[String]) -> Result<(), SolveError>;

    /// Removes `values` from the TXT records of `fqdn`. Missing values are no error.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    async fn remove(&self, fqdn: &DnsName, values: &[String]) -> Result<(), SolveError>;
}
