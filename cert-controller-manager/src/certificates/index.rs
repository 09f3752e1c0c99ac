//! All Certificates in memory, by name, by Secret and by request.
//!
//! Reads watch events and the responses to our own writes, so that a pass sees the writes of the
//! previous pass before the watch does. [`entry`] is what it keeps of each Certificate.

mod entry;

use std::{
    collections::{BTreeSet, HashMap, hash_map},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use kube::ResourceExt;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use self::entry::Summary;
use self::entry::{Age, Entry, version};
use super::identity::RequestIdentity;
use crate::{
    api::{Certificate, CertificateCluster, CertificateKey, ObjectKey, trim::trim},
    runtime::{small_set::SmallSet, watch},
};

/// The Certificates of both clusters. See the [module](self).
#[derive(Debug, Default)]
pub struct Index(RwLock<Maps>);

#[derive(Debug, Default)]
struct Maps {
    certificates: HashMap<CertificateKey, Entry>,
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
        let others = others.filter_map(|key| Some((key.clone(), maps.get(key)?)));
        let others = others.filter(|(key, other)| {
            RequestIdentity::of(key, other, maps.across).as_ref() == Some(&identity)
        });
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
            .get(other)
            .and_then(|certificate| RequestIdentity::of(other, &certificate, maps.across));
        identity.is_some() && identity == other
    }

    /// The Certificate, if it exists.
    #[must_use]
    pub fn get(&self, key: &CertificateKey) -> Option<Arc<Certificate>> {
        self.read().get(key)
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
            && known.version() >= version(&certificate)
        {
            known.share(&certificate);
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
        keys.map(|key| key.object.as_ref().clone()).collect()
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
        counts: impl Fn(&CertificateKey, &Summary) -> bool,
    ) -> Option<CertificateKey> {
        let maps = self.read();
        let own = Age::of(certificate);
        let others = maps.by_secret.get(secret)?.iter();
        let others = others.filter_map(|key| Some((key, maps.certificates.get(key)?.summary())));
        others
            .filter(|(_, other)| other.age.uid != own.uid && other.age < own)
            .filter(|(key, other)| !other.is_deleting && counts(key, other))
            .map(|(key, _)| key.clone())
            .min()
    }

    /// The Certificates that are not ready and for which `filter` holds.
    #[must_use]
    pub fn unready(
        &self,
        filter: impl Fn(&CertificateKey, &Certificate) -> bool,
    ) -> Vec<CertificateKey> {
        let maps = self.read();
        let unready = maps.certificates.iter().filter(|(_, entry)| !entry.summary().is_ready());
        let matching = unready.filter(|(key, entry)| {
            entry.certificate().is_some_and(|certificate| filter(key, &certificate))
        });
        matching.map(|(key, _)| key.clone()).collect()
    }

    /// The Certificates of other namespaces whose Secret is in `namespace`.
    #[must_use]
    pub fn foreign_users(&self, namespace: &str) -> Vec<CertificateKey> {
        let maps = self.read();
        let here = maps.by_secret.iter().filter(|(secret, _)| secret.namespace == namespace);
        let users = here.flat_map(|(_, users)| users);
        users.filter(|key| key.object.namespace != namespace).cloned().collect()
    }

    /// Calls `visit` for each Certificate. It must not wait.
    pub fn each(&self, mut visit: impl FnMut(&CertificateKey, &Summary)) {
        self.read().certificates.iter().for_each(|(key, entry)| visit(key, entry.summary()));
    }

    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.0.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.0.write()
    }
}

impl Maps {
    fn identity_hash(&self, key: &CertificateKey, certificate: &Certificate) -> Option<u64> {
        let identity = RequestIdentity::of(key, certificate, self.across)?;
        Some(self.hasher.hash_one(&identity))
    }

    fn get(&self, key: &CertificateKey) -> Option<Arc<Certificate>> {
        self.certificates.get(key)?.certificate()
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
        self.certificates.insert(key, Entry::new(certificate));
        others
    }

    /// Removes a Certificate; returns the others with the same Secret.
    fn forget(&mut self, key: &CertificateKey) -> BTreeSet<CertificateKey> {
        let known = self.certificates.remove(key).and_then(|entry| entry.certificate());
        let Some(known) = known else { return BTreeSet::new() };
        if let Some(hash) = self.identity_hash(key, &known)
            && let hash_map::Entry::Occupied(mut same) = self.by_identity.entry(hash)
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

#[cfg(test)]
mod tests;
