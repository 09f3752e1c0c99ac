//! A [`Solver`] on any [`DnsRecords`]: [`DnsRecordsSolver`].
//!
//! Publishes the values, checks that they are visible, and adds them again if they stay invisible,
//! because another client may have removed them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::DnsRecords;
use crate::{
    clock::Clock,
    model::name::DnsName,
    net::Resolver,
    solve::{
        Owner, Proof, Readiness, SolveError, Solver,
        dns01::{DelegationError, Propagation, PropagationWaits, WaitState},
    },
};

/// See the [module](self). Clones share the state.
#[derive(Clone)]
pub struct DnsRecordsSolver {
    records: Arc<dyn DnsRecords>,
    propagation: Arc<Propagation>,
    resolver: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
    additional_wait: Option<SignedDuration>,
    waits: Arc<PropagationWaits>,
    additions: Arc<Mutex<HashMap<Owner, Addition>>>,
}

/// When the values of an owner were added last.
#[derive(Clone, Copy)]
struct Addition {
    at: Timestamp,
    /// How long they may be invisible before they are added again.
    patience: SignedDuration,
}

impl DnsRecordsSolver {
    /// A solver that writes to `records` and checks with `propagation` through `resolver`.
    #[must_use]
    pub fn new(
        records: Arc<dyn DnsRecords>,
        propagation: Arc<Propagation>,
        resolver: Arc<dyn Resolver>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let waits = Arc::new(PropagationWaits::new(clock.clone()));
        let (additional_wait, additions) = (None, Arc::default());
        Self { records, propagation, resolver, clock, additional_wait, waits, additions }
    }

    /// The same solver with another server, for example with other credentials.
    #[must_use]
    pub fn with_records(&self, records: Arc<dyn DnsRecords>) -> Self {
        Self { records, ..self.clone() }
    }

    /// The same solver with another propagation check.
    #[must_use]
    pub fn with_propagation(&self, propagation: Arc<Propagation>) -> Self {
        Self { propagation, ..self.clone() }
    }

    /// The same solver with the manager's wait after the values are visible. A wait of the
    /// propagation check has precedence.
    #[must_use]
    pub fn with_additional_wait(&self, additional_wait: Option<SignedDuration>) -> Self {
        Self { additional_wait, ..self.clone() }
    }

    /// Forgets the state of `owner`. [`cleanup`](Solver::cleanup) does that, too.
    pub fn forget(&self, owner: &Owner) {
        self.waits.remove(owner);
        self.additions(|additions| additions.remove(owner));
    }

    async fn add(&self, proofs: &[Proof]) -> Result<(), SolveError> {
        self.each(proofs, |fqdn, values| self.records.add(fqdn, values)).await
    }

    /// Runs `call` for all proofs with values. A failure does not prevent the other calls. Returns
    /// the error that needs a user, if any, before others.
    async fn each<'a, F>(
        &'a self,
        proofs: &'a [Proof],
        call: impl Fn(&'a DnsName, &'a [String]) -> F,
    ) -> Result<(), SolveError>
    where
        F: Future<Output = Result<(), SolveError>>,
    {
        let published = proofs.iter().filter_map(Proof::txt).filter(|(_, it)| !it.is_empty());
        let calls: Vec<F> = published.map(|(fqdn, values)| call(fqdn, values)).collect();
        let calls = stream::iter(calls).buffer_unordered(PARALLEL);
        let worse = async |all, one| match (&all, &one) {
            (Ok(()), _)
            | (
                Err(SolveError::Unavailable(_)),
                Err(SolveError::Misconfigured(_) | SolveError::CredentialRefused(_)),
            ) => one,
            _ => all,
        };
        calls.fold(Ok(()), worse).await
    }

    /// Whether values that are invisible shall be added again now. The intervals double.
    fn is_addition_due(&self, owner: &Owner) -> bool {
        let now = self.clock.now();
        self.additions(|additions| {
            let first = || Addition { at: now, patience: FIRST_PATIENCE };
            let addition = additions.entry(owner.clone()).or_insert_with(first);
            let due = now.duration_since(addition.at) >= addition.patience;
            if due {
                let patience = addition.patience.saturating_mul(2).min(LAST_PATIENCE);
                *addition = Addition { at: now, patience };
            }
            due
        })
    }

    fn additions<T>(&self, access: impl FnOnce(&mut HashMap<Owner, Addition>) -> T) -> T {
        access(&mut self.additions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Solver for DnsRecordsSolver {
    async fn follow(&self, _: &Owner, challenge: &DnsName) -> Result<DnsName, SolveError> {
        let followed = self.propagation.follow(self.resolver.as_ref(), challenge).await;
        followed.map_err(DelegationError::into_solve_error)
    }

    async fn present(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        proofs.iter().try_for_each(|proof| proof.require_txt().map(drop))?;
        self.add(proofs).await?;
        self.waits.restart(owner);
        let addition = Addition { at: self.clock.now(), patience: FIRST_PATIENCE };
        self.additions(|additions| additions.insert(owner.clone(), addition));
        Ok(())
    }

    async fn ready(&self, owner: &Owner, proofs: &[Proof]) -> Result<Readiness, SolveError> {
        let (propagation, resolver) = (self.propagation.as_ref(), self.resolver.as_ref());
        let wait = self.additional_wait;
        let mut state = self.waits.check(owner, proofs, propagation, resolver, wait).await;
        if let WaitState::NotVisible { why, .. } = &mut state
            && self.is_addition_due(owner)
        {
            match self.add(proofs).await {
                Ok(()) => {}
                Err(SolveError::Unavailable(error) | SolveError::CredentialRefused(error)) => {
                    *why = format!("{why}; adding the values again failed: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(state.into())
    }

    async fn cleanup(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        self.forget(owner);
        self.each(proofs, |fqdn, values| self.records.remove(fqdn, values)).await
    }

    fn stores_proofs(&self) -> bool {
        true
    }

    fn propagation_timeout(
        &self,
        _: &Owner,
        _: &[Proof],
        default: SignedDuration,
    ) -> SignedDuration {
        self.propagation.timeout(default)
    }
}

/// Calls at once for one owner: a certificate may have a hundred names.
const PARALLEL: usize = 8;
/// Secondaries of most zones are up to date by then.
const FIRST_PATIENCE: SignedDuration = SignedDuration::from_secs(30);
const LAST_PATIENCE: SignedDuration = SignedDuration::from_mins(16);

#[cfg(test)]
mod tests;
