//! What this process remembers of each Certificate, in memory. Everything that must survive a restart is
//! in the status or in Secrets.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use super::{
    admission::Ticket, known_record::KnownRecord, retry_state::RetryState, schedule::Schedule,
};
use crate::api::CertificateKey;

/// The records of all Certificates. Forgetting a Certificate is one removal.
#[derive(Clone, Default)]
pub struct CertificateRecords(Arc<Mutex<HashMap<CertificateKey, CertificateRecord>>>);

/// See the [module](self).
#[derive(Default)]
pub(super) struct CertificateRecord {
    /// Hash of the uid of the Certificate, once known. A new Certificate can have the same name.
    pub(super) uid: Option<u64>,
    /// notBefore of the certificate that this process issued last.
    pub(super) issued: Option<Timestamp>,
    /// Failures and retries, if there are any.
    pub(super) retry: Option<Box<RetryState>>,
    /// When to ask the CA for renewal information.
    pub(super) renewal: Option<Schedule>,
    /// Whether the issuer issued the certificate in the Secret.
    pub(super) issuance: Option<Box<KnownRecord>>,
    /// When this process first observed the deletion.
    pub(super) deletion: Option<Timestamp>,
    /// Its position in a queue of admission.
    pub(super) ticket: Option<Box<Ticket>>,
}

impl CertificateRecords {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<CertificateKey, CertificateRecord>> {
        self.0.lock()
    }

    /// Calls a function with the record of a Certificate, which is created if there is none.
    pub(super) fn change<R>(
        &self,
        key: &CertificateKey,
        change: impl FnOnce(&mut CertificateRecord) -> R,
    ) -> R {
        change(self.lock().entry(key.clone()).or_default())
    }

    /// Calls a function with the record of a Certificate, if there is one.
    pub(super) fn with<R>(
        &self,
        key: &CertificateKey,
        call: impl FnOnce(&mut CertificateRecord) -> Option<R>,
    ) -> Option<R> {
        self.lock().get_mut(key).and_then(call)
    }

    /// Forgets what is known of a previous Certificate with the same name. If a Certificate is deleted
    /// and recreated at once, no pass observes its absence.
    pub fn forget_other_uid(&self, key: &CertificateKey, uid: Option<&str>) {
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        let uid = hasher.finish();
        let mut records = self.lock();
        let Some(record) = records.get_mut(key) else { return };
        if record.uid.is_some_and(|known| known != uid) {
            let previous = records.remove(key);
            drop(records);
            drop(previous);
        } else {
            record.uid = Some(uid);
        }
    }

    /// Takes the position in a queue of admission, for one pass.
    #[must_use]
    pub fn take_ticket(&self, key: &CertificateKey) -> Option<Ticket> {
        self.with(key, |record| record.ticket.take()).map(|ticket| *ticket)
    }

    /// Keeps the position in a queue of admission until the next pass.
    pub fn keep_ticket(&self, key: &CertificateKey, ticket: Ticket) {
        self.change(key, |record| record.ticket = Some(Box::new(ticket)));
    }

    /// Forgets everything of a Certificate that is being deleted, except when that was first observed.
    pub(super) fn forget_all_but_deletion(&self, key: &CertificateKey) {
        let previous = self.with(key, |record| {
            let (uid, deletion) = (record.uid, record.deletion);
            let kept = CertificateRecord { uid, deletion, ..CertificateRecord::default() };
            Some(std::mem::replace(record, kept))
        });
        drop(previous);
    }

    /// Removes the record of a deleted Certificate.
    pub fn forget(&self, key: &CertificateKey) {
        let record = self.lock().remove(key);
        drop(record);
    }
}
