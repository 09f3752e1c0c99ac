//! Cache of the Certificates that source objects own, by owner.
//!
//! Watches of Certificates on the source and target clusters fill it. Upstream creates Certificates on
//! target. Certificates without owner are not kept.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use tokio::sync::watch;

use super::{
    annotations::{self, FORWARD_OWNER_REFS, SOURCE_CLASS},
    key::{Kind, SourceKey},
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
    /// Cluster, namespace and name.
    pub key: CertificateKey,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub resource_version: String,
    /// The source objects that own it, with their uid if known.
    pub owners: Vec<(SourceKey, Option<String>)>,
    /// All owner references.
    pub references: Vec<OwnerReference>,
    /// The Secret of the Certificate.
    pub secret: Option<ObjectKey>,
    /// The fields that the source object determines, normalized.
    pub managed: CertificateSpec,
    /// The annotations that the source object determines.
    pub annotations: BTreeMap<String, String>,
    /// The migrated value of the owner annotation, if it contains a former cluster id.
    pub migrated: Option<String>,
    /// `status.state`
    pub state: String,
    /// `status.message`
    pub message: String,
    /// Whether it has a deletion timestamp.
    pub deleting: bool,
}

impl OwnedCertificate {
    /// Whether anything but the resource version differs.
    fn differs(&self, other: &Self) -> bool {
        let same_version =
            Self { resource_version: other.resource_version.clone(), ..self.clone() };
        same_version != *other
    }

    /// Converts a Certificate; `None` if no source object owns it.
    #[must_use]
    pub fn of(
        certificate: &Certificate,
        cluster: CertificateCluster,
        scope: &OwnerScope,
    ) -> Option<Self> {
        let source = &scope.cluster;
        let owners = owners_of(certificate, cluster, scope);
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
            key: CertificateKey::new(cluster, object),
        })
    }
}

/// The source objects that can own Certificates.
#[derive(Clone, Debug)]
pub struct OwnerScope {
    /// The source cluster.
    pub cluster: ClusterId,
    /// `--target-namespace`, if target is a separate cluster: upstream creates the Certificates of all
    /// namespaces there.
    pub collected_in: Option<String>,
}

/// The source objects that own a Certificate: by owner references in the same cluster, or by the owner
/// annotation. A Certificate with too many references has no owner.
///
/// Tenants can write the annotation, so it names only owners in the same namespace. Otherwise a
/// tenant could claim a Certificate for an object of another namespace, which then gets none.
fn owners_of(
    certificate: &Certificate,
    cluster: CertificateCluster,
    scope: &OwnerScope,
) -> Vec<(SourceKey, Option<String>)> {
    // Every pass reads all references, and an adoption writes them.
    if certificate.owner_references().len() > owners::MAX_OWNERS {
        return Vec::new();
    }
    let source = &scope.cluster;
    let namespace = certificate.namespace().unwrap_or_default();
    let references = certificate.owner_references().iter();
    let references = references
        .filter(|owner| cluster == CertificateCluster::Source && owner.controller == Some(true));
    let referenced = references.filter_map(|owner| {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = Kind::find(group, &owner.kind)?;
        let object = ObjectKey::new(&namespace, &owner.name);
        Some((SourceKey { kind, object }, Some(owner.uid.clone())))
    });
    let annotation = certificate.annotations().get(owners::OWNERS);
    let entries = annotation.map(|text| owners::parse(text)).unwrap_or_default().into_iter();
    let is_collected =
        cluster == CertificateCluster::Target && scope.collected_in.as_ref() == Some(&namespace);
    let annotated = entries.filter_map(|entry| {
        let lives_here = entry.lives_in(source, cluster == CertificateCluster::Source)
            && (is_collected || entry.object.namespace == namespace);
        let kind = Kind::find(&entry.group, &entry.kind).filter(|_| lives_here)?;
        Some((SourceKey { kind, object: entry.object }, None))
    });
    referenced.chain(annotated).collect()
}

/// The fields that the source object determines, normalized for comparison.
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
    scope: OwnerScope,
    queue: Shared<SourceKey>,
    state: Mutex<State>,
    /// Clusters with a complete list of Certificates.
    complete: watch::Sender<BTreeSet<CertificateCluster>>,
}

#[derive(Default)]
struct State {
    /// Shared with the other handlers of the watch, to save memory.
    owned: HashMap<CertificateKey, Arc<Certificate>>,
    by_owner: HashMap<SourceKey, SmallSet<CertificateKey>>,
}

impl OwnedCertificates {
    /// An empty cache. Owners of changed Certificates are put into `queue`.
    #[must_use]
    pub fn new(scope: OwnerScope, queue: Shared<SourceKey>) -> Self {
        let (complete, _) = watch::channel(BTreeSet::new());
        Self { scope, queue, state: Mutex::default(), complete }
    }

    /// Whether the Certificates of these clusters were listed completely since the start.
    #[must_use]
    pub fn complete(&self, clusters: &[CertificateCluster]) -> bool {
        let complete = self.complete.borrow();
        clusters.iter().all(|cluster| complete.contains(cluster))
    }

    /// The clusters with a complete list of Certificates.
    pub(super) fn completed(&self) -> watch::Receiver<BTreeSet<CertificateCluster>> {
        self.complete.subscribe()
    }

    /// The Certificates of a source object.
    #[must_use]
    pub fn of(&self, owner: &SourceKey) -> Vec<OwnedCertificate> {
        let state = self.lock();
        let keys = state.by_owner.get(owner).into_iter().flatten();
        keys.filter_map(|key| self.owned_certificate(key, state.owned.get(key)?)).collect()
    }

    /// All source objects that own Certificates.
    #[must_use]
    pub fn owners(&self) -> Vec<SourceKey> {
        self.lock().by_owner.keys().cloned().collect()
    }

    fn owned_certificate(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
    ) -> Option<OwnedCertificate> {
        OwnedCertificate::of(certificate, key.cluster, &self.scope)
    }

    /// Adds, replaces or removes a Certificate, and enqueues its former and current owners.
    fn put(&self, key: &CertificateKey, certificate: Option<Arc<Certificate>>) {
        let new =
            certificate.as_deref().and_then(|certificate| self.owned_certificate(key, certificate));
        let mut state = self.lock();
        let before = state.owned.remove(key);
        let before = before.and_then(|certificate| self.owned_certificate(key, &certificate));
        let same = match (&before, &new) {
            (Some(before), Some(new)) => !before.differs(new),
            (None, None) => true,
            _ => false,
        };
        let mut affected = BTreeSet::new();
        for (owner, _) in before.iter().flat_map(|new| &new.owners) {
            if let Some(keys) = state.by_owner.get_mut(owner) {
                keys.remove(key);
                if keys.is_empty() {
                    state.by_owner.remove(owner);
                }
            }
            affected.insert(owner.clone());
        }
        if let (Some(new), Some(certificate)) = (new, certificate) {
            for (owner, _) in &new.owners {
                state.by_owner.entry(owner.clone()).or_default().insert(key.clone());
                affected.insert(owner.clone());
            }
            state.owned.insert(key.clone(), certificate);
        }
        drop(state);
        if !same {
            affected.into_iter().for_each(|owner| self.queue.push(owner));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the Certificates of one cluster to the cache.
#[derive(Clone)]
pub struct OwnedCertificatesHandler {
    pub(super) owned: Arc<OwnedCertificates>,
    pub(super) cluster: CertificateCluster,
}

impl EventHandler<Arc<Certificate>> for OwnedCertificatesHandler {
    fn applied(&self, certificate: Arc<Certificate>) {
        let key = CertificateKey::new(self.cluster, ObjectKey::of(certificate.as_ref()));
        self.owned.put(&key, Some(certificate));
    }

    fn gone(&self, key: &ObjectKey) {
        self.owned.put(&CertificateKey::new(self.cluster, key.clone()), None);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let state = self.owned.lock();
        let here = state.owned.keys().filter(|key| key.cluster == self.cluster);
        here.map(|key| key.object.as_ref().clone()).collect()
    }

    fn complete(&self) {
        self.owned.complete.send_if_modified(|complete| complete.insert(self.cluster));
    }
}
