//! The Certificates that belong to source objects, by their owners.
//!
//! Fed by the watches of Certificates, on source and, where that differs, on target: upstream keeps
//! them there. Certificates of nobody are not kept.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use tokio::sync::watch;

use super::{
    annotations::{self, FORWARD_OWNER_REFS, SOURCE_CLASS},
    kind::{Kind, SourceKey},
};
use crate::{
    api::{
        Certificate, CertificateCluster, CertificateKey, ClusterId, ObjectKey,
        certificate::CertificateSpec, owners, secret::named_secret, well_known,
    },
    config::{duration, go_duration},
    runtime::{queue::Shared, small_set::SmallSet, watch::EventHandler},
};

/// A Certificate of a source object.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedCertificate {
    /// Where it is.
    pub key: CertificateKey,
    /// Its uid.
    pub uid: String,
    /// Its version when it was last heard of.
    pub resource_version: String,
    /// The objects that it belongs to, with their uid where that is known.
    pub owners: Vec<(SourceKey, Option<String>)>,
    /// Its owner references, whatever they are to.
    pub references: Vec<OwnerReference>,
    /// The Secret that it is for.
    pub secret: Option<ObjectKey>,
    /// The fields that follow the source object.
    pub managed: CertificateSpec,
    /// The annotations that follow the source object.
    pub annotations: BTreeMap<String, String>,
    /// The annotation that names owners, where it names a cluster by a former id.
    pub migrated: Option<String>,
    /// `status.state`
    pub state: String,
    /// `status.message`
    pub message: String,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl OwnedCertificate {
    /// Whether something changed that matters here.
    fn differs(&self, other: &Self) -> bool {
        let same_version =
            Self { resource_version: other.resource_version.clone(), ..self.clone() };
        same_version != *other
    }

    /// What is kept of a Certificate; `None` where it belongs to no source object.
    #[must_use]
    pub fn of(
        certificate: &Certificate,
        home: CertificateCluster,
        masters: &OwnerScope,
    ) -> Option<Self> {
        let source = &masters.cluster;
        let owners = owners_of(certificate, home, masters);
        if owners.is_empty() {
            return None;
        }
        let object = ObjectKey::of(certificate);
        let annotation = certificate.annotations().get(owners::OWNERS);
        let status = certificate.status.as_ref();
        let is_managed = |name: &&String| {
            [well_known::CLASS, FORWARD_OWNER_REFS, SOURCE_CLASS].contains(&name.as_str())
                || annotations::COPIED.contains(&name.as_str())
        };
        let annotations = certificate.annotations().iter().filter(|(name, _)| is_managed(name));
        Some(Self {
            uid: certificate.uid().unwrap_or_default(),
            resource_version: certificate.resource_version().unwrap_or_default(),
            secret: named_secret(&certificate.spec, &object.namespace),
            owners,
            references: certificate.owner_references().to_vec(),
            managed: managed(&certificate.spec),
            annotations: annotations.map(|(name, text)| (name.clone(), text.clone())).collect(),
            migrated: annotation.and_then(|text| owners::migrate(text, source)),
            state: status.map(|status| status.state.clone()).unwrap_or_default(),
            message: status.and_then(|status| status.message.clone()).unwrap_or_default(),
            deleting: certificate.metadata.deletion_timestamp.is_some(),
            key: CertificateKey { cluster: home, object },
        })
    }
}

/// Where the source objects are that Certificates may belong to.
#[derive(Clone, Debug)]
pub struct OwnerScope {
    /// Their cluster.
    pub cluster: ClusterId,
    /// The namespace of the target cluster where upstream keeps the Certificates of all namespaces:
    /// `--target-namespace`, where the clusters are two.
    pub collected_in: Option<String>,
}

/// The source objects that a Certificate belongs to: by owner references where it lives with them,
/// by the annotation anywhere. One with too many references belongs to none. Whoever writes a Certificate also writes its annotation: it makes it
/// nobody's of another namespace, or that one would be left without a Certificate of its own.
fn owners_of(
    certificate: &Certificate,
    home: CertificateCluster,
    masters: &OwnerScope,
) -> Vec<(SourceKey, Option<String>)> {
    // All of them go into every pass, and an adoption writes them again.
    if certificate.owner_references().len() > owners::MAX_OWNERS {
        return Vec::new();
    }
    let source = &masters.cluster;
    let namespace = certificate.namespace().unwrap_or_default();
    let references = certificate.owner_references().iter();
    let references = references
        .filter(|owner| home == CertificateCluster::Source && owner.controller == Some(true));
    let referenced = references.filter_map(|owner| {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = Kind::find(group, &owner.kind)?;
        let object = ObjectKey::new(&namespace, &owner.name);
        Some((SourceKey { kind, object }, Some(owner.uid.clone())))
    });
    let annotation = certificate.annotations().get(owners::OWNERS);
    let entries = annotation.map(|text| owners::parse(text)).unwrap_or_default().into_iter();
    let for_all =
        home == CertificateCluster::Target && masters.collected_in.as_ref() == Some(&namespace);
    let annotated = entries.filter_map(|entry| {
        let lives_here = entry.lives_in(source, home == CertificateCluster::Source)
            && (for_all || entry.object.namespace == namespace);
        let kind = Kind::find(&entry.group, &entry.kind).filter(|_| lives_here)?;
        Some((SourceKey { kind, object: entry.object }, None))
    });
    referenced.chain(annotated).collect()
}

/// The fields that follow the source object, so written that equal things are equal.
#[must_use]
pub fn managed(spec: &CertificateSpec) -> CertificateSpec {
    let full = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let window = spec.renew_before.as_ref().map(|text| match duration(text) {
        Ok(window) => go_duration(window),
        Err(_) => text.clone(),
    });
    let mut issuer_ref = spec.issuer_ref.clone();
    if let Some(issuer) = &mut issuer_ref {
        issuer.namespace = full(&issuer.namespace);
    }
    CertificateSpec {
        common_name: full(&spec.common_name),
        dns_names: spec.dns_names.clone().filter(|names| !names.is_empty()),
        issuer_ref,
        secret_labels: spec.secret_labels.clone().filter(|labels| !labels.is_empty()),
        follow_cname: spec.follow_cname.filter(|follow| *follow),
        preferred_chain: full(&spec.preferred_chain),
        profile: full(&spec.profile),
        private_key: spec.private_key.clone(),
        renew_before: window,
        ..CertificateSpec::default()
    }
}

/// See the [module](self).
pub struct OwnedCertificates {
    masters: OwnerScope,
    queue: Shared<SourceKey>,
    state: Mutex<State>,
    /// Whose Certificates have all been told.
    complete: watch::Sender<BTreeSet<CertificateCluster>>,
}

#[derive(Default)]
struct State {
    /// As the watch brought them: others share them, so that what is looked at here costs nothing.
    slaves: HashMap<CertificateKey, Arc<Certificate>>,
    by_owner: HashMap<SourceKey, SmallSet<CertificateKey>>,
}

impl OwnedCertificates {
    /// Nothing yet. Owners of Certificates that change are put into `queue`.
    #[must_use]
    pub fn new(masters: OwnerScope, queue: Shared<SourceKey>) -> Self {
        let (complete, _) = watch::channel(BTreeSet::new());
        Self { masters, queue, state: Mutex::default(), complete }
    }

    /// Whether all Certificates of these clusters have been told since the start.
    #[must_use]
    pub fn complete(&self, homes: &[CertificateCluster]) -> bool {
        let complete = self.complete.borrow();
        homes.iter().all(|home| complete.contains(home))
    }

    /// Of which clusters all Certificates have been told.
    pub(super) fn completed(&self) -> watch::Receiver<BTreeSet<CertificateCluster>> {
        self.complete.subscribe()
    }

    /// The Certificates of an object.
    #[must_use]
    pub fn of(&self, owner: &SourceKey) -> Vec<OwnedCertificate> {
        let state = self.lock();
        let keys = state.by_owner.get(owner).into_iter().flatten();
        keys.filter_map(|key| self.owned_certificate(key, state.slaves.get(key)?)).collect()
    }

    /// Every object that is named as an owner.
    #[must_use]
    pub fn owners(&self) -> Vec<SourceKey> {
        self.lock().by_owner.keys().cloned().collect()
    }

    fn owned_certificate(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
    ) -> Option<OwnedCertificate> {
        OwnedCertificate::of(certificate, key.cluster, &self.masters)
    }

    /// Replaces what is known about a Certificate, and wakes who is concerned.
    fn put(&self, key: &CertificateKey, certificate: Option<Arc<Certificate>>) {
        let slave =
            certificate.as_deref().and_then(|certificate| self.owned_certificate(key, certificate));
        let mut state = self.lock();
        let before = state.slaves.remove(key);
        let before = before.and_then(|certificate| self.owned_certificate(key, &certificate));
        let same = match (&before, &slave) {
            (Some(before), Some(slave)) => !before.differs(slave),
            (None, None) => true,
            _ => false,
        };
        let mut concerned = BTreeSet::new();
        for (owner, _) in before.iter().flat_map(|slave| &slave.owners) {
            if let Some(keys) = state.by_owner.get_mut(owner) {
                keys.remove(key);
                if keys.is_empty() {
                    state.by_owner.remove(owner);
                }
            }
            concerned.insert(owner.clone());
        }
        if let (Some(slave), Some(certificate)) = (slave, certificate) {
            for (owner, _) in &slave.owners {
                state.by_owner.entry(owner.clone()).or_default().insert(key.clone());
                concerned.insert(owner.clone());
            }
            state.slaves.insert(key.clone(), certificate);
        }
        drop(state);
        if !same {
            concerned.into_iter().for_each(|owner| self.queue.push(owner));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Feeds the index with the Certificates of one cluster.
#[derive(Clone)]
pub struct OwnedCertificatesHandler {
    pub(super) slaves: Arc<OwnedCertificates>,
    pub(super) home: CertificateCluster,
}

impl EventHandler<Arc<Certificate>> for OwnedCertificatesHandler {
    fn applied(&self, certificate: Arc<Certificate>) {
        let key =
            CertificateKey { cluster: self.home, object: ObjectKey::of(certificate.as_ref()) };
        self.slaves.put(&key, Some(certificate));
    }

    fn gone(&self, key: &ObjectKey) {
        self.slaves.put(&CertificateKey { cluster: self.home, object: key.clone() }, None);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let state = self.slaves.lock();
        let here = state.slaves.keys().filter(|key| key.cluster == self.home);
        here.map(|key| key.object.clone()).collect()
    }

    fn complete(&self) {
        self.slaves.complete.send_if_modified(|complete| complete.insert(self.home));
    }
}
