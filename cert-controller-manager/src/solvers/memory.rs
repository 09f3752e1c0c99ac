//! A solver in memory, for tests.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cert_lib::{
    model::name::DnsName,
    solve::{Owner, Proof, Readiness, SolveError, Solver, dns01::Propagation},
};
use tokio::sync::watch;

use super::entry::SolverEntry;
use crate::runtime::watch::Availability;

/// Records its calls. Clones share the state.
#[derive(Clone)]
pub(super) struct MemorySolver {
    calls: Arc<Mutex<Vec<String>>>,
    failure: Arc<Mutex<Option<String>>>,
    target: Arc<Mutex<Option<DnsName>>>,
    ready: Arc<Mutex<Readiness>>,
    availability: Arc<watch::Sender<Availability>>,
}

impl Default for MemorySolver {
    fn default() -> Self {
        Self {
            calls: Arc::default(),
            failure: Arc::default(),
            target: Arc::default(),
            ready: Arc::new(Mutex::new(Readiness::Ready)),
            availability: Arc::new(watch::Sender::new(Availability::Present)),
        }
    }
}

impl MemorySolver {
    /// Sets the availability.
    pub(super) fn set(&self, availability: Availability) {
        self.availability.send_replace(availability);
    }

    /// Lets all calls fail.
    pub(super) fn fail(&self, why: &str) {
        *self.failure.lock().unwrap() = Some(why.to_owned());
    }

    /// Sets the target of all CNAMEs.
    pub(super) fn lead_to(&self, target: DnsName) {
        *self.target.lock().unwrap() = Some(target);
    }

    /// Sets the result of checks.
    pub(super) fn see(&self, readiness: Readiness) {
        *self.ready.lock().unwrap() = readiness;
    }

    /// All calls since the last time.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn call(&self, what: &str, proofs: &[Proof]) -> Result<(), SolveError> {
        let names = proofs.iter().filter_map(Proof::txt).map(|(fqdn, _)| format!(" {fqdn}"));
        self.calls.lock().unwrap().push(format!("{what}{}", names.collect::<String>()));
        self.failure.lock().unwrap().clone().map_or(Ok(()), |why| Err(SolveError::Unavailable(why)))
    }
}

#[async_trait]
impl SolverEntry for MemorySolver {
    fn unavailable(&self) -> Option<String> {
        let availability = *self.availability.borrow();
        (availability != Availability::Present).then(|| format!("{availability:?}"))
    }

    fn changes(&self) -> Option<watch::Receiver<Availability>> {
        Some(self.availability.subscribe())
    }

    fn solver(&self, _: Option<&Arc<Propagation>>) -> Arc<dyn Solver> {
        Arc::new(self.clone())
    }

    async fn sweep(&self, owner: &Owner) -> Result<(), SolveError> {
        self.call(&format!("sweep {}", owner.0), &[])
    }
}

#[async_trait]
impl Solver for MemorySolver {
    async fn follow(&self, _: &Owner, challenge: &DnsName) -> Result<DnsName, SolveError> {
        Ok(self.target.lock().unwrap().clone().unwrap_or_else(|| challenge.clone()))
    }

    async fn present(&self, _: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        self.call("present", proofs)
    }

    async fn ready(&self, _: &Owner, proofs: &[Proof]) -> Result<Readiness, SolveError> {
        self.call("ready", proofs)?;
        Ok(self.ready.lock().unwrap().clone())
    }

    async fn cleanup(&self, _: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        self.call("cleanup", proofs)
    }
}
