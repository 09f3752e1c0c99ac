//! Readiness conditions: complete caches and reachable clusters. `/readyz` reports unmet conditions, and
//! they never cause a restart. A standby is ready, too.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::runtime::{
    role::{Reachability, Role},
    watch::Availability,
};

/// The conditions. Clones share them.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Whether all conditions are registered.
    complete: bool,
    checks: Vec<(String, Arc<Check>)>,
}

type Check = dyn Fn() -> Result<(), String> + Send + Sync;

/// The results of all conditions at one instant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report(Vec<(String, Result<(), String>)>);

impl Readiness {
    /// Adds a condition. `check` runs for every request, so it must be fast and must not send requests.
    pub fn require(
        &self,
        name: impl Into<String>,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.lock().checks.push((name.into(), Arc::new(check)));
    }

    /// Adds the condition that the cluster of this role is reachable.
    pub fn require_cluster(&self, role: Role, reachability: watch::Receiver<Reachability>) {
        self.require(format!("{} cluster", role.name()), move || match &*reachability.borrow() {
            Reachability::Reachable => Ok(()),
            Reachability::Unknown => Err("not contacted yet".to_owned()),
            Reachability::Refused { since, why } => {
                Err(format!("refuses requests since {since:.0}: {why}"))
            }
            Reachability::Away { since, why } => {
                Err(format!("does not answer since {since:.0}: {why}"))
            }
        });
    }

    /// Adds the condition that `list` is complete. A kind that does not exist has an empty list.
    pub fn require_list(&self, list: &str, availability: watch::Receiver<Availability>) {
        self.require(format!("list of {list}"), move || match *availability.borrow() {
            Availability::Present | Availability::Absent => Ok(()),
            Availability::Unknown => Err("not complete yet".to_owned()),
            Availability::Denied => Err("no right to list and watch".to_owned()),
        });
    }

    /// Marks the registration of conditions as complete. The process is not ready before.
    pub fn complete(&self) {
        self.lock().complete = true;
    }

    /// Evaluates all conditions.
    #[must_use]
    pub fn examine(&self) -> Report {
        let (complete, checks) = {
            let state = self.lock();
            (state.complete, state.checks.clone())
        };
        let start = (!complete).then(|| ("start".to_owned(), Err("not finished yet".to_owned())));
        let results = checks.into_iter().map(|(name, check)| (name, check()));
        Report(start.into_iter().chain(results).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.examine()).finish()
    }
}

impl Report {
    /// Whether all conditions are met.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.iter().all(|(_, result)| result.is_ok())
    }
}

/// One line for each condition.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.is_ready() { "ready" } else { "not ready" })?;
        for (name, result) in &self.0 {
            match result {
                Ok(()) => writeln!(f, "{name}: ok")?,
                Err(why) => writeln!(f, "{name}: {why}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_process_is_ready_when_all_registered_conditions_are_met() {
        let readiness = Readiness::default();
        assert_eq!(readiness.examine().to_string(), "not ready\nstart: not finished yet\n");
        let there = Arc::new(AtomicBool::new(false));
        let seen = there.clone();
        readiness.require("source cluster", move || {
            seen.load(Ordering::Relaxed).then_some(()).ok_or_else(|| "does not answer".to_owned())
        });
        readiness.require("list of Certificates", || Ok(()));
        readiness.complete();
        assert_eq!(
            readiness.examine().to_string(),
            "not ready\nsource cluster: does not answer\nlist of Certificates: ok\n"
        );
        there.store(true, Ordering::Relaxed);
        assert!(readiness.examine().is_ready());
        there.store(false, Ordering::Relaxed);
        assert!(!readiness.examine().is_ready());
    }
    #[test]
    fn unmet_conditions_of_clusters_and_lists_are_reported() {
        let readiness = Readiness::default();
        let away = Reachability::Away {
            since: "2026-01-01T00:00:00.5Z".parse().unwrap(),
            why: "connection refused".to_owned(),
        };
        let refused = Reachability::Refused {
            since: "2026-01-01T00:00:00.5Z".parse().unwrap(),
            why: "GET /version is answered with 401".to_owned(),
        };
        for (role, known) in [
            (Role::Default, Reachability::Reachable),
            (Role::Source, away),
            (Role::Dns, Reachability::Unknown),
            (Role::Target, refused),
        ] {
            readiness.require_cluster(role, watch::channel(known).1);
        }
        for (kind, known) in [
            ("Certificates", Availability::Present),
            ("Gateways", Availability::Absent),
            ("Ingresses", Availability::Denied),
            ("Secrets", Availability::Unknown),
        ] {
            readiness.require_list(kind, watch::channel(known).1);
        }
        readiness.complete();
        assert_eq!(
            readiness.examine().to_string(),
            "not ready\n\
             default cluster: ok\n\
             source cluster: does not answer since 2026-01-01T00:00:00Z: connection refused\n\
             dns cluster: not contacted yet\n\
             target cluster: refuses requests since 2026-01-01T00:00:00Z: GET /version is answered with 401\n\
             list of Certificates: ok\n\
             list of Gateways: ok\n\
             list of Ingresses: no right to list and watch\n\
             list of Secrets: not complete yet\n"
        );
    }
}
