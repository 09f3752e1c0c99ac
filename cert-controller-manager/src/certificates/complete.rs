//! Completes an issuance: writes the Secret and the backup, deletes the order, and records the
//! result in metrics and retry state. Also handles Secrets that cannot be written.

use cert_lib::{
    issue::{Disposition, RetrySchedule},
    model::{bundle::Bundle, reason::Reason, request::Request},
    plan::backoff,
};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{
    api::{ObjectKey, certificate::State, well_known},
    certificates::{
        controller::Controller,
        inventory,
        pass::{Pass, Step},
        progress::Order,
        secret::{Facts, keystore_problem::with_keystore_problem, write},
        status::{Outcome, ready_message},
    },
    runtime::{
        errors::brief,
        fence::NotLeading,
        metrics::{Issuance, IssuanceResult},
    },
};

impl Controller {
    /// Writes the Secret, then deletes the order. After a crash between the two, the next pass
    /// downloads the same certificate and writes the same Secret again.
    pub(super) async fn complete(
        &self,
        pass: &Pass<'_>,
        request: &Request,
        bundle: &Bundle,
        order: Option<&Order>,
    ) -> kube::Result<Step> {
        let requested_at = order.map_or(pass.now, |order| order.progress.started());
        let keystore_error = match self.store(pass, request, bundle, requested_at).await? {
            Ok(keystore_error) => keystore_error,
            Err(why) => return Ok(self.not_writable(pass, &why)),
        };
        let why = order.map_or(pass.plan.reason, |order| order.reason);
        // A crash before the deletion repeats these steps, so metrics and retry state are updated
        // after it.
        self.orders.delete(pass.key).await?;
        let reissued = self.reissued_now(pass, request, why);
        self.record_issuance(pass, bundle, order);
        let message = with_keystore_problem(ready_message(&bundle.leaf), keystore_error.as_deref());
        let outcome = Outcome {
            reason: Reason::Ready,
            ready: true,
            leaf: Some(bundle.leaf.clone()),
            requested_at,
            suggested: None,
            reissued,
            warns: keystore_error.is_some(),
            ..pass.outcome(State::Ready, message)
        };
        let look_again = pass.now.saturating_add(CHALLENGE_RECHECK).unwrap_or(pass.now);
        Ok(Step::Publish(Box::new(outcome), look_again))
    }

    /// Writes the Secret and its backup. Returns why its keystores are not up to date, or why the Secret
    /// cannot be written.
    async fn store(
        &self,
        pass: &Pass<'_>,
        request: &Request,
        bundle: &Bundle,
        requested_at: Timestamp,
    ) -> kube::Result<Result<Option<String>, String>> {
        let mut rendered = match self.render_issued(pass, request, bundle, requested_at).await {
            Ok(rendered) => rendered,
            Err(error) => return Ok(Err(error.to_string())),
        };
        write::void_mark(&mut rendered.secret, pass.observed.facts.as_ref());
        let written = match self.apply_secret(pass, &rendered.secret).await {
            Ok(written) => written,
            // The cluster refuses the write or is unavailable. The CA keeps the certificate; back
            // off before the next download.
            Err(error) if !NotLeading::is(&error) => return Ok(Err(brief(&error))),
            Err(error) => return Err(error),
        };
        // A revocation may have marked the previous certificate while this one was issued.
        if written.as_ref().is_some_and(Facts::is_marked_revoked) {
            self.clear_revoked_mark(&pass.observed.secret).await?;
        }
        if pass.observed.issuer.capabilities().needs_record() {
            let issuer = &pass.observed.issuer.key;
            self.back_up(pass.key, issuer, &bundle.leaf, &rendered.secret).await?;
        }
        Ok(Ok(rendered.keystore_error))
    }

    /// Updates what this process remembers of the Certificate, and the metrics.
    fn record_issuance(&self, pass: &Pass<'_>, bundle: &Bundle, order: Option<&Order>) {
        pass.observed.order.issued(self.clock.now());
        self.records.record_issued(pass.key, bundle.leaf.not_before);
        self.records.record_success(pass.key);
        self.records.change(pass.key, |record| record.issuance = None);
        self.claims.release(pass.key);
        if pass.observed.issuer.capabilities().renewal_info {
            self.renewals.issued(pass.key, &bundle.leaf, pass.now);
        }
        self.count(pass, order, IssuanceResult::Issued);
        if let Some(remark) = &bundle.remark {
            self.warn_event(pass, remark);
        }
    }

    /// Removes the revocation annotations from a Secret. *Idempotent*.
    pub(super) async fn clear_revoked_mark(&self, key: &ObjectKey) -> kube::Result<()> {
        let annotations =
            json!({ well_known::REVOKED: null, well_known::REVOKED_CERTIFICATE: null });
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        self.secrets.write(key, &PatchParams::default(), &patch).await.map(drop)
    }

    /// Records the result of an issuance attempt in the metrics.
    pub(super) fn count(&self, pass: &Pass<'_>, order: Option<&Order>, result: IssuanceResult) {
        let at = self.clock.now();
        let start = order.map_or(pass.now, |order| order.progress.started());
        let challenges = order.map_or(0, |_| inventory::challenges(pass.certificate));
        self.metrics.issuance(&Issuance {
            issuer: &pass.observed.issuer.key,
            reason: order.map_or(pass.plan.reason, |order| order.reason),
            result,
            challenges: usize::try_from(challenges).unwrap_or(usize::MAX),
            took: std::time::Duration::try_from(at.duration_since(start)).unwrap_or_default(),
            at,
        });
    }

    /// The Secret cannot be written. The CA keeps the certificate until a retry succeeds.
    fn not_writable(&self, pass: &Pass<'_>, why: &str) -> Step {
        // CA and self-signed issuers have no stored order; their back-off is in the retry state.
        let order = self.orders.get(pass.key);
        let previous = match &order {
            Some(order) => order.transient_error,
            None => self.records.backoff(pass.key, pass.certificate),
        };
        let previous = previous.map(|backoff| backoff.interval);
        let disposition = Disposition::Retry(RetrySchedule::Transport);
        let wait = backoff::after(disposition, previous, self.clock.now());
        self.orders.record_error(pass.key, wait);
        if order.is_none() {
            self.records.record_failure(pass.key, pass.certificate.metadata.generation, wait);
        }
        // The issuer has done its part, so the next Certificate in the queue can have the slot.
        self.orders.release_permit(pass.key);
        let message = format!("cannot write Secret {}: {why}", pass.observed.secret);
        let outcome = Outcome {
            reason: Reason::SecretNotWritable,
            backoff: order.is_none().then_some(wait),
            ..pass.outcome(State::Error, message)
        };
        Step::Publish(Box::new(outcome), wait.until)
    }
}

/// After issuance, one more pass checks that the challenge records are deleted.
const CHALLENGE_RECHECK: SignedDuration = SignedDuration::from_secs(5);
