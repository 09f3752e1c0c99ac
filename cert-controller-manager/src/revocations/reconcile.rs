//! Reconciles one CertificateRevocation.
//! [`watch_handlers`](super::watch_handlers) decides when a pass is needed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    controller::Controller,
    index::RevocationKey,
    observed::Lists,
    pass::{FALLBACK, Pass},
    plan::{self, Admission, Step},
    status::{self, StatusUpdate},
};
use crate::{
    api::{CertificateRevocation, is_served, time::seconds_up},
    runtime::{
        errors::{brief, is_refusal, is_unexpected},
        requeue,
    },
};

/// Interval of passes while the specification is refused.
const REFUSED_RECHECK: SignedDuration = SignedDuration::from_mins(10);

impl Controller {
    /// Runs one pass. Returns the delay until the next one.
    pub async fn reconcile(&self, key: RevocationKey) -> Option<Duration> {
        match self.pass(&key).await {
            Ok(Some(look_again)) => Some(requeue::until(look_again, self.clock.now())),
            Ok(None) => None,
            // The object was deleted; the watch has reported it or will do so.
            Err(_) if self.index.get(&key).is_none() => None,
            Err(error) => {
                if is_unexpected(&error) {
                    tracing::warn!(revocation = %key, "revocation {key}: a cluster refused a request or is unavailable: {}", brief(&error));
                }
                // A retry after a refused write may ask the CA again, so it is delayed.
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

    /// Sets the missing date: all certificates requested until now are revoked.
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
