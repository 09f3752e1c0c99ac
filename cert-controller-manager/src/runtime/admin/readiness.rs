//! Whether everything is there that the manager needs: caches that are complete, clusters that
//! answer. Not being ready is no reason to restart; it says what is missing. A standby is ready, too.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::runtime::{
    clusters::{Reachability, Role},
    watch::Availability,
};

/// All conditions. Clones share them.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// All conditions are known.
    complete: bool,
    checks: Vec<(String, Arc<Check>)>,
}

type Check = dyn Fn() -> Result<(), String> + Send + Sync;

/// What the conditions say at one instant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report(Vec<(String, Result<(), String>)>);

impl Readiness {
    /// Not ready as long as `check` has an objection. It is asked with every question and must be
    /// quick: it looks at what is known and asks nobody.
    pub fn require(
        &self,
        name: impl Into<String>,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.lock().checks.push((name.into(), Arc::new(check)));
    }

    /// Not ready as long as the cluster of this role does not answer.
    pub fn require_cluster(&self, role: Role, reachability: watch::Receiver<Reachability>) {
        self.require(format!("{} cluster", role.name()), move || match &*reachability.borrow() {
            Reachability::Reachable => Ok(()),
            Reachability::Unknown => Err("was not asked yet".to_owned()),
            Reachability::Refused { since, why } => {
                Err(format!("refuses us since {since:.0}: {why}"))
            }
            Reachability::Away { since, why } => {
                Err(format!("does not answer since {since:.0}: {why}"))
            }
        });
    }

    /// Not ready as long as `list` is not known. A kind that does not exist has an empty list.
    pub fn require_list(&self, list: &str, availability: watch::Receiver<Availability>) {
        self.require(format!("list of {list}"), move || match *availability.borrow() {
            Availability::Present | Availability::Absent => Ok(()),
            Availability::Unknown => Err("not complete yet".to_owned()),
            Availability::Denied => Err("no right to list and watch".to_owned()),
        });
    }

    /// All conditions are known. Before this the process starts and is not ready.
    pub fn complete(&self) {
        self.lock().complete = true;
    }

    /// Asks all.
    #[must_use]
    pub fn examine(&self) -> Report {
        let (complete, checks) = {
            let state = self.lock();
            (state.complete, state.checks.clone())
        };
        let start = (!complete).then(|| ("start".to_owned(), Err("not finished yet".to_owned())));
        let asked = checks.into_iter().map(|(name, check)| (name, check()));
        Report(start.into_iter().chain(asked).collect())
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
    /// Whether nothing is missing.
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
    fn a_process_is_ready_when_it_knows_its_conditions_and_all_of_them_hold() {
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
    fn what_is_missing_of_clusters_and_lists_is_said_in_words() {
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
             dns cluster: was not asked yet\n\
             target cluster: refuses us since 2026-01-01T00:00:00Z: GET /version is answered with 401\n\
             list of Certificates: ok\n\
             list of Gateways: ok\n\
             list of Ingresses: no right to list and watch\n\
             list of Secrets: not complete yet\n"
        );
    }
}
