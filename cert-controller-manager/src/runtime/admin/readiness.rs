//! Whether everything is there that the manager needs: caches that are complete, clusters that
//! answer. Not being ready is no reason to restart; it says what is missing. A standby is ready, too.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
}
