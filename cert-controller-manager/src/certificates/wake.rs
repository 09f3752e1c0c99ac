//! What wakes a Certificate: its own change, its Secret's, its issuer's, its rival's, a place for
//! proofs that comes or goes, a namespace that changes its mind.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;

use super::reconcile::Controller;
use crate::{
    api::{Certificate, CertificateKey, Home, IssuerKey, ObjectKey, certificate::State, is_served},
    runtime::follow::Follower,
};

impl Controller {
    /// An issuer has changed: whoever uses it, or may be looking for one, and is not well gets a pass.
    pub fn issuer_changed(&self, key: &IssuerKey) {
        self.wake_matching(|_, certificate| {
            let reference = certificate.spec.issuer_ref.as_ref().filter(|it| !it.name.is_empty());
            !is_well(certificate) && (reference.is_none() || self.chosen(certificate).key == *key)
        });
    }

    /// The place for proofs has come or gone: whoever is not well gets a pass.
    pub fn challenges_changed(&self) {
        self.wake_matching(|_, certificate| {
            is_served(certificate, &self.settings.classes) && !is_well(certificate)
        });
    }

    /// A namespace of the target cluster takes other Secrets than before.
    pub(super) fn consent_changed(&self, namespace: &str) {
        self.wake_matching(|key, certificate| {
            let secret = certificate.secret_key();
            secret.namespace == namespace && key.object.namespace != namespace
        });
    }

    /// All Certificates of `home` are known: what waited for that goes on at once.
    pub fn all_are_known(&self, home: Home) {
        self.lists.complete(home);
        let known = self.index.keys(home).into_iter().map(|object| CertificateKey { home, object });
        let ordered = self.orders.issuers().into_iter().map(|(key, _)| key);
        let ordered = ordered.filter(|key| key.home == home);
        known.chain(ordered).for_each(|key| self.queue.push(key));
    }

    /// This manager has no cluster for `home`: `--target` was removed, or names the source cluster now. Orders of
    /// Certificates there are given up by their next passes, as those of deleted Certificates.
    pub fn home_is_gone(&self, home: Home) {
        for (key, _) in self.orders.issuers().into_iter().filter(|(key, _)| key.home == home) {
            tracing::warn!(certificate = %key, "the order of {key} is given up: this manager has no cluster for its Certificate; --target was removed or names the source cluster");
        }
        self.all_are_known(home);
    }

    fn wake_matching(&self, filter: impl Fn(&CertificateKey, &Certificate) -> bool) {
        self.index.matching(filter).into_iter().for_each(|key| self.queue.push(key));
    }

    fn wake_users(&self, secret: &ObjectKey) {
        self.index.of_secret(secret).into_iter().for_each(|key| self.queue.push(key));
    }
}

fn is_well(certificate: &Certificate) -> bool {
    certificate.status.as_ref().is_some_and(|status| status.state == State::Ready.word())
}

/// Whether all Certificates of a cluster are known: as long as not, one that is missing in the index
/// is not gone.
#[derive(Debug, Default)]
pub struct Lists {
    source: AtomicBool,
    target: AtomicBool,
}

impl Lists {
    /// Whether all Certificates of `home` are known.
    #[must_use]
    pub fn has(&self, home: Home) -> bool {
        self.of(home).load(Ordering::Acquire)
    }

    /// All Certificates of `home` are known.
    fn complete(&self, home: Home) {
        self.of(home).store(true, Ordering::Release);
    }

    fn of(&self, home: Home) -> &AtomicBool {
        match home {
            Home::Source => &self.source,
            Home::Target => &self.target,
        }
    }
}

/// Takes what is heard of the Certificates in one cluster.
pub struct AtHome {
    home: Home,
    controller: Arc<Controller>,
}

impl AtHome {
    /// For the Certificates at `home`.
    #[must_use]
    pub fn new(home: Home, controller: Arc<Controller>) -> Self {
        Self { home, controller }
    }
}

impl Follower<Arc<Certificate>> for AtHome {
    fn applied(&self, certificate: Arc<Certificate>) {
        let Controller { index, queue, .. } = self.controller.as_ref();
        index.put(self.home, certificate).into_iter().for_each(|key| queue.push(key));
    }

    fn gone(&self, key: &ObjectKey) {
        let Controller { index, queue, .. } = self.controller.as_ref();
        let key = CertificateKey::new(self.home, key.clone());
        index.remove(&key).into_iter().for_each(|key| queue.push(key));
        queue.push(key);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.controller.index.keys(self.home)
    }
}

/// Secrets are followed as metadata; they are read when a pass needs them.
impl Follower<PartialObjectMeta<Secret>> for Controller {
    fn applied(&self, secret: PartialObjectMeta<Secret>) {
        let key = ObjectKey::of(&secret);
        if self.secrets.seen(&key, Some(&secret)) {
            self.wake_users(&key);
        }
    }

    fn gone(&self, key: &ObjectKey) {
        self.secrets.seen(key, None);
        self.wake_users(key);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.secrets.keys()
    }

    fn complete(&self) {
        self.secrets.all_are_seen();
    }
}
