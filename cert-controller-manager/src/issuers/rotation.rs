//! Replaces account keys on request by annotation (RFC 8555 section 7.3.5).
//!
//! The new key is stored in the account Secret as `nextPrivateKey` before the CA receives it. After
//! a crash, a pass that finds this entry completes the rotation. The annotation is removed when the
//! new key is stored, so that one annotation causes one rotation.

use std::{sync::Arc, time::Duration};

use cert_lib::acme::account::{
    Account, AccountError,
    rollover::{Rollover, roll_over},
};
use kube::{Resource, ResourceExt};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    account::{self, AccountRequest, StoredKey, secret},
    controller::Controller,
    error::IssuerError,
    registry::Lookup,
};
use crate::{
    api::{Issuer, IssuerKey, ObjectKey, well_known},
    runtime::errors::brief,
};

/// The current key after a possible rotation.
pub(super) struct Rotated {
    pub(super) stored: StoredKey,
    /// The new registration for the status, if the key was replaced.
    pub(super) registration: Option<Value>,
}

impl From<StoredKey> for Rotated {
    fn from(stored: StoredKey) -> Self {
        Self { stored, registration: None }
    }
}

impl Controller {
    /// Replaces the account key if that is requested or was interrupted.
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
            removed.map_err(|error| IssuerError::cluster("removing the annotation", &error))?;
        }
        // A request that is signed with the old key during the rotation may be refused, so the
        // issuer is not ready.
        let before = self.registry.lookup(key);
        let why = "the key of the account is being changed".to_owned();
        self.registry.put(key, Lookup::NotReady(why));
        self.records.change(key, |record| record.notified = None);
        if let Lookup::Ready { issuer, .. } = before {
            wait_until_unused(&issuer).await;
        }
        self.roll_over_key(key, request, secret, stored).await
    }

    /// Stores the next key; `None` if there is nothing to do.
    async fn store_next_key(
        &self,
        key: &IssuerKey,
        request: &AccountRequest<'_>,
        secret: &ObjectKey,
        stored: &StoredKey,
    ) -> Result<Option<StoredKey>, IssuerError> {
        // The watched Issuer may be outdated, and one annotation must cause one rotation only.
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
                tracing::warn!(issuer = %key, "issuer {key}: cannot remove the annotation {}: {}", well_known::OPERATION, brief(&error));
            }
            return Ok(None);
        }
        secret::store_next(request.client, secret, stored).await.map(Some)
    }

    /// Sends the next key to the CA. Promotes it, or removes it if the CA refuses it.
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
            // The CA does not know the account.
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
        tracing::info!(issuer = %key, account = %url, "issuer {key}: account {url} has a new key");
        let note = format!("the account {url} has a new key");
        self.events(key).normal(issuer.object_ref(&()), "AccountKeyChanged", &note);
    }

    fn report_unchanged(&self, key: &IssuerKey, issuer: &Issuer, why: &AccountError) {
        tracing::warn!(issuer = %key, "issuer {key}: the account keeps its key: {why}");
        let note = format!("the account keeps its key: {why}");
        self.events(key).warning(issuer.object_ref(&()), "AccountKeyNotChanged", &note);
    }
}

/// Waits until no order uses the old instance, for at most the duration of one request. New orders
/// cannot get it.
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
