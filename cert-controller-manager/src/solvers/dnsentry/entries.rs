//! Cache of our challenge entries.
//!
//! A watch of `DNSEntry` in one namespace or all fills it. Each change reports the owner of the entry, whose
//! Certificate is then reconciled. Entries of other classes and managers are not kept, because they must
//! never be deleted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cert_lib::solve::Owner;
use kube::ResourceExt;
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::name;
use crate::api::{CertificateKey, ObjectKey, Realm};
use crate::{
    api::dnsentry::DNSEntry,
    runtime::watch::{Availability, EventHandler},
};

/// See the [module](self).
pub struct Entries {
    namespace: Option<String>,
    class: String,
    realm: Realm,
    changed_owners: UnboundedSender<Owner>,
    index: Mutex<HashMap<ObjectKey, Entry>>,
    pub(super) availability: Arc<watch::Sender<Availability>>,
}

/// A cached entry. It has only a digest of the values, which are secret while the order runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) owner: Owner,
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) observed_generation: Option<i64>,
    pub(super) state: String,
    pub(super) message: String,
    pub(super) deleting: bool,
    pub(super) content: [u8; 32],
}

impl Entries {
    /// An empty cache of the entries with `class` and `realm` in `namespace` or all namespaces. The owner of
    /// each changed entry is sent to `changed_owners`.
    #[must_use]
    pub fn new(
        namespace: Option<String>,
        class: Option<String>,
        realm: Realm,
        changed_owners: UnboundedSender<Owner>,
    ) -> Self {
        let availability = Arc::new(watch::Sender::new(Availability::Unknown));
        let (class, index) = (class.unwrap_or_default(), Mutex::default());
        Self { namespace, class, realm, changed_owners, index, availability }
    }

    /// The namespace of the entries; `None` for all.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The sender for the watch that fills the cache.
    #[must_use]
    pub fn sender(&self) -> Arc<watch::Sender<Availability>> {
        self.availability.clone()
    }

    /// Subscribes to the availability of the kind.
    #[must_use]
    pub fn availability(&self) -> watch::Receiver<Availability> {
        self.availability.subscribe()
    }

    /// The entries of `owner`, for the cleanup after a crash.
    #[must_use]
    pub fn of_owner(&self, owner: &Owner) -> Vec<ObjectKey> {
        let index = self.index();
        let of_owner = index.iter().filter(|(_, entry)| entry.owner == *owner);
        of_owner.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn find(&self, key: &ObjectKey) -> Option<Entry> {
        self.index().get(key).cloned()
    }

    /// The owner of an entry, if it is one of ours.
    pub(super) fn owner(&self, key: &ObjectKey) -> Option<Owner> {
        self.index().get(key).map(|entry| entry.owner.clone())
    }

    pub(super) fn availability_now(&self) -> Availability {
        *self.availability.borrow()
    }

    /// Whether an entry may belong to `owner`. Without a common namespace, it must be in the namespace of the
    /// owner, because tenants can write entries in their own namespaces.
    fn may_be_of(&self, key: &ObjectKey, owner: &Owner) -> bool {
        let owner = CertificateKey::from_owner(owner);
        self.namespace.is_some()
            || owner.is_some_and(|owner| owner.object.namespace == key.namespace)
    }

    fn report_change(&self, owner: Owner) {
        // The receiver is gone when the process ends.
        let _ = self.changed_owners.send(owner);
    }

    fn index(&self) -> MutexGuard<'_, HashMap<ObjectKey, Entry>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventHandler<DNSEntry> for Entries {
    fn applied(&self, object: DNSEntry) {
        let key = ObjectKey::of(&object);
        let ours = |entry: &Entry| {
            object.class() == self.class
                && self.realm.is(object.realm())
                && self.may_be_of(&key, &entry.owner)
        };
        let Some(entry) = convert(&object).filter(ours) else {
            return self.gone(&key);
        };
        let owner = entry.owner.clone();
        let before = self.index().insert(key, entry.clone());
        if let Some(before) = &before
            && before.owner != owner
        {
            self.report_change(before.owner.clone());
        }
        if before.as_ref() != Some(&entry) {
            self.report_change(owner);
        }
    }

    fn gone(&self, key: &ObjectKey) {
        let before = self.index().remove(key);
        if let Some(before) = before {
            self.report_change(before.owner);
        }
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.index().keys().cloned().collect()
    }
}

fn convert(object: &DNSEntry) -> Option<Entry> {
    let status = object.status.clone().unwrap_or_default();
    Some(Entry {
        owner: Owner(object.challenge_owner()?.to_owned()),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        observed_generation: status.observed_generation,
        state: status.state.unwrap_or_default(),
        message: status.message.unwrap_or_default(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        content: name::of_content(&object.spec.dns_name, object.values()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::api::ClusterId;
    use crate::api::dnsentry::{
        ANNOTATION_CHALLENGE, ANNOTATION_CLASS, ANNOTATION_OWNER, ANNOTATION_REALM,
    };

    fn entry(name: &str, annotations: &Value, state: &str) -> DNSEntry {
        serde_json::from_value(json!({
            "apiVersion": "dns.gardener.cloud/v1alpha1", "kind": "DNSEntry",
            "metadata": {
                "namespace": "dns", "name": name, "uid": "u", "generation": 1,
                "annotations": annotations, "resourceVersion": state,
            },
            "spec": {"dnsName": "_acme-challenge.example.org", "text": ["v"]},
            "status": {"state": state},
        }))
        .unwrap()
    }

    fn ours(owner: &str) -> Value {
        of(owner, "gardencert@s")
    }

    fn of(owner: &str, realm: &str) -> Value {
        json!({
            ANNOTATION_CHALLENGE: "true", ANNOTATION_OWNER: owner, ANNOTATION_CLASS: "c",
            ANNOTATION_REALM: realm,
        })
    }

    fn realm() -> Realm {
        Realm::new("gardencert", &ClusterId { id: "s".into(), former: vec![] })
    }

    fn changed(receiver: &mut UnboundedReceiver<Owner>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|owner| owner.0).collect()
    }

    fn keys(names: &[&str]) -> Vec<ObjectKey> {
        let key = |name: &&str| ObjectKey { namespace: "dns".into(), name: (*name).into() };
        names.iter().map(key).collect()
    }

    #[test]
    fn only_relevant_changes_are_reported_to_the_owner() {
        let (sender, mut receiver) = unbounded_channel();
        let entries = Entries::new(Some("dns".into()), Some("c".into()), realm(), sender);
        let owner = Owner("ns/a".into());

        entries.applied(entry("a", &ours("ns/a"), ""));
        entries.applied(entry("a", &ours("ns/a"), ""));
        assert_eq!(changed(&mut receiver), ["ns/a"]);
        assert_eq!(entries.of_owner(&owner), keys(&["a"]));

        entries.applied(entry("a", &ours("ns/a"), "Ready"));
        assert_eq!(changed(&mut receiver), ["ns/a"]);
        entries.applied(entry("a", &ours("ns/b"), "Ready"));
        assert_eq!(changed(&mut receiver), ["ns/a", "ns/b"]);
        entries.gone(&keys(&["a"])[0]);
        entries.gone(&keys(&["a"])[0]);
        assert_eq!(changed(&mut receiver), ["ns/b"]);
        assert_eq!(entries.of_owner(&owner), []);
    }

    #[test]
    fn entries_of_other_managers_are_not_kept() {
        let (sender, mut receiver) = unbounded_channel();
        let entries = Entries::new(None, Some("c".into()), realm(), sender);
        for annotations in [
            json!({ ANNOTATION_CHALLENGE: "true", ANNOTATION_OWNER: "dns/a" }),
            ours("another-namespace/a"),
            ours("no-namespace"),
            of("dns/a", "gardencert@another"),
            json!({}),
            json!({ ANNOTATION_CHALLENGE: "true" }),
            json!({ ANNOTATION_OWNER: "ns/a" }),
        ] {
            entries.applied(entry("a", &annotations, "Ready"));
        }
        assert_eq!(entries.keys(), []);
        assert_eq!(changed(&mut receiver), [""; 0]);
    }
}
