//! The progress of running orders: in memory for this process, as Secrets in the issuer namespace
//! of the default cluster for the next one. A tenant sees neither. This process is the only writer
//! while it leads, so the Secrets are read once, at the start.

use std::{
    collections::{BTreeMap, HashMap},
    mem::{self, Discriminant},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cert_lib::{
    issue::{Phase, Progress},
    model::reason::Reason,
    plan::{Running, backoff::Backoff},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams},
};

use crate::{
    api::{CertificateKey, Realm, time::seconds_up, well_known},
    runtime::{clusters::DefaultCluster, errors::brief},
};

const DATA: &str = "progress";

/// See the [module](self).
pub struct ProgressStore {
    api: Api<Secret>,
    realm: Realm,
    running: Mutex<HashMap<CertificateKey, Order>>,
    waits: Mutex<HashMap<CertificateKey, Wait>>,
}

/// What an order waits for: a phase, or the end of a back-off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// A phase, whatever its text says.
    Phase(Discriminant<Phase>),
    /// A failure that did not end it.
    Failure,
}

impl Cause {
    /// The order is in this phase.
    #[must_use]
    pub fn of(phase: &Phase) -> Self {
        Self::Phase(mem::discriminant(phase))
    }
}

/// One wait of a running order.
#[derive(Clone, Copy, Debug)]
struct Wait {
    cause: Cause,
    since: Timestamp,
    is_published: bool,
}

/// A wait that is over before that is not worth a write.
const PATIENCE: SignedDuration = SignedDuration::from_secs(5);

/// A running order.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where it stands.
    pub progress: Progress,
    /// The issuer that runs it.
    pub issuer: String,
    /// Why it was placed, for the metrics.
    pub reason: Reason,
    /// What is left of a hiccup that did not end it.
    pub transient_error: Option<Backoff>,
    /// Whether the next process would find it. Until it would, the order must not go on.
    pub stored: bool,
    /// The Secret that it was read from, where that has another name than today's.
    pub found_in: Option<String>,
}

impl ProgressStore {
    /// The store of one manager in `namespace`, where others may have theirs. Call
    /// [`load`](Self::load) before anything else.
    #[must_use]
    pub fn new(cluster: &DefaultCluster, namespace: &str, realm: Realm) -> Self {
        let api = Api::namespaced(cluster.0.clone(), namespace);
        Self { api, realm, running: Mutex::default(), waits: Mutex::default() }
    }

    /// Reads what an earlier process left. Returns whose orders they are. What cannot be read is
    /// left where it is and reported: it may be a newer version's.
    ///
    /// # Errors
    /// When the Secrets cannot be listed.
    pub async fn load(&self) -> kube::Result<Vec<(CertificateKey, String)>> {
        let params = ListParams::default().labels(&format!("{}=true", well_known::PROGRESS));
        let mut found = Vec::new();
        self.lock().clear();
        for secret in self.api.list(&params).await? {
            let name = secret.name_any();
            let realm = secret.annotations().get(well_known::PROGRESS_REALM).map(String::as_str);
            if !realm.is_some_and(|realm| self.realm.is(realm)) {
                continue;
            }
            let Some((key, order)) = read(&secret) else {
                tracing::error!(secret.name = %name, "the progress Secret {name} cannot be read; delete it if no newer version of this program wrote it");
                continue;
            };
            found.push((key.clone(), order.issuer.clone()));
            self.lock().insert(key, order);
        }
        Ok(found)
    }

    /// The order of a Certificate.
    #[must_use]
    pub fn get(&self, key: &CertificateKey) -> Option<Order> {
        self.lock().get(key).cloned()
    }

    /// Whose orders run, and the issuers that run them.
    #[must_use]
    pub fn issuers(&self) -> Vec<(CertificateKey, String)> {
        self.lock().iter().map(|(key, order)| (key.clone(), order.issuer.clone())).collect()
    }

    /// What the plan needs to know of the running order of a Certificate.
    #[must_use]
    pub fn running(&self, key: &CertificateKey) -> Option<Running> {
        self.lock().get(key).map(|order| Running {
            fingerprint: order.progress.fingerprint().clone(),
            not_before: order.transient_error.map(|hiccup| hiccup.until),
        })
    }

    /// Keeps `order`, and stores it where it is not stored like that already. Returns it as it is
    /// kept.
    ///
    /// # Errors
    /// When it could not be stored. It is kept in memory all the same, so that the CA is not asked
    /// for another one; save it again before it goes on.
    pub async fn save(&self, key: &CertificateKey, mut order: Order) -> kube::Result<Order> {
        order.stored = {
            let mut running = self.lock();
            let known = running.get(key).filter(|known| known.stored);
            let stored = known.is_some_and(|it| order.progress.is_stored_by(&it.progress));
            running.insert(key.clone(), Order { stored, ..order.clone() });
            stored
        };
        if !order.stored {
            let secret = self.render(key, &order)?;
            let params = PatchParams::apply(well_known::FIELD_MANAGER).force();
            self.api.patch(&secret.name_any(), &params, &Patch::Apply(&secret)).await?;
            order.stored = true;
            self.lock().insert(key.clone(), order.clone());
        }
        Ok(order)
    }

    /// Remembers how far a running order came in a call that failed, in memory only: nothing of it needs
    /// to be stored.
    pub fn advanced_to(&self, key: &CertificateKey, progress: &Progress) {
        if let Some(order) = self.lock().get_mut(key)
            && progress.is_stored_by(&order.progress)
        {
            order.progress = progress.clone();
        }
    }

    /// Whether the status is to say what the order waits for, until `until` at least: once for each wait,
    /// and only where that is long. What a wait says changes with each look at a name server, and each
    /// write of it would wake all that watch.
    pub fn publishes(
        &self,
        key: &CertificateKey,
        cause: Cause,
        now: Timestamp,
        until: Timestamp,
    ) -> bool {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Wait { cause, since: now, is_published: false };
        let wait = waits.entry(key.clone()).or_insert(new);
        if wait.cause != cause {
            *wait = new;
        }
        // A phase has something to do soon; a back-off has not.
        let ends = if cause == Cause::Failure { until } else { now };
        let publishes = !wait.is_published && ends.duration_since(wait.since) >= PATIENCE;
        wait.is_published |= publishes;
        publishes
    }

    /// Remembers a hiccup, in memory only.
    pub fn record_error(&self, key: &CertificateKey, hiccup: Backoff) {
        if let Some(order) = self.lock().get_mut(key) {
            order.transient_error = Some(hiccup);
        }
    }

    /// Remembers that the CA said when to come again, and where that is long also for the next process.
    pub async fn record_wait(&self, key: &CertificateKey, hiccup: Backoff) {
        self.record_error(key, hiccup);
        let Some(order) = self.get(key).filter(|order| order.stored && is_long(&hiccup)) else {
            return;
        };
        let Ok(secret) = self.render(key, &order) else { return };
        let params = PatchParams::apply(well_known::FIELD_MANAGER).force();
        let written = self.api.patch(&secret.name_any(), &params, &Patch::Apply(&secret)).await;
        if let Err(error) = written {
            tracing::warn!(certificate = %key, "when the order of {key} goes on cannot be stored: {}", brief(&error));
        }
    }

    /// Forgets the order of a Certificate. *Idempotent*. Nothing is asked of the cluster where no order
    /// is known: each one is known before its Secret is written, or was read at the start.
    ///
    /// # Errors
    /// When the Secret could not be deleted; the order is then still known.
    pub async fn delete(&self, key: &CertificateKey) -> kube::Result<()> {
        let Some(order) = self.get(key) else { return Ok(()) };
        let name = self.secret_name(key);
        for name in order.found_in.into_iter().filter(|found| *found != name).chain([name.clone()])
        {
            match self.api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        self.lock().remove(key);
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CertificateKey, Order>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name of fixed length from realm and Certificate, which together may be too long for one.
    fn secret_name(&self, key: &CertificateKey) -> String {
        let owner = format!("{} {key}", self.realm.as_str());
        format!("cert-progress-{}", cert_lib::model::request::digest(owner.as_bytes()))
    }

    fn render(&self, key: &CertificateKey, order: &Order) -> kube::Result<Secret> {
        let bytes = order
            .progress
            .encode()
            .map_err(|error| kube::Error::SerdeError(serde::ser::Error::custom(error)))?;
        let rests = order.transient_error.filter(is_long);
        let not_before = rests.map(|it| (well_known::PROGRESS_NOT_BEFORE, seconds_up(it.until)));
        let annotations = [
            (well_known::PROGRESS_REALM.to_owned(), self.realm.as_str().to_owned()),
            (well_known::PROGRESS_OF.to_owned(), key.to_string()),
            (well_known::PROGRESS_ISSUER.to_owned(), order.issuer.clone()),
            (well_known::PROGRESS_REASON.to_owned(), order.reason.word().to_owned()),
        ];
        let not_before = not_before.map(|(name, time)| (name.to_owned(), time));
        let annotations = annotations.into_iter().chain(not_before).collect();
        Ok(Secret {
            metadata: ObjectMeta {
                name: Some(self.secret_name(key)),
                labels: Some([(well_known::PROGRESS.to_owned(), "true".to_owned())].into()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            type_: Some(well_known::PROGRESS.to_owned()),
            data: Some(BTreeMap::from([(DATA.to_owned(), ByteString(bytes.to_vec()))])),
            ..Secret::default()
        })
    }
}

/// Whether a wait is worth a write.
fn is_long(hiccup: &Backoff) -> bool {
    hiccup.interval >= SignedDuration::from_secs(30)
}

fn read(secret: &Secret) -> Option<(CertificateKey, Order)> {
    let annotations = secret.annotations();
    let key = CertificateKey::parse(annotations.get(well_known::PROGRESS_OF)?)?;
    let bytes = &secret.data.as_ref()?.get(DATA)?.0;
    let noted = annotations.get(well_known::PROGRESS_REASON);
    let reason = Reason::ALL.into_iter().find(|it| Some(it.word()) == noted.map(String::as_str));
    let not_before = annotations.get(well_known::PROGRESS_NOT_BEFORE);
    let until = not_before.and_then(|time| time.parse().ok());
    let order = Order {
        progress: Progress::decode(bytes).ok()?,
        issuer: annotations.get(well_known::PROGRESS_ISSUER)?.clone(),
        reason: reason.unwrap_or(Reason::SecretMissing),
        transient_error: until.map(|until| Backoff {
            until,
            interval: SignedDuration::ZERO,
            failures: 0,
        }),
        stored: true,
        found_in: Some(secret.name_any()),
    };
    Some((key, order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CertificateCluster, ClusterId, ObjectKey};

    fn store() -> ProgressStore {
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>("nobody is asked")
        });
        let cluster = DefaultCluster(kube::Client::new(nobody, "default"));
        let source = ClusterId { id: "here".into(), former: vec![] };
        ProgressStore::new(&cluster, "default", Realm::new("gardencert", &source))
    }

    fn progress(order: u32, started: &str) -> Progress {
        let stored = format!(
            r#"{{"version":1,"fingerprint":"f","order":"https://ca/order/{order}",
            "account":"https://ca/account/1","started":"{started}","names":[],"key":null}}"#
        );
        Progress::decode(stored.as_bytes()).unwrap()
    }

    fn order(hiccup: Option<Backoff>) -> Order {
        Order {
            progress: progress(1, "2026-11-22T10:00:00Z"),
            issuer: "ca".into(),
            reason: Reason::SecretMissing,
            transient_error: hiccup,
            stored: true,
            found_in: None,
        }
    }

    #[tokio::test]
    async fn what_a_failed_call_came_to_is_kept_for_the_same_order_only() {
        let store = store();
        let key = CertificateKey::new(CertificateCluster::Source, ObjectKey::new("ns", "a"));
        store.advanced_to(&key, &progress(1, "2026-11-22T11:00:00Z"));
        assert!(store.get(&key).is_none(), "it has ended meanwhile");
        store.lock().insert(key.clone(), order(None));
        for (number, kept) in [(2, "2026-11-22T10:00:00Z"), (1, "2026-11-22T11:00:00Z")] {
            store.advanced_to(&key, &progress(number, "2026-11-22T11:00:00Z"));
            assert_eq!(store.get(&key).unwrap().progress.started().to_string(), kept);
        }
    }

    /// The cluster of the test refuses every request.
    #[tokio::test]
    async fn only_the_secret_of_a_known_order_is_deleted() {
        let store = store();
        let key = CertificateKey::new(CertificateCluster::Source, ObjectKey::new("ns", "a"));
        store.delete(&key).await.unwrap();
        store.lock().insert(key.clone(), Order { stored: false, ..order(None) });
        store.delete(&key).await.unwrap_err();
        assert!(store.get(&key).is_some(), "its Secret may be there");
    }

    #[tokio::test]
    async fn a_wait_is_published_once_when_it_is_long_whatever_its_text_says() {
        let store = store();
        let key = CertificateKey::new(CertificateCluster::Source, ObjectKey::new("ns", "a"));
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let slow = |text: &str| Cause::of(&Phase::Propagating(text.to_owned()));
        let phase = |phase: Phase| Cause::of(&phase);
        for (cause, now, until, publishes) in [
            (phase(Phase::Ordered), 0, 0, false),
            (slow("1 of 2 servers"), 1, 2, false),
            (slow("2 of 2 servers"), 5, 90, false),
            (slow("server a"), 6, 8, true),
            (slow("server b"), 60, 80, false),
            (phase(Phase::Validating), 80, 81, false),
            (phase(Phase::Signing), 81, 200, false),
            (phase(Phase::Signing), 200, 201, true),
            (Cause::Failure, 201, 203, false),
            (Cause::Failure, 203, 205, false),
            (Cause::Failure, 205, 209, true),
            (Cause::Failure, 209, 300, false),
            (phase(Phase::Signing), 300, 301, false),
            (Cause::Failure, 301, 361, true),
        ] {
            assert_eq!(store.publishes(&key, cause, at(now), at(until)), publishes, "{now}");
        }
    }

    /// faults.md 3, 4 and 6
    #[tokio::test]
    async fn a_long_wait_of_an_order_is_found_by_the_next_process_and_a_short_one_is_not_stored() {
        let store = store();
        let key = CertificateKey::new(CertificateCluster::Source, ObjectKey::new("ns", "a"));
        let until = "2026-11-22T11:00:00.5Z".parse().unwrap();
        for (seconds, found) in [(3_600, Some("2026-11-22T11:00:01Z")), (5, None)] {
            let interval = SignedDuration::from_secs(seconds);
            let order = order(Some(Backoff { until, interval, failures: 0 }));
            let secret = store.render(&key, &order).unwrap();
            let (whose, again) = read(&secret).unwrap();
            assert_eq!(whose, key);
            let not_before = again.transient_error.map(|hiccup| hiccup.until.to_string());
            assert_eq!(not_before.as_deref(), found, "{seconds}");
        }
    }
}
