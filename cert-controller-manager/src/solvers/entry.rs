//! The interface of a kind of solver in the [`registry`](super::registry).

use std::sync::Arc;

use async_trait::async_trait;
use cert_lib::solve::{Owner, SolveError, Solver, dns01::Propagation};
use tokio::sync::watch::Receiver;

use crate::runtime::watch::Availability;

/// A kind of solver.
#[async_trait]
pub trait SolverEntry: Send + Sync {
    /// Why no proofs can be published now; `None` if they can.
    fn unavailable(&self) -> Option<String> {
        None
    }

    /// Changes whenever [`unavailable`](Self::unavailable) may have changed; `None` if that is
    /// constant.
    fn changes(&self) -> Option<Receiver<Availability>> {
        None
    }

    /// The solver. `propagation` is the check with the name servers of an issuer, for DNS-01 only;
    /// without it, those of the manager are used.
    fn solver(&self, propagation: Option<&Arc<Propagation>>) -> Arc<dyn Solver>;

    /// Removes all published proofs of `owner`. *Idempotent*.
    ///
    /// # Errors
    /// When a proof cannot be removed.
    async fn sweep(&self, owner: &Owner) -> Result<(), SolveError>;
}
