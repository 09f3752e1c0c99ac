//! What to do so that the Certificates of an object are the ones that it asks for. Pure.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest;
use cert_lib::model::name::DnsName;
use k8s_openapi::{
    api::core::v1::SecretReference, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::api::ObjectMeta;
use serde_json::{Map, Value, json};

use super::{
    SourceSettings,
    annotations::{FORWARD_OWNER_REFS, SOURCE_CLASS},
    extract::{DesiredCertificate, Extracted},
    kind::SourceKey,
    object::Object,
    owned_certificates::OwnedCertificate,
};
use crate::{
    api::{
        Certificate, CertificateCluster, ObjectKey, certificate::CertificateSpec, names,
        trim::MAX_OWNERS, well_known,
    },
    runtime::merge::difference,
};

/// Longest common name (RFC 5280 appendix A.1, ub-common-name), in bytes as upstream counts.
const MAX_COMMON_NAME: usize = 64;
/// Most Certificates that an object gets. Those that it has already are not counted away.
const MAX_CERTIFICATES: usize = 200;

/// Something to do.
#[derive(Clone, Debug)]
pub enum Change {
    /// Put our finalizer on the object.
    AddFinalizer,
    /// Take our finalizer from the object.
    RemoveFinalizer,
    /// Make a Certificate on the source cluster. Its name is the same at every try.
    Create(Box<Certificate>),
    /// Merge this into a Certificate.
    Patch(Box<OwnedCertificate>, Value),
    /// Delete a Certificate.
    Delete(Box<OwnedCertificate>),
}

/// What is known about one object when something is decided about it.
pub struct SourceState<'a> {
    /// The object's name.
    pub key: &'a SourceKey,
    /// The object; `None` where it is certain that it is not there.
    pub object: Option<&'a Object>,
    /// What it asks for; nothing where it is not there.
    pub extracted: &'a Extracted,
    /// Its Certificates.
    pub slaves: &'a [OwnedCertificate],
    /// Whether source and target are different clusters.
    pub apart: bool,
    /// What the manager was told.
    pub settings: &'a SourceSettings,
}

/// What is to be done for an object.
#[derive(Debug, Default)]
pub struct Decision {
    /// Everything to do, in order. Nothing where everything is as it should be.
    pub changes: Vec<Change>,
    /// What is left out, in words for a person.
    pub complaint: Option<String>,
}

/// Decides what to do.
#[must_use]
pub fn decide(situation: &SourceState<'_>) -> Decision {
    let places = situation.places();
    let mut changes = Vec::new();
    let mut served = vec![false; situation.extracted.certificates.len()];
    let mut keeps_finalizer = false;
    let mut orphans = Vec::new();
    for slave in situation.slaves {
        let fate = situation.disposal(slave, &places);
        keeps_finalizer |=
            slave.key.cluster == CertificateCluster::Target && fate != Disposal::LeaveAlone;
        match fate {
            Disposal::LeaveAlone | Disposal::Hold => {}
            Disposal::Delete if slave.deleting => {}
            Disposal::Delete => changes.push(Change::Delete(Box::new(slave.clone()))),
            Disposal::Keep(index) => {
                served[index] = true;
                let patch = situation.patch(slave, &situation.extracted.certificates[index]);
                changes.extend(patch.map(|patch| Change::Patch(Box::new(slave.clone()), patch)));
            }
            Disposal::Adopt(index) => orphans.push((slave, index)),
        }
    }
    for (slave, index) in orphans {
        let slave = Box::new(slave.clone());
        match situation.object {
            // One that was made since takes its place. Of too many owners not all are known, and they
            // are written as a whole.
            Some(object) if !served[index] && slave.references.len() <= MAX_OWNERS => {
                served[index] = true;
                let wanted = &situation.extracted.certificates[index];
                let patch = situation.adoption(object, &slave, wanted);
                changes.push(Change::Patch(slave, patch));
            }
            Some(_) | None => changes.push(Change::Delete(slave)),
        }
    }
    let there = served.iter().filter(|served| **served).count();
    let missing =
        situation.extracted.certificates.iter().zip(&served).filter(|(_, served)| !**served);
    for (certificate, _) in missing.take(MAX_CERTIFICATES.saturating_sub(there)) {
        if let Some(object) = situation.object {
            changes.push(Change::Create(Box::new(situation.certificate(object, certificate))));
        }
    }
    if let Some(object) = situation.object {
        let has = object.finalizers.contains(&finalizer(situation.key, situation.settings));
        match (has, keeps_finalizer) {
            // Before anything that must be undone.
            (false, true) if !object.deleting => changes.insert(0, Change::AddFinalizer),
            (true, false) => changes.push(Change::RemoveFinalizer),
            _ => {}
        }
    }
    Decision { changes, complaint: left_out(served.len(), there) }
}

/// Says how many of the certificates that are asked for are not made.
fn left_out(asked: usize, there: usize) -> Option<String> {
    let count = asked - there.max(asked.min(MAX_CERTIFICATES));
    (count > 0).then(|| {
        format!(
            "{count} of {asked} certificates are left out: an object gets at most {MAX_CERTIFICATES}; \
             divide it into several objects"
        )
    })
}

/// The certificates that are wanted, by where they go to.
type Places = HashMap<ObjectKey, usize>;

#[derive(Eq, PartialEq)]
enum Disposal {
    LeaveAlone,
    /// It is ours, and stays as it is.
    Hold,
    Delete,
    /// It is the one for the wanted certificate at this index.
    Keep(usize),
    /// It was the one for it when its object had another uid: a cluster that is restored has new ones.
    Adopt(usize),
}

impl SourceState<'_> {
    fn places(&self) -> Places {
        let mut places = Places::new();
        for (index, certificate) in self.extracted.certificates.iter().enumerate() {
            places.entry(certificate.secret.clone()).or_insert(index);
            places.entry(self.secret(certificate)).or_insert(index);
        }
        places
    }

    fn disposal(&self, slave: &OwnedCertificate, places: &Places) -> Disposal {
        let index = slave.secret.as_ref().and_then(|secret| places.get(secret).copied());
        // Who belongs to several goes with the last.
        if slave.owners.len() > 1 && index.is_none() {
            return Disposal::LeaveAlone;
        }
        let Some(object) = self.object else { return Disposal::Delete };
        let of_this = |(key, uid): &(SourceKey, Option<String>)| {
            key == self.key && uid.as_ref().is_none_or(|uid| *uid == object.uid)
        };
        if !slave.owners.iter().any(of_this) {
            return match index {
                _ if !self.extracted.responsible || object.deleting || slave.deleting => {
                    Disposal::Delete
                }
                _ if self.extracted.held => Disposal::Hold,
                Some(index) => Disposal::Adopt(index),
                None => Disposal::Delete,
            };
        }
        let has_finalizer = object.finalizers.contains(&finalizer(self.key, self.settings));
        if object.deleting {
            // Kubernetes deletes what has an owner reference, or orphans it on demand.
            return if slave.key.cluster == CertificateCluster::Target || has_finalizer {
                Disposal::Delete
            } else {
                Disposal::LeaveAlone
            };
        }
        if !self.extracted.responsible {
            let made_for = slave.annotations.get(SOURCE_CLASS);
            let is_ours = made_for.is_some_and(|class| self.settings.classes.serves(Some(class)));
            let by_finalizer = slave.key.cluster == CertificateCluster::Target && has_finalizer;
            return if is_ours || by_finalizer { Disposal::Delete } else { Disposal::LeaveAlone };
        }
        if self.extracted.held {
            return Disposal::Hold;
        }
        index.map_or(Disposal::Delete, Disposal::Keep)
    }

    /// Where the certificate goes to.
    fn secret(&self, certificate: &DesiredCertificate) -> ObjectKey {
        let elsewhere = self.settings.target_namespace.as_ref().filter(|_| self.apart);
        match elsewhere {
            Some(namespace) => ObjectKey::new(namespace, &certificate.secret.name),
            None => certificate.secret.clone(),
        }
    }

    fn certificate(&self, object: &Object, wanted: &DesiredCertificate) -> Certificate {
        let secret = self.secret(wanted);
        let mut annotations = self.annotations(wanted);
        annotations.insert(SOURCE_CLASS.to_owned(), self.main_class().to_owned());
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
            spec: CertificateSpec { secret_ref: Some(reference), ..spec(wanted) },
            status: None,
        }
    }

    /// Tells the same at every try, so that nothing is made twice.
    fn name(&self, object: &Object, secret: &ObjectKey) -> String {
        let prefix = if self.apart { self.settings.target_name_prefix.as_str() } else { "" };
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

    fn main_class(&self) -> &str {
        self.settings.classes.main()
    }

    fn annotations(&self, wanted: &DesiredCertificate) -> BTreeMap<String, String> {
        let mut annotations = wanted.options.copied.clone();
        annotations.insert(FORWARD_OWNER_REFS.to_owned(), "true".to_owned());
        if let Some(class) = &self.settings.target_class {
            annotations.insert(well_known::CLASS.to_owned(), class.clone());
        }
        annotations
    }

    /// What must be merged into a Certificate; `None` where nothing must. Where it is and which
    /// Secret it is for stays as it is.
    #[must_use]
    pub(super) fn patch(
        &self,
        slave: &OwnedCertificate,
        wanted: &DesiredCertificate,
    ) -> Option<Value> {
        let mut patch = Map::new();
        let should = spec(wanted);
        if should != slave.managed {
            let should = serde_json::to_value(should).ok()?;
            let is = serde_json::to_value(&slave.managed).ok()?;
            patch.extend(difference(&is, &should).map(|spec| ("spec".to_owned(), spec)));
        }
        let annotations = self.changed_annotations(slave, wanted);
        if !annotations.is_empty() {
            patch.insert("metadata".to_owned(), json!({ "annotations": annotations }));
        }
        if patch.is_empty() {
            return None;
        }
        let mut patch = Value::Object(patch);
        // Only this very object: one that took its name is another.
        patch["metadata"]["uid"] = json!(slave.uid);
        Some(patch)
    }

    /// What must be merged into a Certificate whose object came back with another uid.
    fn adoption(
        &self,
        object: &Object,
        slave: &OwnedCertificate,
        wanted: &DesiredCertificate,
    ) -> Value {
        let mut patch = self.patch(slave, wanted).unwrap_or_else(|| json!({}));
        let owner = self.owner(object);
        let is_of_this = |one: &&OwnerReference| {
            let group = |one: &OwnerReference| {
                one.api_version.rsplit_once('/').map(|(group, _)| group.to_owned())
            };
            (group(one), &one.kind, &one.name) == (group(&owner), &owner.kind, &owner.name)
        };
        let others = slave.references.iter().filter(|one| !is_of_this(one)).cloned();
        let references: Vec<_> = std::iter::once(owner.clone()).chain(others).collect();
        // The list is replaced as a whole, so nobody may have changed it meanwhile.
        patch["metadata"]["uid"] = json!(slave.uid);
        patch["metadata"]["resourceVersion"] = json!(slave.resource_version);
        patch["metadata"]["ownerReferences"] = json!(references);
        patch
    }

    fn changed_annotations(
        &self,
        slave: &OwnedCertificate,
        wanted: &DesiredCertificate,
    ) -> Map<String, Value> {
        let mut should = self.annotations(wanted);
        // Upstream's have none, and a steady state writes nothing.
        if slave.annotations.contains_key(SOURCE_CLASS) {
            should.insert(SOURCE_CLASS.to_owned(), self.main_class().to_owned());
        }
        let changed =
            should.iter().filter(|(name, text)| slave.annotations.get(*name) != Some(text));
        let changed = changed.map(|(name, text)| (name.clone(), json!(text)));
        let surplus = slave.annotations.keys().filter(|name| !should.contains_key(*name));
        let mut all: Map<_, _> =
            changed.chain(surplus.map(|name| (name.clone(), Value::Null))).collect();
        if let Some(text) = &slave.migrated {
            all.insert(crate::api::owners::OWNERS.to_owned(), json!(text));
        }
        all
    }
}

/// The finalizer of ours for objects of this kind. Managers of different classes have different
/// ones.
#[must_use]
pub fn finalizer(key: &SourceKey, settings: &SourceSettings) -> String {
    let plain = key.kind.finalizer();
    match settings.classes.main() {
        well_known::DEFAULT_CLASS => plain.to_owned(),
        class => format!("{class}.{plain}"),
    }
}

/// The fields of a Certificate that follow the source object.
///
/// Among the DNS names a first name that is none is refused. As the common name an issuer whose key
/// we hold would certify it, and the names that were meant would be missing.
fn spec(wanted: &DesiredCertificate) -> CertificateSpec {
    let options = &wanted.options;
    let fits = |name: &str| name.len() <= MAX_COMMON_NAME && name.parse::<DnsName>().is_ok();
    let (common_name, dns_names) = match wanted.domains.as_slice().split_first() {
        Some((first, rest)) if fits(first) => (Some(first.clone()), rest),
        _ => (None, wanted.domains.as_slice()),
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
