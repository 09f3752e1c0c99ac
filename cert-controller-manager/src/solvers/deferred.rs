//! A solver that comes later: issuers are prepared as soon as their cluster answers, solvers only
//! when it is known which cluster the Certificates are in.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use cert_lib::{
    clock::Clock,
    model::name::DnsName,
    net::reach::AddressPolicy,
    solve::{
        Owner, Proof, Readiness, SolveError, Solver,
        dns01::{Nameserver, Propagation},
    },
};

use super::dnsentry::DnsEntrySolver;

/// See the [module](self).
#[derive(Default)]
pub struct DeferredSolver {
    solver: OnceLock<Arc<DnsEntrySolver>>,
    nameservers: Vec<Nameserver>,
    policy: Arc<AddressPolicy>,
}

impl DeferredSolver {
    /// None yet. It will look at `nameservers`, which are the operator's, and at those of zones where
    /// `policy` permits it.
    #[must_use]
    pub fn new(nameservers: Vec<Nameserver>, policy: AddressPolicy) -> Self {
        Self { solver: OnceLock::new(), nameservers, policy: Arc::new(policy) }
    }

    /// Puts the solver in place. The first one stays.
    pub fn set(&self, solver: Arc<DnsEntrySolver>) {
        let _ = self.solver.set(solver);
    }

    /// The name servers that the operator named.
    #[must_use]
    pub fn nameservers(&self) -> &[Nameserver] {
        &self.nameservers
    }

    /// This solver for an issuer that names its own servers to look at; none are the operator's.
    #[must_use]
    pub fn looking_at(
        self: &Arc<Self>,
        nameservers: Vec<Nameserver>,
        clock: Arc<dyn Clock>,
    ) -> Arc<dyn Solver> {
        if nameservers.is_empty() {
            return Arc::new(View { late: self.clone(), propagation: None });
        }
        let propagation = Propagation::new(nameservers, clock).within(self.policy.clone());
        Arc::new(View { late: self.clone(), propagation: Some(Arc::new(propagation)) })
    }
}

/// What one issuer uses of it.
struct View {
    late: Arc<DeferredSolver>,
    propagation: Option<Arc<Propagation>>,
}

impl View {
    fn solver(&self) -> Result<DnsEntrySolver, SolveError> {
        let missing = || SolveError::Unavailable("the source cluster has not answered yet".into());
        let solver = self.late.solver.get().ok_or_else(missing)?;
        Ok(match &self.propagation {
            Some(propagation) => solver.looking_with(propagation.clone()),
            None => DnsEntrySolver::clone(solver),
        })
    }
}

#[async_trait]
impl Solver for View {
    async fn follow(&self, challenge: &DnsName) -> Result<DnsName, SolveError> {
        self.solver()?.follow(challenge).await
    }

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
