//! Deletes surplus backups, and certificate Secrets that no Certificate refers to and whose
//! certificate expired long ago. Runs when a process becomes the leader, and weekly.
//!
//! Only Secrets with the realm annotation of this manager are deleted: several managers can share a
//! target cluster. Candidates come from the watch, so nothing is listed. Secret data is read for
//! one candidate at a time.

use std::{convert::Infallible, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Preconditions},
};

use super::{
    controller::Controller,
    secret::{self, metadata::SecretMetadata},
};
use crate::{
    api::{IssuerKey, ObjectKey, Realm, backup, well_known},
    runtime::{errors::brief, heavy::reading},
};

/// How long a certificate must have been expired.
const GRACE_PERIOD: SignedDuration = SignedDuration::from_hours(14 * 24);
const PERIOD: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Delay after an API error.
const RETRY_AFTER: Duration = Duration::from_secs(600);

impl Controller {
    /// Runs forever. Call it only after all Certificates are listed: otherwise the Secret of an
    /// unlisted Certificate looks unused.
    pub async fn collect_garbage(&self) -> Infallible {
        loop {
            let wait = match self.collect_once().await {
                Ok(0) => PERIOD,
                Ok(deleted) => {
                    tracing::info!(
                        "deleted {deleted} unused Secrets of this manager: their certificates expired at least two weeks ago, or they were surplus backups"
                    );
                    PERIOD
                }
                Err(error) => {
                    tracing::warn!(
                        "cannot delete unused Secrets, trying again in 10 minutes: {}",
                        brief(&error)
                    );
                    RETRY_AFTER
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn collect_once(&self) -> kube::Result<usize> {
        let now = self.clock.now();
        let limit = backup::max_backups(&IssuerKey::Default(String::new()));
        let surplus = self.secrets.surplus(limit);
        let candidates = self.secrets.matching(|key, metadata| {
            may_have_expired(metadata, now) && self.index.of_secret(key).is_empty()
        });
        let mut deleted = 0;
        for (key, is_surplus) in
            candidates.iter().map(|key| (key, false)).chain(surplus.iter().map(|key| (key, true)))
        {
            let Some(secret) = self.secrets.api(key).get_opt(&key.name).await? else { continue };
            // Checked after the read: a Certificate created in the meantime keeps the Secret.
            let is_wanted = !self.index.of_secret(key).is_empty();
            if is_garbage(&secret, is_wanted, is_surplus, &self.realm, now)
                && self.delete_version(key, &secret).await?
            {
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// Deletes this version only. A Secret that changed since the read is left for the next run.
    async fn delete_version(&self, key: &ObjectKey, secret: &Secret) -> kube::Result<bool> {
        let same = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match self.secrets.api(key).delete(&key.name, &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether the Secret must be read to decide.
fn may_have_expired(metadata: &SecretMetadata, now: Timestamp) -> bool {
    let ends = metadata.backup.as_ref().and_then(|record| record.ends);
    metadata.is_ours && ends.is_none_or(|ends| is_past_grace_period(ends, now))
}

fn is_past_grace_period(ends: Timestamp, now: Timestamp) -> bool {
    now.duration_since(ends) >= GRACE_PERIOD
}

fn is_garbage(secret: &Secret, wanted: bool, surplus: bool, realm: &Realm, now: Timestamp) -> bool {
    let is_ours = secret.annotations().get(well_known::REALM).is_some_and(|text| realm.is(text));
    // An expired certificate is garbage even if its private key is missing or does not match.
    let ends = || reading(secret, || secret::leaf(secret)).map(|leaf| leaf.not_after);
    is_ours && !wanted && (surplus || ends().is_some_and(|ends| is_past_grace_period(ends, now)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;
    use crate::api::ClusterId;

    fn realm(cluster: &str) -> Realm {
        Realm::new("gardencert", &ClusterId { id: cluster.into(), former: vec![] })
    }

    fn secret(pem: &str) -> Secret {
        let data = BTreeMap::from([("tls.crt".to_owned(), ByteString(pem.as_bytes().to_vec()))]);
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        let mark = realm("one").as_str().to_owned();
        secret.annotations_mut().insert(well_known::REALM.to_owned(), mark);
        secret
    }

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 3, 1);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn an_unused_secret_is_garbage_two_weeks_after_its_certificate_expired() {
        let over = secret(&certificate());
        for (wanted, now, garbage) in [
            (false, "2020-03-14T00:00:00Z", false),
            (false, "2020-03-15T00:00:00Z", true),
            (true, "2030-01-01T00:00:00Z", false),
            (false, "2020-01-15T00:00:00Z", false),
        ] {
            let now = now.parse().unwrap();
            let found = is_garbage(&over, wanted, false, &realm("one"), now);
            assert_eq!(found, garbage, "{now} {wanted}");
        }
        let mut without_its_key = over.clone();
        let key = ("tls.key".to_owned(), ByteString(b"another one".to_vec()));
        without_its_key.data.get_or_insert_default().extend([key]);
        let at = "2020-03-15T00:00:00Z".parse().unwrap();
        assert!(is_garbage(&without_its_key, false, false, &realm("one"), at));
        let unreadable = secret("no certificate");
        let late = "2030-01-01T00:00:00Z".parse().unwrap();
        assert!(!is_garbage(&unreadable, false, false, &realm("one"), late));
    }

    #[test]
    fn secrets_of_other_managers_and_without_a_realm_are_kept() {
        let late = "2030-01-01T00:00:00Z".parse().unwrap();
        let mut over = secret(&certificate());
        assert!(is_garbage(&over, false, false, &realm("one"), late));
        assert!(!is_garbage(&over, false, false, &realm("two"), late));
        over.annotations_mut().clear();
        assert!(!is_garbage(&over, false, true, &realm("one"), late));
    }

    #[test]
    fn a_backup_is_read_only_after_its_noted_expiration() {
        let record = |ends: &str| crate::certificates::secret::metadata::BackupMetadata {
            serial: 1,
            tenant: 1,
            is_shared: false,
            is_tenant_issued: false,
            ends: ends.parse().ok(),
            made: None,
        };
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        for (is_ours, ends, suspect) in [
            (true, Some("2026-11-01T00:00:00Z"), true),
            (true, Some("2026-11-20T00:00:00Z"), false),
            (true, Some("not noted"), true),
            (true, None, true),
            (false, Some("2026-11-01T00:00:00Z"), false),
            (false, None, false),
        ] {
            let record = ends.map(|ends| Box::new(record(ends)));
            let metadata = SecretMetadata { is_ours, backup: record, ..SecretMetadata::default() };
            assert_eq!(may_have_expired(&metadata, now), suspect, "{is_ours} {ends:?}");
        }
    }
}
