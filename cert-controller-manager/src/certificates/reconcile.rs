//! One pass over one Certificate. What wakes it is in [`wake`](super::wake), what it says in
//! [`say`](super::say).

use std::{sync::Arc, time::Duration};

use cert_lib::{
    clock::Clock,
    model::reason::Reason,
    plan::{Action, Policy, reissue_loop},
};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    api::{
        Certificate, CertificateKey, ClusterIdentities, IssuerKey, Realm, certificate::State,
        is_served, well_known,
    },
    certificates::{
        act::{Pass, Step},
        convert,
        index::Index,
        progress::ProgressStore,
        records::Records,
        release::Deletions,
        renewal::Renewals,
        retry_state::RetryStates,
        scheduler::OrderScheduler,
        secret::cache::Secrets,
        secret_grant::{SecretGrant, SecretGrants},
        share::OrderClaims,
        status::Outcome,
        watch_handlers::ListedClusters,
    },
    config::CertificateSettings,
    issuers::{
        query::issuer_query,
        registry::{Lookup, Registry},
        selection::Selection,
    },
    runtime::{
        certificate_clusters::CertificateClusters,
        errors::{brief, is_news, is_refusal},
        fence::NotLeading,
        metrics::Metrics,
        queue::Shared,
        requeue,
        tenant_limiter::{self, TenantLimiter},
    },
    solvers::Challenges,
};

/// A Certificate whose issuer was not looked at yet is looked at again after this.
const UNKNOWN_RECHECK: Duration = Duration::from_secs(2);

/// Everything that a pass needs. All of it is shared; a pass holds no lock while it waits.
pub struct Controller {
    /// Where Certificates live.
    pub clusters: CertificateClusters,
    /// Where all of them are known.
    pub lists: ListedClusters,
    /// Which cluster is which, for ownership.
    pub places: ClusterIdentities,
    /// What tells our Secrets from those of other managers.
    pub realm: Realm,
    /// The Certificates.
    pub index: Index,
    /// Who orders for all that ask for the same.
    pub claims: OrderClaims,
    /// Since when heirs of those that go are looked for.
    pub deletions: Deletions,
    /// The Secrets.
    pub secrets: Secrets,
    /// Who may have a Secret where.
    pub secret_grants: SecretGrants,
    /// What went wrong.
    pub retry_states: RetryStates,
    /// What CAs say about renewals.
    pub renewals: Renewals,
    /// What is known to be issued.
    pub records: Records,
    /// Running orders.
    pub orders: ProgressStore,
    /// How many of them.
    pub scheduler: OrderScheduler,
    /// How many passes are for issuers of tenants.
    pub tenant_limiter: TenantLimiter,
    /// Who issues.
    pub issuers: Arc<Registry>,
    /// Where proofs are published.
    pub challenges: Arc<Challenges>,
    /// What was asked of the manager.
    pub settings: CertificateSettings,
    /// For the plan.
    pub policy: Policy,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
    /// Which Certificates need a pass.
    pub queue: Shared<CertificateKey>,
}

impl Controller {
    /// One pass. Returns after how long the next one is due.
    pub async fn reconcile(&self, key: CertificateKey) -> Option<Duration> {
        let outcome = self.pass(&key).await;
        // What is refused is so again and again: it must not keep a slot from others. While a cluster is
        // away nobody else would come further.
        if outcome.as_ref().is_err_and(is_refusal) && !self.order_runs(&key) {
            self.wake_all(self.scheduler.pass_on(&key));
        }
        match outcome {
            Ok(Some(look_again)) => Some(requeue::until(look_again, self.clock.now())),
            Ok(None) => None,
            // The watch will tell that it is gone.
            Err(kube::Error::Api(status))
                if status.code == 404 && self.index.get(&key).is_none() =>
            {
                None
            }
            Err(error) => {
                if is_news(&error) {
                    tracing::warn!(certificate = %key, "certificate {key}: a cluster refused or is away: {}", brief(&error));
                }
                match is_refusal(&error) {
                    true => Some(requeue::refused(
                        requeue::UNREACHABLE,
                        self.retry_states.record_refused_write(&key),
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
            return self.clean_up_deleted(key).await;
        };
        if certificate.metadata.deletion_timestamp.is_some() {
            let again = self.clean_up_deleted(key).await?;
            let kept_until = self.release(key, &certificate).await?;
            return Ok(again.into_iter().chain(kept_until).min());
        }
        let now = self.clock.now();
        self.retry_states.forget_other_uid(key, &certificate);
        let mut retry_allowed_at = None;
        if self.requests_retry(&certificate) {
            match self.retry_states.may_retry(key, now) {
                Ok(()) => {
                    self.start_retry(key, &certificate).await?;
                    return Ok(Some(now));
                }
                // The annotation stays until then.
                Err(time) => retry_allowed_at = Some(time),
            }
        }
        let issuer = self.select_issuer(&certificate);
        // Right after the start nothing can be said of a Certificate whose issuer was not looked at.
        let unknown = matches!(self.issuers.lookup(&issuer.key), Lookup::Unknown);
        if unknown || self.grant_is_unknown(key, &certificate) {
            return Ok(Some(now + UNKNOWN_RECHECK));
        }
        let Some(_permit) = self.tenant_limiter.acquire(issuer.key.tenant()) else {
            // Who waits for room keeps no slot from others, least of all at the issuer before.
            self.wake_all(self.scheduler.turn_to(&issuer.key.to_string(), key));
            if !self.order_runs(key) {
                self.wake_all(self.scheduler.pass_on(key));
            }
            return Ok(Some(now + tenant_limiter::LATER));
        };
        let want = convert::want(key, &certificate, &self.settings, &issuer, &self.secret_grants);
        let mut observed = self.observe(key, &certificate, &want, issuer).await?;
        self.update_renewal_info(key, &certificate, &want, &mut observed, now).await;
        let mut plan = cert_lib::plan::plan(&want, &observed.have, &self.policy, now);
        if plan.wants_new && self.find_shareable(key, &certificate, &want, &mut observed, now).await
        {
            plan = cert_lib::plan::plan(&want, &observed.have, &self.policy, now);
        }
        if plan.needs_record {
            self.find_issuance_record(key, &mut observed, now).await?;
            self.recount_order(key, &certificate, &want, &mut observed, now);
            plan = cert_lib::plan::plan(&want, &observed.have, &self.policy, now);
        }
        let pass = Pass {
            key,
            certificate: &certificate,
            want: &want,
            observed: &observed,
            plan: &plan,
            now,
        };
        let look_again = match self.carry_out(&pass).await {
            Ok(Some(look_again)) => look_again,
            Ok(None) => return Ok(None),
            Err(error) if is_refusal(&error) => {
                if !self.order_runs(key) {
                    self.wake_all(self.scheduler.pass_on(key));
                }
                self.publish_refusal(&pass, &brief(&error)).await?;
                now + requeue::refused(
                    requeue::REFUSED,
                    self.retry_states.record_refused_write(key),
                )
            }
            Err(error) => return Err(error),
        };
        let look_again = self.renewals.next(key, now).map_or(look_again, |it| it.min(look_again));
        let look_again = retry_allowed_at.map_or(look_again, |from| from.min(look_again));
        let look_again = self.clean_up_challenges(&pass, look_again).await;
        Ok(Some(self.recheck_passwords(&pass, look_again)))
    }

    /// Does what the plan says, and says what came of it. Returns when to look again; `None` where the
    /// Certificate is another manager's.
    async fn carry_out(&self, pass: &Pass<'_>) -> kube::Result<Option<Timestamp>> {
        let Pass { key, certificate, now, .. } = *pass;
        let is_ours = pass.plan.reason != Reason::OtherClass;
        if is_ours && self.ensure_finalizer(key, certificate, &pass.observed.ownership).await? {
            return Ok(Some(now));
        }
        let (outcome, look_again) = match self.act(pass).await? {
            Step::Publish(outcome, look_again) => (outcome, look_again),
            Step::Again => return Ok(Some(now)),
            Step::Silent => return Ok(None),
        };
        match self.publish_status(pass, &outcome).await {
            Ok(()) => {
                self.retry_states.record_accepted_write(key);
                Ok(Some(look_again))
            }
            // The order does not wait for the cluster of its Certificate.
            Err(error) if self.order_runs(key) && !NotLeading::is(&error) => {
                tracing::debug!(certificate = %key, "the status of {key} cannot be written now: {}", brief(&error));
                Ok(Some(look_again))
            }
            Err(error) => Err(error),
        }
    }

    /// Nobody tells when the password of a keystore changes.
    fn recheck_passwords(&self, pass: &Pass<'_>, look_again: Timestamp) -> Timestamp {
        let is_written = pass.observed.facts.is_some()
            && matches!(pass.plan.action, Action::Keep | Action::Rewrite);
        if pass.observed.options.stores.is_empty() || !is_written {
            return look_again;
        }
        look_again.min(pass.now + self.secrets.keystores.recheck_interval())
    }

    /// Where no order runs any more, nothing that it published may stay.
    async fn clean_up_challenges(&self, pass: &Pass<'_>, look_again: Timestamp) -> Timestamp {
        let soon = pass.now + requeue::UNREACHABLE;
        match pass.plan.action {
            _ if self.order_runs(pass.key) => look_again,
            // It took its records away itself; the next pass looks whether they are gone.
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

    /// A cluster refuses what a pass has to do: no outage, but a right or an object that is missing.
    async fn publish_refusal(&self, pass: &Pass<'_>, why: &str) -> kube::Result<()> {
        let message = format!(
            "a cluster refuses what has to be written: {why}; grant the right, or change the object or \
             the rule that is named"
        );
        let outcome =
            Outcome { reason: Reason::ClusterRefused, ..pass.outcome(State::Error, message) };
        self.publish_status(pass, &outcome).await
    }

    /// Upstream's way to ask for another try: the annotation `gardener.cloud/operation`.
    fn requests_retry(&self, certificate: &Certificate) -> bool {
        certificate
            .annotations()
            .get(well_known::OPERATION)
            .is_some_and(|it| it == well_known::RECONCILE)
            && is_served(certificate, &self.settings.classes)
    }

    /// Forgets the last failure and the suspicion of a loop, then takes the annotation off.
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
            let patch = json!({ "status": { "backoff": null, "reissued": without_loop } });
            let patch = Patch::Merge(patch);
            let api = self.api(key);
            let written =
                api.patch_status(&key.object.name, &PatchParams::default(), &patch).await?;
            self.index.update(key, written);
        }
        let patch = json!({ "metadata": { "annotations": { well_known::OPERATION: null } } });
        self.write(key, &patch).await?;
        self.retry_states.record_retry(key, self.clock.now());
        Ok(())
    }

    /// The Certificate is gone or going: nothing of its order stays.
    async fn clean_up_deleted(&self, key: &CertificateKey) -> kube::Result<Option<Timestamp>> {
        self.retry_states.forget(key);
        self.renewals.forget(key);
        self.records.forget(key);
        self.issuers.leave_quotas(key);
        let order = self.orders.get(key);
        self.give_up(key).await?;
        if let Some(order) = order {
            self.return_unused_quota(&IssuerKey::from_text(&order.issuer)).await;
        }
        let swept = self.sweep(key).await;
        Ok((!swept).then(|| self.clock.now() + requeue::UNREACHABLE))
    }

    /// The Certificates in the namespace of `key`.
    pub(super) fn api(&self, key: &CertificateKey) -> Api<Certificate> {
        Api::namespaced(self.clusters.at(key.cluster).client.clone(), &key.object.namespace)
    }

    /// The issuer that a Certificate means.
    pub(super) fn select_issuer(&self, certificate: &Certificate) -> Selection {
        self.issuers.select(&issuer_query(certificate, &self.settings))
    }

    fn grant_is_unknown(&self, key: &CertificateKey, certificate: &Certificate) -> bool {
        let secret = certificate.secret_key();
        !self.settings.cross_namespace_secrets
            && self.secret_grants.of(&key.object.namespace, &secret) == SecretGrant::Unknown
    }

    pub(super) fn order_runs(&self, key: &CertificateKey) -> bool {
        self.orders.running(key).is_some()
    }

    /// Removes challenge records that no order needs. Returns whether none is left.
    async fn sweep(&self, key: &CertificateKey) -> bool {
        match self.challenges.sweep(&key.owner()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(certificate = %key, "challenge records of {key} could not be removed yet: {error}");
                false
            }
        }
    }
}
