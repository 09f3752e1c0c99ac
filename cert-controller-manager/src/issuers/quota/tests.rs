//! Tables of quotas: who may, who waits and until when, and what is noted when.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use cert_lib::{
    clock::Manual,
    issue::About,
    plan::limits::{Novelty, Order},
};
use http::{Request, Response};
use jiff::SignedDuration;
use kube::client::Body;

use super::{limits::Cas, *};
use crate::api::{Home, ObjectKey};

fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn whose(namespace: &str, certificate: &str) -> CertificateKey {
    CertificateKey::new(Home::Source, ObjectKey::new(namespace, certificate))
}

/// A quota of an Issuer that the API server keeps, or refuses to keep.
struct Given {
    quota: Arc<Quota>,
    clock: Arc<Manual>,
    writes: Arc<Mutex<VecDeque<String>>>,
    refusals: Arc<AtomicUsize>,
}

fn given(per_day: i64, requests: Option<Requests>) -> Given {
    let clock = Arc::new(Manual::at(start()));
    let writes = Arc::new(Mutex::new(VecDeque::new()));
    let refusals = Arc::new(AtomicUsize::new(0));
    let (log, refuse) = (writes.clone(), refusals.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, refuse) = (log.clone(), refuse.clone());
        async move {
            let body = request.into_body().collect_bytes().await.unwrap();
            log.lock().unwrap().push_back(String::from_utf8(body.to_vec()).unwrap());
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
    let status = IssuerStatus { requests, ..IssuerStatus::default() };
    let quota = Quota::new(api, "ca", per_day, Some(&status), clock.clone());
    Given { quota: Arc::new(quota), clock, writes, refusals }
}

impl Given {
    async fn spend(&self, namespace: &str, certificate: &str) -> bool {
        self.spent(namespace, certificate).await.is_some()
    }

    async fn spent(&self, namespace: &str, certificate: &str) -> Option<Spent> {
        self.quota.spend(&whose(namespace, certificate)).await.unwrap()
    }

    /// Waits, and after how many seconds it is told to look again.
    fn wait(&self, namespace: &str, certificate: &str) -> Option<i64> {
        match self.quota.wait(&whose(namespace, certificate)) {
            Verdict::Open => None,
            Verdict::Until { time, .. } => Some(time.duration_since(self.clock.now()).as_secs()),
        }
    }

    fn pass(&self, seconds: i64) {
        self.clock.step(SignedDuration::from_secs(seconds));
    }
}

#[tokio::test]
async fn a_quota_of_one_lets_the_second_wait_for_a_day_also_after_a_restart() {
    let first = given(1, None);
    assert!(first.spend("web", "a").await);
    assert!(!first.spend("web", "b").await);
    assert_eq!(first.wait("web", "b"), Some(86_400));
    let written = first.writes.lock().unwrap().pop_back().unwrap();
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
async fn what_is_stored_in_a_foreign_way_does_not_close_an_issuer() {
    for at in ["", "soon", "9999-99-99"] {
        assert!(given(1, Some(Requests { available: 0, at: at.into() })).spend("web", "a").await);
    }
}

#[tokio::test]
async fn a_busy_issuer_is_written_once_per_portion() {
    let given = given(10_000, None);
    for number in 0..250 {
        assert!(given.spend("web", &number.to_string()).await, "{number}");
    }
    assert_eq!(given.writes.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_noted_is_not_used() {
    let given = given(1, None);
    given.refusals.store(1, Ordering::Relaxed);
    assert!(given.quota.spend(&whose("web", "a")).await.is_err());
    assert!(given.spend("web", "a").await);
    assert!(!given.spend("web", "a").await);
}

#[tokio::test]
async fn what_was_not_asked_for_is_used_by_another_without_a_write() {
    let given = given(1, None);
    let spent = given.spent("web", "a").await.unwrap();
    assert!(!given.spend("mail", "b").await);
    spent.give_back();
    assert!(given.spend("mail", "b").await);
    assert!(!given.spend("web", "a").await);
    assert_eq!(given.writes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_not_asked_for_does_not_count_as_the_share_of_its_namespace() {
    let given = given(16, None);
    for number in 0..20 {
        given.spent("unlucky", &number.to_string()).await.unwrap().give_back();
    }
    for number in 0..4 {
        assert!(given.spend("unlucky", &number.to_string()).await, "{number}");
    }
    assert!(!given.spend("unlucky", "more").await);
}

#[tokio::test]
async fn each_who_waits_is_told_a_time_of_its_own() {
    // One request every 600 s, 36 at once.
    let given = given(144, None);
    for number in 0..36 {
        assert!(given.spend("web", &number.to_string()).await);
    }
    assert_eq!(given.wait("web", "a"), Some(600));
    assert_eq!(given.wait("web", "b"), Some(1_200));
    assert_eq!(given.wait("web", "a"), Some(600), "its place stays");
    given.pass(600);
    assert!(!given.spend("web", "b").await, "it is not its turn");
    assert!(given.spend("web", "a").await);
    given.quota.leave(&whose("web", "b"));
    assert_eq!(given.wait("web", "c"), Some(600));
}

#[tokio::test]
async fn a_namespace_that_asks_for_much_does_not_spend_the_quota_of_another() {
    let given = given(144, None);
    for number in 0..36 {
        given.spend("greedy", &number.to_string()).await;
    }
    for number in 0..100 {
        given.wait("greedy", &format!("more-{number}"));
    }
    // It has had nothing, so it comes before all of them.
    assert_eq!(given.wait("modest", "one"), Some(600));
    given.pass(600);
    assert!(!given.spend("greedy", "more-0").await);
    assert!(given.spend("modest", "one").await);
    given.pass(600);
    assert!(given.spend("greedy", "more-0").await);
}

#[tokio::test]
async fn the_last_quarter_is_kept_for_those_who_have_not_had_their_share() {
    // Four at once, one more every hour and a half; two are active, so each has a share of eight.
    let given = given(16, None);
    assert!(given.spend("modest", "first").await);
    let mut had = 0;
    for _ in 0..3 {
        while given.spend("greedy", &had.to_string()).await {
            had += 1;
        }
        given.pass(4 * 5_400);
    }
    assert_eq!(had, 3 + 4 + 3, "of the third four it had to leave one");
    assert!(given.spend("modest", "second").await);
}

#[test]
fn who_does_not_look_again_does_not_hold_up_the_others() {
    let mut turns = Turns::default();
    let now = start();
    turns.wait(&whose("a", "gone"), now);
    turns.wait(&whose("a", "alive"), now);
    assert_eq!(turns.before(&whose("a", "alive"), now), 1);
    let later = now + SignedDuration::from_mins(3);
    turns.wait(&whose("a", "alive"), later);
    assert_eq!(turns.before(&whose("a", "alive"), later), 0);
}

#[test]
fn what_a_namespace_had_counts_for_a_day() {
    let mut turns = Turns::default();
    let now = start();
    for _ in 0..5 {
        turns.note(&whose("a", "x"), now);
    }
    turns.note(&whose("b", "x"), now);
    for (namespace, hours, has) in
        [("a", 0, true), ("a", 23, true), ("a", 25, false), ("b", 0, false), ("c", 0, false)]
    {
        let now = now + SignedDuration::from_hours(hours);
        assert_eq!(
            turns.has_its_share(&whose(namespace, "y"), 10, now),
            has,
            "{namespace} {hours}"
        );
    }
}

/// faults.md 3, 4 and 6
#[tokio::test]
async fn what_the_ca_said_is_stored_with_the_issuer_and_known_after_a_restart() {
    let names = ["www.example.org".parse().unwrap()];
    let order = Order { account: "ca", names: &names, novelty: Novelty::New };
    let until = start() + SignedDuration::from_secs(600);
    let first = given(1, None);
    let ca = Cas::default().at("https://ca/dir");
    first.quota.ask(ca.clone(), "ca", &[], Origin::Ours);
    ca.met(&order, &About::Account, until, start()).unwrap();
    first.quota.store_limits().await.unwrap();
    let written = first.writes.lock().unwrap().pop_back().unwrap();
    let limit = r#"{"server":"https://ca/dir","of":"account","until":"2026-11-22T12:10:00Z"}"#;
    assert_eq!(written, format!(r#"{{"status":{{"limits":[{limit}]}}}}"#));

    let stored = vec![serde_json::from_str(limit).unwrap()];
    let status = IssuerStatus { limits: Some(stored), ..IssuerStatus::default() };
    let second = given(1, None);
    let ca = Cas::default().at("https://ca/dir");
    second.quota.ask(ca.clone(), "ca", &status.limits.unwrap_or_default(), Origin::Ours);
    assert_eq!(ca.said(&order, start()).unwrap().until, until);
    assert_eq!(ca.said(&order, until), None);
}

#[tokio::test]
async fn what_the_ca_said_is_stored_later_where_it_cannot_be_at_once() {
    let names = ["www.example.org".parse().unwrap()];
    let order = Order { account: "ca", names: &names, novelty: Novelty::New };
    let given = given(1, None);
    let ca = Cas::default().at("https://ca/dir");
    given.quota.ask(ca.clone(), "ca", &[], Origin::Ours);
    ca.met(&order, &About::Account, start() + SignedDuration::from_secs(600), start()).unwrap();
    given.refusals.store(2, Ordering::Relaxed);
    given.quota.store_limits().await.unwrap_err();
    given.quota.store_owed().await.unwrap_err();
    given.quota.store_owed().await.unwrap();
    let written = || given.writes.lock().unwrap().len();
    assert_eq!(written(), 3);
    given.quota.store_owed().await.unwrap();
    assert_eq!(written(), 3, "nothing is owed any more");
}
