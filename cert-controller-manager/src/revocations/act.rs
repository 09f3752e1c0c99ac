//! Executes the next step of the plan.

use std::sync::Arc;

use cert_lib::{
    issue::{Disposition, Issuer, RevocationReason},
    model::bundle::LeafDigest,
    plan::backoff::{self, Backoff},
};
use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    controller::Controller,
    index::RevocationKey,
    observe,
    observed::{Backup, Lists, Observed},
    pass::{FALLBACK, POSTPONED_RECHECK, Pass},
    plan::{self, Step},
    status::{self, State, StatusUpdate},
};
use crate::{
    api::{IssuerKey, ObjectKey, revocation::CertificateName, well_known},
    issuers::registry::Lookup,
};

/// Result of the revocation of one certificate.
enum Outcome {
    Revoked,
    /// The CA refuses the revocation.
    Refused(String),
    /// The revocation failed; retry after this disposition, or when the issuer is ready.
    Later(String, Option<Disposition>),
    /// Another worker asks the CA of this tenant; nothing was tried.
    OtherWorker,
}

/// The outcomes of one pass.
#[derive(Default)]
struct Attempts {
    errors: Vec<String>,
    /// The longest wait before a retry.
    backoff: Option<Backoff>,
    waits_for_issuer: bool,
    /// Number of certificates for other workers.
    postponed: usize,
}

impl Controller {
    /// Annotates backups with tenant and issuer, so that they are found after the Secrets have new
    /// certificates. *Idempotent*.
    pub(super) async fn annotate_backups(
        &self,
        key: &RevocationKey,
        namespace: &str,
        observed: &Observed,
        backups: &[ObjectKey],
    ) -> kube::Result<()> {
        let Some(subject) = &observed.subject else { return Ok(()) };
        let issuer = &subject.issuer.key;
        for backup in backups {
            let tenants = self.cluster_identities.tenants(key.cluster, namespace);
            let tenant = tenants.first().map_or("", String::as_str);
            self.annotate_backup(backup, tenant, issuer).await?;
        }
        Ok(())
    }

    /// Adds the tenant to the annotation of a backup, and keeps the tenants that are there.
    async fn annotate_backup(
        &self,
        backup: &ObjectKey,
        tenant: &str,
        issuer: &IssuerKey,
    ) -> kube::Result<()> {
        let api = self.secrets(&backup.namespace);
        let Some(secret) = api.get_opt(&backup.name).await? else { return Ok(()) };
        let noted = secret.annotations().get(well_known::BACKUP_OF).cloned().unwrap_or_default();
        let mut tenants: Vec<&str> =
            noted.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
        if !tenants.contains(&tenant) {
            tenants.push(tenant);
        }
        let known = secret.annotations().get(well_known::BACKUP_ISSUER).cloned();
        let patch = annotate(&json!({
            well_known::BACKUP_OF: tenants.join(","),
            well_known::BACKUP_ISSUER: known.unwrap_or_else(|| issuer.to_string()),
        }));
        api.patch(&backup.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Requests renewals and waits for them.
    pub(super) async fn renew(
        &self,
        pass: &Pass<'_>,
        lists: Lists,
        to_renew: &[CertificateName],
    ) -> kube::Result<Option<Timestamp>> {
        let date = pass.date.to_string();
        let patch = json!({
            "metadata": { "annotations": { well_known::NEW_KEY_AFTER: date } },
            "spec": { "ensureRenewedAfter": date },
        });
        for name in to_renew {
            let api = self.certificates(pass.key, &name.namespace);
            match api.patch(&name.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => {}
                // The Certificate was deleted; the next pass continues without it.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let count = lists.processing.len();
        let message = format!("renewing certificate for {count} certificate objects");
        self.publish_status(
            pass.key,
            pass.revocation,
            &StatusUpdate::pending(message, Some(lists)),
        )
        .await?;
        Ok(Some(pass.now + FALLBACK))
    }

    /// Revokes the remaining certificates.
    pub(super) async fn revoke(
        &self,
        mut pass: Pass<'_>,
        mut lists: Lists,
        backups: &[Backup],
    ) -> kube::Result<Option<Timestamp>> {
        let previous = status::backoff(pass.revocation).map(|backoff| backoff.interval);
        let mut attempts = Attempts::default();
        for backup in backups {
            let outcome = self.revoke_one(&pass, backup).await?;
            match outcome {
                Outcome::Revoked => {
                    let done = pass.observed.backups.iter_mut().filter(|it| *it == backup);
                    done.for_each(|it| it.revoked = true);
                }
                Outcome::Refused(_) => {
                    lists.secrets.remove(&backup.listed());
                    lists.failed_secrets.insert(backup.listed());
                }
                Outcome::Later(..) | Outcome::OtherWorker => {}
            }
            attempts.record(&backup.text, outcome, |disposition| {
                backoff::after(disposition, previous, pass.now)
            });
        }
        if attempts.postponed == backups.len() {
            return Ok(Some(pass.now));
        }
        match plan::next(&pass.observed, Some(lists), pass.renew, pass.date, true, pass.now) {
            Step::Finish(lists) => self.finish(&pass, lists, attempts.message()).await,
            Step::Revoke(lists, _) => {
                let message = attempts.message();
                let message = message.unwrap_or_else(|| "revoking old certificate".to_owned());
                let pending = StatusUpdate::pending(message, Some(lists));
                let update = StatusUpdate { backoff: attempts.backoff, ..pending };
                self.publish_status(pass.key, pass.revocation, &update).await?;
                Ok(Some(attempts.next_at(pass.now)))
            }
            Step::Refuse(_) | Step::Annotate(_) | Step::Begin(..) | Step::Renew(..) => {
                Ok(Some(pass.now + FALLBACK))
            }
        }
    }

    async fn revoke_one(&self, pass: &Pass<'_>, backup: &Backup) -> kube::Result<Outcome> {
        let Some(key) = &backup.issuer else {
            return Ok(Outcome::Refused("its issuer is unknown".to_owned()));
        };
        let issuer = match ready(key, self.issuers.lookup(key)) {
            Ok(issuer) => issuer,
            Err(why) => return Ok(Outcome::Later(why, None)),
        };
        // CAs of tenants are asked by the workers for that tenant: the next pass runs there.
        if let Some(tenant) = key.tenant()
            && self.index.tenant_of(pass.key).as_deref() != Some(tenant)
        {
            self.index.note_tenant(pass.key, tenant);
            return Ok(Outcome::OtherWorker);
        }
        let secret = self.secrets(&backup.secret.namespace).get(&backup.secret.name).await?;
        let chain = observe::bundle(&secret).map(|bundle| bundle.chain).unwrap_or_default();
        // A tenant may have replaced the certificate since it was observed.
        let Some(leaf) = chain.first().filter(|leaf| LeafDigest::of(leaf) == backup.leaf) else {
            let why = format!("Secret {} no longer has this certificate", backup.secret);
            return Ok(Outcome::Refused(why));
        };
        let why = match pass.renew {
            true => RevocationReason::Superseded,
            false => RevocationReason::Unspecified,
        };
        match issuer.revoke(leaf, why).await {
            Ok(()) => {}
            Err(error) if error.disposition() == Disposition::FixRequest => {
                return Ok(Outcome::Refused(error.to_string()));
            }
            Err(error) => {
                if error.disposition() == Disposition::FixIssuer {
                    self.issuers.recheck(key, error.to_string());
                }
                return Ok(Outcome::Later(error.to_string(), Some(error.disposition())));
            }
        }
        self.mark(pass, backup, &secret).await?;
        Ok(Outcome::Revoked)
    }

    /// Publishes the final status.
    pub(super) async fn finish(
        &self,
        pass: &Pass<'_>,
        lists: Lists,
        errors: Option<String>,
    ) -> kube::Result<Option<Timestamp>> {
        let published = pass.revocation.status.as_ref().and_then(|status| status.message.clone());
        let before = errors.or(published).unwrap_or_default();
        let (ending, message) = plan::ending(&lists, pass.renew, &before);
        let update = StatusUpdate {
            state: State::from(ending),
            finished: true,
            ..StatusUpdate::pending(message, Some(lists))
        };
        self.publish_status(pass.key, pass.revocation, &update).await?;
        Ok(None)
    }
}

impl Attempts {
    /// Adds the outcome for the certificate with this serial number.
    fn record(&mut self, serial: &str, outcome: Outcome, backoff: impl Fn(Disposition) -> Backoff) {
        match outcome {
            Outcome::Revoked => {}
            Outcome::OtherWorker => self.postponed += 1,
            Outcome::Refused(why) => self.errors.push(format!("{serial}: {why}")),
            Outcome::Later(why, disposition) => {
                self.errors.push(format!("{serial}: {why}"));
                self.waits_for_issuer |= disposition.is_none();
                let waits = self.backoff.into_iter().chain(disposition.map(backoff));
                self.backoff = waits.max_by_key(|wait| wait.until);
            }
        }
    }

    fn message(&self) -> Option<String> {
        (!self.errors.is_empty())
            .then(|| format!("errors during revocation: {}", self.errors.join("; ")))
    }

    /// The time of the next pass.
    fn next_at(&self, now: Timestamp) -> Timestamp {
        match self.backoff {
            _ if self.postponed > 0 => now + POSTPONED_RECHECK,
            Some(backoff) if !self.waits_for_issuer => backoff.until,
            Some(_) | None => now + FALLBACK,
        }
    }
}

/// The issuer, or why it cannot revoke.
fn ready(key: &IssuerKey, found: Lookup) -> Result<Arc<dyn Issuer>, String> {
    match found {
        Lookup::Ready { issuer, .. } => Ok(issuer),
        Lookup::Missing => Err(format!("issuer {key} does not exist")),
        Lookup::Unknown => Err(format!("issuer {key} has not been checked yet")),
        Lookup::NotReady(why) => Err(format!("issuer {key} not ready: {why}")),
    }
}

fn annotate(annotations: &Value) -> Value {
    json!({ "metadata": { "annotations": annotations } })
}
