use super::*;
use crate::api::{CertificateCluster, ObjectKey};
use serde_json::json;

fn key() -> CertificateKey {
    CertificateKey::new(CertificateCluster::Source, ObjectKey::new("ns", "a"))
}

fn id(text: &str) -> CertId {
    serde_json::from_value(json!(text)).unwrap()
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + 60 * minutes).unwrap()
}

fn answer() -> Suggested {
    Suggested::new(id("a.b"), (at(100), at(200)), Some("https://ca/why".to_owned()))
}

fn certificate(status: Option<&Suggested>) -> Certificate {
    serde_json::from_value(json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
        "metadata": { "namespace": "ns", "name": "a" },
        "spec": { "commonName": "a.example" },
        "status": { "state": "Ready", "renewalInfo": status.map(note) },
    }))
    .unwrap()
}

#[test]
fn a_suggestion_is_unchanged_after_a_round_trip_through_the_status() {
    let renewals = Renewals::new(true, CertificateRecords::default());
    let written = certificate(Some(&answer()));
    assert_eq!(renewals.suggested(&key(), &written, &id("a.b")), Some(answer()));
    let start = at(100) + SignedDuration::from_millis(1_500);
    let fractional = Suggested::new(id("a.b"), (start, at(200)), None);
    let written = certificate(Some(&fractional));
    let read = renewals.suggested(&key(), &written, &id("a.b")).unwrap();
    assert_eq!((read.selected(), &read), (fractional.selected(), &fractional));
}

#[test]
fn a_suggestion_for_another_certificate_is_ignored() {
    let renewals = Renewals::new(true, CertificateRecords::default());
    let written = certificate(Some(&answer()));
    assert_eq!(renewals.suggested(&key(), &written, &id("c.d")), None);
}

#[test]
fn a_suggestion_is_ignored_when_renewal_information_is_disabled() {
    let renewals = Renewals::new(false, CertificateRecords::default());
    assert_eq!(renewals.suggested(&key(), &certificate(Some(&answer())), &id("a.b")), None);
}

#[test]
fn an_answer_is_used_before_it_is_in_the_status() {
    let renewals = Renewals::new(true, CertificateRecords::default());
    assert!(renewals.is_due(&key(), &id("a.b"), 0, at(0)));
    renewals.record_answer(&key(), Some(answer()), at(360));
    assert_eq!(renewals.suggested(&key(), &certificate(None), &id("a.b")), Some(answer()));
    let written = certificate(Some(&answer()));
    assert_eq!(renewals.suggested(&key(), &written, &id("a.b")), Some(answer()));
    // The copy in memory is gone, and this status has none.
    assert_eq!(renewals.suggested(&key(), &certificate(None), &id("a.b")), None);
}

#[test]
fn first_requests_after_a_start_are_spread_by_the_number_of_certificates() {
    for (count, longest) in [(1, 0), (100, 1), (3_000, 10), (100_000, 334), (10_000_000, 360)] {
        let renewals = Renewals::new(true, CertificateRecords::default());
        let mut last = at(0);
        for number in 0..1_000 {
            let key = CertificateKey::new(
                CertificateCluster::Source,
                ObjectKey::new("ns", number.to_string()),
            );
            renewals.is_due(&key, &id(&format!("a.{number}")), count, at(0));
            last = last.max(renewals.next(&key, at(-1)).unwrap());
        }
        assert!(last <= at(longest.max(1)) && last >= at(longest / 2), "{count}: {last}");
    }
}

#[test]
fn the_first_request_for_a_new_certificate_is_due_within_one_to_six_hours() {
    let renewals = Renewals::new(true, CertificateRecords::default());
    for number in 0..100 {
        let leaf = Leaf {
            digest: cert_lib::model::bundle::LeafDigest::of(b"leaf"),
            serial: "0a".into(),
            not_before: at(0),
            not_after: at(10_000),
            names: std::collections::BTreeSet::new(),
            public_key: vec![],
            is_ca: false,
            is_self_issued: false,
            id: Some(id(&format!("a.{number}"))),
        };
        renewals.issued(&key(), &leaf, at(0));
        let next = renewals.next(&key(), at(0)).unwrap();
        assert!(next >= at(60) && next <= at(360), "{next}");
    }
}

#[test]
fn a_clock_that_is_set_back_delays_a_request_by_at_most_twelve_hours() {
    let renewals = Renewals::new(true, CertificateRecords::default());
    renewals.is_due(&key(), &id("a.b"), 0, at(0));
    renewals.record_answer(&key(), None, at(720));
    assert!(!renewals.is_due(&key(), &id("a.b"), 1, at(0)));
    assert!(renewals.is_due(&key(), &id("a.b"), 1, at(-1)));
}

#[test]
fn failed_requests_are_repeated_at_growing_intervals() {
    let renewals = Renewals::new(true, CertificateRecords::default());
    renewals.is_due(&key(), &id("a.b"), 0, at(0));
    let mut waits = Vec::new();
    for _ in 0..9 {
        renewals.record_failure(&key(), None, at(0));
        waits.push(renewals.next(&key(), at(0)).unwrap().duration_since(at(0)).as_mins());
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 360, 360]);
    // A request that is due and cannot be made causes no further pass.
    assert_eq!(renewals.next(&key(), at(360)), None);
    renewals.record_answer(&key(), None, at(10));
    renewals.record_failure(&key(), None, at(10));
    assert_eq!(renewals.next(&key(), at(10)), Some(at(15)));
    // The time from the CA is respected.
    renewals.record_failure(&key(), Some(at(500)), at(20));
    assert_eq!(renewals.next(&key(), at(20)), Some(at(500)));
}
