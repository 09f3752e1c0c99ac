//! All solvers: which one proves a name for an issuer, and whether it is available.
//!
//! The registry starts empty, because issuers are prepared when the default cluster answers, and
//! solvers need the ids of the other clusters, too. Solvers are added later.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use cert_lib::{
    model::name::DnsName,
    solve::{Owner, SolveError},
};
use futures::{Stream, StreamExt, stream};

use super::entry::SolverEntry;
use crate::api::{IssuerKey, issuer::SolverKind};

/// See the [module](self).
#[derive(Default)]
pub struct SolverRegistry {
    entries: RwLock<BTreeMap<SolverKind, Arc<dyn SolverEntry>>>,
    issuers: RwLock<HashMap<IssuerKey, SolverRoutes>>,
}

/// The solvers of one issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SolverRoutes {
    /// The solver of all other names.
    pub default: SolverKind,
    /// Solvers of zones. The longest zone wins.
    pub zones: BTreeMap<DnsName, SolverKind>,
}

impl SolverRoutes {
    /// One solver for all names.
    #[must_use]
    pub fn all(solver: SolverKind) -> Self {
        Self { default: solver, zones: BTreeMap::new() }
    }

    /// The solver that proves control of `name`.
    #[must_use]
    pub fn of(&self, name: &DnsName) -> SolverKind {
        let zones = self.zones.iter().filter(|(zone, _)| name.base().is_within(zone));
        let longest = zones.max_by_key(|(zone, _)| zone.as_str().len());
        longest.map_or(self.default, |(_, solver)| *solver)
    }
}

impl SolverRegistry {
    /// Adds a solver, or replaces the one of this kind.
    pub fn add(&self, kind: SolverKind, entry: Arc<dyn SolverEntry>) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(kind, entry);
    }

    /// Sets the solvers of an issuer.
    pub fn set_routes(&self, issuer: &IssuerKey, routes: SolverRoutes) {
        let mut issuers = self.issuers.write().unwrap_or_else(PoisonError::into_inner);
        issuers.insert(issuer.clone(), routes);
    }

    /// Removes the solvers of an issuer that was deleted or is no longer served.
    pub fn forget(&self, issuer: &IssuerKey) {
        self.issuers.write().unwrap_or_else(PoisonError::into_inner).remove(issuer);
    }

    /// The solver that proves `name` for `issuer`; `None` for an issuer without solvers.
    #[must_use]
    pub fn solver_of(&self, issuer: &IssuerKey, name: &DnsName) -> Option<SolverKind> {
        let issuers = self.issuers.read().unwrap_or_else(PoisonError::into_inner);
        issuers.get(issuer).map(|routes| routes.of(name))
    }

    /// Why `issuer` cannot prove control of all `names` now; `None` if it can. Without names, its
    /// default solver counts.
    #[must_use]
    pub fn unavailable(&self, issuer: &IssuerKey, names: &[DnsName]) -> Option<String> {
        let solvers: BTreeSet<SolverKind> = {
            let issuers = self.issuers.read().unwrap_or_else(PoisonError::into_inner);
            let Some(routes) = issuers.get(issuer) else {
                return Some(format!("issuer {issuer} has no solver"));
            };
            match names.is_empty() {
                true => [routes.default].into(),
                false => names.iter().map(|name| routes.of(name)).collect(),
            }
        };
        solvers.into_iter().find_map(|solver| match self.entry(solver) {
            Ok(entry) => entry.unavailable(),
            Err(error) => Some(error.to_string()),
        })
    }

    /// The entry of a solver.
    ///
    /// # Errors
    /// When it was not added yet.
    pub fn entry(&self, solver: SolverKind) -> Result<Arc<dyn SolverEntry>, SolveError> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(&solver).cloned().ok_or_else(|| {
            SolveError::Unavailable(format!(
                "the {} solver is not available yet: a cluster has not answered",
                solver.word()
            ))
        })
    }

    /// Removes all published proofs of `owner`, by all solvers. *Idempotent*.
    ///
    /// # Errors
    /// When a proof cannot be removed. The others are removed nevertheless.
    pub async fn sweep(&self, owner: &Owner) -> Result<(), SolveError> {
        let mut swept = Ok(());
        for entry in self.all() {
            swept = swept.and(entry.sweep(owner).await);
        }
        swept
    }

    /// An item for each change in the availability of a solver that was added before this call.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        let receivers: Vec<_> = self.all().iter().filter_map(|entry| entry.changes()).collect();
        stream::select_all(receivers.into_iter().map(|receiver| {
            stream::unfold(receiver, |mut receiver| async move {
                receiver.changed().await.ok().map(|()| ((), receiver))
            })
            .boxed()
        }))
    }

    fn all(&self) -> Vec<Arc<dyn SolverEntry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemorySolver;
    use super::SolverKind::{DnsEntry, Skip};
    use super::*;
    use crate::runtime::watch::Availability;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    fn issuer() -> IssuerKey {
        IssuerKey::Default("ca".to_owned())
    }

    #[test]
    fn the_longest_zone_selects_the_solver() {
        let zones = [(name("b.test"), Skip), (name("x.b.test"), DnsEntry)];
        let routes = SolverRoutes { default: DnsEntry, zones: zones.into() };
        for (text, solver) in [
            ("b.test", Skip),
            ("*.b.test", Skip),
            ("y.b.test", Skip),
            ("z.x.b.test", DnsEntry),
            ("bb.test", DnsEntry),
            ("test", DnsEntry),
        ] {
            assert_eq!(routes.of(&name(text)), solver, "{text}");
        }
    }

    #[test]
    fn a_name_needs_only_its_own_solver() {
        let registry = SolverRegistry::default();
        let unavailable = |names: &[&str]| {
            let names: Vec<DnsName> = names.iter().map(|text| name(text)).collect();
            registry.unavailable(&issuer(), &names).unwrap_or_default()
        };
        assert_eq!(unavailable(&["a.test"]), "issuer ca has no solver");
        let zones = [(name("b.test"), Skip)].into();
        registry.set_routes(&issuer(), SolverRoutes { default: DnsEntry, zones });
        assert_eq!(registry.solver_of(&issuer(), &name("x.b.test")), Some(Skip));
        let missing = "the DNSEntry solver is not available yet: a cluster has not answered";
        assert_eq!(unavailable(&["a.test"]), missing);
        let (a, b) = (Arc::new(MemorySolver::default()), Arc::new(MemorySolver::default()));
        registry.add(DnsEntry, a.clone());
        registry.add(Skip, b);
        assert_eq!(unavailable(&["a.test", "b.test"]), "");
        a.set(Availability::Absent);
        assert_eq!(unavailable(&["a.test", "b.test"]), "Absent");
        assert_eq!(unavailable(&[]), "Absent");
        assert_eq!(unavailable(&["b.test"]), "");
        registry.forget(&issuer());
        assert_eq!(unavailable(&["b.test"]), "issuer ca has no solver");
    }

    #[tokio::test]
    async fn all_solvers_report_changes_and_are_swept() {
        let registry = SolverRegistry::default();
        let (a, b) = (Arc::new(MemorySolver::default()), Arc::new(MemorySolver::default()));
        registry.add(DnsEntry, a.clone());
        registry.add(Skip, b.clone());
        let mut changes = registry.changes();
        for solver in [&a, &b] {
            solver.set(Availability::Denied);
            assert_eq!(changes.next().await, Some(()));
        }
        a.fail("down");
        let error = registry.sweep(&Owner("ns/a".to_owned())).await.unwrap_err();
        assert_eq!(error.to_string(), "down");
        assert_eq!((a.calls(), b.calls()), (vec!["sweep ns/a".into()], vec!["sweep ns/a".into()]));
    }
}
