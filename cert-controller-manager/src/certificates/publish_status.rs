//! Publishes the result of a pass: upstream's labels and annotations, the status, and an event.
//! Writes only what has changed.

use std::sync::Arc;

use cert_lib::{issue::Phase, model::reason::Reason, plan::Action};
use jiff::Timestamp;
use kube::{
    Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    controller::Controller,
    pass::Pass,
    progress::{Cause, Order},
    status::{self, Outcome},
};
use crate::{
    api::{
        Certificate, CertificateKey, IssuerKey,
        certificate::{CertificateStatus, State, UsedIssuer},
        time::seconds,
        well_known,
    },
    issuers::selection::Selection,
    runtime::{errors::brief, status_writer::publish},
};

impl Controller {
    /// Writes labels, annotations and status of a Certificate where they differ, and publishes an
    /// event.
    pub(super) async fn publish_status(
        &self,
        pass: &Pass<'_>,
        outcome: &Outcome,
    ) -> kube::Result<()> {
        let generation = |it: &Certificate| it.metadata.generation;
        let current = self.index.get(pass.key);
        if current.as_deref().map(generation) != Some(generation(pass.certificate)) {
            // The Certificate was deleted or its specification has changed; the result is for the
            // old one.
            self.queue.push(pass.key.clone());
            return Ok(());
        }
        let certificate = self.update_labels(pass, outcome).await?;
        let issuer = self.used_issuer(&pass.observed.issuer);
        let should = status::of(&certificate, pass.want, issuer, outcome, &self.policy, pass.now);
        let (api, before) = (self.api(pass.key), certificate.status.as_ref());
        let written = publish(api.as_ref(), certificate.as_ref(), before, &should).await?;
        let Some(written) = written else { return Ok(()) };
        let is_news = is_news(before, &should, outcome.state);
        let was_changed_by_others = identity(&written) != identity(&certificate);
        self.index.update(pass.key, written);
        if was_changed_by_others {
            // The change of another client arrived with the response to our write, so the watch
            // reports no change.
            self.queue.push(pass.key.clone());
            let sharing = self.index.of_secret(&pass.observed.secret);
            sharing.into_iter().for_each(|key| self.queue.push(key));
        }
        if is_news {
            self.publish_event(&certificate, pass.key, outcome);
        }
        Ok(())
    }

    /// The issuer for the status; `None` if it refuses the request.
    fn used_issuer(&self, issuer: &Selection) -> Option<UsedIssuer> {
        let object = self.object(&issuer.key);
        let cluster = match issuer.key {
            IssuerKey::Default(_) => "default",
            IssuerKey::Target(_) => "target",
        };
        issuer.refusal.is_none().then(|| UsedIssuer {
            cluster: Some(cluster.to_owned()),
            name: object.name,
            namespace: object.namespace,
        })
    }

    /// Writes upstream's labels and annotations to a ready Certificate: fingerprint, validity, and
    /// reference to the Secret.
    async fn update_labels(
        &self,
        pass: &Pass<'_>,
        outcome: &Outcome,
    ) -> kube::Result<Arc<Certificate>> {
        let current =
            self.index.get(pass.key).unwrap_or_else(|| Arc::new(pass.certificate.clone()));
        let (Ok(request), Some(leaf), State::Ready) =
            (&pass.want.request, &outcome.leaf, outcome.state)
        else {
            return Ok(current);
        };
        if pass.plan.action == Action::Rewrite && !pass.is_labelled(request) {
            // The Secret could not be rewritten for the new spelling of the same names. The old
            // label shows that the request is the same.
            return Ok(current);
        }
        let secret = &pass.observed.secret;
        let mut patch = json!({
            "metadata": {
                "labels": { well_known::HASH: request.fingerprint.as_str() },
                "annotations": {
                    well_known::NOT_BEFORE: seconds(leaf.not_before),
                    well_known::NOT_AFTER: seconds(leaf.not_after),
                },
            },
            "spec": { "secretRef": { "name": secret.name, "namespace": secret.namespace } },
        });
        let is = serde_json::to_value(current.as_ref()).map_err(kube::Error::SerdeError)?;
        if includes(&is, &patch) {
            return Ok(current);
        }
        if let Some(previous) = current.former_secret() {
            self.release_previous_secret(pass.key, &current, &previous).await?;
        }
        patch["metadata"]["resourceVersion"] = json!(current.resource_version());
        patch["metadata"]["uid"] = json!(current.uid());
        let labelled = self.write(pass.key, &patch).await?;
        // Equal requests read the labels, and need a pass only after a new certificate.
        if matches!(pass.plan.action, Action::Start | Action::Resume) {
            self.wake_equal_requests(pass);
        }
        Ok(labelled)
    }

    /// Patches a Certificate outside its status.
    pub(super) async fn write(
        &self,
        key: &CertificateKey,
        patch: &Value,
    ) -> kube::Result<Arc<Certificate>> {
        let api = self.api(key);
        let params = PatchParams::default();
        let written = api.patch(&key.object.name, &params, &Patch::Merge(patch.clone())).await?;
        Ok(self.index.update(key, written))
    }

    /// Publishes a warning about an issuance that the status has no field for.
    pub(super) fn warn_event(&self, pass: &Pass<'_>, remark: &str) {
        tracing::warn!(certificate = %pass.key, "certificate {}: {remark}", pass.key);
        let events = &self.clusters.at(pass.key.cluster).events;
        events.warning(pass.certificate.object_ref(&()), Reason::Ready.word(), remark);
    }

    /// Publishes that an order is running. A failure is logged only: the order does not depend on
    /// the cluster of the Certificate.
    pub(super) async fn announce(&self, pass: &Pass<'_>, doing: &Phase, order: &Order) {
        let wait = (Cause::of(doing), self.clock.now());
        let outcome = self.pending(pass, doing.to_string(), order, wait);
        if let Err(error) = self.publish_status(pass, &outcome).await {
            tracing::debug!(certificate = %pass.key, "cannot write the status of {}: {}", pass.key, brief(&error));
        }
    }

    /// The outcome of a pass while an order is running. The message changes only for a new order
    /// and once for each long wait. So a fast order costs one write, and a slow one shows its
    /// reason.
    pub(super) fn pending(
        &self,
        pass: &Pass<'_>,
        message: String,
        order: &Order,
        (cause, until): (Cause, Timestamp),
    ) -> Outcome {
        let started = order.progress.started();
        let publishes = self.orders.publishes(pass.key, cause, self.clock.now(), until);
        let published = (!publishes)
            .then(|| self.index.get(pass.key))
            .flatten()
            .and_then(|current| current.status.clone())
            .filter(|status| status.state == State::Pending.word())
            .and_then(|status| status.message);
        Outcome {
            reason: Reason::Issuing,
            pending_since: Some(started),
            ..pass.outcome(State::Pending, published.unwrap_or(message))
        }
    }

    fn publish_event(&self, certificate: &Certificate, key: &CertificateKey, outcome: &Outcome) {
        let (word, message) = (outcome.reason.word(), status::bounded(&outcome.message));
        let about = certificate.object_ref(&());
        let events = &self.clusters.at(key.cluster).events;
        if outcome.state == State::Error || outcome.warns {
            tracing::warn!(certificate = %key, reason = word, "certificate {key}: {message}");
            events.warning(about, word, message);
        } else {
            tracing::info!(certificate = %key, reason = word, "certificate {key}: {message}");
            events.normal(about, word, message);
        }
    }
}

/// Whether a merge patch changes nothing.
fn includes(object: &Value, patch: &Value) -> bool {
    match patch {
        Value::Object(fields) => fields
            .iter()
            .all(|(name, wanted)| object.get(name).is_some_and(|found| includes(found, wanted))),
        wanted => object == wanted,
    }
}

/// What other clients change.
fn identity(certificate: &Certificate) -> impl PartialEq + use<> {
    let meta = &certificate.metadata;
    (meta.generation, meta.deletion_timestamp.clone(), meta.labels.clone())
}

/// Whether a change needs an event. Progress of an order and waiting in a queue are shown in the
/// status only.
fn is_news(before: Option<&CertificateStatus>, now: &CertificateStatus, state: State) -> bool {
    let changed = before.is_none_or(|before| before.state != now.state);
    match state {
        State::Waiting => false,
        State::Pending => changed,
        State::Ready | State::Error | State::Revoked => {
            changed || before.is_some_and(|before| before.message != now.message)
        }
    }
}
