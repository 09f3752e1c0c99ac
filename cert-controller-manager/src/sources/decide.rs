//! Compares the Certificates of a source object with the desired ones and returns changes. Pure.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest;
use cert_lib::model::name::DnsName;
use k8s_openapi::{
    api::core::v1::SecretReference, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::api::ObjectMeta;
use serde_json::{Map, Value, json};

use super::{
    annotations::{FORWARD_OWNER_REFS, SOURCE_CLASS},
    extract::{DesiredCertificate, Extracted},
    key::SourceKey,
    object::Object,
    owned_certificates::OwnedCertificate,
};
use crate::{
    api::{
        Certificate, CertificateCluster, ObjectKey, certificate::CertificateSpec, names,
        trim::MAX_OWNERS, well_known,
    },
    config::SourceSettings,
    runtime::merge::difference,
};

/// Maximum length of a common name (RFC 5280 appendix A.1, ub-common-name), in bytes like upstream.
const MAX_COMMON_NAME: usize = 64;
/// Maximum number of Certificates for one object. Existing ones above the limit stay.
const MAX_CERTIFICATES: usize = 200;

/// A write to the cluster.
#[derive(Clone, Debug)]
pub enum Change {
    /// Add our finalizer to the source object.
    AddFinalizer,
    /// Remove our finalizer from the source object.
    RemoveFinalizer,
    /// Create a Certificate on the source cluster. Its name is the same at every attempt.
    Create(Box<Certificate>),
    /// Apply a merge patch to a Certificate.
    Patch(Box<OwnedCertificate>, Value),
    /// Delete a Certificate.
    Delete(Box<OwnedCertificate>),
}

/// The input of [`decide`]: a source object and its Certificates.
pub struct SourceState<'a> {
    /// The key of the source object.
    pub key: &'a SourceKey,
    /// The source object; `None` only if it is certainly absent.
    pub object: Option<&'a Object>,
    /// The desired certificates; empty if the object is absent.
    pub extracted: &'a Extracted,
    /// The Certificates that the object owns.
    pub owned: &'a [OwnedCertificate],
    /// Whether the target is a separate cluster.
    pub has_target: bool,
    /// The configuration of the source controllers.
    pub settings: &'a SourceSettings,
}

/// The output of [`decide`].
#[derive(Debug, Default)]
pub struct Decision {
    /// The changes, in order; empty in the steady state.
    pub changes: Vec<Change>,
    /// A message about certificates that are left out.
    pub problem: Option<String>,
}

/// Returns the changes that lead to the desired Certificates.
#[must_use]
pub fn decide(state: &SourceState<'_>) -> Decision {
    let desired_by_secret = state.desired_by_secret();
    let mut changes = Vec::new();
    let mut served = vec![false; state.extracted.certificates.len()];
    let mut keeps_finalizer = false;
    let mut orphans = Vec::new();
    for certificate in state.owned {
        let disposal = state.disposal(certificate, &desired_by_secret);
        keeps_finalizer |= certificate.key.cluster == CertificateCluster::Target
            && disposal != Disposal::LeaveAlone;
        match disposal {
            Disposal::LeaveAlone | Disposal::Hold => {}
            Disposal::Delete if certificate.deleting => {}
            Disposal::Delete => changes.push(Change::Delete(Box::new(certificate.clone()))),
            Disposal::Keep(index) => {
                served[index] = true;
                let patch = state.patch(certificate, &state.extracted.certificates[index]);
                changes
                    .extend(patch.map(|patch| Change::Patch(Box::new(certificate.clone()), patch)));
            }
            Disposal::Adopt(index) => orphans.push((certificate, index)),
        }
    }
    for (certificate, index) in orphans {
        let certificate = Box::new(certificate.clone());
        match state.object {
            // A Certificate with a current owner wins over an orphan. An adoption replaces the
            // whole list of owners, and with too many owners the list is incomplete.
            Some(object) if !served[index] && certificate.references.len() <= MAX_OWNERS => {
                served[index] = true;
                let desired = &state.extracted.certificates[index];
                let patch = state.adoption(object, &certificate, desired);
                changes.push(Change::Patch(certificate, patch));
            }
            Some(_) | None => changes.push(Change::Delete(certificate)),
        }
    }
    let there = served.iter().filter(|served| **served).count();
    let missing = state.extracted.certificates.iter().zip(&served).filter(|(_, served)| !**served);
    for (certificate, _) in missing.take(MAX_CERTIFICATES.saturating_sub(there)) {
        if let Some(object) = state.object {
            changes.push(Change::Create(Box::new(state.certificate(object, certificate))));
        }
    }
    if let Some(object) = state.object {
        let has = object.finalizers.contains(&finalizer(state.key, state.settings));
        match (has, keeps_finalizer) {
            // The finalizer must exist before the objects that it protects.
            (false, true) if !object.deleting => changes.insert(0, Change::AddFinalizer),
            (true, false) => changes.push(Change::RemoveFinalizer),
            _ => {}
        }
    }
    Decision { changes, problem: left_out(served.len(), there) }
}

/// A message if not all requested certificates are created.
fn left_out(requested: usize, there: usize) -> Option<String> {
    let count = requested - there.max(requested.min(MAX_CERTIFICATES));
    (count > 0).then(|| {
        format!(
            "{count} of {requested} certificates are left out: the limit is {MAX_CERTIFICATES} for each \
             object; divide it into several objects"
        )
    })
}

/// Indexes of the desired certificates, by their Secret.
type DesiredBySecret = HashMap<ObjectKey, usize>;

#[derive(Eq, PartialEq)]
enum Disposal {
    LeaveAlone,
    /// Leave unchanged, and keep the finalizer.
    Hold,
    Delete,
    /// It belongs to the desired certificate at this index.
    Keep(usize),
    /// Like `Keep`, but the owner has a former uid: objects get new ones when a cluster is restored.
    Adopt(usize),
}

impl SourceState<'_> {
    fn desired_by_secret(&self) -> DesiredBySecret {
        let mut desired_by_secret = DesiredBySecret::new();
        for (index, certificate) in self.extracted.certificates.iter().enumerate() {
            desired_by_secret.entry(certificate.secret.clone()).or_insert(index);
            desired_by_secret.entry(self.secret(certificate)).or_insert(index);
        }
        desired_by_secret
    }

    fn disposal(
        &self,
        certificate: &OwnedCertificate,
        desired_by_secret: &DesiredBySecret,
    ) -> Disposal {
        let index =
            certificate.secret.as_ref().and_then(|secret| desired_by_secret.get(secret).copied());
        // A Certificate with several owners is deleted with the last one.
        if certificate.owners.len() > 1 && index.is_none() {
            return Disposal::LeaveAlone;
        }
        let Some(object) = self.object else { return Disposal::Delete };
        let of_this = |(key, uid): &(SourceKey, Option<String>)| {
            key == self.key && uid.as_ref().is_none_or(|uid| *uid == object.uid)
        };
        if !certificate.owners.iter().any(of_this) {
            return match index {
                _ if !self.extracted.responsible || object.deleting || certificate.deleting => {
                    Disposal::Delete
                }
                _ if self.extracted.held => Disposal::Hold,
                Some(index) => Disposal::Adopt(index),
                None => Disposal::Delete,
            };
        }
        let has_finalizer = object.finalizers.contains(&finalizer(self.key, self.settings));
        if object.deleting {
            // Garbage collection deletes or orphans objects with an owner reference.
            return if certificate.key.cluster == CertificateCluster::Target || has_finalizer {
                Disposal::Delete
            } else {
                Disposal::LeaveAlone
            };
        }
        if !self.extracted.responsible {
            let made_for = certificate.annotations.get(SOURCE_CLASS);
            let is_ours = made_for.is_some_and(|class| self.settings.classes.serves(Some(class)));
            let by_finalizer =
                certificate.key.cluster == CertificateCluster::Target && has_finalizer;
            return if is_ours || by_finalizer { Disposal::Delete } else { Disposal::LeaveAlone };
        }
        if self.extracted.held {
            return Disposal::Hold;
        }
        index.map_or(Disposal::Delete, Disposal::Keep)
    }

    /// The Secret of the Certificate.
    fn secret(&self, certificate: &DesiredCertificate) -> ObjectKey {
        let elsewhere = self.settings.target_namespace.as_ref().filter(|_| self.has_target);
        match elsewhere {
            Some(namespace) => ObjectKey::new(namespace, &certificate.secret.name),
            None => certificate.secret.clone(),
        }
    }

    fn certificate(&self, object: &Object, desired: &DesiredCertificate) -> Certificate {
        let secret = self.secret(desired);
        let mut annotations = self.annotations(desired);
        annotations.insert(SOURCE_CLASS.to_owned(), self.default_class().to_owned());
        let reference = SecretReference {
            name: Some(secret.name.clone()),
            namespace: Some(secret.namespace.clone()),
        };
        Certificate {
            metadata: ObjectMeta {
                namespace: Some(self.key.object.namespace.clone()),
                name: Some(self.name(object, &secret)),
                annotations: Some(annotations),
                owner_references: Some(vec![self.owner(object)]),
                ..ObjectMeta::default()
            },
            spec: CertificateSpec { secret_ref: Some(reference), ..spec(desired) },
            status: None,
        }
    }

    /// The name is deterministic, so that a repeated attempt does not create a second Certificate.
    fn name(&self, object: &Object, secret: &ObjectKey) -> String {
        let prefix = if self.has_target { self.settings.target_name_prefix.as_str() } else { "" };
        let hash = digest::digest(&digest::SHA224, format!("{secret}\0{}", object.uid).as_bytes());
        let hash: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let kind = self.key.kind.name().kind;
        let name = format!("{prefix}{}-{kind}", self.key.object.name).to_lowercase();
        names::derived(&name, &hash)
    }

    fn owner(&self, object: &Object) -> OwnerReference {
        let name = self.key.kind.name();
        let api_version = match name.group {
            "" => object.version.to_owned(),
            group => format!("{group}/{}", object.version),
        };
        OwnerReference {
            api_version,
            kind: name.kind.to_owned(),
            name: self.key.object.name.clone(),
            uid: object.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    fn default_class(&self) -> &str {
        self.settings.classes.main()
    }

    fn annotations(&self, desired: &DesiredCertificate) -> BTreeMap<String, String> {
        let mut annotations = desired.options.copied.clone();
        annotations.insert(FORWARD_OWNER_REFS.to_owned(), "true".to_owned());
        if let Some(class) = &self.settings.target_class {
            annotations.insert(well_known::CLASS.to_owned(), class.clone());
        }
        annotations
    }

    /// The merge patch for a Certificate; `None` if it is up to date. Namespace and Secret never change.
    #[must_use]
    pub(super) fn patch(
        &self,
        certificate: &OwnedCertificate,
        desired: &DesiredCertificate,
    ) -> Option<Value> {
        let mut patch = Map::new();
        let should = spec(desired);
        if should != certificate.managed {
            let should = serde_json::to_value(should).ok()?;
            let is = serde_json::to_value(&certificate.managed).ok()?;
            patch.extend(difference(&is, &should).map(|spec| ("spec".to_owned(), spec)));
        }
        let annotations = self.changed_annotations(certificate, desired);
        if !annotations.is_empty() {
            patch.insert("metadata".to_owned(), json!({ "annotations": annotations }));
        }
        if patch.is_empty() {
            return None;
        }
        let mut patch = Value::Object(patch);
        // The uid prevents a patch of another object with the same name.
        patch["metadata"]["uid"] = json!(certificate.uid);
        Some(patch)
    }

    /// The merge patch for a Certificate whose owner was recreated with another uid.
    fn adoption(
        &self,
        object: &Object,
        certificate: &OwnedCertificate,
        desired: &DesiredCertificate,
    ) -> Value {
        let mut patch = self.patch(certificate, desired).unwrap_or_else(|| json!({}));
        let owner = self.owner(object);
        let is_of_this = |one: &&OwnerReference| {
            let group = |one: &OwnerReference| {
                one.api_version.rsplit_once('/').map(|(group, _)| group.to_owned())
            };
            (group(one), &one.kind, &one.name) == (group(&owner), &owner.kind, &owner.name)
        };
        let others = certificate.references.iter().filter(|one| !is_of_this(one)).cloned();
        let references: Vec<_> = std::iter::once(owner.clone()).chain(others).collect();
        // The patch replaces the whole list: the version guards against concurrent changes.
        patch["metadata"]["uid"] = json!(certificate.uid);
        patch["metadata"]["resourceVersion"] = json!(certificate.resource_version);
        patch["metadata"]["ownerReferences"] = json!(references);
        patch
    }

    fn changed_annotations(
        &self,
        certificate: &OwnedCertificate,
        desired: &DesiredCertificate,
    ) -> Map<String, Value> {
        let mut should = self.annotations(desired);
        // Certificates of upstream lack it. Adding it would write to every Certificate at the migration.
        if certificate.annotations.contains_key(SOURCE_CLASS) {
            should.insert(SOURCE_CLASS.to_owned(), self.default_class().to_owned());
        }
        let changed =
            should.iter().filter(|(name, text)| certificate.annotations.get(*name) != Some(text));
        let changed = changed.map(|(name, text)| (name.clone(), json!(text)));
        let surplus = certificate.annotations.keys().filter(|name| !should.contains_key(*name));
        let mut all: Map<_, _> =
            changed.chain(surplus.map(|name| (name.clone(), Value::Null))).collect();
        if let Some(text) = &certificate.migrated {
            all.insert(crate::api::owners::OWNERS.to_owned(), json!(text));
        }
        all
    }
}

/// Our finalizer for objects of this kind. It contains the class unless that is the default.
#[must_use]
pub fn finalizer(key: &SourceKey, settings: &SourceSettings) -> String {
    let plain = key.kind.row().finalizer;
    match settings.classes.main() {
        well_known::DEFAULT_CLASS => plain.to_owned(),
        class => format!("{class}.{plain}"),
    }
}

/// The fields of a Certificate that the source object determines.
///
/// An invalid first name becomes a DNS name, which is refused. As the common name, a CA issuer would
/// certify it, and the intended names would be missing.
fn spec(desired: &DesiredCertificate) -> CertificateSpec {
    let options = &desired.options;
    let fits = |name: &str| name.len() <= MAX_COMMON_NAME && name.parse::<DnsName>().is_ok();
    let (common_name, dns_names) = match desired.domains.as_slice().split_first() {
        Some((first, rest)) if fits(first) => (Some(first.clone()), rest),
        _ => (None, desired.domains.as_slice()),
    };
    CertificateSpec {
        common_name,
        dns_names: (!dns_names.is_empty()).then(|| dns_names.to_vec()),
        issuer_ref: options.issuer.clone(),
        secret_labels: options.secret_labels.clone(),
        follow_cname: options.follow_cname.then_some(true),
        preferred_chain: options.preferred_chain.clone(),
        profile: options.profile.clone(),
        private_key: options.private_key.clone(),
        renew_before: options.renew_before.clone(),
        ..CertificateSpec::default()
    }
}

#[cfg(test)]
mod tests;
