//! Solvers that publish proofs as objects of Kubernetes.

pub mod deferred;
pub mod dnsentry;
pub mod skip;

use std::sync::Arc;

use cert_lib::solve::{Owner, SolveError};

use self::dnsentry::{DnsEntrySolver, Entries};
use crate::runtime::watch::Availability;

/// What Certificates know of the places where proofs are published: whether there is one, and how
/// to take away what a lost order left.
pub struct Challenges {
    entries: Arc<Entries>,
    solver: Arc<DnsEntrySolver>,
    dnsrecords: bool,
}

impl Challenges {
    /// Looks at `entries`, which `solver` writes. `dnsrecords` says that somebody wants DNSRecords
    /// instead.
    #[must_use]
    pub fn new(entries: Arc<Entries>, solver: Arc<DnsEntrySolver>, dnsrecords: bool) -> Self {
        Self { entries, solver, dnsrecords }
    }

    /// Why no proof can be published, in words for a person; `None` where it can.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        if self.dnsrecords {
            return Some(
                "this version writes no DNSRecords: start the manager without --use-dnsrecords"
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

    /// Takes away whatever is published for `owner`. *Idempotent*.
    ///
    /// # Errors
    /// When something could not be taken away.
    pub async fn sweep(&self, owner: &Owner) -> Result<(), SolveError> {
        if self.entries.of_owner(owner).is_empty() {
            Ok(())
        } else {
            self.solver.sweep(owner).await
        }
    }
}
