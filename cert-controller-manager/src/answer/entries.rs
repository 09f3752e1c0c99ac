//! Publishes `DNSEntry` objects: watches them, updates the shared table, and writes their status.
//!
//! The status is written after the table is updated, and only if it differs. Writes do not wait for each
//! other.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cert_lib::model::name::DnsName;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::watcher,
};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    options::ZoneOptions,
    records::{Origin, RecordKey, Source},
    shared::Shared,
    ttl::MAX_TTL,
};
use crate::{
    api::{
        ObjectKey,
        dnsentry::{DNSEntry, DnsEntryStatus, STATE_INVALID, STATE_READY},
    },
    runtime::watch::{Availability, EventHandler, Lister, watch},
};

/// The entries that this process publishes.
pub(super) struct Served {
    class: String,
    zones: Vec<DnsName>,
    /// Maximum TTL of values.
    ttl: u32,
    table: Arc<Shared>,
    /// The latest version of each published entry, so that an outdated status is not written.
    versions: Mutex<HashMap<ObjectKey, String>>,
    updates: mpsc::UnboundedSender<StatusUpdate>,
    inbox: tokio::sync::Mutex<mpsc::UnboundedReceiver<StatusUpdate>>,
}

/// A status to write.
#[derive(Debug)]
struct StatusUpdate {
    key: ObjectKey,
    /// The version that the status refers to. A newer version causes another update.
    version: String,
    status: DnsEntryStatus,
}

impl Served {
    /// Publishes the entries of `class` in `zones`.
    pub(super) fn new(class: String, zones: &ZoneOptions, table: Arc<Shared>) -> Self {
        let (updates, inbox) = mpsc::unbounded_channel();
        let inbox = tokio::sync::Mutex::new(inbox);
        let (zones, ttl) = (zones.zones.clone(), zones.ttl.min(MAX_TTL));
        Self { class, zones, ttl, table, versions: Mutex::default(), updates, inbox }
    }

    /// Keeps the table and the status of entries up to date. Never returns.
    pub(super) async fn run(&self, client: Client, namespace: Option<String>) -> Infallible {
        let api: Api<DNSEntry> = match &namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let (availability, _) = watch::channel(Availability::Unknown);
        tokio::select! {
            never = watch(api, watcher::Config::default(), self, &availability, Lister::detached()) => never,
            never = self.write_updates(&client) => never,
        }
    }

    async fn write_updates(&self, client: &Client) -> Infallible {
        let mut inbox = self.inbox.lock().await;
        let updates = stream::poll_fn(move |context| inbox.poll_recv(context));
        updates.for_each_concurrent(PARALLEL, |update| self.write(client, update)).await;
        // The sender is a field of `self`, so the stream never ends.
        std::future::pending().await
    }

    /// Writes a status, with retries while it is up to date.
    async fn write(&self, client: &Client, update: StatusUpdate) {
        let api: Api<DNSEntry> = Api::namespaced(client.clone(), &update.key.namespace);
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": update.version },
            "status": update.status,
        }));
        let params = PatchParams::default();
        let mut pause = FIRST_PAUSE;
        while self.is_current(&update) {
            let call = api.patch_status(&update.key.name, &params, &patch);
            match timeout(DEADLINE, call).await {
                Ok(Ok(_)) => return,
                // The entry was changed or deleted, which the watch updates.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => return,
                Ok(Err(error)) => {
                    let key = &update.key;
                    warn!(entry = %key, %error, "cannot write the status of DNSEntry {key}");
                    if is_final(&error) {
                        return;
                    }
                }
                Err(_) => {
                    warn!(entry = %update.key, "no answer to the status of DNSEntry {}", update.key);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn is_current(&self, update: &StatusUpdate) -> bool {
        self.versions().get(&update.key) == Some(&update.version)
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, String>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventHandler<DNSEntry> for Served {
    fn applied(&self, entry: DNSEntry) {
        let key = ObjectKey::of(&entry);
        let (zone, verdict) = match self.classify(&entry) {
            EntryVerdict::NotOurs => return self.gone(&key),
            EntryVerdict::Ours { zone, verdict } => (zone, verdict),
        };
        let version = entry.resource_version().unwrap_or_default();
        let desired = status_of(&entry, &zone, &verdict);
        match verdict {
            Verdict::Publish(source) => self.table.write().put(&record_key(&key), vec![source]),
            Verdict::Invalid(why) => {
                debug!(entry = %key, "cannot publish DNSEntry {key}: {why}");
                self.table.write().remove(&record_key(&key));
            }
        }
        self.versions().insert(key.clone(), version.clone());
        if !has_status(&entry, &desired) {
            let status =
                DnsEntryStatus { last_update_time: Some(Time(Timestamp::now())), ..desired };
            // The receiver is a field of `self`, so sending cannot fail.
            let _ = self.updates.send(StatusUpdate { key, version, status });
        }
    }

    fn gone(&self, key: &ObjectKey) {
        self.versions().remove(key);
        self.table.write().remove(&record_key(key));
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.versions().keys().cloned().collect()
    }

    fn complete(&self) {
        self.table.write().complete(Origin::Entries);
    }
}

/// Whether an entry belongs to this responder, and whether it can be published.
enum EntryVerdict {
    NotOurs,
    Ours { zone: DnsName, verdict: Verdict },
}

enum Verdict {
    Publish(Source),
    Invalid(&'static str),
}

fn record_key(entry: &ObjectKey) -> RecordKey {
    RecordKey { origin: Origin::Entries, object: entry.clone() }
}

impl Served {
    fn classify(&self, entry: &DNSEntry) -> EntryVerdict {
        let Ok(name) = entry.spec.dns_name.parse::<DnsName>() else { return EntryVerdict::NotOurs };
        let within = self.zones.iter().filter(|zone| name.is_within(zone));
        let zone = within.max_by_key(|zone| zone.as_str().len());
        // An entry with a deletion timestamp is no longer published, even if a finalizer keeps it.
        let ours = entry.class() == self.class && entry.metadata.deletion_timestamp.is_none();
        let Some(zone) = zone.filter(|_| ours) else { return EntryVerdict::NotOurs };
        let values = entry.values();
        let verdict = if !entry.is_challenge() {
            Verdict::Invalid("only challenge records are published here")
        } else if name.is_wildcard() {
            Verdict::Invalid("wildcards are not published here")
        } else if values.is_empty() {
            Verdict::Invalid("only entries with text are published here")
        } else if values.iter().any(|value| value.len() > MAX_VALUE) {
            Verdict::Invalid("a text value is too long to publish")
        } else {
            let ttl = entry.spec.ttl.and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or(self.ttl);
            Verdict::Publish(Source { name, values: values.to_vec(), ttl: ttl.min(self.ttl) })
        };
        EntryVerdict::Ours { zone: zone.clone(), verdict }
    }
}

fn status_of(entry: &DNSEntry, zone: &DnsName, verdict: &Verdict) -> DnsEntryStatus {
    let (state, message, source) = match verdict {
        Verdict::Publish(source) => (STATE_READY, PUBLISHED, Some(source)),
        Verdict::Invalid(why) => (STATE_INVALID, *why, None),
    };
    DnsEntryStatus {
        state: Some(state.to_owned()),
        message: Some(message.to_owned()),
        observed_generation: entry.metadata.generation,
        provider: Some(PROVIDER.to_owned()),
        zone: Some(zone.to_string()),
        last_update_time: None,
        dns_name: Some(entry.spec.dns_name.clone()),
        ttl: source.map(|source| source.ttl.into()),
    }
}

/// Whether the status of the entry equals `desired`, apart from the time.
fn has_status(entry: &DNSEntry, desired: &DnsEntryStatus) -> bool {
    let written = entry.status.clone().unwrap_or_default();
    DnsEntryStatus { last_update_time: None, ..written } == *desired
}

/// Whether a retry is useless.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 422))
}

const PROVIDER: &str = "cert-controller-manager/answer";
const PUBLISHED: &str = "published";
/// Maximum number of concurrent writes.
const PARALLEL: usize = 16;
/// Maximum length of a value. A challenge value has 43 characters.
const MAX_VALUE: usize = 2048;
const DEADLINE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RecordType};
    use serde_json::Value;

    use super::*;
    use crate::{
        answer::zone::Table,
        api::dnsentry::{ANNOTATION_CHALLENGE, ANNOTATION_CLASS},
    };

    fn entry(class: &str, spec: &Value, status: &Value) -> DNSEntry {
        let mut annotations = json!({ ANNOTATION_CHALLENGE: "true" });
        if !class.is_empty() {
            annotations[ANNOTATION_CLASS] = json!(class);
        }
        serde_json::from_value(json!({
            "apiVersion": "dns.gardener.cloud/v1alpha1", "kind": "DNSEntry",
            "metadata": {
                "namespace": "ns", "name": "a", "generation": 3, "resourceVersion": "7",
                "annotations": annotations,
            },
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn served() -> Served {
        let zones = ZoneOptions::of(vec!["acme.test".parse().unwrap()]);
        let table = Table::new(&zones, &[Origin::Entries], 1);
        Served::new("c".into(), &zones, Arc::new(Shared::new(table)))
    }

    fn values_at(served: &Served, name: &str) -> usize {
        let name = Name::from_ascii(name).unwrap();
        served.table.read().answer(&name, RecordType::TXT).answers.len()
    }

    /// The next update: state, message and TTL.
    async fn reported(served: &Served) -> Option<(String, String, Option<i64>)> {
        let update = served.inbox.lock().await.try_recv().ok()?;
        let status = update.status;
        assert_eq!((update.version.as_str(), status.observed_generation), ("7", Some(3)));
        assert!(status.last_update_time.is_some());
        Some((status.state.unwrap(), status.message.unwrap(), status.ttl))
    }

    #[tokio::test]
    async fn entries_of_our_class_and_zones_are_published_and_marked_ready() {
        let text = json!({"dnsName": "X.acme.test.", "ttl": 600, "text": ["v"]});
        let ready = || Some(("Ready".to_owned(), "published".to_owned(), Some(10)));
        let invalid = |why: &str| Some(("Invalid".to_owned(), why.to_owned(), None));
        let targets = json!({"dnsName": "x.acme.test", "targets": ["192.0.2.1"]});
        let wildcard = json!({"dnsName": "*.acme.test", "text": ["v"]});
        let elsewhere = json!({"dnsName": "x.other.test", "text": ["v"]});
        let long = json!({"dnsName": "x.acme.test", "text": ["v".repeat(3000)]});
        let no_name = json!({"dnsName": "..", "text": ["v"]});
        for (class, spec, values, update) in [
            ("c", &text, 1, ready()),
            ("", &text, 0, None),
            ("other", &text, 0, None),
            ("c", &elsewhere, 0, None),
            ("c", &no_name, 0, None),
            ("c", &targets, 0, invalid("only entries with text are published here")),
            ("c", &wildcard, 0, invalid("wildcards are not published here")),
            ("c", &long, 0, invalid("a text value is too long to publish")),
        ] {
            let served = served();
            served.applied(entry(class, spec, &json!({})));
            assert_eq!(values_at(&served, "x.acme.test."), values, "{class:?} {spec}");
            assert_eq!(reported(&served).await, update, "{class:?} {spec}");
        }
    }

    #[tokio::test]
    async fn an_entry_without_challenge_is_marked_invalid() {
        let served = served();
        let mut plain = entry("c", &json!({"dnsName": "x.acme.test", "text": ["v"]}), &json!({}));
        plain.annotations_mut().remove(ANNOTATION_CHALLENGE);
        served.applied(plain);
        assert_eq!(values_at(&served, "x.acme.test."), 0);
        let (state, message, _) = reported(&served).await.unwrap();
        assert_eq!((&*state, &*message), ("Invalid", "only challenge records are published here"));
    }

    #[tokio::test]
    async fn an_unchanged_status_is_not_written() {
        let spec = json!({"dnsName": "x.acme.test", "ttl": 5, "text": ["v"]});
        let mut status = json!({
            "state": "Ready", "message": "published", "observedGeneration": 3,
            "provider": PROVIDER, "zone": "acme.test", "dnsName": "x.acme.test", "ttl": 5,
            "lastUpdateTime": "2026-01-01T00:00:00Z",
        });
        let served = served();
        served.applied(entry("c", &spec, &status));
        assert_eq!((values_at(&served, "x.acme.test."), reported(&served).await), (1, None));
        status["observedGeneration"] = json!(2);
        served.applied(entry("c", &spec, &status));
        assert!(reported(&served).await.is_some());
    }

    #[tokio::test]
    async fn an_entry_is_withdrawn_when_its_class_changes_or_it_is_deleted() {
        let served = served();
        let spec = json!({"dnsName": "x.acme.test", "text": ["v"]});
        served.applied(entry("c", &spec, &json!({})));
        served.applied(entry("d", &spec, &json!({})));
        assert_eq!((values_at(&served, "x.acme.test."), served.keys().len()), (0, 0));
        served.applied(entry("c", &spec, &json!({})));
        let key = served.keys().remove(0);
        served.gone(&key);
        assert_eq!((values_at(&served, "x.acme.test."), served.keys().len()), (0, 0));
    }
}
