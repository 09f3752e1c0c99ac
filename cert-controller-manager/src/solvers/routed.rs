//! The solver of an issuer: passes each proof of an order to the solver in charge of its name.
//!
//! Not here: proofs that could not be removed, see [`leftovers`](super::leftovers).

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use cert_lib::{
    model::name::DnsName,
    solve::{Host, Owner, Proof, Readiness, SolveError, Solver},
};
use jiff::SignedDuration;

use super::{
    registry::SolverRegistry,
    routes::{Labels, Route, RouteSolver, SolverRoutes},
};
use crate::api::IssuerKey;

/// See the [module](self).
pub struct RoutedSolver {
    registry: Arc<SolverRegistry>,
    routes: SolverRoutes,
}

impl RoutedSolver {
    /// The solver of an issuer with these `routes`.
    #[must_use]
    pub fn new(registry: Arc<SolverRegistry>, routes: SolverRoutes) -> Self {
        Self { registry, routes }
    }

    fn solver(&self, route: &Route) -> Result<Arc<dyn Solver>, SolveError> {
        let entry = self.registry.entry_of(&route.solver)?;
        Ok(entry.solver(route.propagation.as_ref()))
    }

    /// The position of the solver in charge of a proof. Selectors that match no name of a running
    /// order any more leave it to the first solver.
    fn of_proof(&self, proof: &Proof, labels: &Labels) -> usize {
        let found = match proof {
            Proof::Txt { challenge, .. } => self.routes.of_challenge(challenge, labels),
            Proof::Http { host: Host::Name(name), .. } => self.routes.of(name, labels),
            _ => None,
        };
        found.unwrap_or_default()
    }

    /// The proofs of each solver.
    fn groups(&self, owner: &Owner, proofs: &[Proof]) -> Vec<(&Route, Vec<Proof>)> {
        let labels = self.registry.labels(owner);
        let mut groups: BTreeMap<usize, Vec<Proof>> = BTreeMap::new();
        for proof in proofs {
            groups.entry(self.of_proof(proof, &labels)).or_default().push(proof.clone());
        }
        let routes = groups.into_iter();
        routes.filter_map(|(at, proofs)| Some((self.routes.0.get(at)?, proofs))).collect()
    }

    fn of_challenge(&self, owner: &Owner, challenge: &DnsName) -> Option<&Route> {
        let found = self.routes.of_challenge(challenge, &self.registry.labels(owner));
        self.routes.0.get(found.unwrap_or_default())
    }

    /// Names the solver, where an issuer has several.
    fn explain(&self, route: &Route, why: String) -> String {
        match &route.solver {
            RouteSolver::Shared(_) if self.routes.0.len() == 1 => why,
            solver => format!("{why} (solver {solver})"),
        }
    }
}

/// Removes the `proofs` of an order whose issuer is not ready or was deleted.
///
/// # Errors
/// When they could not be removed yet.
pub async fn remove(
    registry: &Arc<SolverRegistry>,
    issuer: &IssuerKey,
    owner: &Owner,
    proofs: &[Proof],
) -> Result<(), SolveError> {
    match registry.former(issuer) {
        Some(routes) => RoutedSolver::new(registry.clone(), routes).cleanup(owner, proofs).await,
        None if proofs.is_empty() => Ok(()),
        None => Err(SolveError::Unavailable(format!(
            "issuer {issuer} was deleted before this process started, so its solvers are unknown; \
             remove these TXT records from their zones: {proofs:?}"
        ))),
    }
}

#[async_trait]
impl Solver for RoutedSolver {
    async fn follow(&self, owner: &Owner, challenge: &DnsName) -> Result<DnsName, SolveError> {
        match self.of_challenge(owner, challenge) {
            Some(route) => self.solver(route)?.follow(owner, challenge).await,
            None => Ok(challenge.clone()),
        }
    }

    fn follows_cnames(&self, owner: &Owner, challenge: &DnsName) -> bool {
        self.of_challenge(owner, challenge).is_some_and(|route| route.follows_cnames)
    }

    async fn present(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        for (route, proofs) in self.groups(owner, proofs) {
            self.solver(route)?.present(owner, &proofs).await?;
        }
        Ok(())
    }

    async fn ready(&self, owner: &Owner, proofs: &[Proof]) -> Result<Readiness, SolveError> {
        let mut all = Readiness::Ready;
        for (route, proofs) in self.groups(owner, proofs) {
            let one = match self.solver(route)?.ready(owner, &proofs).await? {
                Readiness::Ready => Readiness::Ready,
                Readiness::NotYet { why, look_again } => {
                    Readiness::NotYet { why: self.explain(route, why), look_again }
                }
            };
            if all == Readiness::Ready {
                all = one;
            }
        }
        Ok(all)
    }

    /// A failure does not prevent the cleanup by the other solvers. Records of a server of the issuer
    /// are removed later.
    async fn cleanup(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        let mut cleaned = Ok(());
        for (route, proofs) in self.groups(owner, proofs) {
            let one = match self.solver(route) {
                Ok(solver) => solver.cleanup(owner, &proofs).await,
                Err(error) => Err(error),
            };
            if let (Err(_), RouteSolver::Own(solver)) = (&one, &route.solver) {
                self.registry.leftovers.add(solver, owner, &proofs);
            }
            cleaned = cleaned.and(one);
        }
        cleaned
    }

    /// The longest time of all solvers of the order.
    fn propagation_timeout(
        &self,
        owner: &Owner,
        proofs: &[Proof],
        default: SignedDuration,
    ) -> SignedDuration {
        let groups = self.groups(owner, proofs).into_iter();
        let timeouts = groups.filter_map(|(route, proofs)| {
            let solver = self.solver(route).ok()?;
            Some(solver.propagation_timeout(owner, &proofs, default))
        });
        timeouts.max().unwrap_or(default)
    }

    /// Proofs for addresses belong to the first solver, because selectors do not match them.
    fn proves_addresses(&self) -> bool {
        let solver = self.routes.0.first().map(|route| self.solver(route));
        solver.is_some_and(|solver| solver.is_ok_and(|solver| solver.proves_addresses()))
    }

    fn stores_proofs(&self) -> bool {
        let own = |route: &Route| matches!(route.solver, RouteSolver::Own(_));
        self.routes.0.iter().any(own)
    }
}

#[cfg(test)]
mod tests;
