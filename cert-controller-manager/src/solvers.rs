//! Solvers that publish proofs as objects of Kubernetes.

pub mod dnsentry;
pub mod late;
pub mod skip;

use std::sync::Arc;

use cert_lib::solve::{Owner, SolveError};

use self::dnsentry::{DnsEntrySolver, Entries};
use crate::runtime::follow::Availability;

/// What Certificates know of the places where proofs are published: whether there is one, and how
/// to take away what a lost order left.
pub struct Challenges {
    entries: Arc<Entries>,
    solver: Arc<DnsEntrySolver>,
}

impl Challenges {
    /// Looks at `entries`, which `solver` writes.
    #[must_use]
    pub fn new(entries: Arc<Entries>, solver: Arc<DnsEntrySolver>) -> Self {
        Self { entries, solver }
    }

    /// Why no proof can be published, in words for a person; `None` where it can.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
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
