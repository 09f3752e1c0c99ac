//! Another key for an account, when a person asks for it by annotation.
//!
//! What was asked for is in the account Secret from before the CA hears of it, as `nextPrivateKey`; so
//! whoever finds that key there finishes what was begun, after a crash at any instant. The annotation
//! goes when the key is stored: one annotation is one change.

use std::{sync::Arc, time::Duration};

use cert_lib::acme::account::{
    Account, AccountError,
    rollover::{Rollover, roll_over},
};
use kube::{Resource, ResourceExt};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    account::{self, AccountRequest, IssuerError, StoredKey, secret},
    reconcile::{Controller, lock},
    registry::Lookup,
};
use crate::{
    api::{Issuer, IssuerKey, ObjectKey, well_known},
    runtime::errors::brief,
};

/// The key that counts after a look at what was asked for.
pub(super) struct Rotated {
    pub(super) stored: StoredKey,
    /// What the status shall remember, where the key was changed now.
    pub(super) registration: Option<Value>,
}

impl From<StoredKey> for Rotated {
    fn from(stored: StoredKey) -> Self {
        Self { stored, registration: None }
    }
}

impl Controller {
    /// Changes the key of the account where that was asked for or begun.
    pub(super) async fn rotate(
        &self,
        key: &IssuerKey,
        applicant: &AccountRequest<'_>,
        secret: &ObjectKey,
        stored: StoredKey,
    ) -> Result<Rotated, IssuerError> {
        let asked = is_asked(applicant.issuer);
        if stored.next.is_none() && !asked {
            return Ok(stored.into());
        }
        let stored = match stored.next {
            Some(_) => stored,
            None => match self.begin(key, applicant, secret, &stored).await? {
                Some(begun) => begun,
                None => return Ok(stored.into()),
            },
        };
        if asked {
            let off = self.take_off_operation(key, applicant.issuer).await;
            off.map_err(|error| IssuerError::cluster("taking the annotation off", &error))?;
        }
        // Whoever signs with the old key while it is changed may be refused.
        let before = self.registry.lookup(key);
        let why = "the key of the account is being changed".to_owned();
        self.registry.put(key, Lookup::NotReady(why));
        lock(&self.known.announced).remove(key);
        if let Lookup::Ready { issuer, .. } = before {
            until_unused(&issuer).await;
        }
        self.finish(key, applicant, secret, stored).await
    }

    /// Stores the new key; `None` where there is nothing to do.
    async fn begin(
        &self,
        key: &IssuerKey,
        applicant: &AccountRequest<'_>,
        secret: &ObjectKey,
        stored: &StoredKey,
    ) -> Result<Option<StoredKey>, IssuerError> {
        // What we know of the Issuer may be old, and one annotation is one change.
        let name = applicant.issuer.name_any();
        let now = self.api(key).get_opt(&name).await;
        let now = now.map_err(|error| IssuerError::cluster("reading the Issuer", &error))?;
        if !now.as_ref().is_some_and(is_asked) {
            return Ok(None);
        }
        let directory = applicant.ca.directory().await.map_err(|error| changing(&error.into()))?;
        if directory.key_change.is_none() {
            self.not_changed(key, applicant.issuer, &AccountError::NoKeyChange);
            if let Err(error) = self.take_off_operation(key, applicant.issuer).await {
                tracing::warn!(issuer = %key, "issuer {key}: {} cannot be taken off: {}", well_known::OPERATION, brief(&error));
            }
            return Ok(None);
        }
        secret::store_next(applicant.home, secret, stored).await.map(Some)
    }

    /// Makes the CA take the key that is stored as the next one, or gives it up.
    async fn finish(
        &self,
        key: &IssuerKey,
        applicant: &AccountRequest<'_>,
        name: &ObjectKey,
        stored: StoredKey,
    ) -> Result<Rotated, IssuerError> {
        let Some(next) = &stored.next else { return Ok(stored.into()) };
        let status = applicant.issuer.status.as_ref().and_then(|status| status.acme.as_ref());
        let known = status.and_then(|it| account::url_at(it, &applicant.spec.server));
        let roll = || roll_over(applicant.ca, &stored.key, next, known);
        let outcome = match roll().await {
            // The CA has lost the account, or never had it.
            Err(AccountError::NotRegistered) => {
                applicant.register(&stored).await?;
                roll_over(applicant.ca, &stored.key, next, None).await
            }
            outcome => outcome,
        };
        match outcome.map_err(|error| changing(&error))? {
            Rollover::Changed(account) => {
                let stored = secret::promote_next(applicant.home, name, &stored, next).await?;
                self.changed_key(key, applicant.issuer, &account);
                let registration = account::with_key(status, &account, &stored.hash);
                Ok(Rotated { stored, registration: Some(registration) })
            }
            Rollover::Refused(why) => {
                self.not_changed(key, applicant.issuer, &why);
                Ok(secret::drop_next(applicant.home, name, &stored).await?.into())
            }
        }
    }

    fn changed_key(&self, key: &IssuerKey, issuer: &Issuer, account: &Account) {
        let url = account.url();
        tracing::info!(issuer = %key, account = %url, "issuer {key}: account {url} has another key");
        let note = format!("the account {url} has another key");
        self.reports(key).normal(issuer.object_ref(&()), "AccountKeyChanged", &note);
    }

    fn not_changed(&self, key: &IssuerKey, issuer: &Issuer, why: &AccountError) {
        tracing::warn!(issuer = %key, "issuer {key}: the account keeps its key: {why}");
        let note = format!("the account keeps its key: {why}");
        self.reports(key).warning(issuer.object_ref(&()), "AccountKeyNotChanged", &note);
    }
}

/// Waits until no order is being taken further with what issued before, for as long as a request may
/// take: nobody gets it any more.
async fn until_unused(issuer: &Arc<dyn cert_lib::issue::Issuer>) {
    let deadline = Instant::now() + LONGEST_REQUEST;
    while Arc::strong_count(issuer) > 1 && Instant::now() < deadline {
        tokio::time::sleep(PAUSE).await;
    }
}

const LONGEST_REQUEST: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

fn changing(error: &AccountError) -> IssuerError {
    IssuerError::account("changing the account key", error)
}

fn is_asked(issuer: &Issuer) -> bool {
    let operation = issuer.annotations().get(well_known::OPERATION);
    operation.is_some_and(|operation| operation == well_known::ROTATE_ACCOUNT_KEY)
}
