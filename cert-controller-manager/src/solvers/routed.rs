//! The solver of an issuer: passes each proof of an order to the solver in charge of its name.
//!
//! A proof at the target of a CNAME belongs to the solver of the original name. This is kept in
//! memory: after a restart, an order follows its CNAMEs again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use cert_lib::{
    model::name::DnsName,
    solve::{Host, Owner, Proof, Readiness, SolveError, Solver, dns01::Propagation},
};
use jiff::SignedDuration;

use super::registry::{SolverRegistry, SolverRoutes};
use crate::api::issuer::SolverKind;

/// See the [module](self).
pub struct RoutedSolver {
    registry: Arc<SolverRegistry>,
    routes: SolverRoutes,
    propagation: Option<Arc<Propagation>>,
    /// The solvers of CNAME targets that belong to another solver than their names say.
    targets: Mutex<HashMap<DnsName, SolverKind>>,
}

impl RoutedSolver {
    /// The solver of an issuer with these `routes` and this check of its own name servers, if any.
    #[must_use]
    pub fn new(
        registry: Arc<SolverRegistry>,
        routes: SolverRoutes,
        propagation: Option<Arc<Propagation>>,
    ) -> Self {
        Self { registry, routes, propagation, targets: Mutex::default() }
    }

    fn solver(&self, kind: SolverKind) -> Result<Arc<dyn Solver>, SolveError> {
        Ok(self.registry.entry(kind)?.solver(self.propagation.as_ref()))
    }

    /// The solver in charge of a proof.
    fn of_proof(&self, proof: &Proof) -> SolverKind {
        match proof {
            Proof::Txt { fqdn, .. } => {
                let target = self.targets().get(fqdn).copied();
                target.unwrap_or_else(|| self.of_challenge(fqdn))
            }
            Proof::Http { host: Host::Name(name), .. } => self.routes.of(name),
            _ => self.routes.default,
        }
    }

    fn of_challenge(&self, challenge: &DnsName) -> SolverKind {
        let parent = challenge.parent().filter(|name| name.challenge() == *challenge);
        self.routes.of(parent.as_ref().unwrap_or(challenge))
    }

    /// The proofs of each solver.
    fn groups(&self, proofs: &[Proof]) -> BTreeMap<SolverKind, Vec<Proof>> {
        let mut groups: BTreeMap<SolverKind, Vec<Proof>> = BTreeMap::new();
        for proof in proofs {
            groups.entry(self.of_proof(proof)).or_default().push(proof.clone());
        }
        groups
    }

    fn targets(&self) -> MutexGuard<'_, HashMap<DnsName, SolverKind>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Solver for RoutedSolver {
    async fn follow(&self, challenge: &DnsName) -> Result<DnsName, SolveError> {
        let solver = self.of_challenge(challenge);
        let target = self.solver(solver)?.follow(challenge).await?;
        if self.of_challenge(&target) != solver {
            let mut targets = self.targets();
            if targets.len() >= MAX_TARGETS {
                targets.clear();
            }
            targets.insert(target.clone(), solver);
        }
        Ok(target)
    }

    async fn present(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        for (solver, proofs) in self.groups(proofs) {
            self.solver(solver)?.present(owner, &proofs).await?;
        }
        Ok(())
    }

    async fn ready(&self, owner: &Owner, proofs: &[Proof]) -> Result<Readiness, SolveError> {
        let mut all = Readiness::Ready;
        for (solver, proofs) in self.groups(proofs) {
            let one = self.solver(solver)?.ready(owner, &proofs).await?;
            if all == Readiness::Ready {
                all = one;
            }
        }
        Ok(all)
    }

    /// A failure does not prevent the cleanup by the other solvers.
    async fn cleanup(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        let mut cleaned = Ok(());
        for (solver, proofs) in self.groups(proofs) {
            let one = match self.solver(solver) {
                Ok(solver) => solver.cleanup(owner, &proofs).await,
                Err(error) => Err(error),
            };
            cleaned = cleaned.and(one);
        }
        cleaned
    }

    /// The longest time of all solvers of the order.
    fn propagation_timeout(&self, proofs: &[Proof], default: SignedDuration) -> SignedDuration {
        let groups = self.groups(proofs).into_iter();
        let timeouts = groups.filter_map(|(solver, proofs)| {
            let solver = self.solver(solver).ok()?;
            Some(solver.propagation_timeout(&proofs, default))
        });
        timeouts.max().unwrap_or(default)
    }

    /// Proofs for addresses belong to the default solver, because zones do not match them.
    fn proves_addresses(&self) -> bool {
        self.solver(self.routes.default).is_ok_and(|solver| solver.proves_addresses())
    }
}

/// Bounds the memory, because tenants choose CNAMEs. The sweep of an owner removes proofs whose target
/// was forgotten.
const MAX_TARGETS: usize = 10_000;

#[cfg(test)]
mod tests;
