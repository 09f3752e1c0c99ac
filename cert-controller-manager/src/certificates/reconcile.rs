//! Reconciles one Certificate: one pass through all steps.
//! [`watch_handlers`](super::watch_handlers) decides when a pass is needed,
//! [`publish_status`](super::publish_status) writes the result.

use std::time::Duration;

use cert_lib::{
    model::reason::Reason,
    plan::{Action, Plan, Want, reissue_loop},
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;

use crate::{
    api::{Certificate, CertificateKey, certificate::State, is_served, well_known},
    certificates::{
        admission::Ticket,
        controller::Controller,
        convert,
        pass::{Observed, Pass, Step},
        secret_grant::SecretGrant,
        status::Outcome,
    },
    issuers::registry::Lookup,
    runtime::{
        errors::{brief, is_refusal, is_unexpected},
        fence::NotLeading,
        requeue,
        status_writer::write,
    },
};

/// The Secret of a Certificate whose next pass is later than this is forgotten, and read again then.
const STEADY: SignedDuration = SignedDuration::from_mins(10);
/// Delay if the issuer or the permissions of the namespace are not known yet.
const UNKNOWN_RECHECK: Duration = Duration::from_secs(2);

/// A retry that a user may have requested.
enum Retry {
    NotRequested,
    Started,
    /// Too many were requested.
    NotBefore(Timestamp),
}

impl Controller {
    /// Runs one pass. Returns the delay until the next one.
    pub async fn reconcile(&self, key: CertificateKey) -> Option<Duration> {
        let outcome = self.pass(&key).await;
        match outcome {
            Ok(Some(look_again)) => Some(requeue::until(look_again, self.clock.now())),
            Ok(None) => None,
            // The Certificate was deleted; the watch has reported it or will do so.
            Err(kube::Error::Api(status))
                if status.code == 404 && self.index.get(&key).is_none() =>
            {
                None
            }
            Err(error) => {
                if is_unexpected(&error) {
                    tracing::warn!(certificate = %key, "certificate {key}: a cluster refused a request or is unavailable: {}", brief(&error));
                }
                match is_refusal(&error) {
                    true => Some(requeue::refused(
                        requeue::UNREACHABLE,
                        self.records.record_refused_write(&key),
                    )),
                    false => Some(requeue::after(&error)),
                }
            }
        }
    }

    async fn pass(&self, key: &CertificateKey) -> kube::Result<Option<Timestamp>> {
        if !self.lists.has(key.cluster) {
            return Ok(Some(self.clock.now() + UNKNOWN_RECHECK));
        }
        let Some(certificate) = self.index.get(key) else {
            self.records.forget(key);
            return self.clean_up_deleted(key).await;
        };
        if certificate.metadata.deletion_timestamp.is_some() {
            self.records.forget_all_but_deletion(key);
            let again = self.clean_up_deleted(key).await?;
            let kept_until = self.release(key, &certificate).await?;
            return Ok(again.into_iter().chain(kept_until).min());
        }
        self.records.forget_other_uid(key, certificate.metadata.uid.as_deref());
        let now = self.clock.now();
        match self.retry_on_request(key, &certificate, now).await? {
            Retry::Started => Ok(Some(now)),
            Retry::NotRequested => self.serve(key, &certificate, now).await,
            Retry::NotBefore(time) => {
                let look_again = self.serve(key, &certificate, now).await?;
                Ok(look_again.map(|look_again| look_again.min(time)))
            }
        }
    }

    /// Decides what to do about a Certificate, and does it. Returns the time of the next pass.
    async fn serve(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        now: Timestamp,
    ) -> kube::Result<Option<Timestamp>> {
        let issuer = self.select_issuer(certificate);
        // After a start, nothing can be decided before the issuer controller has checked the
        // issuer.
        let unknown = matches!(self.issuers.lookup(&issuer.key), Lookup::Unknown);
        if unknown || self.grant_is_unknown(key, certificate) {
            return Ok(Some(now + UNKNOWN_RECHECK));
        }
        // Without the ticket, a pass that fails leaves its queue: others can use the slot.
        let mut ticket = self.records.take_ticket(key);
        let want = convert::want(key, certificate, &self.settings, &issuer, &self.secret_grants);
        let mut observed = self.observe(key, certificate, &want, issuer, ticket.as_ref()).await?;
        let this = (key, certificate);
        let plan = self.decide(this, &want, &mut observed, ticket.as_ref(), now).await?;
        let (observed, plan, want) = (&observed, &plan, &want);
        let pass = Pass { key, certificate, want, observed, plan, now };
        let look_again = match self.carry_out(&pass, &mut ticket).await {
            Ok(Some(look_again)) => {
                ticket.into_iter().for_each(|ticket| self.records.keep_ticket(key, ticket));
                look_again
            }
            Ok(None) => return Ok(None),
            Err(error) if is_refusal(&error) => {
                drop(ticket);
                self.publish_refusal(&pass, &brief(&error)).await?;
                now + requeue::reported(self.records.record_refused_write(key))
            }
            Err(error) => return Err(error),
        };
        Ok(Some(self.next_pass(&pass, look_again).await))
    }

    /// Plans with what was observed, and looks up what the plan depends on besides.
    async fn decide(
        &self,
        (key, certificate): (&CertificateKey, &Certificate),
        want: &Want,
        observed: &mut Observed,
        ticket: Option<&Ticket>,
        now: Timestamp,
    ) -> kube::Result<Plan> {
        self.update_renewal_info(key, certificate, want, observed, now).await;
        let mut plan = cert_lib::plan::plan(want, &observed.have, &self.policy, now);
        if plan.wants_new && self.find_shareable(key, certificate, want, observed, now).await {
            plan = cert_lib::plan::plan(want, &observed.have, &self.policy, now);
        }
        if plan.needs_record {
            self.find_issuance_record(key, observed, now).await?;
            self.admit_again((key, certificate), want, observed, ticket, now);
            plan = cert_lib::plan::plan(want, &observed.have, &self.policy, now);
        }
        Ok(plan)
    }

    /// The time of the next pass, after the plan was carried out.
    async fn next_pass(&self, pass: &Pass<'_>, look_again: Timestamp) -> Timestamp {
        let next_request = self.renewals.next(pass.key, pass.now);
        let look_again = next_request.map_or(look_again, |it| it.min(look_again));
        let look_again = self.clean_up_challenges(pass, look_again).await;
        let look_again = self.recheck_passwords(pass, look_again);
        // A ready Certificate has no work until then.
        if pass.plan.action == Action::Keep && look_again.duration_since(pass.now) > STEADY {
            self.secrets.evict(&pass.observed.secret);
        }
        look_again
    }

    /// Executes the plan and publishes the result. Returns the time of the next pass; `None` if
    /// another manager serves the Certificate.
    async fn carry_out(
        &self,
        pass: &Pass<'_>,
        ticket: &mut Option<Ticket>,
    ) -> kube::Result<Option<Timestamp>> {
        let Pass { key, certificate, now, .. } = *pass;
        let is_ours = pass.plan.reason != Reason::OtherClass;
        if is_ours && self.ensure_finalizer(key, certificate, &pass.observed.ownership).await? {
            return Ok(Some(now));
        }
        let (outcome, look_again) = match self.act(pass, ticket).await? {
            Step::Publish(outcome, look_again) => (outcome, look_again),
            Step::Again => return Ok(Some(now)),
            Step::Silent => return Ok(None),
        };
        match self.publish_status(pass, &outcome).await {
            Ok(()) => {
                self.records.record_accepted_write(key);
                Ok(Some(look_again))
            }
            // The order continues while the cluster of its Certificate is unavailable.
            Err(error) if self.order_runs(key) && !NotLeading::is(&error) => {
                tracing::debug!(certificate = %key, "cannot write the status of {key}: {}", brief(&error));
                Ok(Some(look_again))
            }
            Err(error) => Err(error),
        }
    }

    /// Password Secrets are not watched, so a Certificate with keystores needs regular passes.
    fn recheck_passwords(&self, pass: &Pass<'_>, look_again: Timestamp) -> Timestamp {
        let is_written = pass.observed.facts.is_some()
            && matches!(pass.plan.action, Action::Keep | Action::Rewrite);
        if pass.observed.options.stores.is_empty() || !is_written {
            return look_again;
        }
        look_again.min(pass.now + self.secrets.keystores.recheck_interval())
    }

    /// Deletes the challenge records of orders that no longer run.
    async fn clean_up_challenges(&self, pass: &Pass<'_>, look_again: Timestamp) -> Timestamp {
        let soon = pass.now + requeue::UNREACHABLE;
        match pass.plan.action {
            _ if self.order_runs(pass.key) => look_again,
            // The order deletes its own records; the next pass verifies that.
            Action::Start | Action::Resume => look_again.min(soon),
            Action::Keep | Action::Share | Action::Rewrite | Action::Hold | Action::Refuse => {
                if self.sweep(pass.key).await {
                    look_again
                } else {
                    look_again.min(soon)
                }
            }
        }
    }

    /// Publishes that a cluster refused a write. A missing right or a policy is the cause, not an
    /// outage.
    async fn publish_refusal(&self, pass: &Pass<'_>, why: &str) -> kube::Result<()> {
        let message = format!(
            "a cluster refused a write: {why}; grant the permission, or change the object or the policy \
             in this message"
        );
        let outcome =
            Outcome { reason: Reason::ClusterRefused, ..pass.outcome(State::Error, message) };
        self.publish_status(pass, &outcome).await
    }

    /// Whether the annotation `gardener.cloud/operation` requests a retry, as in upstream.
    fn requests_retry(&self, certificate: &Certificate) -> bool {
        certificate
            .annotations()
            .get(well_known::OPERATION)
            .is_some_and(|it| it == well_known::RECONCILE)
            && is_served(certificate, &self.settings.classes)
    }

    /// Starts the retry that the annotation requests, unless there were too many.
    async fn retry_on_request(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        now: Timestamp,
    ) -> kube::Result<Retry> {
        if !self.requests_retry(certificate) {
            return Ok(Retry::NotRequested);
        }
        match self.records.may_retry(key, now) {
            Ok(()) => {
                self.start_retry(key, certificate).await?;
                Ok(Retry::Started)
            }
            // The annotation stays until the retry is permitted.
            Err(time) => Ok(Retry::NotBefore(time)),
        }
    }

    /// Clears the last failure and the suspected reissue loop, then removes the annotation.
    async fn start_retry(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
    ) -> kube::Result<()> {
        let status = certificate.status.as_ref();
        let reissued = status.and_then(|status| status.reissued.as_deref()).unwrap_or_default();
        let without_loop = reissue_loop::without_loop(reissued);
        if status.is_some_and(|status| status.backoff.is_some()) || without_loop != reissued {
            let without_loop = Some(without_loop).filter(|times| !times.is_empty());
            let status = json!({ "backoff": null, "reissued": without_loop });
            let (api, name) = (self.api(key), &key.object.name);
            let written = write(api.as_ref(), name, certificate.uid(), status).await?;
            self.index.update(key, written);
        }
        let patch = json!({ "metadata": { "annotations": { well_known::OPERATION: null } } });
        self.write(key, &patch).await?;
        self.records.record_retry(key, self.clock.now());
        Ok(())
    }

    /// Deletes order and challenge records of a Certificate that is deleted or being deleted.
    async fn clean_up_deleted(&self, key: &CertificateKey) -> kube::Result<Option<Timestamp>> {
        self.give_up(key).await?;
        let swept = self.sweep(key).await;
        Ok((!swept).then(|| self.clock.now() + requeue::UNREACHABLE))
    }

    fn grant_is_unknown(&self, key: &CertificateKey, certificate: &Certificate) -> bool {
        let secret = certificate.secret_key();
        !self.settings.cross_namespace_secrets
            && self.secret_grants.of(&key.object.namespace, &secret) == SecretGrant::Unknown
    }

    /// Deletes challenge records that no order needs. Returns whether all are deleted.
    async fn sweep(&self, key: &CertificateKey) -> bool {
        match self.solvers.sweep(&key.owner()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(certificate = %key, "challenge records of {key} could not be removed yet: {error}");
                false
            }
        }
    }
}
