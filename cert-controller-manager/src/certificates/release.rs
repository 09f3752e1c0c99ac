//! Adds our finalizer to Certificates whose Secret cannot have owner references. On deletion,
//! deletes the Secret and removes the finalizer.
//!
//! A deleted Certificate may be replaced soon: after a restore, its owner has a new uid, and
//! Kubernetes deletes the objects of the previous uid. Then the Secret is kept for the next
//! Certificate of that owner.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::json;

use super::{
    controller::Controller,
    ownership::{self, SecretOwnership},
    record::CertificateRecords,
    secret_grant::SecretGrant,
};
use crate::{
    api::{Certificate, CertificateKey, ObjectKey, is_served},
    runtime::requeue,
};

/// How long to wait for the next Certificate of an owner that was recreated.
const SUCCESSOR_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

impl Controller {
    /// Adds our finalizer before the Secret is written, or removes it if it is not needed. Returns
    /// whether the Certificate was changed.
    pub(super) async fn ensure_finalizer(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        ownership: &SecretOwnership,
    ) -> kube::Result<bool> {
        let needed = matches!(ownership, SecretOwnership::Finalizer(_));
        if needed == ownership::has_finalizer(certificate) {
            return Ok(false);
        }
        self.write_finalizers(key, certificate, needed).await?;
        Ok(true)
    }

    /// Handles a Certificate that is being deleted. Deletes the Secret first, if it is owned by
    /// this Certificate and no other one uses it. Returns the time of the next pass while a
    /// successor is expected.
    pub(super) async fn release(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
    ) -> kube::Result<Option<Timestamp>> {
        if !ownership::has_finalizer(certificate) || !is_served(certificate, &self.settings.classes)
        {
            return Ok(None);
        }
        let secret = certificate.secret_key();
        let ownership = ownership::of(
            key,
            certificate,
            &secret,
            &self.cluster_identities,
            self.settings.cascade_delete,
        );
        if matches!(ownership, SecretOwnership::Finalizer(_)) && !self.has_successor(key, &secret) {
            if let Some(soon) = self.successor_is_expected(key, certificate).await? {
                return Ok(Some(soon));
            }
            let owners = self.cluster_identities.owners(key);
            self.secrets.delete_if_owned(&secret, &owners, None).await?;
        }
        self.write_finalizers(key, certificate, false).await?;
        self.records.forget(key);
        Ok(None)
    }

    /// The Certificate has another Secret now. With cascading deletion, deletes the previous one if
    /// it is owned by this Certificate and no other one uses it; otherwise keeps it. *Idempotent*.
    pub(super) async fn release_previous_secret(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        previous: &ObjectKey,
    ) -> kube::Result<()> {
        if !self.settings.cascade_delete || self.has_successor(key, previous) {
            return Ok(());
        }
        let owners = self.cluster_identities.owners(key);
        self.secrets.delete_if_owned(previous, &owners, certificate.uid().as_deref()).await
    }

    /// Whether another Certificate uses this Secret and may do so.
    fn has_successor(&self, key: &CertificateKey, secret: &ObjectKey) -> bool {
        let others = self.index.of_secret(secret).into_iter().filter(|other| other != key);
        let mut others = others.filter_map(|other| Some((self.index.get(&other)?, other)));
        others.any(|(certificate, other)| {
            let may_write = self.settings.cross_namespace_secrets
                || self.secret_grants.of(&other.object.namespace, secret) == SecretGrant::Given;
            may_write
                && certificate.metadata.deletion_timestamp.is_none()
                && is_served(certificate.as_ref(), &self.settings.classes)
        })
    }

    /// The time of the next pass if the owner was recreated with another uid, so that a new
    /// Certificate will follow.
    async fn successor_is_expected(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
    ) -> kube::Result<Option<Timestamp>> {
        let now = self.clock.now();
        let since = self.records.deleted_since(key, certificate, now);
        let owner = certificate.owner_references().iter().find(|it| it.controller == Some(true));
        let may_return = |owner: &&OwnerReference| {
            now.duration_since(since) < SUCCESSOR_TIMEOUT && can_be_looked_up(owner)
        };
        let Some(owner) = owner.filter(may_return) else { return Ok(None) };
        let found = match self.owners_of_kind(key, owner).get_metadata_opt(&owner.name).await {
            Ok(found) => found,
            Err(kube::Error::Api(status)) if is_not_found(status.code) => None,
            Err(error) => return Err(error),
        };
        let is_back = found.is_some_and(|found| {
            found.metadata.deletion_timestamp.is_none() && found.uid().as_ref() != Some(&owner.uid)
        });
        Ok(is_back.then(|| now + requeue::UNREACHABLE))
    }

    /// The API for the owner's kind, in the namespace of the Certificate.
    fn owners_of_kind(&self, key: &CertificateKey, owner: &OwnerReference) -> Api<DynamicObject> {
        let (group, version) =
            owner.api_version.split_once('/').unwrap_or(("", owner.api_version.as_str()));
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &owner.kind));
        Api::namespaced_with(
            self.clusters.at(key.cluster).client.clone(),
            &key.object.namespace,
            &kind,
        )
    }

    /// A merge patch replaces the whole list, and the index keeps our finalizer only, so the list
    /// is read first. The resource version turns a concurrent change into a conflict; the next pass
    /// retries.
    async fn write_finalizers(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        ours: bool,
    ) -> kube::Result<()> {
        let Some(found) = self.api(key).get_metadata_opt(&key.object.name).await? else {
            return Ok(());
        };
        let patch = json!({ "metadata": {
            "uid": certificate.uid(),
            "resourceVersion": certificate.resource_version(),
            "finalizers": ownership::finalizers(found.finalizers(), ours),
        }});
        match self.write(key, &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether the API server reports that the object or its kind does not exist. Other errors say
/// nothing about the owner.
fn is_not_found(code: u16) -> bool {
    matches!(code, 400 | 404 | 405)
}

impl CertificateRecords {
    /// When this process first observed the deletion; `now` if that is new. The deletion timestamp is not
    /// enough: the controller that creates the successor may have been down with this manager.
    fn deleted_since(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        now: Timestamp,
    ) -> Timestamp {
        self.forget_other_uid(key, certificate.metadata.uid.as_deref());
        let since = self.change(key, |record| *record.deletion.get_or_insert(now));
        self.forget_other_uid(key, certificate.metadata.uid.as_deref());
        since
    }
}

/// Whether an owner reference forms a valid API path. Tenants can write these references.
fn can_be_looked_up(owner: &OwnerReference) -> bool {
    let is_plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
    };
    let (group, version) =
        owner.api_version.split_once('/').unwrap_or(("core", owner.api_version.as_str()));
    [group, version, &owner.kind, &owner.name].into_iter().all(is_plain)
        && !owner.name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CertificateCluster;

    #[test]
    fn only_an_answer_about_the_owner_means_that_it_is_missing() {
        for (code, is_none) in [
            (404, true),
            (405, true),
            (400, true),
            (401, false),
            (403, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            assert_eq!(is_not_found(code), is_none, "{code}");
        }
    }

    #[test]
    fn the_wait_for_a_successor_starts_when_the_deletion_is_first_observed() {
        let records = CertificateRecords::default();
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let key = CertificateKey::new(CertificateCluster::Source, ObjectKey::new("ns", "a"));
        let certificate = |uid: &str| {
            let mut certificate =
                Certificate::new("a", crate::api::certificate::CertificateSpec::default());
            certificate.metadata.uid = Some(uid.to_owned());
            // Deleted while no manager was running.
            certificate.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(-1_000)));
            certificate
        };
        assert_eq!(records.deleted_since(&key, &certificate("1"), at(0)), at(0));
        assert_eq!(records.deleted_since(&key, &certificate("1"), at(60)), at(0));
        assert_eq!(records.deleted_since(&key, &certificate("2"), at(70)), at(70));
        // Each pass of a Certificate that is being deleted forgets the rest.
        records.forget_all_but_deletion(&key);
        assert_eq!(records.deleted_since(&key, &certificate("2"), at(75)), at(70));
        records.forget(&key);
        assert_eq!(records.deleted_since(&key, &certificate("2"), at(80)), at(80));
    }

    #[test]
    fn an_owner_is_looked_up_only_with_a_valid_reference() {
        let owner = |api_version: &str, kind: &str, name: &str| OwnerReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            ..OwnerReference::default()
        };
        for (owner, can) in [
            (owner("networking.k8s.io/v1", "Ingress", "web"), true),
            (owner("v1", "Service", "a.b-c"), true),
            (owner("v1", "../../secrets?x=", "web"), false),
            (owner("v1", "Service", "../web"), false),
            (owner("v1", "Service", ".."), false),
            (owner("", "Service", "web"), false),
            (owner("a/b/c", "Service", "web"), false),
        ] {
            assert_eq!(can_be_looked_up(&owner), can, "{owner:?}");
        }
    }
}
