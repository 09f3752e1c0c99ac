//! All Certificates in memory, by name, by Secret and by request.
//!
//! Reads watch events and the responses to our own writes, so that a pass sees the writes of the
//! previous pass before the watch does.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    sync::{Arc, PoisonError, RwLock},
};

use kube::ResourceExt;

use super::identity::RequestIdentity;
use crate::{
    api::{Certificate, CertificateCluster, CertificateKey, ObjectKey, trim::trim, well_known},
    runtime::{small_set::SmallSet, watch},
};

/// The Certificates of both clusters. See the [module](self).
#[derive(Debug, Default)]
pub struct Index(RwLock<Maps>);

#[derive(Debug, Default)]
struct Maps {
    certificates: HashMap<CertificateKey, Arc<Certificate>>,
    by_secret: HashMap<ObjectKey, SmallSet<CertificateKey>>,
    /// Certificates that can share a certificate, by the hash of their request identity.
    by_identity: HashMap<u64, SmallSet<CertificateKey>>,
    /// Randomly seeded: tenants must not be able to construct hash collisions.
    hasher: RandomState,
    /// Whether Certificates of different namespaces can share a certificate.
    across: bool,
}

/// Certificates with the same request.
#[derive(Debug, Default)]
pub struct EqualRequests {
    /// Hash of their request identity, valid in this process; `None` if nothing is shared.
    pub identity_hash: Option<u64>,
    /// The other Certificates with this identity.
    pub others: Vec<(CertificateKey, Arc<Certificate>)>,
}

impl Index {
    /// An empty index. Certificates share within a namespace, or `across` all namespaces.
    #[must_use]
    pub fn sharing(across: bool) -> Self {
        Self(RwLock::new(Maps { across, ..Maps::default() }))
    }

    /// Up to `limit` other Certificates with the same request; none if `certificate` cannot share.
    #[must_use]
    pub fn equal_requests(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        limit: usize,
    ) -> EqualRequests {
        let maps = self.read();
        let Some(identity) = RequestIdentity::of(key, certificate, maps.across) else {
            return EqualRequests::default();
        };
        let hash = maps.hasher.hash_one(&identity);
        let others = maps.by_identity.get(&hash).into_iter().flatten();
        let others = others.filter(|other| *other != key).take(limit);
        let others = others.filter_map(|key| Some((key, maps.certificates.get(key)?)));
        let others = others
            .filter(|(key, other)| {
                RequestIdentity::of(key, other, maps.across).as_ref() == Some(&identity)
            })
            .map(|(key, other)| (key.clone(), other.clone()));
        EqualRequests { identity_hash: Some(hash), others: others.collect() }
    }

    /// Whether the Certificate `other` exists and has the same request as `this`.
    #[must_use]
    pub fn are_equal_requests(
        &self,
        this: (&CertificateKey, &Certificate),
        other: &CertificateKey,
    ) -> bool {
        let maps = self.read();
        let identity = RequestIdentity::of(this.0, this.1, maps.across);
        let other = maps
            .certificates
            .get(other)
            .and_then(|certificate| RequestIdentity::of(other, certificate, maps.across));
        identity.is_some() && identity == other
    }

    /// The Certificate, if it exists.
    #[must_use]
    pub fn get(&self, key: &CertificateKey) -> Option<Arc<Certificate>> {
        self.read().certificates.get(key).cloned()
    }

    /// Stores the response to our own write, unless the watch has reported a deletion or another
    /// object of this name. Returns the object without the fields that are not kept.
    pub fn update(&self, key: &CertificateKey, mut certificate: Certificate) -> Arc<Certificate> {
        watch::strip(&mut certificate);
        trim(&mut certificate);
        let certificate = Arc::new(certificate);
        let older = self.get(key).is_some_and(|known| {
            known.uid() == certificate.uid() && version(&known) < version(&certificate)
        });
        if older {
            self.put(key.cluster, certificate.clone());
        }
        certificate
    }

    /// Stores a watched version. Returns the Certificates that need a pass: this one and those that
    /// share or shared its Secret; none if this version or a newer one is stored already.
    pub fn put(
        &self,
        cluster: CertificateCluster,
        certificate: impl Into<Arc<Certificate>>,
    ) -> Vec<CertificateKey> {
        let certificate = certificate.into();
        let key = CertificateKey::new(cluster, ObjectKey::of(certificate.as_ref()));
        let mut maps = self.write();
        if let Some(known) = maps.certificates.get_mut(&key)
            && version(known) >= version(&certificate)
        {
            // The watched object shares memory with other watch handlers, the write response does
            // not.
            if known.metadata.resource_version == certificate.metadata.resource_version {
                *known = certificate;
            }
            return Vec::new();
        }
        let mut concerned = maps.forget(&key);
        concerned.insert(key.clone());
        concerned.extend(maps.insert(key, certificate));
        concerned.into_iter().collect()
    }

    /// Removes a Certificate. Returns the Certificates that share its Secret.
    pub fn remove(&self, key: &CertificateKey) -> Vec<CertificateKey> {
        self.write().forget(key).into_iter().collect()
    }

    /// The number of Certificates.
    #[must_use]
    pub fn count(&self) -> usize {
        self.read().certificates.len()
    }

    /// The Certificates in `cluster`.
    #[must_use]
    pub fn keys(&self, cluster: CertificateCluster) -> Vec<ObjectKey> {
        let maps = self.read();
        let keys = maps.certificates.keys().filter(|key| key.cluster == cluster);
        keys.map(|key| key.object.clone()).collect()
    }

    /// The Certificates with this Secret.
    #[must_use]
    pub fn of_secret(&self, secret: &ObjectKey) -> Vec<CertificateKey> {
        self.read().by_secret.get(secret).into_iter().flatten().cloned().collect()
    }

    /// The older Certificate with the same Secret for which `counts` holds. The uid breaks ties, so
    /// that all managers come to the same result.
    #[must_use]
    pub fn rival(
        &self,
        certificate: &Certificate,
        secret: &ObjectKey,
        counts: impl Fn(&CertificateKey, &Certificate) -> bool,
    ) -> Option<CertificateKey> {
        let maps = self.read();
        let age = |certificate: &Certificate| {
            let created = certificate.creation_timestamp().map(|time| time.0);
            // Creation times have a resolution of one second. Within it, an issued Certificate is
            // the older one.
            let unserved = !certificate.labels().contains_key(well_known::HASH);
            (created, unserved, certificate.uid())
        };
        let own = age(certificate);
        let others = maps.by_secret.get(secret)?.iter();
        others
            .filter_map(|key| Some((key, maps.certificates.get(key)?)))
            .filter(|(key, other)| {
                other.metadata.deletion_timestamp.is_none() && counts(key, other)
            })
            .filter(|(_, other)| other.uid() != certificate.uid() && age(other) < own)
            .map(|(key, _)| key.clone())
            .min()
    }

    /// The Certificates for which `filter` holds.
    #[must_use]
    pub fn matching(
        &self,
        filter: impl Fn(&CertificateKey, &Certificate) -> bool,
    ) -> Vec<CertificateKey> {
        let maps = self.read();
        maps.certificates
            .iter()
            .filter(|(key, certificate)| filter(key, certificate))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Calls `f` for each Certificate, without holding the lock.
    pub fn each(&self, f: impl FnMut(&Certificate)) {
        let all: Vec<_> = self.read().certificates.values().cloned().collect();
        all.iter().map(AsRef::as_ref).for_each(f);
    }

    /// Maps each Certificate to a value, while holding the read lock.
    #[must_use]
    pub fn map<T>(&self, f: impl Fn(&Certificate) -> T) -> Vec<T> {
        self.read().certificates.values().map(|certificate| f(certificate)).collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Maps> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Maps> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    fn identity_hash(&self, key: &CertificateKey, certificate: &Certificate) -> Option<u64> {
        let identity = RequestIdentity::of(key, certificate, self.across)?;
        Some(self.hasher.hash_one(&identity))
    }

    /// Adds a Certificate; returns the others with the same Secret.
    fn insert(
        &mut self,
        key: CertificateKey,
        certificate: Arc<Certificate>,
    ) -> BTreeSet<CertificateKey> {
        let sharing = self.by_secret.entry(certificate.secret_key()).or_default();
        let others = sharing.iter().cloned().collect();
        sharing.insert(key.clone());
        if let Some(hash) = self.identity_hash(&key, &certificate) {
            self.by_identity.entry(hash).or_default().insert(key.clone());
        }
        self.certificates.insert(key, certificate);
        others
    }

    /// Removes a Certificate; returns the others with the same Secret.
    fn forget(&mut self, key: &CertificateKey) -> BTreeSet<CertificateKey> {
        let Some(known) = self.certificates.remove(key) else { return BTreeSet::new() };
        if let Some(hash) = self.identity_hash(key, &known)
            && let Entry::Occupied(mut same) = self.by_identity.entry(hash)
        {
            same.get_mut().remove(key);
            if same.get().is_empty() {
                same.remove();
            }
        }
        let secret = known.secret_key();
        let Some(sharing) = self.by_secret.get_mut(&secret) else { return BTreeSet::new() };
        sharing.remove(key);
        if sharing.is_empty() {
            self.by_secret.remove(&secret);
            return BTreeSet::new();
        }
        sharing.iter().cloned().collect()
    }
}

/// Resource versions are ordered numbers (KEP-5504). Anything else counts as the oldest version.
fn version(certificate: &Certificate) -> u64 {
    certificate.resource_version().and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn certificate(name: &str, secret: &str, version: u64, created: &str) -> Certificate {
        serde_json::from_value(json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1",
            "kind": "Certificate",
            "metadata": {
                "namespace": "ns", "name": name, "uid": name,
                "resourceVersion": version.to_string(), "creationTimestamp": created,
            },
            "spec": { "commonName": "example.org", "secretName": secret },
        }))
        .unwrap()
    }

    fn key(name: &str) -> CertificateKey {
        CertificateKey::new(CertificateCluster::Source, secret(name))
    }

    fn secret(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    #[test]
    fn an_older_version_does_not_replace_a_newer_one() {
        let index = Index::default();
        index.put(CertificateCluster::Source, certificate("a", "new", 9, "2026-01-01T00:00:00Z"));
        index.put(CertificateCluster::Source, certificate("a", "old", 8, "2026-01-01T00:00:00Z"));
        assert_eq!(index.of_secret(&secret("new")), [key("a")]);
        assert!(index.of_secret(&secret("old")).is_empty());
    }

    #[test]
    fn managed_fields_of_a_write_response_are_dropped() {
        let index = Index::default();
        index.put(CertificateCluster::Source, certificate("a", "a", 1, "2026-01-01T00:00:00Z"));
        let mut answer = certificate("a", "a", 2, "2026-01-01T00:00:00Z");
        answer.metadata.managed_fields = Some(vec![Default::default()]);
        index.update(&key("a"), answer);
        let known = index.get(&key("a")).unwrap();
        assert_eq!(known.resource_version().as_deref(), Some("2"));
        assert!(known.managed_fields().is_empty());
    }

    #[test]
    fn the_watched_object_replaces_the_write_response() {
        let index = Index::default();
        index.put(CertificateCluster::Source, certificate("a", "a", 1, "2026-01-01T00:00:00Z"));
        index.update(&key("a"), certificate("a", "a", 2, "2026-01-01T00:00:00Z"));
        let echo = Arc::new(certificate("a", "a", 2, "2026-01-01T00:00:00Z"));
        assert_eq!(index.put(CertificateCluster::Source, echo.clone()), []);
        assert!(Arc::ptr_eq(&echo, &index.get(&key("a")).unwrap()));
        // The order of watch event and write response does not matter.
        index.update(&key("a"), certificate("a", "a", 2, "2026-01-01T00:00:00Z"));
        assert!(Arc::ptr_eq(&echo, &index.get(&key("a")).unwrap()));
    }

    #[test]
    fn of_two_certificates_created_in_one_second_the_issued_one_owns_the_secret() {
        let index = Index::default();
        let time = "2026-01-01T00:00:00Z";
        let mut served = certificate("z-served", "shared", 1, time);
        served.labels_mut().insert(well_known::HASH.to_owned(), "x".to_owned());
        let other = certificate("a-other", "shared", 2, time);
        index.put(CertificateCluster::Source, served.clone());
        index.put(CertificateCluster::Source, other.clone());
        assert_eq!(index.rival(&served, &secret("shared"), |_, _| true), None);
        let rival = index.rival(&other, &secret("shared"), |_, _| true);
        assert_eq!(rival, Some(key("z-served")));
    }

    #[test]
    fn the_older_of_two_certificates_owns_the_secret_and_its_removal_concerns_the_other() {
        let index = Index::default();
        let older = certificate("older", "shared", 1, "2026-01-01T00:00:00Z");
        let younger = certificate("a-younger", "shared", 2, "2026-01-02T00:00:00Z");
        index.put(CertificateCluster::Source, younger.clone());
        assert_eq!(
            index.put(CertificateCluster::Source, older.clone()),
            [key("a-younger"), key("older")]
        );
        assert_eq!(
            index.put(CertificateCluster::Source, older.clone()),
            [],
            "a repeated event of our own write concerns no Certificate"
        );
        assert_eq!(index.rival(&younger, &secret("shared"), |_, _| true), Some(key("older")));
        assert_eq!(index.rival(&older, &secret("shared"), |_, _| true), None);
        assert_eq!(index.remove(&key("older")), [key("a-younger")]);
        assert_eq!(index.rival(&younger, &secret("shared"), |_, _| true), None);
    }

    #[test]
    fn equal_requests_are_found_across_namespaces_only_if_sharing_is_enabled() {
        let made = |namespace: &str, name: &str| {
            let mut made = certificate(name, name, 1, "2026-01-01T00:00:00Z");
            made.metadata.namespace = Some(namespace.to_owned());
            made
        };
        for (across, wanted) in [(false, vec!["ns/b"]), (true, vec!["ns/b", "other/c"])] {
            let index = Index::sharing(across);
            let all = [made("ns", "a"), made("ns", "b"), made("other", "c")];
            all.iter().for_each(|it| drop(index.put(CertificateCluster::Source, it.clone())));
            index.put(CertificateCluster::Target, made("ns", "d"));
            let mut another = made("ns", "e");
            another.spec.common_name = Some("other.example.org".to_owned());
            index.put(CertificateCluster::Source, another);
            let found = |most| index.equal_requests(&key("a"), &all[0], most).others;
            let names: Vec<_> = found(9).iter().map(|(key, _)| key.object.to_string()).collect();
            assert_eq!(names, wanted, "{across}");
            assert_eq!(found(1).len(), 1);
            let are = |name| index.are_equal_requests((&key("a"), &all[0]), &key(name));
            assert!(are("b") && !are("e") && !are("gone"));
            index.remove(&key("b"));
            assert_eq!(found(9).len(), wanted.len() - 1);
        }
    }
}
