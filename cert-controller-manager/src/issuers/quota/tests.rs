//! Tests of admission, waiting times and the writes of the status.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use cert_lib::{
    clock::Manual,
    issue::{IssueError, LimitScope},
    plan::{RateLimit, limits::OrderKind},
};
use http::{Request, Response};
use jiff::SignedDuration;
use kube::client::Body;

use super::*;
use crate::{
    api::CertificateCluster,
    issuers::limits::{CaOrder, CaRegistry},
    runtime::queue::Queue,
};

fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn tenant(namespace: &str) -> Tenant {
    Tenant { cluster: CertificateCluster::Source, namespace: namespace.to_owned() }
}

/// A quota with an API server that records writes and can refuse them.
struct QuotaCase {
    quota: Arc<Quota>,
    clock: Arc<Manual>,
    writes: Arc<Mutex<VecDeque<String>>>,
    refusals: Arc<AtomicUsize>,
    found: Option<Requests>,
    /// Receives the issuer when something is to be stored.
    queue: Shared<IssuerKey>,
    /// Positions of waiting Certificates.
    positions: Mutex<HashMap<String, Position<Tenant>>>,
    /// Reservations of running orders.
    running: Mutex<Vec<Reservation>>,
}

fn given(per_day: i64, requests: Option<Requests>) -> QuotaCase {
    let clock = Arc::new(Manual::at(start()));
    let writes = Arc::new(Mutex::new(VecDeque::new()));
    let refusals = Arc::new(AtomicUsize::new(0));
    let queue = Shared::<IssuerKey>::new(Queue::default());
    let (log, refuse) = (writes.clone(), refusals.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, refuse) = (log.clone(), refuse.clone());
        async move {
            let body = request.into_body().collect_bytes().await.unwrap();
            log.lock().push_back(String::from_utf8(body.to_vec()).unwrap());
            let no = refuse
                .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok();
            let issuer = r#"{"apiVersion":"cert.gardener.cloud/v1alpha1","kind":"Issuer","metadata":{"name":"ca"},"spec":{}}"#;
            let status = if no { 500 } else { 200 };
            let response = Response::builder().status(status);
            Ok::<_, Infallible>(response.body(Body::from(issuer.as_bytes().to_vec())).unwrap())
        }
    });
    let api = Api::namespaced(kube::Client::new(service, "default"), "default");
    let status = IssuerStatus { requests: requests.clone(), ..IssuerStatus::default() };
    let issuer = QuotaIssuer {
        api,
        name: "ca".to_owned(),
        key: IssuerKey::Default("ca".to_owned()),
        queue: queue.clone(),
        clock: clock.clone(),
    };
    QuotaCase {
        quota: Arc::new(Quota::new(issuer, per_day, Some(&status))),
        clock,
        writes,
        refusals,
        found: requests,
        queue,
        positions: Mutex::default(),
        running: Mutex::default(),
    }
}

/// A status with this remaining quota.
fn holding(available: i64) -> Option<Requests> {
    Some(Requests { available, at: start().to_string() })
}

impl QuotaCase {
    /// Places an order that ends at once.
    async fn spend(&self, namespace: &str, certificate: &str) -> bool {
        self.spent(namespace, certificate).await.is_some()
    }

    async fn spent(&self, namespace: &str, certificate: &str) -> Option<Reservation> {
        let key = format!("{namespace}/{certificate}");
        let position = self.positions.lock().remove(&key);
        let spent = self.quota.spend(&tenant(namespace), position.as_ref()).await.unwrap();
        if spent.is_none() {
            self.positions.lock().extend(position.map(|position| (key, position)));
        }
        spent
    }

    fn writes(&self) -> usize {
        self.writes.lock().len()
    }

    /// The status that the next process reads.
    fn stored(&self) -> Option<Requests> {
        let writes = self.writes.lock();
        let last = writes.back().map(|it| serde_json::from_str::<serde_json::Value>(it).unwrap());
        let last = last.map(|it| serde_json::from_value(it["status"]["requests"].clone()).unwrap());
        last.or_else(|| self.found.clone())
    }

    /// Queues a Certificate and returns the seconds until its next check.
    fn wait(&self, namespace: &str, certificate: &str) -> Option<i64> {
        let (key, tenant) = (format!("{namespace}/{certificate}"), tenant(namespace));
        let known = self.positions.lock().remove(&key);
        match self.quota.check(&tenant, known.as_ref()) {
            Verdict::Open => None,
            Verdict::Until { time, .. } => {
                self.positions.lock().insert(key, self.quota.wait(&tenant, known));
                Some(time.duration_since(self.clock.now()).as_secs())
            }
        }
    }

    fn pass(&self, seconds: i64) {
        self.clock.step(SignedDuration::from_secs(seconds));
    }
}

#[tokio::test]
async fn with_a_quota_of_one_the_second_request_waits_a_day_across_restarts() {
    let first = given(1, None);
    assert!(first.spend("web", "a").await);
    assert!(!first.spend("web", "b").await);
    assert_eq!(first.wait("web", "b"), Some(86_400));
    let written = first.writes.lock().pop_back().unwrap();
    assert_eq!(written, r#"{"status":{"requests":{"available":0,"at":"2026-11-22T12:00:00Z"}}}"#);
    let stored = Requests { available: 0, at: "2026-11-22T12:00:00Z".into() };
    let second = given(1, Some(stored));
    second.pass(60);
    assert_eq!(second.wait("web", "b"), Some(86_340));
    second.pass(86_340);
    assert_eq!(second.wait("web", "b"), None);
    assert!(second.spend("web", "b").await);
}

#[tokio::test]
async fn an_invalid_stored_time_counts_as_full_quota() {
    for at in ["", "soon", "9999-99-99"] {
        assert!(given(1, Some(Requests { available: 0, at: at.into() })).spend("web", "a").await);
    }
}

#[tokio::test]
async fn a_busy_issuer_shares_status_writes() {
    let given = given(10_000, None);
    let mut running = VecDeque::new();
    for number in 0..250 {
        running.push_back(given.spent("web", &number.to_string()).await.unwrap());
        running.back_mut().unwrap().settle();
        if running.len() > 100 {
            running.pop_front();
        }
    }
    let writes = given.writes();
    assert!((20..=50).contains(&writes), "{writes}");
}

#[tokio::test(start_paused = true)]
async fn concurrent_orders_start_with_one_and_then_share_writes() {
    let given = given(10_000, None);
    let under_way = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let orders = (0..100).map(|_| {
        let (quota, under_way, most) = (given.quota.clone(), under_way.clone(), most.clone());
        async move {
            let spent = quota.spend(&tenant("web"), None).await.unwrap().unwrap();
            most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            under_way.fetch_sub(1, Ordering::Relaxed);
            drop(spent);
            quota.window.available_permits()
        }
    });
    futures::future::join_all(orders).await;
    assert!((20..=64).contains(&most.load(Ordering::Relaxed)), "{most:?}");
    let writes = given.writes();
    assert!(writes <= 60, "{writes}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_the_start_loses_one_request() {
    let given = given(10_000, None);
    let orders = (0..10).map(|_| {
        let quota = given.quota.clone();
        Box::pin(async move { quota.spend(&tenant("web"), None).await })
    });
    // The process ends before the CA answers the first request.
    let soon = std::time::Duration::from_millis(500);
    let orders = async {
        let spent = futures::future::join_all(orders).await;
        drop(spent);
    };
    tokio::time::timeout(soon, orders).await.unwrap_err();
    assert_eq!(given.stored().unwrap().available, 9_999);
}

#[tokio::test]
async fn unused_requests_are_returned_when_orders_end() {
    let given = given(1, None);
    given.spent("web", "a").await.unwrap().refund();
    assert_eq!(given.stored().unwrap().available, 0);
    assert_eq!(given.queue.len(), 1, "the issuer has something to store");
    given.refusals.store(1, Ordering::Relaxed);
    given.quota.store().await.unwrap_err();
    given.quota.store().await.unwrap();
    assert_eq!(given.stored().unwrap().available, 1, "a failed write is repeated");
    given.quota.store().await.unwrap();
    assert_eq!(given.writes(), 3, "there is nothing more to return");
    assert!(given.spend("web", "b").await);
}

/// Simulates a process and its orders.
struct Simulation {
    given: QuotaCase,
    placed: i64,
    /// Number of orders that ran at a crash, summed over all crashes.
    in_flight: i64,
    /// Number of orders of earlier processes that still run.
    taken_over: usize,
}

impl Simulation {
    fn new(per_day: i64) -> Self {
        Self { given: given(per_day, None), placed: 0, in_flight: 0, taken_over: 0 }
    }

    /// Places `count` orders at once; every `unsent`th does not reach the CA.
    async fn place(&mut self, count: usize, unsent: usize) {
        let quota = &self.given.quota;
        let spends = (0..count).map(|number| async move {
            let mut spent = quota.spend(&tenant("web"), None).await.unwrap()?;
            if number % unsent == 0 {
                spent.refund();
                return None;
            }
            spent.settle();
            Some(spent)
        });
        let placed: Vec<_> = futures::future::join_all(spends).await;
        let placed: Vec<_> = placed.into_iter().flatten().collect();
        self.placed += i64::try_from(placed.len()).unwrap();
        self.given.running.lock().extend(placed);
        quota.store().await.unwrap();
    }

    async fn end(&mut self, count: usize) {
        for _ in 0..count {
            let ended = self.given.running.lock().pop();
            drop(ended);
            self.given.quota.store().await.unwrap();
        }
    }

    fn running(&self) -> usize {
        self.given.running.lock().len() + self.taken_over
    }

    /// Starts a new process, which takes over the running orders.
    fn crash(&mut self, per_day: i64) {
        self.taken_over = self.running();
        self.in_flight += i64::try_from(self.taken_over).unwrap();
        self.given = given(per_day, self.given.stored());
    }
}

#[tokio::test]
async fn stored_usage_exceeds_placed_orders_by_at_most_those_in_flight() {
    const PER_DAY: i64 = 1_000_000;
    for seed in 1..=60_u64 {
        let mut simulation = Simulation::new(PER_DAY);
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut up_to = |end: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % end).unwrap()
        };
        for step in 0..60 {
            match up_to(4) {
                0 => simulation.place(up_to(40), up_to(4) + 1).await,
                1 => simulation.place(1, 100).await,
                2 => simulation.end(up_to(30)).await,
                _ => simulation.crash(PER_DAY),
            }
            let spent = simulation.given.stored().map_or(0, |it| PER_DAY - it.available);
            let (running, placed, in_flight) =
                (simulation.running(), simulation.placed, simulation.in_flight);
            let most = placed + in_flight + i64::try_from(running).unwrap();
            assert!((placed..=most).contains(&spent), "{seed} {step}: {spent} {placed} {most}");
        }
    }
}

#[tokio::test]
async fn crashes_without_placed_orders_use_no_quota() {
    let mut simulation = Simulation::new(60);
    simulation.place(20, 7).await;
    let stored = simulation.given.stored().unwrap();
    for _ in 0..1_000 {
        simulation.crash(60);
        // The new process takes over the orders; its own order does not reach the CA.
        simulation.place(1, 1).await;
        assert_eq!(simulation.given.stored().unwrap().available, stored.available);
    }
}

#[tokio::test]
async fn a_failed_status_write_uses_no_quota() {
    let given = given(1, None);
    given.refusals.store(1, Ordering::Relaxed);
    assert!(given.quota.spend(&tenant("web"), None).await.is_err());
    assert!(given.spend("web", "a").await);
    assert!(!given.spend("web", "a").await);
}

#[tokio::test]
async fn a_returned_request_is_used_by_another_certificate_without_a_write() {
    let given = given(1, None);
    let spent = given.spent("web", "a").await.unwrap();
    assert!(!given.spend("mail", "b").await);
    spent.refund();
    assert!(given.spend("mail", "b").await);
    assert!(!given.spend("web", "a").await);
    assert_eq!(given.writes(), 1);
}

#[tokio::test]
async fn returned_requests_do_not_count_toward_the_share_of_a_namespace() {
    let given = given(16, None);
    for number in 0..20 {
        given.spent("unlucky", &number.to_string()).await.unwrap().refund();
    }
    for number in 0..16 {
        assert!(given.spend("unlucky", &number.to_string()).await, "{number}");
    }
    assert!(!given.spend("unlucky", "more").await);
}

#[tokio::test]
async fn each_waiting_certificate_has_a_separate_time() {
    // One request every 600 s.
    let given = given(144, holding(2));
    for number in 0..2 {
        assert!(given.spend("web", &number.to_string()).await);
    }
    assert_eq!(given.wait("web", "a"), Some(600));
    assert_eq!(given.wait("web", "b"), Some(1_200));
    assert_eq!(given.wait("web", "a"), Some(600), "the queue position stays");
    given.pass(600);
    assert!(!given.spend("web", "b").await, "another certificate is first");
    assert!(given.spend("web", "a").await);
    given.positions.lock().remove("web/b");
    assert_eq!(given.wait("web", "c"), Some(600));
}

#[tokio::test]
async fn a_busy_namespace_does_not_use_up_the_quota_of_another() {
    let given = given(144, holding(36));
    for number in 0..36 {
        given.spend("greedy", &number.to_string()).await;
    }
    for number in 0..100 {
        given.wait("greedy", &format!("more-{number}"));
    }
    // This namespace used nothing yet, so it is served first.
    assert_eq!(given.wait("modest", "one"), Some(600));
    given.pass(600);
    assert!(!given.spend("greedy", "more-0").await);
    assert!(given.spend("modest", "one").await);
    given.pass(600);
    assert!(given.spend("greedy", "more-0").await);
}

#[tokio::test]
async fn the_last_sixteenth_is_reserved_for_namespaces_below_their_share() {
    // With two active namespaces, each has a share of 32.
    let given = given(64, None);
    assert!(given.spend("modest", "first").await);
    let mut had = 0;
    while given.spend("greedy", &had.to_string()).await {
        had += 1;
    }
    assert_eq!(had, 59, "the last four of 64 are reserved");
    for number in 0..4 {
        assert!(given.spend("modest", &number.to_string()).await);
    }
    assert!(!given.spend("modest", "more").await);
}

/// An order of the issuer.
fn ca_order(given: &QuotaCase) -> CaOrder {
    let names = vec!["www.example.org".parse().unwrap()];
    let ca_account = given.quota.ca_account().unwrap();
    CaOrder::new(ca_account, tenant("web"), (names, OrderKind::New), start())
}

/// A limit of the account.
fn refusal(until: Timestamp) -> IssueError {
    let (message, until) = ("too many orders".to_owned(), Some(until));
    let scope = Some(LimitScope::Account);
    IssueError::RateLimited { message, until, scope, is_published: true, progress: None }
}

/// faults.md 3, 4 and 6
#[tokio::test]
async fn imposed_limits_are_stored_in_the_issuer_and_survive_a_restart() {
    let until = start() + SignedDuration::from_secs(600);
    let first = given(1, None);
    let ca = CaRegistry::default().at("https://ca/dir");
    first.quota.set_ca_account(ca, "ca", &[], Origin::Ours);
    ca_order(&first).failed(&refusal(until), start()).unwrap();
    first.quota.store_limits();
    assert_eq!(first.queue.len(), 1, "the issuer has something to store");
    first.quota.store().await.unwrap();
    let written = first.writes.lock().pop_back().unwrap();
    let limit = r#"{"server":"https://ca/dir","of":"account","until":"2026-11-22T12:10:00Z"}"#;
    assert_eq!(written, format!(r#"{{"status":{{"limits":[{limit}]}}}}"#));

    let stored = vec![serde_json::from_str(limit).unwrap()];
    let status = IssuerStatus { limits: Some(stored), ..IssuerStatus::default() };
    let second = given(1, None);
    let ca = CaRegistry::default().at("https://ca/dir");
    second.quota.set_ca_account(ca, "ca", &status.limits.unwrap_or_default(), Origin::Ours);
    let limit = ca_order(&second).rate_limit(None, start());
    assert!(matches!(limit, RateLimit::Imposed { time, .. } if time == until), "{limit:?}");
    assert_eq!(ca_order(&second).rate_limit(None, until), RateLimit::Off);
}

#[tokio::test]
async fn imposed_limits_are_stored_later_after_a_failed_write() {
    let given = given(1, None);
    let ca = CaRegistry::default().at("https://ca/dir");
    given.quota.set_ca_account(ca, "ca", &[], Origin::Ours);
    let until = start() + SignedDuration::from_secs(600);
    ca_order(&given).failed(&refusal(until), start()).unwrap();
    given.refusals.store(2, Ordering::Relaxed);
    given.quota.store_limits();
    given.quota.store().await.unwrap_err();
    given.quota.store().await.unwrap_err();
    given.quota.store().await.unwrap();
    let written = || given.writes();
    assert_eq!(written(), 3);
    given.quota.store().await.unwrap();
    assert_eq!(written(), 3, "all limits are stored");
}
