//! Queues CertificateRevocations when they, their Certificates or issuers change.

use std::sync::Arc;

use super::{controller::Controller, index::RevocationKey};
use crate::{
    api::{
        Certificate, CertificateCluster, CertificateRevocation, ObjectKey,
        revocation::CertificateName,
    },
    runtime::watch::EventHandler,
};

impl Controller {
    /// An issuer has changed. Queues all unfinished CertificateRevocations.
    pub fn issuer_changed(&self) {
        self.index.open().into_iter().for_each(|key| self.queue.push(key));
    }
}

/// Handles the watch events of one cluster, for CertificateRevocations and the Certificates that
/// they wait for.
pub struct RevocationHandler {
    cluster: CertificateCluster,
    controller: Arc<Controller>,
}

impl RevocationHandler {
    /// A handler for the objects in `cluster`.
    #[must_use]
    pub fn new(cluster: CertificateCluster, controller: Arc<Controller>) -> Self {
        Self { cluster, controller }
    }

    fn key(&self, object: ObjectKey) -> RevocationKey {
        RevocationKey { cluster: self.cluster, object }
    }

    fn wake(&self, ObjectKey { namespace, name }: ObjectKey) {
        let Controller { index, queue, .. } = self.controller.as_ref();
        let certificate = CertificateName { name, namespace };
        let waiting = index.waiting_for(self.cluster, &certificate);
        waiting.into_iter().for_each(|key| queue.push(key));
    }
}

impl EventHandler<CertificateRevocation> for RevocationHandler {
    fn applied(&self, revocation: CertificateRevocation) {
        let key = self.key(ObjectKey::of(&revocation));
        if self.controller.index.put(&key, revocation) {
            self.controller.queue.push(key);
        }
    }

    fn gone(&self, key: &ObjectKey) {
        self.controller.index.remove(&self.key(key.clone()));
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.controller.index.keys(self.cluster)
    }
}

/// Certificates are not stored; a pass reads them when it needs them.
impl EventHandler<Arc<Certificate>> for RevocationHandler {
    fn applied(&self, certificate: Arc<Certificate>) {
        self.wake(ObjectKey::of(certificate.as_ref()));
    }

    fn gone(&self, key: &ObjectKey) {
        self.wake(key.clone());
    }

    fn keys(&self) -> Vec<ObjectKey> {
        Vec::new()
    }
}
