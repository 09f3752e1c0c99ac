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
        request: &AccountRequest<'_>,
        secret: &ObjectKey,
        stored: StoredKey,
    ) -> Result<Rotated, IssuerError> {
        let requested = requests_rotation(request.issuer);
        if stored.next.is_none() && !requested {
            return Ok(stored.into());
        }
        let stored = match stored.next {
            Some(_) => stored,
            None => match self.store_next_key(key, request, secret, &stored).await? {
                Some(stored) => stored,
                None => return Ok(stored.into()),
            },
        };
        if requested {
            let removed = self.remove_operation_annotation(key, request.issuer).await;
            removed.map_err(|error| IssuerError::cluster("taking the annotation off", &error))?;
        }
        // Whoever signs with the old key while it is changed may be refused.
        let before = self.registry.lookup(key);
        let why = "the key of the account is being changed".to_owned();
        self.registry.put(key, Lookup::NotReady(why));
        lock(&self.known.notified).remove(key);
        if let Lookup::Ready { issuer, .. } = before {
            wait_until_unused(&issuer).await;
        }
        self.roll_over_key(key, request, secret, stored).await
    }

    /// Stores the new key; `None` where there is nothing to do.
    async fn store_next_key(
        &self,
        key: &IssuerKey,
        request: &AccountRequest<'_>,
        secret: &ObjectKey,
        stored: &StoredKey,
    ) -> Result<Option<StoredKey>, IssuerError> {
        // What we know of the Issuer may be old, and one annotation is one change.
        let name = request.issuer.name_any();
        let now = self.api(key).get_opt(&name).await;
        let now = now.map_err(|error| IssuerError::cluster("reading the Issuer", &error))?;
        if !now.as_ref().is_some_and(requests_rotation) {
            return Ok(None);
        }
        let directory =
            request.ca.directory().await.map_err(|error| rotation_error(&error.into()))?;
        if directory.key_change.is_none() {
            self.report_unchanged(key, request.issuer, &AccountError::NoKeyChange);
            if let Err(error) = self.remove_operation_annotation(key, request.issuer).await {
                tracing::warn!(issuer = %key, "issuer {key}: {} cannot be taken off: {}", well_known::OPERATION, brief(&error));
            }
            return Ok(None);
        }
        secret::store_next(request.client, secret, stored).await.map(Some)
    }

    /// Makes the CA take the key that is stored as the next one, or gives it up.
    async fn roll_over_key(
        &self,
        key: &IssuerKey,
        request: &AccountRequest<'_>,
        name: &ObjectKey,
        stored: StoredKey,
    ) -> Result<Rotated, IssuerError> {
        let Some(next) = &stored.next else { return Ok(stored.into()) };
        let status = request.issuer.status.as_ref().and_then(|status| status.acme.as_ref());
        let known = status.and_then(|it| account::url_at(it, &request.spec.server));
        let roll = || roll_over(request.ca, &stored.key, next, known);
        let outcome = match roll().await {
            // The CA has lost the account, or never had it.
            Err(AccountError::NotRegistered) => {
                request.register(&stored).await?;
                roll_over(request.ca, &stored.key, next, None).await
            }
            outcome => outcome,
        };
        match outcome.map_err(|error| rotation_error(&error))? {
            Rollover::Changed(account) => {
                let stored = secret::promote_next(request.client, name, &stored, next).await?;
                self.report_changed(key, request.issuer, &account);
                let registration = account::with_key(status, &account, &stored.hash);
                Ok(Rotated { stored, registration: Some(registration) })
            }
            Rollover::Refused(why) => {
                self.report_unchanged(key, request.issuer, &why);
                Ok(secret::drop_next(request.client, name, &stored).await?.into())
            }
        }
    }

    fn report_changed(&self, key: &IssuerKey, issuer: &Issuer, account: &Account) {
        let url = account.url();
        tracing::info!(issuer = %key, account = %url, "issuer {key}: account {url} has another key");
        let note = format!("the account {url} has another key");
        self.events(key).normal(issuer.object_ref(&()), "AccountKeyChanged", &note);
    }

    fn report_unchanged(&self, key: &IssuerKey, issuer: &Issuer, why: &AccountError) {
        tracing::warn!(issuer = %key, "issuer {key}: the account keeps its key: {why}");
        let note = format!("the account keeps its key: {why}");
        self.events(key).warning(issuer.object_ref(&()), "AccountKeyNotChanged", &note);
    }
}

/// Waits until no order is being taken further with what issued before, for as long as a request may
/// take: nobody gets it any more.
async fn wait_until_unused(issuer: &Arc<dyn cert_lib::issue::Issuer>) {
    let deadline = Instant::now() + MAX_REQUEST_TIME;
    while Arc::strong_count(issuer) > 1 && Instant::now() < deadline {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

const MAX_REQUEST_TIME: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

fn rotation_error(error: &AccountError) -> IssuerError {
    IssuerError::account("changing the account key", error)
}

fn requests_rotation(issuer: &Issuer) -> bool {
    let operation = issuer.annotations().get(well_known::OPERATION);
    operation.is_some_and(|operation| operation == well_known::ROTATE_ACCOUNT_KEY)
}
