//! The store with a cluster that refuses every request.

use super::*;
use crate::api::{CertificateCluster, ClusterId, ObjectKey};

fn store() -> ProgressStore {
    let refuses = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>("no request is expected")
    });
    let api = kube::Api::namespaced(kube::Client::new(refuses, "default"), "default");
    let source = ClusterId { id: "here".into(), former: vec![] };
    ProgressStore::new(Arc::new(api), Realm::new("gardencert", &source))
}

fn progress(order: u32, started: &str) -> Progress {
    let stored = format!(
        r#"{{"version":1,"fingerprint":"f","order":"https://ca/order/{order}",
        "account":"https://ca/account/1","started":"{started}","names":[],"key":null}}"#
    );
    Progress::decode(stored.as_bytes()).unwrap()
}

fn order(wait: Option<Backoff>) -> Order {
    Order {
        progress: progress(1, "2026-11-22T10:00:00Z"),
        issuer: IssuerKey::Default("ca".into()),
        permit: None,
        reason: Reason::SecretMissing,
        transient_error: wait,
        stored: true,
        found_in: None,
        wait: None,
    }
}

#[tokio::test]
async fn the_progress_of_a_failed_call_is_kept_for_the_same_order_only() {
    let store = store();
    let key = CertificateKey::new(CertificateCluster::Source, ObjectKey::new("ns", "a"));
    store.advanced_to(&key, &progress(1, "2026-11-22T11:00:00Z"));
    assert!(store.get(&key).is_none(), "the order is over");
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
    store.lock().insert(key.clone(), order(None));
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
        let not_before = again.transient_error.map(|wait| wait.until.to_string());
        assert_eq!(not_before.as_deref(), found, "{seconds}");
    }
}
