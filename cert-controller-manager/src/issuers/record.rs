//! What this process knows of each issuer, in memory.

use std::{collections::HashMap, sync::Arc};

use jiff::SignedDuration;
use parking_lot::{Mutex, MutexGuard};

use super::{built::BuiltIssuer, quota::Quota};
use crate::api::{Issuer, IssuerKey};

/// The records of all issuers.
#[derive(Default)]
pub struct IssuerRecords(Mutex<HashMap<IssuerKey, IssuerRecord>>);

/// Generation of the specification, and the error.
pub(super) type NotifiedState = (Option<i64>, Option<String>);

/// See the [module](self).
#[derive(Default)]
pub(super) struct IssuerRecord {
    /// The Issuer, if it exists.
    pub(super) issuer: Option<Arc<Issuer>>,
    /// What the issuer in the registry was made of.
    pub(super) built: Option<BuiltIssuer>,
    pub(super) quota: Option<Arc<Quota>>,
    /// Delay of the last retry.
    pub(super) wait: Option<SignedDuration>,
    /// The state that Certificates were last notified of.
    pub(super) notified: Option<NotifiedState>,
}

impl IssuerRecords {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<IssuerKey, IssuerRecord>> {
        self.0.lock()
    }

    /// Calls a function with the record of an issuer, which is created if there is none.
    pub(super) fn change<R>(
        &self,
        key: &IssuerKey,
        change: impl FnOnce(&mut IssuerRecord) -> R,
    ) -> R {
        change(self.lock().entry(key.clone()).or_default())
    }

    /// The Issuer, if it exists.
    pub(super) fn issuer(&self, key: &IssuerKey) -> Option<Arc<Issuer>> {
        self.lock().get(key)?.issuer.clone()
    }

    /// Stores an Issuer that was watched or written. Returns the previous one.
    pub(super) fn put(&self, key: &IssuerKey, issuer: Arc<Issuer>) -> Option<Arc<Issuer>> {
        self.change(key, |record| record.issuer.replace(issuer))
    }

    /// Forgets everything but the Issuer itself, which may be of another class now.
    pub(super) fn forget(&self, key: &IssuerKey) {
        let mut records = self.lock();
        if let Some(mut record) = records.remove(key)
            && let Some(issuer) = record.issuer.take()
        {
            let issuer = Some(issuer);
            records.insert(key.clone(), IssuerRecord { issuer, ..IssuerRecord::default() });
        }
    }
}
