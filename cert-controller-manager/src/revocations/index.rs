//! All CertificateRevocations in memory, and the Certificates that each one waits for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::ResourceExt;

use super::trim::trim;
use crate::{
    api::{CertificateCluster, CertificateRevocation, ObjectKey, revocation::CertificateName},
    runtime::watch,
};

/// Identifies a CertificateRevocation.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RevocationKey {
    /// Its cluster, which is also that of its Certificates.
    pub cluster: CertificateCluster,
    /// Its namespace and name.
    pub object: ObjectKey,
}

impl fmt::Display for RevocationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cluster {
            CertificateCluster::Source => write!(f, "{}", self.object),
            CertificateCluster::Target => write!(f, "target:{}", self.object),
        }
    }
}

/// All CertificateRevocations. See the [module](self).
#[derive(Debug, Default)]
pub struct Index(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    all: BTreeMap<RevocationKey, Arc<CertificateRevocation>>,
    /// Unfinished ones by the namespaces of their Certificates.
    open: HashMap<(CertificateCluster, String), Vec<RevocationKey>>,
    /// Tenants whose CA the next pass asks.
    tenants: HashMap<RevocationKey, String>,
}

impl Index {
    /// The CertificateRevocation, if it exists.
    #[must_use]
    pub fn get(&self, key: &RevocationKey) -> Option<Arc<CertificateRevocation>> {
        self.lock().all.get(key).cloned()
    }

    /// Stores a watched or written version. Returns whether it is new.
    pub fn put(&self, key: &RevocationKey, mut revocation: CertificateRevocation) -> bool {
        watch::strip(&mut revocation);
        trim(&mut revocation);
        let mut maps = self.lock();
        let known = maps.all.get(key).filter(|known| known.uid() == revocation.uid());
        if known.is_some_and(|known| version(known) >= version(&revocation)) {
            return false;
        }
        maps.forget(key);
        let is_open =
            revocation.status.as_ref().is_none_or(|status| status.revocation_applied.is_none());
        if is_open {
            for namespace in namespaces(&revocation) {
                maps.open.entry((key.cluster, namespace)).or_default().push(key.clone());
            }
        }
        maps.all.insert(key.clone(), Arc::new(revocation));
        true
    }

    /// Removes a deleted CertificateRevocation.
    pub fn remove(&self, key: &RevocationKey) {
        let mut maps = self.lock();
        maps.forget(key);
        maps.tenants.remove(key);
    }

    /// The tenant whose CA the next pass asks.
    #[must_use]
    pub fn tenant_of(&self, key: &RevocationKey) -> Option<String> {
        self.lock().tenants.get(key).cloned()
    }

    /// Notes the tenant whose CA the next pass asks.
    pub fn note_tenant(&self, key: &RevocationKey, tenant: &str) {
        self.lock().tenants.insert(key.clone(), tenant.to_owned());
    }

    /// Unfinished ones that wait for this Certificate.
    pub(super) fn waiting_for(
        &self,
        cluster: CertificateCluster,
        certificate: &CertificateName,
    ) -> Vec<RevocationKey> {
        let maps = self.lock();
        if maps.open.is_empty() {
            return Vec::new();
        }
        let near = maps.open.get(&(cluster, certificate.namespace.clone())).into_iter().flatten();
        let waits = |key: &&RevocationKey| {
            maps.all.get(*key).is_some_and(|it| subjects(it).any(|one| one == certificate))
        };
        near.filter(waits).cloned().collect()
    }

    /// All unfinished ones.
    pub(super) fn open(&self) -> Vec<RevocationKey> {
        self.lock().open.values().flatten().cloned().collect()
    }

    pub(super) fn keys(&self, cluster: CertificateCluster) -> Vec<ObjectKey> {
        let maps = self.lock();
        maps.all.keys().filter(|key| key.cluster == cluster).map(|key| key.object.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    fn forget(&mut self, key: &RevocationKey) {
        let Some(known) = self.all.remove(key) else { return };
        for namespace in namespaces(&known) {
            let namespace = (key.cluster, namespace);
            if let Some(open) = self.open.get_mut(&namespace) {
                open.retain(|other| other != key);
                if open.is_empty() {
                    self.open.remove(&namespace);
                }
            }
        }
    }
}

/// The Certificates that it waits for.
fn subjects(revocation: &CertificateRevocation) -> impl Iterator<Item = &CertificateName> {
    let objects = revocation.status.as_ref().and_then(|status| status.objects.as_ref());
    let processing = objects.and_then(|objects| objects.processing.as_ref());
    processing.into_iter().flatten().chain([&revocation.spec.certificate_ref])
}

fn namespaces(revocation: &CertificateRevocation) -> BTreeSet<String> {
    subjects(revocation).map(|name| name.namespace.clone()).collect()
}

/// Resource versions of one kind are ordered numbers (KEP-5504).
fn version(revocation: &CertificateRevocation) -> u64 {
    revocation.resource_version().and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(name: &str, namespace: &str) -> CertificateName {
        CertificateName { name: name.to_owned(), namespace: namespace.to_owned() }
    }

    fn revocation(version: u32, status: &serde_json::Value) -> CertificateRevocation {
        let mut object = json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "CertificateRevocation",
            "metadata": {"name": "r", "namespace": "ns", "resourceVersion": version.to_string()},
            "spec": {"certificateRef": {"name": "a", "namespace": "ns"}},
        });
        object["status"] = status.clone();
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn one_that_is_not_finished_waits_for_its_certificates() {
        let key = RevocationKey {
            cluster: CertificateCluster::Source,
            object: ObjectKey::new("ns", "r"),
        };
        let index = Index::default();
        assert!(index.put(&key, revocation(1, &json!(null))));
        assert!(!index.put(&key, revocation(1, &json!(null))), "it is no news");
        let waiting =
            |name: &CertificateName| index.waiting_for(CertificateCluster::Source, name).len();
        assert_eq!((waiting(&name("a", "ns")), waiting(&name("b", "other"))), (1, 0));
        assert_eq!(index.waiting_for(CertificateCluster::Target, &name("a", "ns")), []);

        let processing = json!([{"name": "b", "namespace": "other"}]);
        let status = json!({"state": "Pending", "objects": {"processing": processing}});
        assert!(index.put(&key, revocation(2, &status)));
        assert_eq!((waiting(&name("a", "ns")), waiting(&name("b", "other"))), (1, 1));

        let done = json!({"state": "Applied", "revocationApplied": "2026-11-22T10:00:00Z"});
        assert!(index.put(&key, revocation(3, &done)));
        assert_eq!((waiting(&name("a", "ns")), index.open()), (0, vec![]));
        index.remove(&key);
        assert!(index.get(&key).is_none() && index.keys(CertificateCluster::Source).is_empty());
    }
}
