//! Records that could not be removed: their server did not answer, or refused. They are removed
//! later, also after the order, the Certificate and the issuer are gone.
//!
//! In memory: a restart forgets them. The values of a finished order prove nothing.

use std::{sync::Arc, time::Duration};

use cert_lib::solve::{Owner, Proof};
use parking_lot::Mutex;

use super::{dns_server::DnsServerSolver, entry::SolverEntry};

/// See the [module](self).
#[derive(Default)]
pub struct Leftovers(Mutex<Vec<Leftover>>);

struct Leftover {
    solver: Arc<DnsServerSolver>,
    owner: Owner,
    proofs: Vec<Proof>,
    attempts: u32,
}

impl Leftovers {
    /// Adds records to remove later. The oldest are given up if there are too many.
    pub fn add(&self, solver: Arc<DnsServerSolver>, owner: Owner, proofs: Vec<Proof>) {
        let proofs: Vec<Proof> = proofs.into_iter().filter(has_values).collect();
        if proofs.is_empty() {
            return;
        }
        let mut all = self.0.lock();
        if all.len() >= MAX_LEFTOVERS {
            all.remove(0);
        }
        all.push(Leftover { solver, owner, proofs, attempts: 0 });
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes what can be removed now. An entry is given up after [`MAX_ATTEMPTS`].
    pub async fn retry(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        for leftover in all {
            let Leftover { solver, owner, proofs, attempts } = leftover;
            let Err(error) = solver.solver(None).cleanup(&owner, &proofs).await else { continue };
            let attempts = attempts + 1;
            if attempts >= MAX_ATTEMPTS {
                tracing::warn!(owner = %owner.0, "records of {} stay in the zone, remove them by hand: {error}", owner.0);
                continue;
            }
            self.0.lock().push(Leftover { solver, owner, proofs, attempts });
        }
    }

    /// Retries until the process ends.
    pub async fn run(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.retry().await;
        }
    }
}

fn has_values(proof: &Proof) -> bool {
    proof.txt().is_some_and(|(_, values)| !values.is_empty())
}

/// Between two attempts.
const INTERVAL: Duration = Duration::from_secs(30);
/// A day.
const MAX_ATTEMPTS: u32 = 2880;
const MAX_LEFTOVERS: usize = 10_000;
