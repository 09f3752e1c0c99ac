//! Reconciles one Issuer: prepares it, publishes its status, and notifies the Certificates.
//! [`watched`] decides when a pass is needed.

use std::{sync::Arc, time::Duration};

use cert_lib::{
    issue::{Disposition, RetrySchedule},
    plan::backoff,
};
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
};

use super::{
    controller::Controller,
    error::IssuerError,
    outcome::{Facts, Outcome},
    registry::Lookup,
    status, watched,
};
use crate::{
    api::{Issuer, IssuerKey, ObjectKey, is_served, well_known},
    runtime::{
        errors::{brief, is_refusal},
        requeue,
        status_writer::publish,
    },
};

/// Interval of passes for issuers with Secrets in unwatched namespaces.
const SECRET_RECHECK: Duration = Duration::from_secs(15);

impl Controller {
    /// Runs one pass. Returns the delay until the next one.
    pub async fn reconcile(&self, name: IssuerKey) -> Option<Duration> {
        let issuer = self.records.issuer(&name);
        let served = issuer.filter(|issuer| is_served(issuer.as_ref(), &self.classes));
        let Some(issuer) = served else {
            self.forget(name);
            return None;
        };
        self.accept_requested_pass(&name, &issuer).await;
        let prepared = self.prepare(&name, &issuer).await;
        let again = self.retry_delay(&name, &prepared);
        let outcome = match prepared {
            Ok(facts) => Outcome::Ready(facts),
            Err(error) => {
                self.registry.put(&name, Lookup::NotReady(error.to_string()));
                Outcome::Error { message: error.to_string(), server_wait: error.server_wait() }
            }
        };
        if let Some(facts) = status::for_metrics(&issuer, &outcome) {
            self.metrics.set_issuer(&name, &facts);
        }
        self.notify_certificates(&name, &issuer, &outcome);
        match self.write_status(&name, &issuer, &outcome).await {
            Ok(()) => again.or_else(|| self.recheck_secrets(&name, &issuer)),
            Err(error) => {
                tracing::warn!(issuer = %name, "issuer {name}: cannot write its status: {}", brief(&error));
                let wait =
                    if is_refusal(&error) { requeue::REFUSED } else { requeue::after(&error) };
                Some(again.map_or(wait, |again| again.max(wait)))
            }
        }
    }

    /// Removes all state of an issuer that is not served, and queues its Certificates.
    fn forget(&self, name: IssuerKey) {
        self.registry.forget(&name);
        self.solvers.forget(&name);
        self.records.forget(&name);
        self.metrics.forget_issuer(&name);
        let _ = self.changed.send(name);
    }

    /// Removes the annotation that requests this pass, and resets the back-off.
    async fn accept_requested_pass(&self, name: &IssuerKey, issuer: &Issuer) {
        let operation = issuer.annotations().get(well_known::OPERATION);
        if operation.is_none_or(|it| it != well_known::RECONCILE) {
            return;
        }
        self.records.change(name, |record| record.wait = None);
        if let Err(error) = self.remove_operation_annotation(name, issuer).await {
            tracing::warn!(issuer = %name, "issuer {name}: cannot remove the annotation {}: {}", well_known::OPERATION, brief(&error));
        }
    }

    async fn write_status(
        &self,
        name: &IssuerKey,
        issuer: &Issuer,
        outcome: &Outcome,
    ) -> kube::Result<()> {
        self.publish_status(name, issuer, outcome).await?;
        let quota = self.records.change(name, |record| record.quota.clone());
        match quota {
            Some(quota) => quota.store().await,
            None => Ok(()),
        }
    }

    /// Delay until the next pass if Secrets are in a namespace that is not watched.
    fn recheck_secrets(&self, name: &IssuerKey, issuer: &Issuer) -> Option<Duration> {
        let is_unwatched = |secret: &ObjectKey| secret.namespace != self.namespace;
        match name {
            IssuerKey::Default(_) => {
                watched::secrets(issuer).any(|it| is_unwatched(&it)).then_some(SECRET_RECHECK)
            }
            IssuerKey::Target(_) => None,
        }
    }

    /// Removes the annotation that requested an operation, when that is done or cannot get lost.
    pub(super) async fn remove_operation_annotation(
        &self,
        key: &IssuerKey,
        issuer: &Issuer,
    ) -> kube::Result<()> {
        let patch =
            serde_json::json!({ "metadata": { "annotations": { well_known::OPERATION: null } } });
        let patch = Patch::Merge(&patch);
        let patched =
            self.api(key).patch(&issuer.name_any(), &PatchParams::default(), &patch).await?;
        // Stored at once: a pass before the watch event must not repeat the operation.
        self.records.put(key, Arc::new(patched));
        Ok(())
    }

    /// Queues the Certificates of the issuer, unless its state is the same as in the last
    /// notification: repeated failures must not cause repeated passes.
    fn notify_certificates(&self, name: &IssuerKey, issuer: &Issuer, outcome: &Outcome) {
        let error = match outcome {
            Outcome::Ready(_) => None,
            Outcome::Error { message, .. } => Some(message.clone()),
        };
        let news = (issuer.metadata.generation, error);
        let known = self.records.change(name, |record| record.notified.replace(news.clone()));
        if known != Some(news) {
            let _ = self.changed.send(name.clone());
        }
    }

    /// Delay of the next pass after a failure; reset after success.
    fn retry_delay(
        &self,
        name: &IssuerKey,
        outcome: &Result<Facts, IssuerError>,
    ) -> Option<Duration> {
        let disposition = match outcome {
            Ok(_) => {
                self.records.change(name, |record| record.wait = None);
                return None;
            }
            // A change of the Issuer or a watched Secret causes a pass; the retry is for unwatched
            // Secrets.
            Err(IssuerError::InvalidConfig(_)) => Disposition::Retry(RetrySchedule::Transport),
            // The CA has refused this account, so frequent retries would not help.
            Err(
                IssuerError::Deactivated(_)
                | IssuerError::Failed { disposition: Disposition::FixIssuer, .. },
            ) => Disposition::Retry(RetrySchedule::Validation),
            Err(IssuerError::RateLimited { until, .. }) => Disposition::Until(*until),
            Err(IssuerError::Failed { disposition, .. }) => *disposition,
        };
        let now = self.clock.now();
        let wait = self.records.change(name, |record| {
            let wait = backoff::after(disposition, record.wait, now).interval;
            record.wait = Some(wait);
            wait
        });
        Duration::try_from(wait).ok()
    }

    async fn publish_status(
        &self,
        name: &IssuerKey,
        issuer: &Issuer,
        outcome: &Outcome,
    ) -> kube::Result<()> {
        let should = status::of(issuer, outcome, self.default_quota, self.clock.now());
        let before = issuer.status.as_ref();
        let api = self.api(name);
        let Some(written) = publish(&api, issuer, before, &should).await? else { return Ok(()) };
        self.records.put(name, Arc::new(written));
        let is_news =
            before.is_none_or(|it| (&it.state, &it.message) != (&should.state, &should.message));
        if is_news {
            let about = issuer.object_ref(&());
            match outcome {
                Outcome::Ready(facts) => {
                    tracing::info!(issuer = %name, "issuer {name} is ready");
                    match facts.warning() {
                        Some(warning) => self.events(name).warning(about, "Ready", warning),
                        None => {
                            self.events(name).normal(about, "Ready", "certificates can be issued");
                        }
                    }
                }
                Outcome::Error { message, .. } => {
                    tracing::warn!(issuer = %name, "issuer {name}: {message}");
                    self.events(name).warning(about, "IssuerNotReady", message);
                }
            }
        }
        Ok(())
    }
}
