//! Compares the Certificates of a source object with the desired ones and returns changes. Pure.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use cert_lib::model::name::DnsName;
use k8s_openapi::{
    api::core::v1::SecretReference, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::api::ObjectMeta;
use serde_json::{Map, Value, json};

use super::{
    annotations::{FORWARD_OWNER_REFS, SOURCE_CLASS},
    disposal::Disposal,
    extract::DesiredCertificate,
    object::Object,
    owned_certificates::OwnedCertificate,
    state::SourceState,
};
use crate::{
    api::{
        Certificate, CertificateCluster, ObjectKey, certificate::CertificateSpec, names,
        trim::MAX_OWNERS, well_known,
    },
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
    let disposal = |certificate| (certificate, state.disposal(certificate, &desired_by_secret));
    let owned: Vec<(&OwnedCertificate, Disposal)> = state.owned.iter().map(disposal).collect();
    let mut served = vec![false; state.extracted.certificates.len()];
    let mut changes = Vec::new();
    for (certificate, disposal) in &owned {
        match *disposal {
            Disposal::LeaveAlone | Disposal::Hold | Disposal::Adopt(_) => {}
            Disposal::Delete if certificate.deleting => {}
            Disposal::Delete => changes.push(delete(certificate)),
            Disposal::Keep(index) => {
                served[index] = true;
                let patch = state.patch(certificate, &state.extracted.certificates[index]);
                changes.extend(patch.map(|patch| change(certificate, patch)));
            }
        }
    }
    // A Certificate with a current owner wins over an orphan.
    for (certificate, disposal) in &owned {
        if let Disposal::Adopt(index) = *disposal {
            changes.push(state.adopt_or_delete(certificate, index, &mut served));
        }
    }
    let there = served.iter().filter(|served| **served).count();
    changes.extend(state.missing(&served, MAX_CERTIFICATES.saturating_sub(there)));
    let keeps_finalizer = owned.iter().any(|(certificate, disposal)| {
        certificate.key.cluster == CertificateCluster::Target && *disposal != Disposal::LeaveAlone
    });
    match state.finalizer_change(keeps_finalizer) {
        // The finalizer must exist before the objects that it protects.
        Some(Change::AddFinalizer) => changes.insert(0, Change::AddFinalizer),
        other => changes.extend(other),
    }
    Decision { changes, problem: left_out(served.len(), there) }
}

fn change(certificate: &OwnedCertificate, patch: Value) -> Change {
    Change::Patch(Box::new(certificate.clone()), patch)
}

fn delete(certificate: &OwnedCertificate) -> Change {
    Change::Delete(Box::new(certificate.clone()))
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

impl SourceState<'_> {
    /// Adopts an orphan for the desired certificate at `index`, unless that has a Certificate already.
    fn adopt_or_delete(
        &self,
        certificate: &OwnedCertificate,
        index: usize,
        served: &mut [bool],
    ) -> Change {
        match self.object {
            // An adoption replaces the whole list of owners, and with too many owners the list is
            // incomplete.
            Some(object) if !served[index] && certificate.references.len() <= MAX_OWNERS => {
                served[index] = true;
                let desired = &self.extracted.certificates[index];
                change(certificate, self.adoption(object, certificate, desired))
            }
            Some(_) | None => delete(certificate),
        }
    }

    /// Creates at most `room` of the Certificates that are not there.
    fn missing(&self, served: &[bool], room: usize) -> impl Iterator<Item = Change> {
        let missing =
            self.extracted.certificates.iter().zip(served).filter(|(_, served)| !**served);
        let missing = missing.take(room).map(|(desired, _)| desired);
        let create = |object, desired| Change::Create(Box::new(self.certificate(object, desired)));
        self.object
            .into_iter()
            .flat_map(move |object| missing.clone().map(move |desired| create(object, desired)))
    }

    fn finalizer_change(&self, is_needed: bool) -> Option<Change> {
        let object = self.object?;
        match (self.has_finalizer(object), is_needed) {
            (false, true) if !object.deleting => Some(Change::AddFinalizer),
            (true, false) => Some(Change::RemoveFinalizer),
            _ => None,
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
