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

use super::{
    entry::SolverEntry,
    leftovers::Leftovers,
    routes::{Labels, RouteSolver, SolverRoutes},
};
use crate::api::{IssuerKey, issuer::SolverKind};

/// See the [module](self).
#[derive(Default)]
pub struct SolverRegistry {
    entries: RwLock<BTreeMap<SolverKind, Arc<dyn SolverEntry>>>,
    issuers: RwLock<HashMap<IssuerKey, SolverRoutes>>,
    /// The solvers of deleted issuers, which remove the records of orders that still run.
    former: RwLock<HashMap<IssuerKey, SolverRoutes>>,
    /// Labels of Certificates whose issuer selects solvers by labels.
    labels: RwLock<HashMap<Owner, Labels>>,
    /// Records that could not be removed yet.
    pub leftovers: Leftovers,
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

    /// Removes the solvers of an issuer that was deleted or is no longer served. They are kept for
    /// the [records](Self::former) of its orders.
    pub fn forget(&self, issuer: &IssuerKey) {
        let mut issuers = self.issuers.write().unwrap_or_else(PoisonError::into_inner);
        let Some(routes) = issuers.remove(issuer) else { return };
        drop(issuers);
        let mut former = self.former.write().unwrap_or_else(PoisonError::into_inner);
        if former.len() >= MAX_FORMER {
            former.clear();
        }
        former.insert(issuer.clone(), routes);
    }

    /// The solvers of an issuer, also after it was [forgotten](Self::forget).
    #[must_use]
    pub fn former(&self, issuer: &IssuerKey) -> Option<SolverRoutes> {
        let find = |map: &RwLock<HashMap<IssuerKey, SolverRoutes>>| {
            map.read().unwrap_or_else(PoisonError::into_inner).get(issuer).cloned()
        };
        find(&self.issuers).or_else(|| find(&self.former))
    }

    /// Remembers those labels of the Certificate of `owner` that select solvers of the issuer. While
    /// its order `is_running`, the labels stay as they were: the same solver removes the records.
    pub fn set_labels(&self, issuer: &IssuerKey, owner: &Owner, labels: &Labels, is_running: bool) {
        let issuers = self.issuers.read().unwrap_or_else(PoisonError::into_inner);
        let selecting = issuers.get(issuer).map(|routes| routes.selecting(labels));
        drop(issuers);
        let selecting = selecting.filter(|labels| !labels.is_empty());
        let known = self.known_labels(owner);
        if known == selecting || (is_running && known.is_some()) {
            return;
        }
        let mut known = self.labels.write().unwrap_or_else(PoisonError::into_inner);
        match selecting {
            Some(labels) => known.insert(owner.clone(), labels),
            None => known.remove(owner),
        };
    }

    fn known_labels(&self, owner: &Owner) -> Option<Labels> {
        self.labels.read().unwrap_or_else(PoisonError::into_inner).get(owner).cloned()
    }

    /// The labels of the Certificate of `owner` that select solvers.
    #[must_use]
    pub fn labels(&self, owner: &Owner) -> Labels {
        self.known_labels(owner).unwrap_or_default()
    }

    /// Why `issuer` cannot prove control of all `names` of the Certificate of `owner` now; `None` if
    /// it can.
    #[must_use]
    pub fn unavailable(
        &self,
        issuer: &IssuerKey,
        owner: &Owner,
        names: &[DnsName],
    ) -> Option<String> {
        let labels = self.labels(owner);
        let issuers = self.issuers.read().unwrap_or_else(PoisonError::into_inner);
        let Some(routes) = issuers.get(issuer) else {
            return Some(format!("issuer {issuer} has no solver"));
        };
        let mut solvers = BTreeSet::new();
        for name in names {
            match routes.of(name, &labels) {
                Some(at) => solvers.insert(at),
                None => return Some(routes.uncovered(name)),
            };
        }
        if names.is_empty() {
            solvers.insert(0);
        }
        let solvers = solvers.into_iter().filter_map(|at| routes.0.get(at));
        solvers.map(|route| &route.solver).find_map(|solver| match self.entry_of(solver) {
            Ok(entry) => entry.unavailable(),
            Err(error) => Some(error.to_string()),
        })
    }

    /// The entry of the solver of a route.
    ///
    /// # Errors
    /// As for [`entry`](Self::entry).
    pub fn entry_of(&self, solver: &RouteSolver) -> Result<Arc<dyn SolverEntry>, SolveError> {
        match solver {
            RouteSolver::Shared(kind) => self.entry(*kind),
            RouteSolver::Own(solver) => Ok(solver.clone()),
        }
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
        self.labels.write().unwrap_or_else(PoisonError::into_inner).remove(owner);
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

/// Bounds the memory for issuers that are created and deleted again and again.
const MAX_FORMER: usize = 1_000;

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
    fn a_name_needs_only_its_own_solver() {
        let registry = SolverRegistry::default();
        let unavailable = |names: &[&str]| {
            let names: Vec<DnsName> = names.iter().map(|text| name(text)).collect();
            let owner = Owner("ns/a".to_owned());
            registry.unavailable(&issuer(), &owner, &names).unwrap_or_default()
        };
        assert_eq!(unavailable(&["a.test"]), "issuer ca has no solver");
        let mut routes = SolverRoutes::all(DnsEntry, None);
        let zones = vec![name("b.test")];
        routes.0.extend(SolverRoutes::all(Skip, None).0);
        routes.0.last_mut().unwrap().selector.zones = zones;
        registry.set_routes(&issuer(), routes);
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
        assert!(registry.former(&issuer()).is_some());
    }

    #[test]
    fn a_name_without_solver_is_refused_with_the_list_of_solvers() {
        let registry = SolverRegistry::default();
        registry.add(Skip, Arc::new(MemorySolver::default()));
        let mut routes = SolverRoutes::all(Skip, None);
        let selector = &mut routes.0.first_mut().unwrap().selector;
        selector.labels = [("team".to_owned(), "red".to_owned())].into();
        registry.set_routes(&issuer(), routes);
        let owner = Owner("ns/a".to_owned());
        let unavailable = || registry.unavailable(&issuer(), &owner, &[name("a.test")]);
        let why = unavailable().unwrap();
        assert!(
            why.starts_with("no solver of the issuer covers a.test; its solvers are: skip for")
        );
        let labels = |team: &str| {
            [("team".to_owned(), team.to_owned()), ("other".to_owned(), "x".to_owned())].into()
        };
        registry.set_labels(&issuer(), &owner, &labels("red"), false);
        assert_eq!(unavailable(), None);
        assert_eq!(registry.labels(&owner).len(), 1, "other labels are not kept");
        registry.set_labels(&issuer(), &owner, &labels("blue"), true);
        assert_eq!(unavailable(), None, "while the order runs");
        registry.set_labels(&issuer(), &owner, &labels("blue"), false);
        assert!(unavailable().is_some());
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
