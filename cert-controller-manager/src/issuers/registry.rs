//! All issuers with their readiness. The issuer controller writes it, the other controllers read
//! it.

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
use crate::{api::IssuerKey, runtime::queue::Shared};

/// All issuers. See the [module](self).
pub struct Registry {
    rules: Rules,
    entries: RwLock<HashMap<IssuerKey, Lookup>>,
    /// All issuers that this manager serves, ready or not.
    candidates: RwLock<Arc<Vec<Candidate>>>,
    rechecks: Mutex<IssuerRechecks>,
    /// Queue of the issuer controller.
    queue: Shared<IssuerKey>,
}

/// The state of an issuer.
#[derive(Clone)]
pub enum Lookup {
    /// The issuer does not exist or is not served.
    Missing,
    /// The issuer controller has not checked the issuer yet, as the process has just started.
    Unknown,
    /// The issuer cannot issue, for this reason.
    NotReady(String),
    /// The issuer can issue.
    Ready {
        /// Issues certificates.
        issuer: Arc<dyn Issuer>,
        /// Daily quota; `None` if the issuer has none.
        quota: Option<Arc<Quota>>,
    },
}

impl Lookup {
    /// The daily quota of an issuer that is ready and has one.
    #[must_use]
    pub fn quota(self) -> Option<Arc<Quota>> {
        match self {
            Self::Ready { quota, .. } => quota,
            Self::Missing | Self::Unknown | Self::NotReady(_) => None,
        }
    }
}

impl Registry {
    /// An empty registry. Issuers that need a check are put into `queue`.
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

    /// Rules for the selection of issuers.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Queues a pass for the issuer.
    pub fn wake(&self, key: &IssuerKey) {
        self.queue.push(key.clone());
    }

    /// Selects the issuer for a Certificate.
    #[must_use]
    pub fn select(&self, query: &IssuerQuery) -> Selection {
        let candidates = self.candidates.read().unwrap_or_else(PoisonError::into_inner).clone();
        select(&self.rules, &candidates, query)
    }

    /// The state of the issuer `key`.
    #[must_use]
    pub fn lookup(&self, key: &IssuerKey) -> Lookup {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).cloned().unwrap_or(Lookup::Missing)
    }

    /// Whether the registry still has this instance for `key`.
    #[must_use]
    pub fn still_offers(&self, key: &IssuerKey, issuer: &Arc<dyn Issuer>) -> bool {
        matches!(self.lookup(key), Lookup::Ready { issuer: now, .. } if Arc::ptr_eq(&now, issuer))
    }

    /// Requests a check of an issuer after an order has failed. The issuer stays ready until then:
    /// the reason may have been this order only.
    pub fn recheck(&self, key: &IssuerKey, why: String) {
        self.rechecks().add(key, why);
        self.queue.push(key.clone());
    }

    /// Takes the reason for a requested check; `None` if there is none or the last check was too
    /// recent.
    pub(super) fn take_recheck(&self, key: &IssuerKey, now: Timestamp) -> Option<String> {
        self.rechecks().take(key, now)
    }

    /// The check has registered a new account, so the next one is delayed longer.
    pub(super) fn account_created(&self, key: &IssuerKey, now: Timestamp) {
        self.rechecks().account_created(key, now);
    }

    /// Whether a deactivated account may be replaced now.
    pub(super) fn may_replace_account(&self, key: &IssuerKey, now: Timestamp) -> bool {
        self.rechecks().may_replace(key, now)
    }

    /// A deactivated account was replaced.
    pub(super) fn replaced_account(&self, key: &IssuerKey, now: Timestamp) {
        self.rechecks().replaced(key, now);
    }

    fn rechecks(&self) -> MutexGuard<'_, IssuerRechecks> {
        self.rechecks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds or updates an issuer as a candidate for the selection. Its state is unknown until the
    /// controller sets it.
    pub(crate) fn add_candidate(&self, candidate: Candidate) {
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

    /// Removes an issuer that was deleted or is no longer served.
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

    /// Sets the state of an issuer.
    pub(crate) fn put(&self, key: &IssuerKey, lookup: Lookup) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.insert(key.clone(), lookup);
    }
}
