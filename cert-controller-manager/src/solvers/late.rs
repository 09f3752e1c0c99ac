//! A solver that comes later: issuers are prepared as soon as their cluster answers, solvers only
//! when it is known which cluster the Certificates are in.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use cert_lib::solve::{Owner, Proof, Readiness, SolveError, Solver};

/// See the [module](self).
#[derive(Default)]
pub struct Late(OnceLock<Arc<dyn Solver>>);

impl Late {
    /// Puts the solver in place. The first one stays.
    pub fn set(&self, solver: Arc<dyn Solver>) {
        let _ = self.0.set(solver);
    }

    fn solver(&self) -> Result<&Arc<dyn Solver>, SolveError> {
        let missing = || SolveError::Unavailable("the source cluster has not answered yet".into());
        self.0.get().ok_or_else(missing)
    }
}

#[async_trait]
impl Solver for Late {
    async fn present(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        self.solver()?.present(owner, proofs).await
    }

    async fn ready(&self, owner: &Owner, proofs: &[Proof]) -> Result<Readiness, SolveError> {
        self.solver()?.ready(owner, proofs).await
    }

    async fn cleanup(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        self.solver()?.cleanup(owner, proofs).await
    }
}
