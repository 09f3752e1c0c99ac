//! Whole passes with clusters in memory and a manual clock: each write fails once, in each way.

mod memory;
mod scripted_ca;

use std::{sync::Arc, time::Duration};

use cert_lib::{
    clock::{Clock, Manual},
    model::scope::Ranges,
    plan::Policy,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, core::PartialObjectMeta};
use serde_json::json;

use self::{
    memory::{Failure, Objects, Writes},
    scripted_ca::ScriptedCa,
};
use super::{
    admission::Admission, controller::Controller, index::Index, listed_clusters::ListedClusters,
    order_claims::OrderClaims, progress::ProgressStore, record::CertificateRecords,
    renewals::Renewals, secret::cache::Secrets, secret_grant::SecretGrants,
    watch_handlers::CertificateHandler,
};
use crate::{
    api::{
        Certificate, CertificateCluster, CertificateKey, ClusterId, ClusterIdentities, IssuerKey,
        ObjectKey, Realm, issuer::IssuerSpec, well_known,
    },
    config::CertificateSettings,
    issuers::{
        registry::{Lookup, Registry},
        selection::{Candidate, Rules},
    },
    runtime::{
        certificate_clusters::{CertificateClusters, ClusterHandle},
        events::EventRecorder,
        metrics::{Limits, Metrics},
        queue::Queue,
        watch::{Availability, EventHandler},
    },
    solvers::registry::SolverRegistry,
};

/// The clusters, the CA and the time. They survive the manager.
struct World {
    writes: Arc<Writes>,
    certificates: Objects<Certificate>,
    secrets: Objects<Secret>,
    progress: Objects<Secret>,
    ca: Arc<ScriptedCa>,
    clock: Arc<Manual>,
}

const ISSUERS: &str = "issuers";

fn certificate() -> ObjectKey {
    ObjectKey::new("web", "site")
}

fn key() -> CertificateKey {
    CertificateKey::new(CertificateCluster::Source, certificate())
}

impl World {
    /// One Certificate without a Secret.
    fn new() -> Self {
        let clock = Arc::new(Manual::at("2026-11-30T12:00:00Z".parse().unwrap()));
        let writes = Arc::<Writes>::default();
        let world = Self {
            certificates: Objects::new(writes.clone()),
            secrets: Objects::new(writes.clone()),
            progress: Objects::new(writes.clone()),
            writes,
            ca: Arc::new(ScriptedCa::new(clock.clone())),
            clock,
        };
        world.certificates.add(&json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
            "metadata": {
                "namespace": "web", "name": "site", "uid": "u1", "generation": 1,
                "resourceVersion": "1", "creationTimestamp": "2026-11-30T11:59:00Z",
            },
            "spec": { "commonName": "site.example", "secretName": "site-tls" },
        }));
        world
    }

    /// A new process that leads.
    async fn start(&self) -> Arc<Controller> {
        self.writes.restart();
        let manager = Arc::new(self.controller());
        manager.lists.complete(CertificateCluster::Source);
        manager.secret_grants.availability.send_replace(Availability::Present);
        let admit =
            |issuer: &IssuerKey, key: &CertificateKey| manager.admission.resume(issuer, key);
        for key in manager.orders.load(admit).await.unwrap() {
            manager.queue.push(key);
        }
        manager
    }

    fn controller(&self) -> Controller {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let id = ClusterId { id: "here".into(), former: vec![] };
        let realm = Realm::new("gardencert", &id);
        let (queue, records) = (Arc::new(Queue::default()), CertificateRecords::default());
        let settings = CertificateSettings::default();
        Controller {
            clusters: CertificateClusters { source: self.cluster(), target: self.cluster() },
            lists: ListedClusters::default(),
            cluster_identities: ClusterIdentities {
                source: id.clone(),
                target: id,
                one_cluster: true,
            },
            index: Index::default(),
            claims: OrderClaims::default(),
            secrets: Secrets::new(self.secrets.stores(), realm.clone()),
            secret_grants: SecretGrants::new(vec![]),
            renewals: Renewals::new(false, records.clone()),
            records,
            orders: ProgressStore::new(self.progress.stores().at(ISSUERS), realm.clone()),
            realm,
            admission: Admission::new(ORDERS_AT_ONCE, clock.clone(), queue.clone()),
            issuers: Arc::new(self.issuers(&settings.default_issuer)),
            solvers: Arc::new(SolverRegistry::default()),
            policy: Policy {
                renewal_window: settings.renewal_window,
                renew_before_percentage: None,
            },
            settings,
            clock,
            metrics: Metrics::new(Limits::default()).unwrap(),
            queue,
        }
    }

    fn cluster(&self) -> ClusterHandle {
        let refuses = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>("no request is expected")
        });
        let client = Client::new(refuses, "default");
        let (events, _) = EventRecorder::new(client.clone());
        ClusterHandle { certificates: self.certificates.stores(), client, events }
    }

    fn issuers(&self, default_issuer: &str) -> Registry {
        let rules = Rules {
            namespace: ISSUERS.to_owned(),
            default_issuer: default_issuer.to_owned(),
            default_ranges: Ranges::new::<String>([]),
            allow_target: false,
        };
        let registry = Registry::new(rules, Arc::new(Queue::default()));
        let issuer = IssuerKey::Default(default_issuer.to_owned());
        registry.add_candidate(Candidate::new(issuer.clone(), &IssuerSpec::default()));
        registry.put(&issuer, Lookup::Ready { issuer: self.ca.clone(), quota: None });
        registry
    }

    /// Delivers the watch events.
    fn deliver(&self, manager: &Arc<Controller>) {
        let handler = CertificateHandler::new(CertificateCluster::Source, manager.clone());
        match self.certificates.get(&certificate()) {
            Some(found) => handler.applied(Arc::new(found)),
            None if manager.index.get(&key()).is_some() => handler.gone(&certificate()),
            None => {}
        }
        for secret in self.secrets.all() {
            let metadata = PartialObjectMeta { metadata: secret.metadata, ..Default::default() };
            EventHandler::<PartialObjectMeta<Secret>>::applied(manager.as_ref(), metadata);
        }
    }

    /// Runs passes until the manager has no work, or `stop` holds after a pass, and starts a new process
    /// whenever one has ended. Returns the last process.
    async fn settle(&self, stop: impl Fn(&Self) -> bool) -> Arc<Controller> {
        let mut manager = self.start().await;
        for _ in 0..200 {
            self.deliver(&manager);
            let again = manager.reconcile(key()).await;
            if *self.writes.is_dead.lock() {
                manager = self.start().await;
                continue;
            }
            if stop(self) {
                return manager;
            }
            let has_event = std::iter::from_fn(|| manager.queue.try_next()).count() > 0;
            match again {
                _ if has_event => {}
                Some(wait) if wait < Duration::from_secs(3_600) => {
                    self.clock.step(SignedDuration::try_from(wait).unwrap());
                }
                Some(_) | None => return manager,
            }
        }
        panic!("there is always work: {:?}", self.writes.log.lock());
    }

    /// Checks that the certificate was issued, and nothing is left of its order.
    fn assert_issued(&self, what: &str) {
        let has_failed = self.writes.has_failed() || what == "without failures";
        assert!(has_failed, "{what}: there was no failure");
        let found = self.certificates.get(&certificate()).unwrap();
        let status = found.status.unwrap_or_default();
        let log = self.writes.log.lock();
        assert_eq!(status.state, "Ready", "{what}: {:?} {log:?}", status.message);
        let secret = self.secrets.get(&ObjectKey::new("web", "site-tls")).unwrap();
        assert!(secret.data.unwrap_or_default().contains_key("tls.crt"), "{what}");
        assert!(self.progress.all().is_empty(), "{what}: its order is left");
    }
}

const ORDERS_AT_ONCE: usize = 4;

/// The number of writes of an issuance: progress, status, Secret, deletion of the progress, labels and
/// status.
const WRITES: usize = 6;

#[tokio::test]
async fn a_certificate_is_issued_with_one_order_and_six_writes() {
    let world = World::new();
    let manager = world.settle(|_| false).await;
    world.assert_issued("without failures");
    assert_eq!((world.ca.placed(), world.ca.abandoned()), (1, 0));
    let log = world.writes.log.lock().clone();
    assert_eq!(log.len(), WRITES, "{log:?}");
    assert!(manager.orders.get(&key()).is_none());
}

/// The order is stored right after it is placed. If the process ends in between, another one is placed,
/// which an ACME server answers with the same order.
#[tokio::test]
async fn an_order_is_placed_once_although_the_process_is_killed_at_each_write() {
    for number in 1..=WRITES {
        for failure in [Failure::KilledBefore, Failure::KilledAfter] {
            let world = World::new();
            world.writes.fail(number, failure);
            world.settle(|_| false).await;
            let what = format!("{failure:?} {number}");
            world.assert_issued(&what);
            let is_unknown = number == 1 && failure == Failure::KilledBefore;
            assert_eq!(world.ca.placed(), 1 + usize::from(is_unknown), "{what}");
        }
    }
}

#[tokio::test]
async fn an_order_is_placed_once_although_the_cluster_is_away_or_refuses_at_each_write() {
    for number in 1..=WRITES {
        for failure in
            [Failure::Away(1), Failure::Away(4), Failure::Refused(1), Failure::Refused(4)]
        {
            let world = World::new();
            world.writes.fail(number, failure);
            world.settle(|_| false).await;
            let what = format!("{failure:?} {number}");
            world.assert_issued(&what);
            assert_eq!(world.ca.placed(), 1, "{what}");
        }
    }
}

#[tokio::test]
async fn an_order_is_placed_once_although_leadership_is_lost_at_each_write() {
    for number in 1..=WRITES {
        let world = World::new();
        world.writes.fail(number, Failure::NotLeading);
        world.settle(|_| false).await;
        world.assert_issued(&format!("lost at {number}"));
        assert!(world.ca.placed() <= 1 + usize::from(number == 1), "lost at {number}");
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_certificate_that_is_deleted_at_any_step() {
    for number in 1..=WRITES {
        let world = World::new();
        let manager = world.settle(|world| world.writes.count() >= number).await;
        world.certificates.remove(&certificate());
        for _ in 0..3 {
            world.deliver(&manager);
            manager.reconcile(key()).await;
        }
        assert!(world.progress.all().is_empty(), "{number}: its order is left");
        assert!(manager.orders.get(&key()).is_none() && manager.index.get(&key()).is_none());
        let has_order = number < 4;
        assert!(world.ca.abandoned() <= usize::from(has_order), "{number}");
        assert!(manager.records.lock().is_empty(), "{number}: its record is left");
    }
}

/// The slot of an order that ends goes to the next Certificate, however it ends.
#[tokio::test]
async fn a_finished_or_deleted_order_releases_its_slot() {
    for deletes in [false, true] {
        let world = World::new();
        let manager = world.settle(|world| deletes && world.writes.count() >= 2).await;
        if deletes {
            world.certificates.remove(&certificate());
            world.deliver(&manager);
            manager.reconcile(key()).await;
        }
        let issuer = IssuerKey::Default(manager.settings.default_issuer.clone());
        assert_eq!(manager.admission.running(&issuer), 0, "deleted: {deletes}");
    }
}

/// A renewal keeps serving the certificate until the new one is there.
#[tokio::test]
async fn a_certificate_is_renewed_in_time_with_one_order() {
    let world = World::new();
    let manager = world.settle(|_| false).await;
    drop(manager);
    let before = world.secrets.get(&ObjectKey::new("web", "site-tls")).unwrap();
    let not_after: Timestamp = {
        let status = world.certificates.get(&certificate()).unwrap().status.unwrap();
        status.expiration_date.unwrap().parse().unwrap()
    };
    let left = not_after.duration_since(world.clock.now()) - SignedDuration::from_hours(24 * 10);
    world.clock.step(left);
    world.settle(|_| false).await;
    world.assert_issued("without failures");
    let after = world.secrets.get(&ObjectKey::new("web", "site-tls")).unwrap();
    assert_ne!(before.data, after.data);
    assert_eq!(world.ca.placed(), 2);
}

/// The owner may create the Certificate again, so its Secret is kept for a while. A pass in between
/// forgets everything else, but not when that while began.
#[tokio::test]
async fn a_deleted_certificate_is_released_when_its_owner_does_not_create_it_again() {
    let world = World::new();
    world.certificates.add(&json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
        "metadata": {
            "namespace": "web", "name": "site", "uid": "u1", "resourceVersion": "2",
            "creationTimestamp": "2026-11-30T11:59:00Z", "deletionTimestamp": "2026-11-30T12:00:00Z",
            "finalizers": [well_known::SECRET_FINALIZER],
            "ownerReferences": [{
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "site", "uid": "i1",
                "controller": true,
            }],
        },
        "spec": {
            "commonName": "site.example",
            "secretRef": { "name": "site-tls", "namespace": "elsewhere" },
        },
    }));
    let mut controller = world.controller();
    controller.settings.cascade_delete = true;
    let manager = Arc::new(controller);
    manager.lists.complete(CertificateCluster::Source);
    world.deliver(&manager);
    let finalizers = || world.certificates.get(&certificate()).unwrap().metadata.finalizers;
    for minutes in 0..2 {
        manager.reconcile(key()).await;
        assert!(finalizers().is_some_and(|it| it.len() == 1), "{minutes}: it waits for the owner");
        world.clock.step(SignedDuration::from_mins(1));
    }
    manager.reconcile(key()).await;
    assert_eq!(finalizers().unwrap_or_default(), Vec::<String>::new());
}

/// The annotation ends the back-off and is removed, and the order is placed at once.
#[tokio::test]
async fn a_requested_retry_ends_the_back_off() {
    let world = World::new();
    world.certificates.add(&json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
        "metadata": {
            "namespace": "web", "name": "site", "uid": "u1", "generation": 1,
            "resourceVersion": "2", "creationTimestamp": "2026-11-30T11:59:00Z",
            "annotations": { well_known::OPERATION: well_known::RECONCILE },
        },
        "spec": { "commonName": "site.example", "secretName": "site-tls" },
        "status": {
            "state": "Error", "observedGeneration": 1, "message": "refused",
            "backoff": {
                "observedGeneration": 1, "recheckAfter": "2026-11-30T18:00:00Z",
                "recheckInterval": "6h0m0s",
            },
        },
    }));
    let began = world.clock.now();
    world.settle(|_| false).await;
    world.assert_issued("without failures");
    assert!(world.clock.now().duration_since(began) < SignedDuration::from_mins(10));
    let found = world.certificates.get(&certificate()).unwrap();
    assert_eq!(found.metadata.annotations.unwrap_or_default().get(well_known::OPERATION), None);
    assert!(found.status.is_some_and(|status| status.backoff.is_none()));
}

#[tokio::test]
async fn a_certificate_waits_for_an_order_slot_and_then_places_its_order() {
    let world = World::new();
    let manager = world.start().await;
    world.deliver(&manager);
    let issuer = IssuerKey::Default(manager.settings.default_issuer.clone());
    let others: Vec<_> = (0..ORDERS_AT_ONCE)
        .map(|number| ObjectKey::new(format!("other-{number}"), "site"))
        .map(|other| CertificateKey::new(CertificateCluster::Source, other))
        .map(|other| manager.admission.resume(&issuer, &other))
        .collect();
    manager.reconcile(key()).await;
    let status = || world.certificates.get(&certificate()).unwrap().status.unwrap_or_default();
    assert_eq!((status().state.as_str(), world.ca.placed()), ("Waiting", 0));
    drop(others);
    assert_eq!(manager.queue.try_next(), Some(key()), "it has a slot");
    manager.reconcile(key()).await;
    assert_eq!(world.ca.placed(), 1);
}
