//! A solver that is set later. Issuers are prepared when the default cluster answers; solvers need the ids of
//! the other clusters, too.

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
    /// A solver that is not set yet. It will query the operator's `nameservers`, and name servers of zones if
    /// `policy` allows their addresses.
    #[must_use]
    pub fn new(nameservers: Vec<Nameserver>, policy: AddressPolicy) -> Self {
        Self { solver: OnceLock::new(), nameservers, policy: Arc::new(policy) }
    }

    /// Sets the solver, once.
    pub fn set(&self, solver: Arc<DnsEntrySolver>) {
        let _ = self.solver.set(solver);
    }

    /// The name servers that the operator configured.
    #[must_use]
    pub fn nameservers(&self) -> &[Nameserver] {
        &self.nameservers
    }

    /// This solver for an issuer with these name servers; if empty, those of the operator are used.
    #[must_use]
    pub fn with_nameservers(
        self: &Arc<Self>,
        nameservers: Vec<Nameserver>,
        clock: Arc<dyn Clock>,
    ) -> Arc<dyn Solver> {
        if nameservers.is_empty() {
            return Arc::new(IssuerSolver { deferred: self.clone(), propagation: None });
        }
        let propagation = Propagation::new(nameservers, clock).within(self.policy.clone());
        Arc::new(IssuerSolver { deferred: self.clone(), propagation: Some(Arc::new(propagation)) })
    }
}

/// The solver with the name servers of one issuer.
struct IssuerSolver {
    deferred: Arc<DeferredSolver>,
    propagation: Option<Arc<Propagation>>,
}

impl IssuerSolver {
    fn solver(&self) -> Result<DnsEntrySolver, SolveError> {
        let missing = || SolveError::Unavailable("the source cluster has not answered yet".into());
        let solver = self.deferred.solver.get().ok_or_else(missing)?;
        Ok(match &self.propagation {
            Some(propagation) => solver.with_propagation(propagation.clone()),
            None => DnsEntrySolver::clone(solver),
        })
    }
}

#[async_trait]
impl Solver for IssuerSolver {
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
