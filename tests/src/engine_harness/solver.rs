//! A solver that only records what it publishes: for a CA that takes every challenge as met.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use cert_lib::solve::{Owner, Proof, Readiness, SolveError, Solver};

/// See the [module](self).
#[derive(Debug, Default)]
pub struct RecordStore(Mutex<BTreeSet<String>>);

impl RecordStore {
    /// The names under which something is published.
    #[must_use]
    pub fn published(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Solver for RecordStore {
    async fn present(&self, _: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        self.lock().extend(proofs.iter().map(name_of));
        Ok(())
    }

    async fn ready(&self, _: &Owner, _: &[Proof]) -> Result<Readiness, SolveError> {
        Ok(Readiness::Ready)
    }

    async fn cleanup(&self, _: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        let gone: Vec<String> = proofs.iter().map(name_of).collect();
        self.lock().retain(|name| !gone.contains(name));
        Ok(())
    }
}

/// The `Debug` text without the number of values: `Txt(_acme-challenge.example.org`.
fn name_of(proof: &Proof) -> String {
    let text = format!("{proof:?}");
    text.split(',').next().unwrap_or_default().to_owned()
}
