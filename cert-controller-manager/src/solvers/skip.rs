//! Publishes nothing, for CAs without validation (`skipDNSChallengeValidation`).

use std::sync::Arc;

use async_trait::async_trait;
use cert_lib::solve::{Owner, Proof, Readiness, SolveError, Solver, dns01::Propagation};

use super::entry::SolverEntry;

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Skip;

#[async_trait]
impl SolverEntry for Skip {
    fn solver(&self, _: Option<&Arc<Propagation>>) -> Arc<dyn Solver> {
        Arc::new(*self)
    }

    async fn sweep(&self, _: &Owner) -> Result<(), SolveError> {
        Ok(())
    }
}

#[async_trait]
impl Solver for Skip {
    async fn present(&self, _: &Owner, _: &[Proof]) -> Result<(), SolveError> {
        Ok(())
    }

    async fn ready(&self, _: &Owner, _: &[Proof]) -> Result<Readiness, SolveError> {
        Ok(Readiness::Ready)
    }

    async fn cleanup(&self, _: &Owner, _: &[Proof]) -> Result<(), SolveError> {
        Ok(())
    }

    fn proves_addresses(&self) -> bool {
        true
    }
}
