//! Solvers that publish proofs with Kubernetes objects.

pub mod deferred;
pub mod dnsentry;
pub mod skip;

use std::sync::Arc;

use cert_lib::solve::{Owner, SolveError};

use self::dnsentry::{DnsEntrySolver, Entries};
use crate::runtime::watch::Availability;

/// The solvers as the Certificate controller uses them: whether proofs can be published, and how to remove
/// those of abandoned orders.
pub struct Challenges {
    entries: Arc<Entries>,
    solver: Arc<DnsEntrySolver>,
    dnsrecords: bool,
}

impl Challenges {
    /// Uses `entries`, which `solver` writes. `dnsrecords` is `--use-dnsrecords`.
    #[must_use]
    pub fn new(entries: Arc<Entries>, solver: Arc<DnsEntrySolver>, dnsrecords: bool) -> Self {
        Self { entries, solver, dnsrecords }
    }

    /// An error message if proofs cannot be published.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        if self.dnsrecords {
            return Some(
                "DNSRecords are not supported in this version: start the manager without --use-dnsrecords"
                    .to_owned(),
            );
        }
        match *self.entries.availability().borrow() {
            Availability::Present => None,
            Availability::Unknown => Some("the dns cluster has not answered yet".to_owned()),
            Availability::Absent => Some(
                "the dns cluster has no DNSEntry resource (dns.gardener.cloud/v1alpha1): install \
                 its CRD together with a dns-controller-manager or with --answer-dns"
                    .to_owned(),
            ),
            Availability::Denied => Some(
                "the manager may not list and watch DNSEntries (dns.gardener.cloud) in the dns \
                 cluster: grant it the role for that cluster"
                    .to_owned(),
            ),
        }
    }

    /// Removes all published proofs of `owner`. *Idempotent*.
    ///
    /// # Errors
    /// When a proof cannot be removed.
    pub async fn sweep(&self, owner: &Owner) -> Result<(), SolveError> {
        if self.entries.of_owner(owner).is_empty() {
            Ok(())
        } else {
            self.solver.sweep(owner).await
        }
    }
}
