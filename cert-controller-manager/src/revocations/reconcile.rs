//! One pass over one CertificateRevocation.

use std::{sync::Arc, time::Duration};

use cert_lib::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    act::Pass,
    index::{Index, RevocationKey},
    observed::Lists,
    plan::{self, Admission, Step},
    status::{self, StatusUpdate},
};
use crate::{
    api::{CertificateRevocation, ClusterIdentities, is_served, time::seconds_up},
    config::CertificateSettings,
    issuers::registry::Registry,
    runtime::{
        certificate_clusters::CertificateClusters,
        clusters::TargetCluster,
        errors::{brief, is_news, is_refusal},
        queue::Shared,
        requeue,
        tenant_limiter::TenantLimiter,
    },
};

/// Whoever waits is woken; this is for what nobody tells.
pub(super) const FALLBACK: SignedDuration = SignedDuration::from_secs(15);
/// The same for room among passes that wait for servers of tenants.
pub(super) const BUSY_RECHECK: SignedDuration = SignedDuration::from_secs(5);
/// The same where somebody must change something.
const REFUSED_RECHECK: SignedDuration = SignedDuration::from_mins(10);

/// Everything that a pass needs.
pub struct Controller {
    /// Where CertificateRevocations and Certificates live.
    pub clusters: CertificateClusters,
    /// Where Secrets live.
    pub target: TargetCluster,
    /// Which cluster is which.
    pub places: ClusterIdentities,
    /// Who issues.
    pub issuers: Arc<Registry>,
    /// What was asked of the manager.
    pub settings: CertificateSettings,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The CertificateRevocations.
    pub index: Index,
    /// Which of them need a pass.
    pub queue: Shared<RevocationKey>,
    /// How many passes wait for servers of tenants.
    pub tenant_limiter: TenantLimiter,
}

impl Controller {
    /// One pass. Returns after how long the next one is due.
    pub async fn reconcile(&self, key: RevocationKey) -> Option<Duration> {
        match self.pass(&key).await {
            Ok(Some(look_again)) => Some(requeue::until(look_again, self.clock.now())),
            Ok(None) => None,
            // The watch will tell that it is gone.
            Err(_) if self.index.get(&key).is_none() => None,
            Err(error) => {
                if is_news(&error) {
                    tracing::warn!(revocation = %key, "revocation {key}: a cluster refused or is away: {}", brief(&error));
                }
                // What is refused after the CA was asked makes it be asked again.
                Some(if is_refusal(&error) { requeue::REFUSED } else { requeue::after(&error) })
            }
        }
    }

    async fn pass(&self, key: &RevocationKey) -> kube::Result<Option<Timestamp>> {
        let Some(revocation) = self.index.get(key) else { return Ok(None) };
        if revocation.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let now = self.clock.now();
        let served = is_served(revocation.as_ref(), &self.settings.classes);
        let across_namespaces = self.settings.cross_namespace_secrets;
        let (spec, status) = (&revocation.spec, revocation.status.as_ref());
        match plan::admit(served, &key.object.namespace, spec, status, across_namespaces) {
            Admission::Ignore => Ok(None),
            Admission::SetDate => self.set_date(key, &revocation, now).await,
            Admission::Refuse(why) => {
                self.publish_status(key, &revocation, &StatusUpdate::error(why)).await?;
                Ok(Some(now + REFUSED_RECHECK))
            }
            Admission::Proceed(date) => self.proceed(key, &revocation, date, now).await,
        }
    }

    /// Without a date, all that was requested until now is meant.
    async fn set_date(
        &self,
        key: &RevocationKey,
        revocation: &CertificateRevocation,
        now: Timestamp,
    ) -> kube::Result<Option<Timestamp>> {
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": revocation.resource_version() },
            "spec": { "qualifyingDate": seconds_up(now) },
        }));
        let api = self.revocations(key);
        let written = api.patch(&key.object.name, &PatchParams::default(), &patch).await?;
        self.index.put(key, written);
        Ok(Some(now))
    }

    async fn proceed(
        &self,
        key: &RevocationKey,
        revocation: &CertificateRevocation,
        date: Timestamp,
        now: Timestamp,
    ) -> kube::Result<Option<Timestamp>> {
        if let Some(backoff) = status::backoff(revocation).filter(|backoff| backoff.until > now) {
            return Ok(Some(backoff.until));
        }
        let begun = Lists::of(revocation.status.as_ref());
        let renew = revocation.spec.renew == Some(true);
        let mut observed = self.observe(key, revocation, begun.as_ref()).await?;
        let mut step = plan::next(&observed, begun.clone(), renew, date, false, now);
        if let Step::Annotate(backups) = &step {
            let namespace = &revocation.spec.certificate_ref.namespace;
            self.annotate_backups(key, namespace, &observed, backups).await?;
            observed = self.observe(key, revocation, begun.as_ref()).await?;
            step = plan::next(&observed, begun, renew, date, true, now);
        }
        let pass = Pass { key, revocation, observed, renew, date, now };
        match step {
            Step::Refuse(why) => {
                self.publish_status(key, revocation, &StatusUpdate::error(why)).await?;
                Ok(Some(now + REFUSED_RECHECK))
            }
            Step::Annotate(_) => Ok(Some(now + FALLBACK)),
            Step::Begin(lists, message) => {
                self.publish_status(key, revocation, &StatusUpdate::pending(message, Some(lists)))
                    .await?;
                Ok(Some(now))
            }
            Step::Renew(lists, to_renew) => self.renew(&pass, lists, &to_renew).await,
            Step::Revoke(lists, backups) => self.revoke(pass, lists, &backups).await,
            Step::Finish(lists) => self.finish(&pass, lists, None).await,
        }
    }
}
