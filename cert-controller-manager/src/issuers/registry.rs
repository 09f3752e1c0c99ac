//! The issuers that can issue, and why the others cannot. One writer, the issuers' controller;
//! Certificates look things up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use cert_lib::issue::Issuer;
use jiff::Timestamp;

use super::{
    quota::Quota,
    recheck::IssuerRechecks,
    selection::{Candidate, IssuerQuery, Rules, Selection, select},
};
use crate::{
    api::{CertificateKey, IssuerKey},
    runtime::queue::Shared,
};

/// See the [module](self).
pub struct Registry {
    rules: Rules,
    entries: RwLock<HashMap<IssuerKey, Lookup>>,
    /// All issuers that are ours to serve, whether or not they can issue.
    candidates: RwLock<Arc<Vec<Candidate>>>,
    rechecks: Mutex<IssuerRechecks>,
    /// The issuers' controller.
    queue: Shared<IssuerKey>,
}

/// What is known of an issuer.
#[derive(Clone)]
pub enum Lookup {
    /// There is none of this name.
    Missing,
    /// There is one, and its controller has not looked at it yet: the process has just started.
    Unknown,
    /// There is one, but it cannot issue; the text says why.
    NotReady(String),
    /// It can issue.
    Ready {
        /// What issues.
        issuer: Arc<dyn Issuer>,
        /// Whether it needs a place to publish DNS records in.
        needs_dns: bool,
        /// How much it may issue in a day; `None` where nobody counts.
        quota: Option<Arc<Quota>>,
    },
}

impl Registry {
    /// An empty registry; whoever is doubted is put into `queue`.
    #[must_use]
    pub fn new(rules: Rules, queue: Shared<IssuerKey>) -> Self {
        Self {
            rules,
            entries: RwLock::default(),
            candidates: RwLock::default(),
            rechecks: Mutex::default(),
            queue,
        }
    }

    /// What holds for the choice of issuers.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Its controller has something to do for this issuer.
    pub fn wake(&self, key: &IssuerKey) {
        self.queue.push(key.clone());
    }

    /// The issuer that a Certificate means.
    #[must_use]
    pub fn select(&self, query: &IssuerQuery) -> Selection {
        let candidates = self.candidates.read().unwrap_or_else(PoisonError::into_inner).clone();
        select(&self.rules, &candidates, query)
    }

    /// What is known of the issuer `key`.
    #[must_use]
    pub fn lookup(&self, key: &IssuerKey) -> Lookup {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).cloned().unwrap_or(Lookup::Missing)
    }

    /// Whether `issuer` is what issues for `key` now.
    #[must_use]
    pub fn still_offers(&self, key: &IssuerKey, issuer: &Arc<dyn Issuer>) -> bool {
        matches!(self.lookup(key), Lookup::Ready { issuer: now, .. } if Arc::ptr_eq(&now, issuer))
    }

    /// An issuer did not work for somebody, who was told `why`: its controller asks the CA. Until then
    /// it stays what it is, as it may have been that one request.
    pub fn recheck(&self, key: &IssuerKey, why: String) {
        self.rechecks().add(key, why);
        self.queue.push(key.clone());
    }

    /// Why the issuer was doubted since this was asked last.
    pub(super) fn take_recheck(&self, key: &IssuerKey, now: Timestamp) -> Option<String> {
        self.rechecks().take(key, now)
    }

    /// A doubt was right: the account had to be made anew.
    pub(super) fn account_created(&self, key: &IssuerKey, now: Timestamp) {
        self.rechecks().account_created(key, now);
    }

    /// Whether an account that was deactivated may be replaced now.
    pub(super) fn may_replace_account(&self, key: &IssuerKey, now: Timestamp) -> bool {
        self.rechecks().may_replace(key, now)
    }

    /// An account that was deactivated was replaced.
    pub(super) fn replaced_account(&self, key: &IssuerKey, now: Timestamp) {
        self.rechecks().replaced(key, now);
    }

    fn rechecks(&self) -> MutexGuard<'_, IssuerRechecks> {
        self.rechecks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Certificate wants nothing more of any issuer.
    pub fn leave_quotas(&self, certificate: &CertificateKey) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        for lookup in entries.values() {
            if let Lookup::Ready { quota: Some(quota), .. } = lookup {
                quota.leave(certificate);
            }
        }
    }

    /// There is an issuer, and this is what it candidates; its controller will say more.
    pub(super) fn add_candidate(&self, candidate: Candidate) {
        {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            entries.entry(candidate.key.clone()).or_insert(Lookup::Unknown);
        }
        let mut candidates = self.candidates.write().unwrap_or_else(PoisonError::into_inner);
        if candidates.contains(&candidate) {
            return;
        }
        let candidates = Arc::make_mut(&mut candidates);
        candidates.retain(|other| other.key != candidate.key);
        candidates.push(candidate);
    }

    /// There is no such issuer any more, or it is not ours.
    pub(super) fn forget(&self, key: &IssuerKey) {
        {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            entries.remove(key);
        }
        self.rechecks().forget(key);
        let mut candidates = self.candidates.write().unwrap_or_else(PoisonError::into_inner);
        if candidates.iter().any(|candidate| candidate.key == *key) {
            Arc::make_mut(&mut candidates).retain(|candidate| candidate.key != *key);
        }
    }

    /// The controller knows more of an issuer.
    pub(super) fn put(&self, key: &IssuerKey, lookup: Lookup) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.insert(key.clone(), lookup);
    }
}
