//! Tests of the index.

use super::*;
use crate::api::well_known;
use serde_json::json;

fn certificate(name: &str, secret: &str, version: u64, created: &str) -> Certificate {
    serde_json::from_value(json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1",
        "kind": "Certificate",
        "metadata": {
            "namespace": "ns", "name": name, "uid": name,
            "resourceVersion": version.to_string(), "creationTimestamp": created,
        },
        "spec": { "commonName": "example.org", "secretName": secret },
    }))
    .unwrap()
}

fn key(name: &str) -> CertificateKey {
    CertificateKey::new(CertificateCluster::Source, secret(name))
}

fn secret(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

#[test]
fn an_older_version_does_not_replace_a_newer_one() {
    let index = Index::default();
    index.put(CertificateCluster::Source, certificate("a", "new", 9, "2026-01-01T00:00:00Z"));
    index.put(CertificateCluster::Source, certificate("a", "old", 8, "2026-01-01T00:00:00Z"));
    assert_eq!(index.of_secret(&secret("new")), [key("a")]);
    assert!(index.of_secret(&secret("old")).is_empty());
}

#[test]
fn managed_fields_of_a_write_response_are_dropped() {
    let index = Index::default();
    index.put(CertificateCluster::Source, certificate("a", "a", 1, "2026-01-01T00:00:00Z"));
    let mut answer = certificate("a", "a", 2, "2026-01-01T00:00:00Z");
    answer.metadata.managed_fields = Some(vec![Default::default()]);
    index.update(&key("a"), answer);
    let known = index.get(&key("a")).unwrap();
    assert_eq!(known.resource_version().as_deref(), Some("2"));
    assert!(known.managed_fields().is_empty());
}

#[test]
fn the_watched_object_replaces_the_write_response() {
    let index = Index::default();
    index.put(CertificateCluster::Source, certificate("a", "a", 1, "2026-01-01T00:00:00Z"));
    index.update(&key("a"), certificate("a", "a", 2, "2026-01-01T00:00:00Z"));
    let echo = Arc::new(certificate("a", "a", 2, "2026-01-01T00:00:00Z"));
    assert_eq!(index.put(CertificateCluster::Source, echo.clone()), []);
    assert!(Arc::ptr_eq(&echo, &index.get(&key("a")).unwrap()));
    // The order of watch event and write response does not matter.
    index.update(&key("a"), certificate("a", "a", 2, "2026-01-01T00:00:00Z"));
    assert!(Arc::ptr_eq(&echo, &index.get(&key("a")).unwrap()));
}

#[test]
fn of_two_certificates_created_in_one_second_the_issued_one_owns_the_secret() {
    let index = Index::default();
    let time = "2026-01-01T00:00:00Z";
    let mut served = certificate("z-served", "shared", 1, time);
    served.labels_mut().insert(well_known::HASH.to_owned(), "x".to_owned());
    let other = certificate("a-other", "shared", 2, time);
    index.put(CertificateCluster::Source, served.clone());
    index.put(CertificateCluster::Source, other.clone());
    assert_eq!(index.rival(&served, &secret("shared"), |_, _| true), None);
    let rival = index.rival(&other, &secret("shared"), |_, _| true);
    assert_eq!(rival, Some(key("z-served")));
}

#[test]
fn the_older_of_two_certificates_owns_the_secret_and_its_removal_concerns_the_other() {
    let index = Index::default();
    let older = certificate("older", "shared", 1, "2026-01-01T00:00:00Z");
    let younger = certificate("a-younger", "shared", 2, "2026-01-02T00:00:00Z");
    index.put(CertificateCluster::Source, younger.clone());
    assert_eq!(
        index.put(CertificateCluster::Source, older.clone()),
        [key("a-younger"), key("older")]
    );
    assert_eq!(
        index.put(CertificateCluster::Source, older.clone()),
        [],
        "a repeated event of our own write concerns no Certificate"
    );
    assert_eq!(index.rival(&younger, &secret("shared"), |_, _| true), Some(key("older")));
    assert_eq!(index.rival(&older, &secret("shared"), |_, _| true), None);
    assert_eq!(index.remove(&key("older")), [key("a-younger")]);
    assert_eq!(index.rival(&younger, &secret("shared"), |_, _| true), None);
}

#[test]
fn equal_requests_are_found_across_namespaces_only_if_sharing_is_enabled() {
    let made = |namespace: &str, name: &str| {
        let mut made = certificate(name, name, 1, "2026-01-01T00:00:00Z");
        made.metadata.namespace = Some(namespace.to_owned());
        made
    };
    for (across, wanted) in [(false, vec!["ns/b"]), (true, vec!["ns/b", "other/c"])] {
        let index = Index::sharing(across);
        let all = [made("ns", "a"), made("ns", "b"), made("other", "c")];
        all.iter().for_each(|it| drop(index.put(CertificateCluster::Source, it.clone())));
        index.put(CertificateCluster::Target, made("ns", "d"));
        let mut another = made("ns", "e");
        another.spec.common_name = Some("other.example.org".to_owned());
        index.put(CertificateCluster::Source, another);
        let found = |most| index.equal_requests(&key("a"), &all[0], most).others;
        let names: Vec<_> = found(9).iter().map(|(key, _)| key.object.to_string()).collect();
        assert_eq!(names, wanted, "{across}");
        assert_eq!(found(1).len(), 1);
        let are = |name| index.are_equal_requests((&key("a"), &all[0]), &key(name));
        assert!(are("b") && !are("e") && !are("gone"));
        index.remove(&key("b"));
        assert_eq!(found(9).len(), wanted.len() - 1);
    }
}

/// The size of a Certificate is up to its owner, and each use of a packed one parses it.
#[test]
fn a_ready_certificate_is_packed_unless_it_is_large() {
    for (text, is_packed) in [("x".to_owned(), true), ("x".repeat(20_000), false)] {
        let mut ready = certificate("a", "a", 1, "2026-01-01T00:00:00Z");
        ready.spec.secret_annotations = Some([("note".to_owned(), text)].into());
        ready.status = serde_json::from_value(json!({ "state": "Ready" })).unwrap();
        let index = Index::default();
        index.put(CertificateCluster::Source, ready.clone());
        let (first, second) = (index.get(&key("a")).unwrap(), index.get(&key("a")).unwrap());
        assert_eq!((&first.spec, &first.status), (&ready.spec, &ready.status));
        assert_eq!(!Arc::ptr_eq(&first, &second), is_packed);
    }
}
